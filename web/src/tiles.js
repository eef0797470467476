/**
 * Pictures piece by piece, as in the Python package's codec/tiles.py: transforms with a halo of real neighbours, so that there
 * are no seams. Boxes are [left, top, right, bottom]; y [M, h, w], one latent for 16 x 16 pixels.
 */
import { tileBoxes } from "./container.js";

export const STRIDE = 16;
const MULTIPLE = 64; // pixels that a tile is padded to a multiple of
const CELL = 8; // of the "unshuffle8" stem

/** Latents next to a region that its pixels can depend on, rounded up. */
function receptiveHalo({ stem, analysis, synthesis }) {
  const stride = stem === "unshuffle8" ? CELL : 2;
  const reach = (stages) =>
    stages.reduce((sum, [blocks], stage) => sum + blocks * stride * 2 ** stage, stem === "conv4" ? 2 : 0);
  return Math.ceil(Math.max(reach(analysis), reach([...synthesis].reverse())) / STRIDE);
}

export class Tiling {
  /** @param {{width: number, height: number, tileSide: number}} picture */
  constructor(config, picture) {
    this.M = config.M;
    this.size = [picture.height, picture.width];
    this.halo = receptiveHalo(config);
    this.boxes = tileBoxes(picture);
  }

  /** Rows and columns of latents of [height, width] pixels, padded. */
  padded(size) {
    return size.map((side) => Math.ceil(side / MULTIPLE) * (MULTIPLE / STRIDE));
  }

  /** The box in latents of a tile, padded. */
  cells([left, top, right, bottom]) {
    const [rows, columns] = this.padded([bottom - top, right - left]);
    return [left / STRIDE, top / STRIDE, left / STRIDE + columns, top / STRIDE + rows];
  }

  /** A box in latents, widened by what its pixels depend on, as far as there are latents. */
  withHalo([left, top, right, bottom]) {
    const [height, width] = this.padded(this.size);
    const { halo } = this;
    return [Math.max(left - halo, 0), Math.max(top - halo, 0), Math.min(right + halo, width), Math.min(bottom + halo, height)];
  }

  /** y of a tile [M, h, w]. `analyse`: x, [rows, columns] -> y; `pixels`: see `cropped`. */
  async analyse(pixels, box, analyse) {
    const own = this.cells(box);
    const outer = this.withHalo(own);
    const area = outer.map((side) => side * STRIDE);
    const y = await analyse(cropped(pixels, this.size, area), [area[3] - area[1], area[2] - area[0]]);
    const out = new Float32Array(this.M * (own[2] - own[0]) * (own[3] - own[1]));
    copyCells(y, outer, out, own, this.M);
    return out;
  }

  /**
   * The picture of all tiles' latents, piece by piece: yields {box, xHat, outer} with xHat [3, ...] of the box `outer`.
   * @param {Float32Array[]} latents of the tiles
   */
  async *synthesise(latents, synthesise) {
    for (const box of this.boxes) {
      const [left, top, right, bottom] = box;
      const touched = [left, top, right, bottom].map((side, i) => (i < 2 ? Math.floor : Math.ceil)(side / STRIDE));
      const outer = this.withHalo(touched);
      const near = new Float32Array(this.M * (outer[2] - outer[0]) * (outer[3] - outer[1]));
      this.boxes.forEach((other, i) => copyCells(latents[i], this.cells(other), near, outer, this.M));
      const xHat = await synthesise(near, [outer[3] - outer[1], outer[2] - outer[0]]);
      yield { box, xHat, outer };
    }
  }
}

/** Copies what two boxes of latents have in common. */
function copyCells(source, from, target, to, channels) {
  const left = Math.max(from[0], to[0]);
  const right = Math.min(from[2], to[2]);
  const [wide, width] = [from[2] - from[0], to[2] - to[0]];
  const [tall, height] = [from[3] - from[1], to[3] - to[1]];
  if (left >= right) return;
  for (let c = 0; c < channels; c++) {
    for (let y = Math.max(from[1], to[1]); y < Math.min(from[3], to[3]); y++) {
      const start = (c * tall + y - from[1]) * wide + left - from[0];
      target.set(source.subarray(start, start + right - left), (c * height + y - to[1]) * width + left - to[0]);
    }
  }
}

/** Pixels (RGBA) of a box that may reach beyond the picture, there repeating its edge: [3, h, w] in 0..1. */
function cropped(pixels, [height, width], [left, top, right, bottom]) {
  const [rows, columns] = [bottom - top, right - left];
  const out = new Float32Array(3 * rows * columns);
  for (let i = 0, at = 0; i < rows; i++) {
    const row = Math.min(top + i, height - 1) * width;
    for (let j = 0; j < columns; j++, at++) {
      const from = 4 * (row + Math.min(left + j, width - 1));
      for (let c = 0; c < 3; c++) out[c * rows * columns + at] = pixels[from + c] / 255;
    }
  }
  return out;
}
