/** A .hpcm file that was opened: its scales as they come, and what its header says. */
import { decode, info } from "hpcm-web";
import { qualityOf, rateOf, sizeOf } from "./format.js";
import { telling } from "./loading.js";
import { drawable } from "./picture.js";

const LAST = 3; // scale: the whole picture
const LEVELS = 64; // of the released models
const kindOf = (scale) => `scale-${scale}`;

export class Opened {
  #closed = false;
  #abort = new AbortController();
  stale = false;

  /** @param {Uint8Array} data @param {{name, models, report, fail, change}} setting; throws HpcmError */
  constructor(data, setting) {
    Object.assign(this, setting);
    this.data = data;
    this.about = info(data);
    this.cut = this.about.progress < 1;
    this.model = this.models.find((each) => each.hash === this.about.hash) ?? { name: this.about.model, bytes: 0 };
    this.width = this.about.width;
    this.height = this.about.height;
    this.scales = this.about.passes > 1 ? [1, 2, LAST] : [LAST]; // files that aren't progressive are decoded whole
    const whole = this.cut ? "hpcm, cut" : "hpcm";
    this.choices = this.scales.map((scale) => [kindOf(scale), scale === LAST ? whole : `hpcm, scale ${scale}`]);
    this.results = {};
  }

  /** What is drawn where a scale isn't there yet. */
  get original() {
    const known = this.scales.map((scale) => this.results[kindOf(scale)]).filter(Boolean);
    return known.at(-1)?.image;
  }

  /** @returns {[string, string][]} what the header says, as names and values */
  get facts() {
    const { width, height, model, level, levels = LEVELS, passes, bitDepth, colour } = this.about;
    const colours = `${colour === "grey" ? "grey" : "RGB"}, ${bitDepth} bits`;
    const size = `${sizeOf(this.data.length)}, ${rateOf(this.data.length, width * height)} bpp`;
    return [
      ["picture", `${width} × ${height}, ${colours}`],
      ["model", model],
      ["level", `${level} of ${levels - 1}, quality ${qualityOf(level, levels)}`],
      ["file", passes > 1 ? `${size}, progressive` : size],
    ];
  }

  async start() {
    try {
      for (const scale of this.scales) await this.#show(scale);
      if (this.cut && !this.#closed) this.fail(new Error(`${this.name} was cut. It is shown as far as it goes.`));
    } catch (error) {
      if (!this.#closed) this.fail(new Error(`${this.name}: ${error.message}`));
    }
    if (!this.#closed) this.report();
  }

  async #show(scale) {
    const task = this.scales.length > 1 ? `Opening, scale ${scale} of 3` : "Opening";
    const onprogress = telling(task, this.model, this.#say);
    const decoded = await decode(this.data, { scale, partial: this.cut, onprogress, signal: this.#abort.signal });
    const image = await drawable(decoded);
    if (this.#closed) return;
    this.results[kindOf(scale)] = { image, bytes: scale === LAST ? this.data.length : undefined };
    this.change();
  }

  want() {}

  look() {}

  close() {
    this.#closed = true;
    this.#abort.abort();
  }

  #say = (text, share) => {
    if (!this.#closed) this.report(text, share);
  };
}
