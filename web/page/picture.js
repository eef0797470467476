/** From a file to pixels, and back to files. */
import { HpcmError } from "hpcm-web";

const MAGIC = [0x89, 0x48, 0x50, 0x43];
/** Pixels from which on the page doesn't wait until a picture is decoded: that takes a second or more. */
export const LARGE = 1e6;
const MOST_PIXELS = 40e6; // a picture lies in memory several times

/** @param {Uint8Array} data */
export const isHpcm = (data) => MAGIC.every((byte, i) => data[i] === byte);

/**
 * @param {Blob} blob a picture of a kind that the browser reads
 * @returns {Promise<{pixels: ImageData, bitmap: ImageBitmap, name: string, bytes: number, type: string}>}
 */
export async function readPicture(blob, name) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob);
  } catch {
    throw new HpcmError("picture", `${name} isn't a picture that this browser can open.`);
  }
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) {
    const million = Math.round((width * height) / 1e6);
    throw new HpcmError("picture", `This picture has ${million} megapixels; the page takes up to 40, the command line more.`);
  }
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return { pixels: context.getImageData(0, 0, width, height), bitmap, name, bytes: blob.size, type: blob.type };
}

const DOUBLINGS = 3; // eightfold

/** |a - b|, eight times amplified. @returns {OffscreenCanvas} */
export function difference(a, b, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.fillRect(0, 0, width, height);
  context.drawImage(a, 0, 0, width, height);
  context.globalCompositeOperation = "difference";
  context.drawImage(b, 0, 0, width, height);
  context.globalCompositeOperation = "lighter";
  for (let i = 0; i < DOUBLINGS; i++) context.drawImage(canvas, 0, 0);
  return canvas;
}

/** @param {ImageBitmap} image @returns {Promise<Blob>} */
export function asPng(image) {
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext("2d").drawImage(image, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}

/** Hands a file to the browser's downloads. @param {Blob} blob */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
