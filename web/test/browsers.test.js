/**
 * The npm packages and the page in Chromium, Firefox and WebKit, those that are there: node --test test/browsers.test.js
 * The packages lie in a folder and are imported from there, without a bundler.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { copyFile, rm, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { build } from "../build.js";
import { packages } from "../npm/make.js";
import { BROWSERS } from "./browsers.js";
import { coded, golden, nodesAnswer, shown } from "./coded.js";
import { writeModels, serve, temporary } from "./server.js";

const FILES = ["nano-1", "lite-1"];
const QUICK = ["nano-1"];
const PYTHON = process.env.PYTHON ?? "python3";
const none = Object.values(BROWSERS).every(({ missing }) => missing);

let folder;
let expected;

before(async () => {
  if (none) return;
  folder = await temporary();
  await packages(join(folder, "npm"));
  await writeFile(join(folder, "npm/index.html"), "<!doctype html><title>hpcm</title>");
  for (const file of FILES.flatMap((name) => [`${name}.hpcm`, `${name}.png`])) await copyFile(golden(file), join(folder, "npm", file));
  await build(join(folder, "site"));
  await writeModels(join(folder, "site"));
  expected = await nodesAnswer(join(folder, "npm"), FILES);
});

after(() => folder && rm(folder, { recursive: true, force: true }));

/** A server as everybody has one. @returns {Promise<string|undefined>} its URL; undefined if there is no Python */
async function plainServer(t, served) {
  const how = ["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", served];
  const child = spawn(PYTHON, how, { stdio: ["ignore", "pipe", "ignore"] });
  t.after(() => child.kill());
  return new Promise((found) => {
    child.once("error", () => found(undefined));
    createInterface({ input: child.stdout }).once("line", (text) => found(/\((\S+)\)/.exec(text)[1]));
  });
}

/** Runs in the page: compresses one of its samples. @returns {Promise<string[]>} what is said of the file: bytes, bits per pixel, PSNR */
async function compressSample() {
  const until = async (is) => {
    while (!is()) await new Promise((done) => setTimeout(done, 100));
  };
  await until(() => document.querySelector('[data-sample="plane.webp"]'));
  document.querySelector('[data-sample="plane.webp"]').click();
  await until(() => /plane\.webp/.test(document.querySelector("#title").innerText));
  await until(() => !document.querySelector(".stale, #status:not([hidden])") && !document.querySelector("#save-png").disabled);
  return [...document.querySelectorAll('.side[data-side="right"] dd')].map((each) => each.innerText);
}

/** Runs in the page: how the first call of a module of another host fails. @param {string} packages */
async function codeOf(packages) {
  const { configure, models } = await import(new URL("hpcm-web/hpcm-web.js", packages).href);
  configure({ models: new URL("hpcm-model-nano-1", packages) });
  return models().then(() => "nothing", ({ code, message }) => `${code}: ${message}`);
}

for (const [name, { missing, start }] of Object.entries(BROWSERS)) {
  test(`${name} decodes and encodes as Node does, and shows the page`, { skip: missing }, async (t) => {
    const browser = await start();
    t.after(() => browser.close());
    t.diagnostic(`${name} ${browser.version}`);

    const plain = await plainServer(t, join(folder, "npm"));
    const quick = { "nano-1": expected["nano-1"] };
    if (plain) {
      await browser.visit(plain);
      assert.deepEqual(await browser.run(coded, { files: QUICK, threads: 2 }), { ...quick, isolated: false });
    }

    const site = await serve(join(folder, "npm"));
    t.after(() => site.close());
    await browser.visit(site.url);
    assert.deepEqual(await browser.run(coded, { files: FILES, threads: 2 }), { ...expected, isolated: true });
    assert.ok(site.asked.includes("hpcm-web/hpcm-threads.wasm") && !site.asked.includes("hpcm-web/hpcm.wasm"));

    assert.deepEqual(await browser.run(shown, "nano-1.hpcm"), [153, 101]);

    const elsewhere = await serve(join(folder, "npm")); // as a network that serves npm packages
    t.after(() => elsewhere.close());
    elsewhere.headers = { "access-control-allow-origin": "*", "cross-origin-resource-policy": "cross-origin" };
    await browser.visit(site.url);
    const given = { files: QUICK, threads: 2, packages: elsewhere.url };
    assert.deepEqual(await browser.run(coded, given), { ...quick, isolated: true });
    assert.ok(elsewhere.asked.includes("hpcm-web/hpcm-threads.wasm"));

    elsewhere.answers["hpcm-web/worker.js"] = (response, headers) => response.writeHead(404, headers).end();
    await browser.visit(site.url);
    assert.match(await browser.run(codeOf, elsewhere.url), /^network: .*worker\.js can't be loaded/);

    const page = await serve(join(folder, "site"), "/some/path/");
    t.after(() => page.close());
    await browser.visit(page.url);
    const [bytes, rate, psnr] = await browser.run(compressSample);
    assert.ok(parseFloat(psnr) > 30, psnr);
    t.diagnostic(`${name}: ${bytes}, ${rate}, ${psnr}`);
  });
}
