/**
 * hpcm in the browser: opens and makes .hpcm files, with the same symbols as everywhere else. The work is done in a worker.
 *
 *     import { decode, encode } from "hpcm-web";
 *     const { data, width, height } = await decode(await (await fetch("photo.hpcm")).arrayBuffer());
 *     const file = await encode(await (await fetch("photo.jpg")).blob(), { quality: 50 });
 */
import { bitmapOf } from "./colours.js";
import { progressOf, unpack, unpackHead } from "./container.js";
import { HpcmError, checkAborted } from "./errors.js";
import { levelOf } from "./levels.js";

export { HpcmError, bitmapOf, levelOf };

const VERSION = __VERSION__; // of all the sources that page, module and worker were made of
const MAX_THREADS = 4;
const settings = {};
const waiting = new Map(); // id -> {resolve, reject, onprogress, onpart, from}, from: the worker
let worker;
let count = 0;

/**
 * Where things are; call it before anything else. Relative URLs are relative to the page.
 * @param {{models?: string|URL, wasm?: string|URL, worker?: string|URL, threads?: number, version?: string}} given models,
 *   wasm: folders. threads: that compute, by default up to four; it is one unless the page is cross-origin isolated.
 *   version: of the page, if it was built with the module. If it isn't the module's, every call is refused
 */
export function configure(given) {
  if (worker) throw new HpcmError("usage", "configure comes before the first call");
  const { threads = 1 } = given;
  if (!(Number.isInteger(threads) && threads >= 1)) throw new HpcmError("usage", `threads is ${threads}: it must be a whole number from 1 on`);
  Object.assign(settings, given);
}

/** @returns {Promise<{default: string, models: {name: string, hash: string, bytes: number}[]}>} */
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
 * @param {{onprogress?: (share: number, bytes: number) => void, signal?: AbortSignal}} [options]
 */
export const preload = (model, options) => ask("preload", { model }, options);

/**
 * What the header of a file says; the beginning of a file is enough.
 * @param {Uint8Array|ArrayBuffer} data
 */
export function info(data) {
  const bytes = viewed(data);
  const { width, height, model, hash, level, colour, bitDepth, tileSide, passes, icc, exif, alpha } = unpackHead(bytes);
  let progress = 0;
  try {
    progress = progressOf(unpack(bytes, { partial: true }));
  } catch (error) {
    if (error.code !== "truncated") throw error;
  }
  const has = { hasAlpha: Boolean(alpha), hasIcc: Boolean(icc), hasExif: Boolean(exif) };
  return { width, height, model, hash, level, colour, bitDepth, tileSide, passes, ...has, progress };
}

/**
 * A file's picture.
 * @param {Uint8Array|ArrayBuffer|Blob} data
 * @param {object} [options]
 * @param {1|2|3} [options.scale] of a progressive file: a coarse picture from its first scales; others are decoded whole
 * @param {boolean} [options.partial] shows a file that was cut as far as it goes
 * @param {(share: number, bytes?: number) => void} [options.onprogress] 0 to 1; while a model loads, its bytes so far
 * @param {[number, number, number, number]} [options.box] left, top, right, bottom in pixels; by default the whole picture
 * @param {(part: object) => void} [options.onpart] is given each part of the picture as soon as it is decoded: {data, width,
 *   height, left, top}, opaque
 * @param {AbortSignal} [options.signal]
 * @returns {Promise<{data: Uint8ClampedArray, width: number, height: number, whole: boolean}>} RGBA
 */
export async function decode(data, { scale = 3, partial = false, box, onprogress, onpart, signal } = {}) {
  const given = { data: await bytesOf(data), scale, partial, box, parts: Boolean(onpart) };
  return ask("decode", given, { onprogress, onpart, signal });
}

/**
 * A rough small picture, of which each pixel stands for 64 x 64, in about a ninth of the time: to be shown until `decode`
 * is done.
 * @param {Uint8Array|ArrayBuffer|Blob} data
 * @param {{partial?: boolean, onprogress?: (share: number, bytes?: number) => void, signal?: AbortSignal}} [options]
 * @returns {Promise<{data: Uint8ClampedArray, width: number, height: number}>} RGBA, opaque
 */
export async function thumbnail(data, { partial = false, onprogress, signal } = {}) {
  return ask("thumbnail", { data: await bytesOf(data), partial }, { onprogress, signal });
}

/**
 * A picture's file.
 * @param {ImageData|ImageBitmap|Blob} image
 * @param {object} [options]
 * @param {number} [options.quality] 1 (smallest) to 100 (best)
 * @param {string} [options.model] by default the one that models() names
 * @param {boolean} [options.progressive] whether its beginning shows the picture coarsely; by default if that costs little
 * @returns {Promise<Uint8Array>}
 */
export async function encode(image, { quality = 50, model, progressive, onprogress, signal } = {}) {
  const half = (start) => onprogress && ((share, bytes) => onprogress(start + share / 2, bytes));
  const latents = await analyse(image, { model, onprogress: half(0), signal });
  try {
    return await latents.encode(quality, { progressive, onprogress: half(0.5), signal });
  } finally {
    latents.free();
  }
}

/** What doesn't depend on the quality, computed once: for a slider. */
export async function analyse(image, { model, onprogress, signal } = {}) {
  const { data, width, height } = await pixelsOf(image);
  checkAborted(signal);
  const found = await ask("analyse", { image: { data, width, height }, model }, { onprogress, signal });
  const from = worker;
  const call = (name, given, how) => {
    if (worker !== from) return Promise.reject(new HpcmError("lost", "the worker that had looked at the picture ended"));
    return ask(name, { handle: found.handle, ...given }, how);
  };
  return {
    ...{ width, height, model: found.model, levels: found.levels },
    /** @returns {Promise<Uint8Array>} */
    encode: (quality, { progressive, ...rest } = {}) => call("encode", { quality, progressive }, rest),
    free: () => void call("free").catch(() => {}),
  };
}

/** RGBA of whatever holds a picture. */
async function pixelsOf(image) {
  if (image?.data && image.width) return image;
  try {
    const bitmap = image instanceof Blob ? await createImageBitmap(image, { imageOrientation: "from-image" }) : image;
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    if (bitmap !== image) bitmap.close();
    return context.getImageData(0, 0, canvas.width, canvas.height);
  } catch (error) {
    throw new HpcmError("picture", `the picture can't be read: ${error.message}`);
  }
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
  const address = settings.worker ?? new URL("./worker.js", import.meta.url);
  const made = workerAt(address);
  const failures = new BroadcastChannel(`hpcm ${crypto.getRandomValues(new Uint32Array(4)).join("-")}`);
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
  made.onmessage = ({ data }) => received(data);
  made.onmessageerror = () => lose("memory", "the browser has too little memory for the result");
  made.onerror = ({ message }) => {
    if (message) lose("lost", `the worker failed: ${message}`);
    else lose("network", `${address} can't be loaded: it isn't there, or its type isn't that of JavaScript, or there is no connection`);
  };
  failures.onmessage = ({ data }) => lose("lost", data);
  worker = made;
  const page = (url, standard) => new URL(url ?? standard, document.baseURI).href;
  const threads = settings.threads ?? Math.min(navigator.hardwareConcurrency || 1, MAX_THREADS);
  const where = { models: page(settings.models, "models/"), wasm: page(settings.wasm, "./") };
  ask("settings", { ...where, threads, version: VERSION, failures: failures.name }).catch(() => {}); // each call says it again
}

function workerAt(address) {
  try {
    return new Worker(address, { type: "module" });
  } catch (error) {
    throw new HpcmError("network", `${address} can't be loaded: ${error.message}`);
  }
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
      from.postMessage({ id, call, given });
      signal?.addEventListener("abort", abort);
      if (signal?.aborted) abort();
    });
  } finally {
    waiting.delete(id);
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
