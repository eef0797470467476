/** Weights files (safetensors) -> arrays as they are stored; the Python package's model/storage.py says how. */
import { HpcmError } from "./errors.js";
import { sha256 } from "./fetching.js";

const MAX_HEADER = 2 ** 24;
const HASH_BYTES = 8; // of the SHA-256, by which files name a model

/** A file of tensors: `metadata`, and `tensors` by name as {type, shape, bytes}. */
export function readSafetensors(data) {
  try {
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    const size = Number(view.getBigUint64(0, true));
    if (size > MAX_HEADER) throw new RangeError("the header is too long");
    const header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(data.subarray(8, 8 + size)));
    const tensors = new Map();
    for (const [name, { dtype, shape, data_offsets: offsets }] of Object.entries(header)) {
      if (name === "__metadata__") continue;
      const [start, stop] = offsets.map((offset) => 8 + size + offset);
      if (!(start <= stop && stop <= data.length)) throw new RangeError(`${name} lies outside the file`);
      tensors.set(name, { type: dtype, shape, bytes: data.slice(start, stop) });
    }
    return { metadata: header.__metadata__ ?? {}, tensors };
  } catch (error) {
    throw new HpcmError("model", `the weights file can't be read: ${error.message}`);
  }
}

/** All that a weights file holds. */
export class Weights {
  constructor(data, hash) {
    const { metadata, tensors } = readSafetensors(data);
    this.hash = hash;
    this.tensors = tensors;
    try {
      this.config = JSON.parse(metadata.config);
    } catch {
      throw new HpcmError("model", "the weights file doesn't say which model it is");
    }
    this.name = metadata.name ?? this.config.name;
    const why = unsuited(this.config);
    if (why) throw new HpcmError("model", `${this.name} can't be run here: ${why}`);
  }

  /** @param {Uint8Array} data a weights file */
  static async read(data) {
    return new Weights(data, (await sha256(data)).slice(0, 2 * HASH_BYTES));
  }
}

/** Why libhpcm can't run a model; as codec/engine.py has it. */
function unsuited({ carrier, fusion, transforms }) {
  if (!carrier) return "it isn't exact (`hpcm exact` makes it so)";
  if (fusion === "attention") return "it has attention";
  if (carrier !== "float32") return "its sums are of a kind that needs PyTorch";
  return transforms === "int32" ? null : "its transforms are in floating point (`hpcm exact` makes them integers)";
}
