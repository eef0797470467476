/** The codec against files that the Python package made, in Node: no browser, no worker. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import * as ort from "onnxruntime-web";
import { Codec } from "../src/codec.js";
import { pack, unpack } from "../src/container.js";

const root = new URL("../../", import.meta.url);
const bytes = (path) => new Uint8Array(readFileSync(new URL(path, root)));
const graphs = { nano: bytes("src/hpcm/assets/graphs/nano.safetensors"), lite: bytes("src/hpcm/assets/graphs/lite.safetensors") };
ort.env.wasm.numThreads = 1;

const open = (name, folder = "src/hpcm/assets") =>
  Codec.load(bytes(`${folder}/${name}.safetensors`), graphs[name.split("-")[0]] ?? null, ort);

for (const name of ["nano-4", "nano-1", "lite-2", "lite-1"]) {
  test(`a golden file of ${name}: its symbols`, async () => {
    const codec = await open(name, name === "nano-4" || name === "lite-2" ? undefined : "src/hpcm/assets/retired");
    const data = bytes(`tests/golden/${name}.hpcm`);
    const container = unpack(data);
    assert.deepEqual(pack(container), data);
    const picture = await codec.decode(container);
    assert.equal(picture.width, 153);
    await codec.networks.release();
  });
}
