/** Coming in: by password, by the identity provider, or by a link that makes an account or another password. */

import { useEffect, useState } from "preact/hooks";
import { API, get, send } from "./api";
import type { Me, Role } from "./types";

interface Link {
  kind: "first" | "accept" | "reset";
  secret: string;
}

/** The link's secret, out of the address at once: it must not stay in the history. */
function takeLink(): Link | null {
  const found = /^#(first|accept|reset)=([\w-]{1,200})$/.exec(location.hash);
  if (!found) return null;
  history.replaceState(null, "", "/");
  return { kind: found[1] as Link["kind"], secret: found[2]! };
}

/** Why the hospital's account opened nothing, by the service's word for it. */
const REFUSALS: Record<string, string> = {
  away: "The hospital's login does not answer. Try again in a few minutes.",
  cancelled: "You did not log in at the hospital's login.",
  disabled: "Your account here is disabled. Ask an administrator of callus.",
  late: "That took too long, or was begun in another window. Try again.",
  refused: "The hospital's login refused. Whoever runs callus finds the reason in its log.",
  role: "Your hospital account has no role in callus. Ask an administrator of callus for one.",
  taken: "There are too many accounts of your name here. Ask an administrator of callus.",
  unfit: "What the hospital's login says of you does not fit. Whoever runs callus finds the reason in its log.",
};

/** Why nobody was let in at the provider, out of the address as well: loaded again it would be said again. */
function takeRefusal(): string {
  const found = /^#login=([a-z]{1,20})$/.exec(location.hash);
  if (!found) return "";
  history.replaceState(null, "", "/");
  return REFUSALS[found[1]!] ?? "The hospital's login did not work. Try again.";
}

const TITLES = { first: "Make the administrator's account", accept: "Make your account", reset: "Choose another password" };

export function Entry({ became }: { became: (me: Me) => void }) {
  const [link, setLink] = useState(takeLink);
  const [refusal] = useState(takeRefusal);
  const [whose, setWhose] = useState(""); // another password was chosen for
  const [provider, setProvider] = useState(false);
  const [failed, setFailed] = useState("");
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    const another = () => setLink((old) => takeLink() ?? old); // put into the address of this very page
    addEventListener("hashchange", another);
    return () => removeEventListener("hashchange", another);
  }, []);
  useEffect(() => {
    get<{ openid?: boolean }>("/health")
      .then((told) => setProvider(told.openid === true))
      .catch(() => {}); // the login itself will tell
  }, []);

  const enter = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const text = (name: string) => String(form.get(name) ?? "");
    if (link && text("password") !== text("again")) {
      setFailed("the two passwords are not the same");
      return;
    }
    const given = { name: text("name"), password: text("password") };
    setBusy(true);
    setFailed("");
    try {
      if (link?.kind === "reset") {
        const told = await send<{ name: string }>("POST", "/reset", { password: given.password, secret: link.secret });
        setWhose(told.name);
        setLink(null);
        setBusy(false);
        return;
      }
      const told = link
        ? await send<Told>("POST", `/${link.kind}`, { ...given, secret: link.secret })
        : await send<Told>("POST", "/login", given);
      became({ name: told.user.name, role: told.user.role, csrf: told.csrf });
    } catch (error) {
      setFailed((error as Error).message);
      setBusy(false);
    }
  };

  const title = link ? TITLES[link.kind] : "Log in";
  const does = link ? (link.kind === "reset" ? "Take this password" : "Make the account") : "Log in";
  return (
    <section class="entry" aria-labelledby="entry-title">
      <p class="mark">
        <img src="/icon.svg" alt="" width="28" height="28" /> callus
      </p>
      <h1 id="entry-title">{title}</h1>
      {refusal && (
        <p class="error" role="alert">
          {refusal}
        </p>
      )}
      {whose && <p role="status">The password of {whose} is changed. Log in with it.</p>}
      <form onSubmit={enter} key={whose}>
        {link?.kind !== "reset" && (
          <label>
            Name
            <input
              name="name"
              autocomplete="username"
              autocapitalize="none"
              autoCorrect="off" // so written it is the attribute: the property takes any word for yes
              spellcheck={false}
              required
              maxLength={64}
              defaultValue={whose}
              autofocus
            />
          </label>
        )}
        <label>
          Password
          <input
            name="password"
            type="password"
            required
            minLength={link ? 12 : undefined}
            maxLength={256}
            autocomplete={link ? "new-password" : "current-password"}
            aria-describedby={link ? "password-rule" : undefined}
          />
        </label>
        {link && (
          <>
            <p id="password-rule" class="quiet">
              12 characters or more; several words are easier to remember than signs.
            </p>
            <label>
              Password again
              <input name="again" type="password" required autocomplete="new-password" />
            </label>
          </>
        )}
        {failed && (
          <p class="error" role="alert">
            {failed}
          </p>
        )}
        <button type="submit" class="main" disabled={busy}>
          {busy ? "one moment…" : does}
        </button>
      </form>
      {provider && !link && (
        <p>
          <a href={`${API}/login/openid`}>Log in with the hospital's account</a>
        </p>
      )}
    </section>
  );
}

interface Told {
  user: { name: string; role: Role };
  csrf: string;
}
