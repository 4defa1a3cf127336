// What is painted on a canvas, as a list of what was done: the last is undone by doing the others again.
// Knows neither components nor texts. A mask is where the canvas is opaque, whatever it is painted with.
import { context, maskFile } from "./canvases.js";

/** Strokes, fills and whatever else was done to a canvas of a picture's size. Coordinates and sizes are its pixels. */
export class Painting {
  /**
   * @param {HTMLCanvasElement} canvas gets the size
   * @param {number} width
   * @param {number} height
   * @param {string|CanvasPattern|((context: CanvasRenderingContext2D) => CanvasPattern)} paint a colour or a picture
   */
  constructor(canvas, width, height, paint) {
    Object.assign(canvas, { width, height });
    this.canvas = canvas;
    this._context = canvas.getContext("2d");
    this._done = [];
    this._undone = [];
    this._stroke = null;
    this._first = null;
    this.setPaint(paint);
  }

  get canUndo() {
    return this._done.length > 0;
  }

  get canRedo() {
    return this._undone.length > 0;
  }

  /** Paint with something else, what is there already too. */
  setPaint(paint) {
    this._paint = typeof paint === "function" ? paint(this._context) : paint;
    this._again();
  }

  /** Begin a stroke with a dot of a diameter; `erases` takes away. */
  begin(x, y, size, erases) {
    this._stroke = { kind: "stroke", size, erases, points: [x, y] };
    this._drawStroke(this._stroke, 0);
  }

  /** Go on with the stroke that was begun; without one nothing happens. */
  extend(x, y) {
    if (!this._stroke) return;
    this._stroke.points.push(x, y);
    this._drawStroke(this._stroke, this._stroke.points.length - 2);
  }

  /** The stroke is done: from now on it can be undone. */
  end() {
    if (this._stroke) this._record(this._stroke);
    this._stroke = null;
  }

  /** The stroke was none, as when a second finger comes down. */
  cancel() {
    if (!this._stroke) return;
    this._stroke = null;
    this._again();
  }

  fill() {
    this._do({ kind: "fill" });
  }

  clear() {
    this._do({ kind: "clear" });
  }

  invert() {
    this._do({ kind: "invert" });
  }

  /** Begin with a mask as `readMask` gives it, which is not undone. */
  start(found) {
    this._first = { kind: "mask", ...found };
    this._again();
  }

  /** Take a whole mask as `readMask` gives it. It is scaled to the canvas. */
  load(found) {
    this._do({ kind: "mask", ...found });
  }

  undo() {
    if (this.canUndo) this._undone.push(this._done.pop());
    this._again();
  }

  redo() {
    if (this.canRedo) this._do(this._undone.pop(), true);
  }

  /** About which share of the canvas is painted, 0 to 1: looked at in small, as this is asked for after each stroke. */
  share() {
    const side = 64;
    const small = context(side, side);
    small.imageSmoothingQuality = "medium";
    small.drawImage(this.canvas, 0, 0, side, side);
    const { data } = small.getImageData(0, 0, side, side);
    let sum = 0;
    for (let at = 3; at < data.length; at += 4) sum += data[at];
    return sum / (255 * side * side);
  }

  /** The mask as a PNG file; null if nothing is painted. Edges are sharp, unless a mask was loaded that is soft. */
  toMask() {
    const isSoft = Boolean(this._first?.isSoft) || this._done.some((step) => step.isSoft);
    return maskFile(this.canvas, isSoft);
  }

  _do(step, again = false) {
    this._draw(step);
    this._record(step, again);
  }

  _record(step, again = false) {
    this._done.push(step);
    if (!again) this._undone = [];
  }

  _again() {
    this._context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const from = this._done.findLastIndex((step) => step.kind !== "stroke" && step.kind !== "invert");
    if (this._first && from < 0) this._draw(this._first);
    for (const step of this._done.slice(Math.max(0, from))) this._draw(step);
  }

  _draw(step) {
    const { width, height } = this.canvas;
    const on = this._context;
    if (step.kind === "stroke") {
      for (let at = 0; at < step.points.length; at += 2) this._drawStroke(step, at);
      return;
    }
    if (step.kind !== "invert") on.clearRect(0, 0, width, height);
    if (step.kind === "clear") return;
    on.save();
    if (step.kind === "mask") {
      on.drawImage(step.mask, 0, 0, width, height);
      on.globalCompositeOperation = "source-in";
    } else if (step.kind === "invert") {
      on.globalCompositeOperation = "xor";
    }
    on.fillStyle = this._paint;
    on.fillRect(0, 0, width, height);
    on.restore();
  }

  /** Draw a stroke from one point before `at` to that at it: the same pixels live and when it is done again. */
  _drawStroke({ points, size, erases }, at) {
    const on = this._context;
    on.save();
    on.globalCompositeOperation = erases ? "destination-out" : "source-over";
    on.strokeStyle = erases ? "#000" : this._paint;
    Object.assign(on, { lineWidth: size, lineCap: "round", lineJoin: "round" });
    on.beginPath();
    on.moveTo(points[Math.max(0, at - 2)], points[Math.max(1, at - 1)]);
    on.lineTo(points[at] + (at ? 0 : 0.001), points[at + 1]); // a line of no length would be no dot
    on.stroke();
    on.restore();
  }
}
