/** The result: shown without a flicker, compared with what was given, saved, copied. */

const SMALL = 64; // pixels: a picture with fewer on its longer side is shown as squares, not blurred

/** Let an element have the shape of a picture within a square, as large as fits. */
export function fit(element, width, height) {
  element.style.width = `${width >= height ? 100 : (100 * width) / height}%`;
  element.style.height = `${height >= width ? 100 : (100 * height) / width}%`;
  element.classList.toggle("small", Math.max(width, height) < SMALL);
}

/** A Blob as an <img> that is decoded; its address is to be revoked. Throws if it is no picture that is known here. */
export async function decoded(blob) {
  const image = new Image();
  image.src = URL.createObjectURL(blob);
  try {
    await image.decode();
  } catch (error) {
    URL.revokeObjectURL(image.src);
    throw error;
  }
  return image;
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export class Shown {
  #parts;
  #blob = null; // of the result
  #name = "result";
  #held = false;

  /** parts: the elements by their id. */
  constructor(parts) {
    this.#parts = parts;
    const { shown, compare, copy } = parts;
    parts.save.addEventListener("click", () => save(this.#blob, `${this.#name}.png`));
    parts["save-pair"].addEventListener("click", async () => save(await this.#pair(), `${this.#name}-pair.png`));
    compare.addEventListener("input", () => this.#cut());
    copy.hidden = !(navigator.clipboard?.write && window.ClipboardItem);
    copy.addEventListener("click", () => this.#copy());
    const hold = (held) => {
      this.#held = held;
      this.#cut();
    };
    shown.addEventListener("pointerdown", (event) => {
      if (event.button === 0 && !event.target.closest("#grid")) hold(true);
    });
    shown.addEventListener("contextmenu", (event) => {
      if (this.#held) event.preventDefault(); // a long press of a finger compares
    });
    for (const name of ["pointerup", "pointercancel", "blur"]) window.addEventListener(name, () => hold(false));
  }

  /** A new result. given: Blob of what it was made from, or null; name: of the files that are saved. */
  async set(blob, given, name) {
    const { result, under, nothing, grid } = this.#parts;
    const made = await decoded(blob);
    const before = given && (await decoded(given).catch(() => null));
    const old = [result.src, under.src];
    result.src = made.src;
    fit(result, made.naturalWidth, made.naturalHeight);
    result.hidden = false;
    nothing.hidden = grid.hidden = true;
    if (before) {
      under.src = before.src;
      fit(under, made.naturalWidth, made.naturalHeight);
    } else {
      under.removeAttribute("src");
    }
    for (const url of old) if (url.startsWith("blob:")) URL.revokeObjectURL(url);
    this.#blob = blob;
    this.#name = name;
    this.#buttons();
    this.#cut();
  }

  /** No result yet, and a line that says why. */
  clear(line) {
    const { result, under, nothing, grid } = this.#parts;
    for (const image of [result, under]) {
      if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
      image.removeAttribute("src");
      image.hidden = true;
    }
    for (const image of grid.querySelectorAll("img")) URL.revokeObjectURL(image.src);
    grid.hidden = true;
    grid.replaceChildren();
    nothing.hidden = false;
    nothing.firstElementChild.textContent = line;
    this.#blob = null;
    this.#buttons();
  }

  /** Pictures from noise, as squares that can be chosen; Download takes the chosen one, or all on one sheet. */
  async gallery(blobs, name) {
    const { grid } = this.#parts;
    const images = await Promise.all(blobs.map(decoded));
    this.clear("");
    this.#parts.nothing.hidden = true;
    const columns = Math.ceil(Math.sqrt(images.length));
    grid.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
    const sheet = await this.#sheet(images, columns);
    const choose = (index) => {
      const buttons = [...grid.children];
      const on = buttons[index]?.getAttribute("aria-pressed") === "true";
      buttons.forEach((button, k) => button.setAttribute("aria-pressed", String(k === index && !on)));
      this.#blob = index < 0 || on ? sheet : blobs[index];
      this.#name = index < 0 || on ? name : `${name}-${index + 1}`;
    };
    images.forEach((image, k) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-label", `Picture ${k + 1}`);
      image.alt = "";
      image.draggable = false;
      image.classList.toggle("small", image.naturalWidth < SMALL);
      button.append(image);
      button.addEventListener("click", () => choose(k));
      grid.append(button);
    });
    grid.hidden = false;
    choose(-1);
    this.#buttons();
  }

  async #sheet(images, columns) {
    const { naturalWidth: width, naturalHeight: height } = images[0];
    const rows = Math.ceil(images.length / columns);
    return this.#compose(columns * width, rows * height, (to) => {
      images.forEach((image, k) => to.drawImage(image, (k % columns) * width, Math.floor(k / columns) * height));
    });
  }

  #pair() {
    const { result, under } = this.#parts;
    const { naturalWidth: width, naturalHeight: height } = result;
    return this.#compose(2 * width, height, (to) => {
      to.imageSmoothingEnabled = width > SMALL;
      to.drawImage(under, 0, 0, width, height);
      to.drawImage(result, width, 0);
    });
  }

  #compose(width, height, paint) {
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    paint(canvas.getContext("2d"));
    return new Promise((done) => canvas.toBlob(done, "image/png"));
  }

  async #copy() {
    const label = this.#parts.copy.querySelector("span");
    try {
      await navigator.clipboard.write([new ClipboardItem({ "image/png": this.#blob })]);
      label.textContent = "Copied";
    } catch {
      label.textContent = "Not allowed";
    }
    setTimeout(() => (label.textContent = "Copy"), 1500);
  }

  #buttons() {
    const { copy, under } = this.#parts;
    for (const one of [this.#parts.save, copy]) one.disabled = !this.#blob;
    this.#parts["save-pair"].disabled = this.#parts.compare.disabled = !(this.#blob && under.hasAttribute("src"));
  }

  /** The input covers the result from the left as far as the slider says; while the picture is pressed, whole. */
  #cut() {
    const { under, compare } = this.#parts;
    const share = this.#held ? 100 : Number(compare.value);
    under.hidden = share === 0 || !under.hasAttribute("src");
    under.style.clipPath = `inset(0 ${100 - share}% 0 0)`;
  }
}
