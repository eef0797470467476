/** Models by their hash or name: what lists (index.json) and callers name, fetched once and kept by the browser. */
import { Codec } from "./codec.js";
import { isBesideGrey } from "./container.js";
import { HpcmError } from "./errors.js";
import { fetched, sha256, verified } from "./fetching.js";

const CACHE = "hpcm-models";
const HASH_DIGITS = 16;
const MOST_BYTES = 2 ** 20; // of the list

/**
 * @typedef {{name: string, hash: string, sha256: string, url: string, bytes: number}} Entry hash: the first digits of sha256
 * @typedef {{told?: (share: number, bytes: number) => void, signal?: AbortSignal}} Job of loading
 */

export class Models {
  /**
   * @param {(string|Entry)[]} sources URLs of folders with index.json, and models by themselves
   * @param {(signal?: AbortSignal) => Promise<import("./core.js").Core>} core
   */
  constructor(sources, core) {
    this.sources = sources;
    this.core = core;
    this.codecs = new Map(); // by the SHA-256 of their weights
    this.early = new Map(); // weights that were fetched before they are needed, by their SHA-256
  }

  /**
   * All that there are; the default is the first source's.
   * @param {AbortSignal} [signal]
   * @returns {Promise<{default: string|null, models: Entry[]}>}
   */
  async index(signal) {
    this.listed ??= joined(await Promise.all(this.sources.map((source) => listOf(source, signal))));
    return this.listed;
  }

  /** The codec of a model by its name. @param {Job} job */
  async named(name, job) {
    return this.#codec(await this.#entry(name, job.signal), job);
  }

  /** Whether a model's weights are at hand, so that it needs no network. */
  async cached(name, signal) {
    const entry = await this.#entry(name, signal);
    return this.codecs.has(entry.sha256) || this.early.has(entry.sha256) || isKept(entry);
  }

  /** Fetches a model's weights, which are used later. @param {Job} job */
  async preload(name, { told = () => {}, signal }) {
    const entry = await this.#entry(name, signal);
    if (this.codecs.has(entry.sha256) || this.early.has(entry.sha256)) return;
    this.early.set(entry.sha256, await weightsOf(entry, told, signal));
  }

  /** What the list says of a name: "nano" is the newest of nano-1, nano-2, ... */
  async #entry(name, signal) {
    const { default: standard, models } = await this.index(signal);
    const wanted = name ?? standard;
    const family = models.filter((each) => each.name.replace(/-\d+$/, "") === wanted);
    const entry = models.find((each) => each.name === wanted) ?? family.at(-1);
    if (!entry) throw new HpcmError("model", `there is no model ${wanted} here: ${models.map((each) => each.name).join(", ")}`);
    return entry;
  }

  /** The codec of a model by what a file says of it. @param {{hash: string, name: string}} model @param {Job} job */
  async made({ hash, name }, job) {
    const { models } = await this.index(job.signal);
    const entry = models.find((each) => each.hash === hash);
    if (!entry) throw new HpcmError("model", `the file needs the model ${name} of hash ${hash}, which isn't here`);
    return this.#codec(entry, job);
  }

  /** The codec that opens a file; one that has no lossy picture needs no model. @param {Job} job */
  async forFile(container, job) {
    if (isBesideGrey(container)) return Codec.withoutModel(await this.core(job.signal));
    return this.made({ hash: container.hash, name: container.model }, job);
  }

  /** One codec is held at a time, since a model's memory isn't small; the one before until the next one is at hand. */
  async #codec(entry, { told = () => {}, signal }) {
    if (!this.codecs.has(entry.sha256)) {
      const core = await this.core(signal);
      const data = this.early.get(entry.sha256) ?? (await weightsOf(entry, told, signal));
      this.early.clear();
      for (const codec of this.codecs.values()) codec.free();
      this.codecs.clear();
      this.codecs.set(entry.sha256, await Codec.load(core, data, entry.sha256));
    }
    return this.codecs.get(entry.sha256);
  }
}

/**
 * A weights file, from the browser's cache if it was fetched before. Its SHA-256 must be the one in the list, before it goes
 * into the cache and after it comes out: a portal answers every request with its own page, and disks forget.
 */
async function weightsOf(entry, told, signal) {
  const url = new URL(entry.url);
  const key = keyOf(entry);
  const cache = await opened();
  const before = await keptIn(cache, key);
  if (before && (await sha256(before)) === entry.sha256) return before;
  const heard = (bytes) => told(Math.min(bytes / entry.bytes, 1), bytes);
  const data = await verified(url, entry.sha256, { told: heard, most: entry.bytes, signal });
  if (!data) {
    throw new HpcmError("network", `${url} isn't the model ${entry.name}: it was damaged on the way, or the server answers with something else`);
  }
  await keep(cache, key, data);
  return data;
}

const keyOf = ({ url, sha256: digest }) => `${url}?${digest}`;

async function isKept(entry) {
  return Boolean(await (await opened())?.match(keyOf(entry)).catch(() => undefined));
}

/** The browser's cache of models; null where storage is forbidden, or without https. */
async function opened() {
  try {
    return await caches.open(CACHE);
  } catch {
    return null;
  }
}

async function keptIn(cache, key) {
  try {
    const found = await cache?.match(key);
    return found && new Uint8Array(await found.arrayBuffer());
  } catch {
    return undefined; // it is fetched again
  }
}

/** In the place of what was at this URL before. */
async function keep(cache, key, data) {
  try {
    await cache?.delete(key, { ignoreSearch: true });
    await cache?.put(key, new Response(data));
  } catch {
    // a disk that is full is no reason to stop
  }
}

/** Lists as one. */
function joined(lists) {
  return { default: lists[0]?.default ?? null, models: lists.flatMap(({ models }) => models) };
}

/** What a source lists. */
async function listOf(source, signal) {
  if (typeof source === "string") return fetchedList(new URL("index.json", source), signal);
  if (isEntry(source)) return { default: source.name, models: [source] };
  throw new HpcmError("usage", "what `models` has is neither a URL nor a model: a model has name, hash, sha256, bytes and url");
}

async function fetchedList(url, signal) {
  const text = new TextDecoder().decode(await fetched(url, { cache: "no-cache", most: MOST_BYTES, signal }));
  try {
    const list = JSON.parse(text);
    const models = list.models.map(({ file, ...entry }) => ({ ...entry, url: file && new URL(file, url).href }));
    if (models.every(isEntry)) return { default: list.default, models };
  } catch {
    // told below
  }
  throw new HpcmError("network", `${url} isn't a list of models: the server answers with something else`);
}

function isEntry({ name, hash, sha256: digest, url, bytes }) {
  const texts = [name, hash, digest, url].every((each) => typeof each === "string");
  return texts && digest.startsWith(hash) && hash.length === HASH_DIGITS && Number.isInteger(bytes);
}
