/** Verdicts that are not kept yet, one for each image: whoever looks at another view finds them again. */

import { useCallback, useState } from "preact/hooks";
import type { Box } from "./types";

export interface Draft {
  agrees: boolean | null;
  answer: number | null; // that it is of
  label: number | null;
  boxes: Box[];
  comment: string;
}

export interface Drafts {
  of: (image: number) => Draft;
  change: (image: number, part: Partial<Draft>) => void;
  drop: (image?: number) => void; // all of them where none is named
  begun: (image?: number) => boolean; // any of them
}

const NOTHING: Draft = { agrees: null, answer: null, label: null, boxes: [], comment: "" };

export function useDrafts(): Drafts {
  const [drafts, setDrafts] = useState(new Map<number, Draft>());
  const of = (image: number) => drafts.get(image) ?? NOTHING;
  const change = useCallback(
    (image: number, part: Partial<Draft>) =>
      setDrafts((old) => new Map(old).set(image, { ...(old.get(image) ?? NOTHING), ...part })),
    [],
  );
  const drop = useCallback(
    (image?: number) => setDrafts((old) => new Map([...old].filter(([one]) => image !== undefined && one !== image))),
    [],
  );
  const begun = (image?: number) => (image === undefined ? [...drafts.values()] : [of(image)]).some((draft) => !isEmpty(draft));
  return { of, change, drop, begun };
}

export function isEmpty({ agrees, label, boxes, comment }: Draft): boolean {
  return agrees === null && label === null && !boxes.length && !comment.trim();
}
