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
import { decodeGrey, encodeGrey } from "./png.js";
import { Tiling, cellsOf, copyCommon, extent, latentsInside, overlap, pixelsOf, relative } from "./tiles.js";
import { Weights } from "./weights.js";
import { concat } from "./wire.js";

const TILE_SIDE = 1024;
const PROGRESSIVE = 4096; // bytes of a tile from which on being progressive is worth its 10 to 14 bytes
const MAX_PIXELS = 2 ** 26; // of a picture that is coded here

/** @typedef {{data: Uint8ClampedArray, width: number, height: number}} Pixels RGBA, not premultiplied */

export class Codec {
  constructor(weights, engine) {
    this.weights = weights;
    this.engine = engine;
  }

  /**
   * @param {import("./core.js").Core} core
   * @param {Uint8Array} data a weights file
   */
  static async load(core, data) {
    const weights = await Weights.read(data);
    return new Codec(weights, new Engine(core, weights));
  }

  /** Gives the model's memory back. */
  free() {
    this.engine.free();
  }

  get levels() {
    return this.weights.config.levels;
  }

  /** Quality 1..100 -> level. */
  levelOf(quality) {
    if (!(quality >= 1 && quality <= 100)) throw new HpcmError("usage", `quality is ${quality}: it must be 1 to 100`);
    return roundedEven(((quality - 1) / 99) * (this.levels - 1));
  }

  // ---- encoding -----------------------------------------------------------------------------------------------------

  /**
   * What does not depend on the quality: the latents of the picture's tiles.
   * @param {Pixels} image
   */
  async analyse(image, { told = () => {}, signal } = {}) {
    const { width, height, data } = image;
    checkPixels(width, height);
    const tiling = new Tiling(this.weights.config, { width, height, tileSide: TILE_SIDE });
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
      ...{ model: this.weights.name, hash: this.weights.hash, level, tileSide: TILE_SIDE },
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
   * @returns {Promise<Pixels>}
   */
  async decode(container, { scale = PASSES, box, told = () => {}, signal } = {}) {
    this.#check(container, scale, box);
    const { engine } = this;
    const tiling = new Tiling(this.weights.config, container);
    const decoder = new TileDecoder(engine, container, tiling, scale);
    const area = box ?? tiling.whole;
    const [height, width] = extent(area);
    const grey = container.colour === "grey";
    const pieces = tiling.touching(cellsOf(area));
    const needed = tiling.touching(tiling.withHalo(cellsOf(area)));
    const count = needed.length + pieces.length;
    const out = { data: new Uint8ClampedArray(4 * width * height).fill(255), width, height };
    const held = new Map(); // tile -> y_hat
    let [next, done] = [0, 0];
    for (const tile of pieces) {
      const piece = overlap(tile, area);
      const outer = tiling.withHalo(cellsOf(piece));
      const near = tiling.touching(outer);
      while (!held.has(near.at(-1))) {
        await turn(signal);
        held.set(needed[next], decoder.yHat(needed[next]));
        next++;
        told(++done / count);
      }
      for (const other of held.keys()) if (tiling.cells(other)[3] <= outer[1]) held.delete(other);
      await turn(signal);
      const [rows, columns] = extent(outer);
      const channels = this.weights.config.M;
      const values = new Float32Array(rows * columns * channels);
      for (const other of near) copyCommon(held.get(other).values, tiling.cells(other), values, outer, channels);
      const samples = engine.synthesise({ values, rows, columns, channels }, grey, relative(piece, pixelsOf(outer)));
      paint(out, relative(piece, area), samples, grey);
      told(++done / count);
    }
    if (container.alpha) await paintAlpha(out, container, area);
    return out;
  }

  #check(container, scale, box) {
    const { hash, name } = this.weights;
    if (container.hash !== hash) {
      const found = `the file was made with model ${container.model} of hash ${container.hash}`;
      throw new HpcmError("mismatch", `${found}, this is ${name} of hash ${hash}`);
    }
    if (container.level >= this.levels) throw new HpcmError("format", `the model has no quality level ${container.level}`);
    if (![1, 2, PASSES].includes(scale)) throw new HpcmError("usage", `scale is ${scale}: a picture has 1 to ${PASSES}`);
    const { width, height } = container;
    if (!box) return checkPixels(width, height);
    const [left, top, right, bottom] = box;
    const inside = box.every(Number.isInteger) && 0 <= left && left < right && right <= width && 0 <= top && top < bottom && bottom <= height;
    if (!inside) throw new HpcmError("usage", `the box ${box} doesn't lie in the picture of ${width} x ${height} pixels`);
    return checkPixels(right - left, bottom - top);
  }
}

/** @param {import("./container.js").Container} container whether all of a file is there */
export const isWhole = (container) => progressOf(container) === 1;

/** Lets messages in, such as that of a caller who stops the work. */
async function turn(signal) {
  await new Promise((go) => setTimeout(go));
  checkAborted(signal);
}

/** The nearest whole number, halves to the even one. */
function roundedEven(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest < 0.5 || (rest === 0.5 && floor % 2 === 0) ? floor : floor + 1;
}

/** The parts of a tile as one. */
const joined = (parts) => ({ payload: concat(parts.map(({ payload }) => payload)), checksum: parts.at(-1).checksum });

function checkPixels(width, height) {
  if (!(width >= 1 && height >= 1 && width * height <= MAX_PIXELS)) {
    throw new HpcmError("usage", `the picture has ${width} x ${height} pixels: up to ${MAX_PIXELS} can be coded here`);
  }
}

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

async function paintAlpha({ data, width }, container, [left, top, right, bottom]) {
  const alpha = await decodeGrey(container.alpha, container.width, container.height);
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
