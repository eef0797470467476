/**
 * The .hpcm byte format, version 2. docs/format.md walks through a file; the docstring of the Python package's
 * format/container.py is the specification.
 *
 *     │ header │ chunks │ table of tiles │ part │ CRC │ part │ CRC │ ... end of file
 */
import { HpcmError, checkRange } from "./errors.js";
import { MAX_VARINT, Reader, chunk, concat, crc32, uint16, uint32, varint } from "./wire.js";

const MAGIC = [0x89, 0x48, 0x50, 0x43];
const VERSION = 2;
export const PASSES = 3; // of progressive files
const MAX_SIDE = 2 ** 24;
const MAX_PIXELS = 2 ** 32;
const MAX_LEVEL = 63;
const MAX_METADATA = 2 ** 24;
const ALPHA_SLACK = 1024;
const HASH_BYTES = 8;
const MODEL_NAME = /^[a-z0-9][a-z0-9._-]{0,31}$/;
const MOST_BITS = 16; // of a sample; the least are 8
const GREY = 1;
const PROGRESSIVE = 2;
const ANCILLARY = 32;
const KNOWN_FLAGS = 0x7f;
const RESERVED_FLAGS = { 0x80: "a quality map" };
const CHUNKS = [
  ["icc", 4, "I"],
  ["exif", 8, "E"],
  ["alpha", 16, "A"],
  ["residual", 64, "R"],
];
const RESIDUAL_KINDS = ["samples", "samples beside grey", "coefficients"]; // by the first byte of the chunk
const MAX_RESIDUAL_STEP = 2 ** 16 - 1;
const MAX_RESIDUAL_BYTES = 4;

/**
 * @typedef {{payload: Uint8Array, checksum: number}} Part
 * @typedef {object} Residual what the decoded picture lacks: each tile has one more part, its last
 * @property {"samples"|"samples beside grey"|"coefficients"} kind
 * @property {number} number the largest error of a sample, 0 for lossless; of coefficients their step
 *
 * @typedef {object} Container
 * @property {number} passes 1, or 3: progressive
 * @property {number} width
 * @property {number} height
 * @property {string} model
 * @property {string} hash the first 8 bytes of the SHA-256 of the weights file, in hexadecimal digits
 * @property {number} level
 * @property {"rgb"|"grey"} colour
 * @property {number} bitDepth of each sample, 8 to 16
 * @property {number} tileSide
 * @property {Uint8Array} [icc]
 * @property {Uint8Array} [exif]
 * @property {Uint8Array} [alpha] a PNG
 * @property {Residual} [residual]
 * @property {[string, Uint8Array][]} ancillary (type, data)
 * @property {Part[][]} tiles fewer parts than partsOf says where the file was cut
 */

/** The squares that a picture is cut into, row by row: [left, top, right, bottom] in pixels. */
export function tileBoxes({ width, height, tileSide }) {
  const boxes = [];
  for (let top = 0; top < height; top += tileSide) {
    for (let left = 0; left < width; left += tileSide) {
      boxes.push([left, top, Math.min(left + tileSide, width), Math.min(top + tileSide, height)]);
    }
  }
  return boxes;
}

const tileCount = ({ width, height, tileSide }) => Math.ceil(width / tileSide) * Math.ceil(height / tileSide);

/** Whether a file has no lossy picture: its residual layer is coded beside grey. */
export const isBesideGrey = ({ residual }) => residual?.kind === "samples beside grey";

/** How many parts each tile has. */
export const partsOf = (container) => basePartsOf(container) + (container.residual ? 1 : 0);

/** How many of them come before that of the residual layer. */
const basePartsOf = (container) => (isBesideGrey(container) ? 0 : container.passes);

/** How much of the tiles' parts is there: 1 unless the file was cut. */
export const progressOf = (container) =>
  container.tiles.reduce((sum, tile) => sum + tile.length, 0) / (tileCount(container) * partsOf(container));

/** How many of the tiles have their residual, 0 to 1. */
export const residualProgressOf = (container) =>
  container.tiles.filter((tile) => tile.length === partsOf(container)).length / tileCount(container);

/**
 * What a .hpcm file says. Throws HpcmError with the code "format", "truncated" or "corrupt".
 * @param {Uint8Array} data
 * @param {{partial?: boolean}} options partial: `data` may be the beginning of a file
 * @returns {Container}
 */
export function unpack(data, { partial = false } = {}) {
  const reader = new Reader(data);
  const container = readHead(reader);
  container.tiles = readTiles(reader, container, partial);
  return container;
}

/** The same without the tiles, of the beginning of a file. */
export const unpackHead = (data) => readHead(new Reader(data));

/** @param {Container} container @returns {Uint8Array} */
export function pack(container) {
  checkHeader(container);
  const head = [packHeader(container)];
  for (const [name, , kind] of CHUNKS) if (container[name]) head.push(chunk(kind, chunkData(container, name)));
  if (container.ancillary.length) {
    head.push(Uint8Array.of(container.ancillary.length), ...container.ancillary.map(([kind, data]) => chunk(kind, data)));
  }
  const shorts = areShort(container);
  for (const tile of container.tiles) {
    tile.forEach(({ payload, checksum }, i) => {
      checkRange("length of a part", payload.length, 0, MAX_VARINT);
      head.push(Uint8Array.from([...varint(payload.length), ...seal(checksum, shorts[i])]));
    });
  }
  const pieces = [concat(head)];
  const crcs = container.tiles.map(() => crc32(pieces[0]));
  shorts.forEach((short, turn) => {
    container.tiles.forEach((tile, i) => {
      crcs[i] = crc32(tile[turn].payload, crcs[i]);
      pieces.push(tile[turn].payload, Uint8Array.from(seal(crcs[i], short)));
    });
  });
  return concat(pieces);
}

/** Of each part of a tile, whether its checksum and CRC are halves: those before the last pass are. */
function areShort(container) {
  const before = Math.max(basePartsOf(container) - 1, 0);
  return Array.from({ length: partsOf(container) }, (_, i) => i < before);
}

/** The data of a chunk. */
function chunkData(container, name) {
  const value = container[name];
  return name === "residual" ? Uint8Array.of(RESIDUAL_KINDS.indexOf(value.kind), ...varint(value.number)) : value;
}

/** A checksum or CRC: all of it, or the low half. */
const seal = (value, short) => (short ? uint16(value) : uint32(value));

function packHeader(container) {
  let flags = container.colour === "grey" ? GREY : 0;
  for (const [name, flag] of CHUNKS) if (container[name]) flags += flag;
  flags += (container.ancillary.length ? ANCILLARY : 0) + (container.passes === PASSES ? PROGRESSIVE : 0);
  const name = new TextEncoder().encode(container.model);
  const hash = container.hash.match(/../g).map((digits) => parseInt(digits, 16));
  return Uint8Array.from([
    ...[...MAGIC, VERSION, ...varint(flags), ...varint(container.width), ...varint(container.height), container.bitDepth],
    ...[name.length, ...name, ...hash, container.level, Math.log2(container.tileSide)],
  ]);
}

function readHead(reader) {
  const container = readHeader(reader);
  const { flags } = container;
  for (const [name, flag, kind] of CHUNKS) {
    if (!(flags & flag)) continue;
    const start = reader.at;
    const found = String.fromCharCode(reader.byte(`${name} chunk`));
    if (found !== kind) {
      throw new HpcmError("format", `the ${name} chunk begins with "${found}" instead of "${kind}"; the file is damaged`);
    }
    const data = reader.chunk(name, start, chunkLimit(container, name));
    container[name] = name === "residual" ? residualOf(data, container) : data;
  }
  if (flags & ANCILLARY) readAncillary(reader, container);
  return container;
}

/** What the chunk of the residual layer says. */
function residualOf(data, container) {
  const reader = new Reader(data);
  const [kind, number] = numbersOf(reader);
  if (reader.left) throw new HpcmError("format", `the residual chunk has ${data.length} bytes, which is too long`);
  checkRange("kind of the residual layer", kind, 0, RESIDUAL_KINDS.length - 1);
  const residual = { kind: RESIDUAL_KINDS[kind], number };
  checkResidual(residual, container);
  return residual;
}

function numbersOf(reader) {
  try {
    return [reader.byte("kind of the residual layer"), reader.varint("number of the residual layer")];
  } catch (error) {
    if (error.code !== "truncated") throw error;
    throw new HpcmError("format", `the residual chunk has ${reader.data.length} bytes, which is too short`);
  }
}

function checkResidual({ kind, number }, { bitDepth, passes }) {
  if (kind === "coefficients") checkRange("step of the residual layer", number, 1, MAX_RESIDUAL_STEP);
  else checkRange("largest error of the residual layer", number, 0, 2 ** (bitDepth - 1) - 1);
  if (kind === "samples beside grey" && passes > 1) {
    throw new HpcmError("format", "the file has a residual layer beside grey and is progressive; it can't be both");
  }
}

function readAncillary(reader, container) {
  const count = reader.byte("number of ancillary chunks");
  checkRange("number of ancillary chunks", count, 1, 26);
  for (let i = 0; i < count; i++) {
    const start = reader.at;
    const kind = String.fromCharCode(reader.byte("an ancillary chunk"));
    if (!/^[a-z]$/.test(kind) || kind <= (container.ancillary.at(-1)?.[0] ?? "")) {
      throw new HpcmError("format", `an ancillary chunk is of type "${kind}"; allowed is each of a to z once, in order`);
    }
    container.ancillary.push([kind, reader.chunk(`ancillary "${kind}"`, start, MAX_METADATA)]);
  }
}

function readHeader(reader) {
  const start = reader.data.subarray(0, MAGIC.length);
  if (start.some((byte, i) => byte !== MAGIC[i])) throw new HpcmError("format", "this is no .hpcm file");
  reader.take(MAGIC.length, "magic");
  const version = reader.byte("version");
  if (version !== VERSION) throw new HpcmError("format", `format version ${version} found; version ${VERSION} is read here`);
  const flags = reader.varint("flags");
  for (const [flag, what] of Object.entries(RESERVED_FLAGS)) {
    if (flags & flag) throw new HpcmError("format", `the file has ${what}, which isn't read here; try a newer release`);
  }
  if (flags > KNOWN_FLAGS) throw new HpcmError("format", `flags are ${flags}, which version ${VERSION} lacks`);
  const field = (name, value) => {
    CHECKS[name](value); // before the next one is read, so that damage isn't taken for the end of the file
    return value;
  };
  const container = {
    ...{ flags, passes: flags & PROGRESSIVE ? PASSES : 1 },
    width: field("width", reader.varint("width")),
    height: field("height", reader.varint("height")),
    bitDepth: field("bitDepth", reader.byte("bit depth")),
    model: field("model", String.fromCharCode(...reader.take(reader.byte("length of the model name"), "model name"))),
    hash: [...reader.take(HASH_BYTES, "model hash")].map((byte) => byte.toString(16).padStart(2, "0")).join(""),
    level: field("level", reader.byte("quality level")),
    colour: flags & GREY ? "grey" : "rgb",
    tileSide: field("tileSide", 2 ** reader.byte("tile side")),
    ...{ ancillary: [], tiles: [] },
  };
  checkPixels(container);
  return container;
}

/** What refuses a field that is out of its bounds, by its name in a container. */
const CHECKS = {
  width: (value) => checkRange("width", value, 1, MAX_SIDE),
  height: (value) => checkRange("height", value, 1, MAX_SIDE),
  bitDepth: (value) => checkRange("bit depth", value, 8, MOST_BITS),
  model: (name) => {
    if (MODEL_NAME.test(name)) return;
    throw new HpcmError("format", "the model's name is no name: 1 to 32 of a-z 0-9 ._- and no ._- in front are allowed");
  },
  level: (value) => checkRange("quality level", value, 0, MAX_LEVEL),
  tileSide: (value) => checkRange("tile side", value, 2 ** 8, 2 ** 16),
};

const checkPixels = ({ width, height }) => checkRange("number of pixels", width * height, 1, MAX_PIXELS);

function checkHeader(container) {
  for (const [name, check] of Object.entries(CHECKS)) check(container[name]);
  checkPixels(container);
  if (container.residual) checkResidual(container.residual, container);
}

function chunkLimit({ width, height, bitDepth }, name) {
  if (name === "residual") return MAX_RESIDUAL_BYTES;
  const rawPlane = width * height * (bitDepth === 8 ? 1 : 2);
  return name === "alpha" ? 2 * rawPlane + ALPHA_SLACK : MAX_METADATA;
}

/** The table and the parts of the tiles, up to the end of the file. */
function readTiles(reader, container, partial) {
  const shorts = areShort(container);
  const count = tileCount(container);
  const sealed = shorts.reduce((bytes, short) => bytes + (short ? 2 : 4), 0); // of a tile's checksums, and of its CRCs
  const crcBytes = partial ? 0 : sealed;
  reader.require(count * (shorts.length + sealed + crcBytes), `its ${count} tiles`); // a length takes a byte at least
  const table = Array.from({ length: count }, () => shorts.map((short) => readEntry(reader, short)));
  const crcs = new Array(count).fill(crc32(reader.data.subarray(0, reader.at)));
  const tiles = table.map(() => []);
  if (!partial) {
    const sizes = table.flat().reduce((total, { size }) => total + size, 0);
    reader.require(sizes + count * sealed, "its tiles");
  }
  for (const [turn, short] of shorts.entries()) {
    for (let i = 0; i < count; i++) {
      const part = readPart(reader, table[i][turn], short, crcs, i, partial);
      if (part) tiles[i].push(part);
      else if (tiles[0].length) return tiles;
      else throw new HpcmError("truncated", "cut short: not even the first part of the picture is there");
    }
  }
  if (reader.left) throw new HpcmError("format", `${reader.left} bytes follow the end of the file; cut them off`);
  return tiles;
}

/** A part whose CRC is right; null where a partial file ends before it does. */
function readPart(reader, { size, checksum }, short, crcs, i, partial) {
  if (partial && reader.left < size + (short ? 2 : 4)) return null;
  const payload = reader.take(size, "a part");
  crcs[i] = crc32(payload, crcs[i]);
  const found = short ? reader.uint16("CRC of a part") : reader.uint32("CRC of a part");
  if (found !== (short ? crcs[i] & 0xffff : crcs[i])) {
    throw new HpcmError("corrupt", `tile ${i} of ${crcs.length} or the header was changed: a CRC differs; fetch it again`);
  }
  return { payload, checksum };
}

/** Length and checksum of a part, from the table. */
function readEntry(reader, short) {
  const size = reader.varint("length of a part");
  return { size, checksum: short ? reader.uint16("checksum of a part") : reader.uint32("checksum of a part") };
}
