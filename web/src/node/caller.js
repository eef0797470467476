/** What index.js needs of Node; browser/caller.js has the same of a browser's page. */
import { availableParallelism } from "node:os";
import { isAbsolute } from "node:path";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import { HpcmError } from "../errors.js";

/** What relative URLs are relative to. */
export const base = () => pathToFileURL(`${process.cwd()}/`).href;

/** How many threads can compute at once. */
export const cores = availableParallelism;

/** Node waits for a worker until it ends, and the codec's never ends by itself: Node shall wait for its calls alone. */
export const keepRunning = (worker, busy) => (busy ? worker.ref() : worker.unref());

/** As browser/caller.js. */
export function startWorker(address, { received, unreadable, failed }) {
  const worker = new Worker(addressOf(address));
  return worker.on("message", received).on("messageerror", unreadable).on("error", ({ message }) => failed(message));
}

function addressOf(address) {
  if (!address) return new URL("./node-worker.js", import.meta.url);
  return isAbsolute(String(address)) ? pathToFileURL(String(address)) : new URL(address, base());
}

/** Node reads no picture files. */
export async function pixelsOf() {
  throw new HpcmError("picture", "Node can't read picture files: give the pixels, as {data, width, height} with RGBA in `data`");
}
