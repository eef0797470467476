/**
 * <hpcm-img src="photo.hpcm" alt="...">: a picture. While a progressive file is still on its way, its coarse scales are shown.
 *
 * Attributes: src, alt, width, height. Events: load, error (its `detail` is the HpcmError), each once.
 */
import { HpcmError, bitmapOf, decode, info } from "./index.js";

const STYLE = new CSSStyleSheet();
STYLE.replaceSync(`
  :host { display: inline-block; }
  :host([hidden]) { display: none; }
  canvas { display: block; max-width: 100%; height: auto; }
`);
const PATIENCE = 400; // milliseconds after which a file's beginning is shown. A coarse picture takes as long as the whole one

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

  /** @param {string} name @param {string|null} before @param {string|null} value */
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
    const { signal } = (this.#abort = new AbortController());
    try {
      const data = await this.#fetched(this.getAttribute("src"), signal);
      const bitmap = await bitmapOf(await decode(data, { signal }), data);
      if (signal.aborted) return;
      this.#draw(bitmap);
      this.dispatchEvent(new Event("load"));
    } catch (error) {
      if (!signal.aborted) this.dispatchEvent(new CustomEvent("error", { detail: error }));
    }
  }

  /** The bytes at a URL. Meanwhile what is there of them is shown. */
  async #fetched(url, signal) {
    const pieces = [];
    const coarse = new AbortController();
    let shown = 0; // scales
    const look = async () => {
      const data = await joined(pieces);
      const scale = scalesIn(data);
      if (scale <= shown || coarse.signal.aborted) return;
      shown = scale;
      const bitmap = await bitmapOf(await decode(data, { scale, partial: true, signal: coarse.signal }), data);
      if (!coarse.signal.aborted) this.#draw(bitmap);
    };
    const timer = setInterval(() => look().catch(() => {}), PATIENCE); // what is wrong the whole file will tell
    try {
      const response = await fetch(url, { signal });
      if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
      const reader = response.body.getReader();
      for (let read = await reader.read(); !read.done; read = await reader.read()) pieces.push(read.value);
      return await joined(pieces);
    } catch (error) {
      throw new HpcmError("network", `${url} can't be fetched: ${error.message}`);
    } finally {
      clearInterval(timer);
      coarse.abort();
    }
  }

  #draw(bitmap) {
    this.#canvas.width = bitmap.width;
    this.#canvas.height = bitmap.height;
    this.#canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
  }
}

const joined = async (pieces) => new Uint8Array(await new Blob(pieces).arrayBuffer());

/** How many scales are there in the beginning of a file, 1 for all where it isn't progressive; 0 where nothing is missing. */
function scalesIn(data) {
  const { passes, residual, progress } = info(data);
  const parts = passes + (residual?.beside === "lossy picture" ? 1 : 0);
  return progress < 1 ? Math.floor(progress * parts) : 0;
}

if (!customElements.get("hpcm-img")) customElements.define("hpcm-img", HpcmImage);
