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

const TITLES = { first: "Make the administrator's account", accept: "Make your account", reset: "Choose another password" };

export function Entry({ became }: { became: (me: Me) => void }) {
  const [link, setLink] = useState(takeLink);
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
      {whose && <p role="status">The password of {whose} is changed. Log in with it.</p>}
      <form onSubmit={enter} key={whose}>
        {link?.kind !== "reset" && (
          <label>
            Name
            <input name="name" autocomplete="username" required maxLength={64} defaultValue={whose} autofocus />
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
