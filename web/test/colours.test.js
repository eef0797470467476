/** The colours of files with an ICC profile, in a real browser: as a program that heeds profiles shows them. */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { inflateSync } from "node:zlib";
import { pack, unpack } from "../src/container.js";
import { encodePng } from "../src/png.js";
import { missing } from "./chromium.js";
import { QUICK, golden, open, page, pathOf, settled } from "./page.js";

const CLOSE = 3; // levels: browsers compute with tables
const SIDE = 16; // pixels of a picture of one colour
const COLOUR = [200, 90, 60, 255];
const GAMMA = 2;
const D50 = [0.9642, 1, 0.8249];
const WIDE = [[0.51512, 0.2412, -0.00105], [0.29198, 0.69225, 0.04189], [0.1571, 0.06657, 0.78407]]; // primaries of Display P3
const SRGB_OF_XYZ = [[3.13406, -1.61714, -0.49065], [-0.97876, 1.91609, 0.03346], [0.07195, -0.22898, 1.40539]]; // under D50

const fixed = (values) => {
  const data = Buffer.alloc(4 * values.length);
  values.forEach((value, i) => data.writeInt32BE(Math.round(value * 65536), 4 * i));
  return data;
};
const xyz = (values) => Buffer.concat([Buffer.from("XYZ \0\0\0\0"), fixed(values)]);

/** An ICC profile of RGB by three primaries, with a plain power as its curve. */
function profile() {
  const curve = Buffer.concat([Buffer.from("curv\0\0\0\0"), Buffer.from([0, 0, 0, 1, GAMMA, 0, 0, 0])]);
  const text = Buffer.concat([Buffer.from("desc\0\0\0\0\0\0\0\x05wide\0"), Buffer.alloc(79)]);
  const tags = { desc: text, wtpt: xyz(D50), rXYZ: xyz(WIDE[0]), gXYZ: xyz(WIDE[1]), bXYZ: xyz(WIDE[2]), rTRC: curve, gTRC: curve, bTRC: curve, cprt: Buffer.from("text\0\0\0\0none\0\0\0\0") };
  const names = Object.keys(tags);
  const table = Buffer.alloc(4 + 12 * names.length);
  table.writeUInt32BE(names.length);
  let at = 128 + table.length;
  names.forEach((name, i) => {
    table.write(name, 4 + 12 * i);
    table.writeUInt32BE(at, 8 + 12 * i);
    table.writeUInt32BE(tags[name].length, 12 + 12 * i);
    at += tags[name].length;
  });
  const head = Buffer.alloc(128);
  head.writeUInt32BE(at);
  head.writeUInt32BE(0x02400000, 8);
  head.write("mntrRGB XYZ ", 12);
  head.write("acsp", 36);
  fixed(D50).copy(head, 68);
  return new Uint8Array(Buffer.concat([head, table, ...Object.values(tags)]));
}

/** 8-bit sRGB of a colour of that profile. */
function expected(colour) {
  const linear = colour.slice(0, 3).map((value) => (value / 255) ** GAMMA);
  const values = D50.map((_, i) => linear.reduce((sum, value, c) => sum + value * WIDE[c][i], 0));
  return SRGB_OF_XYZ.map((row) => {
    const value = Math.min(Math.max(row.reduce((sum, factor, i) => sum + factor * values[i], 0), 0), 1);
    return Math.round(255 * (value <= 0.0031308 ? 12.92 * value : 1.055 * value ** (1 / 2.4) - 0.055));
  });
}

const near = (found, wanted, most) => assert.ok(wanted.every((value, i) => Math.abs(value - found[i]) <= most), `${found}, not ${wanted}`);

/** A golden file that says that its colours are others. */
async function described(icc, ancillary = []) {
  const container = unpack(new Uint8Array(await readFile(golden("nano-1.hpcm"))));
  return pack({ ...container, icc, ancillary });
}

/** What `bitmapOf` makes of one colour, in the middle. */
const drawn = (p, file, colour) =>
  p.evaluate(
    async ([file, colour, side]) => {
      const { bitmapOf } = await import(new URL("hpcm-web.js", document.baseURI).href);
      const data = Uint8ClampedArray.from({ length: 4 * side * side }, (_, i) => colour[i % 4]);
      const context = new OffscreenCanvas(side, side).getContext("2d");
      context.drawImage(await bitmapOf({ data, width: side, height: side }, Uint8Array.from(file)), 0, 0);
      return [...context.getImageData(side / 2, side / 2, 1, 1).data];
    },
    [[...file], colour, SIDE],
  );

test("a profile is heeded, and pictures without one are as they were", { skip: missing }, async (t) => {
  const p = await page(t, QUICK);
  const wanted = expected(COLOUR);
  assert.ok(Math.abs(wanted[0] - COLOUR[0]) > 10, `${wanted} is hardly another colour than ${COLOUR}`);
  near(await drawn(p, await described(profile()), COLOUR), [...wanted, 255], CLOSE);
  assert.deepEqual(await drawn(p, await described(), COLOUR), COLOUR);
  const linear = await drawn(p, await described(undefined, [["g", Uint8Array.of(0, 1, 0x86, 0xa0)]]), [100, 100, 100, 255]); // gAMA of 1
  near(linear, [168, 168, 168], CLOSE);
  assert.deepEqual(await drawn(p, await described(Uint8Array.of(1, 2, 3)), COLOUR), COLOUR); // no profile
});

test("the page and the element show the same colours", { skip: missing }, async (t) => {
  const p = await page(t, QUICK);
  const files = { "wide.hpcm": await described(profile()), "plain.hpcm": await described() };
  for (const [name, data] of Object.entries(files)) await writeFile(pathOf(`site/${name}`), data);
  const shown = (name) =>
    p.evaluate(async (name) => {
      await import(new URL("hpcm-img.js", document.baseURI).href);
      const element = document.createElement("hpcm-img");
      const loaded = new Promise((done) => element.addEventListener("load", done, { once: true }));
      element.setAttribute("src", name);
      document.body.append(element);
      await loaded;
      const canvas = element.shadowRoot.querySelector("canvas");
      return [...canvas.getContext("2d").getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data];
    }, name);
  const plain = await shown("plain.hpcm");
  near(await shown("wide.hpcm"), expected(plain), CLOSE);

  const middle = () =>
    p.evaluate(() => {
      const canvas = document.getElementById("canvas");
      const [x, y] = [canvas.width / 2 - 20, canvas.height / 2].map(Math.round);
      return [...canvas.getContext("2d").getImageData(x, y, 1, 1).data];
    });
  const seen = [];
  for (const name of Object.keys(files)) {
    await open(p, pathOf(`site/${name}`));
    await p.waitForSelector('body[data-view="opened"]');
    await settled(p);
    seen.push(await middle());
  }
  assert.ok(Math.max(...seen[0].map((value, i) => Math.abs(value - seen[1][i]))) > 2 * CLOSE, `${seen[0]} and ${seen[1]} are alike`);
  near(seen[0], expected(seen[1]), CLOSE);
});

test("a PNG has the samples that it was made of", async () => {
  const data = Uint8ClampedArray.from([9, 9, 9, 255, 7, 7, 7, 128, 5, 5, 5, 0, 1, 1, 1, 2]);
  for (const [grey, rows] of [
    [false, [0, 9, 9, 9, 255, 7, 7, 7, 128, 0, 5, 5, 5, 0, 1, 1, 1, 2]],
    [true, [0, 9, 255, 7, 128, 0, 5, 0, 1, 2]],
  ]) {
    const png = Buffer.from(await encodePng({ data, width: 2, height: 2 }, grey, [["sRGB", Uint8Array.of(0)]]));
    const at = png.indexOf("IDAT");
    assert.ok(png.indexOf("sRGB") > 0 && png.indexOf("sRGB") < at);
    assert.deepEqual([...inflateSync(png.subarray(at + 4, at + 4 + png.readUInt32BE(at - 4)))], rows);
  }
});
