/** What index.js needs of a browser's page; node/caller.js has the same of Node. */
import { HpcmError } from "../errors.js";

const UNLOADED = "unloaded"; // what a worker says that can't import its script

/** What relative URLs are relative to. */
export const base = () => document.baseURI;

/** How many threads can compute at once. */
export const cores = () => navigator.hardwareConcurrency || 1;

/** A page lives without its workers' help. */
export const keepRunning = () => {};

/**
 * Starts the codec's worker.
 * @param {string|URL|undefined} address by default that of the worker next to this module
 * @param {{received: (message: object) => void, unreadable: () => void, failed: (message: string|undefined) => void}} heard
 *   failed: without a message if the worker can't be loaded
 */
export function startWorker(address, { received, unreadable, failed }) {
  const worker = workerAt(address);
  worker.onmessage = ({ data }) => (data === UNLOADED ? failed() : received(data));
  worker.onmessageerror = unreadable;
  worker.onerror = ({ message }) => failed(message);
  return worker;
}

function workerAt(address) {
  const module = import.meta.url;
  try {
    if (address) return new Worker(address, { type: "module" });
    if (isForeign(module)) return importing(new URL("./worker.js", module));
    return new Worker(new URL("./worker.js", import.meta.url), { type: "module" }); // in the form that bundlers look for
  } catch (error) {
    throw new HpcmError("network", `${address ?? "worker.js"} can't be loaded: ${error.message}`);
  }
}

/** Whether a script is of another host than the page, such as a CDN. Browsers start no workers of such scripts. */
const isForeign = (script) => /^https?:/.test(script) && new URL(script).origin !== location.origin;

/**
 * A worker of the page's own host that imports the script, and keeps what it is sent meanwhile. The import isn't static: in
 * isolated pages WebKit refuses those. The URL stays valid, because threads are started from it, too.
 */
function importing(script) {
  const source = `
    const early = [];
    self.onmessage = (event) => early.push(event);
    import(${JSON.stringify(script)}).then(
      () => early.forEach((event) => self.onmessage(event)),
      () => self.postMessage(${JSON.stringify(UNLOADED)}),
    );`;
  return new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })), { type: "module" });
}

/** RGBA of whatever holds a picture. */
export async function pixelsOf(image) {
  try {
    const bitmap = image instanceof Blob ? await createImageBitmap(image, { imageOrientation: "from-image" }) : image;
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    if (bitmap !== image) bitmap.close();
    return context.getImageData(0, 0, canvas.width, canvas.height);
  } catch (error) {
    throw new HpcmError("picture", `the picture can't be read: ${error.message}`);
  }
}
