/**
 * hpcm in browsers and Node: opens and makes .hpcm files, with the same symbols as everywhere else. A worker does the work.
 *
 *     import { decode, encode } from "hpcm-web";
 *     const { data, width, height } = await decode(await (await fetch("photo.hpcm")).arrayBuffer());
 *     const file = await encode(await (await fetch("photo.jpg")).blob(), { quality: 50 });
 *
 * @typedef {{data: Uint8ClampedArray<ArrayBuffer>, width: number, height: number}} Picture RGBA, row by row, not premultiplied
 * @typedef {Picture & {left: number, top: number, lossy: boolean}} Part of a picture, and where it lies in it. lossy: whether
 *   the same part comes again, with what the lossy picture lacks
 * @typedef {{data: Uint8ClampedArray|Uint8Array, width: number, height: number}} Pixels RGBA, as ImageData has it
 * @typedef {{width: number, height: number, close: () => void}} Bitmap an ImageBitmap
 * @typedef {(share: number, bytes?: number) => void} Progress is told 0 to 1; while a model loads, its bytes so far
 * @typedef {{onprogress?: Progress, signal?: AbortSignal}} Watching a call, and stopping it
 *
 * @typedef {object} Model where a model is: what packages of models export
 * @property {string} name
 * @property {string} hash the first 16 digits of sha256, which files have
 * @property {string} sha256 of the weights file, in hexadecimal digits
 * @property {number} bytes of the weights file
 * @property {string|URL} url of the weights file
 *
 * @typedef {object} Info what a file says of itself
 * @property {number} width
 * @property {number} height
 * @property {string} model
 * @property {string} hash of the model
 * @property {number} level of quality
 * @property {"rgb"|"grey"} colour
 * @property {number} bitDepth of the samples, 8 to 16; pixels here have 8
 * @property {number} tileSide in pixels
 * @property {number} passes 3 if it is progressive, else 1
 * @property {boolean} hasAlpha
 * @property {boolean} hasIcc
 * @property {boolean} hasExif
 * @property {Layer} [residual] the layer that makes more of the lossy picture, if there is one
 * @property {number} progress how much of its parts is there, 0 to 1
 *
 * @typedef {object} Layer what the lossy picture lacks
 * @property {"lossy picture"|"grey"} beside what it is coded beside. Beside grey there is no lossy picture
 * @property {number} [maxError] no sample is off by more; 0: every sample is as in the original. Undefined if nothing is
 *   promised
 * @property {number} [step] of its coefficients, if nothing is promised
 * @property {number} progress of how many of the tiles it is there, 0 to 1
 *
 * @typedef {object} Latents what doesn't depend on the quality; they take memory until they are freed
 * @property {number} width
 * @property {number} height
 * @property {string} model
 * @property {number} levels how many levels of quality there are
 * @property {(quality?: number, options?: {progressive?: boolean, lossless?: boolean, maxError?: number} & Watching) => Promise<Uint8Array<ArrayBuffer>>} encode
 *   as the function `encode`
 * @property {() => void} free
 */
import { base, cores, keepRunning, pixelsOf, startWorker } from "#caller"; // of browsers or of Node
import { bitmapOf } from "./colours.js";
import { isBesideGrey, progressOf, residualProgressOf, unpack, unpackHead } from "./container.js";
import { HpcmError, checkAborted } from "./errors.js";
import { levelOf, promiseOf, qualityOf } from "./levels.js";

export { HpcmError, bitmapOf, levelOf, qualityOf };

const VERSION = __VERSION__; // of all the sources that page, module and worker were made of
const MAX_THREADS = 4;
const UNLOADED = "it isn't there, or its type isn't that of JavaScript, or there is no connection"; // the browser doesn't say which
const WASM = ["hpcm.wasm", "hpcm-threads.wasm"];
const settings = {};
const waiting = new Map(); // id -> {resolve, reject, onprogress, onpart, from}, from: the worker
let worker;
let count = 0;

/**
 * Where things are; call it before anything else. Relative URLs are relative to the page, and in Node to the working directory.
 * @param {object} given
 * @param {string|URL|Model|(string|URL|Model)[]} [given.models] the URL of a folder with models, a model, or several of both;
 *   by default the folder models/. The first one's default is the default
 * @param {string|URL} [given.wasm] the URL of a folder with the .wasm files, if they aren't next to this module
 * @param {string|URL} [given.worker] the URL of worker.js, if it isn't next to this module
 * @param {number} [given.threads] that compute, by default up to four; it is one in pages that aren't cross-origin isolated
 * @param {string} [given.version] of the page, if it was built with the module. If it isn't the module's, every call is refused
 */
export function configure(given) {
  if (worker) throw new HpcmError("usage", "configure comes before the first call");
  const { threads = 1 } = given;
  if (!(Number.isInteger(threads) && threads >= 1)) throw new HpcmError("usage", `threads is ${threads}: it must be a whole number from 1 on`);
  Object.assign(settings, given);
}

/** @returns {Promise<{default: string|null, models: {name: string, hash: string, bytes: number}[]}>} */
export const models = () => ask("models", {});

/**
 * Whether a model's weights are at hand, so that it needs no network.
 * @param {string} model its name
 * @returns {Promise<boolean>}
 */
export const cached = (model) => ask("cached", { model });

/**
 * Fetches a model's weights while other calls work; a call that uses the model comes afterwards.
 * @param {string} model its name
 * @param {Watching} [options]
 * @returns {Promise<void>}
 */
export const preload = (model, options) => ask("preload", { model }, options);

/**
 * What the header of a file says; the beginning of a file is enough.
 * @param {Uint8Array|ArrayBuffer} data
 * @returns {Info}
 */
export function info(data) {
  const bytes = viewed(data);
  const container = whatIsThere(bytes);
  const { width, height, model, hash, level, colour, bitDepth, tileSide, passes, icc, exif, alpha } = container;
  const has = { hasAlpha: Boolean(alpha), hasIcc: Boolean(icc), hasExif: Boolean(exif) };
  const residual = container.residual && layerOf(container);
  return { width, height, model, hash, level, colour, bitDepth, tileSide, passes, ...has, residual, progress: progressOf(container) };
}

/** A file that may be cut; without tiles the head alone. */
function whatIsThere(bytes) {
  try {
    return unpack(bytes, { partial: true });
  } catch (error) {
    if (error.code !== "truncated") throw error;
    return unpackHead(bytes);
  }
}

/** @returns {Layer} */
function layerOf(container) {
  const { kind, number } = container.residual;
  const beside = isBesideGrey(container) ? "grey" : "lossy picture";
  const told = kind === "coefficients" ? { step: number } : { maxError: number };
  return { beside, ...told, progress: residualProgressOf(container) };
}

/**
 * A file's picture.
 * @param {Uint8Array|ArrayBuffer|Blob} data
 * @param {object} [options]
 * @param {1|2|3} [options.scale] 1 or 2: a coarse picture from the first scales of a progressive file; 3: the lossy picture
 *   of a file with a residual layer. Files that have no such thing are decoded whole
 * @param {boolean} [options.partial] shows a file that was cut as far as it goes
 * @param {Progress} [options.onprogress]
 * @param {[number, number, number, number]} [options.box] left, top, right, bottom in pixels; by default the whole picture
 * @param {(part: Part) => void} [options.onpart] is given each part of the picture as soon as it is decoded, opaque; of a
 *   file with a residual layer first all parts of the lossy picture
 * @param {AbortSignal} [options.signal]
 * @returns {Promise<Picture & {whole: boolean}>} whole: false if the file was cut
 */
export async function decode(data, { scale, partial = false, box, onprogress, onpart, signal } = {}) {
  const given = { data: await bytesOf(data), scale, partial, box, parts: Boolean(onpart) };
  return ask("decode", given, { onprogress, onpart, signal });
}

/**
 * A rough small picture, of which each pixel stands for 64 x 64, in about a ninth of the time: to be shown until `decode`
 * is done. Of a file without a lossy picture it takes as long as that.
 * @param {Uint8Array|ArrayBuffer|Blob} data
 * @param {{partial?: boolean} & Watching} [options]
 * @returns {Promise<Picture>} opaque
 */
export async function thumbnail(data, { partial = false, onprogress, signal } = {}) {
  return ask("thumbnail", { data: await bytesOf(data), partial }, { onprogress, signal });
}

/**
 * A file's picture as a PNG, for `<img>` and for saving. It says what the file says of its colours. Its samples aren't
 * compressed: that would take as long as decoding.
 * @param {Uint8Array|ArrayBuffer|Blob} data
 * @param {object} [options]
 * @param {[number, number]} [options.within] width and height that are enough: the picture is reduced by a whole number as
 *   far as it still fills them, part by part, so that the whole one takes no memory. Pictures with alpha aren't reduced
 * @param {boolean} [options.rough] the small picture that `thumbnail` gives
 * @param {(share: number, bytes?: number) => void} [options.onprogress] as of `decode`
 * @param {AbortSignal} [options.signal]
 * @returns {Promise<{data: Uint8Array, width: number, height: number}>} the file, and its size in pixels
 */
export async function toPng(data, { within, rough = false, onprogress, signal } = {}) {
  if (within && !within.every((side) => side > 0)) throw new HpcmError("usage", `within is ${within}: both must be larger than 0`);
  return ask("toPng", { data: await bytesOf(data), within, rough }, { onprogress, signal });
}

/**
 * A picture's file.
 * @param {Pixels|Bitmap|Blob} image in Node pixels only
 * @param {object} [options]
 * @param {number} [options.quality] 1 (smallest) to 100 (best, visually lossless), by default 50. With lossless or maxError
 *   that of the lossy picture in the file, up to 80; by default the one that makes the smallest file
 * @param {string} [options.model] by default the one that models() names
 * @param {boolean} [options.progressive] whether its beginning shows the picture coarsely; by default if that costs little
 * @param {boolean} [options.lossless] every sample comes back as it is. The file is decoded and compared before it is given
 * @param {number} [options.maxError] no sample comes back off by more, 0 to 127, which is checked, too
 * @param {Progress} [options.onprogress]
 * @param {AbortSignal} [options.signal]
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
export async function encode(image, { quality, model, progressive, lossless, maxError, onprogress, signal } = {}) {
  promiseOf({ quality, lossless, maxError }); // before anything takes time
  const half = (start) => onprogress && ((share, bytes) => onprogress(start + share / 2, bytes));
  const latents = await analyse(image, { model, onprogress: half(0), signal });
  try {
    return await latents.encode(quality, { progressive, lossless, maxError, onprogress: half(0.5), signal });
  } finally {
    latents.free();
  }
}

/**
 * What doesn't depend on the quality, computed once: for a slider.
 * @param {Pixels|Bitmap|Blob} image
 * @param {{model?: string} & Watching} [options]
 * @returns {Promise<Latents>}
 */
export async function analyse(image, { model, onprogress, signal } = {}) {
  const { data, width, height } = image?.data && image.width ? image : await pixelsOf(image);
  checkAborted(signal);
  const found = await ask("analyse", { image: { data, width, height }, model }, { onprogress, signal });
  const from = worker;
  const call = (name, given, how) => {
    if (worker !== from) return Promise.reject(new HpcmError("lost", "the worker that had looked at the picture ended"));
    return ask(name, { handle: found.handle, ...given }, how);
  };
  return {
    ...{ width, height, model: found.model, levels: found.levels },
    encode: (quality, { progressive, lossless, maxError, ...rest } = {}) => call("encode", { quality, progressive, lossless, maxError }, rest),
    free: () => void call("free").catch(() => {}),
  };
}

const bytesOf = async (data) => (data instanceof Blob ? read(data) : viewed(data));

/** The bytes of a file, which may have gone from the disk. */
async function read(blob) {
  try {
    return new Uint8Array(await blob.arrayBuffer());
  } catch (error) {
    throw new HpcmError("picture", `the file can't be read: ${error.message}`);
  }
}

function viewed(data) {
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  if (data instanceof Uint8Array) return data;
  throw new HpcmError("usage", "the data must be a Uint8Array, an ArrayBuffer or a Blob");
}

/** Starts the worker, and says what becomes of its calls if it is lost. */
function start() {
  const failures = new BroadcastChannel(`hpcm ${crypto.getRandomValues(new Uint32Array(4)).join("-")}`);
  failures.unref?.(); // Node waits for a channel that listens
  const lose = (code, message) => {
    failures.close();
    made.terminate();
    if (worker === made) worker = undefined; // the next call starts another
    for (const [id, { from, reject }] of waiting) {
      if (from !== made) continue;
      waiting.delete(id);
      reject(new HpcmError(code, message));
    }
  };
  const made = startWorker(settings.worker, {
    received,
    unreadable: () => lose("memory", "there is too little memory for the result"),
    failed(message) {
      if (message) lose("lost", `the worker failed: ${message}`);
      else lose("network", `${settings.worker ?? "worker.js"} can't be loaded: ${UNLOADED}`);
    },
  });
  failures.onmessage = ({ data }) => lose("lost", data);
  worker = made;
  const threads = settings.threads ?? Math.min(cores(), MAX_THREADS);
  const where = { models: sourcesOf(settings.models ?? "models/"), wasm: codecOf(settings.wasm) };
  ask("settings", { ...where, threads, version: VERSION, failures: failures.name }).catch(() => {}); // each call says it again
}

/** Where models are: URLs of folders, and models by themselves. */
function sourcesOf(given) {
  const source = (each) => (isAddress(each) ? folderOf(each) : { ...each, url: new URL(each?.url, base()).href });
  return [given].flat().map(source);
}

const isAddress = (given) => typeof given === "string" || given instanceof URL;

/** A folder's URL, which ends with a slash: other URLs are relative to it. */
function folderOf(address) {
  const url = new URL(address, base());
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  return url.href;
}

/** URLs of the .wasm files: those next to this module in the form that bundlers look for, or in another folder. */
function codecOf(folder) {
  if (folder) return Object.fromEntries(WASM.map((name) => [name, new URL(name, folderOf(folder)).href]));
  const [one, several] = [new URL("./hpcm.wasm", import.meta.url), new URL("./hpcm-threads.wasm", import.meta.url)];
  return { "hpcm.wasm": one.href, "hpcm-threads.wasm": several.href };
}

async function ask(call, given, { onprogress, onpart, signal } = {}) {
  if ((settings.version ?? VERSION) !== VERSION) throw new HpcmError("version", "the page and its codec are of different releases: reload the page");
  if (!worker) start();
  const id = ++count;
  const from = worker;
  const abort = () => from.postMessage({ id, call: "abort" });
  try {
    return await new Promise((resolve, reject) => {
      waiting.set(id, { resolve, reject, onprogress, onpart, from });
      keepRunning(from, true);
      from.postMessage({ id, call, given });
      signal?.addEventListener("abort", abort);
      if (signal?.aborted) abort();
    });
  } finally {
    waiting.delete(id);
    keepRunning(from, waiting.size > 0);
    signal?.removeEventListener("abort", abort);
  }
}

function received({ id, told, bytes, part, result, error }) {
  const job = waiting.get(id);
  if (!job) return;
  if (told !== undefined) job.onprogress?.(told, bytes);
  else if (part) job.onpart(part);
  else if (error) job.reject(new HpcmError(error.code, error.message));
  else job.resolve(result);
}
