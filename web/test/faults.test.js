/** What goes wrong around the codec: networks, servers, caches, memory and threads. In a real browser, with a tiny model. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { gunzipSync, gzipSync } from "node:zlib";
import { missing } from "./chromium.js";
import { INSECURE, WEIGHTS, altered, coding, count, inWorker, keptModels, opened, portal, releaseOf } from "./faulty.js";

// ---- what comes over the network -------------------------------------------------------------------------------------

for (const [name, code] of [[WEIGHTS, "network"], ["models/index.json", "network"], ["hpcm-threads.wasm", "version"], ["worker.js", "network"]]) {
  test(`a portal's page in the place of ${name} is told, isn't kept, and does no harm later`, { skip: missing }, async (t) => {
    const { site, page } = await opened(t);
    site.answers[name] = portal;
    assert.match(await coding(page, { threads: 2 }), new RegExp(`^${code}: .*${name}`));
    assert.deepEqual(await keptModels(page), []);
    site.answers = {};
    assert.equal(await coding(page), "good");
    assert.equal((await keptModels(page)).length, 1);
  });
}

test("weights that are cut, changed, longer, or sent in part are told", { skip: missing }, async (t) => {
  const { site, page } = await opened(t);
  const flipped = (data) => {
    data[data.length >> 1] ^= 1;
    return data;
  };
  const wrong = {
    cut: altered((data) => ({ body: data.subarray(0, data.length - 1) })),
    changed: altered((data) => ({ body: flipped(data) })),
    longer: altered((data) => ({ body: Buffer.concat([data, data]) })),
    empty: altered(() => ({ status: 204 })),
    "in part": altered((data) => ({ status: 206, body: data.subarray(0, 100), "content-range": `bytes 0-99/${data.length}` })),
    "no such range": altered(() => ({ status: 416 })),
    "not there": altered(() => ({ status: 404, body: "not here" })),
    "broken off": async (response, headers, file) => {
      const data = await readFile(file);
      response.writeHead(200, { ...headers, "content-length": data.length });
      response.write(data.subarray(0, 1000), () => response.destroy());
    },
    "shorter than it says": async (response, headers, file) => {
      const data = await readFile(file);
      response.writeHead(200, { ...headers, "content-length": data.length + 10 });
      response.write(data, () => response.destroy());
    },
  };
  for (const [what, answer] of Object.entries(wrong)) {
    site.answers[WEIGHTS] = answer;
    assert.match(await coding(page), /^network: .*tiny/, what);
    assert.deepEqual(await keptModels(page), [], what);
  }
  site.answers = {};
  assert.equal(await coding(page), "good");
});

test("weights may come packed, packed by what the server says, and unpacked", { skip: missing }, async (t) => {
  const good = {
    "as they lie there": undefined,
    "as the server says": altered((data) => ({ body: data, "content-encoding": "gzip" })),
    unpacked: altered((data) => ({ body: gunzipSync(data) })),
  };
  for (const [what, answer] of Object.entries(good)) {
    const { site, page } = await opened(t);
    if (answer) site.answers[WEIGHTS] = answer;
    assert.equal(await coding(page), "good", what);
  }
});

test("weights that unpack to more than is listed are refused", { skip: missing }, async (t) => {
  const { site, page } = await opened(t);
  site.answers[WEIGHTS] = altered(() => ({ body: gzipSync(Buffer.alloc(2 ** 24)) }));
  assert.match(await coding(page), /^network: .*it has more than \d+ bytes/);
  assert.deepEqual(await keptModels(page), []);
});

test("a list of models that is none is told", { skip: missing }, async (t) => {
  const { site, page } = await opened(t);
  const listed = (change) => altered((data) => ({ body: JSON.stringify(change(JSON.parse(data))) }));
  const lists = [
    () => null,
    () => [],
    () => ({ models: {} }),
    ({ models: [model] }) => ({ models: [{ ...model, sha256: undefined }] }),
    ({ models: [model] }) => ({ models: [{ ...model, hash: "" }] }),
    ({ models: [model] }) => ({ models: [{ ...model, hash: "0".repeat(16) }] }),
    ({ models: [model] }) => ({ models: [{ ...model, bytes: "1" }] }),
  ];
  for (const change of lists) {
    site.answers["models/index.json"] = listed(change);
    assert.match(await coding(page), /^network: .*isn't a list of models/, String(change));
  }
});

test("what the browser keeps of a model is checked, and fetched again if it was damaged", { skip: missing }, async (t) => {
  const { site, page } = await opened(t);
  assert.equal(await coding(page), "good");
  const [bytes] = await keptModels(page);
  await page.reload();
  assert.equal(await coding(page), "good");
  assert.equal(count(site, WEIGHTS), 1);
  await page.evaluate(async () => {
    const cache = await caches.open("hpcm-models");
    const [key] = await cache.keys();
    await cache.put(key, new Response("damaged"));
    await cache.put(key.url.replace(/\?.*/, "?anotherrelease"), new Response("old"));
  });
  await page.reload();
  assert.equal(await coding(page), "good");
  assert.equal(count(site, WEIGHTS), 2);
  assert.deepEqual(await keptModels(page), [bytes]);
});

test("an answer that the browser keeps by itself is asked for anew", { skip: missing }, async (t) => {
  const { site, page } = await opened(t);
  const stored = { "cache-control": "max-age=10000" };
  site.answers[WEIGHTS] = (response, headers) => portal(response, { ...headers, ...stored });
  await page.evaluate((path) => fetch(path).then((answer) => answer.text()), WEIGHTS);
  site.answers = {};
  assert.equal(await coding(page), "good");
});

test("the type of a .wasm file doesn't matter, that of the worker does", { skip: missing }, async (t) => {
  for (const type of ["application/octet-stream", "text/plain"]) {
    const { site, page } = await opened(t);
    const typed = altered((body) => ({ body, "content-type": type }));
    site.answers = { "hpcm.wasm": typed, "hpcm-threads.wasm": typed };
    assert.equal(await coding(page), "good");
    await page.reload();
    site.answers = { "worker.js": typed };
    assert.match(await coding(page), /^network: .*worker\.js can't be loaded: .*type isn't that of JavaScript/);
  }
});

test("without a connection that is said, and with one it goes on", { skip: missing }, async (t) => {
  const { page, context } = await opened(t);
  await page.evaluate(() => import(new URL("hpcm-web.js", document.baseURI).href).then(({ models }) => models()));
  await context.setOffline(true);
  assert.match(await coding(page), /^network: .*the browser is offline/);
  await context.setOffline(false);
  assert.equal(await coding(page), "good");
});

test("a download that stalls is given up when the caller says so", { skip: missing }, async (t) => {
  const { site, page } = await opened(t);
  const stalled = new Promise((asked) => {
    site.answers[WEIGHTS] = (response, headers) => {
      response.writeHead(200, headers).write("x");
      asked();
    };
  });
  const begun = page.evaluate(async () => {
    const hpcm = await import(new URL("hpcm-web.js", document.baseURI).href);
    window.abort = new AbortController();
    return hpcm.encode(new ImageData(8, 8), { signal: window.abort.signal }).catch(({ code }) => code);
  });
  await stalled;
  await page.evaluate(() => window.abort.abort());
  assert.equal(await begun, "aborted");
  site.answers = {};
  assert.equal(await coding(page), "good");
});

// ---- what the browser lacks ------------------------------------------------------------------------------------------

test("a browser without SIMD, or without WebAssembly, is told", { skip: missing }, async (t) => {
  for (const code of ["WebAssembly.validate = () => false", "delete self.WebAssembly"]) {
    const { site, page } = await opened(t);
    site.answers["worker.js"] = inWorker(code);
    assert.match(await coding(page), /^unsupported: this browser has no WebAssembly SIMD/);
  }
});

test("where WebAssembly is forbidden that is said", { skip: missing }, async (t) => {
  const { site, page } = await opened(t);
  site.headers["content-security-policy"] = "script-src 'self'";
  assert.match(await coding(page, { threads: 1 }), /^unsupported: this browser can't run hpcm\.wasm/);
});

test("memory that is short is told, given back, and smaller pictures are coded", { skip: missing }, async (t) => {
  const { site, page } = await opened(t);
  const limit = "const { Memory } = WebAssembly; WebAssembly.Memory = function (asked) { return new Memory({ ...asked, maximum: 400 }); }";
  site.answers["worker.js"] = inWorker(limit);
  assert.equal(await coding(page, { threads: 2 }), "good");
  assert.match(await coding(page, {}, 1200), /^memory: there is too little memory/);
  assert.equal(await coding(page), "good");
  assert.equal(count(site, "hpcm-threads.wasm"), 2); // anew
});

test("where no memory can be shared there is one thread", { skip: missing }, async (t) => {
  const { site, page } = await opened(t);
  const refusal = "WebAssembly.Memory = function () { throw new RangeError('could not allocate memory'); }";
  site.answers["worker.js"] = inWorker(refusal);
  assert.equal(await coding(page, { threads: 2 }), "good");
  assert.equal(count(site, "hpcm.wasm"), 1);
});

test("where storage is forbidden or full the codec works and keeps nothing", { skip: missing }, async (t) => {
  const forbidden = "caches.open = () => Promise.reject(new DOMException('no', 'SecurityError'))";
  const broken = "Cache.prototype.match = () => Promise.reject(new Error('no')); Cache.prototype.delete = Cache.prototype.match";
  for (const code of [forbidden, broken, "Object.defineProperty(self, 'caches', { value: undefined })"]) {
    const { site, page } = await opened(t);
    site.answers["worker.js"] = inWorker(code);
    assert.equal(await coding(page), "good", code);
    assert.deepEqual(await keptModels(page), []);
  }
  const { site, page, context } = await opened(t);
  const session = await context.newCDPSession(page);
  await session.send("Storage.overrideQuotaForOrigin", { origin: new URL(site.url).origin, quotaSize: 1000 });
  assert.equal(await coding(page), "good");
  assert.deepEqual(await keptModels(page), []);
});

test("a page of neither https nor localhost works, in one thread", { skip: missing }, async (t) => {
  const { site, page } = await opened(t);
  await page.goto(site.url.replace("127.0.0.1", INSECURE) + "licenses.txt");
  assert.equal(await page.evaluate(() => isSecureContext), false);
  assert.equal(await coding(page), "good");
  assert.equal(count(site, "hpcm-threads.wasm"), 0);
  site.answers[WEIGHTS] = portal;
  await page.reload();
  assert.match(await coding(page), /^network: .*isn't the model tiny/);
});

// ---- threads and workers ---------------------------------------------------------------------------------------------

test("any number of threads computes the same, and one does where the page isn't isolated", { skip: missing }, async (t) => {
  for (const [threads, isolated, file] of [[1, true, "hpcm.wasm"], [3, true, "hpcm-threads.wasm"], [8, true, "hpcm-threads.wasm"], [3, false, "hpcm.wasm"]]) {
    const { site, page } = await opened(t);
    if (!isolated) site.headers = {};
    await page.reload();
    assert.equal(await coding(page, { threads }, 300), "good");
    assert.deepEqual(site.asked.filter((name) => name.endsWith(".wasm")), [file]);
    assert.equal(count(site, "worker.js"), isolated ? threads : 1);
  }
  const { page } = await opened(t);
  for (const threads of [0, -1, 1.5, "2", null]) {
    const code = await page.evaluate(async (threads) => {
      const hpcm = await import(new URL("hpcm-web.js", document.baseURI).href);
      try {
        hpcm.configure({ threads });
      } catch (error) {
        return error.code;
      }
    }, threads);
    assert.equal(code, "usage");
  }
});

test("threads that can't be started, or are of another release, are done without", { skip: missing }, async (t) => {
  const { site, page } = await opened(t);
  let asked = 0;
  const later = (answer) => async (response, headers, file) => (asked++ ? answer : altered((body) => ({ body })))(response, headers, file);
  for (const answer of [portal, async (...given) => altered(() => ({ body: "throw new Error('no')" }))(...given)]) {
    asked = 0;
    site.answers["worker.js"] = later(answer);
    await page.reload();
    assert.equal(await coding(page, { threads: 3 }, 200), "good");
    assert.equal(asked, 3);
  }
  await page.reload();
  site.answers = {};
  assert.equal(await coding(page, { threads: 3 }, 200), "good");
  assert.equal(page.workers().length, 3);
  asked = 0;
  site.answers["worker.js"] = later(async (response, headers) => response.writeHead(200, headers).end(await readFile(join(releaseOf("two"), "worker.js"))));
  await page.reload();
  assert.equal(await coding(page, { threads: 3 }, 200), "good");
  assert.equal(page.workers().length, 1);
});

test("a thread that fails is told, and the next call starts anew", { skip: missing }, async (t) => {
  const { site, page } = await opened(t);
  // Threads get a stack of no room, so that they fail as soon as they compute.
  site.answers["worker.js"] = inWorker("self.addEventListener('message', ({ data }) => { if (data.thread) data.thread.stack = 16; })");
  assert.match(await coding(page, { threads: 2 }, 300), /^lost: a thread failed: /);
  site.answers = {};
  assert.equal(await coding(page, {}, 300), "good");
});

test("a worker that fails is told to all who wait for it, and the next call starts another", { skip: missing }, async (t) => {
  const { site, page } = await opened(t);
  const crash = "self.addEventListener('message', ({ data }) => { if (data.given?.quality === 7) throw new Error('broken'); })";
  site.answers["worker.js"] = inWorker(crash);
  const codes = await page.evaluate(async () => {
    const hpcm = await import(new URL("hpcm-web.js", document.baseURI).href);
    const codeOf = (promise) => promise.then(() => "good", ({ code, message }) => `${code} ${message}`);
    const image = new ImageData(40, 40);
    const latents = await hpcm.analyse(image);
    const pending = [latents.encode(50), latents.encode(7), hpcm.analyse(image), hpcm.models()].map(codeOf);
    const lost = await Promise.all(pending);
    return [...lost, await codeOf(latents.encode(50)), await codeOf(hpcm.encode(image)), await codeOf(latents.encode(50))];
  });
  assert.equal(codes.length, 7);
  for (const code of codes.slice(1, 4)) assert.match(code, /^lost the worker failed: .*broken/);
  assert.match(codes[4], /^lost the worker that had looked at the picture ended/);
  assert.equal(codes[5], "good");
  assert.match(codes[6], /^lost /);
});

test("an error that isn't foreseen ends the worker", { skip: missing }, async (t) => {
  const { site, page } = await opened(t);
  const broken = `const { instantiate } = WebAssembly;
    WebAssembly.instantiate = async (...given) => {
      const { exports } = await instantiate(...given);
      return { exports: { ...exports, hpcm_encode: () => { throw new WebAssembly.RuntimeError("unreachable"); } } };
    }`;
  site.answers["worker.js"] = inWorker(broken);
  assert.match(await coding(page, { threads: 1 }), /^lost: the worker failed: .*unreachable/);
  site.answers = {};
  assert.equal(await coding(page), "good");
});

test("what isn't a file is refused, and a file that has gone is told", { skip: missing }, async (t) => {
  const { page } = await opened(t);
  const codes = await page.evaluate(async () => {
    const hpcm = await import(new URL("hpcm-web.js", document.baseURI).href);
    const codeOf = (work) => work.then(() => "good", ({ code }) => code);
    const gone = Object.assign(new Blob(["x"]), { arrayBuffer: () => Promise.reject(new DOMException("gone", "NotReadableError")) });
    const data = [undefined, null, "text", [1, 2], 5, new Float32Array(4), gone, new Blob(["x"]), new Uint8Array(3)];
    const images = [undefined, null, "text", new Blob(["x"]), { data: new Uint8Array(5), width: 1, height: 1 }];
    return [await Promise.all(data.map((each) => codeOf(hpcm.decode(each)))), await Promise.all(images.map((each) => codeOf(hpcm.encode(each))))];
  });
  assert.deepEqual(codes[0], ["usage", "usage", "usage", "usage", "usage", "usage", "picture", "format", "format"]);
  assert.deepEqual(codes[1], Array(5).fill("picture"));
});
