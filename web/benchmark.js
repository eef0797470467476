/**
 * How long the codec takes in a browser: the table in docs/browser.md.
 *
 *     node benchmark.js [--rounds N]     after `npm ci`; needs Chromium
 *
 * For each model and number of threads a browser profile of its own. A sample of 768 x 512 is compressed, then decoded:
 * the first time with runtime and model fetched from this machine and compiled, then the median of N rounds.
 * A picture of 10 megapixels is coded once.
 */
import { rm, writeFile } from "node:fs/promises";
import { cpus } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { build } from "./build.js";
import { launch } from "./test/chromium.js";
import { linkModels, serve, temporary } from "./test/server.js";

const LARGE = [3648, 2736]; // columns and rows
const MODELS = ["nano", "lite"];
const THREADS = [1, 2];

/** Runs in the browser. @returns {Promise<Record<string, number>>} milliseconds */
async function measure({ model, threads, rounds, large }) {
  const { analyse, configure, decode, encode } = await import("./hpcm-web.js");
  configure({ threads });
  const timed = async (work) => {
    const begin = performance.now();
    const result = await work();
    return [performance.now() - begin, result];
  };
  const median = async (work) => {
    const times = [];
    for (let round = 0; round < rounds; round++) times.push((await timed(work))[0]);
    return times.sort((a, b) => a - b)[rounds >> 1];
  };
  const bitmap = await createImageBitmap(await (await fetch("./samples/parrots.webp")).blob());
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  canvas.drawImage(bitmap, 0, 0);
  const picture = canvas.getImageData(0, 0, bitmap.width, bitmap.height);
  const [first, file] = await timed(() => encode(picture, { model }));
  const analysed = await median(async () => (await analyse(picture, { model })).free());
  const decoded = await median(() => decode(file));
  const encoded = await median(() => encode(picture, { model }));
  const out = { first, analysed, encoded, decoded };
  if (!large) return out;
  const [width, height] = large;
  const repeated = new OffscreenCanvas(width, height).getContext("2d");
  repeated.fillStyle = repeated.createPattern(bitmap, "repeat");
  repeated.fillRect(0, 0, width, height);
  const [largeEncoded, largeFile] = await timed(() => encode(repeated.getImageData(0, 0, width, height), { model }));
  const [largeDecoded] = await timed(() => decode(largeFile));
  return { ...out, largeEncoded, largeDecoded };
}

const { rounds } = parseArgs({ options: { rounds: { type: "string", default: "5" } } }).values;
const folder = await temporary();
await build(join(folder, "site"));
await linkModels(join(folder, "site"));
await writeFile(join(folder, "site", "empty.html"), "<!doctype html>"); // a page that computes nothing itself
const server = await serve(join(folder, "site"));
const browser = await launch();
const seconds = (ms) => (ms === undefined ? "" : `${(ms / 1000).toFixed(2)} s`);
console.log(`Chromium ${browser.version()}, ${cpus()[0].model}, ${cpus().length} cores, ${new Date().toISOString().slice(0, 10)}\n`);
console.log("| model | threads | first encode | analyse | encode | decode | encode, 10 Mpx | decode, 10 Mpx |");
console.log("|---|--:|--:|--:|--:|--:|--:|--:|");
for (const model of MODELS) {
  for (const threads of THREADS) {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(`${server.url}empty.html`);
    const large = model === "nano" ? LARGE : undefined;
    const times = await page.evaluate(measure, { model, threads, rounds: Number(rounds), large });
    const { first, analysed, encoded, decoded, largeEncoded, largeDecoded } = times;
    const row = [first, analysed, encoded, decoded, largeEncoded, largeDecoded].map(seconds);
    console.log(`| ${[model, threads, ...row].join(" | ")} |`);
    await context.close();
  }
}
await browser.close();
server.close();
await rm(folder, { recursive: true, force: true });
