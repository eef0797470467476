/** The polyfill where something is wrong, is missing, or is many. In a real browser. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { missing } from "./chromium.js";
import { PREFIX, WITHOUT, answering, controlled, fileOf, heard, hears, html, many, opened, shows, sited } from "./polyfill.js";

const WAYS = [["a service worker", undefined], ["changed elements", WITHOUT]];
const CORS = { "access-control-allow-origin": "*" };

/** A test that is run each way: it gets a function that opens a page with this body. */
function bothWays(name, work) {
  for (const [how, script] of WAYS) {
    test(`${name}, by ${how}`, { skip: missing }, (t) => {
      const paged = async (body, { site: given, policy, ...options } = {}) => {
        const site = given ?? (await sited(t));
        site.answers["page.html"] = answering(html(body, script), policy ? { "content-security-policy": policy } : {});
        const found = await opened(t, site, "page.html", options);
        if (!script) await controlled(found.page);
        return { site, ...found };
      };
      return work(t, paged, !script);
    });
  }
}

/** What an image says if there is no picture: one error, no load, no blob, the text in its place, one line of ours. */
async function fails(page, said, line) {
  await hears(page, "a error");
  await page.waitForTimeout(300);
  const [width, src, hidden] = await page.evaluate(() => {
    const img = document.querySelector("#a");
    return [img.naturalWidth, img.getAttribute("src"), getComputedStyle(img).visibility];
  });
  assert.deepEqual([width, hidden], [0, "visible"]);
  assert.ok(!src.startsWith("blob:"), src);
  assert.equal(said.length, 1, String(said));
  assert.match(said[0], line);
}

/** Adds an image when the page's scripts have run, so that all of its events are heard. */
async function added(page, src, attributes = {}) {
  await page.waitForFunction(() => document.readyState === "complete");
  await page.evaluate(([src, attributes]) => {
    window.heard = [];
    const img = Object.assign(document.createElement("img"), { id: "a", alt: "The alternative", ...attributes, src });
    document.body.append(img);
  }, [src, attributes]);
}

// ---- bad input -------------------------------------------------------------------------------------------------------

const broken = (data) => Buffer.concat([data.subarray(0, -1), Buffer.from([data.at(-1) ^ 1])]);
const BAD = [
  ["a missing file", "missing.hpcm", {}, /^hpcm: .*missing\.hpcm: it can't be fetched: 404/],
  ["a damaged file", "bad.hpcm", { "bad.hpcm": async (response, headers) => response.writeHead(200, headers).end(broken(await fileOf("small"))) }, /bad\.hpcm: tile 0 of 1 or the header was changed/],
  ["a file that is cut short", "bad.hpcm", { "bad.hpcm": async (response, headers) => response.writeHead(200, headers).end((await fileOf("small")).subarray(0, 60)) }, /bad\.hpcm: /],
  ["a portal's page", "bad.hpcm", { "bad.hpcm": answering("<!doctype html>Log in") }, /bad\.hpcm: this is no \.hpcm file/],
  ["a connection that breaks", "bad.hpcm", { "bad.hpcm": (response) => response.destroy() }, /bad\.hpcm: it can't be fetched: /],
  ["a model that isn't there", "small.hpcm", { "hpcm/models/tiny.safetensors.gz": (response) => response.writeHead(404).end() }, /^hpcm: .*tiny\.safetensors\.gz can't be fetched: 404/],
];
for (const [what, src, answers, line] of BAD) {
  bothWays(`${what} is an error event, alt text and a line in the console`, async (t, paged) => {
    const { page, said } = await paged("", { site: await sited(t, answers) });
    await added(page, src);
    await fails(page, said, line);
    assert.deepEqual(await heard(page), ["a error"]);
  });
}

bothWays("the type of a file doesn't matter, and a JPEG of this name is shown as one", async (t, paged) => {
  const site = await sited(t);
  site.answers["small.hpcm"] = async (response) => response.writeHead(200, { "content-type": "text/html", "x-content-type-options": "nosniff" }).end(await fileOf("small"));
  site.answers["odd.hpcm"] = async (response) => response.writeHead(200, { "content-type": "image/webp" }).end(await readFile(join(site.folder, "hpcm/samples/text.webp")));
  const { page, said } = await paged("", { site });
  await added(page, "small.hpcm");
  await hears(page, "a load");
  await shows(page, "#a", "small");
  await page.evaluate(() => document.querySelector("#a").remove());
  await added(page, "odd.hpcm");
  await hears(page, "a load");
  assert.deepEqual([await heard(page), said], [["a load"], []]);
});

bothWays("servers that don't answer hold up no other pictures", async (t, paged) => {
  const { page } = await paged("", { site: await sited(t, { "one.hpcm": () => {}, "two.hpcm": () => {} }) });
  await added(page, "small.hpcm");
  await page.evaluate(() => document.querySelector("#a").insertAdjacentHTML("beforebegin", '<img src="one.hpcm"><img src="two.hpcm"><img id="b" src="rough.hpcm">'));
  for (const [id, name] of [["a", "small"], ["b", "rough"]]) {
    await hears(page, `${id} load`);
    await shows(page, `#${id}`, name);
  }
});

bothWays("a file that was missing can be tried again", async (t, paged) => {
  const { page, site } = await paged("", { site: await sited(t, { "small.hpcm": (response) => response.writeHead(503).end() }) });
  await added(page, "small.hpcm");
  await hears(page, "a error");
  site.answers = {};
  await page.evaluate(() => (document.querySelector("#a").src = "small.hpcm?again"));
  await hears(page, "a load");
  await shows(page, "#a", "small");
});

// ---- other servers, offline, policies -----------------------------------------------------------------------------------

bothWays("another server's file is fetched again with CORS", async (t, paged) => {
  const [other, closed] = [await sited(t, { headers: CORS }), await sited(t)];
  const { page, said } = await paged("");
  await added(page, `${other.url}small.hpcm`);
  await hears(page, "a load");
  await shows(page, "#a", "small");
  await page.evaluate(() => document.querySelector("#a").remove());
  assert.deepEqual(said, []);
  await added(page, `${closed.url}small.hpcm`);
  await fails(page, said, /small\.hpcm: it can't be fetched: .*Access-Control-Allow-Origin/);
});

test("without a connection, from the cache of decoded pictures", { skip: missing }, async (t) => {
  const site = await sited(t, { "page.html": answering(html('<img id="a" src="small.hpcm#part">')) });
  const { page, said } = await opened(t, site, "page.html", { script: countDecoding });
  await controlled(page);
  await hears(page, "a load");
  site.answers["small.hpcm"] = (response) => response.destroy();
  await page.reload();
  await hears(page, "a load");
  await shows(page, "#a", "small");
  assert.equal(await page.evaluate(() => window.decoding.all), 0);
  assert.deepEqual(said, []);
});

bothWays("a picture that was decoded before isn't decoded again, a changed one is", async (t, paged) => {
  const { page, site } = await paged('<img id="a" src="small.hpcm">', { script: countDecoding });
  await hears(page, "a load");
  await page.reload();
  await hears(page, "a load");
  await shows(page, "#a", "small");
  assert.equal(await page.evaluate(() => window.decoding.all), 0);
  site.answers["small.hpcm"] = async (response, headers) => response.writeHead(200, headers).end(await fileOf("other"));
  await page.reload();
  await hears(page, "a load");
  await shows(page, "#a", "other");
});

bothWays("a policy of contents needs 'wasm-unsafe-eval'", async (t, paged) => {
  for (const [wasm, event] of [["'wasm-unsafe-eval'", "load"], ["", "error"]]) {
    const policy = `default-src 'self'; img-src 'self' blob:; script-src 'self' 'unsafe-inline' ${wasm}`;
    const site = await sited(t);
    site.headers = { "content-security-policy": policy };
    const { page, said } = await paged("", { site, policy, script: watchPolicy });
    await added(page, "small.hpcm");
    if (event === "error") await fails(page, said, /^hpcm: this browser can't run hpcm\.wasm: .*(unsafe-eval|Content Security)/i);
    else await hears(page, "a load");
    assert.deepEqual(await heard(page), [`a ${event}`]);
    assert.deepEqual(await page.evaluate(() => window.violations), []);
  }
});

/** Runs in the page: what its policy has refused. */
function watchPolicy() {
  window.violations = [];
  addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => window.violations.push(`${violatedDirective} ${blockedURI}`));
}

bothWays("a policy that lets the page read no other server is told", async (t, paged) => {
  const other = await sited(t, { headers: CORS });
  const policy = "default-src 'self'; img-src * blob:; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval'";
  const site = await sited(t);
  site.headers = { "content-security-policy": policy };
  const { page, said } = await paged("", { site, policy });
  await added(page, `${other.url}small.hpcm`);
  await fails(page, said, /small\.hpcm: it can't be fetched: .*connect-src/);
});

test("a policy that forbids blobs is told, by changed elements", { skip: missing }, async (t) => {
  const policy = "img-src 'self' data:";
  const site = await sited(t, { "page.html": answering(html("", WITHOUT), { "content-security-policy": policy }) });
  const { page, said } = await opened(t, site);
  await added(page, "small.hpcm");
  await hears(page, "a error");
  await page.waitForTimeout(300);
  assert.equal(said.length, 1);
  assert.match(said[0], /needs blob: in img-src/);
});

// ---- service workers ----------------------------------------------------------------------------------------------------

test("the first visit: elements are changed until the service worker is there", { skip: missing }, async (t) => {
  const site = await sited(t, { "page.html": answering(html('<img id="a" src="small.hpcm">')) });
  const { page, said } = await opened(t, site);
  await hears(page, "a load");
  await page.waitForFunction(() => navigator.serviceWorker.controller);
  await page.waitForTimeout(300);
  const src = await page.evaluate(() => new Promise((done) => {
    const img = Object.assign(new Image(), { id: "b", src: "other.hpcm", onload: () => done(img.src) });
    document.body.append(img);
  }));
  assert.match(src, /other\.hpcm$/);
  await shows(page, "#b", "other");
  assert.deepEqual(said, []);
});

const OWN = `self.hpcm = { fetch: (request) => fetch(request.url.replace("renamed", "small")) };
  importScripts("hpcm/hpcm-polyfill-worker.js");
  self.addEventListener("install", () => self.skipWaiting());
  self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
  self.addEventListener("fetch", (event) => event.respondWith(event.request.url.endsWith("mine") ? new Response("the site's own") : fetch(event.request)));`;

test("a site's own service worker takes the polyfill in, and answers all else", { skip: missing }, async (t) => {
  const site = await sited(t, {
    "own.js": (response) => response.writeHead(200, { "content-type": "text/javascript" }).end(OWN),
    "page.html": answering(html('<script>navigator.serviceWorker.register("own.js")</script><img id="a" src="renamed.hpcm">', WITHOUT)),
  });
  const { page, said } = await opened(t, site);
  await controlled(page);
  said.length = 0; // before the service worker was there, the file wasn't
  await hears(page, "a load");
  await shows(page, "#a", "small");
  const [script, own, plain, fetched] = await page.evaluate(async () => {
    const text = async (url) => (await fetch(url)).text();
    const { active } = await navigator.serviceWorker.getRegistration();
    return [active.scriptURL, await text("mine"), (await text("hpcm/licenses.txt")).length > 100, (await text("small.hpcm")).slice(1, 4)];
  });
  assert.match(script, /own\.js$/);
  assert.deepEqual([own, plain, fetched], ["the site's own", true, "HPC"]);
  assert.deepEqual(said, []);
});

const CLAIMING = "self.addEventListener('activate', (event) => event.waitUntil(clients.claim()))";

test("a site's own service worker without the polyfill stays, and elements are changed", { skip: missing }, async (t) => {
  const site = await sited(t, {
    "own.js": (response) => response.writeHead(200, { "content-type": "text/javascript" }).end(CLAIMING),
    "first.html": answering('<script>navigator.serviceWorker.register("own.js")</script>'),
    "page.html": answering(html('<img id="a" src="small.hpcm">')),
  });
  const { page } = await opened(t, site, "first.html");
  await controlled(page);
  await page.goto(`${site.url}page.html`);
  await hears(page, "a load");
  await shows(page, "#a", "small");
  assert.match(await page.evaluate(() => navigator.serviceWorker.controller.scriptURL), /own\.js$/);
});

test("a service worker that can't serve the page isn't started, which is said", { skip: missing }, async (t) => {
  const site = await sited(t, { "deeper/page.html": answering(html('<img id="a" src="../small.hpcm">', "")) });
  const { page, said } = await opened(t, site, "deeper/page.html");
  await hears(page, "a load");
  await shows(page, "#a", "small");
  assert.equal(await page.evaluate(async () => (await navigator.serviceWorker.getRegistrations()).length), 0);
  assert.match(said.join(), /^hpcm: the service worker .* can't be used: it lies in another folder/);
});

test("a page in a deeper folder, and a type that the URL doesn't say", { skip: missing }, async (t) => {
  const site = await sited(t, {
    "deeper/page.html": answering(html('<img id="a" src="../small.hpcm"><img id="b" src="photo/7">')),
    "deeper/photo/7": async (response) => response.writeHead(200, { "content-type": "image/x-hpcm" }).end(await fileOf("other")),
  });
  const { page, said } = await opened(t, site, "deeper/page.html");
  await controlled(page);
  for (const id of "ab") await hears(page, `${id} load`);
  await shows(page, "#a", "small");
  await shows(page, "#b", "other");
  assert.deepEqual(said, []);
});

test("a browser that opens the type itself is left alone, and loses our service worker", { skip: missing }, async (t) => {
  const site = await sited(t, { "page.html": answering(html('<img id="a" src="missing.hpcm">')) });
  const { page, context } = await opened(t, site);
  await controlled(page);
  await page.addInitScript(() => {
    const { createImageBitmap } = window;
    window.createImageBitmap = (source, ...rest) => source.type === "image/x-hpcm" ? Promise.resolve() : createImageBitmap(source, ...rest);
  });
  await page.reload();
  const mode = await page.evaluate(async (url) => {
    const { start } = await import(url);
    try {
      return await start();
    } catch (error) {
      return error.code;
    }
  }, `${PREFIX}hpcm/hpcm-polyfill.js`);
  assert.equal(mode, "usage"); // it started by itself
  await page.waitForFunction(async () => (await navigator.serviceWorker.getRegistrations()).length === 0);
  await hears(page, "a error");
  assert.ok(context);
});

test("a program starts it with settings of its own", { skip: missing }, async (t) => {
  const body = `<img id="a" src="small.hpcm"><script type="module">
    import { start } from "./hpcm/hpcm-polyfill.js";
    window.mode = start({ worker: "none", atOnce: 1 });</script>`;
  const site = await sited(t, { "page.html": answering(html(body).replace(/<script type="module" src.*?<\/script>/, "")) });
  const { page } = await opened(t, site);
  await hears(page, "a load");
  assert.equal(await page.evaluate(() => window.mode), "elements");
});

test("settings that are wrong are told, and the service worker doesn't wait", { skip: missing }, async (t) => {
  const site = await sited(t, { "page.html": answering(html("")) });
  const { page, said } = await opened(t, site);
  await controlled(page);
  for (const [attribute, line] of [['data-at-once="0"', /data-at-once is 0: /], ['data-keep="much"', /data-keep is NaN: /]]) {
    site.answers["page.html"] = answering(html('<img id="a" src="small.hpcm">', attribute));
    said.length = 0;
    await page.reload();
    await hears(page, "a error");
    assert.match(said[0], line);
  }
});

// ---- none, many, and large ------------------------------------------------------------------------------------------------------

test("a page without .hpcm pictures loads no codec and no model", { skip: missing }, async (t) => {
  const site = await sited(t, { "page.html": answering(html('<img id="a" src="hpcm/samples/text.webp"><style>p { background: url(hpcm/samples/text.webp) }</style><p>')) });
  const { page, said } = await opened(t, site);
  await controlled(page);
  await page.waitForTimeout(500);
  const asked = new Set(site.asked.filter((path) => !path.startsWith("hpcm/samples/")));
  assert.deepEqual([...asked].sort(), ["hpcm-polyfill-worker.js", "hpcm/hpcm-polyfill.js", "hpcm/hpcm-web.js", "page.html"]);
  assert.deepEqual([page.workers().length, said], [0, []]);
});

/** Runs in the page: how many pictures the codec has at the same time. */
function countDecoding() {
  window.decoding = { now: 0, most: 0, all: 0, within: [] };
  const { postMessage } = Worker.prototype;
  Worker.prototype.postMessage = function (message, ...rest) {
    if (message.call === "toPng") {
      const { decoding } = window;
      decoding.all++;
      decoding.within.push(message.given.within);
      decoding.most = Math.max(decoding.most, ++decoding.now);
      const ended = ({ data }) => {
        if (data.id !== message.id || !(data.result || data.error)) return;
        decoding.now--;
        this.removeEventListener("message", ended);
      };
      this.addEventListener("message", ended);
    }
    return postMessage.call(this, message, ...rest);
  };
}

bothWays("of forty pictures at most two are decoded at once, each of them once", async (t, paged) => {
  const { page, said } = await paged(many.map((src, i) => `<img id="m${i}" src="${src}">`).join(""), { script: countDecoding });
  for (let i = 0; i < many.length; i++) await hears(page, `m${i} load`);
  const { most, all } = await page.evaluate(() => window.decoding);
  assert.equal(most, 2);
  assert.ok(all <= many.length, String(all));
  for (const i of [0, 7, 39]) await shows(page, `#m${i}`, `many-${i}`);
  assert.deepEqual(said, []);
});

/** Runs in the page: how often it is asked what an image shows. */
function countLooks() {
  window.looks = 0;
  const { get } = Object.getOwnPropertyDescriptor(HTMLImageElement.prototype, "currentSrc");
  Object.defineProperty(HTMLImageElement.prototype, "currentSrc", { get() { return window.looks++, get.call(this); } });
}

bothWays("the page's images are looked through once for each picture, not for all that wait", async (t, paged) => {
  const { page } = await paged(many.map((src, i) => `<img id="m${i}" src="${src}">`).join(""), { script: countLooks });
  for (let i = 0; i < many.length; i++) await hears(page, `m${i} load`);
  const looks = await page.evaluate(() => window.looks);
  assert.ok(looks < 10 * many.length ** 2, String(looks));
});

/** Runs in the page: URLs of blobs that stay. */
function countBlobs() {
  window.blobs = new Set();
  const { createObjectURL, revokeObjectURL } = URL;
  URL.createObjectURL = (blob) => {
    const url = createObjectURL(blob);
    window.blobs.add(url);
    return url;
  };
  URL.revokeObjectURL = (url) => {
    window.blobs.delete(url);
    revokeObjectURL(url);
  };
}

test("images that are changed or removed while they come leave no blobs, by changed elements", { skip: missing }, async (t) => {
  const site = await sited(t, { "page.html": answering(html("", WITHOUT)) });
  const { page, said } = await opened(t, site, "page.html", { script: countBlobs });
  await added(page, "rough.hpcm");
  await page.waitForFunction(() => document.querySelector("#a").src.startsWith("blob:"));
  await page.evaluate(() => (document.querySelector("#a").src = "large.hpcm"));
  await page.waitForFunction(() => document.querySelector("#a").src.startsWith("blob:"));
  await page.evaluate(() => document.querySelector("#a").remove());
  await added(page, "other.hpcm");
  await hears(page, "a load");
  await shows(page, "#a", "other");
  await page.waitForTimeout(300);
  assert.equal(await page.evaluate(() => window.blobs.size), 0);
  assert.deepEqual(said, []);
});

test("what is far away is decoded when it comes near, by changed elements", { skip: missing }, async (t) => {
  const site = await sited(t, { "page.html": answering(html('<img id="a" src="small.hpcm"><div style="height: 9000px"></div><img id="b" src="other.hpcm">', WITHOUT)) });
  const { page } = await opened(t, site, "page.html", { script: countDecoding });
  await hears(page, "a load");
  await page.waitForTimeout(500);
  assert.equal(await page.evaluate(() => window.decoding.all), 1);
  await page.evaluate(() => document.querySelector("#b").scrollIntoView());
  await hears(page, "b load");
  await shows(page, "#b", "other");
});

bothWays("a large picture is reduced to twice what is shown, and keeps its size", async (t, paged) => {
  const { page } = await paged("", { script: countDecoding });
  await added(page, "large.hpcm", { style: "width: 300px; height: 250px" });
  await hears(page, "a load");
  await shows(page, "#a", "large");
  const sizes = await page.evaluate(() => window.decoding.within);
  assert.deepEqual(sizes.filter(Boolean), [[600, 500]]);
});

bothWays("the cache of decoded pictures keeps to its bytes", async (t, paged) => {
  const script = `data-worker="${PREFIX}hpcm-polyfill-worker.js" data-keep="100000"`;
  const site = await sited(t);
  const { page } = await paged("", { site });
  site.answers["page.html"] = answering(html(many.slice(0, 12).map((src, i) => `<img id="m${i}" src="${src}">`).join(""), script));
  await page.reload();
  for (let i = 0; i < 12; i++) await hears(page, `m${i} load`);
  await page.waitForTimeout(500);
  const kept = await page.evaluate(async () => {
    const cache = await caches.open("hpcm-pictures");
    const all = await Promise.all((await cache.keys()).map(async (key) => (await (await cache.match(key)).blob()).size));
    return [all.length, all.reduce((sum, size) => sum + size, 0)];
  });
  assert.ok(kept[0] >= 3 && kept[1] <= 100_000 + 2 * 20_000, String(kept));
});
