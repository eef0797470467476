/** Samples of 8 to 16 bits, 0 to 2^bits - 1, as in the Python package's image/planes.py. Pages show 8 bits. */

const peakOf = (bits) => 2 ** bits - 1;

/** A sample of `from` bits as one of `to` bits: black and white stay, the rest is rounded to the nearest. */
export const rescaled = (sample, from, to) => Math.floor((sample * peakOf(to) + (peakOf(from) >> 1)) / peakOf(from));

/** How many bytes a sample takes in memory. */
export const sampleBytes = (bits) => (bits === 8 ? 1 : 2);

/** Room for so many samples. @returns {Uint8Array|Uint16Array} */
export const room = (count, bits) => (bits === 8 ? new Uint8Array(count) : new Uint16Array(count));

/** Samples of `from` bits as samples of `to` bits. @returns {Uint8Array|Uint16Array} */
export function converted(samples, from, to) {
  if (from === to) return samples;
  const out = room(samples.length, to);
  for (let i = 0; i < samples.length; i++) out[i] = rescaled(samples[i], from, to);
  return out;
}
