/** What comes over the network, and is checked before it is used. */
import { HpcmError } from "./errors.js";

/** In hexadecimal digits. */
export async function sha256(data) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * The bytes at a URL.
 * @param {(bytes: number) => void} [told] how many there are at the moment
 * @returns {Promise<Uint8Array>}
 */
export async function fetched(url, told = () => {}) {
  try {
    const response = await fetch(url);
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
    const pieces = [];
    let size = 0;
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      pieces.push(value);
      told((size += value.length));
    }
    return new Uint8Array(await new Blob(pieces).arrayBuffer());
  } catch (error) {
    throw new HpcmError("network", `${url} can't be fetched: ${error.message}`);
  }
}
