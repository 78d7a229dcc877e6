/** What mouse, pen and fingers do on a radiograph: the chosen tool, the wheel, two fingers, or drawing a box. */

import type { RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { Drawing, Point } from "./drawing";
import type { Stage } from "./stage";

export type Tool = "window" | "pan";

const SLIP = 8; // pixels that a finger may slip by and still have tapped

interface Props {
  stage: RefObject<Stage | null>;
  tool: Tool;
  drawing: Drawing;
}

export function Gestures({ stage, tool, drawing }: Props) {
  const fingers = useRef(new Map<number, Point>());
  const pinched = useRef(false);
  const start = useRef<{ at: Point; from: Point; to: Point | null } | null>(null); // `to` once it is more than a tap
  const surface = useRef<HTMLDivElement>(null);

  useEffect(() => {
    const turned = (event: WheelEvent) => {
      event.preventDefault(); // which the page's own scrolling would be
      const here = stage.current;
      const { left, top } = surface.current!.getBoundingClientRect();
      if (here?.stands) here.zoom(Math.exp(-event.deltaY / 500), event.clientX - left, event.clientY - top);
    };
    const element = surface.current!;
    element.addEventListener("wheel", turned, { passive: false });
    return () => element.removeEventListener("wheel", turned);
  }, []);

  const where = (event: PointerEvent): Point => {
    const { left, top } = surface.current!.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  };
  const end = (event: PointerEvent) => {
    fingers.current.delete(event.pointerId);
    if (!fingers.current.size) pinched.current = false;
    if (!start.current) return;
    const { from, to } = start.current;
    start.current = null;
    if (event.type === "pointercancel") drawing.unspan();
    else if (to) drawing.keep(from, to);
    else drawing.tap(from);
  };
  const down = (event: PointerEvent) => {
    if (!stage.current?.stands) return;
    surface.current!.setPointerCapture(event.pointerId);
    fingers.current.set(event.pointerId, where(event));
    if (drawing.on && event.button === 0 && fingers.current.size === 1) {
      const at = where(event);
      start.current = { at, from: drawing.inside(...at), to: null };
    }
    if (fingers.current.size > 1) pinched.current = true;
    if (fingers.current.size > 1 && start.current) {
      start.current = null; // a second finger: it was meant to zoom
      drawing.unspan();
    }
  };
  const move = (event: PointerEvent) => {
    const here = stage.current;
    const before = fingers.current.get(event.pointerId);
    if (!here?.stands) return;
    const now = where(event);
    if (!before && drawing.corner) drawing.span(drawing.corner, drawing.inside(...now));
    if (!before) return;
    const [x, y] = [now[0] - before[0], now[1] - before[1]];
    if (pinched.current && fingers.current.size === 1) {
      fingers.current.set(event.pointerId, now);
      return; // of two fingers one was lifted first: what the other still does was not meant
    }
    if (fingers.current.size === 2) {
      const [one, other] = [...fingers.current.entries()].sort(([id]) => (id === event.pointerId ? -1 : 1)).map(([, at]) => at);
      const far = (a: Point, b: Point) => Math.max(1, Math.hypot(a[0] - b[0], a[1] - b[1]));
      here.zoom(far(now, other!) / far(one!, other!), (now[0] + other![0]) / 2, (now[1] + other![1]) / 2);
      here.pan(x / 2, y / 2);
    } else if (start.current) {
      const { at, from, to } = start.current;
      if (to || Math.hypot(now[0] - at[0], now[1] - at[1]) > SLIP) {
        start.current.to = drawing.inside(...now);
        drawing.span(from, start.current.to);
      }
    } else if (tool === "pan" || event.buttons & 6) {
      here.pan(x, y); // the middle and the right button always do
    } else {
      here.windowBy(x / 400, y / 600);
    }
    fingers.current.set(event.pointerId, now);
  };
  return (
    <div
      class="surface"
      ref={surface}
      onPointerDown={down}
      onPointerMove={move}
      onPointerUp={end}
      onPointerCancel={end}
      onContextMenu={(event) => event.preventDefault()}
    />
  );
}
