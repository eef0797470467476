/** What is shown of a file before all of it is decoded: its thumbnail, and its parts. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test, { before } from "node:test";
import { Codec } from "../src/codec.js";
import { unpack } from "../src/container.js";
import { loadCore } from "./core.js";

const SIDE = 64; // pixels that one of a thumbnail's stands for
const PATCH = 16; // pixels of which it has the mean, at the top left
const CLOSE = 3; // of 255, on average over all pixels

const read = (path) => new Uint8Array(readFileSync(new URL(`../../${path}`, import.meta.url)));
let codec;

before(async () => {
  codec = await Codec.load(await loadCore(), read("src/hpcm/model/assets/nano-1.safetensors"));
});

/** A picture that isn't the same anywhere: two tiles with smooth colours. */
function picture(width, height) {
  const data = new Uint8ClampedArray(4 * width * height);
  for (let i = 0; i < width * height; i++) {
    const [x, y] = [(i % width) / width, Math.floor(i / width) / height];
    data.set([255 * x, 255 * y, 128 + 100 * Math.sin(9 * x + 5 * y), 255], 4 * i);
  }
  return { data, width, height };
}

async function file(width, height, options) {
  return unpack(await codec.encode(await codec.analyse(picture(width, height)), 31, options));
}

/** How far a thumbnail is from what it stands for, on average. */
function distance(thumbnail, { data, width, height }) {
  let [sum, count] = [0, 0];
  for (let y = 0; y + SIDE <= height; y += SIDE) {
    for (let x = 0; x + SIDE <= width; x += SIDE) {
      const means = [0, 0, 0];
      for (let i = 0; i < PATCH * PATCH; i++) {
        const at = 4 * ((y + Math.floor(i / PATCH)) * width + x + (i % PATCH));
        for (let c = 0; c < 3; c++) means[c] += data[at + c] / PATCH ** 2;
      }
      const at = 4 * ((y / SIDE) * thumbnail.width + x / SIDE);
      for (let c = 0; c < 3; c++) sum += Math.abs(thumbnail.data[at + c] - means[c]);
      count += 3;
    }
  }
  return sum / count;
}

test("a thumbnail has the colours of its picture, in files with scales and without", async () => {
  for (const progressive of [true, false]) {
    const container = await file(1100, 300, { progressive });
    const thumbnail = await codec.thumbnail(container);
    assert.deepEqual([thumbnail.width, thumbnail.height], [18, 5]);
    const found = distance(thumbnail, await codec.decode(container));
    assert.ok(found < CLOSE, `${found}`);
  }
});

test("a thumbnail of a file that was cut has what is there", async () => {
  const container = await file(1100, 300, { progressive: true });
  const { data } = await codec.thumbnail(container);
  container.tiles[1] = [];
  const { data: cut } = await codec.thumbnail(container);
  assert.deepEqual(cut.subarray(0, 4 * 12), data.subarray(0, 4 * 12));
});

test("the parts of a picture are the picture", async () => {
  const container = await file(1100, 300);
  const [left, top, right, bottom] = [40, 30, 1090, 170];
  const together = { data: new Uint8ClampedArray(4 * (right - left) * (bottom - top)), width: right - left };
  const onpart = (part) => {
    for (let y = 0; y < part.height; y++) {
      const row = part.data.subarray(4 * y * part.width, 4 * (y + 1) * part.width);
      together.data.set(row, 4 * ((part.top + y) * together.width + part.left));
    }
  };
  const { data } = await codec.decode(container, { box: [left, top, right, bottom], onpart });
  assert.deepEqual(together.data, data);
});
