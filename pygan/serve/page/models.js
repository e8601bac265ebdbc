/** What a model of /v1/models takes and gives, in words, and the way of giving it a picture that fits best. */

/** The direction that a request means where none is named. */
export function firstDirection(model) {
  return model.options?.direction?.[0] ?? "";
}

function channels(model, direction) {
  return model.channels?.[direction] ?? model.channels?.[""] ?? Object.values(model.channels ?? {})[0] ?? [3, 3];
}

/** Does it read the class colours of facades? Then the server says their palette. */
export function readsLabels(model, direction) {
  if (!model.palette) return false;
  return model.prepare !== "labels" || channels(model, direction)[0] === 12;
}

/** Was it trained on the edges that Canny finds? Then a drawing goes as pure black and white. */
export function readsEdges(model) {
  return model.prepare === "canny";
}

/** Does it see no colour? */
export function isGrey(model, direction) {
  return readsEdges(model) || ["grey", "lab"].includes(model.prepare) || channels(model, direction)[0] === 1;
}

function hasFaces(model) {
  return Boolean(model.options?.to?.length);
}

/** The ways that make sense with a model, the best first: draw, labels, upload, camera, make. */
export function ways(model, direction) {
  const acts = model.acts ?? ["translate"];
  const make = acts.includes("generate") ? ["make"] : [];
  if (!acts.includes("translate")) return make;
  if (readsLabels(model, direction)) return ["labels", "upload", "draw", "camera", ...make];
  if (model.prepare === "canny" || channels(model, direction)[0] === 1) return ["draw", "upload", "camera", ...make];
  const labels = model.prepare === "none" && !hasFaces(model) ? ["labels"] : []; // of the user's own pairs, who knows
  return ["upload", "draw", "camera", ...labels, ...make];
}

/** The picture to begin with on the "Picture" tab: "face" or "scene". */
export function sceneOf(model) {
  return hasFaces(model) ? "face" : "scene";
}

/** Height and width in pixels that it was trained with; 0: not said. */
export function trainedSize(model) {
  return Number(model.size) || 0;
}

const PREPARED = {
  canny: "the edges of a picture",
  grey: "the grey of a picture",
  lab: "the lightness of a picture",
  mask: "a picture whose middle is missing",
};

function many(count) {
  if (count === 3) return "a colour picture";
  return count === 1 ? "a grey picture" : `a picture of ${count} channels`;
}

/** One line: what it takes and gives. */
export function describe(model, direction) {
  if (!(model.acts ?? []).includes("translate")) {
    return `Makes pictures from ${model.needs_text ? "a sentence" : "noise"}`;
  }
  const [takes, gives] = channels(model, direction);
  const from = readsLabels(model, direction) ? "facade labels" : (PREPARED[model.prepare] ?? many(takes));
  const into = model.shows === "labels" ? "facade labels" : model.shows === "ab" ? "its colours" : many(gives);
  return `Takes ${from}, gives ${into}`;
}

/** How long it was trained, to be put behind that line; "" where it is not said. */
export function experience(model) {
  const seen = Number(model.images_seen) || 0;
  return seen ? ` · trained on ${seen.toLocaleString("en")} image${seen === 1 ? "" : "s"}` : "";
}

/** The name of a direction on its button. */
export function directionName(direction) {
  return { AtoB: "A → B", BtoA: "B → A" }[direction] ?? direction;
}
