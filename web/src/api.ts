/** Asks the service's API; changing requests bring the login's CSRF token. */

import type { Me } from "./types";

export const API = "/api/v1";
export const OWN_PASSWORD = "/me/password"; // where 401 says that the old one is wrong, not that the login has ended

/** What the service says cannot be done, for people to read. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    what: string,
    readonly hint: string,
  ) {
    super(hint ? `${what} (${hint})` : what);
  }
}

let csrf = "";
let loggedOut = () => {};

/** Take the token of a login. */
export function useLogin(me: { csrf: string } | null): void {
  csrf = me ? me.csrf : "";
}

/** Name what is to happen where the login has ended. */
export function onLoggedOut(then: () => void): void {
  loggedOut = then;
}

/** Ask; what the page asks by itself does not keep a login that nobody uses. */
async function ask(method: string, path: string, body?: unknown, byItself = false): Promise<Response> {
  const headers: Record<string, string> = {};
  if (byItself) headers["X-Unattended"] = "1";
  if (method !== "GET" && csrf) headers["X-CSRF-Token"] = csrf;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer: Response;
  try {
    answer = await fetch(API + path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
    });
  } catch {
    throw new Refused(0, "the service cannot be reached", "is it running?");
  }
  if (answer.ok) return answer;
  if (answer.status === 401 && csrf && path !== OWN_PASSWORD) loggedOut();
  throw refused(answer.status, await answer.text());
}

/** The error in an answer's text. */
export function refused(status: number, text: string): Refused {
  try {
    const told = JSON.parse(text).error;
    return new Refused(status, String(told.what), String(told.hint ?? ""));
  } catch {
    return new Refused(status, `the service answers ${status}`, "");
  }
}

export async function get<T>(path: string, byItself = false): Promise<T> {
  return (await ask("GET", path, undefined, byItself)).json() as Promise<T>;
}

export async function send<T>(method: "POST" | "PATCH" | "DELETE", path: string, body?: unknown, byItself = false): Promise<T> {
  return (await ask(method, path, body, byItself)).json() as Promise<T>;
}

export async function getBlob(path: string): Promise<Blob> {
  return (await ask("GET", path)).blob();
}

/** A frame's grey values: 16 bits each, row by row. */
export async function getFrame(path: string): Promise<{ pixels: Uint16Array; rows: number; columns: number; bits: number }> {
  const answer = await ask("GET", path);
  const told = (name: string) => Number(answer.headers.get(name));
  return {
    pixels: new Uint16Array(await answer.arrayBuffer()),
    rows: told("X-Rows"),
    columns: told("X-Columns"),
    bits: told("X-Bits"),
  };
}

/** Send files as a form, after plain fields, with progress from 0 to 1. */
export function sendFiles<T>(
  path: string,
  fields: Record<string, string | number>,
  field: string,
  files: File[],
  progress: (share: number) => void,
): Promise<T> {
  return new Promise((done, failed) => {
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) form.append(name, String(value));
    for (const file of files) form.append(field, file, file.name);
    const request = new XMLHttpRequest();
    request.open("POST", API + path);
    if (csrf) request.setRequestHeader("X-CSRF-Token", csrf);
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.onerror = () => failed(new Refused(0, "the connection broke", "try again"));
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) done(JSON.parse(request.responseText) as T);
      else {
        const error = refused(request.status, request.responseText);
        failed(Object.assign(error, { wait: Number(request.getResponseHeader("Retry-After")), body: request.responseText }));
      }
    };
    request.send(form);
  });
}

/** Who is logged in; null for nobody. */
export async function whoIsThere(byItself = false): Promise<Me | null> {
  try {
    return await get<Me>("/me", byItself);
  } catch (error) {
    if (error instanceof Refused && error.status === 401) return null;
    throw error;
  }
}
