/**
 * Fields of a file as bytes, and reading them without trust: little-endian integers, varints, CRC-32.
 *
 * A varint is LEB128: seven bits per byte, lowest first, the top bit set on all bytes but the last, at most five bytes,
 * and never longer than its value needs.
 */
import { HpcmError, checkRange } from "./errors.js";

const MAX_VARINT_BYTES = 5;
export const MAX_VARINT = 2 ** 35 - 1;

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/**
 * CRC-32 of zlib and PNG.
 * @param {Uint8Array} bytes
 * @param {number} start the CRC of the bytes before, to run over several arrays
 */
export function crc32(bytes, start = 0) {
  let crc = ~start;
  for (let i = 0; i < bytes.length; i++) crc = CRC_TABLE[(crc ^ bytes[i]) & 0xff] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** LEB128 of a number that isn't negative, in the fewest bytes. */
export function varint(value) {
  const out = [];
  for (; value >= 0x80; value = Math.floor(value / 0x80)) out.push((value % 0x80) | 0x80);
  out.push(value);
  return out;
}

export const uint16 = (value) => [value & 0xff, (value >>> 8) & 0xff];
export const uint32 = (value) => [...uint16(value), ...uint16(value >>> 16)];

/** A chunk: its type, the length of its data as a varint, the data, and the CRC-32 of all three. */
export function chunk(kind, data) {
  const body = concat([Uint8Array.of(kind.charCodeAt(0), ...varint(data.length)), data]);
  return concat([body, Uint8Array.from(uint32(crc32(body)))]);
}

/** @param {Uint8Array[]} arrays */
export function concat(arrays) {
  const whole = new Uint8Array(arrays.reduce((total, each) => total + each.length, 0));
  let at = 0;
  for (const each of arrays) {
    whole.set(each, at);
    at += each.length;
  }
  return whole;
}

/** A place in the bytes of a file. Each method moves past what it returns. */
export class Reader {
  /** @param {Uint8Array} data */
  constructor(data) {
    this.data = data;
    this.at = 0;
  }

  get left() {
    return this.data.length - this.at;
  }

  /** Without moving: are there `size` more bytes? */
  require(size, what) {
    if (this.left < size) {
      const found = `${size} bytes of ${what} expected, ${this.left} left`;
      throw new HpcmError("truncated", `cut short or damaged: ${found}; fetch it again`);
    }
  }

  take(size, what) {
    this.require(size, what);
    this.at += size;
    return this.data.subarray(this.at - size, this.at);
  }

  byte(what) {
    return this.take(1, what)[0];
  }

  uint16(what) {
    const [a, b] = this.take(2, what);
    return a | (b << 8);
  }

  uint32(what) {
    const low = this.uint16(what);
    return low + this.uint16(what) * 0x10000;
  }

  varint(what) {
    let value = 0;
    for (let i = 0; i < MAX_VARINT_BYTES; i++) {
      const byte = this.byte(what);
      value += (byte & 0x7f) * 2 ** (7 * i);
      if (byte === 0 && i > 0) break;
      if (byte < 0x80) return value;
    }
    throw new HpcmError("format", `${what} takes more bytes than a varint of its value; the file is damaged`);
  }

  /** The data of a chunk whose type, at `start`, has been read. */
  chunk(name, start, limit) {
    const size = this.varint(`length of the ${name} chunk`);
    checkRange(`length of the ${name} chunk`, size, 0, limit);
    const data = this.take(size, `${name} chunk`);
    const crc = crc32(this.data.subarray(start, this.at));
    if (crc !== this.uint32(`CRC of the ${name} chunk`)) {
      throw new HpcmError("corrupt", `the ${name} chunk was changed: its CRC differs; fetch the file again`);
    }
    return data;
  }
}
