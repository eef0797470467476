/** The URLs in the attributes of <img> and <source>. */
import { absolute } from "./names.js";

const CANDIDATE = /(\S*[^\s,])(\s+[^,]*)?(,|$)/g; // URL, descriptor, comma

const resolved = (given) => absolute(given, document.baseURI);

/** A list of candidates with another URL in the place of one. */
export function replaced(list, from, to) {
  return list.replace(CANDIDATE, (all, url, descriptor = "", comma) => (resolved(url) === from ? to + descriptor + comma : all));
}

/** The <source>s that an image chooses from. @param {HTMLImageElement} img */
export const sourcesOf = ({ parentElement }) =>
  parentElement?.localName === "picture" ? [...parentElement.children].filter(({ localName }) => localName === "source") : [];

/** The URLs that an image chooses from. */
export function offered(img) {
  const lists = [...sourcesOf(img), img].map((element) => element.getAttribute("srcset") ?? "");
  const candidates = lists.flatMap((list) => [...list.matchAll(CANDIDATE)].map(([, candidate]) => candidate));
  return [...candidates, img.getAttribute("src")].map(resolved).filter(Boolean);
}

/** Puts one URL in the place of another wherever an image may have it from. What else it can choose stays. */
export function swap(img, from, to) {
  for (const element of [...sourcesOf(img), img]) {
    const list = element.getAttribute("srcset");
    const changed = list && replaced(list, from, to);
    if (changed !== list) element.setAttribute("srcset", changed);
  }
  if (resolved(img.getAttribute("src")) === from) img.setAttribute("src", to);
}

/** Lets the browser load once more what an image's attributes say. */
export function reload(img) {
  for (const element of [...sourcesOf(img), img]) {
    for (const name of ["srcset", "src"]) if (element.hasAttribute(name)) element.setAttribute(name, element.getAttribute(name));
  }
}
