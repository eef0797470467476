/** What comes over the network, and is checked before it is used. */
import { request } from "#inside";
import { HpcmError, checkAborted } from "./errors.js";

/** In hexadecimal digits. */
export async function sha256(data) {
  const digest = globalThis.crypto?.subtle ? await crypto.subtle.digest("SHA-256", data) : await computed(data);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Browsers give the digest to pages of https and localhost alone. */
async function computed(data) {
  const library = await import("./digest.js");
  return library.sha256(data);
}

/**
 * The bytes at a URL, unpacked if they are packed by gzip. Throws HpcmError with the code "network" or "aborted".
 * @param {URL} url
 * @param {{told?: (bytes: number) => void, most?: number, cache?: RequestCache, signal?: AbortSignal}} [options]
 *   told: how many there are at the moment. most: bytes that there may be
 * @returns {Promise<Uint8Array>}
 */
export async function fetched(url, { told = () => {}, most = Infinity, cache, signal } = {}) {
  try {
    const response = await request(url, { cache, signal });
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
    const pieces = [];
    let size = 0;
    for await (const piece of unpacked(piecesOf(response.body))) {
      size += piece.length;
      if (size > most) throw new Error(`it has more than ${most} bytes`);
      pieces.push(piece);
      told(size);
    }
    return new Uint8Array(await new Blob(pieces).arrayBuffer());
  } catch (error) {
    checkAborted(signal);
    if (error instanceof RangeError) throw error; // there is no memory for it
    const why = globalThis.navigator?.onLine === false ? "the browser is offline" : error.message;
    throw new HpcmError("network", `${url} can't be fetched: ${why}`);
  }
}

const GZIP = [0x1f, 0x8b, 8];

/** Pieces without gzip. Their first bytes tell, not the name: a server may have said so, and the browser unpacked them. */
async function* unpacked(pieces) {
  const { value: first, done } = await pieces.next();
  if (done) return;
  const isPacked = GZIP.every((byte, i) => first[i] === byte);
  const all = (async function* () {
    yield first;
    yield* pieces;
  })();
  if (isPacked) yield* piecesOf(streamOf(all).pipeThrough(new DecompressionStream("gzip")));
  else yield* all;
}

function streamOf(pieces) {
  return new ReadableStream({
    async pull(controller) {
      const { value, done } = await pieces.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    cancel: () => void pieces.return(),
  });
}

/** Not every browser can iterate over a stream. */
async function* piecesOf(stream) {
  const reader = stream?.getReader();
  if (!reader) return;
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) yield read.value;
  } finally {
    reader.cancel().catch(() => {});
  }
}

/**
 * The bytes at a URL if their SHA-256 is `digest`; undefined if they are others. If the browser keeps others from before,
 * it is asked to fetch them anew. Throws as `fetched`.
 * @param {string} digest in hexadecimal digits
 */
export async function verified(url, digest, options) {
  for (const cache of ["default", "reload"]) {
    const data = await fetched(url, { ...options, cache });
    if ((await sha256(data)) === digest) return data;
  }
  return undefined;
}
