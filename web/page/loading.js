/** The service worker, and what to say while the codec loads. Models the codec's worker fetches, and keeps, itself. */
import * as codec from "hpcm-web";
import { percent, shareOf } from "./format.js";

/** Registers the service worker; the page works without. Throws HpcmError where page and codec are of different releases. */
export async function keeper() {
  if (codec.version !== __VERSION__) {
    throw new codec.HpcmError("version", "The page and its codec are of different releases: reload the page.");
  }
  navigator.serviceWorker?.register("offline.js").catch(() => {});
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
