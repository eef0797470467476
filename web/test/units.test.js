/** The parts by themselves: container, PNG, weights files. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { savingOf } from "../page/format.js";
import { pack, tileBoxes, unpack, unpackHead } from "../src/container.js";
import { decodeGrey, encodeGrey } from "../src/png.js";
import { allLevels, codedAs, levelOf, promiseOf, qualityOf } from "../src/levels.js";
import { readSafetensors } from "../src/weights.js";
import { Reader, crc32, varint } from "../src/wire.js";

const golden = (name) => new Uint8Array(readFileSync(new URL(`../../tests/golden/${name}`, import.meta.url)));

/** Numbers that are the same every time. */
function* random(seed) {
  for (let x = seed; ; ) yield (x = (Math.imul(x, 1664525) + 1013904223) >>> 0) / 2 ** 32;
}

test("a file is taken apart and put together again", () => {
  for (const name of ["nano-1.hpcm", "lite-1.hpcm", "progressive.hpcm"]) {
    const data = golden(name);
    assert.deepEqual(pack(unpack(data)), data);
  }
  const container = unpack(golden("progressive.hpcm"));
  assert.deepEqual(tileBoxes(container), [[0, 0, 256, 201], [256, 0, 300, 201]]);
});

const table = (name) => JSON.parse(new TextDecoder().decode(golden(name)));
const fromHex = (bytes) => Uint8Array.from(bytes.match(/../g) ?? [], (digits) => parseInt(digits, 16));

test("bounds are those of the table of fields", () => {
  for (const { name, bytes, verdict, fields } of table("heads.json")) {
    const data = fromHex(bytes);
    if (verdict !== "valid") {
      assert.throws(() => unpackHead(data), { code: verdict }, name);
      continue;
    }
    const { passes, width, height, model, hash, level, colour, bitDepth, tileSide } = unpackHead(data);
    const read = { width, height, model, model_hash: hash, level, tile_side: tileSide };
    assert.deepEqual({ ...read, colour, bit_depth: bitDepth, passes }, fields, name);
  }
});

test("files that are whole, cut or damaged are read as Python does", () => {
  for (const { name, bytes, whole, partial, parts } of table("files.json")) {
    const data = fromHex(bytes);
    if (whole === "valid") assert.deepEqual(pack(unpack(data)), data, name);
    else assert.throws(() => unpack(data), { code: whole }, name);
    if (partial !== "valid") assert.throws(() => unpack(data, { partial: true }), { code: partial }, name);
    else assert.equal(unpack(data, { partial: true }).tiles.flat().length, parts, name);
  }
});

test("varints have one spelling, and CRCs are zlib's", () => {
  for (const value of [0, 127, 128, 300, 2 ** 31, 2 ** 35 - 1]) {
    assert.equal(new Reader(Uint8Array.from(varint(value))).varint("x"), value);
  }
  assert.throws(() => new Reader(Uint8Array.of(0x80, 0)).varint("x"), { code: "format" });
  assert.throws(() => new Reader(Uint8Array.of(0x80)).varint("x"), { code: "truncated" });
  assert.equal(crc32(new TextEncoder().encode("123456789")), 0xcbf43926);
});

test("an alpha channel comes back", async () => {
  const numbers = random(2);
  const values = Uint8Array.from({ length: 13 * 7 }, () => 256 * numbers.next().value);
  const png = await encodeGrey(values, 13, 7);
  assert.deepEqual(await decodeGrey(png, 13, 7), values);
  await assert.rejects(decodeGrey(png, 7, 13), { code: "corrupt" });
  await assert.rejects(decodeGrey(png.subarray(0, 40), 13, 7), { code: "corrupt" });
});

test("a damaged weights file is told", () => {
  assert.throws(() => readSafetensors(new Uint8Array(100).fill(255)), { code: "model" });
  assert.throws(() => readSafetensors(golden("tiny.safetensors").subarray(0, 5000)), { code: "model" });
});

test("qualities 1 to 80 have equal shares of the model's levels, and 81 to 100 steps of a residual layer", () => {
  const levels = Array.from({ length: 100 }, (_, i) => levelOf(i + 1, 64));
  assert.deepEqual([levels[0], levels[39], levels[40], levels[49], levels[79], levels[80], levels[99]], [0, 31, 32, 39, 63, 64, 83]);
  assert.equal(new Set(levels).size, allLevels(64));
  assert.deepEqual(codedAs(39, 64), { level: 39, residual: undefined });
  const above = Array.from({ length: 20 }, (_, i) => codedAs(64 + i, 64));
  assert.ok(above.every(({ level, residual }) => level === 63 && residual.kind === "coefficients"));
  const steps = above.map(({ residual }) => residual.number);
  assert.ok(steps.every((step, i) => step > 0 && (i === 0 || step < steps[i - 1])), String(steps));
  for (const quality of [0, 101, 1.5, "50"]) assert.throws(() => levelOf(quality, 64), { code: "usage" });
});

test("a file's quality is one that gives it", () => {
  for (let level = 0; level < 64; level++) assert.equal(levelOf(qualityOf(level, 64), 64), level);
  for (let quality = 81; quality <= 100; quality++) {
    const { level, residual } = codedAs(levelOf(quality, 64), 64);
    assert.equal(qualityOf(level, 64, residual.number), quality);
  }
  const { residual } = codedAs(83, 64);
  assert.equal(qualityOf(63, 64, residual.number + 1000), undefined); // a step of no quality
  assert.equal(qualityOf(62, 64, residual.number), undefined); // not of the best level
});

test("what is promised of the samples makes sense, or is refused", () => {
  assert.equal(promiseOf({ quality: 90 }), undefined);
  assert.equal(promiseOf({ lossless: false }), undefined);
  assert.equal(promiseOf({ lossless: true, quality: 80 }), 0);
  assert.equal(promiseOf({ lossless: true, maxError: 0 }), 0);
  assert.equal(promiseOf({ maxError: 127 }), 127);
  const wrong = [{ maxError: -1 }, { maxError: 128 }, { maxError: 0.5 }, { maxError: "1" }, { lossless: true, maxError: 1 }];
  for (const asked of [...wrong, { lossless: true, quality: 81 }]) assert.throws(() => promiseOf(asked), { code: "usage" }, JSON.stringify(asked));
});

test("a saving is said in words", () => {
  const said = (before, after) => savingOf(before, after, "the JPEG you opened").join("; ");
  assert.equal(said(120_000, 10_000), "12 times smaller; 92% less than the JPEG you opened");
  assert.equal(said(25_000, 10_000), "2.5 times smaller; 60% less than the JPEG you opened");
  assert.equal(said(15_000, 10_000), "33% smaller; than the JPEG you opened");
  assert.equal(said(10_000, 10_010), "as large; as the JPEG you opened");
  assert.equal(said(10_000, 13_000), "30% larger; than the JPEG you opened");
  assert.equal(said(10_000, 31_000), "3.1 times as large; as the JPEG you opened");
});
