/** The page: what is open, and what the controls do to it. */
import { models } from "hpcm-web";
import { downloadZip } from "client-zip";
import { Batch } from "./batch.js";
import { Comparison } from "./comparison.js";
import { wireControls } from "./controls.js";
import { renamed, sizeOf } from "./format.js";
import { listenToDivider, listenToKeys, listenToStage } from "./gestures.js";
import { prepare } from "./loading.js";
import { List } from "./list.js";
import { inWords, planOf } from "./models.js";
import { Notes } from "./notes.js";
import { Opened } from "./opened.js";
import { Panel } from "./panel.js";
import { asPng, isHpcm, readPicture, save } from "./picture.js";
import { Places } from "./places.js";
import { Rivals } from "./rivals.js";
import { Session } from "./session.js";

const $ = (id) => document.getElementById(id);
const notes = new Notes(cancel);
const rivals = new Rivals();
const comparison = new Comparison();
const panel = new Panel();
const list = new List($("entries"), openEntry);
const { view } = comparison;

let here; // what is on the screen: a Session, an Opened or a Batch; nothing at the start
let listed = { models: [] };
let outdated; // the error that page and codec are of different releases: nothing can be done but to load the page again
let chosen; // the name of the model that somebody chose
let kinds = []; // of the other codecs that this browser can write
let turn = 0; // counts what was opened, so that a slow file doesn't replace a later one
let origin = $("choose"); // what had the focus on the start
let visited; // the entry of the list that was opened last

/** What is on the screen says these; what isn't is silent. */
const heard = {
  report: (text, share) => notes.say(text, share),
  tell: (text) => notes.tell(text),
  fail: (error) => notes.fail(error),
  change: paint,
};
const silent = { report() {}, tell() {}, fail() {}, change() {} };

const places = new Places(arrive);
const ready = Promise.allSettled([
  prepare().then(models).then((found) => (listed = { ...found, models: found.models.map(inWords) })),
  rivals.writable().then((found) => (kinds = found)),
]).then(([index]) => offerModels(index.reason));

/** @param {Error} [error] why there is no list */
async function offerModels(error) {
  if (error) notes.fail(error);
  if (error?.code === "version") outdated = error;
  panel.offer(listed.models);
  const [first, better] = await planOf(listed).catch(() => []);
  if (!better) return;
  const [small, large] = [first, better].map(({ bytes }) => sizeOf(bytes));
  $("weight").textContent = `The first one fetches a model of ${small}, then ${better.called} of ${large}.`;
}

/** @param {Blob[]} files */
function open(files) {
  if (here?.view === "list" || files.length > 1) openList(files);
  else if (files.length) openOne(files[0]);
}

/** Opens a picture or a .hpcm file. @param {Blob} blob */
const openOne = (blob, name = blob.name ?? "picture") =>
  enter(async () => {
    const head = new Uint8Array(await blob.slice(0, 4).arrayBuffer());
    return isHpcm(head) ? opened(blob, name) : compressing(blob, name);
  });

/** Several files: they join the list on the way here, if there is one. */
function openList(files) {
  const { list: before } = places;
  if (!before) return enter(() => batch(files));
  before.add(files);
  before.start();
  return places.backToList();
}

/** @param {() => Promise<object>} make a Session, an Opened or a Batch */
async function enter(make) {
  const mine = ++turn;
  notes.calm();
  try {
    await ready;
    if (outdated) throw outdated;
    const subject = await make();
    if (mine === turn) places.enter(Object.assign(subject, silent));
  } catch (error) {
    if (mine === turn) notes.fail(error);
  }
}

async function opened(blob, name) {
  const data = new Uint8Array(await blob.arrayBuffer());
  try {
    return new Opened(data, { name, models: listed.models });
  } catch (error) {
    throw new Error(`${name}: ${error.message}`);
  }
}

async function compressing(blob, name) {
  const picture = await readPicture(blob, name);
  return new Session(picture, { plan: await planOf(listed, chosen), ...panel.setting, rivals, kinds });
}

async function batch(files) {
  visited = undefined;
  const made = new Batch({ ...panel.setting, plan: await planOf(listed, chosen), models: listed.models });
  made.add(files);
  return made;
}

function openEntry(entry) {
  visited = entry;
  openOne(entry.blob, entry.name);
}

/** Shows what the history leads to. @param {object} [subject] nothing is the start */
function arrive(subject) {
  turn++;
  if (!here && document.activeElement !== document.body) origin = document.activeElement;
  leave();
  here = subject;
  document.body.dataset.view = subject?.view ?? "start";
  paintTitle(subject?.name);
  $("sides").textContent = subject?.width ? `${subject.width} × ${subject.height}` : "";
  if (subject) stay(subject);
  moveFocus();
}

function leave() {
  comparison.show();
  if (!here) return;
  notes.calm();
  notes.say();
  here.pause();
  Object.assign(here, silent);
}

function stay(subject) {
  Object.assign(subject, heard);
  panel.show(subject);
  if (subject.view !== "list") comparison.show(subject);
  paint();
  subject.start();
}

/** The focus goes along: to the picture, to the list, or back to what led away from there. */
function moveFocus() {
  if (!here) origin.focus();
  else if (here.view !== "list") $("stage").focus();
  else if (visited) list.focus(visited);
  else $("title").focus();
}

function paintTitle(name = "") {
  document.title = name ? `${name} – hpcm` : "hpcm";
  $("title").textContent = name;
}

/** Brings everything on the screen to what is said now. */
function paint() {
  if (!here) return;
  paintTitle(here.name);
  panel.paint(here);
  if (here.view === "list") list.paint(here);
  else comparison.paint();
}

function cancel() {
  if (!here?.busy) return;
  const subject = here;
  if (subject.cancel()) notes.tell("Stopped.", "Continue", () => subject.start());
}

async function choose(name) {
  chosen = name;
  const plan = await planOf(listed, chosen);
  if (here?.view === "compressing") here.use(plan);
  if (here?.view === "list") here.set({ plan });
}

listenToStage($("stage"), view);
listenToDivider($("divider"), $("stage"), view);
listenToKeys($("stage"), view, { d: () => comparison.toggleDifference(), o: () => $("file").click(), escape: cancel });
wireControls({
  ...{ open, openOne, view, choose },
  home: () => places.home(),
  toggleDifference: () => comparison.toggleDifference(),
  fail: (error) => notes.fail(error),
  quality: (quality) => (here?.want ? here.want({ quality }) : paint()),
  settled: (quality) => here?.set?.({ quality }),
  lossless: (lossless) => (here?.want ?? here?.set)?.call(here, { lossless }),
  png: async () => save(await asPng(here.decoded), renamed(here.name, "png")),
  zip: async () => save(await downloadZip(here.results).blob(), "hpcm.zip"),
});
