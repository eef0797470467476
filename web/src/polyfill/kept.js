/**
 * The browser's cache of decoded pictures, which page and service worker share. A picture is found by the URL and the
 * SHA-256 of its file, so that a changed file is decoded anew; without a connection by the URL alone. A URL has one entry.
 *
 * An entry's own URL says all but the picture: /hpcm-pictures/BYTES/SHA256/REDUCED?URL. Each side was divided by REDUCED.
 */
const CACHE = "hpcm-pictures";
const PATH = /^\/hpcm-pictures\/(\d+)\/([0-9a-f]+)\/(\d+)$/;

/** @typedef {{key: Request, bytes: number, digest: string, reduced: number, url: string}} Entry */

/** SHA-256 of a file, in hexadecimal digits. Where there are caches there is this, too. */
export async function digestOf(data) {
  const digest = await crypto.subtle.digest("SHA-256", data);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @returns {Promise<Cache|undefined>} undefined where storage is forbidden, or without https */
async function opened() {
  try {
    return await caches.open(CACHE);
  } catch {
    return undefined;
  }
}

/** @returns {Promise<Entry[]>} the oldest first */
async function entriesOf(cache) {
  const parsed = (await cache.keys()).map((key) => {
    const { pathname, search } = new URL(key.url);
    const [, bytes, digest, reduced] = PATH.exec(pathname) ?? [];
    return { key, bytes: Number(bytes), digest, reduced: Number(reduced), url: decodeURIComponent(search.slice(1)) };
  });
  return parsed.filter(({ digest }) => digest);
}

const withoutHash = (url) => url.split("#")[0];

/**
 * The picture that is kept of a URL.
 * @param {string} url
 * @param {{digest?: string, reduced?: number}} [wanted] digest: of the file, any by default. reduced: at most so much
 * @returns {Promise<Response|undefined>}
 */
export async function find(url, { digest, reduced = Infinity } = {}) {
  try {
    const cache = await opened();
    const entries = cache ? await entriesOf(cache) : [];
    const wanted = (each) => (!digest || each.digest === digest) && each.reduced <= reduced;
    const entry = entries.find((each) => each.url === withoutHash(url) && wanted(each));
    return entry && (await cache.match(entry.key));
  } catch {
    return undefined; // a cache that is out of order is none
  }
}

/**
 * Keeps a picture in the place of the one that was kept of its URL, and forgets the oldest ones.
 * @param {string} url
 * @param {Blob} blob
 * @param {{digest: string, reduced: number, most: number}} how most: bytes of all
 */
export async function keep(url, blob, { digest, reduced, most }) {
  if (blob.size > most) return;
  try {
    const cache = await opened();
    if (!cache) return;
    const entries = await entriesOf(cache);
    const path = `/hpcm-pictures/${blob.size}/${digest}/${reduced}?${encodeURIComponent(withoutHash(url))}`;
    let total = entries.reduce((sum, { bytes }) => sum + bytes, blob.size);
    for (const entry of entries) {
      if (entry.url !== withoutHash(url) && total <= most) continue;
      await cache.delete(entry.key);
      total -= entry.bytes;
    }
    await cache.put(new URL(path, location.origin), new Response(blob, { headers: { "content-type": blob.type } }));
  } catch {
    // a disk that is full is no reason to stop
  }
}
