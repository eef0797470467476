/**
 * Pictures of style sheets where no service worker answers for them: rules and style attributes get blobs in the place of
 * .hpcm files, as soon as an element is there that they are for. So pseudo-elements and :hover need nothing of their own.
 *
 * The rules of other servers' sheets can't be read, and rules that a script inserts later aren't noticed.
 */
import { absolute, isHpcm } from "./names.js";

const URLS = /url\(\s*(["']?)(.*?)\1\s*\)/g;
const PSEUDO = /::?(before|after|marker|backdrop|first-line|first-letter|hover|focus(-within|-visible)?|active|visited|target)\b/g;
const PAUSE = 100; // milliseconds after a change of the page

export class Styles {
  #read = new WeakMap(); // style sheet -> how many rules it had
  #wanted = new Map(); // CSSStyleDeclaration -> {selector, base}
  #blobs = new Map(); // URL of a file -> promise of a blob's URL, which styles go on using
  #changes;
  #timer;

  /** @param {{pictures: import("./pictures.js").Pictures, load: (url: string) => Promise<Blob>, report: (url: string, error: Error) => void}} given */
  start({ load, report }) {
    Object.assign(this, { load, report });
    this.#changes = new MutationObserver(() => this.#soon());
    this.#changes.observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["class", "style", "id"] });
    document.addEventListener("load", ({ target }) => target.localName === "link" && this.#soon(), true); // a sheet
    this.#look();
  }

  /** A service worker shows what isn't here yet. */
  stop() {
    this.#changes?.disconnect();
    clearTimeout(this.#timer);
    this.load = undefined;
  }

  #soon() {
    this.#timer ??= setTimeout(() => this.#look(), PAUSE);
  }

  #look() {
    this.#timer = undefined;
    if (!this.load) return;
    for (const sheet of [...document.styleSheets, ...document.adoptedStyleSheets]) this.#readSheet(sheet);
    for (const { style } of document.querySelectorAll('[style*=".hpcm" i]')) this.#show(style, document.baseURI);
    for (const [style, { selector, base }] of this.#wanted) {
      if (!isUsed(selector)) continue;
      this.#wanted.delete(style);
      this.#show(style, base);
    }
  }

  #readSheet(sheet) {
    const rules = rulesOf(sheet);
    if (this.#read.get(sheet) === rules.length) return;
    this.#read.set(sheet, rules.length);
    for (const rule of rules) this.#readRule(rule, sheet.href ?? document.baseURI);
  }

  #readRule(rule, base) {
    if (rule.styleSheet) this.#readSheet(rule.styleSheet);
    for (const inner of rule.cssRules ?? []) this.#readRule(inner, base);
    if (rule.style && /\.hpcm/i.test(rule.style.cssText)) this.#wanted.set(rule.style, { selector: rule.selectorText, base });
  }

  /** Replaces what a declaration has of .hpcm files. */
  async #show(style, base) {
    for (const property of [...style]) {
      const before = style.getPropertyValue(property);
      const files = [...before.matchAll(URLS)].map(([, , given]) => fileOf(given, base)).filter(Boolean);
      if (!files.length) continue;
      const blobs = new Map(await Promise.all(files.map(async (url) => [url, await this.#blobOf(url)])));
      if (style.getPropertyValue(property) !== before) continue; // another value by now
      const value = before.replace(URLS, (all, quote, given) => (blobs.get(fileOf(given, base)) ? `url("${blobs.get(fileOf(given, base))}")` : all));
      if (value !== before) style.setProperty(property, value, style.getPropertyPriority(property));
    }
  }

  /** @returns {Promise<string|undefined>} undefined for what can't be shown */
  #blobOf(url) {
    if (!this.#blobs.has(url)) {
      const made = this.load(url).then((blob) => URL.createObjectURL(blob), (error) => this.report(url, error));
      this.#blobs.set(url, made);
    }
    return this.#blobs.get(url);
  }
}

function rulesOf(sheet) {
  try {
    return sheet.cssRules;
  } catch {
    return []; // of another server
  }
}

function fileOf(given, base) {
  const url = absolute(given, base);
  return isHpcm(url) ? url : undefined;
}

/** Whether an element is there that a rule is for, whatever state it is in. */
function isUsed(selector) {
  try {
    return !selector || Boolean(document.querySelector(selector.replace(PSEUDO, "") || "*"));
  } catch {
    return true; // a selector that can't be cut like this
  }
}
