/** Several files, one after the other: pictures become .hpcm files, and .hpcm files PNGs. */
import { bitmapOf, decode, encode, info } from "hpcm-web";
import { percent, renamed } from "./format.js";
import { keep, telling } from "./loading.js";
import { modelOf } from "./models.js";
import { asPng, isHpcm, readPicture } from "./picture.js";
import { Work } from "./work.js";

const THUMBNAIL = 112; // pixels of each side

/**
 * @typedef {object} Entry
 * @property {Blob} blob
 * @property {string} name
 * @property {"waiting"|"working"|"done"|"failed"} state
 * @property {string} [line] what is going on, or what went wrong
 * @property {File} [result]
 * @property {boolean} [compressed] whether the result is a .hpcm file
 * @property {ImageBitmap} [thumbnail]
 */

export class Batch {
  view = "list";
  /** @type {Entry[]} */
  entries = [];
  #work = new Work({ next: () => this.#next(), fail: (error) => this.fail(error), rest: () => this.#rest() });

  /** @param {{quality: number, lossless: boolean, plan: object[], models: object[]}} setting plan: the last model of it is used */
  constructor(setting) {
    Object.assign(this, setting);
  }

  get name() {
    return `${this.entries.length} files`;
  }

  get model() {
    return this.plan.at(-1);
  }

  get busy() {
    return this.#work.busy;
  }

  /** @returns {Entry[]} */
  get done() {
    return this.entries.filter(({ state }) => state === "done");
  }

  /** @returns {File[]} of names that differ */
  get results() {
    const taken = new Set();
    return this.done.map(({ result }) => {
      const name = unused(result.name, taken);
      taken.add(name);
      return new File([result], name);
    });
  }

  /** @param {Blob[]} files */
  add(files) {
    this.entries.push(...files.map((blob) => ({ blob, name: blob.name ?? "picture", state: "waiting" })));
    this.change?.();
  }

  /** Other settings: what was compressed is compressed again. @param {{quality?: number, lossless?: boolean, plan?: object[]}} setting */
  set(setting) {
    Object.assign(this, setting);
    for (const entry of this.entries) if (entry.compressed) wait(entry);
    this.#work.stop();
    this.change();
    this.#work.start();
  }

  start() {
    this.#work.start();
  }

  pause() {
    this.#work.stop();
    this.report();
  }

  /** @returns {boolean} whether something is left to do */
  cancel() {
    this.pause();
    return this.entries.some(({ state }) => state === "waiting" || state === "working");
  }

  close() {
    this.#work.stop();
    for (const { thumbnail } of this.entries) thumbnail?.close();
  }

  #next() {
    const entry = this.entries.find(({ state }) => state === "waiting");
    return entry && (() => this.#process(entry));
  }

  async #process(entry) {
    const { signal } = this.#work;
    Object.assign(entry, { state: "working", line: undefined });
    this.change();
    try {
      const head = new Uint8Array(await entry.blob.slice(0, 4).arrayBuffer());
      entry.compressed = !isHpcm(head);
      entry.result = entry.compressed ? await this.#compress(entry) : await this.#expand(entry);
      if (signal.aborted) wait(entry); // it may be of other settings
      else Object.assign(entry, { state: "done", line: undefined });
    } catch (error) {
      this.#ended(entry, error);
    }
    this.change();
  }

  /** Others go on. What was stopped waits again, and what was lost with the worker does so once. */
  #ended(entry, error) {
    const again = error.code === "aborted" || (error.code === "lost" && !entry.lost);
    if (error.code === "lost") entry.lost = true;
    if (again) wait(entry);
    else Object.assign(entry, { state: "failed", line: error.message });
  }

  async #compress(entry) {
    const { pixels, bitmap } = await readPicture(entry.blob, entry.name);
    await this.#picture(entry, bitmap);
    bitmap.close();
    const { lossless } = this;
    const how = { quality: lossless ? undefined : this.quality, lossless, model: this.model.name };
    const data = await encode(pixels, { ...how, ...this.#job(entry, this.model) });
    return new File([data], renamed(entry.name, "hpcm"));
  }

  async #expand(entry) {
    const data = new Uint8Array(await entry.blob.arrayBuffer());
    const image = await bitmapOf(await decode(data, this.#job(entry, modelOf(info(data), this.models))), data);
    await this.#picture(entry, image);
    const png = await asPng(image);
    image.close();
    return new File([png], renamed(entry.name, "png"));
  }

  async #picture(entry, bitmap) {
    const side = Math.min(bitmap.width, bitmap.height);
    const square = [(bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side].map(Math.floor);
    const size = { resizeWidth: THUMBNAIL, resizeHeight: THUMBNAIL, resizeQuality: "medium" };
    entry.thumbnail ??= await createImageBitmap(bitmap, ...square, size);
    this.change();
  }

  #job(entry, { called, bytes }) {
    const report = (text, share) => {
      if (!this.busy) return;
      entry.line = text.startsWith("Loading") ? text : percent(share);
      this.change();
      const before = this.entries.length - this.entries.filter(({ state }) => state === "waiting").length - 1;
      this.report(`${before + 1} of ${this.entries.length}: ${entry.name}`, (before + share) / this.entries.length);
    };
    return { onprogress: telling(entry.name, { name: called, bytes }, report), signal: this.#work.signal };
  }

  #rest() {
    this.report();
    keep();
  }
}

function wait(entry) {
  Object.assign(entry, { state: "waiting", line: undefined, result: undefined });
}

/** A file's name, with a number if there is one like it. */
function unused(name, taken) {
  const [, stem, ending] = name.match(/^(.*?)(\.[^.]*)?$/);
  let found = name;
  for (let i = 2; taken.has(found); i++) found = `${stem} (${i})${ending ?? ""}`;
  return found;
}
