/** In place of libraries that vtk.js names for files that the page never reads (vite.config.ts); they would want Node's own. */

export function create(): never {
  throw new Error("the page reads no XML");
}
