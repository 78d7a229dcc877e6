/** Boxes over a radiograph, in its pixels: solid for a fracture, dotted for a doubt, dashed for what a reader drew. */

import type { Box } from "./types";

const COLOUR = { solid: "#56dcff", dotted: "#56dcff", reader: "#f0c85a" };
const DASHES = { solid: undefined, dotted: "2 6", reader: "10 5" };

/** The first corner of a box, where the second is still to come: a cross on the screen. */
export function Corner({ at: [x, y] }: { at: [number, number] }) {
  const cross = `M${x - 9} ${y}h18M${x} ${y - 9}v18`;
  return (
    <g class="first-corner">
      <path d={cross} stroke="#000" stroke-opacity="0.8" stroke-width="5" />
      <path d={cross} stroke={COLOUR.reader} stroke-width="2" />
    </g>
  );
}

export function Boxes({ boxes, kind }: { boxes: Box[]; kind: keyof typeof COLOUR }) {
  return (
    <>
      {boxes.map((box, at) => {
        const frame = { x: box.x, y: box.y, width: box.width, height: box.height, fill: "none" };
        return (
          <g key={at} class={`box ${kind}`}>
            <rect {...frame} stroke="#000" stroke-opacity="0.8" stroke-width="5" vector-effect="non-scaling-stroke" />
            <rect
              {...frame}
              stroke={COLOUR[kind]}
              stroke-width={kind === "dotted" ? "3" : "2"}
              stroke-dasharray={DASHES[kind]}
              stroke-linecap={kind === "dotted" ? "round" : "butt"}
              vector-effect="non-scaling-stroke"
            />
          </g>
        );
      })}
    </>
  );
}
