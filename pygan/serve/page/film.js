/** The tab of the camera: asked for, started, held, turned and stopped; its frames are the pictures to send. */

import { Camera } from "./camera.js";

export class Film {
  #parts;
  #camera;
  #told;

  /** told: {chosen(), frame(), held()}: is the tab open? A frame may be sent. This one is to be sent, and none after. */
  constructor(parts, told) {
    this.#parts = parts;
    this.#camera = new Camera(parts["camera-shown"]);
    this.#told = told;
    const gone = () => {
      parts["camera-trouble"].textContent = "The camera was taken away.";
      this.stop();
    };
    parts["camera-start"].addEventListener("click", () => this.#begin(() => this.#camera.start(gone)));
    parts["camera-turn"].addEventListener("click", () => this.#begin(() => this.#camera.turn(gone)));
    parts["camera-stop"].addEventListener("click", () => this.stop());
    parts["camera-hold"].addEventListener("click", async () => {
      await (this.#camera.held ? this.#camera.goOn() : this.#camera.hold());
      this.show();
      if (this.#camera.held) told.held();
      else told.frame();
    });
  }

  get on() {
    return this.#camera.on;
  }

  /** Does it give one frame after the other? */
  get runs() {
    return this.on && !this.#camera.held;
  }

  frame(side) {
    return this.#camera.frame(side);
  }

  stop() {
    this.#camera.stop();
    this.show();
  }

  /** The tab as the camera is. */
  show() {
    const { on, mirrored, held } = this.#camera;
    const parts = this.#parts;
    parts["camera-ask"].hidden = on;
    parts["camera-shown"].hidden = parts["camera-tools"].hidden = !on;
    parts["camera-shown"].style.transform = mirrored ? "scaleX(-1)" : "";
    parts["camera-hold"].querySelector("span").textContent = held ? "Go on" : "Hold";
  }

  async #begin(start) {
    const trouble = this.#parts["camera-trouble"];
    trouble.textContent = "";
    try {
      await start();
      if (!this.#told.chosen()) return this.#camera.stop();
    } catch (error) {
      this.#camera.stop();
      trouble.textContent = error.message;
    }
    this.show();
    this.#told.frame();
  }
}
