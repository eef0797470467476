/** The codec in Node: what it refuses, and that memory and threads may be short. Needs build/wasm. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { Codec } from "../src/codec.js";
import { unpack } from "../src/container.js";
import { Core, Engine } from "../src/core.js";
import { Weights, readSafetensors } from "../src/weights.js";
import { lend, loadCore, moduleOf } from "./core.js";

const golden = (name) => new Uint8Array(readFileSync(new URL(`../../tests/golden/${name}`, import.meta.url)));
const tiny = golden("tiny.safetensors");
const DIGEST = "0".repeat(64);

/** A picture that isn't flat. */
function picture(width, height) {
  const data = Uint8Array.from({ length: 4 * width * height }, (_, i) => (i % 4 === 3 ? 255 : (i * i + (i >> 7)) % 251));
  return { data, width, height };
}

/** There and back. */
async function coded(codec, image = picture(150, 90)) {
  const file = await codec.encode(await codec.analyse(image), 40);
  return [...file, ...(await codec.decode(unpack(file))).data];
}

/** A weights file with another header. @param {(header: object) => void} change */
function changed(change) {
  const size = Number(new DataView(tiny.buffer, tiny.byteOffset).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(tiny.subarray(8, 8 + size)));
  change(header);
  const text = new TextEncoder().encode(JSON.stringify(header));
  const out = new Uint8Array(8 + text.length + tiny.length - 8 - size);
  new DataView(out.buffer).setBigUint64(0, BigInt(text.length), true);
  out.set(text, 8);
  out.set(tiny.subarray(8 + size), 8 + text.length);
  return out;
}

const configured = (change) =>
  changed(({ __metadata__: metadata }) => {
    const config = JSON.parse(metadata.config);
    change(config);
    metadata.config = JSON.stringify(config);
  });

test("libhpcm asks for nothing but memory that is shared", async () => {
  assert.deepEqual(WebAssembly.Module.imports(await moduleOf("hpcm.wasm")), []);
  const memory = { module: "env", name: "memory", kind: "memory" };
  assert.deepEqual(WebAssembly.Module.imports(await moduleOf("hpcm-threads.wasm")), [memory]);
});

test("a tensor's bytes are those of its shape and type", () => {
  const bias = "g_a.1.bias";
  assert.equal(readSafetensors(tiny).tensors.get(bias).shape.length, 1);
  const wrong = {
    "another shape": (tensor) => (tensor.shape = [2 ** 20, 2 ** 20]),
    "a shape that isn't whole": (tensor) => (tensor.shape = [0.5, 2 * tensor.shape[0]]),
    "a shape below zero": (tensor) => (tensor.shape = [-1, -tensor.shape[0]]),
    "five dimensions": (tensor) => (tensor.shape = [...tensor.shape, 1, 1, 1, 1]),
    "another type": (tensor) => (tensor.dtype = "F64"),
    "a type of JavaScript's": (tensor) => (tensor.dtype = "constructor"),
    "offsets outside": (tensor) => (tensor.data_offsets = tensor.data_offsets.map((offset) => offset + 2 ** 30)),
    "offsets below zero": (tensor) => (tensor.data_offsets = tensor.data_offsets.map((offset) => offset - 2 ** 30)),
    "offsets that are text": (tensor) => (tensor.data_offsets = tensor.data_offsets.map(String)),
    "no offsets": (tensor) => delete tensor.data_offsets,
  };
  for (const [what, change] of Object.entries(wrong)) {
    assert.throws(() => readSafetensors(changed((header) => change(header[bias]))), { code: "model" }, what);
  }
});

test("a configuration's fields have their types and bounds", async () => {
  const core = await loadCore();
  const made = (data) => new Engine(core, new Weights(data, DIGEST));
  made(configured(() => {})).free();
  const wrong = {
    ...{ M: null, N: "8", partial: 2 ** 32 + 4, ratio: 2.5, levels: 64.5, prior_width: true, stem: "conv9" },
    ...{ adaptor_blocks: [0, 0], steps: [2, 3, 6, 1], hierarchy: 1, refine: "no", context_net: null },
    ...{ prior_coarse: null, prior_fine: undefined, analysis: null, synthesis: [[0], [1, 16]], hyper_analysis: [] },
  };
  for (const [field, value] of Object.entries(wrong)) {
    assert.throws(() => made(configured((config) => (config[field] = value))), { code: "model" }, field);
  }
  const shifted = (config) => Object.assign(config, { adaptor_blocks: [0, 0], steps: [0, 2, 3, 6] });
  assert.throws(() => made(configured(shifted)), { code: "model" });
  for (const config of ["null", "5", "[]", "{"]) {
    assert.throws(() => new Weights(changed((header) => (header.__metadata__.config = config)), DIGEST), { code: "model" }, config);
  }
});

test("a model that was freed is refused, one after the other is computed, and memory doesn't grow", async () => {
  const core = await loadCore();
  const first = await Codec.load(core, tiny);
  const right = await coded(first);
  first.free();
  first.free();
  await assert.rejects(coded(first), { code: "usage" });
  const bytes = core.memory.buffer.byteLength;
  for (let round = 0; round < 20; round++) {
    const codec = await Codec.load(core, tiny);
    assert.deepEqual(await coded(codec), right);
    codec.free();
  }
  assert.equal(core.memory.buffer.byteLength, bytes);
});

test("what isn't a picture, a level or a quality is refused", async () => {
  const codec = await Codec.load(await loadCore(), tiny);
  const { data } = picture(10, 10);
  const wrong = [
    { data, width: 11, height: 10 },
    { data, width: 0, height: 10 },
    { data, width: 2.5, height: 40 },
    { data: new Float32Array(400), width: 10, height: 10 },
    { width: 10, height: 10 },
    { data, width: 2 ** 13, height: 2 ** 13 + 1 },
    { data, width: 2 ** 20 + 1, height: 1 },
  ];
  for (const image of wrong) await assert.rejects(codec.analyse(image), { code: "picture" }, `${image.width} x ${image.height}`);
  for (const quality of [0, 101, 50.5, NaN, "50", undefined]) assert.throws(() => codec.levelOf(quality), { code: "usage" });
  assert.deepEqual([1, 50, 80, 81, 100].map((quality) => codec.levelOf(quality)), [0, 39, 63, 64, 83]);
});

test("a file that claims many pixels takes no memory for them before its first tile is decoded", async (t) => {
  const codec = await Codec.load(await loadCore(), tiny);
  const asked = [];
  t.mock.method(globalThis, "Uint8ClampedArray", function (count) {
    asked.push(count);
    return [];
  });
  const { level, model, hash } = { level: 5, ...unpack(golden("tiny.hpcm")) };
  const part = { payload: new Uint8Array(8).fill(77), checksum: 1 };
  const claims = { width: 8192, height: 8192, tileSide: 1024, passes: 1, model, hash, level, colour: "rgb", bitDepth: 8 };
  const file = { ...claims, tiles: Array.from({ length: 64 }, () => [part]) };
  await assert.rejects(codec.decode(file), { code: "mismatch" });
  assert.deepEqual(asked, []);
  await codec.decode(unpack(golden("tiny.hpcm"))).catch(() => {});
  assert.deepEqual(asked, [4 * 201 * 137]);
});

test("the tiles that a box touches are found without looking at all of them", async () => {
  const codec = await Codec.load(await loadCore(), tiny);
  const { Tiling } = await import("../src/tiles.js");
  const tiling = new Tiling(codec.engine.config, { width: 1000, height: 700, tileSide: 256 });
  const touching = ([left, top, right, bottom]) =>
    tiling.boxes.filter((tile) => tile[0] < 16 * right && tile[2] > 16 * left && tile[1] < 16 * bottom && tile[3] > 16 * top);
  for (const cells of [[0, 0, 1, 1], [15, 15, 17, 17], [16, 0, 32, 16], [0, 0, 64, 44], [60, 40, 64, 44], [3, 31, 50, 33]]) {
    assert.deepEqual(tiling.touching(cells), touching(cells), String(cells));
  }
});

/** Core with memory that ends soon. */
async function small(t, name, pages, options) {
  const module = await moduleOf(name);
  const { Memory } = WebAssembly;
  t.mock.method(WebAssembly, "Memory", function (asked) {
    return new Memory({ ...asked, maximum: pages });
  });
  return Core.load(module, options);
}

test("where memory is short that is said, and what needs less still works", async (t) => {
  const core = await small(t, "hpcm-threads.wasm", 400);
  const codec = await Codec.load(core, tiny);
  const right = await coded(codec);
  await assert.rejects(coded(codec, picture(1500, 1500)), { code: "memory" });
  await assert.rejects(Codec.load(core, new Uint8Array(readFileSync(new URL("../../src/hpcm/model/assets/lite-1.safetensors", import.meta.url)))), { code: "memory" });
  assert.deepEqual(await coded(codec), right);
  for (const bytes of [2 ** 30, 2 ** 31, 2 ** 32 - 1, 2 ** 32 + 8, Infinity, NaN]) {
    assert.throws(() => core.allocate(bytes), { code: "memory" }, String(bytes));
  }
});

test("memory that can't be set aside is tried in smaller parts", async (t) => {
  const module = await moduleOf("hpcm-threads.wasm");
  const { Memory } = WebAssembly;
  const asked = [];
  let most = 2 ** 13;
  t.mock.method(WebAssembly, "Memory", function (given) {
    asked.push(given.maximum);
    if (given.maximum > most) throw new RangeError("could not allocate memory");
    return new Memory(given);
  });
  await coded(await Codec.load(await Core.load(module), tiny));
  assert.deepEqual(asked, [2 ** 15, 2 ** 14, 2 ** 13]);
  most = 0;
  await assert.rejects(Core.load(module), { code: "memory" });
});

test("every number of threads gives the same, also where some can't be had", async () => {
  const right = await coded(await Codec.load(await loadCore(), tiny));
  const module = await moduleOf("hpcm-threads.wasm");
  for (const threads of [1, 2, 5]) {
    const core = await Core.load(module, { threads, lend });
    assert.equal(core.threads, threads);
    assert.deepEqual(await coded(await Codec.load(core, tiny)), right, `${threads} threads`);
  }
  const some = (given) => (given.number === 1 ? Promise.reject(new Error("no")) : lend(given));
  const core = await Core.load(module, { threads: 4, lend: some });
  assert.equal(core.threads, 3);
  assert.deepEqual(await coded(await Codec.load(core, tiny)), right);
});

test("more threads than there is room for are not asked for, and one that comes late is welcome", async () => {
  const module = await moduleOf("hpcm-threads.wasm");
  const numbers = [];
  const none = await Core.load(module, {
    threads: 1000,
    lend: async ({ number }) => {
      numbers.push(number);
      throw new Error("no");
    },
  });
  assert.deepEqual([numbers.length, Math.max(...numbers), none.threads], [63, 62, 1]);
  const right = await coded(await Codec.load(await loadCore(), tiny));
  let late;
  const core = await Core.load(module, {
    threads: 3,
    lend: async (given) => {
      if (given.number) return lend(given);
      late = given;
      throw new Error("too late");
    },
  });
  const codec = await Codec.load(core, tiny);
  assert.deepEqual(await coded(codec), right);
  await lend(late);
  for (let round = 0; round < 5; round++) assert.deepEqual(await coded(codec), right);
});

test("memory is given out in blocks that don't overlap, and all of it comes back", async () => {
  const core = await loadCore();
  let seed = 1;
  const random = (below) => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) % below;
  const rounds = () => {
    const held = [];
    for (let round = 0; round < 2000; round++) {
      if (held.length && random(5) < 2) core.call.hpcm_free(held.splice(random(held.length), 1)[0].place);
      const size = random(10) ? random(2000) : random(300_000);
      const place = core.allocate(size);
      assert.equal(place % 16, 0);
      const [end, room] = [place + Math.max(size, 1), core.memory.buffer.byteLength];
      assert.ok(place > 0 && end <= room, `${place} to ${end} of ${room}`);
      const other = held.find((each) => each.place < end && place < each.end);
      assert.equal(other, undefined);
      held.push({ place, end });
    }
    for (const { place } of held) core.call.hpcm_free(place);
  };
  rounds();
  const bytes = core.memory.buffer.byteLength;
  core.call.hpcm_free(core.allocate(bytes - 2 ** 22));
  assert.equal(core.memory.buffer.byteLength, bytes); // what was free is one block
  for (let again = 0; again < 5; again++) rounds();
  assert.ok(core.memory.buffer.byteLength < 1.2 * bytes);
});
