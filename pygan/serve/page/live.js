/** Asking the server: one request in flight, the newest wins; it waits, tries again and never hangs. */

const MOST_MS = 120_000; // for one answer
const FIRST_WAIT_S = 0.5; // before a server that does not answer is asked again; doubled each time
const LAST_WAIT_S = 5;

/** What went wrong, in one line. status: of HTTP, 0 where there was no answer; after: seconds to wait, if to go on. */
export class Trouble extends Error {
  constructor(message, status, after = null) {
    super(message);
    this.status = status;
    this.after = after;
  }
}

const PLAINLY = {
  401: "The server asks for a key.",
  404: "The server does not have this model any more.",
  408: "The picture took too long to arrive. Is the network slow?",
  413: "The picture is larger than the server takes. Choose a smaller size.",
  415: "The server does not read this kind of picture.",
  422: "The server cannot use this picture.",
  429: "The server is busy.",
  503: "The server has no room at the moment.",
  504: "The network took too long. Try a smaller picture.",
};

async function troubleOf(response) {
  const { status } = response;
  const said = await response.json().then(
    (body) => (typeof body?.error === "string" ? body.error : ""),
    () => "",
  );
  const plain = PLAINLY[status] ?? (status >= 500 ? "The server failed." : "The server refused.");
  const line = said ? `${plain.replace(/\.$/, "")}: ${said.replace(/\.$/, "")}.` : plain;
  const asked = Number.parseFloat(response.headers.get("Retry-After"));
  const again = status === 429 || status === 503 || status === 502;
  return new Trouble(line, status, again ? Math.max(0.2, Number.isFinite(asked) ? asked : 1) : null);
}

/** fetch that throws `Trouble` for everything but a 2xx answer. Aborted by `signal`, it throws the AbortError. */
export async function call(path, options = {}, signal = undefined) {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), MOST_MS);
  const stop = () => limit.abort();
  signal?.addEventListener("abort", stop);
  try {
    signal?.throwIfAborted();
    const response = await fetch(path, { ...options, signal: limit.signal, credentials: "same-origin" });
    if (!response.ok) throw await troubleOf(response);
    return { blob: await response.blob(), headers: response.headers };
  } catch (error) {
    if (error instanceof Trouble || signal?.aborted) throw error;
    if (limit.signal.aborted) throw new Trouble(`No answer for ${MOST_MS / 1000} seconds.`, 0);
    throw new Trouble("The server does not answer.", 0, FIRST_WAIT_S);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
}

/**
 * The newest job, and only that. A job is a function that makes {path, options, ...} at the moment it is sent.
 * told: {busy(yes), start(), result(request, answer, ms), trouble(error, seconds|null), key() -> Promise}.
 */
export class Live {
  #told;
  #next = null;
  #busy = false;
  #abort = null;
  #wake = null;
  #misses = 0;

  constructor(told) {
    this.#told = told;
  }

  get busy() {
    return this.#busy;
  }

  /** Send this when the request before it is done; what waited until now is forgotten. */
  ask(job) {
    this.#next = job;
    this.#pump();
  }

  /** Forget what waits and what is in flight: its answer is of no interest any more. */
  cancel() {
    this.#next = null;
    this.#abort?.abort();
    this.now();
  }

  /** Do not wait any longer before the next try. */
  now() {
    this.#wake?.();
  }

  async #pump() {
    if (this.#busy) return;
    this.#busy = true;
    this.#told.busy(true);
    while (this.#next) {
      const job = this.#next;
      this.#next = null;
      await this.#one(job);
    }
    this.#busy = false;
    this.#told.busy(false);
  }

  async #one(job) {
    const abort = new AbortController();
    this.#abort = abort;
    try {
      const request = await job();
      if (!request || abort.signal.aborted) return;
      this.#told.start();
      const begin = performance.now();
      const answer = await call(request.path, request.options, abort.signal);
      if (abort.signal.aborted) return;
      this.#misses = 0;
      await this.#told.result(request, answer, performance.now() - begin);
    } catch (error) {
      if (abort.signal.aborted) return;
      await this.#again(job, error, abort.signal);
    }
  }

  async #again(job, error, signal) {
    if (error.status === 401) {
      await this.#told.key();
      if (!signal.aborted) this.#next ??= job;
      return;
    }
    const after = error instanceof Trouble ? error.after : null;
    if (after === null) {
      this.#told.trouble(error, null);
      return;
    }
    const seconds = error.status ? after : Math.min(after * 2 ** this.#misses++, LAST_WAIT_S);
    this.#told.trouble(error, seconds);
    await new Promise((wake) => {
      this.#wake = wake;
      setTimeout(wake, 1000 * seconds);
    });
    this.#wake = null;
    if (!signal.aborted) this.#next ??= job;
  }
}
