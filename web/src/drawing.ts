/** A box in the making: by dragging, by two taps on its corners, or by keys alone. */

import type { RefObject } from "preact";
import { useLayoutEffect, useState } from "preact/hooks";
import type { Stage } from "./stage";
import type { Box } from "./types";

/** A point of the picture, in its pixels. */
export type Point = [number, number];

export interface Drawing {
  on: boolean;
  pending: Box | null;
  corner: Point | null; // that was tapped; the opposite one is to come
  hint: string; // what can be done now
  inside: (x: number, y: number) => Point; // the picture's point at one of the screen, or the nearest
  span: (from: Point, to: Point) => void; // show the box between two points
  unspan: () => void; // it was not meant
  keep: (from: Point, to: Point) => void; // it is one of the reader's
  tap: (at: Point) => void;
  key: (event: KeyboardEvent) => boolean; // whether it was meant for the box
}

interface Props {
  stage: RefObject<Stage | null>;
  on: boolean;
  end: () => void;
  width: number; // of the picture
  height: number;
  drawn: Box[];
  draw: (boxes: Box[]) => void;
}

const LEAST = 2; // pixels of the picture: what is smaller was a slip
const FIRST = 96; // pixels of the screen: the box that keys begin with
const STEP = 8; // pixels of the screen that a key moves by: who zooms in places more finely
const NARROWEST = 8;
const WAYS: Record<string, Point> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const HINTS = {
  begin: "Drag a box, point at two opposite corners, or press an arrow key.",
  corner: "Point at the opposite corner.",
  box: "Arrows move it, Shift and arrows size it, Enter keeps it, Escape drops it.",
};

export function useDrawing({ stage, on, end, width, height, drawn, draw }: Props): Drawing {
  const [pending, setPending] = useState<Box | null>(null);
  const [corner, setCorner] = useState<Point | null>(null);
  const [byKeys, setByKeys] = useState(false);
  const drop = () => {
    setPending(null);
    setCorner(null);
    setByKeys(false);
  };
  useLayoutEffect(drop, [on]); // at once: the next key may begin a box

  const keepThis = (box: Box | null) => {
    drop();
    if (box && box.width >= LEAST && box.height >= LEAST) draw([...drawn, box]);
  };
  const tap = (at: Point) => {
    if (corner) return keepThis(between(corner, at));
    drop();
    setCorner(at);
  };

  const inside = (x: number, y: number): Point => {
    const [across, down] = stage.current!.pixelAt(x, y);
    return [bounded(across, width), bounded(down, height)];
  };
  const begin = () => {
    const [x, y] = stage.current!.middle();
    drop();
    setByKeys(true);
    setPending(between(inside(x - FIRST / 2, y - FIRST / 2), inside(x + FIRST / 2, y + FIRST / 2)));
  };
  /** Keys go by the screen, however the picture is turned. */
  const move = (box: Box, [right, down]: Point): Box => {
    const here = stage.current!;
    const [from, to] = [here.pixelAt(0, 0), here.pixelAt(right * STEP, down * STEP)];
    return {
      ...box,
      x: bounded(box.x + to[0] - from[0], width - box.width),
      y: bounded(box.y + to[1] - from[1], height - box.height),
    };
  };
  const size = (box: Box, [right, down]: Point): Box => {
    const here = stage.current!;
    const [one, other] = [here.pointAt(box.x, box.y), here.pointAt(box.x + box.width, box.y + box.height)];
    const [left, top] = [Math.min(one[0], other[0]), Math.min(one[1], other[1])];
    const wide = Math.max(NARROWEST, Math.abs(other[0] - one[0]) + right * STEP);
    const high = Math.max(NARROWEST, Math.abs(other[1] - one[1]) + down * STEP);
    return between(inside(left, top), inside(left + wide, top + high));
  };
  const key = (event: KeyboardEvent): boolean => {
    if (!on || !stage.current?.stands) return false;
    const way = WAYS[event.key];
    if (event.key === "Escape") {
      if (pending || corner) drop();
      else end();
    } else if (event.key === "Backspace" || event.key === "Delete") {
      draw(drawn.slice(0, -1));
    } else if (way || event.key === "Enter") {
      if (!pending || !byKeys) begin();
      else if (way) setPending(event.shiftKey ? size(pending, way) : move(pending, way));
      else keepThis(pending);
    } else return false;
    return true;
  };
  return {
    on,
    pending,
    corner,
    hint: corner ? HINTS.corner : pending && byKeys ? `${sides(pending)}. ${HINTS.box}` : HINTS.begin,
    inside,
    span: (from, to) => {
      setByKeys(false);
      setPending(between(from, to));
    },
    unspan: () => setPending(null),
    keep: (from, to) => keepThis(between(from, to)),
    tap,
    key,
  };
}

function bounded(value: number, most: number): number {
  return Math.min(Math.max(0, most), Math.max(0, value));
}

function between([left, top]: Point, [right, bottom]: Point): Box {
  return { x: Math.min(left, right), y: Math.min(top, bottom), width: Math.abs(right - left), height: Math.abs(bottom - top) };
}

function sides(box: Box): string {
  return `${Math.round(box.width)} × ${Math.round(box.height)} pixels at ${Math.round(box.x)}, ${Math.round(box.y)}`;
}
