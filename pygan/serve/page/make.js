/** Pictures from noise, or from noise and a sentence: how many, which seed, what text. */

const MOST_SEED = 2 ** 32;

export class Make {
  #parts;
  #live;
  #told;

  /** live: the page's one line to the server; told: {model(), show(blobs, ms)}. */
  constructor(parts, live, told) {
    this.#parts = parts;
    this.#live = live;
    this.#told = told;
    parts.make.addEventListener("submit", (event) => {
      event.preventDefault();
      this.begin();
    });
    for (const name of ["make-number", "make-seed", "make-text"]) {
      parts[name].addEventListener("change", () => this.begin());
    }
    parts["make-dice"].addEventListener("click", () => {
      parts["make-seed"].value = Math.floor(Math.random() * 10_000);
      this.begin();
    });
  }

  /** The form for another model. */
  model({ needs_text: text, gan }, most) {
    this.#parts["make-number"].max = most;
    const { "make-text-box": box, "make-text": field, "make-about": about } = this.#parts;
    box.hidden = !text;
    if (text && !field.value) field.value = "a small bird with a red breast and blue wings";
    about.textContent = text
      ? `${gan} paints what a sentence says, from noise that the seed decides.`
      : `${gan} makes pictures from noise that the seed decides.`;
  }

  /** Ask for the pictures that the form says. */
  begin() {
    const model = this.#told.model();
    if (!model || !model.acts?.includes("generate")) return;
    if (model.needs_text && !this.#parts["make-text"].value.trim()) return;
    this.#live.ask(async () => {
      const most = Number(this.#parts["make-number"].max);
      const asked = { n: this.#number("make-number", 1, most), seed: this.#number("make-seed", 0, MOST_SEED - 1) };
      if (model.needs_text) asked.text = this.#parts["make-text"].value.trim();
      const path = `/v1/generate/${encodeURIComponent(model.name)}`;
      const headers = { "Content-Type": "application/json" };
      const show = async ({ blob }, ms) => this.#told.show(await pictures(blob), ms);
      return { path, options: { method: "POST", body: JSON.stringify(asked), headers }, show };
    });
  }

  #number(name, least, most) {
    const field = this.#parts[name];
    const value = Math.min(Math.max(Math.floor(Number(field.value)) || 0, least), most);
    if (field.value !== String(value)) field.value = value;
    return value;
  }
}

/** The pictures of an answer: one picture, or JSON with many as base64. */
async function pictures(blob) {
  if (!blob.type.includes("json")) return [blob];
  const { results } = JSON.parse(await blob.text());
  return results
    .filter((one) => one.image)
    .map((one) => {
      const bytes = Uint8Array.from(atob(one.image), (letter) => letter.charCodeAt(0));
      return new Blob([bytes], { type: one.media_type });
    });
}
