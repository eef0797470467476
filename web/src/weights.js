/** Weights files (safetensors) -> arrays as they are stored; the Python package's model/storage.py says how. */
import { HpcmError } from "./errors.js";

const MAX_HEADER = 2 ** 24;
const MAX_DIMENSIONS = 4;
const TYPE_BYTES = { I8: 1, I16: 2, I32: 4, F16: 2, F32: 4 }; // those that libhpcm reads
const HASH_BYTES = 8; // of the SHA-256, by which files name a model

/** A file of tensors: `metadata`, and `tensors` by name as {type, shape, bytes}, which are views. */
export function readSafetensors(data) {
  try {
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    const size = Number(view.getBigUint64(0, true));
    if (size > MAX_HEADER) throw new RangeError("the header is too long");
    const header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(data.subarray(8, 8 + size)));
    const tensors = new Map();
    for (const [name, described] of Object.entries(header)) {
      if (name !== "__metadata__") tensors.set(name, tensorOf(name, described, data.subarray(8 + size)));
    }
    return { metadata: header.__metadata__ ?? {}, tensors };
  } catch (error) {
    throw new HpcmError("model", `the weights file can't be read: ${error.message}`);
  }
}

function tensorOf(name, { dtype: type, shape, data_offsets: [start, stop] }, data) {
  const sides = shape.every((side) => Number.isInteger(side) && side >= 0);
  if (!(type in TYPE_BYTES) || !sides || shape.length > MAX_DIMENSIONS) throw new TypeError(`${name} has a type or shape that isn't known`);
  const bytes = shape.reduce((product, side) => product * side, TYPE_BYTES[type]);
  const fits = Number.isInteger(start) && 0 <= start && stop - start === bytes && stop <= data.length;
  if (!fits) throw new RangeError(`${name} lies outside the file or has another size than its shape`);
  return { type, shape, bytes: data.subarray(start, stop) };
}

/** All that a weights file holds. */
export class Weights {
  /** @param {Uint8Array} data a weights file @param {string} digest its SHA-256 */
  constructor(data, digest) {
    const { metadata, tensors } = readSafetensors(data);
    this.hash = digest.slice(0, 2 * HASH_BYTES);
    this.tensors = tensors;
    try {
      this.config = JSON.parse(metadata.config);
      this.name = metadata.name ?? this.config.name;
    } catch {
      throw new HpcmError("model", "the weights file doesn't say which model it is");
    }
    const why = unsuited(this.config);
    if (why) throw new HpcmError("model", `${this.name} can't be run here: ${why}`);
  }
}

/** Why libhpcm can't run a model; as codec/engine.py has it. */
function unsuited({ carrier, fusion, transforms }) {
  if (!carrier) return "it isn't exact (`hpcm exact` makes it so)";
  if (fusion === "attention") return "it has attention";
  if (carrier !== "float32") return "its sums are of a kind that needs PyTorch";
  return transforms === "int32" ? null : "its transforms are in floating point (`hpcm exact` makes them integers)";
}
