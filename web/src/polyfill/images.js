/**
 * Images where no service worker answers for them: each gets blobs in the place of its .hpcm file, when it comes near the
 * screen.
 *
 *     waiting --(near the screen)--> coming: an empty picture of the right size, a rough one --> shown
 *        |                              '--(what can't be shown)--> failed: its own URL again, so that the browser says so
 *        '--(a service worker is there)--> its own URL again
 *
 * The page's listeners hear one load or one error; what comes before is caught on its way to them. The browser chooses
 * between candidates: only the URL that it chose is replaced, so that it can choose another one later.
 */
import { HpcmError } from "../errors.js";
import { TYPE, isHpcm } from "./names.js";
import { offered, reload, sourcesOf, swap } from "./srcset.js";

const NEAR = "600px"; // of the screen
const LANDING = 2000; // milliseconds until a blob has been loaded; the browser may put it off, for a lazy image
const PAUSE = 100; // milliseconds after a change of the window
const STATE = "data-hpcm"; // an attribute: "waiting", "coming", "shown" or "failed"
const STYLE = `img[${STATE}="waiting"] { visibility: hidden !important; }`; // else the sign of a broken picture would flash

/**
 * @typedef {object} Shown what is shown of an image
 * @property {string} url of the file
 * @property {string} at what stands in its place at the moment, at first the file's URL itself
 * @property {string} [final] the blob that is the whole picture
 * @property {Promise<void>} settled when the blob has been loaded
 * @property {() => void} [landed] says so
 * @property {Error} [error] why it isn't shown
 * @property {AbortController} abort
 */

export class Images {
  #shown = new WeakMap(); // image -> Shown
  #files = new Map(); // URL of a blob of ours -> URL of the file. Clones of an image have it after the blob is gone
  #waiting = new Set(); // images
  #near;
  #changes;
  #timer;
  #taking; // whether images are taken: not while it is open who shows them, nor after that has become the service worker

  /** @param {boolean} taking whether images that fail are taken already, before it is clear who shows them */
  constructor(taking) {
    this.#taking = taking;
    document.addEventListener("load", (event) => this.#heard(event), true); // which doesn't come by the window
    window.addEventListener("error", (event) => this.#heard(event), true);
  }

  /**
   * @param {{pictures: import("./pictures.js").Pictures, report: (url: string, error: Error) => void, taking: boolean}} given
   *   taking: whether images are shown here; a service worker needs help only with <source>s of a type
   */
  start({ pictures, report, taking }) {
    Object.assign(this, { pictures, report });
    const style = new CSSStyleSheet(); // which no policy of contents forbids
    style.replaceSync(STYLE);
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, style];
    this.#near = new IntersectionObserver((entries) => this.#seen(entries), { rootMargin: NEAR });
    this.#changes = new MutationObserver((records) => queueMicrotask(() => this.#changed(records))); // the browser chooses first
    const attributeFilter = ["src", "srcset", "sizes", "media", "type"];
    this.#changes.observe(document, { subtree: true, childList: true, attributes: true, attributeFilter });
    window.addEventListener("resize", () => this.#resized());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#resized());
    this.#taking = taking;
    for (const img of this.#waiting) this.#near.observe(img);
    if (!taking) this.stop();
    for (const img of document.images) this.#consider(img);
  }

  /** Another shows what isn't here yet: a service worker, or the browser itself. */
  stop() {
    this.#taking = false;
    this.#near?.disconnect();
    for (const img of [...this.#waiting]) {
      this.#forget(img);
      reload(img);
    }
  }

  /** The browser may choose other candidates. Of those that it can't open it says nothing. */
  #resized() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => [...document.images].filter(isListed).forEach((img) => this.#consider(img)), PAUSE);
  }

  #changed(records) {
    for (const { type, target, addedNodes, removedNodes } of records) {
      if (type === "attributes") for (const img of imagesOf(target)) this.#consider(img);
      for (const node of addedNodes) for (const img of imagesOf(node)) this.#consider(img);
      for (const node of removedNodes) for (const img of imagesOf(node)) this.#left(img);
    }
  }

  /** What was taken from the page isn't decoded; what is shown already may come back. */
  #left(img) {
    if (!img.isConnected && img.getAttribute(STATE) !== "shown") this.#forget(img);
  }

  /** @param {boolean} [later] the browser chooses soon after an attribute has changed; then this comes once more */
  #consider(img, later = false) {
    untype(img);
    const at = chosenBy(img);
    if (!at) return; // if it can't be loaded that is heard
    if (!offered(img).includes(at)) {
      if (later) this.#forget(img);
      else setTimeout(() => this.#consider(img, true));
      return;
    }
    if (at === this.#shown.get(img)?.at) return;
    this.#forget(img);
    const url = this.#files.get(at) ?? at;
    if (!isHpcm(url)) return;
    if (this.#taking) this.#take(img, url, at);
    else if (at !== url) swap(img, at, url);
  }

  #take(img, url, at) {
    this.#shown.set(img, { url, at, abort: new AbortController(), settled: Promise.resolve() });
    this.#waiting.add(img);
    img.setAttribute(STATE, img.complete && img.naturalWidth ? "coming" : "waiting"); // what is there stays meanwhile
    this.#near?.observe(img);
  }

  #forget(img) {
    const shown = this.#shown.get(img);
    shown?.abort.abort();
    if (shown && shown.at !== shown.url) URL.revokeObjectURL(shown.at); // else the blob would stay as long as the page
    this.#shown.delete(img);
    this.#waiting.delete(img);
    this.#near?.unobserve(img);
    img.removeAttribute(STATE);
  }

  #seen(entries) {
    for (const { target: img, isIntersecting } of entries) {
      if (!isIntersecting || !this.#waiting.delete(img)) continue;
      this.#near.unobserve(img);
      this.#show(img, this.#shown.get(img));
    }
  }

  async #show(img, shown) {
    const { url } = shown;
    const { signal } = shown.abort;
    const distance = () => distanceOf(img);
    try {
      const credentials = img.crossOrigin === "use-credentials" ? "include" : "same-origin";
      const onsize = (blank) => void this.#put(img, shown, blank);
      const { data, rough } = await this.pictures.beginning(url, { distance, credentials, signal, onsize });
      if (rough) this.#put(img, shown, rough);
      const whole = await this.pictures.whole(url, data, { distance, shown: () => sizeOf([img]), signal });
      await this.#put(img, shown, whole, true);
    } catch (error) {
      if (signal.aborted) return;
      img.setAttribute(STATE, "failed");
      shown.error = error; // told when the browser can't show it either: it may be a JPEG
      if (shown.at === url) reload(img);
      else this.#replace(img, shown, url);
    }
  }

  /** Shows a blob, when the one before has been loaded: a load's event doesn't say of what it is. */
  #put(img, shown, blob, whole = false) {
    shown.settled = shown.settled.then(() => {
      if (shown.abort.signal.aborted) return undefined;
      const address = URL.createObjectURL(blob);
      this.#files.set(address, shown.url);
      if (whole) shown.final = address;
      if (img.getAttribute(STATE) === "waiting") img.setAttribute(STATE, "coming");
      this.#replace(img, shown, address);
      return new Promise((done) => {
        shown.landed = done;
        setTimeout(done, LANDING);
      });
    });
    return shown.settled;
  }

  /** Puts a URL in the place of the one before. */
  #replace(img, shown, address) {
    const before = shown.at;
    shown.at = address;
    swap(img, before, address);
    if (before !== shown.url) URL.revokeObjectURL(before);
  }

  /** Events on their way to the page's listeners. */
  #heard(event) {
    const img = event.target;
    if (!(img instanceof HTMLImageElement)) return;
    const shown = this.#shown.get(img);
    if (event.type === "load") {
      if (!shown || img.currentSrc !== shown.at) return;
      shown.landed?.();
      if (shown.at === shown.url) this.#forget(img); // the browser opens it: it is a JPEG, whatever its name
      else if (shown.at === shown.final) this.#isShown(img, shown);
      else event.stopImmediatePropagation(); // of what comes before the whole picture
      return;
    }
    if (img.getAttribute(STATE) === "failed") {
      if (shown) this.report(shown.url, shown.error);
      this.#shown.delete(img); // the page may try once more
      return;
    }
    const at = chosenBy(img);
    const ours = this.#files.has(at);
    if (!ours && !(this.#taking && isHpcm(at))) return;
    if (ours && shown?.at === at && img.getAttribute(STATE) === "coming") {
      this.#refused(img, shown);
      return;
    }
    event.stopImmediatePropagation();
    if (ours) this.#forget(img); // a blob that is gone
    this.#consider(img);
  }

  #isShown(img, shown) {
    img.setAttribute(STATE, "shown");
    URL.revokeObjectURL(shown.at); // the image has the picture
  }

  /** The browser doesn't open what it was given: the event is the page's. */
  #refused(img, shown) {
    shown.abort.abort();
    this.#shown.delete(img);
    img.setAttribute(STATE, "failed");
    const why = "the page shows no blobs: its Content-Security-Policy needs blob: in img-src until a service worker is there";
    this.report(shown.url, new HpcmError("unsupported", why));
  }
}

/** The URL that the browser has chosen for an image; undefined if there is none, or it is still on its way. */
const chosenBy = (img) => img.currentSrc || (isListed(img) ? undefined : img.src) || undefined;

/** Whether the browser chooses between candidates. */
const isListed = (img) => img.hasAttribute("srcset") || sourcesOf(img).length > 0;

/** The images that a node is, holds, or is a source of. */
function imagesOf(node) {
  if (node.localName === "img") return [node];
  if (node.localName === "source") return node.closest("picture")?.querySelectorAll("img") ?? [];
  return node.querySelectorAll?.("img") ?? [];
}

/**
 * A browser passes over sources of a type that it doesn't open. Where an image has nothing else to show, they lose their type;
 * where it has, the visitor doesn't load two pictures for one.
 */
function untype(img) {
  const sources = sourcesOf(img);
  const typed = sources.filter(({ type }) => type === TYPE);
  if (typed.length < sources.length || img.hasAttribute("src") || img.hasAttribute("srcset")) return;
  for (const source of typed) source.removeAttribute("type");
}

let byUrl; // the page's images, for one turn: else each of hundreds of pictures that wait looks through all of them

/** The images that show a URL, or will. */
export function imagesWith(url) {
  if (!byUrl) {
    byUrl = new Map();
    for (const img of document.images) {
      for (const each of img.currentSrc ? [img.currentSrc] : new Set(offered(img))) {
        if (!byUrl.has(each)) byUrl.set(each, []);
        byUrl.get(each).push(img);
      }
    }
    queueMicrotask(() => (byUrl = undefined));
  }
  return byUrl.get(url) ?? [];
}

/** How far an element is from the screen, in pixels. */
export function distanceOf(element) {
  const { left, top, right, bottom } = element.getBoundingClientRect();
  return Math.max(0, top - innerHeight, -bottom, left - innerWidth, -right);
}

/** Width and height that images need, in pixels of the screen; undefined if one of them has no size of its own yet. */
export function sizeOf(images) {
  const sizes = images.map((img) => [img.clientWidth * devicePixelRatio, img.clientHeight * devicePixelRatio]);
  if (!sizes.length || sizes.some(([width, height]) => !(width && height))) return undefined;
  return [Math.max(...sizes.map(([width]) => width)), Math.max(...sizes.map(([, height]) => height))];
}
