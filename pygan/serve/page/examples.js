/** Pictures to begin with, so that a first look shows something: a house front, a drawing, a painted scene. */

import { colourOf, rgb } from "./palette.js";

/** A house front in the classes of the facades, every pixel a class. ImageData (side, side). */
export function facade(side) {
  const pixels = new ImageData(side, side);
  const box = (name, left, top, right, bottom) => {
    const [r, g, b] = rgb(colourOf(name));
    for (let y = Math.round(top * side); y < Math.round(bottom * side); y++) {
      for (let x = Math.round(left * side); x < Math.round(right * side); x++) {
        pixels.data.set([r, g, b, 255], 4 * (y * side + x));
      }
    }
  };
  box("background", 0, 0, 1, 1);
  box("facade", 0.08, 0.14, 0.92, 1);
  box("cornice", 0.05, 0.12, 0.95, 0.17);
  box("molding", 0.08, 0.44, 0.92, 0.455);
  box("molding", 0.08, 0.715, 0.92, 0.735);
  for (const row of [0.23, 0.5]) {
    for (const left of [0.155, 0.335, 0.55, 0.73]) {
      box("window", left, row, left + 0.115, row + 0.15);
      box("sill", left - 0.012, row + 0.15, left + 0.127, row + 0.17);
      if (row < 0.3) box("deco", left, row - 0.022, left + 0.115, row);
    }
  }
  box("balcony", 0.32, 0.62, 0.68, 0.675);
  box("blind", 0.155, 0.5, 0.27, 0.55);
  box("blind", 0.73, 0.5, 0.845, 0.55);
  box("pillar", 0.08, 0.17, 0.105, 1);
  box("pillar", 0.895, 0.17, 0.92, 1);
  box("shop", 0.14, 0.78, 0.4, 1);
  box("door", 0.455, 0.79, 0.565, 1);
  box("shop", 0.62, 0.78, 0.86, 1);
  return pixels;
}

function painted(side, paint) {
  const canvas = Object.assign(document.createElement("canvas"), { width: side, height: side });
  const context = canvas.getContext("2d", { alpha: false });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, side, side);
  context.scale(side / 100, side / 100);
  context.lineCap = context.lineJoin = "round";
  paint(context);
  return context.getImageData(0, 0, side, side);
}

/** A white board. ImageData (side, side). */
export function blank(side) {
  const pixels = new ImageData(side, side);
  pixels.data.fill(255);
  return pixels;
}

/** The pixels with every one black or white: edges as a network that was trained on Canny's knows them. */
export function ink({ data, width, height }) {
  const pixels = new ImageData(width, height);
  for (let k = 0; k < data.length; k += 4) {
    const white = 0.299 * data[k] + 0.587 * data[k + 1] + 0.114 * data[k + 2] >= 128;
    pixels.data.set([255 * white, 255 * white, 255 * white, 255], k);
  }
  return pixels;
}

/** A small house in black lines on white. ImageData (side, side). */
export function lines(side) {
  return painted(side, (to) => {
    to.lineWidth = 1.6;
    to.strokeStyle = "#000";
    to.stroke(new Path2D("M6 84 H94 M22 84 V46 H74 V84 M16 48 L48 20 L80 48 M62 32 V22 H69 V39"));
    to.stroke(new Path2D("M42 84 V64 a6 6 0 0 1 12 0 V84 M28 54 h9 v10 h-9 z M32.5 54 v10 M28 59 h9"));
    to.stroke(new Path2D("M60 54 h9 v10 h-9 z M64.5 54 v10 M60 59 h9 M51.5 73 v1"));
    to.stroke(new Path2D("M42 36 a6 6 0 1 0 12 0 a6 6 0 1 0 -12 0 M10 20 a7 7 0 1 0 14 0 a7 7 0 1 0 -14 0"));
    to.stroke(new Path2D("M86 84 V62 M86 68 c-8 -2 -8 -16 0 -20 c8 4 8 18 0 20"));
  });
}

/** A coloured scene: hills, a house, the sun. ImageData (side, side). */
export function scene(side) {
  return painted(side, (to) => {
    const shape = (path, fill) => {
      to.fillStyle = fill;
      to.fill(new Path2D(path));
    };
    const fade = (top, bottom, first, last) => {
      const gradient = to.createLinearGradient(0, top, 0, bottom);
      gradient.addColorStop(0, first);
      gradient.addColorStop(1, last);
      return gradient;
    };
    shape("M0 0 H100 V100 H0 z", fade(0, 60, "#5f9fd8", "#e4eef2"));
    shape("M70 18 a8 8 0 1 0 16 0 a8 8 0 1 0 -16 0", "#fff3c4");
    shape("M0 58 Q18 30 38 52 Q56 26 78 50 Q90 42 100 48 V100 H0 z", fade(30, 70, "#7c97ad", "#a9bdb0"));
    shape("M0 66 Q30 52 58 64 T100 60 V100 H0 z", fade(52, 100, "#78a35a", "#4d7d3f"));
    shape("M0 82 Q40 70 100 84 V100 H0 z", fade(70, 100, "#5b8e45", "#33612f"));
    shape("M50 100 Q46 86 54 76 L58 76 Q56 88 66 100 z", "#cdb98f");
    shape("M42 58 H68 V78 H42 z", fade(58, 78, "#e9d9b8", "#d3bd93"));
    shape("M38 59 L55 44 L72 59 z", fade(44, 59, "#b0573f", "#8c3f30"));
    shape("M52 67 H58 V78 H52 z", "#6b4a33");
    shape("M45 63 h5 v6 h-5 z M60.5 63 h5 v6 h-5 z", "#5d7f9c");
    shape("M20 80 V68 h3 V80 z", "#5e4630");
    shape("M11 66 a10.5 12 0 1 0 21 0 a10.5 12 0 1 0 -21 0", fade(54, 78, "#5f9a4a", "#2f6331"));
    shape("M84 84 V74 h2.5 V84 z", "#5e4630");
    shape("M85 50 L94 77 H76.5 z", fade(50, 77, "#3f7d4c", "#28573a"));
  });
}

/** A simple face. ImageData (side, side). */
export function face(side) {
  return painted(side, (to) => {
    const ellipse = (x, y, width, height, fill, from = 0, until = 2 * Math.PI) => {
      to.fillStyle = fill;
      to.beginPath();
      to.ellipse(x, y, width, height, 0, from, until);
      to.fill();
    };
    to.fillStyle = "#a9bccb";
    to.fillRect(0, 0, 100, 100);
    ellipse(50, 47, 33, 38, "#5a3d28");
    ellipse(50, 104, 36, 22, "#54708a");
    to.fillStyle = "#d9a884";
    to.fillRect(42, 74, 16, 14);
    ellipse(50, 54, 25, 31, "#ecc3a0");
    ellipse(50, 33, 27, 17, "#5a3d28", Math.PI, 0);
    for (const x of [39.5, 60.5]) {
      ellipse(x, 51, 5, 3.2, "#fff");
      ellipse(x, 51, 2.6, 2.8, "#4b3626");
      ellipse(x, 44.5, 6, 1.1, "#4a3222");
    }
    ellipse(50, 60, 2.6, 4.5, "#dfae8a");
    ellipse(50, 71, 8, 3.4, "#b5574f", 0, Math.PI);
  });
}
