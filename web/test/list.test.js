/** Several files at once, and the page on a phone. */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { unpack } from "../src/container.js";
import { crc32 } from "../src/wire.js";
import { missing } from "./chromium.js";
import { PHONE, QUICK, calls, download, golden, held, loseWorker, open, page, pathOf, sample, settled, shows } from "./page.js";

const FINGER = 44; // CSS pixels
const NANO = "models/nano-1.safetensors.gz";
const samples = ["parrots", "plane"].map((name) => fileURLToPath(new URL(`../page/samples/${name}.webp`, import.meta.url)));

const states = (p) => p.locator("#entries li").evaluateAll((rows) => rows.map((row) => row.dataset.state));
const sizes = (p) => p.locator("#entries .sizes").allInnerTexts();
const worked = (p) =>
  p.waitForFunction(() => {
    const states = [...document.querySelectorAll("#entries li")].map((row) => row.dataset.state);
    return states.length && states.every((state) => state === "done" || state === "failed");
  });
const listed = (p) => p.waitForSelector('body[data-view="list"]');

/** The files in a zip without compression, by name. */
function unzipped(data) {
  const view = new DataView(data.buffer, data.byteOffset);
  const text = (from, length) => new TextDecoder().decode(data.subarray(from, from + length));
  const end = data.length - 22; // without a comment
  assert.equal(view.getUint32(end, true), 0x06054b50);
  const files = {};
  let at = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left; left--) {
    const [method, name, extra, comment] = [10, 28, 30, 32].map((field) => view.getUint16(at + field, true));
    const [crc, size, offset] = [16, 24, 42].map((field) => view.getUint32(at + field, true));
    const begin = offset + 30 + view.getUint16(offset + 26, true) + view.getUint16(offset + 28, true);
    const file = data.subarray(begin, begin + size);
    assert.deepEqual([method, crc], [0, crc32(file)]);
    files[text(at + 46, name)] = file;
    at += 46 + name + extra + comment;
  }
  return files;
}

test("several files become a list: each with its sizes, failures in one line, all in one zip", { skip: missing }, async (t) => {
  await writeFile(pathOf("none.png"), "no picture");
  const p = await page(t, QUICK);
  await open(p, [...samples, pathOf("none.png"), golden("progressive.hpcm"), golden("progressive.hpcm")]);
  await listed(p);
  await worked(p);
  assert.equal(await p.locator("h1:visible").innerText(), "5 files");
  assert.deepEqual(await states(p), ["done", "done", "failed", "done", "done"]);
  const [parrots, , none, file] = await sizes(p);
  assert.match(parrots, /^134 kB → [\d.]+ kB, [\d.]+ times smaller$/);
  assert.equal(none, "none.png isn't a picture that this browser can open.");
  assert.match(file, /^4.03 kB → \d+ kB$/);
  assert.match(await p.locator("#saving").innerText(), /^[\d.]+ times smaller$/);
  assert.match(await p.locator("#saving-detail").innerText(), /^[89]\d% less than the 2 pictures$/);

  const files = unzipped(await readFile(await download(p, "#save-all")));
  assert.deepEqual(Object.keys(files), ["parrots.hpcm", "plane.hpcm", "progressive.png", "progressive (2).png"]);
  assert.equal(unpack(Uint8Array.from(files["parrots.hpcm"])).width, 768);
  assert.deepEqual([...files["progressive.png"].subarray(1, 4)], [...Buffer.from("PNG")]);
});

test("an entry opens in the comparison, and Back leads to the list", { skip: missing }, async (t) => {
  const p = await page(t, QUICK);
  await open(p, [...samples, golden("progressive.hpcm")]);
  await worked(p);
  await p.fill("#quality", "20");
  await worked(p);
  const before = await sizes(p);
  await p.click("#entries li:nth-child(2) button");
  await settled(p);
  assert.equal(await p.locator("h1:visible").innerText(), "plane.webp");
  assert.equal(await p.inputValue("#quality"), "20");
  await p.fill("#quality", "70"); // of this picture alone
  await settled(p);
  await p.goBack();
  await listed(p);
  assert.equal(await p.locator("button:focus .name").innerText(), "plane.webp");
  assert.equal(await p.inputValue("#quality"), "20");
  assert.deepEqual(await sizes(p), before);

  await p.click("#entries li:nth-child(3) button");
  await p.waitForSelector('body[data-view="opened"]');
  await settled(p);
  await open(p, samples); // more files join the list
  await listed(p);
  await worked(p);
  assert.equal((await states(p)).length, 5);
  await p.goBack();
  await p.waitForSelector('body[data-view="start"]');
});

test("other settings compress the pictures of a list again", { skip: missing }, async (t) => {
  const p = await page(t, QUICK);
  await open(p, [samples[0], golden("progressive.hpcm")]);
  await worked(p);
  const [before, file] = await sizes(p);
  await p.fill("#quality", "90");
  await worked(p);
  const [after, same] = await sizes(p);
  assert.notEqual(after, before);
  assert.equal(same, file);
  await p.selectOption("#model", "lite-mse-1");
  await worked(p);
  assert.notEqual((await sizes(p))[0], after);
  assert.deepEqual(await calls(p, ["analyse"]), ["analyse nano-1", "analyse nano-1", "analyse lite-mse-1"]);
});

test("what is finished with settings of before is done again", { skip: missing }, async (t) => {
  const compressed = async (begin, change) => {
    const p = await page(t, { ...QUICK, change });
    await p.evaluate(() => { // what is under way isn't stopped in time
      const { postMessage } = Worker.prototype;
      Worker.prototype.postMessage = function (message, ...rest) {
        if (message.call !== "abort") postMessage.call(this, message, ...rest);
      };
    });
    await open(p, [samples[0], golden("progressive.hpcm")]);
    await begin(p);
    await p.fill("#quality", "90");
    return p;
  };
  const line = held();
  const p = await compressed(
    (p) => shows(p, "#entries .state", /^Loading the quick model/),
    (server) => (server.answers[NANO] = line.answer),
  );
  line.release();
  await worked(p);
  const q = await compressed(worked);
  await worked(q);
  assert.deepEqual(await sizes(p), await sizes(q));
});

test("a list is stopped as a whole, and goes on", { skip: missing }, async (t) => {
  const line = held();
  const p = await page(t, { ...QUICK, change: (server) => (server.answers[NANO] = line.answer) });
  await open(p, samples);
  await shows(p, "#entries .state", /^Loading the quick model/);
  await p.keyboard.press("Escape");
  await shows(p, "#notice", /^Stopped./);
  await p.waitForFunction(() => !document.querySelector('[data-state="working"]'));
  assert.deepEqual(await states(p), ["waiting", "waiting"]);
  assert.equal(await p.isDisabled("#save-all"), true);
  line.release();
  await p.click("#notice .action");
  await worked(p);
  assert.deepEqual(await states(p), ["done", "done"]);
});

test("if the worker ends an entry of a list is done again", { skip: missing }, async (t) => {
  const line = held();
  const change = (server) => (server.answers[NANO] = line.answer);
  const p = await page(t, { ...QUICK, change, allowed: /nonsense|not a function/ });
  await open(p, samples);
  await shows(p, "#entries .state", /^Loading the quick model/);
  await loseWorker(p);
  line.release();
  await worked(p);
  assert.deepEqual(await states(p), ["done", "done"]);
});

for (const width of [320, 360]) {
  test(`a phone of ${width} pixels has no horizontal scroll, and its buttons fit a finger`, { skip: missing }, async (t) => {
    const p = await page(t, { ...QUICK, ...PHONE, viewport: { width, height: 740 } });
    const fits = async () => {
      assert.equal(await p.evaluate(() => document.documentElement.scrollWidth), width);
      for (const button of await p.locator("button:visible, select:visible, #quality:visible, a:visible").all()) {
        const box = await button.boundingBox();
        const name = await button.evaluate((element) => element.id || element.outerHTML);
        assert.ok(box.x >= 0 && box.x + box.width <= width, `${name} is outside`);
        assert.ok(box.height >= FINGER && box.width >= FINGER, `${name} has ${box.width} x ${box.height}`);
      }
    };
    const tall = async () => {
      const { height } = await p.locator("#stage").boundingBox();
      assert.ok(height > 740 / 2, `the picture has ${height} pixels of height`);
    };
    await fits();
    await sample(p);
    await fits();
    await tall();
    await open(p, golden("progressive.hpcm"));
    await p.waitForSelector('body[data-view="opened"]');
    await settled(p);
    await fits();
    await tall();
    await open(p, [...samples, golden("progressive.hpcm")]);
    await worked(p);
    await fits();
    await p.click("#about");
    await fits();
  });
}
