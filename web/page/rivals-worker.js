/**
 * The other codecs, in a worker: the browser's own encoders, at the highest quality that takes no more bytes than the
 * hpcm file does. And PSNR, since the original's pixels are here.
 *
 * Messages have an `op` and an `id`; the answer has the same id. An answer of null means that a later question of the
 * same kind made this one idle.
 */
import { psnr } from "./metrics.js";

// How finely browsers take the quality: JPEG's and AVIF's is rounded to hundredths.
const STEPS = { "image/jpeg": 100, "image/webp": 1000, "image/avif": 100 };

let original; // { canvas, data, width, height }
let tried; // by type: step of quality -> Blob
const newest = {}; // by type: the id of the last question

const context = (canvas) => canvas.getContext("2d", { willReadFrequently: true });

function setOriginal({ data, width, height }) {
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
  original = { canvas, data, width, height };
  tried = {};
}

async function encoded(type, step) {
  const known = (tried[type] ??= new Map());
  if (!known.has(step)) known.set(step, await original.canvas.convertToBlob({ type, quality: step / STEPS[type] }));
  return known.get(step);
}

/** The largest step whose file fits, by bisection; 0 if none does. Null if the question is out of date. */
async function fitting(type, limit, idle) {
  // WebP is lossless at the top, and may then be smaller than just below: text, drawings.
  const most = STEPS[type];
  if ((await encoded(type, most)).size <= limit) return most;
  let [low, high] = [0, most];
  while (high - low > 1) {
    if (idle()) return null;
    const middle = (low + high) >> 1;
    if ((await encoded(type, middle)).size <= limit) low = middle;
    else high = middle;
  }
  return low;
}

async function match({ id, type, limit }) {
  newest[type] = id;
  const subject = original;
  const idle = () => newest[type] !== id || subject !== original;
  const step = await fitting(type, limit, idle);
  if (step === null || idle()) return null;
  const blob = await encoded(type, step);
  const bitmap = await createImageBitmap(blob);
  const canvas = new OffscreenCanvas(subject.width, subject.height);
  context(canvas).drawImage(bitmap, 0, 0);
  const { data } = context(canvas).getImageData(0, 0, subject.width, subject.height);
  const quality = (100 * step) / STEPS[type];
  return { bytes: blob.size, quality, fits: blob.size <= limit, bitmap, psnr: psnr(subject.data, data) };
}

/** Which of some MIME types this browser can write. It answers with PNG for those that it can't. */
async function writable({ types }) {
  const canvas = new OffscreenCanvas(8, 8);
  canvas.getContext("2d").fillRect(0, 0, 8, 8);
  const made = await Promise.all(types.map((type) => canvas.convertToBlob({ type }).then((blob) => blob.type, () => "")));
  return types.filter((type, i) => made[i] === type);
}

const operations = {
  original: setOriginal,
  match,
  writable,
  psnr: ({ data }) => psnr(original.data, data),
};

self.onmessage = async ({ data: question }) => {
  try {
    const answer = await operations[question.op](question);
    self.postMessage({ id: question.id, answer }, answer?.bitmap ? [answer.bitmap] : []);
  } catch (error) {
    self.postMessage({ id: question.id, error: error.message });
  }
};
