/** libhpcm for Node, of build/wasm. */
import { readFileSync } from "node:fs";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";
import { Core, runThread } from "../src/core.js";

/** @param {"hpcm.wasm"|"hpcm-threads.wasm"} name @returns {Promise<WebAssembly.Module>} */
export const moduleOf = (name) => WebAssembly.compile(readFileSync(new URL(`../../build/wasm/${name}`, import.meta.url)));

/** @param {number} threads @returns {Promise<Core>} */
export async function loadCore(threads = 1) {
  return Core.load(await moduleOf(threads > 1 ? "hpcm-threads.wasm" : "hpcm.wasm"), { threads, lend });
}

export function lend(given) {
  const worker = new Worker(new URL(import.meta.url), { workerData: given });
  return new Promise((begun, failed) => worker.once("message", begun).once("error", failed)).then(() => worker.unref());
}

if (!isMainThread && workerData?.stack) runThread(workerData, () => parentPort.postMessage("begun"));
