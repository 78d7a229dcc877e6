/** How a level is shown: the word says it, colour and shape say it again. */

import { LEVEL_TEXT, type Level } from "./types";

const SHAPES: Record<Level, string> = { fracture: "■", doubt: "◩", unanswered: "!", none: "□", waiting: "…" };

export function LevelMark({ level }: { level: Level }) {
  return (
    <span class={`level ${level}`}>
      <span aria-hidden="true">{SHAPES[level]}</span> {LEVEL_TEXT[level]}
    </span>
  );
}

export function Probability({ value }: { value: number | null }) {
  return <span class="number">{value === null ? "–" : value.toFixed(2)}</span>;
}

/** A time as this machine writes it, in minutes; what is exact stands in its title. */
export function Moment({ at }: { at: string }) {
  const time = new Date(at);
  const today = time.toDateString() === new Date().toDateString();
  const text = today
    ? time.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" })
    : time.toLocaleString(undefined, { day: "2-digit", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });
  return (
    <time dateTime={at} title={at}>
      {text}
    </time>
  );
}

/** DICOM's date (20240229) as ISO writes it. */
export function day(date: string): string {
  return /^\d{8}$/.test(date) ? `${date.slice(0, 4)}-${date.slice(4, 6)}-${date.slice(6)}` : date;
}

/** DICOM's person name (Doe^Jane) as people write it. */
export function person(name: string): string {
  const [family = "", given = "", ...more] = name.split("=")[0]!.split("^");
  return [family, [given, ...more].filter(Boolean).join(" ")].filter(Boolean).join(", ");
}
