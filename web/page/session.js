/**
 * One picture being compressed: the networks look at it once, then each level is quick. The latest setting wins: what is
 * under way for an earlier one is dropped. Where the wanted model has to be fetched, a smaller one answers first:
 *
 *     look with the quick model --> encode --> decode, compare --> fetch the better model, look with that --> ...
 *                                     ^             |
 *                                     +--- slider --+
 */
import { analyse, bitmapOf, decode, levelOf, preload } from "hpcm-web";
import { shareOf } from "./format.js";
import { keep, telling } from "./loading.js";
import { LARGE } from "./picture.js";
import { RIVALS } from "./rivals.js";
import { Work } from "./work.js";

const STILL = 120; // milliseconds without a move before a level is decoded and compared
const NAMES = { original: "Original", hpcm: "hpcm", jpeg: "JPEG", webp: "WebP", avif: "AVIF" };

const pause = (ms) => new Promise((done) => setTimeout(done, ms));
/** For `telling`, which calls a model by its name. */
const spoken = ({ called, bytes }) => ({ name: called, bytes });

export class Session {
  view = "compressing";
  #closed = false;
  #seen; // {latents, model, files}: what the networks saw, with which model; files by what is wanted of them
  #shown; // the file that is decoded and compared
  #compared = false; // whether the other codecs have the original
  #moved = new AbortController(); // of what a move of the slider makes idle
  #fetching = false; // the better model
  #aside = []; // what to say of that
  #visible = [];
  #work = new Work({
    next: () => this.#next(),
    lose: () => (this.#seen = undefined),
    fail: (error) => this.#broke(error),
    rest: () => this.#rest(),
  });

  /**
   * @param picture of readPicture
   * @param {{plan: object[], quality: number, lossless: boolean, rivals, kinds: string[]}} setting plan: models, the last
   *   of which is wanted. lossless: instead of a quality
   */
  constructor(picture, setting) {
    Object.assign(this, setting);
    this.name = picture.name;
    this.picture = picture;
    this.width = picture.pixels.width;
    this.height = picture.pixels.height;
    this.choices = ["original", "hpcm", ...this.kinds].map((kind) => [kind, NAMES[kind]]);
    this.standard = { left: this.kinds[0] ?? "original", right: "hpcm" };
    this.results = { original: { image: picture.bitmap, bytes: picture.bytes } };
  }

  get original() {
    return this.picture.bitmap;
  }

  /** The model that is wanted in the end. */
  get model() {
    return this.plan.at(-1);
  }

  /** The file of what is wanted, if it is there. @returns {Uint8Array|undefined} */
  get data() {
    return this.#current ? this.#seen.files.get(this.#wanted) : undefined;
  }

  /** Whether what is shown is older than what the slider says. */
  get stale() {
    return !this.data || this.#shown !== this.data;
  }

  /** The picture that the file holds. */
  get decoded() {
    return this.stale ? undefined : this.results.hpcm.image;
  }

  get busy() {
    return this.#work.busy || this.#fetching;
  }

  start() {
    this.#work.start();
  }

  pause() {
    this.#drop();
    this.report();
  }

  /** What is there stays. @returns {boolean} whether something is left to do */
  cancel() {
    this.pause();
    if (this.#seen) this.#settle(this.#seen.model);
    return this.#next() !== undefined;
  }

  close() {
    this.#closed = true;
    this.#drop();
    this.#seen?.latents.free();
    for (const { image } of Object.values(this.results)) image?.close();
  }

  /** @param {{quality?: number, lossless?: boolean}} setting quality: 1 to 100 */
  want(setting) {
    const before = this.#current && this.#wanted;
    Object.assign(this, setting);
    if (!this.#current || this.#wanted !== before) this.#move();
    this.change();
    this.#work.start();
  }

  /** @param {object[]} plan models, the last of which is wanted */
  use(plan) {
    this.plan = plan;
    this.#drop();
    this.change();
    this.#work.start();
  }

  /** @param {string[]} kinds that are on the screen; the others aren't made */
  look(kinds) {
    this.#visible = kinds;
    this.#match();
  }

  /** Ends what is under way. */
  #drop() {
    this.#work.stop();
    this.#move();
  }

  /** Ends what was under way for an earlier level. */
  #move() {
    this.#moved.abort();
    this.#moved = new AbortController();
  }

  /** No other model is to come. */
  #settle(model) {
    this.plan = [model];
    if (this.results.hpcm) this.results.hpcm.note = undefined;
    this.change();
  }

  /** Whether the model whose turn it is has seen the picture. */
  get #current() {
    return this.#seen?.model === this.plan[0];
  }

  /** What is the same for settings that give the same file. @returns {"lossless"|number} */
  get #wanted() {
    return this.lossless ? "lossless" : levelOf(this.quality, this.#seen.latents.levels);
  }

  #next() {
    if (!this.#current) return () => this.#look();
    return this.stale ? () => this.#show() : undefined;
  }

  async #look() {
    if (!this.#compared) await this.rivals.original(this.picture.pixels);
    this.#compared = true;
    const [model] = this.plan;
    this.#say("Looking at the picture", 0);
    const onprogress = telling("Looking at the picture", spoken(model), this.#say);
    const latents = await analyse(this.picture.pixels, { model: model.name, onprogress, signal: this.#work.signal });
    if (this.#closed) return latents.free();
    this.#seen?.latents.free();
    this.#seen = { latents, model, files: new Map() };
  }

  async #show() {
    const { latents, files } = this.#seen;
    const wanted = this.#wanted;
    const idle = () => !this.#work.busy || !this.#current || this.#wanted !== wanted;
    if (!files.has(wanted)) files.set(wanted, await this.#encoded(latents));
    if (this.#closed) return;
    this.change();
    await pause(STILL);
    if (idle()) return;
    const data = files.get(wanted);
    const onprogress = telling("Opening the file again", spoken(this.plan[0]), this.#say);
    const decoded = await decode(data, { onprogress, signal: this.#moved.signal });
    const [psnr, image] = await Promise.all([this.rivals.psnr(decoded.data), bitmapOf(decoded, data)]);
    if (idle()) return image.close();
    this.#shown = data;
    const note = this.plan.length > 1 ? `${this.plan[0].label.toLowerCase()} for now` : undefined;
    this.#put("hpcm", { image, bytes: data.length, psnr, note });
    this.#match();
  }

  /** A move of the slider ends it only where it takes long, so that sizes come while the slider moves. */
  #encoded(latents) {
    const { quality, lossless } = this;
    const long = lossless || this.width * this.height > LARGE;
    const how = { lossless, onprogress: telling("Compressing", spoken(this.plan[0]), this.#say) };
    return latents.encode(lossless ? undefined : quality, { ...how, signal: long ? this.#moved.signal : this.#work.signal });
  }

  #rest() {
    this.report(...this.#aside);
    if (this.plan.length > 1) this.#improve();
    else keep();
  }

  /** Fetches the better model while the quick one's picture is there. */
  async #improve() {
    if (this.#fetching) return;
    const [quick, better] = this.plan;
    this.#fetching = true;
    try {
      const task = `From ${quick.called} for now. Loading ${better.called}`;
      const onprogress = (share, bytes) => this.#whisper(`${task}: ${shareOf(bytes, better.bytes)}`, share);
      await preload(better.name, { onprogress, signal: this.#work.signal });
      if (this.plan[1] === better) this.use([better]);
    } catch (error) {
      if (error.code !== "aborted") this.#stays(quick, better, error);
    }
    this.#fetching = false;
    this.#aside = [];
    if (!this.#work.stopped) this.#work.start(); // it may have been stopped and started meanwhile
  }

  /** The better model can't be fetched. */
  #stays(quick, better, error) {
    if (error.code === "lost") this.#seen = undefined;
    this.#settle(quick);
    this.tell(`This stays ${quick.called}'s: ${better.called} can't be fetched now.`);
  }

  /** Said while nothing more important is. */
  #whisper(text, share) {
    this.#aside = [text, share];
    if (!this.#work.busy) this.report(text, share);
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
    if (this.#work.busy) this.report(text, share);
  };

  /** A step has failed: what is there stays. */
  #broke(error) {
    if (this.#seen) this.#settle(this.#seen.model);
    this.#failed(error);
  }

  #failed(error) {
    if (this.#closed) return;
    this.report();
    this.fail(error);
  }
}
