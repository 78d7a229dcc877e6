/** What the service's API gives (src/callus/service/schemas/). */

export type Level = "fracture" | "doubt" | "unanswered" | "none" | "waiting";
export type Role = "reader" | "radiologist" | "administrator";

export interface Me {
  name: string;
  role: Role;
  csrf: string;
}

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
  score?: number;
}

export interface Patient {
  name: string;
  id: string;
  birth_date: string;
  sex: string;
}

export interface ImageLine {
  id: number;
  body_part: string;
  side: string;
  view: string;
}

export interface StudyLine {
  id: number;
  level: Level;
  probability: number | null;
  accession: string;
  date: string;
  images_count: number;
  stuck: number;
  received: string;
  changed: string;
  patient?: Patient;
  description?: string;
  images: ImageLine[];
}

export interface Answer {
  id: number;
  model: { id: number; name: string; active: boolean };
  probability: number;
  level: "fracture" | "doubt" | "none";
  boxes: Box[];
  cautions: string[];
  engine: string;
  results: string[]; // empty until they are made, soon after the answer
  seconds: number;
  made: string;
}

export interface Verdict {
  id: number;
  by: string;
  agrees: boolean | null;
  label: number | null;
  boxes: Box[];
  comment: string;
  made: string;
}

export interface ImageWhole extends ImageLine {
  modality: string;
  source: string;
  height: number | null;
  width: number | null;
  spacing_mm: [number, number] | null;
  error: string;
  received: string;
  name?: string;
  answer: Answer | null;
  verdicts: Verdict[];
}

export interface Job {
  id: number;
  kind: string;
  image: number | null;
  destination: string | null;
  state: string;
  attempts: number;
  error: string;
  made: string;
}

export interface Study extends Omit<StudyLine, "images" | "stuck"> {
  images: ImageWhole[];
  jobs: Job[];
}

export interface Finding {
  id: number;
  study: number;
  image: number;
  level: "fracture" | "doubt" | "none";
  probability: number;
}

/** What became of a study: an image of it came, gets no answer, waits for one again or has its answer's results made, or all of
 * it is gone. */
export interface StudyChange {
  study: number;
  image: number | null;
  what: "arrived" | "unanswered" | "waiting" | "made" | "deleted";
}

export const LEVEL_TEXT: Record<Level, string> = {
  fracture: "fracture",
  doubt: "doubt",
  unanswered: "unanswered",
  none: "none seen",
  waiting: "waiting",
};

const ROLES: Role[] = ["reader", "radiologist", "administrator"];

/** Whether a role may do what another may. */
export function reaches(me: Me, least: Role): boolean {
  return ROLES.indexOf(me.role) >= ROLES.indexOf(least);
}
