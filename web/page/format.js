/** Numbers as people read them. */

/** @param {number} bytes */
export function sizeOf(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  const [value, unit] = bytes < 999_500 ? [bytes / 1e3, "kB"] : [bytes / 1e6, "MB"];
  return `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ${unit}`;
}

/** Megabytes of which the first come in: "1.2 of 3.0 MB". */
export function shareOf(bytes, total) {
  return `${(bytes / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`;
}

/** @returns {string} bits per pixel */
export const rateOf = (bytes, pixels) => ((bytes * 8) / pixels).toFixed(bytes * 8 < pixels * 10 ? 2 : 1);

/** @param {number|undefined} psnr decibels; Infinity for equal pictures */
export function decibels(psnr) {
  if (psnr === undefined) return "–";
  return psnr === Infinity ? "exact" : `${psnr.toFixed(2)} dB`;
}

/** The quality, 1 to 100, that the codec maps onto a level. */
export const qualityOf = (level, levels) => Math.round(1 + (level * 99) / (levels - 1));

/** A file's name with another ending. */
export const renamed = (name, ending) => `${name.replace(/\.[^.]+$/, "") || "picture"}.${ending}`;

/** @param {number} share 0 to 1 */
export const percent = (share) => `${Math.round(share * 100)}%`;
