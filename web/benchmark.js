/**
 * How long the codec takes in a browser: the tables in docs/browser.md.
 *
 *     node benchmark.js [--rounds N] [--site FOLDER]     after `npm ci` and `python core/build.py --wasm`; needs Chromium
 *
 * FOLDER is a built page, such as that of another commit; by default it is built here. Each row has a browser profile of its
 * own. A sample of 768 x 512 is compressed, then decoded: the first time with codec and model fetched from this machine and
 * compiled, then the median of N rounds. Large pictures are coded once. A first visit is one of the page, over a line of
 * 10 Mbit/s and 20 ms each way, until the sample is compressed.
 */
import { cp, readFile, rm, writeFile } from "node:fs/promises";
import { cpus } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { build } from "./build.js";
import { launch } from "./test/chromium.js";
import { RELEASED, writeModels, serve, temporary } from "./test/server.js";

const LARGE = { "10 Mpx": [3648, 2736], "12 Mpx": [4000, 3000] }; // columns and rows
const LAYERS = { "quality 90": { quality: 90 }, lossless: { lossless: true } }; // what has a residual layer
const MODELS = ["nano-1", "lite-1"];
const THREADS = [1, 2];
const LINE = 10e6 / 8; // bytes a second
const DELAY = 20; // milliseconds, each way
const PIECE = 16_384; // bytes that are sent at once

/** Runs in the browser. @returns {Promise<Record<string, number>>} milliseconds */
async function measure({ model, threads, rounds, large, layers }) {
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
  const repeated = (width, height) => {
    const context = new OffscreenCanvas(width, height).getContext("2d");
    context.fillStyle = context.createPattern(bitmap, "repeat");
    context.fillRect(0, 0, width, height);
    return context.getImageData(0, 0, width, height);
  };
  const picture = repeated(bitmap.width, bitmap.height);
  const [first, file] = await timed(() => encode(picture, { model }));
  const out = {
    "first encode": first,
    analyse: await median(async () => (await analyse(picture, { model })).free()),
    encode: await median(() => encode(picture, { model })),
    decode: await median(() => decode(file)),
  };
  for (const [name, how] of Object.entries(layers)) {
    const data = await encode(picture, { model, ...how });
    out[`encode, ${name}`] = await median(() => encode(picture, { model, ...how }));
    out[`decode, ${name}`] = await median(() => decode(data));
  }
  for (const [name, size] of Object.entries(large)) {
    const [encoded, data] = await timed(() => encode(repeated(...size), { model }));
    const [decoded] = await timed(() => decode(data));
    Object.assign(out, { [`encode, ${name}`]: encoded, [`decode, ${name}`]: decoded });
  }
  return out;
}

/** Answers over one line, which all files share. */
function slowAnswer() {
  let free = 0; // when the line is
  const later = (ms) => new Promise((done) => setTimeout(done, ms));
  return async (response, headers, file) => {
    const data = await readFile(file);
    await later(2 * DELAY);
    response.writeHead(200, headers);
    for (let at = 0; at < data.length; at += PIECE) {
      const piece = data.subarray(at, at + PIECE);
      free = Math.max(free, performance.now()) + (1000 * piece.length) / LINE;
      await later(free - performance.now());
      response.write(piece);
    }
    response.end();
  };
}

/** Seconds from the page's address to the compressed sample, and bytes that came until then. */
async function visit(browser, site) {
  const page = await (await browser.newContext()).newPage();
  let bytes = 0;
  const answer = slowAnswer();
  const counted = async (response, headers, file) => {
    bytes += (await readFile(file)).length;
    return answer(response, headers, file);
  };
  site.answers = new Proxy({}, { get: () => counted });
  const begin = performance.now();
  await page.goto(site.url);
  await page.locator('[data-sample="parrots.webp"]').click();
  await page.waitForFunction(() => document.querySelector("#save-hpcm").getAttribute("href"), undefined, { timeout: 600_000 });
  const result = [performance.now() - begin, bytes];
  site.answers = {};
  await page.context().close();
  return result;
}

const { values } = parseArgs({ options: { rounds: { type: "string", default: "5" }, site: { type: "string" } } });
const seconds = (ms) => `${(ms / 1000).toFixed(2)} s`;
const row = (...cells) => console.log(`| ${cells.join(" | ")} |`);
const folder = join(await temporary(), "site");
if (values.site) await cp(values.site, folder, { recursive: true });
else await build(folder);
await writeFile(join(folder, "empty.html"), "<!doctype html>"); // a page that computes nothing itself
const browser = await launch();
console.log(`Chromium ${browser.version()}, ${cpus()[0].model}, ${cpus().length} cores, ${new Date().toISOString().slice(0, 10)}\n`);
let headed = false;
const visits = [];
for (const model of MODELS) {
  await rm(join(folder, "models"), { recursive: true, force: true });
  await writeModels(folder, { [model]: RELEASED[model] });
  const site = await serve(folder);
  for (const threads of THREADS) {
    const page = await (await browser.newContext()).newPage();
    await page.goto(`${site.url}empty.html`);
    const times = await page.evaluate(measure, { model, threads, rounds: Number(values.rounds), large: LARGE, layers: LAYERS });
    if (!headed) {
      row("model", "threads", ...Object.keys(times));
      row("---", "--:", ...Object.keys(times).map(() => "--:"));
      headed = true;
    }
    row(model, threads, ...Object.values(times).map(seconds));
    await page.context().close();
  }
  visits.push([model, ...(await visit(browser, site))]);
  site.close();
}
console.log("\n| model | first visit | bytes |\n|---|--:|--:|");
for (const [model, time, bytes] of visits) row(model, seconds(time), `${(bytes / 1e6).toFixed(1)} MB`);
await browser.close();
await rm(join(folder, ".."), { recursive: true, force: true });
