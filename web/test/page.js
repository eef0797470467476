/** For tests of the page: a site with the package's models, a browser, and what one does there. */
import assert from "node:assert/strict";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { after, before } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "../build.js";
import { launch, missing } from "./chromium.js";
import { writeModels, serve, temporary } from "./server.js";

const PATIENCE = 180_000; // milliseconds; networks take their time on a machine that is busy
const DESKTOP = { width: 1280, height: 800 };
/** Options of a page on a phone. */
export const PHONE = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };
/** Options of a page whose default is the quick model: one visit needs no other. */
export const QUICK = { standard: "nano-1" };

let folder;
let browser;

before(async () => {
  if (missing) return;
  folder = await temporary();
  await build(join(folder, "site"));
  await writeModels(join(folder, "site"));
  browser = await launch();
});

after(async () => {
  await browser?.close();
  if (folder) await rm(folder, { recursive: true, force: true });
});

/** The path of a file that the test makes, or that the site has ("site/..."). */
export const pathOf = (name) => join(folder, name);

/** The path of a file of tests/golden. */
export const golden = (name) => fileURLToPath(new URL(`../../tests/golden/${name}`, import.meta.url));

/**
 * A page in a profile of its own; the test fails if it logs an error.
 * @param {object} [options] of the browser's context, and of ours: standard: the default model; change: what is done to
 *   the server before; allowed: errors that may be logged
 */
export async function page(t, { standard = "lite-1", change = () => {}, allowed = /^$/, ...options } = {}) {
  const server = await serve(join(folder, "site"), "/some/path/");
  server.answers["models/index.json"] = async (response, headers, file) => {
    const list = JSON.parse(await readFile(file));
    response.writeHead(200, headers).end(JSON.stringify({ ...list, default: standard }));
  };
  change(server);
  const context = await browser.newContext({ viewport: DESKTOP, ...options });
  await context.addInitScript(recordCalls);
  const opened = await context.newPage();
  opened.setDefaultTimeout(PATIENCE);
  const errors = [];
  opened.on("pageerror", (error) => errors.push(error.message));
  opened.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  t.after(async () => {
    await context.close();
    server.close();
    assert.deepEqual(errors.filter((error) => !allowed.test(error)), []);
  });
  await opened.goto(server.url);
  return opened;
}

/** Runs in the page: keeps what the codec is asked for. */
function recordCalls() {
  window.calls = [];
  const { postMessage } = Worker.prototype;
  Worker.prototype.postMessage = function (message, ...rest) {
    const { call, given } = message;
    if (call) Object.assign(window, { codec: this, calls: [...window.calls, [call, given]] });
    return postMessage.call(this, message, ...rest);
  };
}

/** What the codec was asked for: "analyse nano-1", "decode", ... @param {string[]} wanted names of calls */
export const calls = (page, wanted) =>
  page.evaluate((wanted) => {
    const asked = window.calls.filter(([call]) => wanted.includes(call));
    return asked.map(([call, { model }]) => (model ? `${call} ${model}` : call));
  }, wanted);

/** Ends the codec's worker, by something that it doesn't foresee. */
export const loseWorker = (page) =>
  page.evaluate(() => window.codec.postMessage({ id: -1, call: "nonsense", given: {} }));

/** Waits until an element's text is as wanted. @param {RegExp} wanted */
export function shows(page, selector, wanted) {
  const is = ([selector, source]) => new RegExp(source).test(document.querySelector(selector).innerText);
  return page.waitForFunction(is, [selector, wanted.source]);
}

/** Holds an answer back until `release` is called; half of it, so that something is on its way. */
export function held() {
  let release;
  const released = new Promise((done) => (release = done));
  const answer = async (response, headers, file) => {
    const data = await readFile(file);
    response.writeHead(200, { ...headers, "content-length": data.length });
    response.write(data.subarray(0, data.length >> 1));
    await released;
    response.end(data.subarray(data.length >> 1));
  };
  return { answer, release };
}

/** Waits until all that is on the screen belongs to what the slider and the model say. */
export const settled = (page) =>
  page.waitForFunction(() => {
    const working = document.querySelector(".stale, #status:not([hidden])");
    return !working && !document.querySelector("#save-png").disabled;
  });

export async function sample(page, name = "plane.webp") {
  await page.click(`[data-sample="${name}"]`);
  await shows(page, "#title", new RegExp(name));
  await settled(page);
}

/** The numbers of one side, in bytes, bits per pixel and decibels. */
export async function numbers(page, side) {
  const texts = await page.locator(`.side[data-side="${side}"] dd`).allTextContents();
  const [bytes, rate, psnr] = texts.map(parseFloat);
  return { bytes: texts[0].endsWith("kB") ? bytes * 1000 : bytes, rate, psnr };
}

/** Downloads a file by a click. @returns {Promise<string>} its path */
export async function download(page, button = "#save-hpcm") {
  const [saved] = await Promise.all([page.waitForEvent("download"), page.click(button)]);
  const path = join(folder, saved.suggestedFilename());
  await saved.saveAs(path);
  return path;
}

/** @param {string|string[]|object|object[]} files paths, or {name, mimeType, buffer} */
export const open = (page, files) => page.setInputFiles("#file", files);
