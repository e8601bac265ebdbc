/** Pointers and keys on the drawing boards, and the ring that shows where the brush is and how large. */

const STEP = 1 / 64; // of the board's width, for one press of an arrow key; a quarter of it with Shift

/**
 * boards: {draw, labels}; overlay: the canvas over them; how(): {tool, radius (pixels of the picture), colour}.
 * told: {stroke(), end()}: the picture has changed, a stroke is complete.
 */
export class Pen {
  #overlay;
  #how;
  #told;
  #pointer = null;
  #ring = null; // {board, x, y, keys}: in pixels of the picture

  constructor(boards, overlay, how, told) {
    this.#overlay = overlay;
    this.#how = how;
    this.#told = told;
    for (const board of boards) this.#listen(board);
    window.addEventListener("blur", () => this.hide());
  }

  /** A stroke that was not finished (another tab, another board) ends here. */
  finish(board) {
    if (board.drawing) {
      board.end();
      this.#told.end();
    }
    this.#pointer = null;
    this.hide();
  }

  hide() {
    this.#ring = null;
    this.paint();
  }

  #place(board, event) {
    const box = board.canvas.getBoundingClientRect();
    return [
      ((event.clientX - box.left) / box.width) * board.width,
      ((event.clientY - box.top) / box.height) * board.height,
    ];
  }

  /** A pen that feels pressure draws thin to thick, 1 at half of it; a finger and a mouse as the slider says. */
  #radius(event) {
    const { radius } = this.#how();
    return event.pointerType === "pen" && event.pressure > 0 ? radius * (0.3 + 1.4 * event.pressure) : radius;
  }

  #listen(board) {
    const { canvas } = board;
    canvas.addEventListener("pointerdown", (event) => {
      if (this.#pointer !== null || event.button > 0 || !event.isPrimary) return;
      event.preventDefault();
      canvas.focus({ preventScroll: true, focusVisible: false });
      const { tool, colour } = this.#how(event.buttons === 32); // 32: the other end of a pen
      const [x, y] = this.#place(board, event);
      this.#show(board, x, y, false);
      if (tool === "fill") {
        board.fill(x, y, colour);
        this.#told.end();
        return;
      }
      this.#pointer = event.pointerId;
      canvas.setPointerCapture(event.pointerId);
      board.begin(tool, x, y, this.#radius(event), colour);
      this.#told.stroke();
    });
    canvas.addEventListener("pointermove", (event) => {
      const [x, y] = this.#place(board, event);
      if (event.isPrimary) this.#show(board, x, y, false);
      if (event.pointerId !== this.#pointer) return;
      const between = event.getCoalescedEvents?.() ?? [];
      for (const one of between.length ? between : [event]) board.move(...this.#place(board, one), this.#radius(one));
      this.#told.stroke();
    });
    canvas.addEventListener("pointerup", (event) => {
      if (event.pointerId !== this.#pointer) return;
      this.#pointer = null;
      board.end();
      this.#told.end();
      if (event.pointerType === "touch") this.hide();
    });
    canvas.addEventListener("pointercancel", (event) => {
      if (event.pointerId !== this.#pointer) return;
      this.#pointer = null;
      board.cancel();
      this.#told.end();
      this.hide();
    });
    canvas.addEventListener("pointerleave", () => {
      if (this.#pointer === null) this.hide();
    });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("keydown", (event) => this.#key(board, event));
    canvas.addEventListener("blur", () => {
      if (this.#ring?.keys) this.finish(board);
    });
  }

  #key(board, event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const way = ways[event.key];
    const pen = event.key === " " || event.key === "Enter";
    if (!way && !pen) return;
    event.preventDefault();
    const at = this.#ring?.board === board ? this.#ring : { x: board.width / 2, y: board.height / 2 };
    const step = Math.max(1, board.width * STEP * (event.shiftKey ? 0.25 : 1));
    const inside = (value, most) => Math.min(Math.max(value, 0.5), most - 0.5);
    const x = inside(at.x + step * (way?.[0] ?? 0), board.width);
    const y = inside(at.y + step * (way?.[1] ?? 0), board.height);
    this.#show(board, x, y, true);
    const { tool, radius, colour } = this.#how();
    if (pen && board.drawing) {
      board.end();
      this.#told.end();
    } else if (pen && tool === "fill") {
      board.fill(x, y, colour);
      this.#told.end();
    } else if (pen) {
      board.begin(tool, x, y, radius, colour);
      this.#told.stroke();
    } else if (board.drawing) {
      board.move(x, y, radius);
      this.#told.stroke();
    }
  }

  #show(board, x, y, keys) {
    this.#ring = { board, x, y, keys };
    this.paint();
  }

  /** The ring, at the resolution of the screen. */
  paint() {
    const canvas = this.#overlay;
    const ratio = window.devicePixelRatio || 1;
    const area = canvas.getBoundingClientRect();
    const [width, height] = [Math.round(area.width * ratio), Math.round(area.height * ratio)];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    if (!this.#ring) return;
    const { board, x, y, keys } = this.#ring;
    const box = board.canvas.getBoundingClientRect();
    const scale = (box.width / board.width) * ratio;
    const [left, top] = [(box.left - area.left) * ratio + x * scale, (box.top - area.top) * ratio + y * scale];
    const { tool, radius } = this.#how();
    const ring = tool === "brush" || tool === "eraser" ? Math.max(radius * scale, 2 * ratio) : 4 * ratio;
    for (const [colour, thick] of [["rgb(255 255 255 / 90%)", 3], ["rgb(0 0 0 / 85%)", 1.2]]) {
      context.strokeStyle = colour;
      context.lineWidth = thick * ratio;
      context.beginPath();
      context.arc(left, top, ring, 0, 2 * Math.PI);
      if (keys || ring === 4 * ratio) {
        const arm = ring + 7 * ratio;
        context.moveTo(left - arm, top);
        context.lineTo(left + arm, top);
        context.moveTo(left, top - arm);
        context.lineTo(left, top + arm);
      }
      context.stroke();
    }
  }
}
