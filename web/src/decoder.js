/**
 * The tiles of one file: their parts -> y_hat, as in the Python package's codec/decoder.py, which says why.
 *
 *     parts of a tile --(steps as coded, the tile alone)--> its known latents --+
 *     parts of the tiles around it ----------------------> theirs, MARGIN wide -+--(all steps)--> y_hat of the tile
 */
import { HpcmError } from "./errors.js";
import { copyCommon, extent, latentsInside } from "./tiles.js";
import { concat } from "./wire.js";

const MARGIN = 8; // latents around a tile that tell what its missing ones are

export class TileDecoder {
  /**
   * @param {import("./core.js").Engine} engine
   * @param {import("./container.js").Container} container
   * @param {import("./tiles.js").Tiling} tiling
   * @param {1|2|3} scale of a progressive file so many scales are decoded
   */
  constructor(engine, container, tiling, scale) {
    Object.assign(this, { engine, container, tiling, scale });
    const [first, second, third] = engine.config.steps;
    this.ends = [1 + first, 1 + first + second, 1 + first + second + third].slice(-container.passes);
    this.kept = new Map(); // tile -> what is known of it
  }

  /** y_hat of a tile, padded. Tiles are asked for row by row. */
  yHat(box) {
    const { engine, container, tiling } = this;
    const [parts, own] = [this.#parts(box), tiling.cells(box)];
    const around = tiling.widened(own, MARGIN);
    const same = around.every((side, i) => side === own[i]);
    if (parts.length && parts.length < container.passes && !same) return this.#filled(own, around);
    const decoded = this.#decodable(box, () => engine.decode(...this.#coded(parts, box)));
    if (parts.length) this.#check(parts, decoded.checksum, box);
    if (parts.length === container.passes && decoded.wordsLeft) {
      throw new HpcmError("corrupt", `entropy-coded data go on after the last symbol: ${decoded.wordsLeft} words of 4 bytes are left`);
    }
    return decoded.yHat;
  }

  /** y of a tile on its first scale, at every fourth latent; undefined where the file ends before. It isn't checked. */
  coarsest(box) {
    const [first] = this.#parts(box);
    if (!first) return undefined;
    const { engine, container, tiling } = this;
    const size = extent(tiling.cells(box));
    const steps = 1 + engine.config.steps[0];
    const coded = [first.payload, steps, size, container.level, latentsInside(box)];
    return this.#decodable(box, () => engine.decodeKnown(...coded)).known[1];
  }

  /** The parts of a tile that are to be decoded. */
  #parts(box) {
    const side = this.container.tileSide;
    const columns = Math.ceil(this.container.width / side);
    const tile = this.container.tiles[(box[1] / side) * columns + box[0] / side];
    return tile.slice(0, this.container.passes > 1 ? this.scale : 1);
  }

  /** y_hat of a tile of which not all is known, given what is known in a box around it; both in latents. */
  #filled(own, around) {
    const whole = this.engine.unknown(extent(around));
    for (const box of this.tiling.touching(around)) {
      const there = this.tiling.cells(box);
      this.#known(box).forEach((known, i) => {
        const stride = extent(around)[0] / whole[i].rows;
        copyCommon(known.values, there, whole[i].values, around, known.channels, stride);
      });
    }
    for (const box of this.kept.keys()) if (this.tiling.cells(box)[3] <= around[1]) this.kept.delete(box);
    const filled = this.engine.fill(whole, this.container.level);
    const [rows, columns] = extent(own);
    const values = new Float32Array(rows * columns * filled.channels);
    copyCommon(filled.values, around, values, own, filled.channels);
    return { values, rows, columns, channels: filled.channels };
  }

  /** What the parts of a tile tell, as Engine.decodeKnown gives it; nothing of a tile without parts. */
  #known(box) {
    const parts = this.#parts(box);
    if (parts.length && !this.kept.has(box)) {
      const { known, checksum } = this.#decodable(box, () => this.engine.decodeKnown(...this.#coded(parts, box)));
      this.#check(parts, checksum, box);
      this.kept.set(box, known);
    }
    return this.kept.get(box) ?? [];
  }

  #coded(parts, box) {
    const steps = parts.length ? this.ends[parts.length - 1] : 0;
    const size = extent(this.tiling.cells(box));
    return [concat(parts.map(({ payload }) => payload)), steps, size, this.container.level, latentsInside(box)];
  }

  #check(parts, checksum, box) {
    const whole = parts.length === this.container.passes;
    if ((whole ? checksum : checksum & 0xffff) !== parts.at(-1).checksum) throw mismatch(box);
  }

  /** The payload's CRC is right: if it can't be decoded, it was asked for other symbols than those encoded. */
  #decodable(box, decode) {
    try {
      return decode();
    } catch (error) {
      throw error.code === "corrupt" ? mismatch(box) : error;
    }
  }
}

const mismatch = (box) =>
  new HpcmError("mismatch", `the decoded symbols of the tile at ${box[0]}, ${box[1]} are not those that were encoded`);
