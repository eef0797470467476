/** Models by their hash or name: what index.json lists, fetched once and kept by the browser. */
import { Codec } from "./codec.js";
import { HpcmError } from "./errors.js";

const CACHE = "hpcm-models";

/** @typedef {{name: string, hash: string, file: string, bytes: number}} Entry */

export class Models {
  /**
   * @param {string} base URL of the folder with index.json
   * @param {string | URL} graphs URL of graphs.json
   * @param {typeof import("onnxruntime-web")} ort
   */
  constructor(base, graphs, ort) {
    this.base = base;
    this.graphs = graphs;
    this.ort = ort;
    this.codecs = new Map();
  }

  /** @returns {Promise<{default: string, models: Entry[]}>} */
  index() {
    this.listed ??= json(new URL("index.json", this.base)).catch((error) => {
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

  /** One codec is held at a time: the memory of networks isn't small. */
  async #codec(entry, told) {
    const held = this.codecs.get(entry.hash);
    if (held) return held;
    for (const codec of this.codecs.values()) await (await codec.catch(() => null))?.networks.release();
    this.codecs.clear();
    const loading = this.#load(entry, told);
    this.codecs.set(entry.hash, loading);
    loading.catch(() => this.codecs.delete(entry.hash));
    return loading;
  }

  async #load(entry, told = () => {}) {
    const weights = await kept(new URL(entry.file, this.base), entry, told);
    const codec = await Codec.load(weights, await json(this.graphs), this.ort);
    if (codec.weights.hash !== entry.hash) {
      if (globalThis.caches) await caches.delete(CACHE);
      throw new HpcmError("model", `the weights of ${entry.name} are damaged: fetch them again`);
    }
    return codec;
  }
}

/** The bytes at a URL, from the browser's cache if they were fetched before. */
async function kept(url, entry, told) {
  const key = `${url}?${entry.hash}`;
  const cache = await globalThis.caches?.open(CACHE).catch(() => null); // a page without https has none
  const before = await cache?.match(key);
  if (before) return new Uint8Array(await before.arrayBuffer());
  const data = await read(await got(url), entry.bytes, told);
  await cache?.put(key, new Response(data)).catch(() => {}); // a full disk is no reason to stop
  return data;
}

async function json(url) {
  const response = await got(url);
  return response.json();
}

async function got(url) {
  const response = await fetch(url).catch((error) => {
    throw new HpcmError("model", `${url} can't be fetched: ${error.message}`);
  });
  if (!response.ok) throw new HpcmError("model", `${url} can't be fetched: ${response.status} ${response.statusText}`);
  return response;
}

/** A response's bytes, and how many of them there are at the moment to `told`. */
async function read(response, expected, told = () => {}) {
  const pieces = [];
  let size = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    pieces.push(value);
    size += value.length;
    told(Math.min(size / expected, 1), size);
  }
  return new Uint8Array(await new Blob(pieces).arrayBuffer());
}
