/**
 * The polyfill's service worker: it answers for .hpcm files that are shown as pictures, and leaves all else alone. A service
 * worker can't start workers, so a page decodes: its own, or another one that is open.
 *
 *     image request --> file --> is it in the cache of decoded pictures? --> yes: that
 *                                                                        '-> no: {hpcm: "decode", url, data} to a page
 *                                                                                 <-- "taken", then {blob}, or {} for an error
 *
 * A site with a service worker of its own takes this in at its top, before its own listeners:
 *
 *     self.hpcm = { fetch: (request) => ... };          // optional: where files come from, such as the site's own cache
 *     importScripts("hpcm/hpcm-polyfill-worker.js");
 */
import { digestOf, find } from "./kept.js";
import { TYPE, beginsAsHpcm, isHpcm } from "./names.js";
import { whyNot } from "./why.js";

const SCRIPT = /\/hpcm-polyfill-worker\.js$/;
const ALONE = SCRIPT.test(self.location.pathname); // and not in a site's own service worker
const PATIENCE = 10_000; // milliseconds until a page must have taken a picture: its scripts may still be on their way
const LOOK = 5000; // milliseconds after which it is looked whether a page is still there
const OTHERS = /\.(avif|bmp|cur|gif|ico|jpe?g|jxl|png|svg|webp)$/i; // pictures that are none of ours

if (ALONE) {
  self.addEventListener("install", () => self.skipWaiting());
  self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
}

self.addEventListener("message", ({ data, ports }) => {
  if (data?.hpcm === "hello") ports[0].postMessage("here");
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (!isPicture(request)) return;
  if (isHpcm(request.url)) {
    event.stopImmediatePropagation(); // two listeners can't answer
    event.respondWith(answer(event));
  } else if (ALONE && mayBe(request.url)) event.respondWith(typed(event));
});

/** Whether a request is one for a picture, of a browser that doesn't open .hpcm files. */
const isPicture = ({ method, destination, headers }) => method === "GET" && destination === "image" && !headers.get("accept")?.includes(TYPE);

/** Whether a URL may be one of a .hpcm file, though it doesn't say so. Only those of our own server can be asked for their type. */
function mayBe(url) {
  const { origin, pathname } = new URL(url);
  return origin === self.location.origin && !OTHERS.test(pathname);
}

/** Answers for a URL that doesn't say what it is of. */
async function typed(event) {
  const response = await fetch(event.request);
  return response.headers.get("content-type")?.startsWith(TYPE) ? decoded(event, response) : response;
}

async function answer(event) {
  const { request } = event;
  const get = self.hpcm?.fetch ?? fetch;
  try {
    return await decoded(event, await get(readable(request)));
  } catch (error) {
    const before = await find(request.url); // there is no connection
    if (before) return before;
    await tell(event, whyNot(request.url, error));
    return Response.error();
  }
}

/** A request whose answer can be read: that of <img> to another server can't. */
function readable(request) {
  if (request.mode === "cors" || request.mode === "same-origin") return request;
  const ours = new URL(request.url).origin === self.location.origin;
  return new Request(request, { mode: "cors", credentials: ours ? "same-origin" : "omit" });
}

/** What an <img> gets in the place of a file. */
async function decoded(event, response) {
  const { url } = event.request;
  if (!response.ok) {
    await tell(event, `it can't be fetched: ${response.status} ${response.statusText}`);
    return response;
  }
  const data = await response.arrayBuffer();
  if (!beginsAsHpcm(new Uint8Array(data))) {
    const type = response.headers.get("content-type") ?? "";
    if (!type.startsWith("image/") || type.startsWith(TYPE)) await tell(event, "this is no .hpcm file");
    return new Response(data, response); // the browser may open it
  }
  const kept = await find(url, { digest: await digestOf(data), reduced: 1 });
  if (kept) return kept;
  for (const client of await pages(event.clientId)) {
    const found = await ask(client, { url, data });
    if (found) return found.blob ? new Response(found.blob, { headers: { "content-type": found.blob.type } }) : Response.error();
  }
  return Response.error();
}

/** The pages that may decode: the one that asks, then others. */
async function pages(id) {
  const all = await self.clients.matchAll({ type: "window" });
  const own = all.filter((client) => client.id === id);
  return [...own, ...all.filter((client) => client.id !== id)];
}

/** @returns {Promise<{blob?: Blob}|undefined>} undefined if the page doesn't decode, or was closed */
function ask(client, given) {
  const { port1, port2 } = new MessageChannel();
  return new Promise((done) => {
    const patience = setTimeout(done, PATIENCE);
    const look = setInterval(async () => (await self.clients.get(client.id)) ?? done(), LOOK);
    port1.onmessage = ({ data }) => {
      clearTimeout(patience);
      if (data === "taken") return;
      clearInterval(look);
      done(data);
    };
    client.postMessage({ hpcm: "decode", ...given }, [port2]);
  }).finally(() => port1.close());
}

/** A line in the page's console. */
async function tell({ clientId, request }, message) {
  const client = clientId && (await self.clients.get(clientId));
  client?.postMessage({ hpcm: "failed", url: request.url, message });
}
