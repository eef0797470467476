/** What the page and the service worker both know. */
export const TYPE = "image/x-hpcm";
/** A file of 1 x 1 pixel, by nano-1 at its lowest quality, in base64. */
export const SMALLEST = "iUhQQwIAAQEIBm5hbm8tMcck0BqT6s35AAoIXq0/VTcBAAAA0M8DjEun3A==";
const MAGIC = [0x89, 0x48, 0x50, 0x43];

/** @param {string|null|undefined} given @param {string} [base] @returns {string|undefined} undefined for what is no URL */
export function absolute(given, base) {
  try {
    return given ? new URL(given, base).href : undefined;
  } catch {
    return undefined;
  }
}

/** Whether a URL says that it is one of a .hpcm file. */
export function isHpcm(url) {
  const whole = absolute(url);
  if (!whole) return false;
  const { protocol, pathname } = new URL(whole);
  return /^https?:$/.test(protocol) && /\.hpcm$/i.test(pathname);
}

/** Whether these are the bytes of a .hpcm file, whatever their URL and type say. */
export const beginsAsHpcm = (bytes) => MAGIC.every((byte, i) => bytes[i] === byte);
