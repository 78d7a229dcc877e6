/** The radiograph to look at: pan, zoom, window, turn; heat map and boxes laid over; by mouse, touch and keyboard. */

import { useEffect, useRef, useState } from "preact/hooks";
import { getBlob } from "./api";
import { Boxes, Corner } from "./boxes";
import { useDrawing } from "./drawing";
import { Gestures, type Tool } from "./gestures";
import { colouredHeat } from "./heat";
import { Stage, type Matrix } from "./stage";
import { Tools } from "./tools";
import type { Box, ImageWhole, Verdict } from "./types";

const MOST_OPAQUE = 0.55; // at the map's 1, as the service's own overlay
const DRAWS = "Arrow keys draw a box, Enter keeps it, Escape ends drawing";

interface Props {
  image: ImageWhole;
  drawing: boolean;
  setDrawing?: (on: boolean) => void; // not for those who give no verdicts
  drawn: Box[];
  draw: (boxes: Box[]) => void;
  step: (by: number) => void;
  askKeys: () => void;
}

export function Viewer({ image, drawing, setDrawing, drawn, draw, step, askKeys }: Props) {
  const element = useRef<HTMLDivElement>(null);
  const frame = useRef<HTMLDivElement>(null);
  const stage = useRef<Stage | null>(null);
  const asked = useRef(0);
  const [placed, setPlaced] = useState<{ image: number; matrix: Matrix } | null>(null);
  const matrix = placed?.image === image.id ? placed.matrix : null; // never one image's boxes over another's picture
  const [failed, setFailed] = useState("");
  const [tool, setTool] = useState<Tool>("window");
  const [heat, setHeat] = useState("");
  const [opacity, setOpacity] = useState(0);
  const [boxes, setBoxes] = useState(true);
  const [bare, setBare] = useState(false);
  const answer = image.answer;
  const { width, height } = image;
  const pen = useDrawing({
    stage,
    on: drawing,
    end: () => setDrawing?.(false),
    width: width ?? 0,
    height: height ?? 0,
    drawn,
    draw,
  });
  useEffect(() => {
    if (drawing) frame.current!.focus(); // whose keys draw; a phone shows it
  }, [drawing]);

  useEffect(() => {
    const moved = () => {
      const now = stage.current?.stands ? stage.current.matrix() : null;
      setPlaced(now?.every(Number.isFinite) ? { image: asked.current, matrix: now } : null);
    };
    stage.current = new Stage(element.current!, moved);
    const watched = new ResizeObserver(() => stage.current?.resize());
    watched.observe(element.current!);
    if (!document.activeElement?.matches("input, textarea, button")) frame.current!.focus({ preventScroll: true });
    return () => {
      watched.disconnect();
      stage.current?.close();
      stage.current = null;
    };
  }, []);

  useEffect(() => {
    let current = true;
    asked.current = image.id;
    setPlaced(null);
    setFailed("");
    setHeat("");
    stage.current!.show(image.id).catch((error) => current && setFailed(String(error?.message ?? error)));
    return () => {
      current = false;
    };
  }, [image.id]);

  const wantsHeat = opacity > 0 && answer !== null;
  useEffect(() => {
    if (!wantsHeat) return;
    let address = "";
    let current = true;
    getBlob(`/images/${image.id}/heat.png`)
      .then(colouredHeat)
      .then((made) => {
        address = made;
        if (current) setHeat(made);
      })
      .catch((error) => current && setFailed(`heat map: ${error.message}`));
    return () => {
      current = false;
      setHeat("");
      if (address) URL.revokeObjectURL(address);
    };
  }, [image.id, answer?.id, wantsHeat]);

  const act = (what: (here: Stage) => void) => () => stage.current?.stands && what(stage.current);
  const keys = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== event.currentTarget) return;
    if (pen.key(event)) {
      event.preventDefault();
      return;
    }
    const far = event.shiftKey ? 120 : 30;
    const does: Record<string, () => unknown> = {
      "+": act((here) => here.zoom(1.25)),
      "=": act((here) => here.zoom(1.25)),
      "-": act((here) => here.zoom(0.8)),
      f: act((here) => here.fit()),
      "0": act((here) => here.reset()),
      i: act((here) => here.invert()),
      r: act((here) => here.turn(1)),
      R: act((here) => here.turn(-1)),
      "[": act((here) => here.windowBy(-0.08, 0)),
      "]": act((here) => here.windowBy(0.08, 0)),
      ".": act((here) => here.windowBy(0, -0.03)),
      ",": act((here) => here.windowBy(0, 0.03)),
      ArrowLeft: act((here) => here.pan(far, 0)),
      ArrowRight: act((here) => here.pan(-far, 0)),
      ArrowUp: act((here) => here.pan(0, far)),
      ArrowDown: act((here) => here.pan(0, -far)),
      h: () => setOpacity(opacity > 0 ? 0 : 1),
      b: () => setBoxes(!boxes),
      o: () => setBare(true),
      n: () => step(1),
      p: () => step(-1),
      w: () => setTool("window"),
      m: () => setTool("pan"),
      d: () => setDrawing?.(!drawing),
      "?": askKeys,
    };
    const found = does[event.key];
    if (!found) return;
    event.preventDefault();
    found();
  };

  return (
    <section class="viewer" aria-label="radiograph">
      <Tools
        act={act}
        tool={tool}
        setTool={setTool}
        opacity={answer && opacity}
        setOpacity={setOpacity}
        boxes={boxes}
        setBoxes={setBoxes}
        bare={bare}
        setBare={setBare}
        askKeys={askKeys}
      />
      <div
        class={`stage ${drawing ? "draws" : tool}`}
        ref={frame}
        data-drawn-by={stage.current?.drawnBy}
        tabIndex={0}
        role="application"
        aria-label={`Radiograph ${image.body_part} ${image.view}. ${drawing ? DRAWS : "Arrow keys move"}, plus and minus zoom, question mark lists all keys.`}
        onKeyDown={keys}
        onKeyUp={(event) => event.key === "o" && setBare(false)}
        onBlur={() => setBare(false)}
      >
        <div class={`port ${matrix ? "" : "blank"}`} ref={element} onContextMenu={(event) => event.preventDefault()} />
        <svg class="over" aria-hidden="true">
          {matrix && !bare && width && height && (
            <g transform={`matrix(${matrix.join(" ")})`}>
              {heat && wantsHeat && (
                <image
                  href={heat}
                  width={width}
                  height={height}
                  preserveAspectRatio="none"
                  opacity={opacity * MOST_OPAQUE}
                />
              )}
              {boxes && answer && <Boxes boxes={answer.boxes} kind={answer.level === "doubt" ? "dotted" : "solid"} />}
              {drawing || drawn.length > 0 ? (
                <Boxes boxes={pen.pending ? [...drawn, pen.pending] : drawn} kind="reader" />
              ) : (
                boxes && <Boxes boxes={lastOfEach(image.verdicts)} kind="reader" />
              )}
            </g>
          )}
          {matrix && pen.corner && <Corner at={stage.current!.pointAt(...pen.corner)} />}
        </svg>
        <Gestures stage={stage} tool={tool} drawing={pen} />
        {!matrix && !failed && <p class="notice">loading…</p>}
        {failed && (
          <p class="notice error" role="alert">
            {failed}
          </p>
        )}
        {bare && <p class="corner">original</p>}
        {drawing && (
          <p class="hint">
            <span role="status">{pen.hint}</span>
            <button type="button" onClick={() => (setDrawing?.(false), frame.current!.focus())}>
              Done
            </button>
          </p>
        )}
      </div>
    </section>
  );
}

/** The boxes of each reader's newest verdict: what they said before does not count any more. */
function lastOfEach(verdicts: Verdict[]): Box[] {
  const newest = new Map(verdicts.map((verdict) => [verdict.by, verdict])); // they come in the order in which they were given
  return [...newest.values()].flatMap((verdict) => verdict.boxes);
}
