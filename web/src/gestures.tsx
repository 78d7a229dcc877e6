/** What mouse, pen and fingers do on a radiograph: the chosen tool, the wheel, two fingers, or drawing a box. */

import type { RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { Stage } from "./stage";
import type { Box } from "./types";

export type Tool = "window" | "pan";

interface Props {
  stage: RefObject<Stage | null>;
  tool: Tool;
  drawing: boolean;
  inside: (x: number, y: number) => [number, number];
  pending: (box: Box | null) => void;
  done: (box: Box | null) => void;
}

export function Gestures({ stage, tool, drawing, inside, pending, done }: Props) {
  const fingers = useRef(new Map<number, [number, number]>());
  const pinched = useRef(false);
  const start = useRef<[number, number] | null>(null);
  const box = useRef<Box | null>(null);
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

  const where = (event: PointerEvent): [number, number] => {
    const { left, top } = surface.current!.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  };
  const end = (event: PointerEvent) => {
    fingers.current.delete(event.pointerId);
    if (!fingers.current.size) pinched.current = false;
    if (start.current) done(box.current);
    start.current = box.current = null;
  };
  const down = (event: PointerEvent) => {
    if (!stage.current?.stands) return;
    surface.current!.setPointerCapture(event.pointerId);
    fingers.current.set(event.pointerId, where(event));
    if (drawing && event.button === 0 && fingers.current.size === 1) start.current = inside(...where(event));
    if (fingers.current.size > 1) pinched.current = true;
    if (fingers.current.size > 1 && start.current) {
      start.current = box.current = null; // a second finger: it was meant to zoom
      pending(null);
    }
  };
  const move = (event: PointerEvent) => {
    const here = stage.current;
    const before = fingers.current.get(event.pointerId);
    if (!here || !before) return;
    const now = where(event);
    const [x, y] = [now[0] - before[0], now[1] - before[1]];
    if (pinched.current && fingers.current.size === 1) {
      fingers.current.set(event.pointerId, now);
      return; // of two fingers one was lifted first: what the other still does was not meant
    }
    if (fingers.current.size === 2) {
      const [one, other] = [...fingers.current.entries()].sort(([id]) => (id === event.pointerId ? -1 : 1)).map(([, at]) => at);
      const far = (a: [number, number], b: [number, number]) => Math.max(1, Math.hypot(a[0] - b[0], a[1] - b[1]));
      here.zoom(far(now, other!) / far(one!, other!), (now[0] + other![0]) / 2, (now[1] + other![1]) / 2);
      here.pan(x / 2, y / 2);
    } else if (start.current) {
      const [left, top] = start.current;
      const [right, bottom] = inside(...now);
      box.current = {
        x: Math.min(left, right),
        y: Math.min(top, bottom),
        width: Math.abs(right - left),
        height: Math.abs(bottom - top),
      };
      pending(box.current);
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
