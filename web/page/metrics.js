/** Mean squared error over red, green and blue, as decibels below the square of 255. */

const PEAK = 255;

/**
 * @param {Uint8ClampedArray} a RGBA
 * @param {Uint8ClampedArray} b RGBA of the same size
 * @returns {number} decibels; Infinity if they are equal
 */
export function psnr(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i += 4) {
    const red = a[i] - b[i];
    const green = a[i + 1] - b[i + 1];
    const blue = a[i + 2] - b[i + 2];
    sum += red * red + green * green + blue * blue;
  }
  const mse = sum / ((a.length / 4) * 3);
  return mse === 0 ? Infinity : 10 * Math.log10((PEAK * PEAK) / mse);
}
