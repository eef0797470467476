/** The service worker: what it keeps is of one release, and old and new ones never meet unnoticed. In a real browser. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { missing } from "./chromium.js";
import { altered, coding, count, opened, portal, releaseOf } from "./faulty.js";

/** The release of the module that the page gets. */
const releaseIn = async (page) => {
  const found = await page.evaluate(() => fetch("hpcm-web.js").then((answer) => answer.text()));
  const texts = await Promise.all(["one", "two"].map(async (name) => [await readFile(join(releaseOf(name), "hpcm-web.js"), "utf8"), name]));
  return new Map(texts).get(found);
};

/** Registers the service worker, and waits until it is active or has failed. @returns {Promise<string>} its state */
const register = (page) =>
  page.evaluate(async () => {
    const { installing, active } = await navigator.serviceWorker.register("offline.js");
    const worker = installing ?? active;
    const over = () => ["activated", "redundant"].includes(worker.state);
    while (!over()) await new Promise((changed) => worker.addEventListener("statechange", changed, { once: true }));
    return worker.state;
  });

/** A page whose files come from the service worker of the first release. */
async function kept(t) {
  const opening = await opened(t);
  assert.equal(await register(opening.page), "activated");
  await opening.page.reload();
  return opening;
}

/** Puts the second release on the server, and lets the browser find it; then its service worker waits. */
async function release(site, page) {
  site.folder = releaseOf("two");
  await page.evaluate(async () => {
    const registration = await navigator.serviceWorker.ready;
    const found = new Promise((done) => registration.addEventListener("updatefound", done, { once: true }));
    await registration.update();
    await found;
    const worker = registration.installing ?? registration.waiting;
    while (worker.state === "installing") await new Promise((changed) => worker.addEventListener("statechange", changed, { once: true }));
    if (worker.state !== "installed") throw new Error(worker.state);
  });
}

test("everything comes from the service worker when there is no network", { skip: missing }, async (t) => {
  const { site, page, context } = await kept(t);
  assert.equal(await coding(page, { threads: 2 }), "good");
  await context.setOffline(true);
  site.asked.length = 0;
  await page.reload();
  assert.equal(await coding(page, { threads: 2 }), "good");
  assert.deepEqual(site.asked, []);
});

test("files of two releases aren't kept together", { skip: missing }, async (t) => {
  const { site, page } = await opened(t);
  const other = await readFile(join(releaseOf("two"), "worker.js"));
  site.answers["worker.js"] = altered(() => ({ body: other }));
  assert.equal(await register(page), "redundant");
  site.answers = { "style.css": portal };
  assert.equal(await register(page), "redundant");
  assert.equal(await page.evaluate((url) => caches.match(url), `${site.url}app.js`), undefined);
  site.answers = {};
  assert.equal(await register(page), "activated");
});

test("an old page keeps what belongs to it until it is closed", { skip: missing }, async (t) => {
  const { site, page, context } = await kept(t);
  await page.evaluate(() => import(new URL("hpcm-web.js", document.baseURI).href).then(() => {}));
  await release(site, page);
  assert.equal(await coding(page, { threads: 2 }), "good"); // the worker is started only now
  await page.reload();
  assert.equal(await releaseIn(page), "one");
  assert.equal(await coding(page, { threads: 2 }), "good");

  const beside = await context.newPage(); // of the same origin, and not the service worker's
  await beside.goto(new URL("/", site.url).href);
  await page.close();
  await beside.waitForFunction(async (scope) => {
    const { waiting, active } = await navigator.serviceWorker.getRegistration(scope);
    return !waiting && active.state === "activated";
  }, site.url);
  await beside.goto(`${site.url}licenses.txt`);
  assert.equal(await releaseIn(beside), "two");
  assert.equal(await coding(beside), "good");
});

test("an old page whose service worker was replaced says that it must be loaded again", { skip: missing }, async (t) => {
  const { site, page, context } = await kept(t);
  await page.evaluate(() => import(new URL("hpcm-web.js", document.baseURI).href).then(() => {}));
  await release(site, page);
  const session = await context.newCDPSession(page);
  await session.send("ServiceWorker.enable");
  const replaced = page.evaluate(() => new Promise((done) => navigator.serviceWorker.addEventListener("controllerchange", () => done(), { once: true })));
  await session.send("ServiceWorker.skipWaiting", { scopeURL: site.url });
  await replaced;
  assert.match(await coding(page), /^version: .*reload the page/);
  await page.reload();
  assert.equal(await releaseIn(page), "two");
  assert.equal(await coding(page), "good");
});

test("a worker of another release is told, with and without a service worker", { skip: missing }, async (t) => {
  for (const [page_, worker] of [["one", "two"], ["two", "one"]]) {
    const { site, page } = await opened(t);
    const other = await readFile(join(releaseOf(worker), "worker.js"));
    site.folder = releaseOf(page_);
    site.answers["worker.js"] = altered(() => ({ body: other }));
    assert.match(await coding(page), /^version: .*reload the page/);
    site.answers = {};
    await page.reload();
    assert.equal(await coding(page), "good");
  }
});

test("a portal's page never takes the place of the list of models", { skip: missing }, async (t) => {
  const { site, page, context } = await kept(t);
  assert.equal(await coding(page), "good");
  for (const answer of [portal, altered(() => ({ body: '{"error": "log in"}' }))]) {
    site.answers["models/index.json"] = answer;
    await page.reload();
    assert.match(await coding(page), /^network: .*isn't a list of models/);
  }
  await context.setOffline(true);
  await page.reload();
  assert.equal(await coding(page), "good");
});

test("where nothing can be kept the page works, and a list that can't be kept is used", { skip: missing }, async (t) => {
  const { site, page, context } = await opened(t);
  const session = await context.newCDPSession(page);
  await session.send("Storage.overrideQuotaForOrigin", { origin: new URL(site.url).origin, quotaSize: 1000 });
  assert.equal(await register(page), "redundant");
  assert.equal(await coding(page), "good");

  const full = await kept(t);
  const limited = await full.context.newCDPSession(full.page);
  await limited.send("Storage.overrideQuotaForOrigin", { origin: new URL(full.site.url).origin, quotaSize: 1 });
  assert.equal(await coding(full.page), "good");
  assert.ok(count(full.site, "models/index.json") > 0);
});

test("the service worker adds the headers that threads need", { skip: missing }, async (t) => {
  const { site, page } = await opened(t);
  site.headers = {};
  await page.reload();
  assert.equal(await page.evaluate(() => crossOriginIsolated), false);
  assert.equal(await register(page), "activated");
  await page.reload();
  assert.equal(await page.evaluate(() => crossOriginIsolated), true);
  site.asked.length = 0;
  assert.equal(await coding(page, { threads: 2 }), "good");
});

// ---- the page --------------------------------------------------------------------------------------------------------

const filesOf = async (release) =>
  Object.fromEntries(await Promise.all(["app.js", "index.html"].map(async (name) => [name, await readFile(join(releaseOf(release), name))])));

/** Opens the page, compresses a sample, and waits for a sentence. */
async function sentence(t, prepare, text) {
  const { site, page, context } = await opened(t);
  await prepare(site, context);
  await page.goto(site.url);
  const sample = page.locator("[data-sample]").first();
  await sample.click();
  await page.getByText(text).first().waitFor();
}

test("the page says what is wrong in a sentence", { skip: missing }, async (t) => {
  const worker = (code) => (site) => (site.answers["worker.js"] = altered((source) => ({ body: `${code};${source}` })));
  const wrong = [
    [worker("WebAssembly.validate = () => false"), /no WebAssembly SIMD/],
    [worker("WebAssembly.Memory = function () { throw new RangeError('x'); }; WebAssembly.compile = WebAssembly.Memory"), /too little memory/],
    [(site) => (site.answers["worker.js"] = portal), /worker\.js can't be loaded/],
    [(site) => (site.answers["models/tiny.safetensors.gz"] = portal), /isn't the model tiny/],
    [(site) => (site.answers["models/index.json"] = portal), /isn't a list of models/],
    [(site) => (site.answers["hpcm-threads.wasm"] = portal), /is damaged or of another release: reload the page/],
    [async (site) => {
      const { "app.js": app, "index.html": index } = await filesOf("one");
      site.folder = releaseOf("two");
      site.answers = { "app.js": altered(() => ({ body: app })), "index.html": altered(() => ({ body: index })) };
    }, /the page and its codec are of different releases: reload the page/],
  ];
  for (const [prepare, text] of wrong) await sentence(t, prepare, text);
});

test("the page works without a service worker", { skip: missing }, async (t) => {
  const without = [
    () => Object.defineProperty(Navigator.prototype, "serviceWorker", { value: undefined }),
    () => (ServiceWorkerContainer.prototype.register = () => Promise.reject(new DOMException("no", "SecurityError"))),
  ];
  for (const script of without) {
    const { site, page, context } = await opened(t);
    const errors = [];
    page.on("pageerror", ({ message }) => errors.push(message));
    await context.addInitScript(script);
    await page.goto(site.url);
    await page.locator("[data-sample]").first().click();
    await page.waitForFunction(() => document.querySelector("#save-hpcm")?.getAttribute("href"));
    assert.deepEqual(errors, []);
  }
});
