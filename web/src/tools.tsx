/** The viewer's buttons. What dragging does can be done by single presses too, and what keys do by buttons. */

import type { ComponentChildren } from "preact";
import type { Tool } from "./gestures";
import type { Stage } from "./stage";

interface Props {
  act: (what: (here: Stage) => void) => () => void;
  tool: Tool;
  setTool: (tool: Tool) => void;
  opacity: number | null; // of the heat map; null where there is none
  setOpacity: (opacity: number) => void;
  boxes: boolean;
  setBoxes: (on: boolean) => void;
  bare: boolean;
  setBare: (on: boolean) => void;
  askKeys: () => void;
}

const CONTRAST = 0.16; // twice what a key does
const BRIGHTNESS = 0.06;
const FAR = 80; // pixels of the screen

export function Tools({ act, tool, setTool, opacity, setOpacity, boxes, setBoxes, bare, setBare, askKeys }: Props) {
  return (
    <div class="tools" role="toolbar" aria-label="view">
      <div class="group">
        <Toggle on={tool === "window"} press={() => setTool("window")} label="Window" keys="w" />
        <Toggle on={tool === "pan"} press={() => setTool("pan")} label="Move" keys="m" />
        {tool === "window" ? (
          <span class="group steps" key="window">
            <Button press={act((here) => here.windowBy(CONTRAST, 0))} label="Less contrast" text={<Half sign="−" />} keys="]" />
            <Button press={act((here) => here.windowBy(-CONTRAST, 0))} label="More contrast" text={<Half sign="+" />} keys="[" />
            <Button press={act((here) => here.windowBy(0, BRIGHTNESS))} label="Darker" text={<Sun sign="−" />} keys="," />
            <Button press={act((here) => here.windowBy(0, -BRIGHTNESS))} label="Brighter" text={<Sun sign="+" />} keys="." />
          </span>
        ) : (
          <span class="group steps" key="move">
            <Button press={act((here) => here.pan(-FAR, 0))} label="Move left" text="←" keys="→" />
            <Button press={act((here) => here.pan(FAR, 0))} label="Move right" text="→" keys="←" />
            <Button press={act((here) => here.pan(0, -FAR))} label="Move up" text="↑" keys="↓" />
            <Button press={act((here) => here.pan(0, FAR))} label="Move down" text="↓" keys="↑" />
          </span>
        )}
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
            value={opacity ?? 0}
            disabled={opacity === null}
            aria-valuetext={`${Math.round((opacity ?? 0) * 100)} %`}
            onInput={(event) => setOpacity(Number(event.currentTarget.value))}
          />
        </label>
        <Toggle on={boxes} press={() => setBoxes(!boxes)} label="Boxes" keys="b" />
        <Toggle on={bare} press={() => setBare(!bare)} label="Original" keys="o, held" />
        <Button press={askKeys} label="Keys" text="?" keys="?" />
      </div>
    </div>
  );
}

interface ButtonProps {
  press: () => void;
  label: string;
  text?: ComponentChildren; // where it is not the label that stands on it
  keys: string;
}

function Button({ press, label, text, keys }: ButtonProps) {
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

/** Contrast, more or less: a half-moon. */
function Half({ sign }: { sign: string }) {
  return (
    <>
      <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
        <circle cx="8" cy="8" r="6" fill="none" stroke="currentColor" stroke-width="1.5" />
        <path d="M8 2a6 6 0 0 1 0 12z" fill="currentColor" />
      </svg>
      {sign}
    </>
  );
}

/** Brightness, more or less: a sun. */
function Sun({ sign }: { sign: string }) {
  return (
    <>
      <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
        <circle cx="8" cy="8" r="3" fill="currentColor" />
        <path
          d="M8 1v2M8 13v2M1 8h2M13 8h2M3.1 3.1l1.4 1.4M11.5 11.5l1.4 1.4M12.9 3.1l-1.4 1.4M4.5 11.5l-1.4 1.4"
          stroke="currentColor"
          stroke-width="1.5"
        />
      </svg>
      {sign}
    </>
  );
}
