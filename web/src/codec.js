/**
 * Codec: picture <-> bytes with one model. It knows neither workers nor networks of computers: index.js does.
 *
 *     analyse:  RGBA -> tiles -> y, z         encode: y, z -> symbols, step by step -> bytes
 *     decode:   bytes -> symbols, step by step -> y_hat of each tile -> RGBA
 */
import { PASSES, pack, progressOf } from "./container.js";
import { Decoder, Encoder, checksum } from "./entropy.js";
import { HpcmError, checkAborted, checkRange } from "./errors.js";
import { graphsOf } from "./graphs.js";
import { Loop, rint } from "./loop.js";
import { Networks, checkSuited } from "./networks.js";
import { decodeGrey, encodeGrey } from "./png.js";
import { passEnds } from "./schedule.js";
import { STRIDE, Tiling } from "./tiles.js";
import { Weights, hashOf } from "./weights.js";
import { concat } from "./wire.js";

const TILE_SIDE = 1024;
const PROGRESSIVE = 4096; // bytes of a tile from which on being progressive is worth its 10 to 14 bytes
const MAX_PIXELS = 2 ** 26; // of a picture that is coded here
const f = Math.fround;

/** @typedef {{data: Uint8ClampedArray, width: number, height: number}} Pixels RGBA, not premultiplied */

export class Codec {
  constructor(weights, networks) {
    this.weights = weights;
    this.networks = networks;
    this.loop = new Loop(networks);
  }

  /**
   * @param {Uint8Array} data a weights file
   * @param {import("./graphs.js").Structures} structures
   * @param {typeof import("onnxruntime-web")} ort
   */
  static async load(data, structures, ort) {
    const weights = new Weights(data, await hashOf(data));
    checkSuited(weights);
    return new Codec(weights, new Networks(weights, await graphsOf(weights, structures), ort));
  }

  get levels() {
    return this.weights.config.levels;
  }

  /** Quality 1..100 -> level. */
  levelOf(quality) {
    if (!(quality >= 1 && quality <= 100)) throw new HpcmError("usage", `quality is ${quality}: it must be 1 to 100`);
    return rint(((quality - 1) / 99) * (this.levels - 1));
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
    const tiles = [];
    for (const box of tiling.boxes) {
      checkAborted(signal);
      const y = await tiling.analyse(data, box, (x, size) => this.networks.analyse(x, size));
      const size = tiling.padded([box[3] - box[1], box[2] - box[0]]);
      tiles.push({ y, z: await this.networks.hyperAnalyse(y, size), size, inside: insideOf(box) });
      told(tiles.length / tiling.boxes.length);
    }
    return { width, height, tiles, grey: isGrey(data), alpha: await alphaOf(image) };
  }

  /** The file of analysed latents at a level. @returns {Promise<Uint8Array>} */
  async encode(latents, level, { progressive, told = () => {}, signal } = {}) {
    checkRange("quality level", level, 0, this.levels - 1);
    const tiles = [];
    for (const tile of latents.tiles) {
      checkAborted(signal);
      tiles.push(await this.#coded(tile, level));
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

  /** A tile in as many parts as there are scales. */
  async #coded({ y, z, size, inside }, level) {
    const { tables } = this.weights;
    const encoder = new Encoder(tables);
    const ends = passEnds(this.weights.config);
    const gains = { y: this.loop.gainsOf("y", level)[0], z: this.loop.gainsOf("z", level)[0] };
    const areas = { y: size[0] * size[1], z: (size[0] * size[1]) / 16 };
    const sums = [];
    let [step, total] = [0, 0];
    const drive = (place, means, scales) => {
      const [latent, values] = step ? ["y", y] : ["z", z];
      const symbols = new Int32Array(means.length);
      for (let k = 0; k < symbols.length; k++) {
        const at = place.fine[k];
        symbols[k] = rint(f(f(values[at] * gains[latent][Math.floor(at / areas[latent])]) - means[k]));
      }
      encoder.push(symbols, tables.index(scales));
      total = checksum(symbols, total);
      step += 1;
      if (ends.includes(step)) {
        encoder.cut();
        sums.push(total);
      }
      return symbols;
    };
    await this.loop.run(drive, size, inside, level);
    return encoder.finish().map((payload, i) => ({ payload, checksum: i + 1 < sums.length ? sums[i] & 0xffff : sums[i] }));
  }

  // ---- decoding -----------------------------------------------------------------------------------------------------

  /**
   * @param {import("./container.js").Container} container
   * @param {object} options
   * @param {1|2|3} [options.scale] of a progressive file so many scales are decoded
   * @returns {Promise<Pixels>}
   */
  async decode(container, { scale = PASSES, told = () => {}, signal } = {}) {
    this.#check(container, scale);
    const tiling = new Tiling(this.weights.config, container);
    const latents = [];
    const count = tiling.boxes.length;
    for (const [i, box] of tiling.boxes.entries()) {
      checkAborted(signal);
      const tile = container.passes > 1 ? container.tiles[i].slice(0, scale) : container.tiles[i];
      latents.push(await this.#decoded(container, tile, box, tiling, (share) => told(((i + share) / count) * 0.8)));
    }
    const { width, height } = container;
    const out = { data: new Uint8ClampedArray(4 * width * height).fill(255), width, height };
    let done = 0;
    for await (const piece of tiling.synthesise(latents, (y, size) => this.networks.synthesise(y, size))) {
      checkAborted(signal);
      paint(out, piece, container.colour === "grey");
      told(0.8 + (0.2 * ++done) / count);
    }
    if (container.alpha) {
      const alpha = await decodeGrey(container.alpha, width, height);
      for (let i = 0; i < alpha.length; i++) out.data[4 * i + 3] = alpha[i];
    }
    return out;
  }

  #check(container, scale) {
    const { hash, name } = this.weights;
    if (container.hash !== hash) {
      const found = `the file was made with model ${container.model} of hash ${container.hash}`;
      throw new HpcmError("mismatch", `${found}, this is ${name} of hash ${hash}`);
    }
    if (container.level >= this.levels) throw new HpcmError("format", `the model has no quality level ${container.level}`);
    if (![1, 2, PASSES].includes(scale)) throw new HpcmError("usage", `scale is ${scale}: a picture has 1 to ${PASSES}`);
    checkPixels(container.width, container.height);
  }

  /** y_hat of a tile from the parts that are at hand; every other symbol is 0. */
  async #decoded(container, tile, box, tiling, told) {
    const { tables, config } = this.weights;
    let steps = tile.length ? passEnds(config).slice(-container.passes)[tile.length - 1] : 0;
    const decoder = new Decoder(tables, joined(tile).payload);
    let total = 0;
    const drive = (place, means, scales) => {
      if (steps-- <= 0) return new Int32Array(means.length);
      const symbols = decoder.pop(tables.index(scales));
      total = checksum(symbols, total);
      return symbols;
    };
    const size = tiling.padded([box[3] - box[1], box[2] - box[0]]);
    const yHat = await this.loop.run(drive, size, insideOf(box), container.level, told).catch((error) => {
      throw error.code === "corrupt" ? mismatch(box) : error;
    });
    const whole = tile.length === container.passes;
    if (tile.length && (whole ? total : total & 0xffff) !== tile.at(-1).checksum) throw mismatch(box);
    if (whole) decoder.finish();
    return yHat;
  }
}

/** @param {import("./container.js").Container} container whether all of a file is there */
export const isWhole = (container) => progressOf(container) === 1;

const insideOf = (box) => [Math.ceil((box[3] - box[1]) / STRIDE), Math.ceil((box[2] - box[0]) / STRIDE)];

const mismatch = (box) =>
  new HpcmError("mismatch", `the decoded symbols of the tile at ${box[0]}, ${box[1]} are not those that were encoded`);

/** The parts of a tile as one. */
const joined = (parts) => ({ payload: concat(parts.map(({ payload }) => payload)), checksum: parts.at(-1)?.checksum });

function checkPixels(width, height) {
  if (!(width >= 1 && height >= 1 && width * height <= MAX_PIXELS)) {
    throw new HpcmError("usage", `the picture has ${width} x ${height} pixels: up to ${MAX_PIXELS} can be coded here`);
  }
}

/** Writes the inner part of a piece into the picture. */
function paint({ data, width }, { box: [left, top, right, bottom], xHat, outer }, grey) {
  const [rows, columns] = [(outer[3] - outer[1]) * STRIDE, (outer[2] - outer[0]) * STRIDE];
  const area = rows * columns;
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const from = (y - outer[1] * STRIDE) * columns + x - outer[0] * STRIDE;
      const to = 4 * (y * width + x);
      const [r, g, b] = [xHat[from], xHat[from + area], xHat[from + 2 * area]];
      const mean = grey ? f(f(f(r + g) + b) / 3) : 0;
      data[to] = rint(f((grey ? mean : r) * 255));
      data[to + 1] = rint(f((grey ? mean : g) * 255));
      data[to + 2] = rint(f((grey ? mean : b) * 255));
    }
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
