/** For tests of the polyfill: a site with .hpcm files under a path, another server, and pages that show the files. */
import assert from "node:assert/strict";
import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "../build.js";
import { Codec } from "../src/codec.js";
import { unpack } from "../src/container.js";
import { launch, missing } from "./chromium.js";
import { loadCore } from "./core.js";
import { writeModels, serve, temporary } from "./server.js";

const PATIENCE = 20_000; // milliseconds
const TINY = fileURLToPath(new URL("../../tests/golden/tiny.safetensors", import.meta.url));
export const PREFIX = "/some/path/";
const WORKER = "hpcm-polyfill-worker.js";
const MANY = 40;
/** Width, height, and whether it has alpha. `large` is reduced, `rough` is shown roughly at first. */
const SIZES = { small: [96, 64], other: [80, 120], alpha: [90, 60, true], rough: [640, 480], large: [2304, 1920], exact: [650, 480], drawn: [660, 480] };
const LOSSLESS = { exact: { level: 0 }, drawn: {} }; // the second has no lossy picture
for (let i = 0; i < MANY; i++) SIZES[`many-${i}`] = [64 + i, 64];
export const many = Array.from({ length: MANY }, (_, i) => `many-${i}.hpcm`);

let folder;
let browser;
const means = {}; // red, green, blue and alpha of each file as it is decoded, by its name without .hpcm

before(async () => {
  if (missing) return;
  folder = await temporary();
  const site = join(folder, "site");
  await build(join(site, "hpcm"));
  await writeModels(join(site, "hpcm"), { tiny: TINY });
  await copyFile(join(site, "hpcm", WORKER), join(site, WORKER));
  await mkdir(join(site, "deeper"));
  const codec = await Codec.load(await loadCore(), new Uint8Array(await readFile(TINY)));
  for (const [name, size] of Object.entries(SIZES)) {
    const latents = await codec.analyse(picture(...size));
    const file = await (LOSSLESS[name] ? codec.encodeWithin(latents, 0, LOSSLESS[name]) : codec.encode(latents, 0));
    await writeFile(join(site, `${name}.hpcm`), file);
    means[name] = meanOf(await codec.decode(unpack(file)));
  }
  browser = await launch();
});

after(async () => {
  await browser?.close();
  if (folder) await rm(folder, { recursive: true, force: true });
});

/** A picture that differs from those of other widths. */
function picture(width, height, transparent = false) {
  const data = new Uint8ClampedArray(4 * width * height);
  for (let i = 0; i < width * height; i++) {
    const [x, y] = [i % width, Math.floor(i / width)];
    data.set([(255 * x) / width, (255 * y) / height, (37 * width) % 256, transparent && x < 20 ? 0 : 255], 4 * i);
  }
  return { data, width, height };
}

/** Of the model's pictures, which look like nothing much: it is a tiny one. */
export function meanOf({ data }) {
  const sums = [0, 0, 0, 0];
  for (let i = 0; i < data.length; i++) sums[i % 4] += data[i];
  return sums.map((sum) => (4 * sum) / data.length);
}

export const fileOf = (name) => readFile(join(folder, "site", `${name}.hpcm`));

/** The site; its answers may be changed. */
export async function sited(t, { headers = {}, ...answers } = {}) {
  const site = await serve(join(folder, "site"), PREFIX);
  site.headers = headers;
  Object.assign(site.answers, answers);
  t.after(() => site.close());
  return site;
}

/** What the page's listeners hear of images. */
const LISTEN = `<script>window.heard = []; for (const name of ["load", "error"])
  document.documentElement.addEventListener(name, ({ target }) => target.localName === "img" && window.heard.push(target.id + " " + name), true);</script>`;

/** @param {string} body @param {string} [script] attributes of the polyfill's script @param {string} [head] */
export const html = (body, script = `data-worker="${PREFIX}${WORKER}"`, head = "") =>
  `<!doctype html><meta charset="utf-8">${LISTEN}${head}<script type="module" src="${PREFIX}hpcm/hpcm-polyfill.js" ${script}></script>${body}`;

/** No service worker: elements are changed. */
export const WITHOUT = 'data-worker="none"';

/** Answers with a page. */
export const answering = (text, more = {}) => (response, headers) =>
  response.writeHead(200, { ...headers, "content-type": "text/html; charset=utf-8", ...more }).end(text);

/**
 * A page in a profile of its own, with what it logged: `said` are lines of the polyfill.
 * @param {{context?: object, script?: Function}} [options] script: runs before the page's own
 */
export async function opened(t, site, path = "page.html", { context: given, script } = {}) {
  const context = given ?? (await browser.newContext());
  if (script) await context.addInitScript(script);
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const said = [];
  page.on("console", (message) => message.text().startsWith("hpcm:") && said.push(message.text()));
  page.on("pageerror", (error) => said.push(`uncaught: ${error.message}`));
  if (!given) t.after(() => context.close());
  await page.goto(site.url + path);
  return { page, context, said };
}

/** The page again, once the service worker controls it. */
export async function controlled(page) {
  await page.waitForFunction(() => navigator.serviceWorker.controller);
  await page.reload();
  assert.ok(await page.evaluate(() => Boolean(navigator.serviceWorker.controller)));
}

export const heard = (page) => page.evaluate(() => window.heard);

/** Waits until the page has heard something of an image. */
export const hears = (page, wanted) => page.waitForFunction((wanted) => window.heard.includes(wanted), wanted);

/** The natural size of an image, and its mean red, green, blue and alpha. */
export const seen = (page, selector) =>
  page.evaluate(async (selector) => {
    const img = document.querySelector(selector);
    await img.decode();
    const [width, height] = [img.naturalWidth, img.naturalHeight];
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d");
    context.drawImage(img, 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    const sums = [0, 0, 0, 0];
    for (let i = 0; i < data.length; i++) sums[i % 4] += data[i];
    return [width, height, ...sums.map((sum) => (4 * sum) / data.length)];
  }, selector);

/** Checks that an image shows a file: its size and its colours. */
export async function shows(page, selector, name) {
  const [width, height, ...colours] = await seen(page, selector);
  assert.deepEqual([width, height], SIZES[name].slice(0, 2), name);
  const compared = SIZES[name][2] ? [3] : [0, 1, 2, 3]; // of what is transparent a canvas keeps alpha alone
  const near = compared.every((i) => Math.abs(colours[i] - means[name][i]) < 1);
  assert.ok(near, `${name}: its means are ${colours}, not ${means[name]}`);
}

/** Checks that an element of the page looks like a file, which has no other sign of being there. */
export async function looksLike(page, selector, name) {
  let found;
  for (let i = 0; i < 20; i++) {
    const png = (await page.locator(selector).screenshot()).toString("base64");
    found = meanOf({ data: await page.evaluate(pixelsOf, png) });
    if (found.every((colour, k) => Math.abs(colour - means[name][k]) < 1)) return;
    await page.waitForTimeout(100);
  }
  assert.fail(`${selector}: its means are ${found}, not ${means[name]}`);
}

async function pixelsOf(png) {
  const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${png}`)).blob());
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  return [...context.getImageData(0, 0, bitmap.width, bitmap.height).data];
}
