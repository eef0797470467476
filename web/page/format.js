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

const FORMATS = { jpeg: "JPEG", png: "PNG", webp: "WebP", avif: "AVIF", gif: "GIF", bmp: "BMP" };

/** What a file is called, by its MIME type. */
export const formatOf = (type) => FORMATS[type.replace("image/", "")] ?? "file";

const MANY = 2; // times as small: more is said as such, less in percent

/**
 * How much smaller a file is than the one it was made of.
 * @param {number} before bytes @param {number} after bytes @param {string} what the one before, in words
 * @returns {[string, string]} "12 times smaller", "92% less than the JPEG you opened"
 */
export function savingOf(before, after, what) {
  const times = Math.max(before, after) / Math.min(before, after);
  const number = times < 10 ? Number(times.toFixed(1)) : Math.round(times);
  const less = percent(1 - after / before);
  if (percent(times - 1) === "0%") return ["as large", `as ${what}`];
  if (after > before && times < MANY) return [`${percent(times - 1)} larger`, `than ${what}`];
  if (after > before) return [`${number} times as large`, `as ${what}`];
  return times < MANY ? [`${less} smaller`, `than ${what}`] : [`${number} times smaller`, `${less} less than ${what}`];
}

/** A file's name with another ending. */
export const renamed = (name, ending) => `${name.replace(/\.[^.]+$/, "") || "picture"}.${ending}`;

/** @param {number} share 0 to 1 */
export const percent = (share) => `${Math.round(share * 100)}%`;
