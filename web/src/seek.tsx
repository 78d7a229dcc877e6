/** Looking for studies that another archive has: by the patient's number, the accession number or the day. */

import { useState } from "preact/hooks";
import { send } from "./api";
import { day, person } from "./level";
import { follow } from "./route";
import type { Patient } from "./types";

interface There {
  study_uid: string;
  patient: Patient;
  date: string;
  accession: string;
  description: string;
  modalities: string[];
  study: number | null;
}

interface Found {
  studies: There[];
  more: boolean;
}

export function Seek({ source, fetch }: { source: string; fetch: (uid: string) => void }) {
  const [found, setFound] = useState<Found | null>(null);
  const [failed, setFailed] = useState("");
  const [busy, setBusy] = useState(false);
  const search = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const text = (name: string) => String(form.get(name) ?? "").trim();
    setBusy(true);
    setFailed("");
    setFound(null);
    try {
      const wanted = { patient_id: text("patient_id"), accession: text("accession"), date: text("date") || null };
      setFound(await send<Found>("POST", "/pull/search", { source, ...wanted }));
    } catch (error) {
      setFailed((error as Error).message);
    }
    setBusy(false);
  };
  return (
    <>
      <form class="seek" role="search" aria-label="archive" onSubmit={search}>
        <label>
          Patient's number
          <input name="patient_id" maxLength={64} autocomplete="off" spellcheck={false} />
        </label>
        <label>
          Accession number
          <input name="accession" maxLength={16} autocomplete="off" spellcheck={false} />
        </label>
        <label>
          Day of the exam
          <input name="date" type="date" />
        </label>
        <button type="submit" class="main" disabled={busy}>
          Search
        </button>
      </form>
      {failed && (
        <p class="error" role="alert">
          {failed}
        </p>
      )}
      <p role="status">{busy ? "searching…" : found && told(found)}</p>
      {found !== null && found.studies.length > 0 && (
        <ul class="pulls" aria-label="studies found">
          {found.studies.map((one) => (
            <li key={one.study_uid}>
              <strong>{person(one.patient.name) || one.patient.id || "no name"}</strong>
              <span class="quiet">{joined(one.patient.id, day(one.patient.birth_date), one.patient.sex)}</span>
              <span class="became">
                {joined(day(one.date), one.description, one.modalities.join(", "), one.accession)}
                {one.study !== null && (
                  <a href={`/studies/${one.study}`} onClick={follow}>
                    study {one.study}
                  </a>
                )}
                <button type="button" onClick={() => fetch(one.study_uid)}>
                  {one.study === null ? "Fetch" : "Fetch again"} <span class="spoken">{one.study_uid}</span>
                </button>
              </span>
            </li>
          ))}
        </ul>
      )}
    </>
  );
}

function told({ studies, more }: Found): string {
  if (!studies.length) return "It has no such study.";
  return `${studies.length} found${more ? "; there are more: say it more closely" : ""}.`;
}

function joined(...parts: string[]): string {
  return parts.filter(Boolean).join(" · ");
}
