/** The page: what is open, what is shown on which side, and the controls. */
import { models } from "hpcm-web";
import { Notes, Side } from "./cards.js";
import { wireControls } from "./controls.js";
import { qualityOf, renamed, sizeOf } from "./format.js";
import { listenToDivider, listenToKeys, listenToStage } from "./gestures.js";
import { keeper } from "./loading.js";
import { Opened } from "./opened.js";
import { asPng, difference, isHpcm, readPicture, save } from "./picture.js";
import { Rivals } from "./rivals.js";
import { LEVELS, Session } from "./session.js";
import { View } from "./view.js";

const $ = (id) => document.getElementById(id);
const stage = $("stage");
const notes = new Notes();
const rivals = new Rivals();
const view = new View(stage, $("canvas"), showView);
const sides = ["left", "right"];
const cards = Object.fromEntries(
  sides.map((side) => [side, new Side(document.querySelector(`.side[data-side="${side}"]`), (kind) => choose(side, kind))]),
);

const WANTED = { left: "jpeg", right: "hpcm" }; // what the sides show if nobody has chosen
const AIMS = { lite: ["for how pictures look"], "lite-mse": ["for PSNR"], nano: ["small and fast"] };
const shown = { ...WANTED };
let subject; // a Session or an Opened
let listed = { models: [] };
let kinds = []; // of the other codecs that this browser can write
let differing = false; // whether the difference is shown
let turn = 0; // counts what was opened, so that a slow file doesn't replace a later one

const ready = Promise.allSettled([
  keeper().then(models).then((found) => (listed = found)),
  rivals.writable().then((found) => (kinds = found)),
]).then(([index]) => offerModels(index.reason));

/** What a bundled model is for, in words; of others nothing is known. */
const aimOf = (name) => AIMS[name.replace(/-\d+$/, "")] ?? [];

/** @param {Error} [error] why there is no list */
function offerModels(error) {
  if (error) notes.fail(error);
  const offered = listed.models;
  $("model").replaceChildren(...offered.map(({ name, bytes }) => new Option(`${[name, ...aimOf(name)].join(", ")}, ${sizeOf(bytes)}`, name)));
  $("model").value = listed.default;
  $("model").disabled = offered.length < 2;
  const standard = offered.find((model) => model.name === listed.default);
  if (!standard) return;
  $("weight").textContent = `Fetched once: the model, ${sizeOf(standard.bytes)}.`;
}

/** Opens a picture or a .hpcm file. @param {Blob} blob */
async function open(blob, name = blob.name ?? "picture") {
  const mine = ++turn;
  notes.calm();
  try {
    await ready;
    const head = new Uint8Array(await blob.slice(0, 4).arrayBuffer());
    const make = isHpcm(head) ? await opened(blob, name) : await compressing(blob, name);
    if (mine === turn) replace(make());
  } catch (error) {
    if (mine === turn) notes.fail(error);
  }
}

const told = { report: (text, share) => notes.say(text, share), fail: (error) => notes.fail(error), change: () => paint() };

async function opened(blob, name) {
  const data = new Uint8Array(await blob.arrayBuffer());
  try {
    const file = new Opened(data, { name, models: listed.models, ...told });
    return () => file;
  } catch (error) {
    throw new Error(`${name}: ${error.message}`);
  }
}

async function compressing(blob, name) {
  const picture = await readPicture(blob, name);
  return () => session(picture);
}

function session(picture) {
  const model = listed.models.find((each) => each.name === $("model").value) ?? { name: undefined, bytes: 0 };
  return new Session(picture, { model, level: Number($("quality").value), rivals, kinds, ...told });
}

/** @param {Session|Opened} next @param {boolean} [stay] keeps zoom and position */
function replace(next, stay = false) {
  subject?.close();
  notes.say();
  subject = next;
  document.body.dataset.view = subject.about ? "opened" : "compressing";
  const offered = subject.choices.map(([kind]) => kind);
  const [first, last] = [offered.includes("original") ? "original" : offered[0], offered.at(-1)];
  const standard = subject.about ? { left: first, right: last } : { left: first, right: "hpcm" };
  for (const side of sides) {
    if (!offered.includes(shown[side])) shown[side] = offered.includes(WANTED[side]) ? WANTED[side] : standard[side];
    cards[side].offer(subject.choices, shown[side]);
  }
  $("title").textContent = subject.name;
  $("sides").textContent = `${subject.width} × ${subject.height}`;
  showFacts(subject.facts ?? []);
  if (!stay) view.reset(subject.width, subject.height);
  subject.look(Object.values(shown));
  paint();
  subject.start();
}

function close() {
  turn++;
  subject?.close();
  subject = undefined;
  view.left = view.right = view.whole = undefined;
  compared = {};
  notes.say();
  notes.calm();
  document.body.dataset.view = "start";
  $("title").textContent = $("sides").textContent = "";
}

function choose(side, kind) {
  shown[side] = kind;
  subject.look(Object.values(shown));
  paint();
}

function showFacts(facts) {
  $("facts").replaceChildren(
    ...facts.map(([name, value]) => {
      const pair = document.createElement("div");
      pair.append(Object.assign(document.createElement("dt"), { textContent: name }));
      pair.append(Object.assign(document.createElement("dd"), { textContent: value }));
      return pair;
    }),
  );
}

/** Brings everything on the screen to what the subject says now. */
function paint() {
  if (!subject) return;
  const pixels = subject.width * subject.height;
  for (const side of sides) {
    const kind = shown[side];
    const result = subject.results[kind];
    const name = subject.choices.find(([each]) => each === kind)[1];
    view[side] = result?.image ?? subject.original;
    $(`tag-${side}`).textContent = result?.image ? name + (result.note ? `, ${result.note}` : "") : `${name} …`;
    cards[side].show(result, pixels, subject.stale && kind !== "original");
  }
  view.whole = differing ? between(view.left, view.right) : undefined;
  const names = sides.map((side) => $(`tag-${side}`).textContent);
  const picture = differing ? `Difference of ${names.join(" and ")}` : `${names[0]} left, ${names[1]} right`;
  $("canvas").setAttribute("aria-label", picture);
  paintSaving();
  view.draw();
}

let compared = {}; // the last difference, and of what

function between(left, right) {
  if (!left || !right) return undefined;
  if (compared.left !== left || compared.right !== right) {
    compared = { left, right, image: difference(left, right, subject.width, subject.height) };
  }
  return compared.image;
}

let address = "";

function paintSaving() {
  const { data } = subject;
  const pixels = subject.width * subject.height;
  const quality = qualityOf(Number($("quality").value), LEVELS);
  $("quality-value").textContent = quality;
  const size = data ? sizeOf(data.length) : "";
  $("quality").setAttribute("aria-valuetext", `${quality} of 100${size && `, ${size}`}`);
  $("size").textContent = data && !subject.about ? `${size} · ${((data.length * 8) / pixels).toFixed(2)} bpp` : "";
  const link = $("save-hpcm");
  if (link.data !== data) {
    URL.revokeObjectURL(address);
    link.data = data;
    address = data ? URL.createObjectURL(new Blob([data], { type: "image/x-hpcm" })) : "";
    if (data) Object.assign(link, { href: address, download: renamed(subject.name, "hpcm") });
    else link.removeAttribute("href");
    link.setAttribute("aria-disabled", String(!data));
  }
  $("save-png").disabled = !decoded();
}

/** The picture that the file holds, if it is decoded. */
function decoded() {
  const { results, stale } = subject;
  return stale ? undefined : (results.hpcm ?? results["scale-3"])?.image;
}

function showView() {
  $("divider").style.left = `${view.split * 100}%`;
  $("divider").setAttribute("aria-valuenow", String(Math.round(view.split * 100)));
  $("zoom-level").textContent = `${Math.round(view.zoom * 100)}%`;
}

function toggleDifference() {
  if (!subject) return;
  differing = !differing;
  $("difference").setAttribute("aria-pressed", String(differing));
  stage.classList.toggle("whole", differing);
  paint();
}

listenToStage(stage, view);
listenToDivider($("divider"), stage, view);
listenToKeys(stage, view, { d: toggleDifference, o: () => $("file").click() });
wireControls({
  ...{ open, close, view, toggleDifference },
  fail: (error) => notes.fail(error),
  level: (level) => subject?.want(level),
  model: () => subject?.picture && replace(session(subject.picture), true),
  png: async () => save(await asPng(decoded()), renamed(subject.name, "png")),
});
