/**
 * The service worker: what the page has used once works offline. Two caches, since they change at different times: the
 * page itself with the codec, and the list of models. Models the codec keeps itself, by their hashes.
 *
 * All files of the first cache are of one release: the browser refuses those whose SHA-256 isn't the one that is written here. A new
 * release's service worker waits until the pages of the old one are closed, so that they keep what belongs to them.
 *
 * It also adds the headers that threads need, for file servers that can't send them. They hold from the second visit on.
 */
const FILES = __FILES__; // with what `integrity` asks of each
const scope = self.registration.scope;
const OURS = `hpcm ${scope} `; // another page of the same server may have caches of its own
const PAGE = `${OURS}page ${__VERSION__}`;
const LIST = `${OURS}list`;
const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};
const INDEX = "models/index.json";

self.addEventListener("install", (event) => {
  const files = Object.entries(FILES);
  const requests = files.map(([file, integrity]) => new Request(new URL(file, scope), { cache: "no-cache", integrity }));
  event.waitUntil(caches.open(PAGE).then((cache) => cache.addAll(requests)));
});

self.addEventListener("activate", (event) => {
  event.waitUntil(tidy().then(() => self.clients.claim()));
});

async function tidy() {
  const old = (await caches.keys()).filter((name) => name.startsWith(OURS) && ![PAGE, LIST].includes(name));
  await Promise.all(old.map((name) => caches.delete(name)));
}

function isolated(response) {
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(ISOLATION)) headers.set(name, value);
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}

/** What was kept of a URL; undefined where that is nothing, or storage is out of order. */
async function kept(name, url) {
  try {
    return await (await caches.open(name)).match(url);
  } catch {
    return undefined;
  }
}

/** The list of models comes from the network while there is one. What isn't such a list isn't kept. */
async function fresh(url) {
  let answer;
  try {
    answer = await fetch(url, { cache: "no-cache" });
  } catch (error) {
    const before = await kept(LIST, url);
    if (before) return before;
    throw error;
  }
  if (answer.ok) await keepList(url, answer.clone()).catch(() => {}); // it is there, kept or not
  return answer;
}

async function keepList(url, answer) {
  const list = await answer.json();
  if (Array.isArray(list.models)) await (await caches.open(LIST)).put(url, new Response(JSON.stringify(list)));
}

/** The page says that the codec has worked: what it needed stays, even if it was fetched before this worker was there. */
self.addEventListener("message", (event) => {
  event.waitUntil(fresh(scope + INDEX).catch(() => {}));
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = request.url.split(/[?#]/)[0];
  if (request.method !== "GET" || !url.startsWith(scope)) return;
  const path = url.slice(scope.length) || "index.html";
  if (path === INDEX) event.respondWith(fresh(url).then(isolated));
  else if (Object.hasOwn(FILES, path)) event.respondWith(kept(PAGE, scope + path).then((found) => found ?? fetch(request)).then(isolated));
});
