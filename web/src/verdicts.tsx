/** What readers say of an image: kept, and exported for the next training. */

import { useState } from "preact/hooks";
import { send } from "./api";
import { Moment } from "./level";
import { type Box, type ImageWhole, type Me, type Verdict, reaches } from "./types";

interface Props {
  me: Me;
  image: ImageWhole;
  drawing: boolean;
  setDrawing: (on: boolean) => void;
  drawn: Box[];
  setDrawn: (boxes: Box[]) => void;
  given: () => void;
}

export function Verdicts({ me, image, drawing, setDrawing, drawn, setDrawn, given }: Props) {
  return (
    <section class="card" aria-labelledby="verdict-title">
      <h2 id="verdict-title">Verdict</h2>
      {image.verdicts.map((verdict) => (
        <Said key={verdict.id} verdict={verdict} />
      ))}
      {reaches(me, "radiologist") ? (
        <Form image={image} drawing={drawing} setDrawing={setDrawing} drawn={drawn} setDrawn={setDrawn} given={given} />
      ) : (
        image.verdicts.length === 0 && <p class="quiet">Nobody has given one yet.</p>
      )}
    </section>
  );
}

function Said({ verdict }: { verdict: Verdict }) {
  const parts = [
    verdict.agrees === null ? "" : verdict.agrees ? "agrees" : "disagrees",
    verdict.label === null ? "" : verdict.label ? "sees a fracture" : "sees none",
    verdict.boxes.length ? `${verdict.boxes.length} box${verdict.boxes.length === 1 ? "" : "es"}` : "",
  ];
  return (
    <div class="said">
      <p>
        <strong>{verdict.by}</strong> {parts.filter(Boolean).join(", ")}{" "}
        <span class="quiet">
          <Moment at={verdict.made} />
        </span>
      </p>
      {verdict.comment && <blockquote>{verdict.comment}</blockquote>}
    </div>
  );
}

function Form({ image, drawing, setDrawing, drawn, setDrawn, given }: Omit<Props, "me">) {
  const [agrees, setAgrees] = useState<boolean | null>(null);
  const [label, setLabel] = useState<number | null>(null);
  const [comment, setComment] = useState("");
  const [failed, setFailed] = useState("");
  const [kept, setKept] = useState(false);
  const answer = image.answer;
  const seen = drawn.length ? 1 : label;

  const agree = (yes: boolean) => {
    setAgrees(yes);
    setKept(false);
    // Agreeing says what is seen; at a doubt the reader has to.
    if (answer && answer.level !== "doubt") setLabel((answer.level === "fracture") === yes ? 1 : 0);
  };
  const keep = async (event: SubmitEvent) => {
    event.preventDefault();
    try {
      await send("POST", `/images/${image.id}/verdict`, { agrees, label: seen, boxes: drawn, comment });
      setAgrees(null);
      setLabel(null);
      setComment("");
      setDrawn([]);
      setDrawing(false);
      setFailed("");
      setKept(true);
      given();
    } catch (error) {
      setFailed((error as Error).message);
    }
  };
  const empty = agrees === null && seen === null && !drawn.length && !comment.trim();
  return (
    <form class="verdict" onSubmit={keep}>
      {answer && (
        <fieldset>
          <legend>The answer</legend>
          <Choice name="agrees" text="Agree" on={agrees === true} choose={() => agree(true)} />
          <Choice name="agrees" text="Disagree" on={agrees === false} choose={() => agree(false)} />
        </fieldset>
      )}
      <fieldset>
        <legend>What you see</legend>
        <Choice name="label" text="Fracture" on={seen === 1} choose={() => setLabel(1)} />
        <Choice name="label" text="None" on={seen === 0} choose={() => (setLabel(0), setDrawn([]), setDrawing(false))} />
      </fieldset>
      <div class="row">
        <button type="button" aria-pressed={drawing} title="Draw boxes (d)" onClick={() => setDrawing(!drawing)}>
          Draw boxes
        </button>
        {drawn.length > 0 && (
          <>
            <span role="status">
              {drawn.length} drawn
            </span>
            <button type="button" onClick={() => setDrawn(drawn.slice(0, -1))}>
              Remove the last
            </button>
          </>
        )}
      </div>
      <label>
        Comment <span class="quiet">(no names)</span>
        <textarea rows={2} maxLength={4000} value={comment} onInput={(event) => setComment(event.currentTarget.value)} />
      </label>
      {failed && (
        <p class="error" role="alert">
          {failed}
        </p>
      )}
      <div class="row">
        <button type="submit" class="main" disabled={empty}>
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
