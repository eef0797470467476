/**
 * The worker: everything that takes long. Messages in: {id, call, given}, or {id, call: "abort"}. Messages out: {id, told},
 * {id, result} or {id, error}. Settings come with the first message.
 */
import * as ort from "onnxruntime-web/wasm";
import { isWhole } from "./codec.js";
import { unpack } from "./container.js";
import { HpcmError } from "./errors.js";
import { Models } from "./models.js";

const LOADING = 0.3; // share of the progress that loading a model is shown as
const aborts = new Map(); // id -> AbortController
const analysed = new Map(); // handle -> {codec, latents}
let models;
let handles = 0;

const calls = {
  settings({ models: base, wasm, threads }) {
    ort.env.wasm.wasmPaths = wasm;
    ort.env.wasm.numThreads = threads;
    ort.env.logLevel = "error";
    models = new Models(base, new URL("graphs.json", self.location), ort);
  },

  async models() {
    const { default: standard, models: entries } = await models.index();
    return { default: standard, models: entries.map(({ name, hash, bytes }) => ({ name, hash, bytes })) };
  },

  async decode({ data, scale, partial }, job) {
    const container = unpack(data, { partial });
    const codec = await models.made(container, job.loading);
    const found = await codec.decode(container, { scale, told: job.working, signal: job.signal });
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

let queue = Promise.resolve(); // one call after the other: they share the networks' memory

self.onmessage = ({ data: { id, call, given } }) => {
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
    const result = await calls[call](given, job);
    const buffer = result?.data?.buffer ?? result?.buffer;
    self.postMessage({ id, result }, buffer ? [buffer] : []);
  } catch (error) {
    const known = error instanceof HpcmError;
    self.postMessage({ id, error: { code: known ? error.code : "model", message: String(error?.message ?? error) } });
  }
}
