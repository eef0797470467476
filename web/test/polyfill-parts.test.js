/** What the polyfill is made of, without a browser: PNGs, smaller pictures, lists of candidates, the queue, names. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { inflateSync } from "node:zlib";
import { Codec } from "../src/codec.js";
import { unpack } from "../src/container.js";
import { encodePng, profileChunk } from "../src/png.js";
import { SMALLEST, beginsAsHpcm, isHpcm } from "../src/polyfill/names.js";
import { Queue } from "../src/polyfill/queue.js";
import { Reduced, factorOf } from "../src/reducing.js";
import { crc32 } from "../src/wire.js";
import { loadCore } from "./core.js";
import { RELEASED } from "./server.js";

const GOLDEN = fileURLToPath(new URL("../../tests/golden/", import.meta.url));

/** A PNG's pieces by their kinds, whose CRCs are right. */
function piecesOf(png) {
  assert.deepEqual([...png.subarray(0, 8)], [137, 80, 78, 71, 13, 10, 26, 10]);
  const view = new DataView(png.buffer, png.byteOffset, png.byteLength);
  const pieces = {};
  for (let at = 8; at < png.length; ) {
    const size = view.getUint32(at);
    assert.equal(view.getUint32(at + 8 + size), crc32(png.subarray(at + 4, at + 8 + size)));
    pieces[String.fromCharCode(...png.subarray(at + 4, at + 8))] = png.subarray(at + 8, at + 8 + size);
    at += 12 + size;
  }
  return pieces;
}

test("a PNG has each picture's samples, and the ICC profile", async () => {
  const [width, height] = [211, 173]; // more bytes than a block that is stored
  const data = Uint8ClampedArray.from({ length: 4 * width * height }, (_, i) => (i * i) % 251);
  const icc = Uint8Array.from({ length: 70_000 }, (_, i) => i % 253);
  const chunks = [await profileChunk(icc)];
  for (const [grey, alpha, colour, samples] of [[false, false, 2, [0, 1, 2]], [false, true, 6, [0, 1, 2, 3]], [true, false, 0, [0]], [true, true, 4, [0, 3]]]) {
    const { IHDR, IDAT, iCCP } = piecesOf(encodePng({ data, width, height }, grey, chunks, alpha));
    assert.deepEqual([...IHDR], [0, 0, 0, width, 0, 0, 0, height, 8, colour, 0, 0, 0]);
    const rows = inflateSync(IDAT); // checks Adler-32
    assert.equal(rows.length, (samples.length * width + 1) * height);
    for (const [x, y] of [[0, 0], [width - 1, 0], [17, 90], [width - 1, height - 1]]) {
      const at = y * (samples.length * width + 1) + 1 + samples.length * x;
      assert.deepEqual([...rows.subarray(at, at + samples.length)], samples.map((k) => data[4 * (y * width + x) + k]));
    }
    assert.deepEqual(new Uint8Array(inflateSync(iCCP.subarray(5))), icc); // after the name "ICC" and the method
  }
});

test("a smaller picture is the mean of the whole one, in whatever parts it comes", () => {
  const [width, height, every] = [50, 37, 7];
  const samples = Uint8Array.from({ length: 3 * width * height }, (_, i) => (i * i) % 256);
  const reduced = new Reduced([height, width], every);
  for (const box of [[0, 0, 20, 37], [20, 0, 50, 11], [20, 11, 50, 37]]) {
    const [left, top, right, bottom] = box;
    const part = [];
    for (let y = top; y < bottom; y++) part.push(...samples.subarray(3 * (y * width + left), 3 * (y * width + right)));
    reduced.add(box, Uint8Array.from(part), false);
  }
  const { data, ...size } = reduced.pixels();
  assert.deepEqual(size, { width: 8, height: 6 });
  for (const [column, row] of [[0, 0], [3, 2], [7, 5]]) {
    const seen = [];
    for (let y = row * every; y < Math.min((row + 1) * every, height); y++) {
      for (let x = column * every; x < Math.min((column + 1) * every, width); x++) seen.push(samples[3 * (y * width + x)]);
    }
    assert.ok(Math.abs(data[4 * (row * 8 + column)] - seen.reduce((sum, each) => sum + each) / seen.length) <= 0.5);
  }
});

test("a file that is reduced part by part is the reduced picture", async () => {
  const codec = await Codec.load(await loadCore(), new Uint8Array(await readFile(`${GOLDEN}tiny.safetensors`)));
  const container = unpack(new Uint8Array(await readFile(`${GOLDEN}tiny.hpcm`)));
  const { data, width, height } = await codec.decode(container);
  const expected = new Reduced([height, width], 3);
  expected.add([0, 0, width, height], data.filter((_, i) => i % 4 < 3), false);
  assert.deepEqual(await codec.reduced(container, 3), expected.pixels());
});

test("by how much a picture may be reduced", () => {
  const size = { width: 4000, height: 3000 };
  for (const [within, every] of [[[400, 300], 10], [[401, 300], 9], [[400, 3000], 1], [[9000, 9000], 1], [[2001, 10], 1], [[2000, 10], 2]]) {
    assert.equal(factorOf(size, within), every, String(within));
  }
});

test("candidates: only the URL that was chosen is replaced", async () => {
  globalThis.document = { baseURI: "https://example.org/folder/" };
  const { replaced } = await import("../src/polyfill/srcset.js");
  const from = "https://example.org/folder/a.hpcm";
  for (const [list, expected] of [
    ["a.hpcm", "blob:x"],
    ["a.hpcm 1x, b.hpcm 2x", "blob:x 1x, b.hpcm 2x"],
    ["b.hpcm 100w,\n  a.hpcm   200w", "b.hpcm 100w,\n  blob:x   200w"],
    ["b.hpcm, a.hpcm 2x", "b.hpcm, blob:x 2x"],
    ["https://example.org/folder/a.hpcm 2x, b,c.hpcm 3x", "blob:x 2x, b,c.hpcm 3x"],
    ["a.hpcm?1 2x, ../a.hpcm 3x", "a.hpcm?1 2x, ../a.hpcm 3x"],
    ["", ""],
  ]) {
    assert.equal(replaced(list, from, "blob:x"), expected);
  }
});

test("the queue does a few things at once, the most urgent first, whatever becomes of them", async () => {
  const queue = new Queue(2);
  const done = [];
  let [now, most] = [0, 0];
  const work = (name) => async () => {
    most = Math.max(most, ++now);
    await new Promise((go) => setTimeout(go, 5));
    now--;
    done.push(name);
    if (name === 3) throw new Error("three");
  };
  const urgency = { 1: 9, 2: 9, 3: 5, 4: 1, 5: 7, 6: 0 };
  const ends = await Promise.allSettled(Object.entries(urgency).map(([name, value]) => queue.add(work(Number(name)), () => value)));
  assert.deepEqual([most, done], [2, [1, 2, 6, 4, 3, 5]]);
  assert.deepEqual(ends.map(({ status }) => status), ["fulfilled", "fulfilled", "rejected", "fulfilled", "fulfilled", "fulfilled"]);
});

test("which URLs and bytes are those of a .hpcm file", async () => {
  for (const url of ["https://a.org/b.hpcm", "http://a.org/B.HPCM?x=1#y"]) assert.ok(isHpcm(url), url);
  for (const url of ["https://a.org/b.hpcm.png", "https://a.org/?b.hpcm", "blob:https://a.org/b.hpcm", "data:image/x-hpcm,b.hpcm", "b.hpcm", "", undefined]) assert.ok(!isHpcm(url), url);
  assert.ok(beginsAsHpcm(await readFile(`${GOLDEN}tiny.hpcm`)));
  for (const bytes of [[], [0x89, 0x48, 0x50], [0x89, 0x50, 0x4e, 0x47]]) assert.ok(!beginsAsHpcm(Uint8Array.from(bytes)));
});

test("what a browser is tried with is a file of this version of the format", async () => {
  const codec = await Codec.load(await loadCore(), new Uint8Array(await readFile(RELEASED["nano-1"])));
  const container = unpack(new Uint8Array(Buffer.from(SMALLEST, "base64")));
  const { width, height } = await codec.decode(container);
  assert.deepEqual([width, height], [1, 1]);
});
