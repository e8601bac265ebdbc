/** One line of trouble over the page, and how long it is until the next try. */

export class Notice {
  #parts;
  #countdown = 0;

  /** parts: the elements by their id. */
  constructor(parts) {
    this.#parts = parts;
  }

  /** One line of trouble, or none (""). again: with a button that tries at once. */
  tell(line, { again = false } = {}) {
    clearInterval(this.#countdown);
    this.#parts["trouble-line"].textContent = line;
    this.#parts.trouble.hidden = !line;
    this.#parts.retry.hidden = !again;
  }

  /** A line that ends in what is done again by itself, in so many seconds. */
  wait(line, seconds) {
    this.tell(`${line}…`, { again: true });
    if (seconds < 2) return;
    const end = performance.now() + 1000 * seconds;
    this.#countdown = setInterval(() => {
      const left = Math.max(0, Math.ceil((end - performance.now()) / 1000));
      this.#parts["trouble-line"].textContent = left ? `${line} in ${left} s.` : `${line}…`;
    }, 500);
  }
}
