/** .hpcm files -> what the browser opens. Few are decoded at once; large ones are reduced to the size that is shown. */
import { info, toPng } from "../index.js";
import { HpcmError, checkAborted } from "../errors.js";
import { factorOf } from "../reducing.js";
import { digestOf, find, keep } from "./kept.js";
import { TYPE } from "./names.js";
import { Queue } from "./queue.js";
import { whyNot } from "./why.js";

const LARGE = 2 ** 22; // pixels from which on a picture is reduced: 4 million
const RESERVE = 2; // times the size that is shown, in case it grows
const ROUGH_FROM = 2 ** 18; // pixels from which on a picture is shown roughly at first; smaller ones come soon enough
const LATER = 1e9; // pixels of distance: every rough picture comes before the first whole one

export class Pictures {
  /** @param {{atOnce: number, keep: number}} settings atOnce: decodings. keep: bytes in the cache of decoded pictures */
  constructor({ atOnce, keep: most }) {
    this.queue = new Queue(atOnce);
    this.most = most;
  }

  /**
   * A file, and a rough picture of it.
   * @param {string} url
   * @param {{distance: () => number, credentials?: RequestCredentials, signal: AbortSignal, onsize: (blank: Blob) => void}} how
   *   distance: how far from the screen it is shown, in pixels. onsize: is given an empty picture of the file's size
   * @returns {Promise<{data: Uint8Array, rough?: Blob}>}
   */
  async beginning(url, { distance, credentials = "same-origin", signal, onsize }) {
    const data = await fetched(url, { credentials, signal }); // before its turn: a server that hangs holds up no others
    const { width, height, residual } = info(data);
    onsize(await sized(width, height));
    const soon = width * height < ROUGH_FROM;
    const alone = residual?.beside === "grey"; // a rough picture takes as long as the whole one
    if (soon || alone || (await this.#kept(url, data))) return { data };
    const decode = async () => {
      checkAborted(signal);
      return toPng(data, { rough: true, signal });
    };
    const { data: png } = await this.queue.add(decode, distance);
    return { data, rough: await sized(width, height, png) };
  }

  /**
   * A file's picture, from the cache if it was decoded before.
   * @param {string} url
   * @param {Uint8Array} data the file
   * @param {{distance: () => number, shown?: () => [number, number]|undefined, signal?: AbortSignal}} how shown: width and
   *   height on the screen, in its own pixels, if they are known
   * @returns {Promise<Blob>}
   */
  async whole(url, data, { distance, shown = () => undefined, signal }) {
    const size = info(data);
    const large = size.width * size.height > LARGE && !size.hasAlpha;
    const within = large ? shown()?.map((side) => RESERVE * side) : undefined;
    const reduced = within ? factorOf(size, within) : 1;
    const kept = await this.#kept(url, data, reduced);
    if (kept) return kept.blob();
    const decode = async () => {
      checkAborted(signal);
      const { data: png } = await toPng(data, { within, signal });
      const blob = reduced > 1 ? await sized(size.width, size.height, png) : new Blob([png], { type: "image/png" });
      if (globalThis.caches) await keep(url, blob, { digest: await digestOf(data), reduced, most: this.most });
      return blob;
    };
    return this.queue.add(decode, () => distance() + LATER);
  }

  async #kept(url, data, reduced) {
    return globalThis.caches ? find(url, { digest: await digestOf(data), reduced }) : undefined;
  }
}

/** The bytes at a URL. Those of another server can be read if it allows that, by CORS. */
async function fetched(url, { credentials, signal }) {
  try {
    const response = await fetch(url, { credentials, signal, headers: { accept: `${TYPE},*/*` } });
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
    return new Uint8Array(await response.arrayBuffer());
  } catch (error) {
    checkAborted(signal);
    throw new HpcmError("picture", whyNot(url, error));
  }
}

/** A picture of a natural size with fewer pixels, or none: an SVG, which all browsers take for as large as it says. */
async function sized(width, height, png) {
  const image = png ? `<image width="100%" height="100%" preserveAspectRatio="none" href="${await dataUrl(png)}"/>` : "";
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">${image}</svg>`;
  return new Blob([svg], { type: "image/svg+xml" });
}

function dataUrl(png) {
  const reader = new FileReader();
  return new Promise((done, failed) => {
    reader.onload = () => done(reader.result);
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(new Blob([png], { type: "image/png" }));
  });
}
