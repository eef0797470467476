/**
 * libhpcm in WebAssembly: a model's transforms and its coding loop, as the Python package's core/engine.py has them.
 * core/hpcm.h documents the functions. All numbers are those of Python, to the bit.
 *
 * A latent is {values: Float32Array, rows, columns, channels}, [rows][columns][channels].
 */
import { HpcmError } from "./errors.js";
import { converted, sampleBytes } from "./samples.js";

const API_VERSION = 2;
const [OK, NO_MEMORY, BAD_MODEL, BAD_PAYLOAD, BAD_KERNELS] = [0, 2, 4, 5, 6]; // hpcm_status
const MESSAGE_BYTES = 1024;
const PARTS = 3;
const FIRST_PAGES = 32; // of 64 KiB
const MOST_PAGES = [2 ** 15, 2 ** 14, 2 ** 13]; // 2 GiB, or less where the browser can't set so much aside
const MOST_BYTES = 2 ** 31; // of all memory
const MOST_THREADS = 64; // core/wasm.c has the same
const STACK_BYTES = 2 ** 18; // of a thread that is lent
const TYPES = ["I8", "I16", "I32", "F16", "F32"]; // hpcm_type, as weights files name them
const STEMS = ["conv4", "conv2", "unshuffle8"]; // hpcm_stem
const STAGES = 4;
const LATENT_STRIDE = 16;
const LATENTS_PER_Z = 4;
const JOB_WORDS = 12; // of core/wasm.c's residual_job
const [JOB_PAYLOAD, JOB_SIZE, JOB_PIXELS, JOB_STATUS] = [8, 9, 10, 11];
const COARSENING = [4, 2, 1]; // of y on scales 1, 2, 3

/** The module in memory, which models share. */
export class Core {
  /**
   * Throws HpcmError with the code "memory" or "version", and what WebAssembly throws.
   * @param {WebAssembly.Module} module hpcm.wasm, or hpcm-threads.wasm with `lend`
   * @param {{threads?: number, lend?: (given: object) => Promise<void>}} [options] lend: runs runThread(given) in another
   *   worker; the promise is fulfilled when it begins. It is called once for each thread but one. Where it fails there are
   *   fewer threads.
   */
  static async load(module, { threads = 1, lend } = {}) {
    const shared = WebAssembly.Module.imports(module).length > 0; // the memory
    const memory = shared && sharedMemory();
    const { exports } = await WebAssembly.instantiate(module, shared ? { env: { memory } } : {});
    exports._initialize();
    if (exports.hpcm_api_version() !== API_VERSION) throw new HpcmError("version", "hpcm.wasm is of another version: reload the page");
    const core = new Core(exports, memory || exports.memory);
    if (shared) await core.#borrow(Math.min(threads, MOST_THREADS) - 1, (given) => lend({ module, memory, ...given }));
    return core;
  }

  async #borrow(count, lend) {
    const begin = async (number) => {
      const stack = this.allocate(STACK_BYTES) + STACK_BYTES; // never freed: a thread that begins late needs it, too
      await lend({ number, stack });
      this.threads++;
    };
    await Promise.allSettled(Array.from({ length: count }, (_, number) => begin(number)));
  }

  constructor(exports, memory) {
    this.call = exports;
    this.memory = memory;
    this.threads = 1;
    this.model = 0; // of the Engine that was made last, and has the threads
  }

  /** The place of so many bytes, which are to be freed. */
  allocate(bytes) {
    const place = bytes < MOST_BYTES && this.call.hpcm_allocate(Math.max(bytes, 1));
    if (!place) throw noMemory();
    return place;
  }

  /** Calls `work` with a function that allocates and fills; what it allocated is freed afterwards. */
  with(work) {
    const places = [];
    const put = (bytes) => {
      const place = this.allocate(typeof bytes === "number" ? bytes : bytes.byteLength);
      places.push(place);
      if (typeof bytes !== "number") this.bytes(place, bytes.byteLength).set(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength));
      return place;
    };
    try {
      return work(put);
    } finally {
      for (const place of places) this.call.hpcm_free(place);
    }
  }

  // The memory may have grown since: views are made anew each time.

  /** A view: what is to stay is copied by `slice`. */
  bytes(place, size) {
    return new Uint8Array(this.memory.buffer, place, size);
  }

  /** A copy. */
  words(place, count) {
    return new Uint32Array(this.memory.buffer, place, count).slice();
  }

  /** A copy. */
  floats(place, count) {
    return new Float32Array(this.memory.buffer, place, count).slice();
  }

  text(place, most) {
    const bytes = this.bytes(place, most).slice();
    return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
  }

  /**
   * Codes residuals of tiles side by side, each on one thread.
   * @param {object[]} jobs of one kind: {residual, base, bitDepth, shape: [rows, columns, channels], where} and `source`,
   *   which is encoded, or `payload`, which is decoded. where: what is coded, for messages
   * @returns {(Uint8Array|Uint16Array)[]} payloads, or samples
   */
  residuals(jobs) {
    return this.with((put) => {
      const described = jobs.map((job) => this.#described(job, put));
      const place = put(Uint32Array.from(described.flat()));
      check(this.call.hpcm_residual_jobs(this.model, this.threads, place, jobs.length));
      const made = jobs.map((_, i) => this.words(place + 4 * JOB_WORDS * i, JOB_WORDS));
      try {
        return jobs.map((job, i) => this.#residual(job, made[i]));
      } finally {
        jobs.forEach(({ source }, i) => source && this.call.hpcm_residual_free(made[i][JOB_PAYLOAD]));
      }
    });
  }

  /** A residual_job. */
  #described({ residual, source, base, bitDepth, shape, payload }, put) {
    const pixels = source ? 0 : put(base.byteLength);
    const coded = source ? [0, 0] : [put(payload), payload.length];
    const how = [bitDepth, Number(residual.kind === "coefficients"), residual.number];
    return [source ? put(source) : 0, put(base), ...shape, ...how, ...coded, pixels, OK];
  }

  /** What a residual_job has made. */
  #residual({ source, base, where }, job) {
    check(job[JOB_STATUS], `${where} can't be decoded: it is damaged`);
    if (source) return this.bytes(job[JOB_PAYLOAD], job[JOB_SIZE]).slice();
    const bytes = this.bytes(job[JOB_PIXELS], base.byteLength).slice();
    return new base.constructor(bytes.buffer);
  }

  /** The names of the kernels, best first. */
  kernels() {
    return this.text(this.call.hpcm_kernels(), MESSAGE_BYTES).split(" ");
  }
}

/** In the worker that is lent: computes what other threads share out, until the worker is shut down. */
export function runThread({ module, memory, number, stack }, begun) {
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  exports.__stack_pointer.value = stack;
  begun();
  exports.hpcm_lend_thread(number);
}

/** Whether SIMD can be used: a module with one such instruction is valid. */
export function hasSimd() {
  const code = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
  return Boolean(globalThis.WebAssembly?.validate(Uint8Array.from(code)));
}

function sharedMemory() {
  for (const maximum of MOST_PAGES) {
    try {
      return new WebAssembly.Memory({ initial: FIRST_PAGES, maximum, shared: true });
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
  }
  throw noMemory();
}

/** A model, and what it computes. */
export class Engine {
  /** Needs `weights` no longer when it is made. @param {Core} core @param {import("./weights.js").Weights} weights */
  constructor(core, weights) {
    this.core = core;
    this.config = weights.config;
    const described = configOf(weights);
    this.model = core.with((put) => {
      const [message, made, config] = [put(MESSAGE_BYTES), put(4), put(described)];
      const arrays = put(arraysOf(weights, put));
      const { threads } = core;
      const status = core.call.hpcm_model_create(config, arrays, weights.tensors.size, threads, 0, made, message);
      check(status, core.text(message, MESSAGE_BYTES), weights.name);
      return core.words(made, 1)[0];
    });
    core.model = this.model;
  }

  /** Gives the memory back; what is called afterwards throws. */
  free() {
    this.core.call.hpcm_model_free(this.model);
    if (this.core.model === this.model) this.core.model = 0;
    this.model = 0;
  }

  /**
   * g_a.
   * @param {Uint8Array} rgb [rows][columns][3] @param {[number, number]} inside rows and columns of `rgb`
   * @param {[number, number]} size rows and columns in pixels that they are padded to
   */
  analyse(rgb, inside, size) {
    const [rows, columns] = size.map((side) => side / LATENT_STRIDE);
    return this.core.with((put) => {
      const pixels = new DataView(new ArrayBuffer(40));
      pixels.setUint32(0, put(rgb), true);
      pixels.setBigInt64(8, BigInt(3 * inside[1]), true);
      [1, ...inside, 3].forEach((value, i) => pixels.setInt32(16 + 4 * i, value, true));
      pixels.setFloat32(32, 255, true);
      const y = this.#room(put, rows, columns, this.config.M);
      this.#call("hpcm_analyse", put(pixels), rows, columns, y.place);
      return this.#taken(y);
    });
  }

  /** @returns {{parts: Uint8Array[], checksums: number[], yHat?: object}} yHat: what is decoded, if it is asked for */
  encode(y, level, inside, { withYHat = false } = {}) {
    return this.core.with((put) => {
      const payload = put(4 * (1 + 2 * PARTS));
      const yHat = withYHat && this.#room(put, y.rows, y.columns, this.config.M);
      this.#call("hpcm_encode", put(y.values), 0, y.rows, y.columns, level, ...inside, yHat ? yHat.place : 0, payload);
      try {
        const [bytes, ...rest] = this.core.words(payload, 1 + 2 * PARTS);
        let begin = bytes;
        const parts = rest.slice(0, PARTS).map((size) => this.core.bytes((begin += size) - size, size).slice());
        return { parts, checksums: rest.slice(PARTS), yHat: yHat ? this.#taken(yHat) : undefined };
      } finally {
        this.core.call.hpcm_payload_free(payload);
      }
    });
  }

  /** @returns {{yHat: object, checksum: number, wordsLeft: number}} */
  decode(payload, steps, [rows, columns], level, inside) {
    return this.core.with((put) => {
      const y = this.#room(put, rows, columns, this.config.M);
      const decoded = put(8);
      this.#call("hpcm_decode", put(payload), payload.length, steps, rows, columns, level, ...inside, y.place, decoded);
      const [checksum, wordsLeft] = this.core.words(decoded, 2);
      return { yHat: this.#taken(y), checksum, wordsLeft };
    });
  }

  /** What the first steps tell: z and y on the scales that they reach, and the checksum of their symbols. */
  decodeKnown(payload, steps, size, level, inside) {
    return this.core.with((put) => {
      const [z, ...scales] = this.#knownShapes(size).map((shape) => this.#room(put, ...shape));
      const decoded = put(8);
      const places = put(Uint32Array.from(scales, ({ place }) => place));
      const coding = [put(payload), payload.length, steps, ...size, level, ...inside];
      this.#call("hpcm_decode_known", ...coding, z.place, places, decoded);
      const ends = this.config.steps.map((_, scale) => 1 + sum(this.config.steps.slice(0, scale)));
      const begun = scales.filter((_, scale) => steps > ends[scale]);
      return { known: [z, ...begun].map((each) => this.#taken(each)), checksum: this.core.words(decoded, 1)[0] };
    });
  }

  /** What decodeKnown gives where nothing is known: z and all three scales. */
  unknown(size) {
    return this.#knownShapes(size).map(([rows, columns, channels]) => {
      return { values: new Float32Array(rows * columns * channels).fill(NaN), rows, columns, channels };
    });
  }

  /** y_hat from what is known; what isn't takes its mean. */
  fill([z, ...scales], level) {
    const { rows, columns } = scales.at(-1);
    return this.core.with((put) => {
      const y = this.#room(put, rows, columns, this.config.M);
      const places = put(Uint32Array.from(scales, ({ values }) => put(values)));
      this.#call("hpcm_fill", put(z.values), places, rows, columns, level, y.place);
      return this.#taken(y);
    });
  }

  /**
   * g_s: the pixels of a box [left, top, right, bottom] of what is synthesised, [rows][columns][3], or [1] for grey.
   * @returns {Uint8Array|Uint16Array} samples of so many bits
   */
  synthesise({ values, rows, columns }, grey, box, bitDepth = 8) {
    const channels = grey ? 1 : 3;
    return this.core.with((put) => {
      const each = sampleBytes(bitDepth);
      const size = (box[2] - box[0]) * (box[3] - box[1]) * channels * each;
      const pixels = put(size);
      this.#call("hpcm_synthesise", put(values), rows, columns, put(Int32Array.from(box)), each, channels, pixels);
      const made = this.core.bytes(pixels, size).slice();
      return each === 1 ? made : converted(new Uint16Array(made.buffer), 16, bitDepth);
    });
  }

  /** Shapes of z and of y on the lattices of all scales. */
  #knownShapes([rows, columns]) {
    const { M, N, hierarchy } = this.config;
    const lattices = COARSENING.map((times) => (hierarchy ? times : 1)).map((times) => [rows / times, columns / times, M]);
    return [[rows / LATENTS_PER_Z, columns / LATENTS_PER_Z, N], ...lattices];
  }

  #room(put, rows, columns, channels) {
    return { place: put(4 * rows * columns * channels), rows, columns, channels };
  }

  #taken({ place, ...shape }) {
    return { values: this.core.floats(place, shape.rows * shape.columns * shape.channels), ...shape };
  }

  #call(name, ...given) {
    if (!this.model) throw new HpcmError("usage", "the model was freed");
    check(this.core.call[name](this.model, ...given, 0, 0)); // no check that could end it
  }
}

function check(status, message = "", model = "the model") {
  if (status === OK) return;
  if (status === NO_MEMORY) throw noMemory();
  if (status === BAD_MODEL) throw new HpcmError("model", `the weights of ${model} don't fit their configuration: ${message}`);
  if (status === BAD_PAYLOAD) throw new HpcmError("corrupt", message || "entropy-coded data are impossible: they are damaged");
  if (status === BAD_KERNELS) throw new HpcmError("model", message);
  throw new HpcmError("usage", `an argument is refused (status ${status})`);
}

const noMemory = () => new HpcmError("memory", "there is too little memory for this picture");
const sum = (values) => values.reduce((total, value) => total + value, 0);

/** hpcm_array of each tensor, 48 bytes. */
function arraysOf({ tensors }, put) {
  const described = new DataView(new ArrayBuffer(48 * tensors.size));
  let at = 0;
  for (const [name, { type, shape, bytes }] of tensors) {
    described.setUint32(at, put(new TextEncoder().encode(`${name}\0`)), true);
    described.setUint32(at + 4, put(bytes), true);
    shape.forEach((side, d) => described.setBigInt64(at + 8 + 8 * d, BigInt(side), true));
    described.setInt32(at + 40, shape.length, true);
    described.setInt32(at + 44, TYPES.indexOf(type), true);
    at += 48;
  }
  return described;
}

/** hpcm_config: int32 one after another. Of what a number may be libhpcm asks more. */
function configOf({ config, name }) {
  try {
    const numbers = fieldsOf(config);
    const wrong = numbers.find((value) => !Number.isInteger(value) || Math.abs(value) >= 2 ** 31);
    if (wrong !== undefined) throw new TypeError(`${wrong} is no number that a field can have`);
    return Int32Array.from(numbers);
  } catch (error) {
    throw new HpcmError("model", `the configuration of ${name} can't be read: ${error.message}`);
  }
}

/** What isn't as it should be is no number, or throws TypeError. */
function fieldsOf(config) {
  const prior = ({ before, after, tail }) => [before, after, tail];
  const three = (values) => (values.length === 3 ? values : [NaN]);
  const truth = (value) => (typeof value === "boolean" ? Number(value) : NaN);
  const transforms = [config.analysis, config.synthesis, config.hyper_analysis, config.hyper_synthesis];
  const stages = (column) => transforms.flatMap((each) => Array.from({ length: STAGES }, (_, i) => (i < each.length ? each[i][column] : 0)));
  const { prior_fine: fine } = config;
  return [
    ...[config.M, config.N, STEMS.indexOf(config.stem)],
    ...[...transforms.map((each) => each.length), ...stages(0), ...stages(1)],
    ...[config.partial, config.ratio, config.prior_width, ...prior(config.prior_coarse)],
    ...[...(fine === null ? [0, 0, 0, 0] : [...prior(fine), 1]), ...three(config.adaptor_blocks), ...three(config.steps)],
    ...[truth(config.hierarchy), Number(config.fusion === "psi"), truth(config.context_net), truth(config.refine)],
    ...[Number(config.hyper_placement === "released"), Number(config.interpolation === "paired"), config.levels],
  ];
}
