/** What the worker needs of Node; browser/inside.js has the same of a browser. */
import { readFile } from "node:fs/promises";
import { Worker, parentPort } from "node:worker_threads";

export const receive = (heard) => void parentPort.on("message", heard);

export const send = (message, moved = []) => parentPort.postMessage(message, moved);

export const canShare = () => true;

/** As browser/inside.js. */
export function startAnother(begun, failed) {
  const worker = new Worker(new URL(import.meta.url));
  worker.on("message", begun).on("error", failed).unref();
  return worker;
}

/** As fetch, which opens no files in Node. */
export async function request(url, options) {
  if (url.protocol !== "file:") return fetch(url, options);
  return new Response(await readFile(url, { signal: options.signal }));
}
