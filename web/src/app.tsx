/** The page: who is there decides what is shown; the notice is always. */

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { Account } from "./account";
import { Administration } from "./administration";
import { onLoggedOut, send, useLogin, whoIsThere } from "./api";
import { Entry } from "./entry";
import { askNoMore, follow, mayLeave, usePlace } from "./route";
import { StudyPage } from "./study";
import { type Me, reaches } from "./types";
import { Worklist } from "./worklist";

export const NOTICE = "research and education, not a medical device";

export function App() {
  const [me, setMe] = useState<Me | null | undefined>(undefined);
  const [failed, setFailed] = useState("");
  const became = useCallback((who: Me | null) => {
    useLogin(who);
    setMe(who);
  }, []);

  useEffect(() => {
    onLoggedOut(() => {
      askNoMore();
      location.reload(); // nothing of what was shown stays
    });
    whoIsThere()
      .then(became)
      .catch((error) => setFailed(error.message));
  }, [became]);

  return (
    <div class="shell">
      {me && <Head me={me} />}
      <main id="main" tabIndex={-1}>
        {failed && (
          <p class="notice error" role="alert">
            {failed}
          </p>
        )}
        {me === undefined && !failed && <p class="notice">loading…</p>}
        {me === null && <Entry became={became} />}
        {me && <Inside me={me} />}
      </main>
      <footer class="foot">
        <strong>{NOTICE[0]!.toUpperCase() + NOTICE.slice(1)}.</strong> What callus does not see may still be there.
      </footer>
    </div>
  );
}

function Inside({ me }: { me: Me }) {
  const place = usePlace();
  useEffect(() => {
    const titles = { worklist: "Worklist", study: "Study", administration: "Administration", nowhere: "Nothing here" };
    document.title = `${titles[place.name]} · callus`; // numbers and names of patients stay out of the history
  }, [place.name]);
  const first = useRef(true);
  useEffect(() => {
    if (!first.current) document.getElementById("main")!.focus(); // as loading another page would
    first.current = false;
  }, [place.name]);
  if (place.name === "worklist") return <Worklist me={me} />;
  if (place.name === "study") return <StudyPage key={place.id} me={me} id={place.id} />;
  if (place.name === "administration" && reaches(me, "administrator")) return <Administration me={me} />;
  return (
    <p class="notice">
      There is nothing here.{" "}
      <a href="/" onClick={follow}>
        Worklist
      </a>
    </p>
  );
}

function Head({ me }: { me: Me }) {
  const place = usePlace();
  const current = (name: string) => (place.name === name ? "page" : undefined);
  const leave = async () => {
    if (!mayLeave()) return;
    askNoMore();
    await send("POST", "/logout").catch(() => {}); // a login that has ended already is left as well
    location.replace("/"); // loaded anew: nothing of what was shown stays
  };
  return (
    <header class="head">
      <a class="skip" href="#main">
        Skip to content
      </a>
      <a class="mark" href="/" onClick={follow} aria-label="callus, worklist">
        <img src="/icon.svg" alt="" width="20" height="20" /> <span>callus</span>
      </a>
      <nav aria-label="main">
        <a href="/" onClick={follow} aria-current={current("worklist")}>
          Worklist
        </a>
        {reaches(me, "administrator") && (
          <a href="/administration" onClick={follow} aria-current={current("administration")}>
            Administration
          </a>
        )}
      </nav>
      <Account me={me} />
      <button type="button" onClick={leave}>
        Log out
      </button>
    </header>
  );
}
