/** Residual layers in Node: lossless files, and what is shown before and without them. Needs build/wasm. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { Codec, isWhole } from "../src/codec.js";
import { isBesideGrey, pack, residualProgressOf, unpack } from "../src/container.js";
import { loadCore } from "./core.js";

const weights = new Uint8Array(readFileSync(new URL("../../tests/golden/tiny.safetensors", import.meta.url)));
const TILE = 1024; // pixels of each side, of what JavaScript encodes

/** A picture with noise, so that no neighbours are equal but by chance. */
function noisy(width, height) {
  let seed = 1;
  const noise = () => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) >>> 27;
  const data = new Uint8Array(4 * width * height).fill(255);
  for (let i = 0; i < data.length; i += 4) {
    const [x, y] = [(i / 4) % width, Math.floor(i / 4 / width)];
    data.set([x / 8 + noise(), y / 3 + noise(), 90 + noise()], i);
  }
  return { data, width, height };
}

/** A picture of areas of one colour. */
function drawing(width, height) {
  const data = Uint8Array.from({ length: 4 * width * height }, (_, i) => {
    const [x, y] = [(i >> 2) % width, Math.floor((i >> 2) / width)];
    return i % 4 === 3 ? 255 : 40 * (i % 4) + 60 * ((x >> 4) % 2) + 50 * ((y >> 3) % 3);
  });
  return { data, width, height };
}

const codec = await Codec.load(await loadCore(), weights);

/** A lossless file, taken apart. */
async function lossless(image, how = {}) {
  return unpack(await codec.encodeWithin(await codec.analyse(image), 0, how));
}

/** A file with other tiles, as far as `change` gives some. */
function changed(container, change) {
  return unpack(pack({ ...container, tiles: container.tiles.map((tile, i) => change(tile, i) || tile) }));
}

test("pictures of all sizes come back as they were, on one thread and on several", async () => {
  const several = await Codec.load(await loadCore(3), weights);
  for (const [width, height] of [[1, 1], [7, 1], [1, 130], [65, 64], [200, 150], [2 * TILE + 5, 33]]) {
    const image = noisy(width, height);
    const file = await codec.encodeWithin(await codec.analyse(image), 0);
    assert.deepEqual(await several.encodeWithin(await several.analyse(image), 0), file, `${width} x ${height}`);
    for (const each of [codec, several]) assert.deepEqual(new Uint8Array((await each.decode(unpack(file))).data), image.data);
  }
});

test("no sample is off by more than is promised, and the file is smaller for it", async () => {
  const image = noisy(120, 90);
  const latents = await codec.analyse(image);
  let before = Infinity;
  for (const most of [0, 1, 4, 20]) {
    const file = await codec.encodeWithin(latents, most);
    const { data } = await codec.decode(unpack(file));
    const worst = data.reduce((worst, sample, i) => Math.max(worst, Math.abs(sample - image.data[i])), 0);
    assert.ok(worst <= most && file.length < before, `${most}: ${worst}, ${file.length} bytes`);
    before = file.length;
  }
});

test("the lossy picture comes first, all of it, then what it lacks", async () => {
  const image = noisy(TILE + 40, 60);
  const container = await lossless(image);
  const told = [];
  const parts = [];
  const picture = await codec.decode(container, { told: (share) => told.push(share), onpart: (part) => parts.push(part) });
  assert.deepEqual(parts.map(({ left, lossy }) => [left, lossy]), [[0, true], [TILE, true], [0, false], [TILE, false]]);
  assert.deepEqual(new Uint8Array(picture.data), image.data);
  const lossy = await codec.decode(container, { scale: 3 });
  assert.notDeepEqual(lossy.data, picture.data);
  assert.deepEqual(parts[1].data.subarray(0, 160), lossy.data.subarray(4 * TILE, 4 * TILE + 160));
  assert.ok(told.every((share, i) => share >= 0 && share < 1 && (i === 0 || share > told[i - 1])), String(told));
});

test("a box is cut out of whole tiles", async () => {
  const image = noisy(TILE + 40, 60);
  const container = await lossless(image);
  const [left, top, right, bottom] = [TILE - 3, 5, TILE + 9, 31];
  const part = await codec.decode(container, { box: [left, top, right, bottom] });
  for (let y = top; y < bottom; y++) {
    const row = part.data.subarray(4 * (y - top) * part.width, 4 * (y - top + 1) * part.width);
    assert.deepEqual(new Uint8Array(row), image.data.subarray(4 * (y * image.width + left), 4 * (y * image.width + right)));
  }
});

test("reduced pictures take no residual where the lossy picture is good enough", async () => {
  const container = await lossless(noisy(300, 200), { level: 20 });
  const { residual, ...rest } = container;
  const lossy = { ...rest, tiles: container.tiles.map((tile) => tile.slice(0, -1)) };
  const damaged = changed(container, (tile) => [...tile.slice(0, -1), { payload: new Uint8Array(9), checksum: 1 }]);
  assert.deepEqual(await codec.reduced(damaged, 8), await codec.reduced(lossy, 8));
  assert.deepEqual(await codec.thumbnail(damaged), await codec.thumbnail(lossy));
  await assert.rejects(codec.reduced(damaged, 7), { code: "mismatch" });
  assert.notDeepEqual(await codec.reduced(container, 7), await codec.reduced(lossy, 7));
  const coefficients = { ...damaged, residual: { kind: "coefficients", number: 30 } };
  assert.deepEqual(await codec.reduced(coefficients, 2), await codec.reduced(lossy, 2));
  await assert.rejects(codec.decode(damaged), { code: "mismatch" });
});

test("a drawing is coded beside grey, and opens without a model", async () => {
  const image = drawing(300, 130);
  const container = await lossless(image);
  assert.ok(isBesideGrey(container));
  const alone = Codec.withoutModel(await loadCore(2));
  assert.deepEqual(new Uint8Array((await alone.decode(container)).data), image.data);
  assert.deepEqual(new Uint8Array((await alone.decode(container, { scale: 1 })).data), image.data); // it has nothing else
  const { width, height, data } = await alone.thumbnail(container);
  assert.deepEqual([width, height], [5, 3]);
  const mean = image.data.filter((_, i) => i % 4 === 0 && (i >> 2) % 300 < 64 && (i >> 2) / 300 < 64).reduce((sum, value) => sum + value) / 64 ** 2;
  assert.ok(Math.abs(data[0] - mean) <= 0.5, `${data[0]}, ${mean}`);
  const chosen = await lossless(image, { level: 10 }); // who wants a lossy picture gets one
  assert.ok(!isBesideGrey(chosen) && chosen.level === 10);
});

test("a file that was cut is lossy where it ends, and says so", async () => {
  const image = noisy(TILE + 40, 60);
  const container = await lossless(image, { level: 20 });
  const file = pack(container);
  const cut = unpack(file.subarray(0, file.length - 10), { partial: true });
  assert.deepEqual([isWhole(cut), residualProgressOf(cut)], [false, 0.5]);
  const parts = [];
  const { data } = await codec.decode(cut, { onpart: ({ left, lossy }) => parts.push([left, lossy]) });
  const lossy = await codec.decode(container, { scale: 3 });
  const [inFirst, inSecond] = [4 * 10, 4 * (TILE + 10)];
  assert.deepEqual(new Uint8Array(data.subarray(inFirst, inFirst + 80)), image.data.subarray(inFirst, inFirst + 80));
  assert.deepEqual(data.subarray(inSecond, inSecond + 80), lossy.data.subarray(inSecond, inSecond + 80));
});

test("nothing is added to another picture than the encoder's", async () => {
  const container = await lossless(noisy(TILE + 40, 60));
  const other = changed(container, (tile, i) => i === 1 && [...tile.slice(0, -1), { ...tile.at(-1), checksum: tile.at(-1).checksum ^ 1 }]);
  await assert.rejects(codec.decode(other), { code: "mismatch", message: /tile at 1024, 0 .* lossy picture opens/ });
  await codec.decode(other, { scale: 3 });
  await codec.decode(other, { box: [0, 0, 9, 9] }); // whose tile is right
});

test("a payload that can't be decoded is told with its tile, and the memory comes back", async () => {
  const container = await lossless(noisy(100, 60));
  const forged = changed(container, (tile) => [...tile.slice(0, -1), { ...tile.at(-1), payload: Uint8Array.of(7, 7) }]);
  const right = await codec.decode(container);
  const bytes = codec.core.memory.buffer.byteLength;
  for (let round = 0; round < 20; round++) await assert.rejects(codec.decode(forged), { code: "corrupt", message: /residual of the tile at 0, 0/ });
  assert.deepEqual(await codec.decode(container), right);
  assert.equal(codec.core.memory.buffer.byteLength, bytes);
});

test("coding a residual can be stopped before each tile, and memory doesn't grow", async () => {
  const image = noisy(2 * TILE + 10, 40);
  const latents = await codec.analyse(image);
  const stopping = (after) => {
    const stop = new AbortController();
    let steps = 0;
    return { signal: stop.signal, told: () => ++steps > after && stop.abort() };
  };
  for (const after of [1, 5, 8]) await assert.rejects(codec.encodeWithin(latents, 0, stopping(after)), { code: "aborted" });
  const container = await lossless(image);
  const bytes = codec.core.memory.buffer.byteLength;
  for (const after of [1, 5, 8]) await assert.rejects(codec.decode(container, stopping(after)), { code: "aborted" });
  assert.equal(codec.core.memory.buffer.byteLength, bytes);
});

test("a file is refused if it decodes to something else on this machine", async (t) => {
  const image = noisy(60, 40);
  const latents = await codec.analyse(image);
  latents.image = { ...image, data: image.data.slice() };
  t.mock.method(codec.core, "residuals", function (jobs) {
    const made = Object.getPrototypeOf(this).residuals.call(this, jobs);
    if (jobs[0].payload) made[0][50] ^= 1;
    return made;
  });
  await assert.rejects(codec.encodeWithin(latents, 0), { code: "mismatch", message: /computed wrongly/ });
});
