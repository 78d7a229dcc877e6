/** Sending files: a few in a request, again where the service is busy, and what became of each. */

import { useRef, useState } from "preact/hooks";
import { type Refused, sendFiles } from "./api";

interface Taken {
  name: string;
  study?: number;
  new?: boolean;
  error?: { what: string; hint: string };
}

/** The study that pictures belong to, by its number or its UID; a DICOM object says itself. */
export interface Belonging {
  study?: number;
  study_uid?: string;
}

export interface Sending {
  share: number | null; // from 0 to 1; null while nothing is on its way
  outcome: string;
  study: number | null; // that all of the last files are of
  refused: Taken[];
  give: (files: File[], belonging?: Belonging) => Promise<void>;
  refuse: (files: File[], what: string, hint?: string) => void;
}

const AT_ONCE = 8; // files in one request: what fails costs few others
const TRIES = 5;

/** A queue of files; `done` is called whenever some of them have come. */
export function useSending(done: () => void): Sending {
  const [share, setShare] = useState<number | null>(null);
  const [outcome, setOutcome] = useState("");
  const [study, setStudy] = useState<number | null>(null);
  const [refused, setRefused] = useState<Taken[]>([]);
  const queue = useRef<{ files: File[]; belonging: Belonging }[]>([]);
  const busy = useRef(false);

  const give = async (files: File[], belonging: Belonging = {}) => {
    for (let at = 0; at < files.length; at += AT_ONCE) queue.current.push({ files: files.slice(at, at + AT_ONCE), belonging });
    if (busy.current || !queue.current.length) return;
    busy.current = true;
    setRefused([]);
    setOutcome("");
    setStudy(null);
    let sent = 0;
    let fine = 0;
    let again = 0;
    const studies = new Set<number>();
    while (queue.current.length) {
      const some = queue.current.shift()!;
      const count = some.files.length;
      const all = queue.current.reduce((sum, one) => sum + one.files.length, sent + count);
      const taken = await deliver(some.files, some.belonging, (part) => setShare((sent + part * count) / all));
      sent += count;
      for (const one of taken) {
        if (one.error) continue;
        if (one.new) fine++;
        else again++;
        studies.add(one.study!);
      }
      setRefused((old) => [...old, ...taken.filter((one) => one.error)]);
      done();
    }
    busy.current = false;
    setShare(null);
    setOutcome([`${fine} taken`, again ? `${again} known already` : ""].filter(Boolean).join(", "));
    setStudy(studies.size === 1 ? [...studies][0]! : null);
  };
  const refuse = (files: File[], what: string, hint = "") =>
    setRefused((old) => [...old, ...files.map((file) => ({ name: file.name, error: { what, hint } }))]);
  return { share, outcome, study, refused, give, refuse };
}

/** Send some files; where the service is busy, wait as long as it asks, a few times. */
async function deliver(files: File[], belonging: Belonging, progress: (share: number) => void): Promise<Taken[]> {
  for (let attempt = 1; ; attempt++) {
    try {
      return (await sendFiles<{ taken: Taken[] }>("/radiographs", { ...belonging }, "files", files, progress)).taken;
    } catch (error) {
      const { status, wait, body } = error as Refused & { wait?: number; body?: string };
      if (status === 429 && attempt < TRIES) {
        await new Promise((go) => setTimeout(go, 1000 * Math.min(60, wait || 5)));
        continue;
      }
      const each = takenOf(body);
      if (each.length) return each;
      return files.map((file) => ({ name: file.name, error: { what: (error as Error).message, hint: "" } }));
    }
  }
}

function takenOf(body: string | undefined): Taken[] {
  try {
    return (JSON.parse(body ?? "") as { taken?: Taken[] }).taken ?? [];
  } catch {
    return [];
  }
}

/** A study's UID that follows from its pictures, a UUID as DICOM writes it: the same pictures again are the same study. */
export async function uidOf(files: File[]): Promise<string> {
  const hashes: string[] = [];
  for (const file of files) hashes.push(String(new Uint8Array(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()))));
  const whole = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(hashes.sort().join(";")));
  const uuid = new Uint8Array(whole, 0, 16);
  uuid[6] = 0x80 | (uuid[6]! & 0x0f); // version 8, of a kind of its own (RFC 9562)
  uuid[8] = 0x80 | (uuid[8]! & 0x3f);
  return `2.25.${uuid.reduce((number, byte) => (number << 8n) | BigInt(byte), 0n)}`;
}
