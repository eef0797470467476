/**
 * The tiles of a picture: where each lies, in pixels and in latents, as in the Python package's codec/tiles.py. Boxes are
 * [left, top, right, bottom]; sizes are [rows, columns]; a latent stands for 16 x 16 pixels.
 */
import { tileBoxes } from "./container.js";

export const STRIDE = 16;
export const MULTIPLE = 64; // pixels that a tile is padded to a multiple of
const CELL = 8; // of the "unshuffle8" stem

/** Latents next to a region that its pixels can depend on, rounded up. */
function receptiveHalo({ stem, analysis, synthesis }) {
  const stride = stem === "unshuffle8" ? CELL : 2;
  const reach = (stages) =>
    stages.reduce((sum, [blocks], stage) => sum + blocks * stride * 2 ** stage, stem === "conv4" ? 2 : 0);
  return Math.ceil(Math.max(reach(analysis), reach([...synthesis].reverse())) / STRIDE);
}

export class Tiling {
  /** @param {object|undefined} config of the model, if there is one @param {{width: number, height: number, tileSide: number}} picture */
  constructor(config, picture) {
    this.size = [picture.height, picture.width];
    this.side = picture.tileSide;
    this.halo = config ? receptiveHalo(config) : 0;
    this.boxes = tileBoxes(picture);
  }

  get whole() {
    return [0, 0, this.size[1], this.size[0]];
  }

  /** Rows and columns of latents of [height, width] pixels, padded. */
  padded(size) {
    return size.map((side) => Math.ceil(side / MULTIPLE) * (MULTIPLE / STRIDE));
  }

  /** The box in latents of a tile, padded. */
  cells(tile) {
    const [left, top] = [tile[0] / STRIDE, tile[1] / STRIDE];
    const [rows, columns] = this.padded(extent(tile));
    return [left, top, left + columns, top + rows];
  }

  /** A box in latents, wider by so many on each side, as far as there are latents. */
  widened([left, top, right, bottom], by) {
    const [height, width] = this.padded(this.size);
    return [Math.max(left - by, 0), Math.max(top - by, 0), Math.min(right + by, width), Math.min(bottom + by, height)];
  }

  /** A box in latents, widened by what its pixels depend on. */
  withHalo(cells) {
    return this.widened(cells, this.halo);
  }

  /** The tiles that a box in latents touches, row by row. */
  touching(cells) {
    const [rows, columns] = this.size.map((side) => Math.ceil(side / this.side));
    const [left, top, right, bottom] = pixelsOf(cells).map((side) => side / this.side);
    const found = [];
    for (let row = Math.floor(top); row < Math.min(bottom, rows); row++) {
      for (let column = Math.floor(left); column < Math.min(right, columns); column++) found.push(this.boxes[row * columns + column]);
    }
    return found;
  }

  /** A box of pixels, widened to the tiles that it touches. */
  ofWholeTiles(box) {
    const tiles = this.touching(cellsOf(box));
    return [...tiles[0].slice(0, 2), ...tiles.at(-1).slice(2)];
  }
}

/** The latents that a box of pixels touches. */
export const cellsOf = ([left, top, right, bottom]) => [
  Math.floor(left / STRIDE), Math.floor(top / STRIDE), Math.ceil(right / STRIDE), Math.ceil(bottom / STRIDE),
];

export const pixelsOf = (cells) => cells.map((side) => side * STRIDE);

/** Rows and columns of latents that touch a tile's pixels. */
export const latentsInside = (tile) => extent(tile).map((side) => Math.ceil(side / STRIDE));

export const extent = (box) => [box[3] - box[1], box[2] - box[0]];

export const overlap = (one, other) => [
  Math.max(one[0], other[0]), Math.max(one[1], other[1]), Math.min(one[2], other[2]), Math.min(one[3], other[3]),
];

/** A box as it lies in another one. */
export const relative = (box, inside) => box.map((side, i) => side - inside[i % 2]);

/**
 * Copies what two boxes have in common, from one array [rows][columns][channels] to another of the same type.
 * @param {number} stride cells of the boxes for each row and column of the arrays
 */
export function copyCommon(source, from, target, to, channels, stride = 1) {
  const [left, top, right, bottom] = overlap(from, to);
  if (left >= right) return;
  const width = (box) => (box[2] - box[0]) / stride;
  const at = (box, row) => (((row - box[1]) / stride) * width(box) + (left - box[0]) / stride) * channels;
  const length = ((right - left) / stride) * channels;
  for (let row = top; row < bottom; row += stride) {
    const begin = at(from, row);
    target.set(source.subarray(begin, begin + length), at(to, row));
  }
}
