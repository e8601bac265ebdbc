/** A reload, or a phone that forgets the page, loses nothing: what was drawn waits in this tab. */

import { toClasses } from "./palette.js";

/** boards: {name: Board}; model: name of the one that is chosen, or undefined. */
export function keep(boards, model) {
  try {
    for (const [name, board] of Object.entries(boards)) {
      if (board.touched) sessionStorage.setItem(`board/${name}`, board.canvas.toDataURL("image/png"));
    }
    if (model) sessionStorage.setItem("model", model);
  } catch {
    // There is no room, or no storage is allowed: then a reload begins anew.
  }
}

/** What `keep` kept, back on the boards; the name of the model, or null. */
export async function restore(boards) {
  try {
    for (const [name, board] of Object.entries(boards)) {
      const data = sessionStorage.getItem(`board/${name}`);
      if (!data) continue;
      board.load(await pixelsOf(data, board.hard), { remember: false });
      board.touched = true;
    }
    return sessionStorage.getItem("model");
  } catch {
    return null; // no storage is allowed, or it holds no picture
  }
}

async function pixelsOf(src, hard) {
  const image = Object.assign(new Image(), { src });
  await image.decode();
  const [width, height] = [image.naturalWidth, image.naturalHeight];
  const context = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, width, height);
  if (hard) toClasses(pixels.data); // browsers that protect against fingerprinting have changed them a little
  return pixels;
}
