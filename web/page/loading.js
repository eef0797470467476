/** The service worker, and what to say while the codec loads. Models the codec's worker fetches, and keeps, itself. */
import { percent, shareOf } from "./format.js";

const TAKEOVER = 1500; // milliseconds

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
