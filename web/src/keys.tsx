/** The list of keys, which a question mark shows. */

import type { RefObject } from "preact";

const KEYS = [
  ["← ↑ → ↓", "move; with Shift farther"],
  ["+ −", "zoom in, out"],
  ["f", "fit"],
  ["[ ]", "more contrast, less"],
  [", .", "darker, brighter"],
  ["i", "invert"],
  ["r, Shift r", "turn clockwise, back"],
  ["0", "reset everything"],
  ["h", "heat map on, off"],
  ["b", "boxes on, off"],
  ["o, held", "the original without anything"],
  ["n p", "next, previous image of the exam"],
  ["w m", "dragging changes the window, moves"],
  ["d", "draw boxes, for who gives verdicts; Escape ends it"],
  ["?", "this list"],
];

export function Keys({ dialog }: { dialog: RefObject<HTMLDialogElement | null> }) {
  return (
    <dialog ref={dialog} aria-labelledby="keys-title">
      <h2 id="keys-title">Keys on the radiograph</h2>
      <dl class="keys">
        {KEYS.map(([key, does]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{does}</dd>
          </div>
        ))}
      </dl>
      <p class="quiet">
        While boxes are drawn, arrows move one and size it with Shift, Enter keeps it, Escape drops it, Delete takes the last one
        back. Or drag it, or point at two opposite corners.
      </p>
      <p class="quiet">
        Dragging does what is pressed, Window or Move: with a finger too. The wheel zooms and the right button moves; two fingers
        do both. A box solid: fracture; dotted: doubt; dashed: drawn by a reader.
      </p>
      <form method="dialog">
        <button type="submit" class="main">
          Close
        </button>
      </form>
    </dialog>
  );
}
