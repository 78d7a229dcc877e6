/** The worklist: fracture first, then doubt, unanswered, none; the newest first; live. */

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { get, send } from "./api";
import { LevelMark, Moment, Probability, day, person } from "./level";
import { useLive } from "./live";
import { Pull } from "./pull";
import { follow, go } from "./route";
import { LEVEL_TEXT, type Level, type Me, type StudyLine, reaches } from "./types";
import { Upload } from "./upload";

interface Wanted {
  level: string;
  text: string;
  from: string;
  to: string;
}

interface Page {
  studies: StudyLine[];
  next: string | null;
}

const EVERYTHING: Wanted = { level: "", text: "", from: "", to: "" };
const PAGE = 50;
const LARGEST = 200; // studies that the service gives at once
const LAST_DAY = "9998-12-31"; // after which a year would have five figures
const QUIET = 250; // ms without a key after which a search is asked

export function Worklist({ me }: { me: Me }) {
  const [wanted, setWanted] = useState(EVERYTHING);
  const [page, setPage] = useState<Page | null>(null);
  const [failed, setFailed] = useState("");
  const [news, setNews] = useState("");
  const [fresh, setFresh] = useState(new Set<number>());
  const asked = useRef(0);

  const load = useCallback(
    async (before = "", limit = PAGE, byItself = false) => {
      const mine = ++asked.current;
      try {
        const days = { from: beginning(wanted.from), to: beginning(wanted.to, 1) };
        const narrow = Object.fromEntries(Object.entries({ ...wanted, ...days, before, limit }).filter(([, value]) => value));
        // Words may be a patient's name: they go in the body, because addresses are written into logs.
        const found = await (wanted.text
          ? send<Page>("POST", "/studies/search", narrow, byItself)
          : get<Page>(`/studies?${new URLSearchParams(narrow as Record<string, string>)}`, byItself));
        if (mine !== asked.current) return; // a later question is on its way
        setPage((old) => (before && old ? { studies: [...old.studies, ...found.studies], next: found.next } : found));
        setFailed("");
      } catch (error) {
        if (mine === asked.current) setFailed((error as Error).message);
      }
    },
    [wanted],
  );

  useEffect(() => {
    const soon = setTimeout(() => load(), wanted.text ? QUIET : 0);
    return () => clearTimeout(soon);
  }, [load]);

  // For what comes later than it was asked for: by then other studies may be wanted.
  const latest = useRef(load);
  latest.current = load;
  const again = useCallback((limit?: number) => latest.current("", limit, true), []);

  const stands = useLive({
    // What was opened by "Show more" stays, as far as one page reaches.
    look: () => void again(Math.min(LARGEST, Math.max(PAGE, page?.studies.length ?? 0))),
    heard: (finding) => {
      setNews(`New finding: ${LEVEL_TEXT[finding.level]}, probability ${finding.probability.toFixed(2)}.`);
      setFresh((old) => new Set(old).add(finding.study));
    },
  });

  const change = (name: keyof Wanted) => (event: Event) =>
    setWanted({ ...wanted, [name]: (event.currentTarget as HTMLInputElement | HTMLSelectElement).value });
  const narrowed = Object.values(wanted).some(Boolean);
  return (
    <div class="worklist">
      <h1>Worklist</h1>
      <Upload done={again}>{reaches(me, "radiologist") && <Pull came={again} />}</Upload>
      <form class="filters" role="search" aria-label="worklist" onSubmit={(event) => event.preventDefault()}>
        <label>
          Finding
          <select value={wanted.level} onChange={change("level")}>
            <option value="">all</option>
            {(Object.keys(LEVEL_TEXT) as Level[]).map((level) => (
              <option key={level} value={level}>
                {LEVEL_TEXT[level]}
              </option>
            ))}
          </select>
        </label>
        <label class="wide">
          {reaches(me, "radiologist") ? "Patient or accession" : "Accession"}
          <input type="search" value={wanted.text} maxLength={100} onInput={change("text")} />
        </label>
        <label>
          Came from
          <input type="date" max={LAST_DAY} value={wanted.from} onInput={change("from")} />
        </label>
        <label>
          until
          <input type="date" max={LAST_DAY} value={wanted.to} onInput={change("to")} />
        </label>
        {narrowed && (
          <button type="button" onClick={() => setWanted(EVERYTHING)}>
            Show all
          </button>
        )}
        <span class={`line ${stands ? "" : "broken"}`}>{stands ? "live" : "not live: connecting again…"}</span>
      </form>
      <p class="spoken" aria-live="polite">
        {news}
      </p>
      {failed && (
        <p class="notice error" role="alert">
          {failed}
        </p>
      )}
      {page && page.studies.length === 0 && (
        <p class="notice">{narrowed ? "Nothing fits." : "No radiograph has come yet. Send one from here or from the archive."}</p>
      )}
      {page && page.studies.length > 0 && <Table me={me} studies={page.studies} fresh={fresh} />}
      {page?.next && (
        <p class="more">
          <button type="button" onClick={() => load(page.next!)}>
            Show more
          </button>
        </p>
      )}
    </div>
  );
}

function Table({ me, studies, fresh }: { me: Me; studies: StudyLine[]; fresh: Set<number> }) {
  const named = reaches(me, "radiologist");
  return (
    <table class="studies">
      <thead>
        <tr>
          <th scope="col">Finding</th>
          <th scope="col">Probability</th>
          {named && <th scope="col">Patient</th>}
          <th scope="col">Study</th>
          <th scope="col">Shows</th>
          <th scope="col">Changed</th>
        </tr>
      </thead>
      <tbody>
        {studies.map((study) => (
          <tr key={study.id} class={fresh.has(study.id) ? "fresh" : ""} onClick={(event) => open(event, study.id)}>
            <td>
              <LevelMark level={study.level} />
            </td>
            <td class="right">
              <span class="small">p </span>
              <Probability value={study.probability} />
            </td>
            {named && (
              <td class="patient">
                {person(study.patient?.name ?? "") || "–"} <span class="quiet">{study.patient?.id}</span>
              </td>
            )}
            <td>
              <a href={`/studies/${study.id}`} onClick={follow}>
                {study.accession || `study ${study.id}`}
              </a>{" "}
              <span class="quiet">{day(study.date)}</span>
            </td>
            <td class="quiet">
              {shows(study)}
              {study.stuck > 0 && <span class="caution"> · {study.stuck} stuck</span>}
            </td>
            <td class="quiet">
              <Moment at={study.changed} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** The instant at which a day begins here, or the one that many days after it: the service's days are those of UTC. */
function beginning(day: string, after = 0): string {
  if (!day) return "";
  const at = new Date(`${day}T00:00`);
  at.setDate(at.getDate() + after);
  return at.toISOString();
}

/** The whole line opens a study; its link is what keyboards and screen readers use. */
function open(event: MouseEvent, id: number): void {
  if ((event.target as HTMLElement).closest("a") || getSelection()?.toString()) return;
  go(`/studies/${id}`);
}

function shows(study: StudyLine): string {
  const parts = new Set(study.images.map((image) => [image.body_part.toLowerCase(), image.side].filter(Boolean).join(" ")));
  const count = `${study.images_count} image${study.images_count === 1 ? "" : "s"}`;
  return [[...parts].filter(Boolean).join(", "), count].filter(Boolean).join(" · ");
}
