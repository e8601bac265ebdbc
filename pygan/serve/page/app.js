/** The page of `pygan serve`: a picture on the left, by one of five ways; what the network makes of it on the right. */

import { Board } from "./board.js";
import { arrows, group } from "./buttons.js";
import * as examples from "./examples.js";
import { Film } from "./film.js";
import { keep, restore } from "./keep.js";
import { Key } from "./key.js";
import { Live } from "./live.js";
import { Make } from "./make.js";
import * as models from "./models.js";
import { Notice } from "./notice.js";
import { toClasses } from "./palette.js";
import { Pen } from "./pen.js";
import { png } from "./png.js";
import { Shown, fit } from "./show.js";
import { Tools } from "./tools.js";
import { Upload } from "./upload.js";

const parts = Object.fromEntries([...document.querySelectorAll("[id]")].map((one) => [one.id, one]));
const MOST_SEED = 2 ** 32;
const AFTER_FRAME_MS = 15; // between an answer and the next frame of the camera, so that the page can breathe

const state = {
  models: [],
  model: null,
  last: null, // name of the model before a reload
  way: "",
  options: {}, // direction, to: as the query has them
  side: 256, // of the canvas in pixels; 0: a picture from outside goes as it is
  most: 32, // pictures of one request
};
const boards = {
  draw: new Board(parts["draw-board"], { hard: false }),
  labels: new Board(parts["labels-board"], { hard: true }),
};
const shown = new Shown(parts);
const key = new Key(parts);
const notice = new Notice(parts);
const film = new Film(parts, { chosen: () => state.way === "camera", frame: sendFrame, held: send });
const upload = new Upload(parts, {
  changed: () => state.way === "upload" && send(),
  arrived: () => choose("upload"),
  failed: (line) => notice.tell(line),
});
let pen = null; // tools and pen know each other
const tools = new Tools(parts, { board: () => boards[state.way], act, changed: () => pen?.paint() });
pen = new Pen(Object.values(boards), parts.overlay, (eraser) => tools.brush(eraser), {
  stroke: () => send(),
  end: () => {
    drawn();
    send();
  },
});

const live = new Live({
  busy: (yes) => (document.body.dataset.busy = yes ? "yes" : "no"),
  start: () => mark("waiting"),
  result: showResult,
  trouble: troubled,
  key: askKey,
});
const make = new Make(parts, live, { model: () => state.model, show: showGallery });

// What is shown of the state of things.

let results = 0; // that were shown since the page was opened

function mark(word) {
  document.body.dataset.state = word;
  document.body.dataset.results = String(results);
}

function troubled(error, seconds) {
  mark("trouble");
  const line = error.status || !(error instanceof TypeError) ? error.message : `The page failed: ${error.message}`;
  if (seconds === null) {
    notice.tell(line, { again: error.status === 504 || error.status === 0 || error.status === 408 });
    if (error.status === 404) setTimeout(load, 1000);
    if (state.way === "camera") setTimeout(sendFrame, 1000);
    return;
  }
  notice.wait(error.status ? `${line} Trying again` : `${line} Your picture is kept; trying again`, seconds);
}

async function askKey() {
  mark("trouble");
  notice.tell("");
  await key.ask();
}

async function showResult(request, answer, ms) {
  if (request.show) return request.show(answer, ms);
  await shown.set(answer.blob, request.given, `${state.model.name}-result`.replace(/[^\w.-]+/g, "_"));
  done(ms);
  if (state.way === "camera") setTimeout(sendFrame, AFTER_FRAME_MS);
}

async function showGallery(blobs, ms) {
  const name = `${state.model.name}-made`.replace(/[^\w.-]+/g, "_");
  await (blobs.length === 1 ? shown.set(blobs[0], null, name) : shown.gallery(blobs, name));
  done(ms);
}

function done(ms) {
  results += 1;
  notice.tell("");
  mark("shown");
  const rate = state.way === "camera" && film.on ? ` · ${(1000 / (ms + AFTER_FRAME_MS)).toFixed(1)}/s` : "";
  parts.latency.textContent = `${ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`}${rate}`;
}

// Sending.

/** The picture of the way that is chosen: {blob, type}; null where there is none yet. */
async function picture() {
  const labels = models.readsLabels(state.model, state.options.direction);
  if (state.way === "upload") return upload.picture(state.side, labels);
  if (state.way === "camera") {
    const frame = film.frame(state.side);
    return frame && png(frame);
  }
  const { pixels } = boards[state.way];
  return png(state.way === "draw" && models.readsEdges(state.model) ? examples.ink(pixels) : pixels);
}

function send() {
  if (!state.model || state.way === "make" || !state.way) return;
  live.ask(async () => {
    const given = await picture();
    if (!given) return null;
    const query = new URLSearchParams(state.options);
    if (state.model.chance) query.set("seed", seedOf(parts.seed));
    const asked = String(query) && `?${query}`;
    const path = `/v1/translate/${encodeURIComponent(state.model.name)}${asked}`;
    const headers = { "Content-Type": given.type || "application/octet-stream" };
    return { path, options: { method: "POST", body: given, headers }, given };
  });
}

function sendFrame() {
  if (state.way === "camera" && film.runs && !live.busy && !document.hidden) send();
}

function seedOf(input) {
  return Math.min(Math.max(Math.floor(Number(input.value)) || 0, 0), MOST_SEED - 1);
}

// Models and what each can be asked.

async function load() {
  live.ask(async () => ({
    path: "/v1/models",
    options: {},
    show: async ({ blob }) => {
      notice.tell("");
      mark("start");
      const said = JSON.parse(await blob.text());
      state.most = said.limits?.pictures ?? 32;
      take(said.models);
    },
  }));
}

function take(found) {
  const last = state.model?.name ?? state.last;
  const same = found.find((model) => model.name === last);
  state.models = found;
  const title = ({ name, gan }) => (name === gan ? name : `${name} · ${gan}`);
  parts.model.replaceChildren(...found.map((model) => new Option(title(model), model.name)));
  parts.model.disabled = found.length < 2;
  if (!found.length) return notice.tell("The server has no model.");
  setModel(same ?? found[0]);
}

function setModel(model) {
  live.cancel();
  const before = state.model;
  state.model = model;
  parts.model.value = model.name;
  shown.clear("");
  parts.latency.textContent = "";
  state.options = {};
  for (const [name, values] of Object.entries(model.options ?? {})) if (values.length) state.options[name] = values[0];
  radios(parts.direction, model.options?.direction ?? [], "direction", models.directionName);
  radios(parts.to, model.options?.to ?? [], "to", (label) => label.replaceAll("_", " "));
  parts["seed-box"].hidden = !model.chance;
  describe();
  sizes(before);
  make.model(model, state.most);
  const ways = models.ways(model, state.options.direction);
  parts.ways.classList.toggle("lone", ways.length === 1);
  for (const tab of parts.ways.children) tab.hidden = !ways.includes(tab.dataset.way);
  choose(before && ways.includes(state.way) && !first(before, model) ? state.way : ways[0]);
}

/** Does another model read another kind of picture, so that another tab is its natural one? */
function first(before, model) {
  return models.ways(before, models.firstDirection(before))[0] !== models.ways(model, models.firstDirection(model))[0];
}

function describe() {
  parts.does.textContent = models.describe(state.model, state.options.direction);
  parts.seen.textContent = models.experience(state.model);
}

function radios(box, values, option, name) {
  box.hidden = values.length < 2;
  box.replaceChildren(
    ...values.map((value) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: name(value) });
      button.dataset.value = value;
      return button;
    }),
  );
  group(box, values[0], (value) => {
    live.cancel();
    const natural = models.ways(state.model, state.options.direction)[0];
    state.options[option] = value;
    describe();
    const now = models.ways(state.model, state.options.direction)[0];
    if (now !== natural) choose(now);
    send();
  });
}

function sizes(before) {
  const own = models.trainedSize(state.model);
  const all = [...new Set([own, 256, 512].filter(Boolean))].sort((a, b) => a - b);
  const options = all.map((size) => new Option(`${size} px`, size));
  parts["canvas-size"].replaceChildren(...options, new Option("as it is", "0"));
  const kept = before && all.includes(state.side) && models.trainedSize(before) === own;
  if (!kept) state.side = own || 256;
  parts["canvas-size"].value = state.side;
  for (const board of Object.values(boards)) {
    if (board.touched) board.resize(state.side, state.side);
  }
  start();
}

/** An example on every board that nobody has drawn on. */
function start() {
  for (const [name, board] of Object.entries(boards)) {
    if (!board.touched) board.load(example(name), { remember: false });
  }
  upload.example(() => examples[models.sceneOf(state.model)](Math.max(state.side, 64)));
}

function example(name) {
  return name === "labels" ? examples.facade(state.side) : examples.lines(state.side);
}

// Ways of giving a picture.

function choose(way) {
  for (const board of Object.values(boards)) pen.finish(board);
  if (state.way === "camera" && way !== "camera") film.stop();
  state.way = way;
  for (const tab of parts.ways.children) {
    tab.setAttribute("aria-selected", String(tab.dataset.way === way));
    tab.tabIndex = tab.dataset.way === way ? 0 : -1;
  }
  parts.stage.setAttribute("aria-labelledby", `tab-${way}`);
  for (const one of document.querySelectorAll("[data-for]")) one.hidden = !one.dataset.for.split(" ").includes(way);
  parts.colour.parentElement.hidden = way !== "draw" || models.isGrey(state.model, state.options.direction);
  // "As it is" has a meaning only for a picture that came from outside.
  parts["canvas-size"].lastElementChild.hidden = way !== "upload";
  if (way !== "upload" && state.side === 0) {
    state.side = models.trainedSize(state.model) || 256;
    parts["canvas-size"].value = state.side;
    start();
  }
  if (way === "camera") film.show();
  parts.tools.hidden = parts["compare-box"].hidden = parts["save-pair"].hidden = way === "make";
  if (way === "make") {
    shown.clear("");
    make.begin();
  } else {
    if (way in boards) tools.show(way);
    drawn();
    send();
  }
}

function drawn() {
  const board = boards[state.way];
  parts.undo.disabled = !board?.canUndo;
  parts.redo.disabled = !board?.canRedo;
  for (const one of Object.values(boards)) fit(one.canvas, one.width, one.height);
  const { width, height } = board ?? { width: state.side, height: state.side };
  const trained = state.side === models.trainedSize(state.model) ? "as trained" : "";
  const own = width === state.side && height === state.side ? trained : `${width} × ${height} pixels`;
  parts["given-hint"].textContent = (state.way === "upload" && upload.note) || own;
  parts["given-hint"].classList.toggle("touchless", parts["given-hint"].textContent === trained);
}

function resized(side) {
  state.side = side;
  parts["canvas-size"].value = side;
  if (side) {
    for (const board of Object.values(boards)) if (board.touched) board.resize(side, side);
    start();
  }
  drawn();
  send();
}

function act(what) {
  const board = boards[state.way];
  if (!board) return;
  pen.finish(board);
  what(board);
  drawn();
  send();
}

async function editUpload() {
  const way = models.readsLabels(state.model, state.options.direction) ? "labels" : "draw";
  const pixels = await upload.pixels(state.side);
  if (!pixels) return;
  if (way === "labels") toClasses(pixels.data);
  boards[way].load(pixels, { remember: true });
  boards[way].touched = true;
  choose(way);
}

// What listens.

parts.model.addEventListener("change", () => setModel(state.models.find((one) => one.name === parts.model.value)));
parts.ways.addEventListener("click", (event) => {
  const tab = event.target.closest("[role=tab]");
  if (tab) choose(tab.dataset.way);
});
parts.ways.addEventListener("keydown", (event) => arrows(event, [...parts.ways.children]));
parts.retry.addEventListener("click", () => {
  live.now();
  if (!state.model) load();
  else if (state.way === "make") make.begin();
  else send();
});
parts.example.addEventListener("click", () => act((board) => board.load(example(state.way), { remember: true })));
parts.edit.addEventListener("click", editUpload);
parts["canvas-size"].addEventListener("change", () => resized(Number(parts["canvas-size"].value)));
parts.seed.addEventListener("input", () => send());
parts.seed.addEventListener("change", () => (parts.seed.value = seedOf(parts.seed)));
parts.dice.addEventListener("click", () => {
  parts.seed.value = Math.floor(Math.random() * 10_000);
  send();
});
window.addEventListener("resize", () => pen.hide());
const keepAll = () => keep(boards, state.model?.name);
window.addEventListener("pagehide", keepAll);
document.addEventListener("visibilitychange", () => (document.hidden ? keepAll() : sendFrame()));

restore(boards).then((name) => {
  state.last = name;
  load();
});
