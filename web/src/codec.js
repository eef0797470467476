/**
 * Codec: picture <-> bytes with one model. It knows neither workers nor networks of computers: index.js does.
 *
 *     analyse:  RGBA -> tiles -> y        encode: y -> symbols, step by step -> bytes
 *     decode:   bytes -> symbols, step by step -> y_hat of each tile -> RGBA
 */
import { PASSES, pack, progressOf } from "./container.js";
import { Engine } from "./core.js";
import { TileDecoder } from "./decoder.js";
import { HpcmError, checkAborted, checkRange } from "./errors.js";
import { sha256 } from "./fetching.js";
import { levelOf } from "./levels.js";
import { decodeGrey, encodeGrey } from "./png.js";
import { Reduced } from "./reducing.js";
import { thumbnailOf } from "./thumbnail.js";
import { MULTIPLE, Tiling, cellsOf, copyCommon, extent, latentsInside, overlap, pixelsOf, relative } from "./tiles.js";
import { Weights } from "./weights.js";
import { concat } from "./wire.js";

const TILE_SIDE = 1024;
const MAX_TILE_SIDE = 4096; // as the Python package has it: a tile is decoded at once
const PROGRESSIVE = 4096; // bytes of a tile from which on being progressive is worth its 10 to 14 bytes
const MAX_PIXELS = 2 ** 26; // of what is coded here: 268 MB as RGBA

/** @typedef {{data: Uint8ClampedArray, width: number, height: number}} Pixels RGBA, not premultiplied */

export class Codec {
  /** @param {{name: string, hash: string}} model @param {Engine} engine */
  constructor({ name, hash }, engine) {
    this.model = { name, hash };
    this.engine = engine;
  }

  /**
   * @param {import("./core.js").Core} core
   * @param {Uint8Array} data a weights file
   * @param {string} [digest] its SHA-256, if that is known
   */
  static async load(core, data, digest) {
    const weights = new Weights(data, digest ?? (await sha256(data)));
    return new Codec(weights, new Engine(core, weights));
  }

  /** Gives the model's memory back. */
  free() {
    this.engine.free();
  }

  get levels() {
    return this.engine.config.levels;
  }

  /** Quality 1..100 -> level. */
  levelOf(quality) {
    return levelOf(quality, this.levels);
  }

  // ---- encoding -----------------------------------------------------------------------------------------------------

  /**
   * What does not depend on the quality: the latents of the picture's tiles.
   * @param {Pixels} image
   */
  async analyse(image, { told = () => {}, signal } = {}) {
    checkImage(image);
    const { width, height, data } = image;
    const tiling = new Tiling(this.engine.config, { width, height, tileSide: TILE_SIDE });
    const grey = isGrey(data);
    const tiles = [];
    for (const box of tiling.boxes) {
      await turn(signal);
      tiles.push({ y: this.#analysed(image, tiling, box), inside: latentsInside(box) });
      told(tiles.length / tiling.boxes.length);
    }
    return { width, height, tiles, grey, alpha: await alphaOf(image) };
  }

  /** y of a tile, padded. */
  #analysed({ data, width }, tiling, box) {
    const own = tiling.cells(box);
    const outer = tiling.withHalo(own);
    const area = pixelsOf(outer);
    const inside = overlap(area, tiling.whole);
    const y = this.engine.analyse(rgbOf(data, width, inside), extent(inside), extent(area));
    const [rows, columns] = extent(own);
    const values = new Float32Array(rows * columns * y.channels);
    copyCommon(y.values, outer, values, own, y.channels);
    return { values, rows, columns, channels: y.channels };
  }

  /** The file of analysed latents at a level. @returns {Promise<Uint8Array>} */
  async encode(latents, level, { progressive, told = () => {}, signal } = {}) {
    checkRange("quality level", level, 0, this.levels - 1);
    const tiles = [];
    for (const { y, inside } of latents.tiles) {
      await turn(signal);
      const { parts, checksums } = this.engine.encode(y, level, inside);
      tiles.push(parts.map((payload, i) => ({ payload, checksum: i + 1 < PASSES ? checksums[i] & 0xffff : checksums[i] })));
      told(tiles.length / latents.tiles.length);
    }
    const size = tiles.flat().reduce((sum, { payload }) => sum + payload.length, 0);
    const inPasses = progressive ?? size >= PROGRESSIVE * tiles.length;
    return pack({
      ...{ passes: inPasses ? PASSES : 1, width: latents.width, height: latents.height },
      ...{ model: this.model.name, hash: this.model.hash, level, tileSide: TILE_SIDE },
      ...{ colour: latents.grey ? "grey" : "rgb", bitDepth: 8, alpha: latents.alpha, ancillary: [] },
      tiles: inPasses ? tiles : tiles.map((parts) => [joined(parts)]),
    });
  }

  // ---- decoding -----------------------------------------------------------------------------------------------------

  /**
   * @param {import("./container.js").Container} container
   * @param {object} options
   * @param {1|2|3} [options.scale] of a progressive file so many scales are decoded
   * @param {[number, number, number, number]} [options.box] left, top, right, bottom; by default all
   * @param {(part: Pixels & {left: number, top: number}) => void} [options.onpart] is given each part of the picture,
   *   opaque, as soon as it is decoded
   * @returns {Promise<Pixels>}
   */
  async decode(container, { scale = PASSES, box, onpart, told = () => {}, signal } = {}) {
    this.#check(container, scale, box);
    const tiling = new Tiling(this.engine.config, container);
    const area = box ?? tiling.whole;
    const grey = container.colour === "grey";
    let out; // a file may claim any size: memory is taken when one of its tiles has been decoded
    for await (const { piece, samples } of this.#pieces(container, scale, tiling, area, told, signal)) {
      out ??= blank(extent(area));
      paint(out, relative(piece, area), samples, grey);
      onpart?.(partOf(relative(piece, area), samples, grey));
    }
    if (container.alpha) await paintAlpha(out, container, area);
    return out;
  }

  /** The picture without its alpha channel, each side divided by `every`. The whole one is never held. @returns {Promise<Pixels>} */
  async reduced(container, every, { told = () => {}, signal } = {}) {
    this.#check(container, PASSES);
    const tiling = new Tiling(this.engine.config, container);
    const size = extent(tiling.whole);
    let out; // memory is taken when a tile has been decoded
    for await (const { piece, samples } of this.#pieces(container, PASSES, tiling, tiling.whole, told, signal)) {
      out ??= new Reduced(size, every);
      out.add(piece, samples, container.colour === "grey");
    }
    return out.pixels();
  }

  /** A small picture, each of whose pixels stands for 64 x 64, in about a ninth of the time. thumbnail.js says how. */
  async thumbnail(container, { told = () => {}, signal } = {}) {
    this.#check(container, PASSES);
    const tiling = new Tiling(this.engine.config, container);
    let done = 0;
    const step = async () => {
      told(done++ / (tiling.boxes.length + 1));
      await turn(signal);
    };
    const decoder = new TileDecoder(this.engine, container, tiling, PASSES);
    return thumbnailOf(this.engine, decoder, tiling, container, step);
  }

  /** The area's part of each tile: its box, and its samples [rows][columns][3], or [1] for grey. */
  async *#pieces(container, scale, tiling, area, told, signal) {
    const { engine } = this;
    const channels = engine.config.M;
    const grey = container.colour === "grey";
    const decoder = new TileDecoder(engine, container, tiling, scale);
    const tiles = tiling.touching(cellsOf(area));
    const needed = tiling.touching(tiling.withHalo(cellsOf(area)));
    const held = new Map(); // tile -> y_hat
    let [next, done] = [0, 0];
    const step = async () => {
      told(done++ / (needed.length + tiles.length));
      await turn(signal);
    };
    for (const tile of tiles) {
      const piece = overlap(tile, area);
      const outer = tiling.withHalo(cellsOf(piece));
      const near = tiling.touching(outer);
      for (; !held.has(near.at(-1)); next++) {
        await step();
        held.set(needed[next], decoder.yHat(needed[next]));
      }
      for (const other of held.keys()) if (tiling.cells(other)[3] <= outer[1]) held.delete(other);
      await step();
      const [rows, columns] = extent(outer);
      const values = new Float32Array(rows * columns * channels);
      for (const other of near) copyCommon(held.get(other).values, tiling.cells(other), values, outer, channels);
      const crop = relative(piece, pixelsOf(outer));
      yield { piece, samples: engine.synthesise({ values, rows, columns, channels }, grey, crop, container.bitDepth) };
    }
  }

  /** What is asked for, and what the file claims; in the order of the Python package's codec/codec.py. */
  #check(container, scale, box) {
    const { width, height, alpha, hash, level, tileSide } = container;
    if (![1, 2, PASSES].includes(scale)) throw new HpcmError("usage", `scale is ${scale}: a picture has 1 to ${PASSES}`);
    if (box !== undefined && !isInside(box, width, height)) {
      throw new HpcmError("usage", `the box ${box} doesn't lie in the picture of ${width} x ${height} pixels`);
    }
    if (hash !== this.model.hash) {
      const found = `the file was made with model ${container.model} of hash ${hash}`;
      throw new HpcmError("mismatch", `${found}, this is ${this.model.name} of hash ${this.model.hash}`);
    }
    if (level >= this.levels) throw new HpcmError("format", `the file has quality level ${level}, the model only ${this.levels}`);
    const [rows, columns] = box && !alpha ? extent(box) : [height, width]; // alpha is decoded whole
    if (!isAllowed(columns, rows)) {
      throw new HpcmError("format", `the file claims ${columns} x ${rows} pixels: up to ${MAX_PIXELS} can be decoded here${COUNTED}`);
    }
    if (tileSide > MAX_TILE_SIDE) throw new HpcmError("format", `the file has tiles of ${tileSide} pixels: up to ${MAX_TILE_SIDE} can be decoded`);
  }
}

/** Whether all of a file is there. */
export const isWhole = (container) => progressOf(container) === 1;

/** Lets messages in, such as that of a caller who stops the work. */
async function turn(signal) {
  await new Promise((go) => setTimeout(go));
  checkAborted(signal);
}

/** The parts of a tile as one. */
const joined = (parts) => ({ payload: concat(parts.map(({ payload }) => payload)), checksum: parts.at(-1).checksum });

/** What is narrower than a cell of the hyper latent takes as long as the cell. */
const isAllowed = (width, height) => Math.max(width, MULTIPLE) * Math.max(height, MULTIPLE) <= MAX_PIXELS;
const COUNTED = `; a side counts as at least ${MULTIPLE}`;

function checkImage({ data, width, height }) {
  if (!(Number.isInteger(width) && Number.isInteger(height) && width >= 1 && height >= 1 && isAllowed(width, height))) {
    throw new HpcmError("picture", `the picture has ${width} x ${height} pixels: 1 to ${MAX_PIXELS} can be coded here${COUNTED}`);
  }
  if (data?.BYTES_PER_ELEMENT !== 1 || data.length !== 4 * width * height) {
    throw new HpcmError("picture", `a picture of ${width} x ${height} pixels must have ${4 * width * height} bytes, RGBA`);
  }
}

function isInside(box, width, height) {
  const [left, top, right, bottom] = box;
  const ordered = 0 <= left && left < right && right <= width && 0 <= top && top < bottom && bottom <= height;
  return box.length === 4 && box.every(Number.isInteger) && ordered;
}

/** Opaque white. @returns {Pixels} */
const blank = ([height, width]) => ({ data: new Uint8ClampedArray(4 * width * height).fill(255), width, height });

/** The colours of a box, [rows][columns][3]. */
function rgbOf(rgba, width, [left, top, right, bottom]) {
  const out = new Uint8Array(3 * (right - left) * (bottom - top));
  let to = 0;
  for (let y = top; y < bottom; y++) {
    for (let from = 4 * (y * width + left); from < 4 * (y * width + right); from += 4) {
      out[to++] = rgba[from];
      out[to++] = rgba[from + 1];
      out[to++] = rgba[from + 2];
    }
  }
  return out;
}

/** Writes the samples of a box into the picture. */
function paint({ data, width }, [left, top, right, bottom], samples, grey) {
  const step = grey ? 1 : 3;
  let from = 0;
  for (let y = top; y < bottom; y++) {
    for (let to = 4 * (y * width + left); to < 4 * (y * width + right); to += 4, from += step) {
      data[to] = samples[from];
      data[to + 1] = samples[grey ? from : from + 1];
      data[to + 2] = samples[grey ? from : from + 2];
    }
  }
}

/** The samples of a box as a picture of its own. */
function partOf(box, samples, grey) {
  const out = blank(extent(box));
  paint(out, [0, 0, out.width, out.height], samples, grey);
  return { ...out, left: box[0], top: box[1] };
}

async function paintAlpha({ data, width }, container, [left, top, right, bottom]) {
  const alpha = await decodeGrey(container.alpha, container.width, container.height, container.bitDepth);
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) data[4 * ((y - top) * width + x - left) + 3] = alpha[y * container.width + x];
  }
}

function isGrey(data) {
  for (let i = 0; i < data.length; i += 4) if (data[i] !== data[i + 1] || data[i] !== data[i + 2]) return false;
  return true;
}

/** The alpha channel as a PNG; undefined if the picture is opaque. */
async function alphaOf({ data, width, height }) {
  const alpha = new Uint8Array(width * height);
  let least = 255;
  for (let i = 0; i < alpha.length; i++) least = Math.min(least, (alpha[i] = data[4 * i + 3]));
  return least < 255 ? encodeGrey(alpha, width, height) : undefined;
}
