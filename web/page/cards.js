/** The two cards under the picture, and the line that says what is going on. */
import { decibels, rateOf, sizeOf } from "./format.js";

const DELAY = 250; // milliseconds: what takes less isn't announced

/** One side: what is shown there, and its numbers. */
export class Side {
  #element;
  #select;

  /** @param {HTMLElement} element @param {(kind: string) => void} onchoose */
  constructor(element, onchoose) {
    this.#element = element;
    element.append(document.getElementById("side").content.cloneNode(true));
    element.querySelector("label span").textContent = `On the ${element.dataset.side}`;
    this.#select = element.querySelector("select");
    this.#select.addEventListener("change", () => onchoose(this.#select.value));
  }

  /** @param {[string, string][]} choices kinds and their names */
  offer(choices, chosen) {
    this.#select.replaceChildren(...choices.map(([kind, name]) => new Option(name, kind)));
    this.#select.value = chosen;
  }

  /** @param {{bytes, psnr, busy}|undefined} result @param {boolean} stale */
  show(result, pixels, stale) {
    const put = (name, text) => (this.#element.querySelector(`[data-of="${name}"]`).textContent = text);
    const known = result?.bytes !== undefined;
    put("bytes", known ? sizeOf(result.bytes) : "–");
    put("rate", known ? `${rateOf(result.bytes, pixels)} bpp` : "–");
    put("psnr", decibels(result?.psnr));
    this.#element.classList.toggle("stale", stale || Boolean(result?.busy));
  }
}

/** The line that tells what is going on, and the one that tells what went wrong. */
export class Notes {
  #status = document.getElementById("status");
  #task = document.getElementById("task");
  #error = document.getElementById("error");
  #timer = 0;

  constructor() {
    this.#error.querySelector("button").addEventListener("click", () => this.calm());
  }

  /** @param {string} [text] nothing, if nothing is going on any more @param {number} [share] */
  say(text, share) {
    if (!text) {
      clearTimeout(this.#timer);
      this.#timer = 0;
      this.#status.hidden = true;
      this.#task.textContent = "";
      return;
    }
    const [task] = text.split(":");
    if (this.#task.textContent !== task) this.#task.textContent = task; // read aloud once, not with every percent
    this.#status.querySelector("span").textContent = text;
    const bar = this.#status.querySelector("progress");
    if (share === undefined) bar.removeAttribute("value");
    else bar.value = share;
    this.#timer ||= setTimeout(() => (this.#status.hidden = false), DELAY);
  }

  /** @param {Error} error whose message is one line */
  fail(error) {
    this.#error.querySelector("span").textContent = error.message;
    this.#error.hidden = false;
  }

  calm() {
    this.#error.hidden = true;
  }
}
