/**
 * Weights files (safetensors) -> numbers and tables; the Python package's model/storage.py and model/layers.py say how they
 * are stored.
 */
import { Tables } from "./entropy.js";
import { HpcmError } from "./errors.js";

const MAX_INFLATED = 2 ** 24;
const MAX_HEADER = 2 ** 24;
const HALF_UNITS = Float64Array.from({ length: 32 }, (_, exponent) => 2 ** (exponent - 25)); // of the fraction

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
  /** @param {Uint8Array} data @param {string} hash of `data`, see hashOf */
  constructor(data, hash) {
    const { metadata, tensors } = readSafetensors(data);
    this.hash = hash;
    this.tensors = tensors;
    try {
      this.config = JSON.parse(metadata.config);
      this.layers = JSON.parse(metadata.layers ?? "{}"); // exact convolutions: {name: {kind, stride, padding}}
    } catch {
      throw new HpcmError("model", "the weights file doesn't say which model it is");
    }
    this.name = metadata.name ?? this.config.name;
    const [scales, radius, frequencies] = ["scales", "radius", "frequencies"].map((name) => this.#array(`tables.${name}`));
    this.tables = new Tables(scales, radius, frequencies);
  }

  /** A number as it is stored, in an array of its type. */
  #array(name) {
    const tensor = this.tensors.get(name);
    const kinds = { F32: Float32Array, I32: Int32Array, I16: Int16Array, I8: Int8Array, U8: Uint8Array };
    if (!tensor) throw new HpcmError("model", `the weights don't fit their configuration: no ${name}`);
    if (tensor.type === "F16") return halves(new Uint16Array(tensor.bytes.buffer));
    if (!(tensor.type in kinds)) throw new HpcmError("model", `${name} is stored as ${tensor.type}, which isn't known`);
    return new kinds[tensor.type](tensor.bytes.buffer);
  }

  /** A parameter as single-precision numbers; of an exact convolution as torch's has it. @returns {Float32Array} */
  floats(name) {
    const dot = name.lastIndexOf(".");
    const [layer, part] = [name.slice(0, dot), name.slice(dot + 1)];
    if (!(layer in this.layers) || part === "limit") return Float32Array.from(this.#array(name));
    if (part === "input_scale") return Float32Array.from(this.#array(`${layer}.input_bits`), (bits) => 2 ** bits);
    const units = Float64Array.from(this.#array(`${layer}.exponent`), (exponent) => 2 ** exponent); // of each output
    const values = this.#array(name);
    if (part === "bias") return Float32Array.from(values, (value, i) => value * units[i]);
    const [first, second, ...sides] = this.tensors.get(name).shape;
    const area = sides.reduce((product, side) => product * side, 1);
    const transposed = this.layers[layer].kind === "transposed"; // [in, out, ...] instead of [out, in / groups, ...]
    const out = new Float32Array(values.length);
    for (let i = 0, row = 0; row < first * second; row++) {
      const unit = units[transposed ? row % second : Math.floor(row / second)];
      for (let k = 0; k < area; k++, i++) out[i] = values[i] * unit;
    }
    return out;
  }
}

/** IEEE half-precision numbers as single-precision ones. */
function halves(values) {
  const out = new Float32Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const exponent = (values[i] >> 10) & 31;
    const fraction = values[i] & 1023;
    let size = exponent ? (1024 + fraction) * HALF_UNITS[exponent] : fraction * HALF_UNITS[1];
    if (exponent === 31) size = fraction ? NaN : Infinity;
    out[i] = values[i] & 0x8000 ? -size : size;
  }
  return out;
}

/** What a zlib stream holds, at most `limit` bytes. */
export async function inflate(bytes, limit = MAX_INFLATED) {
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  const pieces = [];
  for (let total = 0; ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    total += value.length;
    if (total > limit) throw new HpcmError("corrupt", "compressed data are longer than they may be");
    pieces.push(value);
  }
  return new Uint8Array(await new Blob(pieces).arrayBuffer());
}

/** The first 16 hexadecimal digits of the SHA-256, by which files name a model. */
export async function hashOf(data) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return [...digest.subarray(0, 8)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
