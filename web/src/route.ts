/** The page's places: addresses of its own, so that a study can be linked to and the browser's back goes back. */

import { useEffect, useState } from "preact/hooks";

export type Place = { name: "worklist" } | { name: "study"; id: number } | { name: "administration" } | { name: "nowhere" };

export function placeOf(path: string): Place {
  const study = /^\/studies\/(\d{1,18})$/.exec(path);
  if (study) return { name: "study", id: Number(study[1]) };
  if (path === "/administration") return { name: "administration" };
  return path === "/" ? { name: "worklist" } : { name: "nowhere" };
}

export function go(path: string): void {
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
