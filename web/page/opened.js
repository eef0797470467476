/**
 * A .hpcm file that was opened. It is decoded whole; its coarse scales and the lossy picture in it when they are chosen. A
 * large picture is shown roughly at first, and then part by part. With a residual layer the lossy picture comes first:
 *
 *     thumbnail --> parts, as they come --> the picture
 */
import { bitmapOf, decode, info, qualityOf, thumbnail } from "hpcm-web";
import { rateOf, sizeOf } from "./format.js";
import { keep, telling } from "./loading.js";
import { modelOf } from "./models.js";
import { LARGE } from "./picture.js";
import { Work } from "./work.js";

const LOSSY = 3; // scale: the lossy picture of a file with a residual layer
const WHOLE = "whole"; // the kind of all that there is
const LEVELS = 64; // of the released models
const STAND = 64; // pixels that one of a thumbnail's stands for
const PATCH = 16; // pixels whose colour it has

export class Opened {
  view = "opened";
  stale = false;
  #visible = [];
  #work = new Work({
    next: () => this.#next(),
    fail: (error) => this.#failed(error),
    rest: () => this.#rest(),
  });

  /** @param {Uint8Array} data @param {{name: string, models: object[]}} setting; throws HpcmError */
  constructor(data, { name, models }) {
    this.data = data;
    this.name = name;
    this.about = info(data);
    this.cut = this.about.progress < 1;
    this.model = modelOf(this.about, models);
    this.width = this.about.width;
    this.height = this.about.height;
    this.layer = this.about.residual;
    this.choices = [[WHOLE, this.cut ? "hpcm, cut" : "hpcm"]];
    if (this.#hasLossy) this.choices.push([`scale-${LOSSY}`, "lossy picture"]);
    if (this.about.passes > 1) this.choices.push(...[2, 1].map((scale) => [`scale-${scale}`, `scale ${scale} of 3`]));
    this.standard = { left: WHOLE, right: WHOLE };
    this.results = {};
  }

  /** What is drawn where a scale isn't there yet. */
  get original() {
    return this.results[WHOLE]?.image;
  }

  get decoded() {
    const { image, busy } = this.results[WHOLE] ?? {};
    return busy ? undefined : image;
  }

  /** @returns {[string, string][]} what the header says, as names and values */
  get facts() {
    const { width, height, passes, bitDepth, colour } = this.about;
    const colours = `${colour === "grey" ? "grey" : "RGB"}, ${bitDepth} bits`;
    const size = `${sizeOf(this.data.length)}, ${rateOf(this.data.length, width * height)} bpp`;
    return [
      ["picture", `${width} × ${height}, ${colours}`],
      ...this.#modelFacts,
      ["file", passes > 1 ? `${size}, progressive` : size],
      ...this.#sampleFacts,
    ];
  }

  /** A file without a lossy picture needs no model. */
  get #modelFacts() {
    if (this.layer?.beside === "grey") return [];
    const { model, level } = this.about;
    const { label } = this.model;
    const quality = qualityOf(level, LEVELS, this.layer?.step);
    return [
      ["model", label === model ? model : `${label} (${model})`],
      [this.#promises ? "level of the lossy picture" : "level", `${level} of ${LEVELS - 1}${quality ? `, quality ${quality}` : ""}`],
    ];
  }

  /** What the file promises of its samples. */
  get #sampleFacts() {
    if (!this.#promises) return [];
    const { maxError, progress } = this.layer;
    const promise = maxError ? `no sample off by more than ${maxError}` : "every sample as in the original";
    const shown = this.about.bitDepth > 8 ? `${promise}; shown with 8 bits` : promise;
    return [[maxError ? "near-lossless" : "lossless", progress < 1 ? "no, the file was cut" : shown]];
  }

  /** Whether the file says how far off its samples are. */
  get #promises() {
    return this.layer?.maxError !== undefined;
  }

  get #hasLossy() {
    return this.layer?.beside === "lossy picture";
  }

  get busy() {
    return this.#work.busy;
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
    return this.#next() !== undefined;
  }

  close() {
    this.#work.stop();
    for (const { image } of Object.values(this.results)) image.close?.();
  }

  /** @param {string[]} kinds that are on the screen; the others aren't decoded */
  look(kinds) {
    this.#visible = kinds;
    this.#work.start();
  }

  #next() {
    const wanted = [WHOLE, ...this.#visible].find((kind) => !this.results[kind] || this.results[kind].busy);
    return wanted && (() => this.#show(wanted));
  }

  async #show(kind) {
    const whole = kind === WHOLE;
    const large = this.width * this.height > LARGE;
    this.#say("Opening");
    if (whole && large && this.layer?.beside !== "grey") await this.#sketch(); // else it would take as long as the whole
    const [, name] = this.choices.find(([each]) => each === kind);
    const onpart = whole && (large || this.#hasLossy) ? (part) => this.#paint(part) : undefined;
    const scale = whole ? undefined : Number(kind.at(-1));
    const task = whole ? "Opening" : `Opening, ${name}`;
    const decoded = await decode(this.data, { scale, partial: this.cut, onpart, ...this.#job(task) });
    this.results[kind] = { image: await bitmapOf(decoded, this.data), bytes: whole ? this.data.length : undefined };
    this.change();
  }

  /** The picture in rough colours, which its parts are painted over. */
  async #sketch() {
    if (this.results[WHOLE]) return;
    const { onprogress, signal } = this.#job("Opening");
    const loading = (share, bytes) => bytes !== undefined && onprogress(share, bytes); // the rest is short
    const rough = await thumbnail(this.data, { partial: this.cut, onprogress: loading, signal });
    const bitmap = await bitmapOf(rough, this.data);
    const image = new OffscreenCanvas(this.width, this.height);
    const context = image.getContext("2d");
    const size = [STAND * rough.width, STAND * rough.height];
    context.drawImage(bitmap, 0, 0, ...size); // the edges on the right and below
    context.drawImage(bitmap, (PATCH - STAND) / 2, (PATCH - STAND) / 2, ...size);
    this.results[WHOLE] = { image, busy: true, note: "rough for now" };
    this.change();
  }

  async #paint(part) {
    const result = (this.results[WHOLE] ??= { image: new OffscreenCanvas(this.width, this.height), busy: true });
    const { image } = result;
    if (part.lossy) result.note = "lossy for now";
    const bitmap = await bitmapOf(part, this.data);
    image.getContext("2d").drawImage(bitmap, part.left, part.top);
    bitmap.close();
    this.change();
  }

  #job(task) {
    const { called, bytes } = this.model;
    return { onprogress: telling(task, { name: called, bytes }, this.#say), signal: this.#work.signal };
  }

  #rest() {
    this.report();
    if (this.cut) this.tell(`${this.name} was cut. ${this.#hasLossy ? "Where the rest is missing, it is lossy." : "It is shown as far as it goes."}`);
    keep();
  }

  #say = (text, share) => {
    if (this.#work.busy) this.report(text, share);
  };

  #failed(error) {
    this.report();
    this.fail(new Error(`${this.name}: ${error.message}`));
  }
}
