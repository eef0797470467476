/** <hpcm-img> in a real browser: what it shows of a file that comes, and of one that is still on its way. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { missing } from "./chromium.js";
import { opened } from "./faulty.js";

/** Imports the element, and makes a file of 300 x 200 pixels. @returns {Promise<Buffer>} */
async function prepared(page, progressive, lossless = false) {
  const file = await page.evaluate(async ([progressive, lossless]) => {
    const module = (name) => import(new URL(name, document.baseURI).href);
    await module("hpcm-img.js");
    const { encode } = await module("hpcm-web.js");
    const data = Uint8ClampedArray.from({ length: 4 * 300 * 200 }, (_, i) => (i % 4 === 3 ? 255 : (i * i) % 251));
    const { drawImage } = CanvasRenderingContext2D.prototype;
    window.drawn = 0;
    CanvasRenderingContext2D.prototype.drawImage = function (...given) {
      window.drawn++;
      return drawImage.apply(this, given);
    };
    return [...(await encode(new ImageData(data, 300, 200), { quality: 60, progressive, lossless }))];
  }, [progressive, lossless]);
  return Buffer.from(file);
}

/** Puts an element into the page. @returns {Promise<string[]>} which events it had when the first of them came */
const show = (page, src = "photo.hpcm") =>
  page.evaluate((src) => {
    const element = Object.assign(document.createElement("hpcm-img"), { id: "shown" });
    window.events = [];
    const ended = ["load", "error"].map(
      (name) => new Promise((done) => element.addEventListener(name, ({ detail }) => done(window.events.push(detail ? `${name}: ${detail.code}: ${detail.message}` : name)))),
    );
    element.setAttribute("src", src);
    document.body.append(element);
    window.ended = Promise.race(ended).then(() => window.events);
  }, src);

const ended = (page) => page.evaluate(() => window.ended);
const drawn = (page) => page.evaluate(() => window.drawn);

/** Sends a beginning, and the rest when that is asked for. */
function slowly(site, data, share) {
  let send;
  site.answers["photo.hpcm"] = (response, headers) => {
    response.writeHead(200, headers).write(data.subarray(0, share * data.length));
    send = () => response.end(data.subarray(share * data.length));
  };
  return () => send();
}

test("what comes at once is decoded once", { skip: missing }, async (t) => {
  const { site, page } = await opened(t);
  const data = await prepared(page, true);
  site.answers["photo.hpcm"] = (response, headers) => response.writeHead(200, headers).end(data);
  await show(page);
  assert.deepEqual(await ended(page), ["load"]);
  assert.equal(await drawn(page), 1);
});

test("while a file is on its way its beginning is shown, then the whole", { skip: missing }, async (t) => {
  const { site, page } = await opened(t);
  const rest = slowly(site, await prepared(page, true), 0.9);
  await show(page);
  await page.waitForFunction(() => window.drawn === 1);
  const size = await page.evaluate(() => {
    const { width, height } = document.querySelector("#shown").shadowRoot.querySelector("canvas");
    return [width, height, window.events.length];
  });
  assert.deepEqual(size, [300, 200, 0]);
  rest();
  assert.deepEqual(await ended(page), ["load"]);
  assert.equal(await drawn(page), 2);
});

test("while the rest of a lossless file is on its way its lossy picture is shown", { skip: missing }, async (t) => {
  for (const progressive of [false, true]) {
    const { site, page } = await opened(t);
    const rest = slowly(site, await prepared(page, progressive, true), 0.95);
    await show(page);
    await page.waitForFunction(() => window.drawn === 1);
    rest();
    assert.deepEqual(await ended(page), ["load"]);
    assert.equal(await drawn(page), 2);
  }
});

test("of a file that isn't progressive, or whose first scale isn't there, or that is there, nothing is shown before the end", { skip: missing }, async (t) => {
  for (const [progressive, share] of [[false, 0.9], [true, 0.01], [true, 1]]) {
    const { site, page } = await opened(t);
    const rest = slowly(site, await prepared(page, progressive), share);
    await show(page);
    await page.evaluate(async () => {
      const { models } = await import(new URL("hpcm-web.js", document.baseURI).href);
      for (let i = 0; i < 3; i++) await Promise.all([models(), new Promise((done) => setTimeout(done, 400))]); // time enough to look
    });
    assert.equal(await drawn(page), 0);
    rest();
    assert.deepEqual(await ended(page), ["load"]);
    assert.equal(await drawn(page), 1);
  }
});

test("what can't be shown is told, once", { skip: missing }, async (t) => {
  const { site, page } = await opened(t);
  const data = await prepared(page, true);
  site.answers["broken.hpcm"] = (response, headers) => {
    response.writeHead(200, { ...headers, "content-length": data.length });
    response.write(data.subarray(0, 500), () => response.destroy());
  };
  site.answers["damaged.hpcm"] = (response, headers) => response.writeHead(200, headers).end(Buffer.concat([data.subarray(0, -1), Buffer.from([data.at(-1) ^ 1])]));
  for (const [src, code] of [["broken.hpcm", "network"], ["damaged.hpcm", "corrupt"], ["missing.hpcm", "network"], ["icon.svg", "format"]]) {
    await show(page, src);
    const [event, ...others] = await ended(page);
    assert.match(event, new RegExp(`^error: ${code}: `), src);
    assert.deepEqual(others, []);
  }
  assert.equal(await drawn(page), 0);
});

test("an element that is taken away, or gets another source, forgets the first", { skip: missing }, async (t) => {
  const { site, page } = await opened(t);
  const data = await prepared(page, true);
  slowly(site, data, 0.01);
  site.answers["other.hpcm"] = (response, headers) => response.writeHead(200, headers).end(data);
  await show(page);
  await page.evaluate(() => document.querySelector("#shown").setAttribute("src", "other.hpcm"));
  assert.deepEqual(await ended(page), ["load"]);
  const after = await page.evaluate(async () => {
    const element = document.querySelector("#shown");
    element.setAttribute("src", "photo.hpcm");
    element.remove();
    const { models } = await import(new URL("hpcm-web.js", document.baseURI).href);
    await models();
    return window.events;
  });
  assert.deepEqual(after, ["load"]);
});
