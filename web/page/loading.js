/** The service worker, and what to say while the codec loads. Models the codec's worker fetches, and keeps, itself. */
import { configure } from "hpcm-web";
import { percent, shareOf } from "./format.js";

/** Registers the service worker, without which the page works, too. To be called before the codec: it refuses other releases. */
export async function keeper() {
  configure({ version: __VERSION__ });
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
