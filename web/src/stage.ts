/** A radiograph on cornerstone's viewport: frames come decoded from the service, drawing works without a GPU. */

import {
  Enums,
  RenderingEngine,
  cache,
  imageLoader,
  init,
  setUseCPURendering,
  utilities,
  type Types,
} from "@cornerstonejs/core";
import { getFrame } from "./api";

export interface Window {
  low: number;
  high: number;
}

/** From a picture's pixels (edges, not centres) to the element's: x' = a x + c y + e, y' = b x + d y + f. */
export type Matrix = [number, number, number, number, number, number];

const SCHEME = "callus";
const SOFTWARE = /swiftshader|llvmpipe|softpipe|software|basic render/i;
const KEPT_BYTES = 512 << 20;
const windows = new Map<string, { full: Window; first: Window }>();
let onProcessor = false;
let ready = false;

/** Whether drawing is better left to the processor: there is no GPU, or one that only pretends. */
function lacksGraphics(): boolean {
  const context = document.createElement("canvas").getContext("webgl2");
  if (!context) return true;
  const told = context.getExtension("WEBGL_debug_renderer_info");
  const name = String(context.getParameter(told ? told.UNMASKED_RENDERER_WEBGL : context.RENDERER));
  context.getExtension("WEBGL_lose_context")?.loseContext();
  return SOFTWARE.test(name);
}

function begin(): void {
  if (ready) return;
  onProcessor = lacksGraphics();
  init();
  setUseCPURendering(onProcessor);
  cache.setMaxCacheSize(KEPT_BYTES);
  imageLoader.registerImageLoader(SCHEME, (imageId) => ({ promise: load(imageId) as Promise<Types.IImage> as never }));
  ready = true;
}

async function load(imageId: string): Promise<unknown> {
  const number = imageId.slice(SCHEME.length + 1);
  const { pixels, rows, columns, bits } = await getFrame(`/images/${number}/frame.bin`);
  const found = windowsOf(pixels, bits);
  windows.set(imageId, found);
  const add = (type: string, metadata: object) => utilities.genericMetadataProvider.add(imageId, { type, metadata } as never);
  // One millimetre a pixel: the viewport then counts in pixels, and so do boxes.
  add("imagePlaneModule", {
    rows,
    columns,
    rowPixelSpacing: 1,
    columnPixelSpacing: 1,
    pixelSpacing: [1, 1],
    rowCosines: [1, 0, 0],
    columnCosines: [0, 1, 0],
    imageOrientationPatient: [1, 0, 0, 0, 1, 0],
    imagePositionPatient: [0, 0, 0],
    frameOfReferenceUID: imageId,
  });
  add("imagePixelModule", {
    samplesPerPixel: 1,
    photometricInterpretation: "MONOCHROME2",
    rows,
    columns,
    bitsAllocated: 16,
    bitsStored: 16,
    highBit: 15,
    pixelRepresentation: 0,
  });
  add("generalSeriesModule", { modality: "DX", seriesInstanceUID: imageId });
  return {
    imageId,
    minPixelValue: found.full.low,
    maxPixelValue: found.full.high,
    slope: 1,
    intercept: 0,
    windowCenter: (found.first.low + found.first.high) / 2,
    windowWidth: found.first.high - found.first.low,
    voiLUTFunction: Enums.VOILUTFunctionType.LINEAR_EXACT,
    getPixelData: () => pixels,
    rows,
    columns,
    height: rows,
    width: columns,
    color: false,
    rgba: false,
    numberOfComponents: 1,
    columnPixelSpacing: 1,
    rowPixelSpacing: 1,
    invert: false,
    photometricInterpretation: "MONOCHROME2",
    sizeInBytes: pixels.byteLength,
    dataType: "Uint16Array",
    imageFrame: {},
  };
}

/** The range of grey values, and the window to begin with: as the overlay's, all but the outermost in 16 bits. */
function windowsOf(pixels: Uint16Array, bits: number): { full: Window; first: Window } {
  const counts = new Uint32Array(1 << 16);
  for (let at = 0; at < pixels.length; at++) counts[pixels[at]!]!++;
  const below = (share: number) => {
    let left = share * pixels.length;
    let value = 0;
    while (value < 65535 && (left -= counts[value]!) >= 0) value++;
    return value;
  };
  const full = { low: below(0), high: below(1 - 1e-9) };
  if (bits === 8) return { full, first: { low: 0, high: 255 } };
  const [low, high] = [below(0.001), below(0.999)];
  return { full, first: { low, high: Math.max(high, low + 1) } };
}

let count = 0;

/** One viewport in an element. */
export class Stage {
  private readonly engine: RenderingEngine;
  private readonly port: Types.IStackViewport;
  private imageId = "";
  private wanted = "";
  private queue: Promise<void> = Promise.resolve();
  private shown: Window = { low: 0, high: 1 };
  private turned = 0;
  private negative = false;
  private fitted = 0;

  constructor(
    private readonly element: HTMLDivElement,
    private readonly moved: () => void,
  ) {
    begin();
    const name = `stage-${++count}`;
    this.engine = new RenderingEngine(name);
    this.engine.enableElement({ viewportId: name, type: Enums.ViewportType.STACK, element });
    this.port = this.engine.getViewport(name) as Types.IStackViewport;
    element.addEventListener(Enums.Events.IMAGE_RENDERED, this.moved);
  }

  /** Show an image, fitted, in the window that it comes with. One after the other: a late frame never lies under
   * another image's boxes. */
  show(image: number): Promise<void> {
    const imageId = `${SCHEME}:${image}`;
    this.imageId = "";
    this.wanted = imageId;
    const turn = this.queue.then(async () => {
      if (this.wanted !== imageId) return;
      await this.port.setStack([imageId], 0);
      if (this.wanted !== imageId) return;
      this.imageId = imageId;
      this.reset();
    });
    this.queue = turn.catch(() => {});
    return turn.catch((error) => {
      if (this.wanted === imageId) throw error;
    });
  }

  /** Whether what was asked for is what is drawn. */
  get stands(): boolean {
    return this.imageId !== "" && this.port.getCornerstoneImage()?.imageId === this.imageId;
  }

  /** What draws: the graphics processor, or the processor. */
  get drawnBy(): "graphics" | "processor" {
    return onProcessor ? "processor" : "graphics";
  }

  /** Fit the picture into the element as it is turned; nothing else changes. */
  fit(): void {
    this.port.resetCamera({ resetPan: true, resetZoom: true, resetToCenter: true, suppressEvents: true } as never);
    this.rotateTo(this.turned);
    const image = this.port.getCornerstoneImage();
    const { clientWidth, clientHeight } = this.element;
    const aside = this.turned % 180 !== 0;
    const [across, down] = aside ? [image.rows, image.columns] : [image.columns, image.rows];
    const [a, b] = this.matrix();
    const wanted = Math.min(clientWidth / across, clientHeight / down);
    this.scaleBy(wanted / Math.hypot(a, b));
    this.centre(image);
    this.fitted = wanted;
    this.port.render();
  }

  /** As it was when it was opened. */
  reset(): void {
    this.turned = 0;
    this.negative = false;
    this.shown = { ...windows.get(this.imageId)!.first };
    this.window(this.shown);
    this.fit();
  }

  get current(): Window {
    return this.shown;
  }

  get inverted(): boolean {
    return this.negative;
  }

  /** How large it is drawn, in screen pixels for one of the picture's. */
  get scale(): number {
    const [a, b] = this.matrix();
    return Math.hypot(a, b);
  }

  /** Change the window. */
  window({ low, high }: Window): void {
    const room = windows.get(this.imageId)!.full;
    const width = Math.max(1, high - low);
    const middle = Math.min(room.high, Math.max(room.low, (low + high) / 2));
    this.shown = { low: middle - width / 2, high: middle + width / 2 };
    this.port.setProperties({ voiRange: { lower: this.shown.low, upper: this.shown.high }, invert: this.negative });
    this.port.render();
  }

  /** Change the window by shares of the image's range: brighter upwards, more contrast to the left. */
  windowBy(width: number, level: number): void {
    const room = windows.get(this.imageId)!.full;
    const range = Math.max(1, room.high - room.low);
    const { low, high } = this.shown;
    const wide = Math.max(range / 256, (high - low) * Math.exp(width * 2));
    const middle = (low + high) / 2 + level * range;
    this.window({ low: middle - wide / 2, high: middle + wide / 2 });
  }

  invert(): void {
    this.negative = !this.negative;
    this.window(this.shown);
  }

  /** Turn a quarter, clockwise or not, and fit. */
  turn(quarters: number): void {
    this.turned = (((this.turned + quarters * 90) % 360) + 360) % 360;
    this.fit();
  }

  /** Zoom about a point of the element, or its middle. */
  zoom(factor: number, x = this.element.clientWidth / 2, y = this.element.clientHeight / 2): void {
    const now = this.scale;
    const bounded = Math.min(40, Math.max(this.fitted / 4, now * factor)) / now;
    const held = this.port.canvasToWorld([x, y]);
    this.scaleBy(bounded);
    const [left, top] = this.port.worldToCanvas(held);
    this.shift(x - left!, y - top!);
    this.port.render();
  }

  /** Move by the element's pixels. */
  pan(x: number, y: number): void {
    this.shift(x, y);
    this.port.render();
  }

  /** Where the picture's pixels are. */
  matrix(): Matrix {
    const half = onProcessor ? 0 : 0.5; // where there is a GPU a pixel's centre counts, else its corner
    const at = (x: number, y: number) => this.port.worldToCanvas([x - half, y - half, 0]);
    const [origin, right, below] = [at(0, 0), at(1000, 0), at(0, 1000)];
    const step = (to: Types.Point2, axis: 0 | 1) => (to[axis] - origin[axis]) / 1000;
    return [step(right, 0), step(right, 1), step(below, 0), step(below, 1), origin[0], origin[1]];
  }

  /** The element's middle. */
  middle(): [number, number] {
    return [this.element.clientWidth / 2, this.element.clientHeight / 2];
  }

  /** The element's point at a pixel of the picture. */
  pointAt(x: number, y: number): [number, number] {
    const [a, b, c, d, e, f] = this.matrix();
    return [a * x + c * y + e, b * x + d * y + f];
  }

  /** The picture's pixel at a point of the element. */
  pixelAt(x: number, y: number): [number, number] {
    const [a, b, c, d, e, f] = this.matrix();
    const size = a * d - b * c;
    return [(d * (x - e) - c * (y - f)) / size, (a * (y - f) - b * (x - e)) / size];
  }

  /** The element has another size. */
  resize(): void {
    this.engine.resize(true, true);
    if (this.stands) this.fit();
  }

  close(): void {
    this.wanted = this.imageId = "";
    this.element.removeEventListener(Enums.Events.IMAGE_RENDERED, this.moved);
    this.engine.destroy();
  }

  private rotateTo(degrees: number): void {
    this.port.setViewPresentation({ rotation: degrees });
    if (onProcessor) this.port.setCamera({}); // which takes the turn over into the transform
  }

  private scaleBy(factor: number): void {
    const camera = this.port.getCamera();
    this.port.setCamera({ parallelScale: camera.parallelScale! / factor });
  }

  private centre(image: { columns: number; rows: number }): void {
    const [a, b, c, d, e, f] = this.matrix();
    const [x, y] = [image.columns / 2, image.rows / 2];
    const { clientWidth, clientHeight } = this.element;
    this.shift(clientWidth / 2 - (a * x + c * y + e), clientHeight / 2 - (b * x + d * y + f));
  }

  private shift(x: number, y: number): void {
    const camera = this.port.getCamera();
    const from = this.port.canvasToWorld([0, 0]);
    const to = this.port.canvasToWorld([x, y]);
    const less = (point: Types.Point3) => point.map((value, axis) => value - (to[axis]! - from[axis]!)) as Types.Point3;
    this.port.setCamera({ focalPoint: less(camera.focalPoint!), position: less(camera.position!) });
  }
}
