/** Fetching a study from another archive: searched or asked for by its UID, with how far it is and what became of it. */

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { get, send } from "./api";
import { Moment } from "./level";
import { follow } from "./route";
import { Seek } from "./seek";

type Counts = Record<"taken" | "known" | "other" | "refused", number>;

interface Asked {
  id: number;
  source: string;
  study_uid: string;
  state: "waiting" | "taken" | "done" | "stuck" | "dropped";
  counts: Counts | null;
  error: string;
  due: string;
  study: number | null;
}

interface Pulls {
  sources: string[];
  pulls: Asked[];
}

const OFTEN = 1000; // ms between looks while a study is on its way
const UID = "[0-9]+([.][0-9]+)+";
const NOTHING: Pulls = { sources: [], pulls: [] };

/** A button and what it opens; nothing where the service was told of no archive. */
export function Pull({ came }: { came: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [open, setOpen] = useState(false);
  const [told, setTold] = useState(NOTHING);
  const [source, setSource] = useState("");
  const [study, setStudy] = useState("");
  const [said, setSaid] = useState("");
  const [failed, setFailed] = useState("");

  const load = useCallback(
    () =>
      get<Pulls>("/pull", true)
        .then(setTold)
        .catch((error) => setFailed(error.message)),
    [],
  );
  useEffect(() => void load(), [load]);
  const onItsWay = told.pulls.some((one) => one.state === "waiting" || one.state === "taken");
  useEffect(() => {
    if (!open || !onItsWay) return;
    const timer = setInterval(load, OFTEN);
    return () => clearInterval(timer);
  }, [open, onItsWay, load]);
  const taken = told.pulls.reduce((sum, one) => sum + (one.counts?.taken ?? 0), 0);
  const before = useRef(0);
  useEffect(() => {
    if (open && taken > before.current) came(); // they stand in the worklist, behind this
    before.current = taken;
  }, [taken]);

  const from = source || (told.sources[0] ?? "");
  const ask = async (archive: string, uid: string) => {
    setSaid("");
    setFailed("");
    try {
      const answer = await send<{ new: boolean }>("POST", "/pull", { source: archive, study_uid: uid });
      setSaid(answer.new ? "Asked for." : "This study is on its way already.");
      setStudy("");
      await load();
    } catch (error) {
      setFailed((error as Error).message);
    }
  };
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    void ask(from, study);
  };
  const show = () => {
    setOpen(true);
    dialog.current!.showModal();
    void load();
  };
  if (!told.sources.length) return null;
  return (
    <>
      <button type="button" onClick={show}>
        Fetch a study
      </button>
      <dialog ref={dialog} class="pull" aria-labelledby="pull-title" onClose={() => setOpen(false)}>
        <h2 id="pull-title">Fetch a study from another archive</h2>
        <div class="stacked">
          <label>
            Archive
            <select value={from} onChange={(event) => setSource(event.currentTarget.value)}>
              {told.sources.map((one) => (
                <option key={one}>{one}</option>
              ))}
            </select>
          </label>
        </div>
        {open && <Seek key={from} source={from} fetch={(uid) => void ask(from, uid)} />}
        <form class="stacked" onSubmit={submit}>
          <label>
            Or by its Study Instance UID
            <input
              value={study}
              required
              maxLength={64}
              pattern={UID}
              title="numbers with points between them"
              autocomplete="off"
              spellcheck={false}
              aria-describedby="pull-rule"
              onInput={(event) => setStudy(event.currentTarget.value.trim())}
            />
          </label>
          <p id="pull-rule" class="quiet">
            As the archive shows it: numbers with points between them, such as 1.2.840.10008.5.
          </p>
          {failed && (
            <p class="error" role="alert">
              {failed}
            </p>
          )}
          <div class="row">
            <button type="submit" class="main">
              Fetch it
            </button>
            <button type="button" onClick={() => dialog.current!.close()}>
              Close
            </button>
            <span role="status">{said}</span>
          </div>
        </form>
        {told.pulls.length > 0 && (
          <>
            <h3 id="pulls-title">Asked for last</h3>
            <ul class="pulls" aria-labelledby="pulls-title" aria-live="polite">
              {told.pulls.map((one) => (
                <li key={one.id}>
                  <code>{one.study_uid}</code>
                  <span class="quiet">from {one.source}</span>
                  <Became one={one} again={() => ask(one.source, one.study_uid)} />
                </li>
              ))}
            </ul>
          </>
        )}
      </dialog>
    </>
  );
}

function Became({ one, again }: { one: Asked; again: () => void }) {
  return (
    <span class="became">
      {one.state === "stuck" || one.state === "dropped" ? (
        <>
          <span class="error">
            {one.state === "dropped" && "dropped: "}
            {one.error}
          </span>{" "}
          <button type="button" aria-label={`Ask again for ${one.study_uid}`} onClick={again}>
            Ask again
          </button>
        </>
      ) : one.error ? (
        <span class="caution">
          {one.error}; tried again at <Moment at={one.due} />
        </span>
      ) : (
        { waiting: "waits its turn", taken: `on its way ${counted(one.counts)}`, done: counted(one.counts) }[one.state]
      )}
      {one.study !== null && (
        <a href={`/studies/${one.study}`} onClick={follow}>
          study {one.study}
        </a>
      )}
    </span>
  );
}

function counted(counts: Counts | null): string {
  if (!counts) return "";
  const { taken, known, other, refused } = counts;
  return [
    `${taken} taken`,
    known && `${known} known already`,
    other && `${other} no radiograph${other === 1 ? "" : "s"}`,
    refused && `${refused} refused`,
  ]
    .filter(Boolean)
    .join(", ");
}
