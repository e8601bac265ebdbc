/** The twelve classes of the facades (CMP) and the exact colour of each: what `pygan.data.facades` calls PALETTE[1:]. */
export const CLASSES = [
  ["background", "#0000aa"],
  ["facade", "#0000ff"],
  ["window", "#0055ff"],
  ["door", "#00aaff"],
  ["cornice", "#00ffff"],
  ["sill", "#55ffaa"],
  ["balcony", "#aaff55"],
  ["blind", "#ffff00"],
  ["deco", "#ffaa00"],
  ["molding", "#ff5500"],
  ["pillar", "#ff0000"],
  ["shop", "#aa0000"],
];

/** "#rrggbb" -> [r, g, b], each 0..255. */
export function rgb(hex) {
  return [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
}

/** The colour of a class by its name. */
export function colourOf(name) {
  return CLASSES.find((one) => one[0] === name)[1];
}

/** Every pixel of RGBA bytes, in place, to the class colour next to it, opaque: a picture that is labels for sure. */
export function toClasses(data) {
  const colours = CLASSES.map((one) => rgb(one[1]));
  for (let k = 0; k < data.length; k += 4) {
    let best = colours[0];
    let least = Infinity;
    for (const one of colours) {
      const off = (data[k] - one[0]) ** 2 + (data[k + 1] - one[1]) ** 2 + (data[k + 2] - one[2]) ** 2;
      if (off < least) [best, least] = [one, off];
    }
    [data[k], data[k + 1], data[k + 2], data[k + 3]] = [...best, 255];
  }
}
