/** Lossless and near-lossless files, as in the Python package's codec/lossless.py: what base to try, and the proof. */
import { HpcmError } from "./errors.js";

const REPEATING = 0.75; // of two neighbours that are as the pixel, on average, from which on grey is tried: as on screens
/** Share of the bytes that a file beside grey may take, which has no lossy picture. */
export const WORTH_NO_PICTURE = 0.98;

/** Whether neighbours are often equal, as in pictures of screens and pages (docs/log.md). @param {import("./codec.js").Pixels} image */
export function repeats({ data, width, height }) {
  const same = (i, k) => data[i] === data[k] && data[i + 1] === data[k + 1] && data[i + 2] === data[k + 2];
  let count = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const i = 4 * (y * width + x);
      if (x > 0 && same(i, i - 4)) count++;
      if (y > 0 && same(i, i - 4 * width)) count++;
    }
  }
  return count >= REPEATING * width * height;
}

/** Throws HpcmError where a decoded picture is further off than it may be, or has other alpha. */
export function checkDecoded({ data }, decoded, maxError) {
  for (let i = 0; i < data.length; i++) {
    const most = i % 4 === 3 ? 0 : maxError;
    if (Math.abs(data[i] - decoded.data[i]) > most) {
      throw new HpcmError("mismatch", `the file was decoded, and samples are off by more than ${maxError}: this browser computes wrongly`);
    }
  }
}
