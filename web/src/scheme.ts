/** Dark or light: dark until somebody chooses, and whatever the system prefers; radiographs lie on black in both. */

export type Scheme = "dark" | "light";

// A cookie, because logging out empties the browser's storage and the choice is to outlast it.
const NAME = "callus_scheme";
const YEAR = 365 * 24 * 3600;

export function chosenScheme(): Scheme {
  return document.cookie.split("; ").includes(`${NAME}=light`) ? "light" : "dark";
}

/** Show the page as it was chosen. */
export function wearScheme(): void {
  document.documentElement.dataset.scheme = chosenScheme();
}

export function chooseScheme(scheme: Scheme): void {
  const secure = location.protocol === "https:" ? "; secure" : "";
  document.cookie = `${NAME}=${scheme}; path=/; max-age=${YEAR}; samesite=strict${secure}`;
  wearScheme();
}
