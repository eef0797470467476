/**
 * The scale of quality, 1 (smallest) to 100 (best), as in the Python package's codec/quality.py:
 *
 *     1 .. 80     the levels of a model, evenly
 *     81 .. 100   its best level and a residual layer of coefficients, whose steps are STEPS
 */
import { HpcmError } from "./errors.js";

export const DEFAULT_QUALITY = 50;
const MAX_QUALITY = 100;
const BASE_QUALITY = 80; // the best of a model alone
const STEPS = [76, 66, 58, 51, 46, 42, 38, 35, 32, 30, 27, 25, 23, 21, 19, 17, 16, 14, 13, 12]; // as in defaults.py
const MAX_ERROR = 127; // less than half of the range of 8 bits

/**
 * The level of a quality. Qualities of the same level give the same file.
 * @param {number} quality @param {number} levels that the model has
 * @returns {number} from 0; from `levels` on the file has a residual layer, too
 */
export function levelOf(quality, levels) {
  if (!(Number.isInteger(quality) && 1 <= quality && quality <= MAX_QUALITY)) {
    throw new HpcmError("usage", `quality is ${quality}: it must be a whole number from 1 to ${MAX_QUALITY}`);
  }
  if (quality > BASE_QUALITY) return levels - 1 + quality - BASE_QUALITY;
  return roundedEven(((quality - 1) / (BASE_QUALITY - 1)) * (levels - 1));
}

/** How many levels there are with a model of so many. */
export const allLevels = (levels) => levels + STEPS.length;

/** What a file of a level has: the model's own level, and above those a residual layer. */
export function codedAs(level, levels) {
  if (level < levels) return { level, residual: undefined };
  return { level: levels - 1, residual: { kind: "coefficients", number: STEPS[level - levels] } };
}

/**
 * The quality that gives what a file says of itself, the middle one of several; undefined if none does.
 * @param {number} level of the model @param {number} levels that the model has
 * @param {number} [step] of the residual layer's coefficients
 * @returns {number|undefined}
 */
export function qualityOf(level, levels, step) {
  if (step === undefined) return 1 + roundedEven((level / (levels - 1)) * (BASE_QUALITY - 1));
  const place = STEPS.indexOf(step);
  return place >= 0 && level === levels - 1 ? BASE_QUALITY + 1 + place : undefined;
}

/**
 * The largest error that a sample may have; undefined where nothing is promised. Throws HpcmError for what makes no sense.
 * @param {{lossless?: boolean, maxError?: number, quality?: number}} asked
 */
export function promiseOf({ lossless = false, maxError, quality }) {
  const most = lossless ? (maxError ?? 0) : maxError;
  if (most === undefined) return undefined;
  if (!(Number.isInteger(most) && 0 <= most && most <= MAX_ERROR)) {
    throw new HpcmError("usage", `maxError is ${most}: it must be 0 (lossless) to ${MAX_ERROR}`);
  }
  if (lossless && most > 0) throw new HpcmError("usage", "lossless and maxError exclude one another: give one");
  if (quality > BASE_QUALITY) {
    throw new HpcmError("usage", `quality is ${quality}: that of the lossy picture in a lossless file is at most ${BASE_QUALITY}`);
  }
  return most;
}

/** The nearest whole number, halves to the even one. */
function roundedEven(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest < 0.5 || (rest === 0.5 && floor % 2 === 0) ? floor : floor + 1;
}
