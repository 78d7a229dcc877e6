/** What the service tells as it happens, for whichever part of the page listens. */

import { useEffect, useRef, useState } from "preact/hooks";
import { API, whoIsThere } from "./api";
import type { Finding, StudyChange } from "./types";

const OFTEN = 500; // ms at least between two looks: several images of a study come together
const FIRST_WAIT = 1000; // ms after which a line that was refused is asked for anew; twice as long each time
const LONGEST_WAIT = 30_000;

interface Live {
  study?: number; // whose news alone are of interest; all where it is not given
  look: () => void; // what is shown is to be read anew
  heard?: (finding: Finding) => void;
}

/** Listen as long as the component is shown and its tab is looked at; tells whether the line stands.
 *
 * A hidden tab has no line: over HTTP/1.1 a browser has six connections to a service for all of its tabs. Whatever was told
 * while there was none is found by a look when the line stands again.
 */
export function useLive(live: Live): boolean {
  const [stands, setStands] = useState(true);
  const latest = useRef(live);
  latest.current = live;
  useEffect(() => {
    let source: EventSource | null = null;
    let again = 0;
    let soon = 0;
    let wait = FIRST_WAIT;
    const look = () => {
      soon ||= window.setTimeout(() => {
        soon = 0;
        latest.current.look();
      }, OFTEN);
    };
    const close = () => {
      clearTimeout(again);
      source?.close();
      source = null;
    };
    const open = () => {
      close();
      if (document.hidden) return;
      const line = (source = new EventSource(`${API}/events`));
      const about = (told: { study: number }) => {
        if (latest.current.study === undefined || latest.current.study === told.study) look();
      };
      line.addEventListener("finding", (event) => {
        const finding = JSON.parse((event as MessageEvent).data) as Finding;
        latest.current.heard?.(finding);
        about(finding);
      });
      line.addEventListener("study", (event) => about(JSON.parse((event as MessageEvent).data) as StudyChange));
      line.onopen = () => {
        wait = FIRST_WAIT;
        setStands(true);
        look();
      };
      line.onerror = () => {
        setStands(false);
        if (line.readyState !== EventSource.CLOSED) return; // the browser asks again by itself
        // It was refused, after which browsers do not. Where the login has ended, asking for it leaves the page.
        whoIsThere(true).catch(() => {});
        again = window.setTimeout(open, wait * (0.5 + Math.random() / 2)); // not all browsers at the same moment
        wait = Math.min(LONGEST_WAIT, 2 * wait);
      };
    };
    open();
    document.addEventListener("visibilitychange", open);
    return () => {
      document.removeEventListener("visibilitychange", open);
      close();
      clearTimeout(soon);
    };
  }, []);
  return stands;
}
