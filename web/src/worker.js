/**
 * The worker: everything that takes long. Messages in: {id, call, given}, or {id, call: "abort"}. Messages out: {id, told},
 * {id, part}, {id, result} or {id, error}. Settings come with the first message. It starts others of itself, whose only
 * message is {thread, version, failures}: they compute what this one shares out.
 *
 * An error that isn't foreseen ends this worker, whose memory may be in any state: index.js starts another one.
 */
import { canShare, receive, send, startAnother } from "#inside"; // of browsers or of Node
import { isWhole } from "./codec.js";
import { colourChunks } from "./colours.js";
import { unpack } from "./container.js";
import { Core, hasSimd, runThread } from "./core.js";
import { HpcmError, checkAborted } from "./errors.js";
import { verified } from "./fetching.js";
import { DEFAULT_QUALITY, promiseOf } from "./levels.js";
import { Models } from "./models.js";
import { encodePng } from "./png.js";
import { factorOf } from "./reducing.js";

const LOADING = 0.3; // share of the progress that loading a model is shown as
const PATIENCE = 5000; // milliseconds until a thread must have begun
const MOST_BYTES = 2 ** 22; // of a .wasm file
const aborts = new Map(); // id -> AbortController
const analysed = new Map(); // handle -> {model, latents}
const lent = []; // workers that run threads
let newModels; // once the settings are there
let models;
let settingsFailed;
let handles = 0;

const calls = {
  settings({ models: sources, wasm, threads, version, failures }) {
    if (version !== __VERSION__) throw new HpcmError("version", "the page and its worker are of different releases: reload the page");
    if (!hasSimd()) throw new HpcmError("unsupported", "this browser has no WebAssembly SIMD, which the codec needs");
    newModels = () => new Models(sources, once((signal) => loadCore(wasm, threads, failures, signal)));
    models = newModels();
  },

  async models(given, { signal }) {
    const { default: standard, models: entries } = await models.index(signal);
    return { default: standard, models: entries.map(({ name, hash, bytes }) => ({ name, hash, bytes })) };
  },

  cached: ({ model }, { signal }) => models.cached(model, signal),

  preload: ({ model }, { told, signal }) => models.preload(model, { told, signal }),

  async decode({ data, scale, partial, box, parts }, job) {
    const container = unpack(data, { partial });
    const codec = await models.forFile(container, job.loading);
    const onpart = parts ? job.part : undefined;
    const found = await codec.decode(container, { scale, box, onpart, told: job.working, signal: job.signal });
    return { ...found, whole: isWhole(container) };
  },

  async thumbnail({ data, partial }, job) {
    const container = unpack(data, { partial });
    const codec = await models.forFile(container, job.loading);
    return codec.thumbnail(container, { told: job.working, signal: job.signal });
  },

  async toPng({ data, within, rough }, job) {
    const container = unpack(data);
    const codec = await models.forFile(container, job.loading);
    const how = { told: job.working, signal: job.signal };
    const every = within && !container.alpha ? factorOf(container, within) : 1; // alpha is decoded whole
    const picture = await (rough ? codec.thumbnail(container, how) : every > 1 ? codec.reduced(container, every, how) : codec.decode(container, how));
    const { width, height } = picture;
    const alpha = Boolean(container.alpha) && !rough;
    return { data: encodePng(picture, container.colour === "grey", await colourChunks(container), alpha), width, height };
  },

  async analyse({ image, model }, job) {
    const codec = await models.named(model, job.loading);
    const latents = await codec.analyse(image, { told: job.working, signal: job.signal });
    analysed.set(++handles, { model: codec.model, latents });
    return { handle: handles, model: codec.model.name, levels: codec.levels };
  },

  async encode({ handle, quality, progressive, lossless, maxError }, job) {
    if (!analysed.has(handle)) throw new HpcmError("usage", "these latents were freed");
    const { model, latents } = analysed.get(handle);
    const codec = await models.made(model, job.loading);
    const how = { progressive, told: job.working, signal: job.signal };
    const most = promiseOf({ lossless, maxError, quality });
    if (most === undefined) return codec.encode(latents, codec.levelOf(quality ?? DEFAULT_QUALITY), how);
    return codec.encodeWithin(latents, most, { level: quality === undefined ? undefined : codec.levelOf(quality), ...how });
  },

  free({ handle }) {
    analysed.delete(handle);
  },
};

/** Gives all memory back: WebAssembly's grows and never shrinks. What is needed again is loaded again. */
function forget() {
  for (const worker of lent.splice(0)) worker.terminate();
  models = newModels();
}

/** What `load` gives, loaded when it is first asked for. A failure isn't kept: the next call tries again. */
function once(load) {
  let loaded;
  return async (...given) => (loaded ??= await load(...given));
}

async function loadCore(wasm, threads, failures, signal) {
  try {
    const several = threads > 1 && canShare(); // else memory can't be shared
    if (several) return await coreOf(wasm, "hpcm-threads.wasm", { threads, lend: (thread) => lend(thread, failures) }, signal);
  } catch (error) {
    if (error.code !== "memory") throw error;
  }
  return coreOf(wasm, "hpcm.wasm", {}, signal); // whose memory isn't set aside beforehand
}

async function coreOf(wasm, name, options, signal) {
  const data = await verified(new URL(wasm[name]), __WASM__[name], { most: MOST_BYTES, signal });
  if (!data) throw new HpcmError("version", `${name} is damaged or of another release: reload the page`);
  try {
    return await Core.load(await WebAssembly.compile(data), options);
  } catch (error) {
    if (!(error instanceof WebAssembly.CompileError || error instanceof WebAssembly.LinkError)) throw error;
    throw new HpcmError("unsupported", `this browser can't run ${name}: ${error.message}`);
  }
}

/** Another worker that runs a thread; one that comes too late is welcome. */
function lend(thread, failures) {
  return new Promise((begun, failed) => {
    const worker = startAnother(begun, () => {
      worker.terminate();
      failed();
    });
    lent.push(worker);
    setTimeout(failed, PATIENCE);
    worker.postMessage({ thread, version: __VERSION__, failures });
  });
}

/** In the other worker. Its lender waits for what it computes and hears nothing, so a failure is told to the page. */
function run({ thread, version, failures }) {
  if (version !== __VERSION__) throw new Error("another release");
  try {
    runThread(thread, () => send("begun"));
  } catch (error) {
    new BroadcastChannel(failures).postMessage(`a thread failed: ${error.message}`);
  }
}

const ASIDE = ["models", "cached", "preload"]; // they use no model's memory, and don't wait for those that do
let queue = Promise.resolve(); // one call after the other: they share the model's memory

receive((data) => {
  const { id, call, given, thread } = data;
  if (thread) {
    run(data);
    return;
  }
  if (call === "abort") {
    aborts.get(id)?.abort();
    return;
  }
  const abort = new AbortController();
  aborts.set(id, abort);
  const begin = () => answer(id, call, given, abort.signal).finally(() => aborts.delete(id));
  if (ASIDE.includes(call)) begin();
  else queue = queue.then(begin);
});

async function answer(id, call, given, signal) {
  const told = (share, bytes) => send({ id, told: share, bytes });
  const job = {
    ...{ signal, told },
    part: (part) => send({ id, part }, [part.data.buffer]),
    loading: { told: (share, bytes) => told(LOADING * share, bytes), signal },
    working: (share) => told(LOADING + (1 - LOADING) * share),
  };
  try {
    checkAborted(signal);
    if (!models && call !== "settings") throw settingsFailed;
    const result = await calls[call](given, job);
    const buffer = result?.data?.buffer ?? result?.buffer;
    send({ id, result }, buffer ? [buffer] : []);
  } catch (error) {
    if (call === "settings") settingsFailed = error;
    const { code, message } = foreseen(error) ?? (await end(error));
    if (code === "memory") forget();
    send({ id, error: { code, message } });
  }
}

function foreseen(error) {
  if (error instanceof HpcmError) return error;
  if (error instanceof RangeError) return new HpcmError("memory", `there is too little memory for this picture: ${error.message}`);
  return undefined;
}

/** Ends the worker, by an error that index.js sees. */
function end(error) {
  setTimeout(() => {
    throw error;
  });
  return new Promise(() => {});
}
