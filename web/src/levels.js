/** Qualities: 1 to 100, of which a model's levels have equal shares. */
import { HpcmError } from "./errors.js";

/** @param {number} quality @param {number} levels that the model has @returns {number} 0 to levels - 1 */
export function levelOf(quality, levels) {
  if (!(Number.isInteger(quality) && 1 <= quality && quality <= 100)) {
    throw new HpcmError("usage", `quality is ${quality}: it must be a whole number from 1 to 100`);
  }
  return roundedEven(((quality - 1) / 99) * (levels - 1));
}

/** The nearest whole number, halves to the even one. */
function roundedEven(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest < 0.5 || (rest === 0.5 && floor % 2 === 0) ? floor : floor + 1;
}
