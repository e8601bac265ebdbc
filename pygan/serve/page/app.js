/** The page of `pygan serve`: a picture on the left, by one of five ways; what the network makes of it on the right. */

import { Board } from "./board.js";
import { Camera } from "./camera.js";
import * as examples from "./examples.js";
import { Key } from "./key.js";
import { Live, call } from "./live.js";
import { Make } from "./make.js";
import * as models from "./models.js";
import { CLASSES, colourOf, toClasses } from "./palette.js";
import { Pen } from "./pen.js";
import { png } from "./png.js";
import { Shown, fit } from "./show.js";
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
  tool: "brush",
  label: "window",
  brushes: { draw: 4, labels: 20 }, // as the slider has them
  most: 32, // pictures of one request
};
const boards = {
  draw: new Board(parts["draw-board"], { hard: false }),
  labels: new Board(parts["labels-board"], { hard: true }),
};
const shown = new Shown(parts);
const key = new Key(parts);
const camera = new Camera(parts["camera-shown"]);
const upload = new Upload(parts, { changed: () => state.way === "upload" && send(), arrived: () => choose("upload"), failed: (line) => tell(line) });
const pen = new Pen(Object.values(boards), parts.overlay, brush, { stroke: () => send(), end: () => (drawn(), send()) });

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
let countdown = 0;

function mark(word) {
  document.body.dataset.state = word;
  document.body.dataset.results = String(results);
}

/** One line of trouble, or none (""). again: with a button that tries at once. */
function tell(line, { again = false } = {}) {
  clearInterval(countdown);
  parts["trouble-line"].textContent = line;
  parts.trouble.hidden = !line;
  parts.retry.hidden = !again;
}

function troubled(error, seconds) {
  mark("trouble");
  const line = error.status || !(error instanceof TypeError) ? error.message : `The page failed: ${error.message}`;
  if (seconds === null) {
    tell(line, { again: error.status === 504 || error.status === 0 || error.status === 408 });
    if (error.status === 404) setTimeout(load, 1000);
    if (state.way === "camera") setTimeout(sendFrame, 1000);
    return;
  }
  const end = performance.now() + 1000 * seconds;
  const said = error.status ? `${line} Trying again` : `${line} Your picture is kept; trying again`;
  tell(`${said}…`, { again: true });
  if (seconds < 2) return;
  countdown = setInterval(() => {
    const left = Math.max(0, Math.ceil((end - performance.now()) / 1000));
    parts["trouble-line"].textContent = left ? `${said} in ${left} s.` : `${said}…`;
  }, 500);
}

async function askKey() {
  mark("trouble");
  tell("");
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
  tell("");
  mark("shown");
  const rate = state.way === "camera" && camera.on ? ` · ${(1000 / (ms + AFTER_FRAME_MS)).toFixed(1)}/s` : "";
  parts.latency.textContent = `${ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`}${rate}`;
}

// Sending.

/** The picture of the way that is chosen: {blob, type}; null where there is none yet. */
async function picture() {
  if (state.way === "upload") return upload.picture(state.side, models.readsLabels(state.model, state.options.direction));
  if (state.way === "camera") {
    const frame = camera.frame(state.side);
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
    return { path, options: { method: "POST", body: given, headers: { "Content-Type": given.type || "application/octet-stream" } }, given };
  });
}

function sendFrame() {
  if (state.way === "camera" && camera.on && !camera.held && !live.busy && !document.hidden) send();
}

function seedOf(input) {
  const seed = Math.floor(Number(input.value));
  return seed >= 0 && seed < MOST_SEED ? seed : 0;
}

// Models and what each can be asked.

async function load() {
  live.ask(async () => ({
    path: "/v1/models",
    options: {},
    show: async ({ blob }) => {
      tell("");
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
  parts.model.replaceChildren(...found.map((model) => new Option(model.name === model.gan ? model.name : `${model.name} · ${model.gan}`, model.name)));
  parts.model.disabled = found.length < 2;
  if (!found.length) return tell("The server has no model.");
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
  for (const tab of parts.ways.children) tab.hidden = !ways.includes(tab.dataset.way);
  choose(before && ways.includes(state.way) && !first(before, model) ? state.way : ways[0]);
}

/** Does another model read another kind of picture, so that another tab is its natural one? */
function first(before, model) {
  return models.ways(before, models.firstDirection(before))[0] !== models.ways(model, models.firstDirection(model))[0];
}

function describe() {
  parts.about.textContent = models.describe(state.model, state.options.direction);
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

/** Buttons of which one is on, with arrow keys as radio buttons have them. */
function group(box, value, changed) {
  const buttons = [...box.querySelectorAll("button")];
  const set = (button) => {
    for (const one of buttons) {
      one.setAttribute("role", "radio");
      one.setAttribute("aria-checked", String(one === button));
      one.tabIndex = one === button ? 0 : -1;
    }
  };
  set(buttons.find((button) => button.dataset.value === value) ?? buttons[0]);
  box.onclick = (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    set(button);
    changed(button.dataset.value);
  };
  box.onkeydown = (event) => arrows(event, buttons);
}

function arrows(event, buttons) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  event.stopPropagation();
  const there = buttons.filter((button) => !button.hidden);
  const next = there[(there.indexOf(document.activeElement) + step + there.length) % there.length];
  next.focus();
  next.click();
}

function sizes(before) {
  const own = models.trainedSize(state.model);
  const all = [...new Set([own, 256, 512].filter(Boolean))].sort((a, b) => a - b);
  const names = (size) => (size === own ? `${size} px, as trained` : `${size} px`);
  const options = all.map((size) => new Option(names(size), size));
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
  for (const name of Object.keys(boards)) if (!boards[name].touched) boards[name].load(example(name), { remember: false });
  upload.example(() => examples[models.sceneOf(state.model)](Math.max(state.side, 64)));
}

function example(name) {
  return name === "labels" ? examples.facade(state.side) : examples.lines(state.side);
}

// Ways of giving a picture.

function choose(way) {
  for (const board of Object.values(boards)) pen.finish(board);
  if (state.way === "camera" && way !== "camera") stopCamera();
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
  if (way === "camera") cameraShown();
  parts.tools.hidden = parts["compare-box"].hidden = parts["save-pair"].hidden = way === "make";
  if (way === "make") {
    shown.clear("");
    make.begin();
  } else {
    if (way in boards) parts.size.value = state.brushes[way];
    drawn();
    send();
  }
}

function brush(otherEnd = false) {
  const hard = state.way === "labels";
  const tool = otherEnd ? "eraser" : state.tool;
  const paint = hard ? colourOf(state.label) : parts.colour.value;
  const colour = tool === "eraser" ? (hard ? colourOf("background") : "#ffffff") : paint;
  const board = boards[state.way] ?? boards.draw;
  const radius = Math.max(0.5, (Number(parts.size.value) * board.width) / 512);
  return { tool: tool === "eraser" ? "brush" : tool, radius, colour };
}

function drawn() {
  const board = boards[state.way];
  parts.undo.disabled = !board?.canUndo;
  parts.redo.disabled = !board?.canRedo;
  for (const one of Object.values(boards)) fit(one.canvas, one.width, one.height);
  const { width, height } = board ?? {};
  const own = board && (width !== state.side || height !== state.side) ? `${width} × ${height} pixels` : "";
  parts["given-hint"].textContent = state.way === "upload" ? upload.note : own;
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

function cameraShown() {
  parts["camera-ask"].hidden = camera.on;
  parts["camera-shown"].hidden = !camera.on;
  parts["camera-tools"].hidden = !camera.on;
  parts["camera-shown"].style.transform = camera.mirrored ? "scaleX(-1)" : "";
  parts["camera-hold"].querySelector("span").textContent = camera.held ? "Go on" : "Hold";
}

async function startCamera(begin) {
  parts["camera-trouble"].textContent = "";
  try {
    await begin();
    if (state.way !== "camera") return camera.stop();
  } catch (error) {
    camera.stop();
    parts["camera-trouble"].textContent = error.message;
  }
  cameraShown();
  sendFrame();
}

function cameraGone() {
  parts["camera-trouble"].textContent = "The camera was taken away.";
  stopCamera();
}

function stopCamera() {
  camera.stop();
  cameraShown();
}

// A reload, or a phone that forgets the page, loses nothing: what was drawn waits in this tab.

function keep() {
  try {
    for (const [name, board] of Object.entries(boards)) {
      if (board.touched) sessionStorage.setItem(`board/${name}`, board.canvas.toDataURL("image/png"));
    }
    if (state.model) sessionStorage.setItem("model", state.model.name);
  } catch {
    // There is no room, or no storage is allowed: then a reload begins anew.
  }
}

async function restore() {
  state.last = sessionStorage.getItem("model");
  for (const [name, board] of Object.entries(boards)) {
    const data = sessionStorage.getItem(`board/${name}`);
    if (!data) continue;
    const image = Object.assign(new Image(), { src: data });
    await image.decode();
    const [width, height] = [image.naturalWidth, image.naturalHeight];
    const context = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, width, height);
    if (board.hard) toClasses(pixels.data);
    board.load(pixels, { remember: false });
    board.touched = true;
  }
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
  if (!state.model) return;
  if (state.way === "make") make.begin();
  else send();
});
parts.palette.append(
  ...CLASSES.map(([name, colour]) => {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.dataset.value = name;
    const swatch = document.createElement("i");
    swatch.style.backgroundColor = colour;
    button.append(swatch, Object.assign(document.createElement("span"), { textContent: name }));
    return button;
  }),
);
group(parts.palette, state.label, (name) => {
  state.label = name;
  if (state.tool === "eraser") setTool("brush");
});
const tools = document.querySelectorAll("[data-tool]");
function setTool(tool) {
  state.tool = tool;
  for (const one of tools) {
    one.setAttribute("aria-checked", String(one.dataset.tool === tool));
    one.tabIndex = one.dataset.tool === tool ? 0 : -1;
  }
  pen.paint();
}
for (const one of tools) {
  one.addEventListener("click", () => setTool(one.dataset.tool));
  one.addEventListener("keydown", (event) => arrows(event, [...tools]));
}
setTool(state.tool);
parts.size.addEventListener("input", () => {
  state.brushes[state.way] = parts.size.value;
  pen.paint();
});
parts.undo.addEventListener("click", () => act((board) => board.undo()));
parts.redo.addEventListener("click", () => act((board) => board.redo()));
parts.flood.addEventListener("click", () => act((board) => board.flood(brush().colour)));
parts.clear.addEventListener("click", () => {
  act((board) => board.flood(board.hard ? colourOf("background") : "#ffffff"));
});
parts.example.addEventListener("click", () => act((board) => board.load(example(state.way), { remember: true })));
parts.edit.addEventListener("click", editUpload);
parts["canvas-size"].addEventListener("change", () => resized(Number(parts["canvas-size"].value)));
parts.seed.addEventListener("input", () => send());
parts.dice.addEventListener("click", () => {
  parts.seed.value = Math.floor(Math.random() * 10_000);
  send();
});
parts["camera-start"].addEventListener("click", () => startCamera(() => camera.start(cameraGone)));
parts["camera-turn"].addEventListener("click", () => startCamera(() => camera.turn(cameraGone)));
parts["camera-stop"].addEventListener("click", stopCamera);
parts["camera-hold"].addEventListener("click", async () => {
  await (camera.held ? camera.goOn() : camera.hold());
  cameraShown();
  if (camera.held) send();
  else sendFrame();
});
window.addEventListener("resize", () => pen.hide());
window.addEventListener("pagehide", keep);
document.addEventListener("visibilitychange", () => (document.hidden ? keep() : sendFrame()));
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input:not([type=range]), textarea, select, dialog");
  const board = boards[state.way];
  if (typing || !board) return;
  const letter = event.key.toLowerCase();
  if ((event.ctrlKey || event.metaKey) && letter === "z") {
    event.preventDefault();
    act((one) => (event.shiftKey ? one.redo() : one.undo()));
  } else if ((event.ctrlKey || event.metaKey) && letter === "y") {
    event.preventDefault();
    act((one) => one.redo());
  } else if (!event.ctrlKey && !event.metaKey && !event.altKey) {
    const tool = { b: "brush", e: "eraser", r: "rect", f: "fill" }[letter];
    if (tool) setTool(tool);
    const step = { "[": 0.8, "]": 1.25 }[event.key];
    if (step) {
      const size = Number(parts.size.value);
      parts.size.value = Math.round(step > 1 ? Math.max(size + 1, size * step) : Math.min(size - 1, size * step));
      state.brushes[state.way] = parts.size.value;
      pen.paint();
    }
  }
});

restore()
  .catch(() => {}) // no storage is allowed, or it holds no picture: the page begins anew
  .then(load);
