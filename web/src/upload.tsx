/** Sending radiographs from here: dropped, chosen, or taken with a phone's camera. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { follow } from "./route";
import { type Sending, uidOf, useSending } from "./sending";

const isPicture = (file: File) => file.type.startsWith("image/");

/** The files of an input, which may be chosen again afterwards. */
function chosenIn(event: Event): File[] {
  const input = event.currentTarget as HTMLInputElement;
  const files = [...(input.files ?? [])];
  input.value = "";
  return files;
}

/** The ways in; `children` are others, which stand beside these. */
export function Upload({ done, children }: { done: () => void; children?: ComponentChildren }) {
  const sending = useSending(done);
  const [asked, setAsked] = useState<File[]>([]); // pictures that may be of one exam or of several
  const [over, setOver] = useState(false);

  const take = (files: File[]) => {
    const pictures = files.filter(isPicture);
    if (pictures.length < 2) return void sending.give(files);
    setAsked((old) => [...old, ...pictures]);
    void sending.give(files.filter((file) => !isPicture(file)));
  };
  useEffect(() => {
    const drag = (event: DragEvent) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      setOver(event.type === "dragover");
      if (event.type === "drop") take([...event.dataTransfer.files]);
    };
    const kinds = ["dragover", "dragleave", "drop"] as const;
    for (const kind of kinds) addEventListener(kind, drag);
    return () => {
      for (const kind of kinds) removeEventListener(kind, drag);
    };
  }, []);

  const decided = (one: boolean) => {
    setAsked([]);
    if (!one) return void sending.give(asked);
    uidOf(asked)
      .then((study_uid) => sending.give(asked, { study_uid }))
      .catch(() => sending.refuse(asked, "cannot be read", "was it moved?"));
  };
  return (
    <section class={`upload ${over ? "over" : ""}`} aria-label="upload">
      <label class="button main">
        Send radiographs
        {/* Of any kind: DICOM files, as CDs have them, have no ending that a browser could tell them by. */}
        <input class="hidden-input" type="file" multiple onChange={(event) => take(chosenIn(event))} />
      </label>
      <Camera text="Take a picture" taken={(files) => void sending.give(files)} />
      {children}
      <span class="quiet drop">or drop files anywhere on this page</span>
      <Progress sending={sending}>
        {sending.study !== null && (
          <>
            <a href={`/studies/${sending.study}`} onClick={follow}>
              study {sending.study}
            </a>
            <Camera text="Another of this exam" taken={(files) => void sending.give(files, { study: sending.study! })} />
          </>
        )}
      </Progress>
      {asked.length > 0 && <OneExam count={asked.length} decided={decided} dropped={() => setAsked([])} />}
    </section>
  );
}

/** More pictures for a study that is here. */
export function AddPictures({ study, done }: { study: number; done: () => void }) {
  const sending = useSending(done);
  const add = (files: File[]) => {
    void sending.give(files.filter(isPicture), { study });
    sending.refuse(
      files.filter((file) => !isPicture(file)),
      "is no picture",
      "a DICOM object says itself which study it is of: send it from the worklist",
    );
  };
  return (
    <>
      <label class="button">
        Add pictures
        <input class="hidden-input" type="file" multiple accept="image/*" onChange={(event) => add(chosenIn(event))} />
      </label>
      <Progress sending={sending} />
    </>
  );
}

function Camera({ text, taken }: { text: string; taken: (files: File[]) => void }) {
  return (
    <label class="button camera">
      {text}
      <input
        class="hidden-input"
        type="file"
        accept="image/*"
        capture="environment"
        onChange={(event) => taken(chosenIn(event))}
      />
    </label>
  );
}

/** How far it is, and what became of it. */
function Progress({ sending, children }: { sending: Sending; children?: ComponentChildren }) {
  const { share, outcome, failed, again } = sending;
  return (
    <>
      {share !== null && (
        <progress max="1" value={share} aria-label="sending">
          {Math.round(share * 100)} %
        </progress>
      )}
      <span role="status">{share === null ? outcome : `sending, ${Math.round(share * 100)} %`}</span>
      {children}
      {failed.length > 0 && (
        <div class="refused">
          <div role="alert">
            {failed.map((one, at) => (
              <p key={at}>
                <strong>{one.name}</strong>: {one.error.what}
                {one.error.hint && ` (${one.error.hint})`}
              </p>
            ))}
          </div>
          {again && (
            <button type="button" onClick={again}>
              Send again
            </button>
          )}
        </div>
      )}
    </>
  );
}

/** Nothing in a picture says whose it is: whoever sends several says whether they are one exam (docs/decisions.md). */
function OneExam({ count, decided, dropped }: { count: number; decided: (one: boolean) => void; dropped: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current!.showModal(), []);
  return (
    <dialog ref={dialog} aria-labelledby="exam-title" onClose={dropped}>
      <h2 id="exam-title">Are these {count} pictures one exam?</h2>
      <p class="quiet">
        One exam is one line in the worklist, with one answer across its views. Pictures of several patients must not be one.
      </p>
      <div class="row">
        <button type="button" class="main" onClick={() => decided(true)}>
          One exam
        </button>
        <button type="button" onClick={() => decided(false)}>
          An exam each
        </button>
        <button type="button" onClick={dropped}>
          Do not send them
        </button>
      </div>
    </dialog>
  );
}
