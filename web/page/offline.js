/**
 * The service worker: what the page has used once works offline. Two caches, since they change at different times: the
 * page itself with the codec, and the list of models. Models the codec keeps itself, by their hashes.
 *
 * It also adds the headers that threads need, for file servers that can't send them. They hold from the second visit on.
 */
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
  const files = __FILES__.map((file) => new Request(new URL(file, scope), { cache: "no-cache" }));
  event.waitUntil(caches.open(PAGE).then((cache) => cache.addAll(files)).then(() => self.skipWaiting()));
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

async function kept(name, url, request) {
  const cache = await caches.open(name);
  const found = await cache.match(url);
  if (found) return found;
  const answer = await fetch(request);
  if (answer.ok) await cache.put(url, answer.clone());
  return answer;
}

/** The list of models comes from the network while there is one. */
async function fresh(url) {
  const cache = await caches.open(LIST);
  try {
    const answer = await fetch(url, { cache: "no-cache" });
    if (answer.ok) await cache.put(url, answer.clone());
    return answer;
  } catch (error) {
    const found = await cache.match(url);
    if (found) return found;
    throw error;
  }
}

/** The page says that the codec has worked: what it needed stays, even if it was fetched before this worker was there. */
self.addEventListener("message", (event) => {
  event.waitUntil(fresh(scope + INDEX));
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = request.url.split(/[?#]/)[0];
  if (request.method !== "GET" || !url.startsWith(scope)) return;
  const path = url.slice(scope.length);
  if (path === INDEX) event.respondWith(fresh(url).then(isolated));
  else if (path === "") event.respondWith(kept(PAGE, `${scope}index.html`, request).then(isolated));
  else if (__FILES__.includes(path)) event.respondWith(kept(PAGE, url, request).then(isolated));
});
