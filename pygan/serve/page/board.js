/** A board of pixels that is drawn on: strokes, rectangles, fills, undo. Coordinates are in pixels of the picture. */

import { rgb } from "./palette.js";

const MOST_BYTES = 96 << 20; // of what undo remembers

export class Board {
  #context;
  #undone = [];
  #done = [];
  #stroke = null;

  /** canvas: shows the board. hard: pixels are set or not, never mixed, as class colours must be. */
  constructor(canvas, { hard }) {
    this.hard = hard;
    this.touched = false; // by the user; an example may still be replaced by another
    this.canvas = canvas;
    this.#context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
    this.pixels = new ImageData(1, 1);
  }

  get width() {
    return this.pixels.width;
  }

  get height() {
    return this.pixels.height;
  }

  get canUndo() {
    return this.#done.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  /** Another picture in place of this one. remember: `undo` brings the old one back. */
  load(pixels, { remember }) {
    if (remember) this.#remember();
    this.pixels = pixels;
    this.show();
  }

  /** The board as it is, on its canvas. */
  show() {
    if (this.canvas.width !== this.width || this.canvas.height !== this.height) {
      this.canvas.width = this.width;
      this.canvas.height = this.height;
    }
    this.#context.putImageData(this.pixels, 0, 0);
  }

  /** A stroke begins. colour "#rrggbb"; radius in pixels; "brush" paints as it goes, "rect" from corner to corner. */
  begin(tool, x, y, radius, colour) {
    this.#remember();
    this.touched = true;
    const base = new Uint8ClampedArray(this.pixels.data);
    this.#stroke = { tool, base, mask: new Float32Array(this.width * this.height), colour: rgb(colour), x, y, radius };
    this.move(x, y, radius);
  }

  get drawing() {
    return this.#stroke !== null;
  }

  /** The stroke goes on to (x, y). */
  move(x, y, radius) {
    const stroke = this.#stroke;
    if (!stroke) return;
    if (stroke.tool === "rect") {
      this.pixels.data.set(stroke.base);
      this.#rectangle(stroke.x, stroke.y, x, y, stroke.colour);
      this.show();
      return;
    }
    this.#segment(stroke, x, y, radius);
    Object.assign(stroke, { x, y, radius });
  }

  end() {
    this.#stroke = null;
  }

  /** The stroke was none after all (the system took the pointer): as before it. */
  cancel() {
    if (!this.#stroke) return;
    this.end();
    this.#restore(this.#done.pop());
  }

  /** Flood from (x, y): what is connected with it and of its colour. */
  fill(x, y, colour) {
    const { width, height } = this;
    const [startX, startY] = [Math.floor(x), Math.floor(y)];
    if (startX < 0 || startY < 0 || startX >= width || startY >= height) return;
    this.#remember();
    this.touched = true;
    const data = this.pixels.data;
    const first = 4 * (startY * width + startX);
    const from = [data[first], data[first + 1], data[first + 2]];
    const most = this.hard ? 0 : 100; // a soft stroke's rim is filled too
    const same = (k) =>
      Math.abs(data[4 * k] - from[0]) <= most &&
      Math.abs(data[4 * k + 1] - from[1]) <= most &&
      Math.abs(data[4 * k + 2] - from[2]) <= most;
    const seen = new Uint8Array(width * height);
    const open = [startY * width + startX];
    seen[open[0]] = 1;
    const [r, g, b] = rgb(colour);
    const found = [];
    while (open.length) {
      const k = open.pop();
      found.push(k);
      const column = k % width;
      const beside = [column > 0 ? k - 1 : -1, column < width - 1 ? k + 1 : -1, k - width, k + width];
      for (const next of beside) {
        if (next >= 0 && next < seen.length && !seen[next] && same(next)) {
          seen[next] = 1;
          open.push(next);
        }
      }
    }
    for (const k of found) [data[4 * k], data[4 * k + 1], data[4 * k + 2]] = [r, g, b];
    this.show();
  }

  /** One colour everywhere. */
  flood(colour) {
    this.#remember();
    this.touched = true;
    this.#rectangle(0, 0, this.width - 1, this.height - 1, rgb(colour));
    this.show();
  }

  /** The picture at another size, its nearest pixels; a soft board is smoothed by the browser. */
  resize(width, height) {
    if (width === this.width && height === this.height) return;
    const from = this.pixels;
    let to = new ImageData(width, height);
    if (this.hard) {
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
          const k = 4 * (Math.floor(((y + 0.5) * from.height) / height) * from.width);
          const source = k + 4 * Math.floor(((x + 0.5) * from.width) / width);
          to.data.set(from.data.subarray(source, source + 4), 4 * (y * width + x));
        }
      }
    } else {
      const context = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
      context.imageSmoothingQuality = "high";
      context.drawImage(this.canvas, 0, 0, width, height);
      to = context.getImageData(0, 0, width, height);
    }
    this.load(to, { remember: true });
  }

  undo() {
    if (!this.canUndo) return;
    this.#undone.push(this.#copy());
    this.#restore(this.#done.pop());
  }

  redo() {
    if (!this.canRedo) return;
    this.#done.push(this.#copy());
    this.#restore(this.#undone.pop());
  }

  #copy() {
    return new ImageData(new Uint8ClampedArray(this.pixels.data), this.width, this.height);
  }

  #restore(pixels) {
    this.pixels = pixels;
    this.show();
  }

  #remember() {
    this.#done.push(this.#copy());
    this.#undone = [];
    let bytes = 0;
    for (let k = this.#done.length - 1; k >= 0; k--) {
      bytes += this.#done[k].data.length;
      if (bytes > MOST_BYTES) {
        this.#done.splice(0, k + 1);
        break;
      }
    }
  }

  #rectangle(x0, y0, x1, y1, [r, g, b]) {
    const inside = (value, most) => Math.min(Math.max(Math.floor(value), 0), most - 1);
    const [left, right] = [x0, x1].map((x) => inside(x, this.width)).sort((a, b) => a - b);
    const [top, bottom] = [y0, y1].map((y) => inside(y, this.height)).sort((a, b) => a - b);
    for (let y = top; y <= bottom; y++) {
      for (let k = 4 * (y * this.width + left); k <= 4 * (y * this.width + right); k += 4) {
        [this.pixels.data[k], this.pixels.data[k + 1], this.pixels.data[k + 2]] = [r, g, b];
      }
    }
  }

  /** From where the stroke is to (x, y): every pixel's share of a line with round ends whose radius goes evenly. */
  #segment(stroke, x, y, radius) {
    const { mask, base, colour } = stroke;
    const { width, height } = this;
    const most = Math.max(stroke.radius, radius) + 1;
    const left = Math.max(0, Math.floor(Math.min(stroke.x, x) - most));
    const right = Math.min(width - 1, Math.ceil(Math.max(stroke.x, x) + most));
    const top = Math.max(0, Math.floor(Math.min(stroke.y, y) - most));
    const bottom = Math.min(height - 1, Math.ceil(Math.max(stroke.y, y) + most));
    if (right < left || bottom < top) return;
    const [dx, dy] = [x - stroke.x, y - stroke.y];
    const length = dx * dx + dy * dy || 1;
    const data = this.pixels.data;
    for (let row = top; row <= bottom; row++) {
      for (let column = left; column <= right; column++) {
        const [px, py] = [column + 0.5 - stroke.x, row + 0.5 - stroke.y];
        const t = Math.min(1, Math.max(0, (px * dx + py * dy) / length));
        const far = Math.hypot(px - t * dx, py - t * dy);
        const r = stroke.radius + t * (radius - stroke.radius);
        const share = this.hard ? Number(far <= r + 1e-6) : Math.min(1, Math.max(0, r + 0.5 - far));
        const k = row * width + column;
        if (share <= mask[k]) continue;
        mask[k] = share;
        for (let c = 0; c < 3; c++) {
          const old = base[4 * k + c];
          data[4 * k + c] = old + (colour[c] - old) * share;
        }
      }
    }
    this.#context.putImageData(this.pixels, 0, 0, left, top, right - left + 1, bottom - top + 1);
  }
}
