/** Findings as they come, for whichever part of the page listens. */

import { useEffect, useRef, useState } from "preact/hooks";
import { API } from "./api";
import type { Finding } from "./types";

/** Listen as long as the component is shown; tells whether the line stands. */
export function useFindings(heard: (finding: Finding) => void): boolean {
  const [stands, setStands] = useState(true);
  const latest = useRef(heard);
  latest.current = heard;
  useEffect(() => {
    const source = new EventSource(`${API}/events`);
    source.addEventListener("finding", (event) => latest.current(JSON.parse((event as MessageEvent).data)));
    source.onopen = () => setStands(true);
    source.onerror = () => setStands(false);
    return () => source.close();
  }, []);
  return stands;
}
