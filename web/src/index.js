/**
 * hpcm in the browser: opens and makes .hpcm files, with the same symbols as everywhere else. The work is done in a worker.
 *
 *     import { decode, encode } from "hpcm-web";
 *     const { data, width, height } = await decode(await (await fetch("photo.hpcm")).arrayBuffer());
 *     const file = await encode(await (await fetch("photo.jpg")).blob(), { quality: 50 });
 */
import { progressOf, unpack, unpackHead } from "./container.js";
import { HpcmError, checkAborted } from "./errors.js";

export { HpcmError };

const MAX_THREADS = 4;
const settings = {};
const waiting = new Map(); // id -> {resolve, reject, onprogress}
let worker;
let count = 0;

/**
 * Where things are; call it before anything else. Relative URLs are relative to the page.
 * @param {{models?: string|URL, wasm?: string|URL, worker?: string|URL, threads?: number}} given
 */
export function configure(given) {
  if (worker) throw new HpcmError("usage", "configure comes before the first call");
  Object.assign(settings, given);
}

/** @returns {Promise<{default: string, models: {name: string, hash: string, bytes: number}[]}>} */
export const models = () => ask("models", {});

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
 * @param {AbortSignal} [options.signal]
 * @returns {Promise<{data: Uint8ClampedArray, width: number, height: number, whole: boolean}>} RGBA
 */
export async function decode(data, { scale = 3, partial = false, box, onprogress, signal } = {}) {
  const bytes = data instanceof Blob ? new Uint8Array(await data.arrayBuffer()) : viewed(data);
  return ask("decode", { data: bytes, scale, partial, box }, { onprogress, signal });
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
  const made = worker;
  const call = (name, given, how) => {
    if (worker !== made) return Promise.reject(new HpcmError("lost", "the worker that had looked at the picture ended"));
    return ask(name, { handle: found.handle, ...given }, how);
  };
  return {
    ...{ width, height, model: found.model },
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
    return context.getImageData(0, 0, bitmap.width, bitmap.height);
  } catch (error) {
    throw new HpcmError("picture", `the picture can't be read: ${error.message}`);
  }
}

const viewed = (data) => (data instanceof ArrayBuffer ? new Uint8Array(data) : data);

function start() {
  const page = (url, standard) => new URL(url ?? standard, document.baseURI).href;
  worker = new Worker(settings.worker ?? new URL("./worker.js", import.meta.url), { type: "module" });
  worker.onmessage = ({ data }) => received(data);
  worker.onerror = (event) => {
    for (const { reject } of waiting.values()) reject(new HpcmError("lost", `the worker failed: ${event.message ?? "no reason given"}`));
    waiting.clear();
    worker.terminate();
    worker = undefined; // the next call starts another
  };
  const threads = settings.threads ?? (globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, MAX_THREADS) : 1);
  const where = { models: page(settings.models, "models/"), wasm: page(settings.wasm, "./") };
  ask("settings", { ...where, threads, version: __VERSION__ }).catch(() => {}); // each call says it again
}

function ask(call, given, { onprogress, signal } = {}) {
  if (!worker) start();
  const id = ++count;
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject, onprogress });
    signal?.addEventListener("abort", () => worker.postMessage({ id, call: "abort" }), { once: true });
    worker.postMessage({ id, call, given });
    if (signal?.aborted) worker.postMessage({ id, call: "abort" });
  });
}

function received({ id, told, bytes, result, error }) {
  const job = waiting.get(id);
  if (!job) return;
  if (told !== undefined) {
    job.onprogress?.(told, bytes);
    return;
  }
  waiting.delete(id);
  if (error) job.reject(new HpcmError(error.code, error.message));
  else job.resolve(result);
}
