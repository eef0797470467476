/**
 * A small picture of a file, long before the picture itself is decoded. Each of its pixels stands for 64 x 64, and has
 * the colour of the first 16 x 16 of them.
 *
 *     first steps of each tile --> y at every fourth row and column of latents
 *                              --> g_s takes it for all latents of a picture of a quarter of the width and height
 *                              --> patches of 16 x 16 pixels, which don't fit each other: the mean of each is a pixel
 */
import { STRIDE, copyCommon, extent } from "./tiles.js";

const EVERY = 4; // latents
const MULTIPLE = 4; // of which there must be so many rows and columns
/** Pixels that one of the thumbnail's stands for, in each direction. */
export const SIDE = EVERY * STRIDE;

/**
 * @param {import("./core.js").Engine} engine
 * @param {import("./decoder.js").TileDecoder} decoder
 * @param {import("./tiles.js").Tiling} tiling
 * @param {{level: number, colour: "grey"|"rgb"}} container
 * @param {() => Promise<void>} turn awaited before what takes long
 * @returns {Promise<import("./codec.js").Pixels>}
 */
export async function thumbnailOf(engine, decoder, tiling, { level, colour }, turn) {
  const known = engine.unknown(tiling.padded(tiling.size).map((side) => MULTIPLE * Math.ceil(side / EVERY / MULTIPLE)));
  const fine = known.at(-1);
  for (const tile of tiling.boxes) {
    await turn();
    const y = decoder.coarsest(tile);
    const box = tiling.cells(tile).map((side) => side / EVERY);
    if (y) copyCommon(y.values, box, fine.values, [0, 0, fine.columns, fine.rows], y.channels);
  }
  await turn();
  for (const lattice of known.slice(1, -1)) thin(fine, lattice);
  const { values, rows, columns } = engine.fill(known, level);
  const samples = engine.synthesise({ values, rows, columns }, false, [0, 0, STRIDE * columns, STRIDE * rows]);
  return means(samples, columns, extent(tiling.whole).map((side) => Math.ceil(side / SIDE)), colour === "grey");
}

/** What a coarser lattice has of a finer one. */
function thin(fine, { values, rows, columns, channels }) {
  const stride = fine.rows / rows;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const from = stride * (row * fine.columns + column) * channels;
      values.set(fine.values.subarray(from, from + channels), (row * columns + column) * channels);
    }
  }
}

/** The mean of each patch of [rows][columns][3] samples. */
function means(samples, columns, [height, width], grey) {
  const out = { data: new Uint8ClampedArray(4 * width * height).fill(255), width, height };
  for (let i = 0; i < width * height; i++) {
    const [row, column] = [Math.floor(i / width), i % width];
    const colours = meanOf(samples, columns, STRIDE * row, STRIDE * column);
    out.data.set(grey ? colours.fill((colours[0] + colours[1] + colours[2]) / 3) : colours, 4 * i);
  }
  return out;
}

function meanOf(samples, columns, top, left) {
  const sums = [0, 0, 0];
  for (let y = top; y < top + STRIDE; y++) {
    const begin = 3 * (y * STRIDE * columns + left);
    for (let i = 0; i < 3 * STRIDE; i++) sums[i % 3] += samples[begin + i];
  }
  return sums.map((sum) => sum / STRIDE ** 2);
}
