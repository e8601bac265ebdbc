"use strict";
// Which picture is real is known to the server alone until the answer is recorded there.

const READY_MS = 700; // the cross before a pair
const $ = (id) => document.getElementById(id);
let state = null; // what the server said last
let phase = ""; // "look": pictures are on their way or on the screen; "ask": an answer is awaited; "told": feedback
let asked = 0; // when the answer began to be awaited, in ms of performance.now()
let exposure = null; // ms for which the pair was on the screen; null: not seen by this page
let order = []; // places chosen so far, from best to worst
let again = null; // what "Try again" does

class Changed extends Error {} // the server is elsewhere: another page of this person, or a new session

function show(id) {
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== id;
  const focus = $(id).querySelector("button.go:not([hidden])");
  if ($(id).classList.contains("card") && focus) focus.focus();
}

async function ask(path, body) {
  const how = body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  const answer = await fetch(path, { ...how, cache: "no-store" });
  const value = await answer.json();
  if ([403, 409, 410].includes(answer.status)) throw new Changed(value.error);
  if (!answer.ok) throw new Error(value.error);
  return value;
}

// Do something that needs the server; if it fails say so, and offer to do it again.
async function attempt(act) {
  try {
    await act();
  } catch (error) {
    if (error instanceof Changed) return attempt(async () => arrive(await ask("/state")));
    again = () => attempt(act);
    const silent = error instanceof TypeError; // how fetch says that nobody answers
    $("trouble-title").textContent = silent ? "The server does not answer" : "That did not work";
    $("trouble-text").textContent = silent
      ? "Everything you said before is safe. When pygan quiz runs again at this address, go on here." : error.message;
    show("trouble");
  }
}

const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const frame = () => new Promise((done) => requestAnimationFrame(done));

async function inSight() {
  while (document.hidden) await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
}

async function load(address) {
  const answer = await fetch(address, { cache: "no-store" });
  if (!answer.ok) throw new Changed();
  const image = new Image();
  image.alt = "";
  image.src = URL.createObjectURL(await answer.blob());
  await image.decode();
  return image;
}

function forget(element) {
  for (const image of element.querySelectorAll("img")) URL.revokeObjectURL(image.src);
  element.replaceChildren();
}

// The page was opened, or has lost its way: begin, or go on where this person is.
function arrive(now) {
  state = now;
  document.documentElement.style.setProperty("--picture", `${state.size}px`);
  document.title = state.test === "ranks" ? "From best to worst" : "Real or fake?";
  if (state.stage === "new") return welcome();
  if (state.stage === "done") return done();
  if (state.test === "ranks") return rank();
  if (state.shown) return askAgain();
  pause("Welcome back", `You are at ${where().toLowerCase()}. It is shown once, for ${seconds()}.`);
}

function welcome() {
  const put = { ...state.plan, seconds: seconds() };
  for (const element of document.querySelectorAll("[data-put]")) element.textContent = put[element.dataset.put];
  for (const element of document.querySelectorAll("[data-if]")) element.hidden = !put[element.dataset.if];
  for (const element of document.querySelectorAll("[data-given]")) {
    element.hidden = !element.dataset.given.split(" ").includes(state.plan.given);
  }
  show(state.test === "ranks" ? "hello-ranks" : "hello-pairs");
}

function pause(title, text) {
  $("pause-title").textContent = title;
  $("pause-text").textContent = text;
  show("pause");
}

const seconds = () => `${state.exposure} ${state.exposure === 1 ? "second" : "seconds"}`;
const where = () => (state.practice ? `Practice ${state.number} of ${state.of}` : `Pair ${state.number} of ${state.of}`);

// Go to the question that the state is at.
function advance(before) {
  if (state.stage === "done") return done();
  if (state.test === "ranks") return rank();
  if (before && before.practice && !state.practice) {
    return pause("That was the practice", `Now ${state.of} pairs that count, without a word in between.`);
  }
  return attempt(look);
}

// ---- real or fake?

function openPair() {
  $("pair-where").textContent = where();
  $("pair-progress").max = state.of;
  $("pair-progress").value = state.number - 1;
  $("question").className = "question";
  $("question").textContent = "\u00a0";
  $("next").hidden = $("missed").hidden = true;
  choices(false);
  show("pair");
}

function choices(on) {
  for (const button of document.querySelectorAll("[data-side]")) button.disabled = !on;
}

async function look() {
  phase = "look";
  exposure = null;
  openPair();
  const stage = $("stage"), slots = [$("left"), $("right")];
  stage.classList.add("ready");
  await Promise.all([wait(READY_MS), inSight()]);
  const { pictures } = await ask("/show", { trial: state.trial });
  let images;
  try {
    images = await Promise.all(pictures.map(load)); // here and decoded before the clock starts
  } catch (error) {
    stage.classList.remove("ready");
    return question("The pictures did not arrive. Which one was real?", true);
  }
  stage.style.setProperty("--shape", images[0].naturalWidth / images[0].naturalHeight);
  slots.forEach((slot, k) => slot.replaceChildren(images[k]));
  let away = false;
  const leave = () => { away = true; };
  document.addEventListener("visibilitychange", leave);
  await frame();
  const first = await frame(); // what is changed here is on the screen from this frame on
  stage.classList.replace("ready", "on");
  let now = first, step = 0;
  do {
    const before = now;
    now = await frame();
    step = now - before;
  } while (!away && now - first + step / 2 < 1000 * state.exposure); // to the nearest frame
  stage.classList.remove("on");
  document.removeEventListener("visibilitychange", leave);
  exposure = now - first;
  slots.forEach(forget);
  question("Which one was real?", away);
}

function question(text, offerMissed) {
  $("question").textContent = text;
  $("missed").hidden = !offerMissed;
  choices(true);
  asked = performance.now();
  phase = "ask";
}

function askAgain() {
  exposure = null;
  openPair();
  question("You have seen this pair. Which one was real?", true);
}

function answer(side) {
  if (phase !== "ask") return;
  phase = "sent";
  choices(false);
  $("missed").hidden = true;
  const body = { trial: state.trial, side, exposure_ms: exposure, answer_ms: performance.now() - asked };
  body.picture_px = $("left").getBoundingClientRect().width;
  attempt(async () => {
    const reply = await ask("/answer", body);
    const before = state;
    state = reply.state;
    if (!before.practice) return advance(before);
    show("pair");
    phase = "told";
    const wasRight = reply.correct === true;
    $("question").className = `question ${wasRight ? "right" : "wrong"}`;
    $("question").textContent = `${reply.correct === null ? "" : wasRight ? "Right: " : "Wrong: "}the ${reply.real} one was real.`;
    $("pair-progress").value = before.number;
    $("next").hidden = false;
    $("next").onclick = () => phase === "told" && advance(before);
    $("next").focus();
  });
}

// ---- from best to worst

function rank() {
  phase = "look";
  order = [];
  attempt(async () => {
    const { pictures } = await ask("/show", { trial: state.trial });
    const images = await Promise.all(pictures.map(load));
    forget($("pictures"));
    forget($("given"));
    if (state.plan.given === "picture") $("given").append(images.pop());
    if (state.plan.given === "text") $("given").append(Object.assign(document.createElement("p"), { textContent: state.text }));
    images.forEach((image, place) => {
      const button = document.createElement("button"), letter = document.createElement("kbd");
      image.alt = `picture ${name(place)}`;
      letter.textContent = name(place);
      const line = Object.assign(document.createElement("span"), { className: "letter" });
      line.append(letter);
      button.append(image, line);
      button.onclick = () => choose(place);
      $("pictures").append(button);
    });
    $("row-where").textContent = `Row ${state.number} of ${state.of}`;
    $("row-progress").max = state.of;
    $("row-progress").value = state.number - 1;
    show("row");
    asked = performance.now();
    phase = "ask";
    mark();
  });
}

const name = (place) => String.fromCharCode(65 + place);

function choose(place) {
  if (phase !== "ask" || order.includes(place)) return;
  order.push(place);
  if (order.length === state.pictures - 1) { // one is left, and it is the worst
    for (let k = 0; k < state.pictures; k += 1) if (!order.includes(k)) { order.push(k); break; }
  }
  mark();
}

function undo() {
  if (phase !== "ask" || !order.length) return;
  order.splice(order.length === state.pictures ? -2 : -1); // the worst was not chosen, but left
  mark();
}

function mark() {
  const all = order.length === state.pictures;
  [...$("pictures").children].forEach((button, place) => {
    const rankOf = order.indexOf(place) + 1;
    button.classList.toggle("placed", rankOf > 0);
    button.querySelector(".badge")?.remove();
    if (rankOf) button.append(Object.assign(document.createElement("span"), { className: "badge", textContent: rankOf }));
    button.setAttribute("aria-label", `picture ${name(place)}${rankOf ? `, rank ${rankOf}` : ""}`);
  });
  $("row-question").textContent = all ? "Is that the order?" : order.length ? "Which is the next best?" : "Which is best?";
  $("confirm").disabled = !all;
  $("undo").disabled = !order.length;
}

function confirmOrder() {
  if (phase !== "ask" || order.length !== state.pictures) return;
  phase = "sent";
  const body = { trial: state.trial, order, answer_ms: performance.now() - asked };
  attempt(async () => {
    state = (await ask("/answer", body)).state;
    advance(null);
  });
}

// ---- the end

function done() {
  phase = "";
  const lines = [], percent = (part) => `${(100 * part).toFixed(1)} %`;
  const line = (text) => Object.assign(document.createElement("p"), { textContent: text });
  if (state.test === "ranks") {
    lines.push(line(`You put ${state.ranked} rows in order. People so far: ${state.people}.`));
  } else if (state.scored) {
    lines.push(line(`You were right in ${state.right} of ${state.scored} pairs; the network fooled you in ` +
      `${percent(1 - state.right / state.scored)}.` + (state.missed ? ` ${state.missed} you did not see.` : "")));
    const people = state.people === 1 ? "one person" : `${state.people} people`;
    const so = line(`So far ${people}: fooled in ${percent(state.rate)} (95 % interval ${percent(state.low)} to ` +
      `${percent(state.high)}). At 50 % nobody could tell.`);
    so.id = "rate";
    so.dataset.rate = state.rate;
    lines.push(so, scale(state));
  } else {
    lines.push(line("No pair was seen, so there is nothing to count."));
  }
  $("result").replaceChildren(...lines);
  show("done");
}

function scale({ rate, low, high }) {
  const at = (part) => `${100 * part}%`, add = (tag, style, text) => {
    const element = Object.assign(document.createElement(tag), { textContent: text });
    Object.assign(element.style, style);
    bar.append(element);
  };
  const bar = Object.assign(document.createElement("div"), { className: "scale" });
  bar.setAttribute("aria-hidden", "true");
  add("i", { left: at(low), width: at(high - low) }, "");
  add("b", { left: at(rate) }, "");
  add("span", { left: "0" }, "0: everybody can tell");
  add("span", { left: "50%" }, "50");
  add("span", { left: "100%" }, "100 %");
  return bar;
}

// ---- keys and buttons

const acts = {
  start: () => attempt(async () => {
    state = await ask("/start", {});
    advance(null);
  }),
  "go-on": () => attempt(look),
  leave: () => attempt(async () => arrive(await ask("/leave", {}))),
  retry: () => again && again(),
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.act) acts[button.dataset.act]();
  if (button?.dataset.side) answer(button.dataset.side);
});
$("missed").onclick = () => answer(null);
$("undo").onclick = undo;
$("confirm").onclick = confirmOrder;

document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (!$("pair").hidden) {
    const side = { ArrowLeft: "left", f: "left", F: "left", ArrowRight: "right", j: "right", J: "right" }[event.key];
    if (!side) return;
    event.preventDefault();
    answer(side);
  } else if (!$("row").hidden) {
    const place = event.key.length === 1 ? event.key.toUpperCase().charCodeAt(0) - 65 : -1;
    if (event.key === "Backspace") undo();
    else if (event.key === "Enter" && !event.target.closest("#pictures, #undo")) confirmOrder();
    else if (place >= 0 && place < (state.pictures || 0)) choose(place);
    else return;
    event.preventDefault();
  }
});

attempt(async () => arrive(await ask("/state")));
