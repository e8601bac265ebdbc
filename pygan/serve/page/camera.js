/** The camera: asked for only on a click, shown as a mirror where it faces its user, given away frame by frame. */

export class Camera {
  #video;
  #stream = null;
  #facing = "user";

  constructor(video) {
    this.#video = video;
  }

  get on() {
    return this.#stream !== null;
  }

  get mirrored() {
    return this.#facing === "user";
  }

  /** Ask for the camera and show it. ended: called when it is taken away. Throws an Error with one line for the user. */
  async start(ended) {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error(
        window.isSecureContext
          ? "This browser gives no camera to pages."
          : "Browsers give the camera only to pages from https:// or from this machine itself (http://localhost).",
      );
    }
    this.stop();
    const wanted = { video: { facingMode: this.#facing, width: { ideal: 640 }, height: { ideal: 480 } }, audio: false };
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia(wanted);
    } catch (error) {
      const plain = {
        NotAllowedError: "The camera was refused. Allow it in the browser's settings of this page, then try again.",
        NotFoundError: "There is no camera.",
        NotReadableError: "Another program has the camera.",
      };
      throw new Error(plain[error.name] ?? `The camera does not start: ${error.message}`);
    }
    this.#stream = stream;
    stream.getVideoTracks()[0]?.addEventListener("ended", ended);
    this.#video.srcObject = stream;
    await this.#video.play();
  }

  /** The other camera of a phone. */
  async turn(ended) {
    this.#facing = this.mirrored ? "environment" : "user";
    await this.start(ended);
  }

  stop() {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = null;
    this.#video.srcObject = null;
  }

  hold() {
    this.#video.pause();
  }

  async goOn() {
    await this.#video.play();
  }

  get held() {
    return this.on && this.#video.paused;
  }

  /** The middle square of the frame that is shown now, ImageData (side, side); null before the first. */
  frame(side) {
    const { videoWidth: width, videoHeight: height } = this.#video;
    if (!this.on || !width || !height) return null;
    const most = Math.min(width, height);
    const canvas = new OffscreenCanvas(side, side);
    const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
    context.imageSmoothingQuality = "high";
    if (this.mirrored) context.setTransform(-1, 0, 0, 1, side, 0);
    context.drawImage(this.#video, (width - most) / 2, (height - most) / 2, most, most, 0, 0, side, side);
    return context.getImageData(0, 0, side, side);
  }
}
