/** The page's end of rivals-worker.js. */

export const RIVALS = { jpeg: "image/jpeg", webp: "image/webp", avif: "image/avif" };

export class Rivals {
  #worker = new Worker(new URL("rivals-worker.js", document.baseURI), { type: "module" });
  #waiting = new Map();
  #last = 0;

  constructor() {
    this.#worker.onmessage = ({ data: { id, answer, error } }) => {
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) resolve(answer);
      else reject(new Error(error));
    };
  }

  #ask(question, transfer = []) {
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ ...question, id }, transfer);
    });
  }

  /** @returns {Promise<string[]>} those of RIVALS that this browser can write */
  async writable() {
    const types = await this.#ask({ op: "writable", types: Object.values(RIVALS) });
    return Object.keys(RIVALS).filter((kind) => types.includes(RIVALS[kind]));
  }

  /** Sets the picture that the questions after this one are about. @param {ImageData} pixels */
  original({ data, width, height }) {
    const copy = data.slice();
    return this.#ask({ op: "original", data: copy, width, height }, [copy.buffer]);
  }

  /** @returns {Promise<{bytes, quality, fits, bitmap, psnr}|null>} null if a later call made this one idle */
  match(kind, limit) {
    return this.#ask({ op: "match", type: RIVALS[kind], limit });
  }

  /** @param {Uint8ClampedArray} data RGBA @returns {Promise<number>} decibels against the original */
  psnr(data) {
    const copy = data.slice();
    return this.#ask({ op: "psnr", data: copy }, [copy.buffer]);
  }
}
