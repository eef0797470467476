/** Samples of 8 to 16 bits, 0 to 2^bits - 1, as in the Python package's image/planes.py. Pages show 8 bits. */

const peakOf = (bits) => 2 ** bits - 1;

/** A sample of `from` bits as one of `to` bits: black and white stay, the rest is rounded to the nearest. */
export const rescaled = (sample, from, to) => Math.floor((sample * peakOf(to) + (peakOf(from) >> 1)) / peakOf(from));

/**
 * What is shown of samples that libhpcm has made for a file of more than 8 bits.
 * @param {Uint16Array} samples of 16 bits @param {number} bits of the file @returns {Uint8Array}
 */
export function shown(samples, bits) {
  return Uint8Array.from(samples, (sample) => rescaled(rescaled(sample, 16, bits), bits, 8));
}
