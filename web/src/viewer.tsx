/** The radiograph to look at: pan, zoom, window, turn; heat map and boxes laid over; by mouse, touch and keyboard. */

import { useEffect, useRef, useState } from "preact/hooks";
import { getBlob } from "./api";
import { colouredHeat } from "./heat";
import { Gestures, type Tool } from "./gestures";
import { Boxes } from "./boxes";
import { Stage, type Matrix } from "./stage";
import type { Box, ImageWhole } from "./types";

const MOST_OPAQUE = 0.55; // at the map's 1, as the service's own overlay

interface Props {
  image: ImageWhole;
  drawing: boolean;
  drawn: Box[];
  draw: (boxes: Box[]) => void;
  step: (by: number) => void;
  askKeys: () => void;
}

export function Viewer({ image, drawing, drawn, draw, step, askKeys }: Props) {
  const element = useRef<HTMLDivElement>(null);
  const frame = useRef<HTMLDivElement>(null);
  const stage = useRef<Stage | null>(null);
  const [matrix, setMatrix] = useState<Matrix | null>(null);
  const [failed, setFailed] = useState("");
  const [tool, setTool] = useState<Tool>("window");
  const [heat, setHeat] = useState("");
  const [opacity, setOpacity] = useState(0);
  const [boxes, setBoxes] = useState(true);
  const [bare, setBare] = useState(false);
  const [pending, setPending] = useState<Box | null>(null);
  const answer = image.answer;

  useEffect(() => {
    const moved = () => {
      const now = stage.current?.stands ? stage.current.matrix() : null;
      setMatrix(now?.every(Number.isFinite) ? now : null);
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
    setMatrix(null);
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

  const inside = (x: number, y: number): [number, number] => {
    const [across, down] = stage.current!.pixelAt(x, y);
    return [Math.min(image.width ?? 0, Math.max(0, across)), Math.min(image.height ?? 0, Math.max(0, down))];
  };

  const keep = (box: Box | null) => {
    setPending(null);
    if (box && box.width >= 2 && box.height >= 2) draw([...drawn, box]);
  };

  const act = (what: (here: Stage) => void) => () => stage.current?.stands && what(stage.current);
  const keys = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
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
      "?": askKeys,
    };
    const found = does[event.key];
    if (!found) return;
    event.preventDefault();
    found();
  };

  return (
    <section class="viewer" aria-label="radiograph">
      <div class="tools" role="toolbar" aria-label="view">
        <div class="group">
          <Toggle on={tool === "window"} press={() => setTool("window")} label="Window" keys="w" />
          <Toggle on={tool === "pan"} press={() => setTool("pan")} label="Move" keys="m" />
        </div>
        <div class="group">
          <Button press={act((here) => here.zoom(1.25))} label="Zoom in" text="+" keys="+" />
          <Button press={act((here) => here.zoom(0.8))} label="Zoom out" text="−" keys="-" />
          <Button press={act((here) => here.fit())} label="Fit" keys="f" />
          <Button press={act((here) => here.turn(1))} label="Turn" keys="r" />
          <Button press={act((here) => here.invert())} label="Invert" keys="i" />
          <Button press={act((here) => here.reset())} label="Reset" keys="0" />
        </div>
        <div class="group">
          <label class="slider">
            Heat map
            <input
              type="range"
              min="0"
              max="1"
              step="0.05"
              value={opacity}
              disabled={!answer}
              aria-valuetext={`${Math.round(opacity * 100)} %`}
              onInput={(event) => setOpacity(Number(event.currentTarget.value))}
            />
          </label>
          <Toggle on={boxes} press={() => setBoxes(!boxes)} label="Boxes" keys="b" />
          <Toggle on={bare} press={() => setBare(!bare)} label="Original" keys="o, held" />
          <Button press={askKeys} label="Keys" text="?" keys="?" />
        </div>
      </div>
      <div
        class={`stage ${drawing ? "draws" : tool}`}
        ref={frame}
        data-drawn-by={stage.current?.drawnBy}
        tabIndex={0}
        role="application"
        aria-label={`Radiograph ${image.body_part} ${image.view}. Arrow keys move, plus and minus zoom, question mark lists all keys.`}
        onKeyDown={keys}
        onKeyUp={(event) => event.key === "o" && setBare(false)}
        onBlur={() => setBare(false)}
      >
        <div class={`port ${matrix ? "" : "blank"}`} ref={element} onContextMenu={(event) => event.preventDefault()} />
        <svg class="over" aria-hidden="true">
          {matrix && !bare && image.width && image.height && (
            <g transform={`matrix(${matrix.join(" ")})`}>
              {heat && wantsHeat && (
                <image
                  href={heat}
                  width={image.width}
                  height={image.height}
                  preserveAspectRatio="none"
                  opacity={opacity * MOST_OPAQUE}
                />
              )}
              {boxes && answer && <Boxes boxes={answer.boxes} kind={answer.level === "doubt" ? "dotted" : "solid"} />}
              <Boxes boxes={pending ? [...drawn, pending] : drawn} kind="reader" />
            </g>
          )}
        </svg>
        <Gestures stage={stage} tool={tool} drawing={drawing} inside={inside} pending={setPending} done={keep} />
        {!matrix && !failed && <p class="notice">loading…</p>}
        {failed && (
          <p class="notice error" role="alert">
            {failed}
          </p>
        )}
        {bare && <p class="corner">original</p>}
      </div>
    </section>
  );
}

function Button({ press, label, text, keys }: { press: () => void; label: string; text?: string; keys: string }) {
  return (
    <button type="button" onClick={press} title={`${label} (${keys})`} aria-label={text ? label : undefined}>
      {text ?? label}
    </button>
  );
}

function Toggle({ on, press, label, keys }: { on: boolean; press: () => void; label: string; keys: string }) {
  return (
    <button type="button" aria-pressed={on} onClick={press} title={`${label} (${keys})`}>
      {label}
    </button>
  );
}
