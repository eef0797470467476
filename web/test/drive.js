/**
 * Runs the codec in Node for another program's tests: jobs come as lines of JSON on standard input, an answer a line goes
 * to standard output. A model is the path of its weights.
 *
 *     node drive.js [threads]
 *     {"do": "decode", "model": ..., "file": PATH, "scale": 3, "partial": false, "box": [l, t, r, b], "out": PATH}   RGBA to OUT
 *     {"do": "encode", "model": ..., "image": PATH of RGBA, "width": W, "height": H, "levels": [L, ...], "out": PATH}   to OUT.L
 *     {"do": "encodeWithin", "model": ..., "image": ..., "width": W, "height": H, "maxError": 0, "level": L, "out": PATH}
 */
import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { Codec } from "../src/codec.js";
import { unpack } from "../src/container.js";
import { loadCore } from "./core.js";

const bytes = (path) => new Uint8Array(readFileSync(path));
const core = await loadCore(Number(process.argv[2] ?? 1));
const codecs = new Map();

function opened(weights) {
  if (!codecs.has(weights)) codecs.set(weights, Codec.load(core, bytes(weights)));
  return codecs.get(weights);
}

const jobs = {
  async decode({ model, file, scale, partial, box, out }) {
    const container = unpack(bytes(file), { partial });
    const codec = model ? await opened(model) : Codec.withoutModel(core);
    const picture = await codec.decode(container, { scale: scale ?? undefined, box: box ?? undefined });
    writeFileSync(out, picture.data);
    return { width: picture.width, height: picture.height };
  },

  async encode({ model, image, width, height, levels, progressive, out }) {
    const codec = await opened(model);
    const latents = await codec.analyse({ data: bytes(image), width, height });
    for (const level of levels) writeFileSync(`${out}.${level}`, await codec.encode(latents, level, { progressive }));
    return {};
  },

  async encodeWithin({ model, image, width, height, maxError, level, progressive, out }) {
    const codec = await opened(model);
    const latents = await codec.analyse({ data: bytes(image), width, height });
    writeFileSync(out, await codec.encodeWithin(latents, maxError, { level, progressive }));
    return {};
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const job = JSON.parse(line);
  const answer = await jobs[job.do](job).catch((error) => ({ error: error.code ?? String(error), message: error.message }));
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0);
