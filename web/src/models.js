/** Models by their hash or name: what index.json lists, fetched once and kept by the browser. */
import { Codec } from "./codec.js";
import { HpcmError } from "./errors.js";
import { fetched, sha256 } from "./fetching.js";

const CACHE = "hpcm-models";

/** @typedef {{name: string, hash: string, sha256: string, file: string, bytes: number}} Entry hash: the first digits of sha256 */

export class Models {
  /**
   * @param {string} base URL of the folder with index.json
   * @param {() => Promise<import("./core.js").Core>} core
   */
  constructor(base, core) {
    this.base = base;
    this.core = core;
    this.codecs = new Map();
  }

  /** @returns {Promise<{default: string, models: Entry[]}>} */
  index() {
    this.listed ??= listOf(new URL("index.json", this.base)).catch((error) => {
      this.listed = undefined; // so that a later call tries again
      throw error;
    });
    return this.listed;
  }

  /** The codec of a model by its name: "nano" is the newest of nano-1, nano-2, ... */
  async named(name, told) {
    const { default: standard, models } = await this.index();
    const wanted = name ?? standard;
    const family = models.filter((each) => each.name.replace(/-\d+$/, "") === wanted);
    const entry = models.find((each) => each.name === wanted) ?? family.at(-1);
    if (!entry) throw new HpcmError("model", `there is no model ${wanted} here: ${models.map((each) => each.name).join(", ")}`);
    return this.#codec(entry, told);
  }

  /** The codec that decodes a file. */
  async made(container, told) {
    const { models } = await this.index();
    const entry = models.find((each) => each.hash === container.hash);
    if (!entry) {
      throw new HpcmError("model", `the file needs the model ${container.model} of hash ${container.hash}, which isn't here`);
    }
    return this.#codec(entry, told);
  }

  /** One codec is held at a time: a model's memory isn't small. */
  async #codec(entry, told) {
    const held = this.codecs.get(entry.hash);
    if (held) return held;
    for (const codec of this.codecs.values()) (await codec.catch(() => null))?.free();
    this.codecs.clear();
    const loading = this.#load(entry, told);
    this.codecs.set(entry.hash, loading);
    loading.catch(() => this.codecs.delete(entry.hash));
    return loading;
  }

  async #load(entry, told = () => {}) {
    const core = await this.core();
    return Codec.load(core, await weightsOf(new URL(entry.file, this.base), entry, told));
  }
}

/**
 * A weights file, from the browser's cache if it was fetched before. Its SHA-256 must be the one in the list, before it goes
 * into the cache and after it comes out: a portal answers every request with its own page, and disks forget.
 */
async function weightsOf(url, entry, told) {
  const key = `${url}?${entry.sha256}`;
  const cache = await opened();
  const before = await cache?.match(key).catch(() => undefined);
  const kept = before && new Uint8Array(await before.arrayBuffer());
  if (kept && (await sha256(kept)) === entry.sha256) return kept;
  if (kept) await cache.delete(key);
  const data = await fetched(url, (bytes) => told(Math.min(bytes / entry.bytes, 1), bytes));
  if ((await sha256(data)) !== entry.sha256) {
    throw new HpcmError("network", `${url} isn't the model ${entry.name}: it was damaged on the way, or the server answers with something else`);
  }
  await cache?.put(key, new Response(data)).catch(() => {}); // a full disk is no reason to stop
  return data;
}

/** The browser's cache of models; null where storage is forbidden, or without https. */
async function opened() {
  try {
    return await caches.open(CACHE);
  } catch {
    return null;
  }
}

/** The list of models at a URL. */
async function listOf(url) {
  const text = new TextDecoder().decode(await fetched(url));
  try {
    const list = JSON.parse(text);
    const right = list.models.every(({ name, hash, sha256: all, file, bytes }) => [name, hash, all, file].every((each) => typeof each === "string") && all.startsWith(hash) && bytes > 0);
    if (right) return list;
  } catch {
    // told below
  }
  throw new HpcmError("network", `${url} isn't a list of models: the server answers with something else`);
}
