/**
 * The residual layer of a file: what its decoded picture lacks, tile by tile, as in the Python package's codec/residual.py.
 * A piece is a whole tile's box with its samples, [rows][columns][3], or [1] for grey: the base, beside which its residual
 * is coded.
 */
import { isBesideGrey, partsOf } from "./container.js";
import { HpcmError } from "./errors.js";
import { room } from "./samples.js";
import { copyCommon, extent, overlap } from "./tiles.js";
import { concat, crc32, uint32 } from "./wire.js";

const COARSE = 8; // the reduction from which the lossy picture of a lossless file will do
const RESULT_BYTES = 4; // of a part, behind its coder's: the CRC-32 of the samples with the layer
const AT_ONCE = 2 ** 22; // pixels that are coded side by side, 6 to 12 bytes each; besides, a tile takes 8 MB

/** How many tiles are coded side by side. @param {number} threads @param {number} side of a tile */
export const manyOf = (threads, side) => Math.max(1, Math.min(threads, Math.floor(AT_ONCE / side ** 2)));

/**
 * Whether what is asked for takes the residual layer. Coarse pictures do without, and reduced ones, if the lossy picture is
 * good enough: that of a model's best level is.
 */
export function needsResidual(container, scale, every = 1) {
  const { residual } = container;
  if (!residual || isBesideGrey(container)) return Boolean(residual);
  return scale === undefined && every < (residual.kind === "coefficients" ? 2 : COARSE);
}

/** The base of a file that has no lossy picture. */
export function* greyPieces(tiles, bitDepth, channels) {
  for (const piece of tiles) {
    const [rows, columns] = extent(piece);
    yield { piece, samples: room(rows * columns * channels, bitDepth).fill(2 ** (bitDepth - 1)) };
  }
}

/**
 * The part of each tile.
 * @param {import("./core.js").Core} core
 * @param {import("./container.js").Residual} residual
 * @param {{piece: number[], samples: Uint8Array|Uint16Array}[]} bases
 * @param {(piece: number[]) => Uint8Array} sourceOf the samples of a box
 */
export function encoded(core, residual, bases, sourceOf, bitDepth, channels) {
  const jobs = bases.map(({ piece, samples }) => jobOf(residual, piece, samples, bitDepth, channels));
  const sources = bases.map(({ piece }) => sourceOf(piece));
  const payloads = core.residuals(jobs.map((job, i) => ({ ...job, source: sources[i] })));
  const isLossless = residual.kind !== "coefficients" && residual.number === 0;
  const made = isLossless ? sources : core.residuals(jobs.map((job, i) => ({ ...job, payload: payloads[i] })));
  return payloads.map((payload, i) => ({
    payload: concat([payload, Uint8Array.from(uint32(checksumOf(made[i])))]),
    checksum: checksumOf(bases[i].samples),
  }));
}

/** The samples of each tile, in the order of the file. Those of which the file was cut before their residuals stay as they are. */
export function added(core, container, tiling, bases, channels) {
  const { residual, bitDepth } = container;
  const jobs = bases.flatMap(({ piece, samples }) => {
    const part = partOf(container, tiling, piece);
    if (!part) return [];
    if (checksumOf(samples) !== part.checksum) throw mismatch(piece, "decoded picture", "isn't the one that its residual was made for");
    const end = Math.max(part.payload.length - RESULT_BYTES, 0);
    return { ...jobOf(residual, piece, samples, bitDepth, channels), payload: part.payload.subarray(0, end), result: part.payload.subarray(end) };
  });
  const made = core.residuals(jobs);
  jobs.forEach(({ result }, i) => {
    const wrong = uint32(checksumOf(made[i])).some((byte, at) => byte !== result[at]);
    if (wrong) throw mismatch(bases[i].piece, "residual", "decodes to other samples than it was made of");
  });
  return bases.map(({ piece, samples }, i) => ({ piece, samples: made[i] ?? samples }));
}

/** What of a piece lies in an area. */
export function cut({ piece, samples }, area, channels) {
  const wanted = overlap(piece, area);
  if (wanted.every((side, i) => side === piece[i])) return { piece, samples };
  const [rows, columns] = extent(wanted);
  const out = new samples.constructor(rows * columns * channels);
  copyCommon(samples, piece, out, wanted, channels);
  return { piece: wanted, samples: out };
}

function jobOf(residual, piece, base, bitDepth, channels) {
  return { residual, base, bitDepth, shape: [...extent(piece), channels], where: `the residual of the tile at ${piece[0]}, ${piece[1]}` };
}

/** A tile's residual; undefined where the file was cut before. */
function partOf(container, { side }, piece) {
  const columns = Math.ceil(container.width / side);
  return container.tiles[(piece[1] / side) * columns + piece[0] / side][partsOf(container) - 1];
}

/** The CRC-32 of samples, row by row, those of two bytes little-endian, as all machines that run WebAssembly have them. */
const checksumOf = ({ buffer, byteOffset, byteLength }) => crc32(new Uint8Array(buffer, byteOffset, byteLength));

const mismatch = ([left, top], what, how) =>
  new HpcmError(
    "mismatch",
    `the ${what} of the tile at ${left}, ${top} ${how}: this browser or the encoder computed wrongly; the lossy picture opens (scale 3)`,
  );
