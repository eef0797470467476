/**
 * One picture being compressed: the networks look at it once, then each level of the slider is quick. The latest level
 * wins: what is under way for an earlier one is dropped.
 */
import { analyse, decode } from "hpcm-web";
import { qualityOf } from "./format.js";
import { keep, telling } from "./loading.js";
import { drawable } from "./picture.js";
import { RIVALS } from "./rivals.js";

export const LEVELS = 64;
const STILL = 120; // milliseconds without a move before a level is decoded and compared
const NAMES = { original: "Original", hpcm: "hpcm", jpeg: "JPEG", webp: "WebP", avif: "AVIF" };

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

export class Session {
  #closed = false;
  #latents;
  #files = new Map(); // by level
  #shown = -1; // the level that is decoded and compared
  #end = new AbortController();
  #abort = new AbortController(); // of what is under way for one level
  #running = false;
  #visible = [];

  /**
   * @param picture of readPicture
   * @param {{model: {name, bytes}, level, rivals, kinds: string[], report, fail, change}} setting
   */
  constructor(picture, setting) {
    Object.assign(this, setting);
    this.name = picture.name;
    this.picture = picture;
    this.width = picture.pixels.width;
    this.height = picture.pixels.height;
    this.choices = ["original", "hpcm", ...this.kinds].map((kind) => [kind, NAMES[kind]]);
    this.results = { original: { image: picture.bitmap, bytes: picture.bytes } };
  }

  get original() {
    return this.picture.bitmap;
  }

  /** The file at the level that is wanted, if it is there. @returns {Uint8Array|undefined} */
  get data() {
    return this.#files.get(this.level);
  }

  /** Whether what is shown is older than what the slider says. */
  get stale() {
    return this.#shown !== this.level;
  }

  async start() {
    try {
      await this.rivals.original(this.picture.pixels);
      this.#say("Looking at the picture", 0);
      const onprogress = telling("Looking at the picture", this.model, this.#say);
      const latents = await analyse(this.picture.pixels, { model: this.model.name, onprogress, signal: this.#end.signal });
      if (this.#closed) return latents.free();
      this.#latents = latents;
      await this.#run();
      keep();
    } catch (error) {
      this.#failed(error);
    }
  }

  /** @param {number} level 0 to 63 */
  want(level) {
    if (level === this.level) return;
    this.level = level;
    this.#abort.abort();
    this.#abort = new AbortController();
    this.change();
    if (this.#latents) this.#run();
  }

  /** @param {string[]} kinds that are on the screen; the others aren't made */
  look(kinds) {
    this.#visible = kinds;
    this.#match();
  }

  close() {
    this.#closed = true;
    this.#end.abort();
    this.#abort.abort();
    this.#latents?.free();
    this.#latents = undefined;
  }

  async #run() {
    if (this.#running) return;
    this.#running = true;
    try {
      while (!this.#closed && this.stale) await this.#step(this.level);
    } catch (error) {
      this.#failed(error);
    }
    this.#running = false;
    if (!this.#closed) this.report();
  }

  async #step(level) {
    const idle = () => this.#closed || this.level !== level;
    if (!this.#files.has(level)) this.#files.set(level, await this.#latents.encode(qualityOf(level, LEVELS)));
    if (this.#closed) return;
    this.change();
    await pause(STILL);
    if (idle()) return;
    const data = this.#files.get(level);
    const onprogress = telling("Opening the file again", this.model, this.#say);
    let decoded;
    try {
      decoded = await decode(data, { onprogress, signal: this.#abort.signal });
    } catch (error) {
      if (error.code === "aborted") return;
      throw error;
    }
    const [psnr, image] = await Promise.all([this.rivals.psnr(decoded.data), drawable(decoded)]);
    if (idle()) return;
    this.#shown = level;
    this.#put("hpcm", { image, bytes: data.length, psnr });
    this.#match();
  }

  /** Makes those on the screen of the other codecs as large as the hpcm file, where they aren't yet. */
  #match() {
    const limit = this.results.hpcm?.bytes;
    if (limit === undefined || this.#closed) return;
    for (const kind of this.#visible.filter((each) => each in RIVALS)) {
      if (this.results[kind]?.limit !== limit) this.#rival(kind, limit);
    }
  }

  async #rival(kind, limit) {
    const before = this.results[kind];
    this.results[kind] = { ...before, limit, busy: true };
    this.change();
    try {
      const made = await this.rivals.match(kind, limit);
      if (!made || this.#closed || this.results.hpcm.bytes !== limit) return;
      const { bitmap: image, bytes, psnr, quality, fits } = made;
      const note = fits ? `quality ${quality}` : "its smallest, larger than hpcm";
      this.#put(kind, { image, bytes, psnr, note, limit });
      this.change();
    } catch (error) {
      this.#failed(error);
    }
  }

  /** What takes the place of a picture frees its memory, which the browser would be slow to do. */
  #put(kind, result) {
    const before = this.results[kind]?.image;
    this.results[kind] = result;
    this.change();
    before?.close();
  }

  #say = (text, share) => {
    if (!this.#closed) this.report(text, share);
  };

  #failed(error) {
    if (this.#closed) return;
    this.report();
    this.fail(error);
  }
}
