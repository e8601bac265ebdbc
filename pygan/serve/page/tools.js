/** What the boards are drawn with: the tool, its size, its colour or class; and the acts on a whole board. */

import { arrows, group } from "./buttons.js";
import { CLASSES, colourOf } from "./palette.js";

const PAPER = "#ffffff";

export class Tools {
  #parts;
  #told;
  #tool = "brush";
  #label = "window";
  #sizes = { draw: 4, labels: 20 }; // as the slider has them: in pixels of a board that is 256 wide
  #buttons;

  /** told: {board() -> Board or undefined, act(what), changed()}: what is drawn on now, do that to it, another brush. */
  constructor(parts, told) {
    this.#parts = parts;
    this.#told = told;
    this.#buttons = [...document.querySelectorAll("[data-tool]")];
    parts.palette.append(...CLASSES.map(swatch));
    group(parts.palette, this.#label, (label) => {
      this.#label = label;
      if (this.#tool === "eraser") this.#choose("brush");
    });
    for (const one of this.#buttons) {
      one.addEventListener("click", () => this.#choose(one.dataset.tool));
      one.addEventListener("keydown", (event) => arrows(event, this.#buttons));
    }
    this.#choose(this.#tool);
    parts.size.addEventListener("input", () => this.#size(parts.size.value));
    parts.undo.addEventListener("click", () => told.act((board) => board.undo()));
    parts.redo.addEventListener("click", () => told.act((board) => board.redo()));
    parts.flood.addEventListener("click", () => told.act((board) => board.flood(this.brush().colour)));
    parts.clear.addEventListener("click", () => told.act((board) => board.flood(nothing(board))));
    document.addEventListener("keydown", (event) => this.#key(event));
  }

  /** {tool, radius, colour}: "brush", "rect" or "fill"; radius in pixels of the board. eraser: in any case. */
  brush(eraser = false) {
    const board = this.#told.board();
    const tool = eraser ? "eraser" : this.#tool;
    const colour = board?.hard ? colourOf(this.#label) : this.#parts.colour.value;
    const radius = Math.max(0.5, (Number(this.#parts.size.value) * (board?.width ?? 256)) / 512);
    return tool === "eraser" ? { tool: "brush", radius, colour: nothing(board) } : { tool, radius, colour };
  }

  /** The slider as the board of that kind had it. */
  show(way) {
    this.#parts.size.value = this.#sizes[way];
  }

  #choose(tool) {
    this.#tool = tool;
    for (const one of this.#buttons) {
      one.setAttribute("aria-checked", String(one.dataset.tool === tool));
      one.tabIndex = one.dataset.tool === tool ? 0 : -1;
    }
    this.#told.changed();
  }

  #size(value) {
    this.#parts.size.value = value; // within its bounds
    this.#sizes[this.#told.board()?.hard ? "labels" : "draw"] = this.#parts.size.value;
    this.#told.changed();
  }

  #key(event) {
    const typing = event.target.closest?.("input:not([type=range]), textarea, select, dialog");
    if (typing || !this.#told.board() || event.altKey) return;
    const letter = event.key.toLowerCase();
    if (event.ctrlKey || event.metaKey) {
      const redo = letter === "y" || (letter === "z" && event.shiftKey);
      if (letter !== "z" && !redo) return;
      event.preventDefault();
      this.#told.act((board) => (redo ? board.redo() : board.undo()));
      return;
    }
    const tool = { b: "brush", e: "eraser", r: "rect", f: "fill" }[letter];
    const size = Number(this.#parts.size.value);
    if (tool) this.#choose(tool);
    else if (letter === "[") this.#size(Math.round(Math.min(size - 1, size * 0.8)));
    else if (letter === "]") this.#size(Math.round(Math.max(size + 1, size * 1.25)));
  }
}

function nothing(board) {
  return board?.hard ? colourOf("background") : PAPER;
}

function swatch([name, colour]) {
  const button = Object.assign(document.createElement("button"), { type: "button" });
  button.dataset.value = name;
  const square = document.createElement("i");
  square.style.backgroundColor = colour;
  button.append(square, Object.assign(document.createElement("span"), { textContent: name }));
  return button;
}
