/** The service worker, and what to say while the codec loads. Models the codec's worker fetches, and keeps, itself. */
import { configure } from "hpcm-web";
import { percent, shareOf } from "./format.js";

/** To be called before the codec: it refuses other releases. */
export async function prepare() {
  configure({ version: __VERSION__ });
}

/**
 * The codec has worked: the service worker keeps what it needed, so that the page works offline. It isn't registered
 * earlier, since on a first visit it fetches all of the page again. Without it the page works, too.
 */
export async function keep() {
  try {
    await navigator.serviceWorker?.register("offline.js");
    const { active } = (await navigator.serviceWorker?.ready) ?? {};
    active?.postMessage("keep");
  } catch {
    // it is forbidden, or there is no connection
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
