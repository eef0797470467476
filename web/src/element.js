/**
 * <hpcm-img src="photo.hpcm" alt="...">: a picture that shows its coarse scales first.
 *
 * Attributes: src, alt, width, height. Events: load, error (its `detail` is the HpcmError), each once.
 */
import { decode, info } from "./index.js";

const STYLE = new CSSStyleSheet();
STYLE.replaceSync(`
  :host { display: inline-block; }
  :host([hidden]) { display: none; }
  canvas { display: block; max-width: 100%; height: auto; }
`);

export class HpcmImage extends HTMLElement {
  static observedAttributes = ["src", "alt", "width", "height"];
  #canvas = document.createElement("canvas");
  #abort = null;

  constructor() {
    super();
    this.#canvas.setAttribute("role", "img");
    const shadow = this.attachShadow({ mode: "open" });
    shadow.adoptedStyleSheets = [STYLE]; // a <style> would be refused by pages with a strict policy of contents
    shadow.append(this.#canvas);
  }

  attributeChangedCallback(name, before, value) {
    if (name === "src" && before !== value && this.isConnected) this.#show();
    if (name === "alt") this.#canvas.setAttribute("aria-label", value ?? "");
    if (name === "width" || name === "height") this.#canvas.style[name] = value ? `${value}px` : "";
  }

  connectedCallback() {
    if (this.getAttribute("src")) this.#show();
  }

  disconnectedCallback() {
    this.#abort?.abort();
  }

  async #show() {
    this.#abort?.abort();
    const abort = (this.#abort = new AbortController());
    const { signal } = abort;
    try {
      const response = await fetch(this.getAttribute("src"), { signal });
      if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
      const data = await response.arrayBuffer();
      const scales = info(data).passes > 1 ? [1, 2, 3] : [3];
      for (const scale of scales) {
        const picture = await decode(data, { scale, signal });
        if (signal.aborted) return;
        this.#draw(picture);
      }
      this.dispatchEvent(new Event("load"));
    } catch (error) {
      if (!signal.aborted) this.dispatchEvent(new CustomEvent("error", { detail: error }));
    }
  }

  #draw({ data, width, height }) {
    this.#canvas.width = width;
    this.#canvas.height = height;
    this.#canvas.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
  }
}

if (!customElements.get("hpcm-img")) customElements.define("hpcm-img", HpcmImage);
