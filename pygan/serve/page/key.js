/** The key of the server: asked for in a dialog, given to /login, which keeps it in a cookie. */

export class Key {
  #parts;
  #asked = null; // the promise of a dialog that is open

  constructor(parts) {
    this.#parts = parts;
    parts["key-box"].addEventListener("close", () => {
      if (this.#asked) parts["key-box"].showModal(); // nothing works without it
    });
  }

  /** Resolves when the server has taken a key. */
  ask() {
    this.#asked ??= this.#open();
    return this.#asked;
  }

  #open() {
    const { "key-box": box, "key-form": form, "key-trouble": trouble, key } = this.#parts;
    trouble.textContent = "";
    if (!box.open) box.showModal();
    key.focus();
    return new Promise((taken) => {
      form.onsubmit = async (event) => {
        event.preventDefault();
        trouble.textContent = "";
        const body = new URLSearchParams({ key: key.value });
        try {
          const response = await fetch("/login", { method: "POST", body, credentials: "same-origin" });
          if (response.status === 401) {
            trouble.textContent = "That is not the key.";
            key.select();
            return;
          }
          if (!response.ok) throw new Error(String(response.status));
        } catch {
          trouble.textContent = "The server does not answer; try again.";
          return;
        }
        key.value = "";
        this.#asked = null;
        box.close();
        taken();
      };
    });
  }
}
