/** The page's places: addresses of its own, so that a study can be linked to and the browser's back goes back. */

import { useEffect, useState } from "preact/hooks";

export type Place = { name: "worklist" } | { name: "study"; id: number } | { name: "administration" } | { name: "nowhere" };

export function placeOf(path: string): Place {
  const study = /^\/studies\/(\d{1,18})$/.exec(path);
  if (study) return { name: "study", id: Number(study[1]) };
  if (path === "/administration") return { name: "administration" };
  return path === "/" ? { name: "worklist" } : { name: "nowhere" };
}

const unsaved = new Set<string>(); // what whoever leaves is asked
let here = location.pathname;

/** Whether a place may be left: whoever would lose something by it is asked. */
export function mayLeave(): boolean {
  return [...unsaved].every((question) => confirm(question));
}

/** Nobody is asked any more: the login has ended, and nothing of what was shown may stay. */
export function askNoMore(): void {
  unsaved.clear();
}

/** Ask so before a place is left, by a link, by the browser's back, or with the page; nothing where it is null. */
export function useUnsaved(question: string | null): void {
  useEffect(() => {
    if (!question) return;
    unsaved.add(question);
    return () => void unsaved.delete(question);
  }, [question]);
}

addEventListener("beforeunload", (event) => unsaved.size && event.preventDefault());

// Before any other listener: none hears of a place that is not left after all.
addEventListener("popstate", (event) => {
  if (event.isTrusted && location.pathname !== here && !mayLeave()) {
    history.pushState(null, "", here);
    event.stopImmediatePropagation();
  }
  here = location.pathname;
});

/** Go to another of the page's places; `asked` where whoever goes has been asked already. */
export function go(path: string, asked = false): void {
  if (!asked && path !== here && !mayLeave()) return;
  history.pushState(null, "", path);
  dispatchEvent(new PopStateEvent("popstate"));
  scrollTo(0, 0);
}

/** A link's click, without loading the page anew; where a new tab is asked for, the browser does it. */
export function follow(event: MouseEvent): void {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  go((event.currentTarget as HTMLAnchorElement).pathname);
}

export function usePlace(): Place {
  const [path, setPath] = useState(location.pathname);
  useEffect(() => {
    const changed = () => setPath(location.pathname);
    addEventListener("popstate", changed);
    return () => removeEventListener("popstate", changed);
  }, []);
  return placeOf(path);
}
