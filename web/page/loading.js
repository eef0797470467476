/**
 * Fetches ONNX Runtime and says how far that is. The codec's worker asks for the same address then and gets it from the
 * browser's cache, or from that of offline.js. Models the worker fetches, and keeps, itself.
 */
import { percent, shareOf } from "./format.js";

const RUNTIME = "ort/ort-wasm-simd-threaded.wasm";
const TAKEOVER = 1500; // milliseconds
let fetched = false;

/**
 * Waits for the service worker to take over the page, so that what the codec fetches is kept. One that has just been
 * installed does so soon, or there is none.
 */
export async function keeper() {
  const { serviceWorker } = navigator;
  if (!serviceWorker || serviceWorker.controller) return;
  const taken = new Promise((done) => serviceWorker.addEventListener("controllerchange", done, { once: true }));
  const registered = serviceWorker.register("offline.js").then(() => taken, () => {}); // the page works without
  await Promise.race([registered, new Promise((done) => setTimeout(done, TAKEOVER))]);
}

/** The codec has worked: what it fetched before the service worker was there is kept too. */
export async function keep() {
  const { active } = (await navigator.serviceWorker?.ready) ?? {};
  active?.postMessage("keep");
}

/** @param {(text: string, share: number) => void} report */
export async function preload(report) {
  if (fetched) return;
  try {
    const reader = (await fetch(new URL(RUNTIME, document.baseURI))).body.getReader();
    let bytes = 0;
    for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
      bytes += value.length;
      report(`Loading the runtime: ${shareOf(bytes, __ORT_BYTES__)}`, bytes / __ORT_BYTES__);
    }
    fetched = true;
  } catch {
    // the codec asks again and says what is wrong
  }
}

/**
 * What to say while the codec works. It tells the bytes of the model while that loads.
 * @param {string} task @param {{name: string, bytes: number}} model @param {(text: string, share: number) => void} report
 */
export function telling(task, model, report) {
  return (share, bytes) => {
    if (bytes === undefined) report(`${task}: ${percent(share)}`, share);
    else report(`Loading ${model.name}: ${shareOf(bytes, model.bytes)}`, bytes / model.bytes);
  };
}
