/** A picture from outside: chosen, dropped or pasted; sent at the size of the canvas, or its file as it is. */

import { toClasses } from "./palette.js";
import { png } from "./png.js";
import { decoded, fit } from "./show.js";

const TAKES = /^image\/(png|jpeg|webp|tiff|bmp|gif)$/; // that the server takes; others are made PNG here
const READS = /^image\/|\.(tiff?|npy)$/i;

export class Upload {
  #parts;
  #told;
  #file = null; // Blob
  #image = null; // <img> of it; null where this browser cannot show such a file
  #own = false; // the user's; else an example

  /** told: {changed(), arrived(), failed(line)}: another picture; one from outside, to be shown; none that is one. */
  constructor(parts, told) {
    this.#parts = parts;
    this.#told = told;
    const { file, choose, stage } = parts;
    choose.addEventListener("click", () => file.click());
    file.addEventListener("change", () => {
      if (file.files[0]) this.take(file.files[0]);
      file.value = "";
    });
    document.addEventListener("paste", (event) => {
      const found = [...(event.clipboardData?.files ?? [])].find((one) => READS.test(one.type));
      if (!found) return;
      event.preventDefault();
      this.take(found);
    });
    let inside = 0; // enter and leave come for every element that is passed
    const over = (event, step) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      inside = Math.max(0, inside + step);
      stage.classList.toggle("over", inside > 0);
    };
    document.addEventListener("dragenter", (event) => over(event, 1));
    document.addEventListener("dragover", (event) => over(event, 0));
    document.addEventListener("dragleave", (event) => over(event, -1));
    document.addEventListener("drop", (event) => {
      over(event, -inside);
      const [found] = event.dataTransfer?.files ?? [];
      if (found) this.take(found);
    });
  }

  /** A line about the picture: its size, or its name where this browser cannot show it. */
  get note() {
    if (!this.#own) return "";
    return this.#image ? `${this.#image.naturalWidth} × ${this.#image.naturalHeight} pixels` : this.#file.name;
  }

  /** The picture is this file from now on. */
  async take(file) {
    if (!READS.test(file.type) && !READS.test(file.name ?? "")) {
      this.#told.failed(`${file.name || "That"} is not a picture.`);
      return;
    }
    if (file.type === "image/svg+xml") {
      this.#told.failed("An SVG is no picture of pixels; save it as PNG first.");
      return;
    }
    this.#own = true;
    await this.#set(file);
    this.#told.arrived();
  }

  /** A picture for a first look, made by `paint()`, unless the user has given one. */
  async example(paint) {
    if (this.#own) return;
    const blob = await png(paint());
    if (this.#own) return;
    await this.#set(blob);
    this.#told.changed();
  }

  async #set(file) {
    const image = await decoded(file).catch(() => null);
    if (this.#image) URL.revokeObjectURL(this.#image.src);
    this.#file = file;
    this.#image = image;
    const { "upload-shown": shown, edit } = this.#parts;
    edit.disabled = !image;
    if (image) {
      shown.src = image.src;
      fit(shown, image.naturalWidth, image.naturalHeight);
    } else {
      shown.removeAttribute("src");
      shown.alt = `${file.name}: this browser cannot show it; it is sent as it is`;
    }
  }

  /** Pixels at most `side` wide and high (0: as they are), in the picture's own shape; null without a picture. */
  async pixels(side) {
    if (!this.#image) return null;
    const { naturalWidth, naturalHeight } = this.#image;
    const scale = side ? Math.min(1, side / Math.max(naturalWidth, naturalHeight)) : 1;
    const [width, height] = [naturalWidth, naturalHeight].map((one) => Math.max(1, Math.round(one * scale)));
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    context.imageSmoothingQuality = "high";
    context.drawImage(this.#image, 0, 0, width, height);
    return context.getImageData(0, 0, width, height);
  }

  /** A Blob to send. A picture that fits into `side` goes as the file that it is; labels stay exact classes. */
  async picture(side, labels) {
    if (!this.#file) return null;
    const most = this.#image ? Math.max(this.#image.naturalWidth, this.#image.naturalHeight) : 0;
    if ((!side || most <= side) && (TAKES.test(this.#file.type) || !this.#image)) return this.#file;
    const pixels = await this.pixels(side);
    if (labels) toClasses(pixels.data);
    return png(pixels);
  }
}
