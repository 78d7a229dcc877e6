/** Coming in: by password, by the identity provider, or by a link that makes an account. */

import { useEffect, useState } from "preact/hooks";
import { API, get, send } from "./api";
import type { Me, Role } from "./types";

interface Link {
  kind: "first" | "accept";
  secret: string;
}

/** The link's secret, out of the address at once: it must not stay in the history. */
function takeLink(): Link | null {
  const found = /^#(first|accept)=([\w-]{1,200})$/.exec(location.hash);
  if (!found) return null;
  history.replaceState(null, "", "/");
  return { kind: found[1] as Link["kind"], secret: found[2]! };
}

export function Entry({ became }: { became: (me: Me) => void }) {
  const [link] = useState(takeLink);
  const [provider, setProvider] = useState(false);
  const [failed, setFailed] = useState("");
  const [busy, setBusy] = useState(false);
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
      const told = link
        ? await send<Told>("POST", `/${link.kind}`, { ...given, secret: link.secret })
        : await send<Told>("POST", "/login", given);
      became({ name: told.user.name, role: told.user.role, csrf: told.csrf });
    } catch (error) {
      setFailed((error as Error).message);
      setBusy(false);
    }
  };

  const title = link ? (link.kind === "first" ? "Make the administrator's account" : "Make your account") : "Log in";
  return (
    <section class="entry" aria-labelledby="entry-title">
      <p class="mark">
        <img src="/icon.svg" alt="" width="28" height="28" /> callus
      </p>
      <h1 id="entry-title">{title}</h1>
      <form onSubmit={enter}>
        <label>
          Name
          <input name="name" autocomplete="username" required maxLength={64} autofocus />
        </label>
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
          {busy ? "one moment…" : link ? "Make the account" : "Log in"}
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
