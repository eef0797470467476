/**
 * The worker: everything that takes long. Messages in: {id, call, given}, or {id, call: "abort"}. Messages out: {id, told},
 * {id, result} or {id, error}. Settings come with the first message. It starts others of itself, whose only message is
 * {thread}: they compute what this one shares out.
 */
import { isWhole } from "./codec.js";
import { unpack } from "./container.js";
import { Core, hasSimd, runThread } from "./core.js";
import { HpcmError } from "./errors.js";
import { fetched, sha256 } from "./fetching.js";
import { Models } from "./models.js";

const LOADING = 0.3; // share of the progress that loading a model is shown as
const PATIENCE = 5000; // milliseconds until a thread must have begun
const aborts = new Map(); // id -> AbortController
const analysed = new Map(); // handle -> {model, latents}
let models;
let handles = 0;

const calls = {
  settings({ models: base, wasm, threads, version }) {
    if (version !== __VERSION__) throw new HpcmError("version", "the page and its worker are of different releases: reload the page");
    if (!hasSimd()) throw new HpcmError("unsupported", "this browser has no WebAssembly SIMD, which the codec needs");
    models = new Models(base, core(wasm, threads));
  },

  async models() {
    const { default: standard, models: entries } = await models.index();
    return { default: standard, models: entries.map(({ name, hash, bytes }) => ({ name, hash, bytes })) };
  },

  async decode({ data, scale, partial, box }, job) {
    const container = unpack(data, { partial });
    const codec = await models.made(container, job.loading);
    const found = await codec.decode(container, { scale, box, told: job.working, signal: job.signal });
    return { ...found, whole: isWhole(container) };
  },

  async analyse({ image, model }, job) {
    const codec = await models.named(model, job.loading);
    const latents = await codec.analyse(image, { told: job.working, signal: job.signal });
    analysed.set(++handles, { model: codec.weights.name, latents });
    return { handle: handles, model: codec.weights.name };
  },

  async encode({ handle, quality, progressive }, job) {
    if (!analysed.has(handle)) throw new HpcmError("usage", "these latents were freed");
    const { model, latents } = analysed.get(handle);
    const codec = await models.named(model, job.loading);
    return codec.encode(latents, codec.levelOf(quality), { progressive, told: job.working, signal: job.signal });
  },

  free({ handle }) {
    analysed.delete(handle);
  },
};

/** libhpcm, loaded when it is first asked for. A failure isn't kept: the next call tries again. */
function core(folder, threads) {
  let loading;
  return () => {
    loading ??= loadCore(folder, threads).catch((error) => {
      loading = undefined;
      throw error;
    });
    return loading;
  };
}

async function loadCore(folder, threads) {
  const name = threads > 1 ? "hpcm-threads.wasm" : "hpcm.wasm";
  const data = await fetched(new URL(name, folder));
  if ((await sha256(data)) !== __WASM__[name]) {
    throw new HpcmError("version", `${name} is damaged or of another release: reload the page`);
  }
  return Core.load(await WebAssembly.compile(data), { threads, lend });
}

function lend(thread) {
  const worker = new Worker(self.location.href, { type: "module" });
  return new Promise((begun, failed) => {
    worker.onmessage = begun;
    worker.onerror = failed;
    setTimeout(failed, PATIENCE);
    worker.postMessage({ thread });
  });
}

let queue = Promise.resolve(); // one call after the other: they share the model's memory

self.onmessage = ({ data: { id, call, given, thread } }) => {
  if (thread) {
    runThread(thread, () => self.postMessage("begun"));
    return;
  }
  if (call === "abort") {
    aborts.get(id)?.abort();
    return;
  }
  const abort = new AbortController();
  aborts.set(id, abort);
  queue = queue.then(() => answer(id, call, given, abort.signal)).finally(() => aborts.delete(id));
};

async function answer(id, call, given, signal) {
  const told = (share, bytes) => self.postMessage({ id, told: share, bytes });
  const job = {
    signal,
    loading: (share, bytes) => told(LOADING * share, bytes),
    working: (share) => told(LOADING + (1 - LOADING) * share),
  };
  try {
    if (signal.aborted) throw new HpcmError("aborted", "stopped by the caller");
    if (!models && call !== "settings") throw settingsFailed;
    const result = await calls[call](given, job);
    const buffer = result?.data?.buffer ?? result?.buffer;
    self.postMessage({ id, result }, buffer ? [buffer] : []);
  } catch (error) {
    if (call === "settings") settingsFailed = error;
    self.postMessage({ id, error: described(error) });
  }
}

let settingsFailed;

function described(error) {
  if (error instanceof HpcmError) return { code: error.code, message: error.message };
  if (error instanceof RangeError) return { code: "memory", message: `the browser has too little memory for this picture: ${error.message}` };
  return { code: "model", message: String(error?.message ?? error) };
}
