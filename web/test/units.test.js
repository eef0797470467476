/** The parts that need no network: coder, container, schedule, PNG, rounding, graphs. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { Codec } from "../src/codec.js";
import { pack, tileBoxes, unpack, unpackHead } from "../src/container.js";
import { Decoder, Encoder, Tables } from "../src/entropy.js";
import { between, rint } from "../src/loop.js";
import { withWeights } from "../src/onnx.js";
import { decodeGrey, encodeGrey } from "../src/png.js";
import { Plan, passEnds } from "../src/schedule.js";
import { Weights, readSafetensors } from "../src/weights.js";
import { Reader, crc32, varint } from "../src/wire.js";

const golden = (name) => new Uint8Array(readFileSync(new URL(`../../tests/golden/${name}`, import.meta.url)));

/** Numbers that are the same every time. */
function* random(seed) {
  for (let x = seed; ; ) yield (x = (Math.imul(x, 1664525) + 1013904223) >>> 0) / 2 ** 32;
}

function tables() {
  const frequencies = [[2, 65531, 2, 1], [1000, 20000, 20000, 20000, 4535, 1], [65535, 1]];
  return new Tables(Float32Array.of(0.5, 1, 2), Int32Array.of(1, 2, 0), Int32Array.from(frequencies.flat()));
}

test("symbols come back, escapes of every length too, part by part", () => {
  const numbers = random(1);
  const next = () => numbers.next().value;
  const pushes = [0, 1, 700, 300].map((size) => ({
    indexes: Uint8Array.from({ length: size }, () => Math.floor(3 * next())),
    symbols: Int32Array.from({ length: size }, () => (next() < 0.9 ? Math.round(4 * next() - 2) : (next() - 0.5) * 2 ** (32 * next()))),
  }));
  pushes.push({ indexes: Uint8Array.of(0, 1, 2), symbols: Int32Array.of(2 ** 31 - 1, -(2 ** 31), 0) });
  const encoder = new Encoder(tables());
  for (const { symbols, indexes } of pushes) {
    encoder.push(symbols, indexes);
    encoder.cut();
  }
  const parts = encoder.finish();
  assert.equal(parts.length, pushes.length);
  const decoder = new Decoder(tables(), new Uint8Array(parts.flatMap((part) => [...part])));
  for (const { symbols, indexes } of pushes) assert.deepEqual(decoder.pop(indexes), symbols);
  decoder.finish();
  const beginning = new Decoder(tables(), new Uint8Array(parts.slice(0, 3).flatMap((part) => [...part])));
  for (const { symbols, indexes } of pushes.slice(0, 3)) assert.deepEqual(beginning.pop(indexes), symbols);
});

test("what is no stream is refused", () => {
  assert.throws(() => new Decoder(tables(), new Uint8Array(5)), { code: "corrupt" });
  assert.throws(() => new Decoder(tables(), new Uint8Array(8)), { code: "corrupt" });
  assert.throws(() => new Decoder(tables(), Uint8Array.of(1, 2, 3, 4)).finish(), { code: "corrupt" });
  assert.throws(() => new Tables(Float32Array.of(1), Int32Array.of(0), Int32Array.of(65534, 1)), { code: "model" });
});

test("tables are found by comparing", () => {
  assert.deepEqual([...tables().index(Float32Array.of(0.1, 0.5, 0.50001, 1, 1.5, 9))], [0, 0, 1, 1, 2, 2]);
});

test("a file is taken apart and put together again", () => {
  for (const name of ["nano-1.hpcm", "lite-1.hpcm", "progressive.hpcm"]) {
    const data = golden(name);
    assert.deepEqual(pack(unpack(data)), data);
  }
  const container = unpack(golden("progressive.hpcm"));
  assert.deepEqual(tileBoxes(container), [[0, 0, 256, 201], [256, 0, 300, 201]]);
});

test("bounds are those of the table of fields", () => {
  for (const { name, bytes, verdict, fields } of JSON.parse(new TextDecoder().decode(golden("heads.json")))) {
    const data = Uint8Array.from(bytes.match(/../g) ?? [], (digits) => parseInt(digits, 16));
    if (verdict !== "valid") {
      assert.throws(() => unpackHead(data), { code: verdict }, name);
      continue;
    }
    const { passes, width, height, model, hash, level, colour, bitDepth, tileSide } = unpackHead(data);
    const read = { width, height, model, model_hash: hash, level, tile_side: tileSide };
    assert.deepEqual({ ...read, colour, bit_depth: bitDepth, passes }, fields, name);
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

test("every latent is coded once", () => {
  for (const hierarchy of [true, false]) {
    const config = { M: 16, steps: [2, 3, 6], hierarchy };
    const plan = new Plan(config, [12, 8], [9, 7]);
    const coded = plan.places.flatMap(({ fine }) => [...fine]);
    assert.equal(new Set(coded).size, coded.length);
    assert.equal(coded.length, 16 * 9 * 7);
    assert.equal(plan.places.flatMap(({ coded, other }) => [...coded, ...other]).length, 16 * 12 * 8);
  }
  assert.deepEqual(passEnds({ steps: [2, 3, 6] }), [3, 6, 12]);
});

test("what is gathered is scattered to where it was", () => {
  const plan = new Plan({ M: 8, steps: [2, 3, 6], hierarchy: true }, [8, 8], [8, 8]);
  const y = Float32Array.from({ length: 2 * 8 * 64 }, (_, i) => i);
  const half = plan.gather(y, 2);
  assert.equal(half.length, y.length / 4);
  const back = plan.scatter(half, new Float32Array(y.length).fill(-1), 2);
  assert.equal(back.filter((value) => value >= 0).length, half.length);
  assert.ok(back.every((value, i) => value === -1 || value === y[i]));
});

test("an alpha channel comes back", async () => {
  const numbers = random(2);
  const values = Uint8Array.from({ length: 13 * 7 }, () => 256 * numbers.next().value);
  const png = await encodeGrey(values, 13, 7);
  assert.deepEqual(await decodeGrey(png, 13, 7), values);
  await assert.rejects(decodeGrey(png, 7, 13), { code: "corrupt" });
  await assert.rejects(decodeGrey(png.subarray(0, 40), 13, 7), { code: "corrupt" });
});

test("halves are rounded to the even number", () => {
  assert.deepEqual([-1.5, -0.5, 0.5, 1.5, 2.5, 2.4, -2.6].map((x) => rint(x) + 0), [-2, 0, 0, 2, 2, 2, -3]);
});

test("gains are those of a knot at a knot", () => {
  const knots = Float32Array.from({ length: 12 }, (_, i) => i);
  assert.deepEqual([...between(knots, 0, 64)], [0, 1]);
  assert.deepEqual([...between(knots, 63, 64)], [10, 11]);
});

test("weights are written into a graph", () => {
  const tensor = [0x42, 5, ...new TextEncoder().encode("net.w"), 0x6a, 1, 0, 0x70, 1]; // name, external data, its place
  const graph = Uint8Array.from([0x08, 9, 0x3a, tensor.length + 2, 0x2a, tensor.length, ...tensor]);
  const filled = withWeights(graph, (name) => (assert.equal(name, "w"), Float32Array.of(1)));
  const expected = [0x08, 9, 0x3a, 15, 0x2a, 13, ...tensor.slice(0, 7), 0x4a, 4, 0, 0, 0x80, 0x3f];
  assert.deepEqual([...filled], expected);
  assert.throws(() => withWeights(graph.subarray(0, 9), () => {}), { code: "model" });
});

test("an exact layer is made of integers and powers of two", () => {
  const weights = new Weights(golden("tiny.safetensors"), "");
  const { tensors, layers } = weights;
  const integers = (name) => {
    const { type, bytes } = tensors.get(name);
    return [...new { I8: Int8Array, I16: Int16Array, I32: Int32Array }[type](bytes.buffer)];
  };
  for (const kind of ["dense", "transposed"]) {
    const name = Object.keys(layers).find((each) => layers[each].kind === kind);
    const [inputs, outputs] = kind === "dense" ? [1, 0] : [0, 1];
    const { shape } = tensors.get(`${name}.weight`);
    const units = integers(`${name}.exponent`).map((exponent) => 2 ** exponent);
    assert.equal(units.length, shape[outputs]);
    const floats = weights.floats(`${name}.weight`);
    const at = [];
    at[inputs] = shape[inputs] - 1;
    at[outputs] = 1;
    const place = (at[0] * shape[1] + at[1]) * shape[2] * shape[3]; // of the first tap from the last input to output 1
    assert.equal(floats[place], integers(`${name}.weight`)[place] * units[1]);
    assert.deepEqual([...weights.floats(`${name}.bias`)], integers(`${name}.bias`).map((value, i) => value * units[i]));
    assert.deepEqual([...weights.floats(`${name}.input_scale`)], integers(`${name}.input_bits`).map((bits) => 2 ** bits));
    assert.deepEqual([...weights.floats(`${name}.limit`)], integers(`${name}.limit`));
  }
});

test("a model of another structure is refused", async () => {
  const structures = JSON.parse(readFileSync(new URL("../graphs.json", import.meta.url)));
  await assert.rejects(Codec.load(golden("tiny.safetensors"), structures, null), {
    code: "model",
    message: "tiny can't be run here: this page can't run models of this structure yet",
  });
});

test("a damaged weights file is told", () => {
  assert.throws(() => readSafetensors(new Uint8Array(100).fill(255)), { code: "model" });
  assert.throws(() => readSafetensors(golden("tiny.safetensors").subarray(0, 5000)), { code: "model" });
});
