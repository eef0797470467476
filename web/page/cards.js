/** The two cards under the picture. */
import { decibels, rateOf, sizeOf } from "./format.js";

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
    this.#element.classList.toggle("only", choices.length < 2);
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
