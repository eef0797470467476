/**
 * What can go wrong, by its code:
 *
 *     format      no .hpcm file, another version, or a field out of its bounds
 *     truncated   the file ends too early
 *     corrupt     a checksum of the bytes differs
 *     mismatch    the decoded symbols are not those that were encoded, a residual is of another picture, or the model is
 *                 another one
 *     model       the model isn't at hand, or can't be run here
 *     network     a file can't be fetched, or isn't what it should be
 *     version     the page, its worker and hpcm.wasm are of different releases: the page must be loaded again
 *     unsupported the browser lacks what the codec needs
 *     memory      there is too little memory
 *     lost        the worker ended; the next call starts another
 *     picture     the picture can't be read
 *     usage       an argument is out of its range
 *     aborted     the caller's signal said so
 */
export class HpcmError extends Error {
  /**
   * @param {"format"|"truncated"|"corrupt"|"mismatch"|"model"|"network"|"version"|"unsupported"|"memory"|"lost"|"picture"|"usage"|"aborted"} code
   * @param {string} message one line
   */
  constructor(code, message) {
    super(message);
    this.name = "HpcmError";
    this.code = code;
  }
}

/** Throws unless a field is a whole number within its bounds. */
export function checkRange(what, value, low, high) {
  if (!(value >= low && value <= high)) {
    throw new HpcmError("format", `${what} is ${value}; a .hpcm file allows ${low} to ${high}`);
  }
}

/** @param {AbortSignal|undefined} signal */
export function checkAborted(signal) {
  if (signal?.aborted) throw new HpcmError("aborted", "stopped by the caller");
}
