/** Sending files: a few in a request, again where the service is busy, and what became of each. */

import { useRef, useState } from "preact/hooks";
import { type Refused, sendFiles } from "./api";
import { useUnsaved } from "./route";

interface Taken {
  name: string;
  study?: number;
  new?: boolean;
  error?: { what: string; hint: string };
  status?: number; // what HTTP would have answered to it alone, where there is an error
}

/** The study that pictures belong to, by its number or its UID; a DICOM object says itself. */
export interface Belonging {
  study?: number;
  study_uid?: string;
}

/** A file that was not taken. */
export interface Failed {
  name: string;
  error: { what: string; hint: string };
  kept: Outgoing | null; // to be sent again, where the reason may pass
}

interface Outgoing {
  file: File;
  belonging: Belonging;
}

export interface Sending {
  share: number | null; // from 0 to 1; null while nothing is on its way
  outcome: string;
  study: number | null; // that all of the last files are of
  failed: Failed[];
  again: (() => void) | null; // send what is kept; null where nothing is
  give: (files: File[], belonging?: Belonging) => Promise<void>;
  refuse: (files: File[], what: string, hint?: string) => void;
}

const AT_ONCE = 8; // files in one request: what fails costs few others
const TRIES = 5;
const FIRST_WAIT = 5; // seconds, where the service does not say how long; twice as long each time
const LONGEST_WAIT = 60;

/** A queue of files; `done` is called whenever some of them have come. */
export function useSending(done: () => void): Sending {
  const [share, setShare] = useState<number | null>(null);
  const [outcome, setOutcome] = useState("");
  const [study, setStudy] = useState<number | null>(null);
  const [failed, setFailed] = useState<Failed[]>([]);
  const queue = useRef<{ files: File[]; belonging: Belonging }[]>([]);
  const busy = useRef(false);
  useUnsaved(failed.some((one) => one.kept) ? "There are files that are not sent. Leave without them?" : null);

  const give = async (files: File[], belonging: Belonging = {}) => {
    for (let at = 0; at < files.length; at += AT_ONCE) queue.current.push({ files: files.slice(at, at + AT_ONCE), belonging });
    if (busy.current || !queue.current.length) return;
    busy.current = true;
    setFailed((old) => old.filter((one) => one.kept)); // which may be all there is of a picture that a phone took
    setOutcome("");
    setStudy(null);
    let sent = 0;
    let fine = 0;
    let known = 0;
    const studies = new Set<number>();
    while (queue.current.length) {
      const some = queue.current.shift()!;
      const count = some.files.length;
      const all = queue.current.reduce((sum, one) => sum + one.files.length, sent + count);
      const became = await deliver(some.files, some.belonging, (part) => setShare((sent + part * count) / all));
      sent += count;
      for (const one of became) {
        if (one.error) continue;
        if (one.new) fine++;
        else known++;
        studies.add(one.study!);
      }
      setFailed((old) => [...old, ...became.flatMap((one) => failure(one, some.belonging))]);
      done();
    }
    busy.current = false;
    setShare(null);
    setOutcome([`${fine} taken`, known ? `${known} known already` : ""].filter(Boolean).join(", "));
    setStudy(studies.size === 1 ? [...studies][0]! : null);
  };
  const again = () => {
    const together = new Map<Belonging, File[]>();
    for (const { kept } of failed)
      if (kept) together.set(kept.belonging, [...(together.get(kept.belonging) ?? []), kept.file]);
    setFailed((old) => old.filter((one) => !one.kept));
    for (const [belonging, files] of together) void give(files, belonging);
  };
  const refuse = (files: File[], what: string, hint = "") =>
    setFailed((old) => [...old, ...files.map((file) => ({ name: file.name, error: { what, hint }, kept: null }))]);
  return { share, outcome, study, failed, again: failed.some((one) => one.kept) ? again : null, give, refuse };
}

type Became = Taken & { file: File };

function failure({ file, name, error, status }: Became, belonging: Belonging): Failed[] {
  return error ? [{ name, error, kept: mayPass(status) ? { file, belonging } : null }] : [];
}

/** Whether a file may be taken another time: the line broke or was slow, or the service is busy, full or not there. */
function mayPass(status = 0): boolean {
  return status === 0 || status === 408 || status === 429 || status >= 500;
}

/** Send some files; those for which the service is too busy again, a few times, as long after as it asks. */
async function deliver(files: File[], belonging: Belonging, progress: (share: number) => void): Promise<Became[]> {
  const settled: Became[] = [];
  let left = files;
  for (let attempt = 1; ; attempt++) {
    const { each, wait } = await post(left, belonging, progress);
    const busy = attempt < TRIES ? each.filter((one) => one.error && one.status === 429) : [];
    settled.push(...each.filter((one) => !busy.includes(one)));
    if (!busy.length) return settled;
    left = busy.map((one) => one.file);
    const seconds = Math.min(LONGEST_WAIT, wait || FIRST_WAIT * 2 ** (attempt - 1));
    await new Promise((go) => setTimeout(go, 1000 * seconds));
  }
}

/** Send some files once: what became of each, and after how many seconds to come again, 0 where nobody says. */
async function post(
  files: File[],
  belonging: Belonging,
  progress: (share: number) => void,
): Promise<{ each: Became[]; wait: number }> {
  try {
    const { taken } = await sendFiles<{ taken: Taken[] }>("/radiographs", { ...belonging }, "files", files, progress);
    return { each: files.map((file, at) => ({ ...taken[at]!, file })), wait: 0 };
  } catch (error) {
    const { status, message, wait, body } = error as Refused & { wait?: number; body?: string };
    const told = takenOf(body);
    const whole = { error: { what: message, hint: "" }, status };
    const each = files.map((file, at) => ({ ...(told[at] ?? { name: file.name, ...whole }), file }));
    return { each, wait: wait || 0 };
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
