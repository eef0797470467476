/** The graphs of a model: graphs.json has those of the bundled models' structures; web/graphs.py says what they are. */
import { HpcmError } from "./errors.js";
import { inflate } from "./weights.js";

/** @typedef {{structure: object, sizes: Record<string, number>, graphs: string}[]} Structures what graphs.json holds */

/**
 * @param {import("./weights.js").Weights} weights
 * @param {Structures} structures
 * @returns {Promise<Map<string, Uint8Array>>} ONNX files by name, without weights
 */
export async function graphsOf(weights, structures) {
  const fits = ({ structure }) => Object.keys(structure).every((field) => same(structure[field], weights.config[field]));
  const found = structures.find(fits);
  if (!found) throw new HpcmError("model", `${weights.name} can't be run here: this page can't run models of this structure yet`);
  const all = await inflate(Uint8Array.from(atob(found.graphs), (character) => character.charCodeAt(0)));
  const graphs = new Map();
  let start = 0;
  for (const [name, size] of Object.entries(found.sizes)) {
    graphs.set(name, all.subarray(start, start + size));
    start += size;
  }
  return graphs;
}

/** Both come from Python's JSON of the same fields, so the order of keys is the same too. */
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
