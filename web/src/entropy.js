/**
 * Symbols and table indexes <-> bytes: a stack of asymmetric numeral systems (ANS), as in the native library's
 * core/ans.c, whose first comment is the specification.
 *
 * The state has 64 bits, kept as two unsigned halves `high` and `low`. Every product and quotient below is split so that
 * it stays under 2^53, where numbers are exact.
 */
import { HpcmError } from "./errors.js";
import { crc32 } from "./wire.js";

const TOTAL = 1 << 16; // sum of a table's frequencies
const UNIT = 1 << 8; // of a frequency, in units of 2^-24
const WORD = 2 ** 32;
const LENGTH_BITS = 5;
const CHUNK_BITS = 16;
const WORDS_AT_HAND = 2; // of the state
const MAX_TABLES = 256;
const MAX_RADIUS = TOTAL / 2 - 1;

/** Integer frequency tables; throws HpcmError unless a coder can use them. */
export class Tables {
  /**
   * @param {Float32Array} scales ascending: table t serves scales in (scales[t - 1], scales[t]]
   * @param {Int32Array} radius table t codes -radius..radius, and an escape
   * @param {Int32Array} frequencies 2 * radius + 2 of each table, one after another
   */
  constructor(scales, radius, frequencies) {
    this.scales = scales;
    this.radius = radius;
    this.sums = []; // of the frequencies before each symbol, and of all
    this.lookups = new Array(radius.length); // slot of 2^16 -> symbol, made when a table is first decoded with
    let at = 0;
    for (const r of radius) {
      const sums = new Uint32Array(2 * r + 3);
      for (let i = 0; i < 2 * r + 2; i++) sums[i + 1] = sums[i] + frequencies[at + i];
      at += 2 * r + 2;
      this.sums.push(sums);
    }
    this.#check(at, frequencies);
  }

  #check(size, frequencies) {
    const { scales, radius, sums } = this;
    const sound =
      radius.length === scales.length &&
      scales.length >= 1 &&
      scales.length <= MAX_TABLES &&
      scales.every((scale, t) => scale > (t ? scales[t - 1] : 0) && scale < Infinity) &&
      radius.every((r) => r >= 0 && r <= MAX_RADIUS) &&
      size === frequencies.length &&
      frequencies.every((f) => f >= 1 && f < TOTAL) &&
      sums.every((sum) => sum.at(-1) === TOTAL);
    if (!sound) throw new HpcmError("model", "the model's entropy tables are damaged");
  }

  /** Number of the table for each scale: how many of all but the last of `scales` are smaller. */
  index(values) {
    const { scales } = this;
    const out = new Uint8Array(values.length);
    for (let i = 0; i < values.length; i++) {
      let low = 0;
      let high = scales.length - 1;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (scales[middle] < values[i]) low = middle + 1;
        else high = middle;
      }
      out[i] = low;
    }
    return out;
  }

  lookup(table) {
    if (!this.lookups[table]) {
      const sums = this.sums[table];
      const found = new Uint16Array(TOTAL);
      for (let s = 0; s + 1 < sums.length; s++) found.fill(s, sums[s], sums[s + 1]);
      this.lookups[table] = found;
    }
    return this.lookups[table];
  }
}

/** CRC-32 of symbols as little-endian int32. */
export function checksum(symbols, start = 0) {
  return crc32(new Uint8Array(symbols.buffer, symbols.byteOffset, symbols.byteLength), start);
}

/** The order that groups indexes by table, stably, and where each table begins in it. */
function grouped(indexes, tables) {
  const starts = new Uint32Array(tables + 1);
  for (const t of indexes) starts[t + 1]++;
  for (let t = 0; t < tables; t++) starts[t + 1] += starts[t];
  const next = starts.slice();
  const order = new Uint32Array(indexes.length);
  for (let i = 0; i < indexes.length; i++) order[next[indexes[i]]++] = i;
  return { order, starts };
}

/** (shift, bits) of the chunks in which an excess' `count` digits are coded, low ones first. */
function* chunks(count) {
  for (let shift = 0; shift < count; shift += CHUNK_BITS) yield [shift, Math.min(CHUNK_BITS, count - shift)];
}

export class Decoder {
  /** @param {Tables} tables @param {Uint8Array} data */
  constructor(tables, data) {
    this.tables = tables;
    if (data.length % 4) throw new HpcmError("corrupt", "entropy-coded data must be whole words of 4 bytes");
    this.words = new Uint32Array(data.slice().buffer);
    if (this.words.length && this.words[0] === 0) {
      throw new HpcmError("corrupt", "entropy-coded data never begins with a zero word: it is damaged");
    }
    [this.high, this.low] = this.words.length > 1 ? this.words : [0, this.words[0] ?? 0];
    this.at = Math.min(WORDS_AT_HAND, this.words.length);
  }

  /** The next symbols for their tables' numbers. @returns {Int32Array} */
  pop(indexes) {
    const { order, starts } = grouped(indexes, this.tables.radius.length);
    const symbols = new Int32Array(indexes.length);
    const escapes = [];
    for (let t = 0; t + 1 < starts.length; t++) {
      if (starts[t] < starts[t + 1]) this.#run(t, order, starts[t], starts[t + 1], symbols, escapes);
    }
    if (escapes.length) this.#excess(symbols, escapes);
    return symbols;
  }

  #run(table, order, start, stop, symbols, escapes) {
    const radius = this.tables.radius[table];
    const [sums, lookup] = [this.tables.sums[table], this.tables.lookup(table)];
    for (let i = start; i < stop; i++) {
      const slot = (this.low >>> 8) & 0xffff;
      const code = lookup[slot];
      const begin = sums[code];
      this.#advance((sums[code + 1] - begin) * UNIT, (this.low & 0xffffff) - begin * UNIT);
      symbols[order[i]] = code - radius;
      if (code === 2 * radius + 1) escapes.push(order[i]);
    }
  }

  /** x <- frequency * (x div 2^24) + rest, and a word from the list where x gets below 2^32. */
  #advance(frequency, rest) {
    const quotient = this.high * 256 + (this.low >>> 24); // under 2^40
    const upper = Math.floor(quotient / 65536) * frequency; // in units of 2^16
    const lower = (quotient % 65536) * frequency + rest + (upper % 65536) * 65536;
    this.low = lower % WORD;
    this.high = Math.floor(upper / 65536) + Math.floor(lower / WORD);
    if (this.high === 0 && this.at < this.words.length) {
      this.high = this.low;
      this.low = this.words[this.at++];
    }
  }

  #uniform(bits) {
    const code = (this.low & 0xffffff) >>> (24 - bits);
    const width = 2 ** (24 - bits);
    this.#advance(width, (this.low & 0xffffff) - code * width);
    return code;
  }

  /** Replaces escapes, which stand as radius + 1, by the symbols meant. */
  #excess(symbols, escapes) {
    const digits = escapes.map(() => this.#uniform(LENGTH_BITS) + 1);
    const excess = digits.map((count) => 2 ** count);
    for (const count of [...new Set(digits)].sort((a, b) => a - b)) {
      for (const [shift, bits] of chunks(count)) {
        digits.forEach((each, i) => {
          if (each === count) excess[i] += this.#uniform(bits) * 2 ** shift;
        });
      }
    }
    escapes.forEach((place, i) => {
      const magnitude = Math.floor(excess[i] / 2) + symbols[place] - 1;
      const symbol = excess[i] % 2 ? -magnitude : magnitude;
      if (symbol !== (symbol | 0)) throw new HpcmError("corrupt", "a symbol doesn't fit 32 bits: the data are damaged");
      symbols[place] = symbol;
    });
  }

  /** Throws if anything is left. */
  finish() {
    if (this.high || this.low || this.at < this.words.length) {
      throw new HpcmError("corrupt", "entropy-coded data go on after the last symbol");
    }
  }
}

/** Collects symbols in decoding order; `finish` codes them, last to first. */
export class Encoder {
  /** @param {Tables} tables */
  constructor(tables) {
    this.tables = tables;
    this.runs = []; // {begins, sizes}: of each symbol, in units of 2^-24
    this.cuts = [];
  }

  /** @param {Int32Array} symbols @param {Uint8Array} indexes */
  push(symbols, indexes) {
    const { order, starts } = grouped(indexes, this.tables.radius.length);
    const run = { begins: new Uint32Array(symbols.length), sizes: new Uint32Array(symbols.length) };
    const excess = [];
    for (let t = 0; t + 1 < starts.length; t++) {
      const [radius, sums] = [this.tables.radius[t], this.tables.sums[t]];
      for (let i = starts[t]; i < starts[t + 1]; i++) {
        const symbol = symbols[order[i]];
        const beyond = Math.abs(symbol) > radius;
        const code = beyond ? 2 * radius + 1 : symbol + radius;
        run.begins[i] = sums[code] * UNIT;
        run.sizes[i] = (sums[code + 1] - sums[code]) * UNIT;
        if (beyond) excess.push(2 * (Math.abs(symbol) - radius) + (symbol < 0 ? 1 : 0));
      }
    }
    this.runs.push(run);
    if (excess.length) this.#pushExcess(excess);
  }

  /** A part ends after what was pushed so far. */
  cut() {
    this.cuts.push(this.runs.length);
  }

  #pushExcess(excess) {
    const digits = excess.map((each) => Math.floor(Math.log2(each)));
    this.#pushUniform(LENGTH_BITS, digits.map((count) => count - 1));
    for (const count of [...new Set(digits)].sort((a, b) => a - b)) {
      const rest = excess.filter((_, i) => digits[i] === count).map((each) => each - 2 ** count);
      for (const [shift, bits] of chunks(count)) {
        this.#pushUniform(bits, rest.map((each) => Math.floor(each / 2 ** shift) % 2 ** bits));
      }
    }
  }

  #pushUniform(bits, codes) {
    const width = 2 ** (24 - bits);
    const sizes = new Uint32Array(codes.length).fill(width);
    this.runs.push({ begins: Uint32Array.from(codes, (code) => code * width), sizes });
  }

  /** The bytes of all pushes, part by part: as many as there are cuts. @returns {Uint8Array[]} */
  finish() {
    const state = { high: 0, low: 0, list: [] };
    const beyond = []; // how many words a decoder needs only after each cut
    let end = this.runs.length;
    for (const start of [...this.cuts.slice().reverse(), 0]) {
      for (let r = end - 1; r >= start; r--) pushRun(state, this.runs[r]);
      beyond.push(state.list.length);
      end = start;
    }
    const top = state.high ? [state.high, state.low] : state.low ? [state.low] : [];
    const words = Uint32Array.from([...top, ...state.list.reverse()]);
    const bytes = new Uint8Array(words.buffer);
    const stops = beyond.slice(0, -1).reverse().map((later) => 4 * (words.length - later));
    return stops.map((stop, i) => bytes.slice(i ? stops[i - 1] : 0, stop));
  }
}

/** x <- (x div f) * 2^24 + begin + x mod f for each symbol of a run, from the last to the first. */
function pushRun(state, { begins, sizes }) {
  let { high, low } = state;
  for (let i = begins.length - 1; i >= 0; i--) {
    const f = sizes[i];
    if (high >>> 8 >= f) {
      state.list.push(low);
      low = high;
      high = 0;
    }
    const middle = (high % f) * 65536 + (low >>> 16); // long division, 16 digits at a time
    const last = (middle % f) * 65536 + (low & 0xffff);
    const quotient = Math.floor(high / f) * WORD + Math.floor(middle / f) * 65536 + Math.floor(last / f);
    low = (quotient % 256) * 2 ** 24 + begins[i] + (last % f);
    high = Math.floor(quotient / 256);
  }
  state.high = high;
  state.low = low;
}
