/** What the worker needs of a browser; node/inside.js has the same of Node. */

/** @param {(message: object) => void} heard */
export const receive = (heard) => {
  self.onmessage = ({ data }) => heard(data);
};

/** @param {object} message @param {ArrayBuffer[]} [moved] what goes to the page and is gone here */
export const send = (message, moved = []) => self.postMessage(message, moved);

/** Whether workers can share memory. */
export const canShare = () => self.crossOriginIsolated;

/** Another of this worker. `begun` is called when it says "begun", `failed` if it can't be started. */
export function startAnother(begun, failed) {
  const worker = new Worker(self.location.href, { type: "module" });
  worker.onmessage = ({ data }) => (data === "begun" ? begun() : failed());
  worker.onerror = (event) => {
    event.preventDefault(); // else it is this worker's error, too
    failed();
  };
  return worker;
}

/** @param {URL} url @param {RequestInit} options @returns {Promise<Response>} */
export const request = (url, options) => fetch(url, options);
