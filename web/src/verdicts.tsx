/** What readers say of an image: kept, and exported for the next training. */

import { useState } from "preact/hooks";
import { send } from "./api";
import { type Draft, type Drafts, isEmpty } from "./drafts";
import { Moment } from "./level";
import { type ImageWhole, type Me, type Verdict, reaches } from "./types";

interface Props {
  me: Me;
  image: ImageWhole;
  drawing: boolean;
  setDrawing: (on: boolean) => void;
  drafts: Drafts;
  given: () => void;
}

export function Verdicts({ me, image, ...form }: Props) {
  return (
    <section class="card" aria-labelledby="verdict-title">
      <h2 id="verdict-title">Verdict</h2>
      {image.verdicts.map((verdict) => (
        <Said key={verdict.id} verdict={verdict} />
      ))}
      {reaches(me, "radiologist") ? (
        <Form image={image} {...form} />
      ) : (
        image.verdicts.length === 0 && <p class="quiet">Nobody has given one yet.</p>
      )}
    </section>
  );
}

/** A verdict in words, without its comment: on the screen and on paper. */
export function wordsOf({ agrees, label, boxes }: Verdict): string {
  const parts = [
    agrees === null ? "" : agrees ? "agrees" : "disagrees",
    label === null ? "" : label ? "sees a fracture" : "sees none",
    boxes.length ? `${boxes.length} box${boxes.length === 1 ? "" : "es"} drawn` : "",
  ];
  return parts.filter(Boolean).join(", ");
}

function Said({ verdict }: { verdict: Verdict }) {
  return (
    <div class="said">
      <p>
        <strong>{verdict.by}</strong> {wordsOf(verdict)}{" "}
        <span class="quiet">
          <Moment at={verdict.made} />
        </span>
      </p>
      {verdict.comment && <blockquote>{verdict.comment}</blockquote>}
    </div>
  );
}

function Form({ image, drawing, setDrawing, drafts, given }: Omit<Props, "me">) {
  const [failed, setFailed] = useState("");
  const [kept, setKept] = useState(false);
  const answer = image.answer;
  const draft = drafts.of(image.id);
  const { boxes, comment } = draft;
  const changed = draft.answer !== null && draft.answer !== answer?.id; // since it was agreed with
  const agrees = changed ? null : draft.agrees;
  const seen = boxes.length ? 1 : draft.label;
  const change = (part: Partial<Draft>) => drafts.change(image.id, part);

  const agree = (yes: boolean) => {
    setKept(false);
    // Agreeing says what is seen; at a doubt the reader has to.
    const tells = answer && answer.level !== "doubt";
    const said = { agrees: yes, answer: answer?.id ?? null };
    change(tells ? { ...said, label: (answer.level === "fracture") === yes ? 1 : 0 } : said);
  };
  const keep = async (event: SubmitEvent) => {
    event.preventDefault();
    try {
      const of = agrees === null ? null : draft.answer;
      await send("POST", `/images/${image.id}/verdict`, { agrees, answer: of, label: seen, boxes, comment });
      drafts.drop(image.id);
      setDrawing(false);
      setFailed("");
      setKept(true);
      given();
    } catch (error) {
      setFailed((error as Error).message);
    }
  };
  return (
    <form class="verdict" onSubmit={keep}>
      {answer && (
        <fieldset>
          <legend>The answer</legend>
          <Choice name="agrees" text="Agree" on={agrees === true} choose={() => agree(true)} />
          <Choice name="agrees" text="Disagree" on={agrees === false} choose={() => agree(false)} />
          {changed && <p role="status">There is another answer by now: look at it, and choose again.</p>}
        </fieldset>
      )}
      <fieldset>
        <legend>What you see</legend>
        <Choice name="label" text="Fracture" on={seen === 1} choose={() => change({ label: 1 })} />
        <Choice name="label" text="None" on={seen === 0} choose={() => (change({ label: 0, boxes: [] }), setDrawing(false))} />
      </fieldset>
      <div class="row">
        <button type="button" aria-pressed={drawing} title="Draw boxes (d)" onClick={() => setDrawing(!drawing)}>
          Draw boxes
        </button>
        {boxes.length > 0 && (
          <>
            <span role="status">
              {boxes.length} drawn
            </span>
            <button type="button" onClick={() => change({ boxes: boxes.slice(0, -1) })}>
              Remove the last
            </button>
          </>
        )}
      </div>
      <label>
        Comment <span class="quiet">(no names)</span>
        <textarea rows={2} maxLength={4000} value={comment} onInput={(event) => change({ comment: event.currentTarget.value })} />
      </label>
      {failed && (
        <p class="error" role="alert">
          {failed}
        </p>
      )}
      <div class="row">
        <button type="submit" class="main" disabled={isEmpty(draft)}>
          Keep the verdict
        </button>
        <span role="status">{kept && "kept"}</span>
      </div>
    </form>
  );
}

function Choice({ name, text, on, choose }: { name: string; text: string; on: boolean; choose: () => void }) {
  return (
    <label class="choice">
      <input type="radio" name={name} checked={on} onChange={choose} /> {text}
    </label>
  );
}
