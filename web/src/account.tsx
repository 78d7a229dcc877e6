/** One's own account: who one is here, how the page looks, and another password. */

import { useRef, useState } from "preact/hooks";
import { OWN_PASSWORD, send } from "./api";
import { type Scheme, chooseScheme, chosenScheme } from "./scheme";
import type { Me } from "./types";

const SCHEMES: Scheme[] = ["dark", "light"];

export function Account({ me }: { me: Me }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [told, setTold] = useState("");
  const [failed, setFailed] = useState("");
  const [scheme, setScheme] = useState(chosenScheme);
  const dress = (wanted: Scheme) => {
    chooseScheme(wanted);
    setScheme(wanted);
  };
  const change = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const given = new FormData(form);
    setTold("");
    setFailed("");
    try {
      await send("POST", OWN_PASSWORD, { old: String(given.get("old")), new: String(given.get("new")) });
      form.reset();
      setTold("It is changed; other logins of this account have ended.");
    } catch (error) {
      setFailed((error as Error).message);
    }
  };
  return (
    <>
      <button type="button" class="who" onClick={() => dialog.current!.showModal()}>
        {me.name}
      </button>
      <dialog ref={dialog} aria-labelledby="account-title">
        <h2 id="account-title">
          {me.name}, {me.role}
        </h2>
        <fieldset>
          <legend>The page is</legend>
          {SCHEMES.map((one) => (
            <label key={one} class="choice">
              <input type="radio" name="scheme" checked={scheme === one} onChange={() => dress(one)} /> {one}
            </label>
          ))}
        </fieldset>
        <form class="stacked" onSubmit={change}>
          <input name="username" value={me.name} autocomplete="username" readOnly hidden />
          <label>
            Password now
            <input name="old" type="password" required maxLength={256} autocomplete="current-password" />
          </label>
          <label>
            New password, 12 characters or more
            <input name="new" type="password" required minLength={12} maxLength={256} autocomplete="new-password" />
          </label>
          {failed && (
            <p class="error" role="alert">
              {failed}
            </p>
          )}
          <p role="status">{told}</p>
          <div class="row">
            <button type="submit" class="main">
              Change it
            </button>
            <button type="button" onClick={() => dialog.current!.close()}>
              Close
            </button>
          </div>
        </form>
      </dialog>
    </>
  );
}
