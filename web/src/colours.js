/**
 * The picture of a file with the colours that it describes. Browsers heed a PNG's ICC profile, so the decoded picture is
 * made one where there is something to heed:
 *
 *     RGBA and the file's profile --> PNG --> ImageBitmap
 */
import { unpackHead } from "./container.js";
import { HpcmError } from "./errors.js";
import { encodePng, profileChunk } from "./png.js";

const CHUNKS = { c: "cICP", g: "gAMA", h: "cHRM", s: "sRGB" }; // types of a file's chunks: those of PNG with the same data

/** @typedef {typeof globalThis extends {ImageBitmap: {prototype: infer T}} ? T : unknown} Drawable an ImageBitmap where there are some */

/**
 * What `decode`, its `onpart` or `thumbnail` gave, to be drawn on a canvas: with the colours that the file describes.
 * @param {{data: Uint8ClampedArray, width: number, height: number}} picture RGBA
 * @param {Uint8Array} file that it was decoded from; its beginning is enough
 * @returns {Promise<Drawable>}
 */
export async function bitmapOf(picture, file) {
  if (!globalThis.createImageBitmap) throw new HpcmError("unsupported", "only browsers draw pictures: Node has no ImageBitmap");
  const container = unpackHead(file);
  const chunks = await colourChunks(container);
  const plain = new ImageData(picture.data, picture.width, picture.height);
  if (!chunks.length) return createImageBitmap(plain);
  const png = encodePng(picture, container.colour === "grey", chunks);
  try {
    return await createImageBitmap(new Blob([png], { type: "image/png" }));
  } catch {
    return createImageBitmap(plain); // the browser can't read what describes the colours
  }
}

/** The chunks of a PNG that describe a file's colours. @param {import("./container.js").Container} container */
export async function colourChunks({ icc, ancillary }) {
  const chunks = ancillary.filter(([kind]) => CHUNKS[kind]).map(([kind, data]) => [CHUNKS[kind], data]);
  return icc ? [...chunks, await profileChunk(icc)] : chunks;
}
