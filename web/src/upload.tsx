/** Sending radiographs from here: dropped, chosen, or taken with a phone's camera. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { type Refused, sendFiles } from "./api";

interface Taken {
  name: string;
  study?: number;
  new?: boolean;
  error?: { what: string; hint: string };
}

const AT_ONCE = 8; // files in one request: what fails costs few others
const TRIES = 5;
const KINDS = ".dcm,.dicom,.png,.jpg,.jpeg,.tif,.tiff,application/dicom,image/*";

/** The ways in; `children` are others, which stand beside these. */
export function Upload({ done, children }: { done: () => void; children?: ComponentChildren }) {
  const [share, setShare] = useState<number | null>(null);
  const [outcome, setOutcome] = useState("");
  const [refused, setRefused] = useState<Taken[]>([]);
  const [over, setOver] = useState(false);
  const queue = useRef<File[]>([]);
  const busy = useRef(false);

  const give = async (files: Iterable<File>) => {
    queue.current.push(...files);
    if (busy.current || !queue.current.length) return;
    busy.current = true;
    setRefused([]);
    setOutcome("");
    let sent = 0;
    let fine = 0;
    let again = 0;
    while (queue.current.length) {
      const some = queue.current.splice(0, AT_ONCE);
      const all = sent + some.length + queue.current.length;
      const taken = await deliver(some, (part) => setShare((sent + part * some.length) / all));
      sent += some.length;
      fine += taken.filter((one) => one.new).length;
      again += taken.filter((one) => one.new === false).length;
      setRefused((old) => [...old, ...taken.filter((one) => one.error)]);
      done();
    }
    busy.current = false;
    setShare(null);
    setOutcome([`${fine} taken`, again ? `${again} known already` : ""].filter(Boolean).join(", "));
  };

  useEffect(() => {
    const drag = (event: DragEvent) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      setOver(event.type === "dragover");
      if (event.type === "drop") void give(event.dataTransfer.files);
    };
    const kinds = ["dragover", "dragleave", "drop"] as const;
    for (const kind of kinds) addEventListener(kind, drag);
    return () => {
      for (const kind of kinds) removeEventListener(kind, drag);
    };
  }, []);

  const chosen = (event: Event) => {
    const input = event.currentTarget as HTMLInputElement;
    void give([...(input.files ?? [])]);
    input.value = "";
  };
  return (
    <section class={`upload ${over ? "over" : ""}`} aria-label="upload">
      <label class="button main">
        Send radiographs
        <input class="hidden-input" type="file" multiple accept={KINDS} onChange={chosen} />
      </label>
      <label class="button camera">
        Take a picture
        <input class="hidden-input" type="file" accept="image/*" capture="environment" onChange={chosen} />
      </label>
      {children}
      <span class="quiet drop">or drop files anywhere on this page</span>
      {share !== null && (
        <progress max="1" value={share} aria-label="sending">
          {Math.round(share * 100)} %
        </progress>
      )}
      <span role="status">{share === null ? outcome : `sending, ${Math.round(share * 100)} %`}</span>
      {refused.length > 0 && (
        <div class="refused" role="alert">
          {refused.map((one, at) => (
            <p key={at}>
              <strong>{one.name}</strong>: {one.error!.what}
              {one.error!.hint && ` (${one.error!.hint})`}
            </p>
          ))}
        </div>
      )}
    </section>
  );
}

/** Send some files; where the service is busy, wait as long as it asks, a few times. */
async function deliver(files: File[], progress: (share: number) => void): Promise<Taken[]> {
  for (let attempt = 1; ; attempt++) {
    try {
      return (await sendFiles<{ taken: Taken[] }>("/radiographs", "files", files, progress)).taken;
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
