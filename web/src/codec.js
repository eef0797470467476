/**
 * Codec: picture <-> bytes with one model. It knows neither workers nor networks of computers: index.js does.
 *
 *     analyse:  RGBA -> tiles -> y
 *     encode:   y -> symbols, step by step -> bytes              y_hat -> base -> residual of each tile
 *     decode:   bytes -> symbols, step by step -> y_hat of each tile -> base, and its residual -> RGBA
 */
import { PASSES, isBesideGrey, pack, progressOf, unpack } from "./container.js";
import { Engine } from "./core.js";
import { TileDecoder } from "./decoder.js";
import { HpcmError, checkAborted, checkRange } from "./errors.js";
import { sha256 } from "./fetching.js";
import { allLevels, codedAs, levelOf } from "./levels.js";
import { WORTH_NO_PICTURE, checkDecoded, repeats } from "./lossless.js";
import { decodeGrey, encodeGrey } from "./png.js";
import { Reduced } from "./reducing.js";
import { added, cut, encoded, greyPieces, manyOf, needsResidual } from "./residual.js";
import { converted } from "./samples.js";
import { SIDE, thumbnailOf } from "./thumbnail.js";
import { MULTIPLE, Tiling, cellsOf, copyCommon, extent, latentsInside, overlap, pixelsOf, relative } from "./tiles.js";
import { Weights } from "./weights.js";
import { concat } from "./wire.js";

const TILE_SIDE = 1024;
const MAX_TILE_SIDE = 4096; // as the Python package has it: a tile is decoded at once
const PROGRESSIVE = 4096; // bytes of a tile from which on being progressive is worth its 10 to 14 bytes
const BIT_DEPTH = 8; // of what is encoded here
const MAX_PIXELS = 2 ** 26; // of what is coded here: 268 MB as RGBA

/** @typedef {{data: Uint8ClampedArray, width: number, height: number}} Pixels RGBA, not premultiplied */

export class Codec {
  /** @param {{name: string, hash: string}} model @param {Engine} engine */
  constructor({ name, hash }, engine, core = engine.core) {
    this.model = { name, hash };
    this.engine = engine;
    this.core = core;
  }

  /** What opens files beside grey: they need no model. @param {import("./core.js").Core} core */
  static withoutModel(core) {
    return new Codec({}, undefined, core);
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
    return { image, tiling, tiles, grey, alpha: await alphaOf(image) };
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

  /** The file of analysed latents at a level, as `levelOf` gives it. @returns {Promise<Uint8Array>} */
  async encode(latents, level, how = {}) {
    checkRange("quality level", level, 0, allLevels(this.levels) - 1);
    const coded = codedAs(level, this.levels);
    return this.#file(latents, coded.level, coded.residual, how);
  }

  /**
   * The file of which no sample is off by more than `maxError`. It is decoded and compared before it is given.
   * @param {number} [level] of the lossy picture; by default the one that makes the smallest file, or none beside grey
   * @returns {Promise<Uint8Array>}
   */
  async encodeWithin(latents, maxError, { level, progressive, told = () => {}, signal } = {}) {
    const triesGrey = level === undefined && repeats(latents.image);
    const stages = triesGrey ? 3 : 2;
    const stage = (number) => ({ progressive, told: (share) => told((number + share) / stages), signal });
    let file = await this.#file(latents, level ?? 0, { kind: "samples", number: maxError }, stage(0));
    if (triesGrey) {
      const besideGrey = await this.#file(latents, 0, { kind: "samples beside grey", number: maxError }, stage(1));
      if (besideGrey.length < WORTH_NO_PICTURE * file.length) file = besideGrey;
    }
    checkDecoded(latents.image, await this.decode(unpack(file), stage(stages - 1)), maxError);
    return file;
  }

  /** The file at a level of the model, and with a residual layer. */
  async #file(latents, level, residual, { progressive, told = () => {}, signal }) {
    const { image, tiling, grey, alpha } = latents;
    const besideGrey = residual?.kind === "samples beside grey";
    const step = stepsOf(tiling.boxes.length * (residual && !besideGrey ? 3 : 1), told, signal);
    const tiles = [];
    const encodeTile = ({ y, inside }) => {
      const { parts, checksums, yHat } = this.engine.encode(y, level, inside, { withYHat: Boolean(residual) });
      tiles.push(parts.map((payload, i) => ({ payload, checksum: i + 1 < PASSES ? checksums[i] & 0xffff : checksums[i] })));
      return yHat;
    };
    let residuals;
    if (besideGrey) {
      for (const _ of tiling.boxes) tiles.push([]);
      residuals = await this.#residuals(latents, residual, greyPieces(tiling.boxes, BIT_DEPTH, grey ? 1 : 3), step);
    } else if (residual) {
      const left = latents.tiles.values();
      const yHatOf = () => encodeTile(left.next().value); // which is asked for all tiles in their order
      const bases = this.#synthesised(tiling, tiling.whole, grey ? 1 : 3, BIT_DEPTH, yHatOf, step);
      residuals = await this.#residuals(latents, residual, bases, step);
    } else {
      for (const tile of latents.tiles) {
        await step();
        encodeTile(tile);
      }
    }
    const size = tiles.flat().reduce((sum, { payload }) => sum + payload.length, 0);
    const inPasses = !besideGrey && (progressive ?? size >= PROGRESSIVE * tiles.length);
    const coded = inPasses ? tiles : tiles.map(inOnePart);
    return pack({
      ...{ passes: inPasses ? PASSES : 1, width: image.width, height: image.height },
      ...{ model: this.model.name, hash: this.model.hash, level, tileSide: TILE_SIDE, residual },
      ...{ colour: grey ? "grey" : "rgb", bitDepth: BIT_DEPTH, alpha, ancillary: [] },
      tiles: residuals ? coded.map((parts, i) => [...parts, residuals[i]]) : coded,
    });
  }

  /** The residual's part of each tile. */
  async #residuals({ image, grey }, residual, bases, step) {
    const channels = grey ? 1 : 3;
    const sourceOf = (box) => samplesOf(image, box, channels);
    const parts = [];
    for await (const group of groupsOf(bases, manyOf(this.core.threads, TILE_SIDE))) {
      for (const _ of group) await step();
      parts.push(...encoded(this.core, residual, group, sourceOf, BIT_DEPTH, channels));
    }
    return parts;
  }

  // ---- decoding -----------------------------------------------------------------------------------------------------

  /**
   * @param {import("./container.js").Container} container
   * @param {object} options
   * @param {1|2|3} [options.scale] of a progressive file so many scales are decoded, without a residual layer; by default
   *   all that is there
   * @param {[number, number, number, number]} [options.box] left, top, right, bottom; by default all
   * @param {(part: Pixels & {left: number, top: number, lossy: boolean}) => void} [options.onpart] is given each part of the
   *   picture, opaque, as soon as it is decoded; of a file with a residual layer first all of the lossy picture
   * @returns {Promise<Pixels>}
   */
  async decode(container, { scale, box, onpart, told = () => {}, signal } = {}) {
    this.#check(container, scale, box);
    const tiling = new Tiling(this.engine?.config, container);
    const area = box ?? tiling.whole;
    const grey = container.colour === "grey";
    let out; // a file may claim any size: memory is taken when one of its tiles has been decoded
    for await (const { piece, samples, lossy = false } of this.#pieces(container, tiling, area, { scale, lossyFirst: Boolean(onpart), told, signal })) {
      const shown = converted(samples, container.bitDepth, 8);
      out ??= blank(extent(area));
      if (!lossy) paint(out, relative(piece, area), shown, grey);
      onpart?.({ ...partOf(relative(piece, area), shown, grey), lossy });
    }
    if (container.alpha) await paintAlpha(out, container, area);
    return out;
  }

  /**
   * The picture without its alpha channel, each side divided by `every`. The whole one is never held.
   * @returns {Promise<Pixels>}
   */
  async reduced(container, every, { told = () => {}, signal } = {}) {
    this.#check(container);
    const tiling = new Tiling(this.engine?.config, container);
    const size = extent(tiling.whole);
    let out; // memory is taken when a tile has been decoded
    for await (const { piece, samples } of this.#pieces(container, tiling, tiling.whole, { every, told, signal })) {
      out ??= new Reduced(size, every);
      out.add(piece, converted(samples, container.bitDepth, 8), container.colour === "grey");
    }
    return out.pixels();
  }

  /**
   * A small picture, each of whose pixels stands for 64 x 64, in about a ninth of the time. thumbnail.js says how. Where
   * there is no lossy picture it takes as long as the whole one.
   */
  async thumbnail(container, { told = () => {}, signal } = {}) {
    if (isBesideGrey(container)) return this.reduced(container, SIDE, { told, signal });
    this.#check(container);
    const tiling = new Tiling(this.engine.config, container);
    const step = stepsOf(tiling.boxes.length + 1, told, signal);
    const decoder = new TileDecoder(this.engine, container, tiling, PASSES);
    return thumbnailOf(this.engine, decoder, tiling, container, step);
  }

  /**
   * The area's part of each tile: its box, and its samples [rows][columns][3], or [1] for grey, of the file's depth.
   * lossyFirst: those of the lossy picture come before those of the residual layer, and are held as long
   */
  async *#pieces(container, tiling, area, { scale, every = 1, lossyFirst = false, told, signal }) {
    const { bitDepth } = container;
    const channels = container.colour === "grey" ? 1 : 3;
    const withResidual = needsResidual(container, scale, every);
    const reach = withResidual ? tiling.ofWholeTiles(area) : area;
    const tiles = tiling.touching(cellsOf(reach));
    let bases;
    let step;
    if (isBesideGrey(container)) {
      step = stepsOf(tiles.length, told, signal);
      bases = greyPieces(tiles, bitDepth, channels);
    } else {
      const needed = tiling.touching(tiling.withHalo(cellsOf(reach)));
      step = stepsOf(needed.length + tiles.length * (withResidual ? 2 : 1), told, signal);
      const decoder = new TileDecoder(this.engine, container, tiling, scale ?? PASSES);
      bases = this.#synthesised(tiling, reach, channels, bitDepth, (tile) => decoder.yHat(tile), step);
    }
    if (!withResidual) {
      yield* bases;
      return;
    }
    if (lossyFirst && !isBesideGrey(container)) {
      const held = [];
      for await (const base of bases) {
        held.push(base);
        yield { ...cut(base, area, channels), lossy: true };
      }
      bases = drained(held);
    }
    for await (const group of groupsOf(bases, manyOf(this.core.threads, tiling.side))) {
      for (const _ of group) await step();
      for (const piece of added(this.core, container, tiling, group, channels)) yield cut(piece, area, channels);
    }
  }

  /**
   * The pixels of an area, a piece for each tile that it touches, row by row.
   * @param {(tile: number[]) => object} yHatOf is asked for the tiles that the area depends on, row by row
   */
  async *#synthesised(tiling, area, channels, bitDepth, yHatOf, step) {
    const { M } = this.engine.config;
    const needed = tiling.touching(tiling.withHalo(cellsOf(area)));
    const held = new Map(); // tile -> y_hat
    let next = 0;
    for (const tile of tiling.touching(cellsOf(area))) {
      const piece = overlap(tile, area);
      const outer = tiling.withHalo(cellsOf(piece));
      const near = tiling.touching(outer);
      for (; !held.has(near.at(-1)); next++) {
        await step();
        held.set(needed[next], yHatOf(needed[next]));
      }
      for (const other of held.keys()) if (tiling.cells(other)[3] <= outer[1]) held.delete(other);
      await step();
      const [rows, columns] = extent(outer);
      const values = new Float32Array(rows * columns * M);
      for (const other of near) copyCommon(held.get(other).values, tiling.cells(other), values, outer, M);
      const crop = relative(piece, pixelsOf(outer));
      yield { piece, samples: this.engine.synthesise({ values, rows, columns }, channels === 1, crop, bitDepth) };
    }
  }

  /** What is asked for, and what the file claims; in the order of the Python package's codec/codec.py. */
  #check(container, scale, box) {
    const { width, height, alpha, hash, level, tileSide, residual } = container;
    if (![undefined, 1, 2, PASSES].includes(scale)) throw new HpcmError("usage", `scale is ${scale}: a picture has 1 to ${PASSES}`);
    if (box !== undefined && !isInside(box, width, height)) {
      throw new HpcmError("usage", `the box ${box} doesn't lie in the picture of ${width} x ${height} pixels`);
    }
    if (this.engine && hash !== this.model.hash) {
      const found = `the file was made with model ${container.model} of hash ${hash}`;
      throw new HpcmError("mismatch", `${found}, this is ${this.model.name} of hash ${this.model.hash}`);
    }
    if (this.engine && level >= this.levels) {
      throw new HpcmError("format", `the file has quality level ${level}, the model only ${this.levels}`);
    }
    const reach = residual && box ? new Tiling(undefined, container).ofWholeTiles(box) : box;
    const [rows, columns] = box && !alpha ? extent(reach) : [height, width]; // alpha is decoded whole
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

/** What is awaited before each of so many steps: it tells how many are done, and lets messages in. */
function stepsOf(count, told, signal) {
  let done = 0;
  return async () => {
    told(done++ / count);
    await turn(signal);
  };
}

/** Lists of up to `many`. */
async function* groupsOf(pieces, many) {
  let group = [];
  for await (const piece of pieces) {
    group.push(piece);
    if (group.length < many) continue;
    yield group;
    group = [];
  }
  if (group.length) yield group;
}

/** What is taken isn't held any longer. */
function* drained(list) {
  while (list.length) yield list.shift();
}

/** A tile of a file that isn't progressive. */
function inOnePart(parts) {
  if (!parts.length) return [];
  return [{ payload: concat(parts.map(({ payload }) => payload)), checksum: parts.at(-1).checksum }];
}

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

/** The samples of a box, [rows][columns][3], or [1] for grey. */
function samplesOf({ data, width }, box, channels) {
  const rgb = rgbOf(data, width, box);
  return channels === 3 ? rgb : Uint8Array.from({ length: rgb.length / 3 }, (_, i) => rgb[3 * i]);
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
