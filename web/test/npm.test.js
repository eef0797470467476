/**
 * The npm packages as one installs them: their files and types, in Node, and with Vite in Chromium. Needs build/wasm.
 * node --test test/npm.test.js
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { build as buildForVite, createServer, preview } from "vite";
import { pack, packages, versionOf } from "../npm/make.js";
import { launch, missing } from "./chromium.js";
import { golden, nodesAnswer } from "./coded.js";
import { temporary } from "./server.js";

const CODEC_FILES = [
  ...["LICENSE", "README.md", "licenses.txt", "package.json"],
  ...["hpcm-web.js", "worker.js", "hpcm-img.js", "hpcm-node.js", "node-worker.js", "hpcm.wasm", "hpcm-threads.wasm"],
  ...["hpcm-polyfill.js", "hpcm-polyfill-worker.js", "types/polyfill/page.d.ts"],
  ...["index", "element", "errors", "levels", "colours", "container"].map((name) => `types/${name}.d.ts`),
];
const MODELS = ["lite-1", "lite-mse-1", "nano-1"];
const MODEL_FILES = (name) => ["LICENSE", "README.md", "index.d.ts", "index.js", "index.json", "package.json", `${name}.safetensors.gz`];
const TSC = fileURLToPath(new URL("../node_modules/typescript/bin/tsc", import.meta.url));
const HEADERS = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

let folder; // with the packages in npm/, and a program that has installed them in app/
let packed; // {path, files} by name
let expected; // of the golden files, as coded.js has it

const app = (name) => join(folder, "app", name);

before(async () => {
  folder = await temporary();
  const made = await packages(join(folder, "npm"));
  packed = Object.fromEntries(made.map((each) => [each.split(/[\\/]/).at(-1), pack(each, folder)]));
  await mkdir(app(""));
  await writeFile(app("package.json"), JSON.stringify({ private: true, type: "module" }));
  const files = ["hpcm-web", "hpcm-model-nano-1", "hpcm-model-lite-1"].map((name) => packed[name].path);
  const options = { cwd: app(""), shell: process.platform === "win32" }; // npm is a script there
  execFileSync("npm", ["install", "--offline", "--no-audit", "--no-fund", "--loglevel=error", ...files], options);
  for (const name of ["nano-1.hpcm", "lite-1.hpcm"]) await copyFile(golden(name), app(name));
  expected = await nodesAnswer(join(folder, "npm"), ["nano-1", "lite-1"]);
});

after(() => rm(folder, { recursive: true, force: true }));

const manifestOf = async (name) => JSON.parse(await readFile(join(folder, "npm", name, "package.json")));

test("packages have the files that they should have, and no others", () => {
  const right = { "hpcm-web": CODEC_FILES, ...Object.fromEntries(MODELS.map((name) => [`hpcm-model-${name}`, MODEL_FILES(name)])) };
  const found = Object.fromEntries(Object.entries(packed).map(([name, { files }]) => [name, files]));
  for (const files of Object.values(right)) files.sort();
  assert.deepEqual(found, right);
});

test("packages have the project's version, need no others, and export what is there", async () => {
  const version = await versionOf();
  for (const [name, { files }] of Object.entries(packed)) {
    const manifest = await manifestOf(name);
    assert.equal(manifest.version, version);
    assert.deepEqual([manifest.dependencies, manifest.scripts, manifest.private], [undefined, undefined, undefined]);
    const targets = Object.values(manifest.exports).flatMap((target) => (typeof target === "string" ? target : Object.values(target)));
    const exact = targets.filter((target) => !target.includes("*"));
    for (const target of exact) assert.ok(files.includes(target.slice(2)), `${name}: ${target}`);
  }
});

test("the README's sizes are those of the files", async () => {
  const readme = await readFile(join(folder, "npm/hpcm-web/README.md"), "utf8");
  for (const file of CODEC_FILES.filter((name) => /^[\w-]+\.(js|wasm)$/.test(name) && !/node/.test(name))) {
    const bytes = (await readFile(join(folder, "npm/hpcm-web", file))).length;
    assert.ok(readme.includes(`| ${file} | ${(bytes / 1000).toFixed(1)} kB |`), file);
  }
});

// ---- Node --------------------------------------------------------------------------------------------------------------

/** Runs a program in the folder that has the packages installed. @returns {unknown} what it prints, as JSON */
async function run(program) {
  await writeFile(app("program.js"), program);
  const { status, stdout, stderr } = spawnSync(process.execPath, ["program.js"], { cwd: app(""), encoding: "utf8", timeout: 120_000 });
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout);
}

test("a program in Node decodes and encodes, with models of packages and of a folder, and ends by itself", async () => {
  for (const models of ["[nano, 'node_modules/hpcm-model-lite-1']", "['node_modules/hpcm-model-nano-1/', lite]"]) {
    const found = await run(`
      import { createHash } from "node:crypto";
      import { readFile } from "node:fs/promises";
      import { configure, decode, encode } from "hpcm-web";
      import lite from "hpcm-model-lite-1";
      import nano from "hpcm-model-nano-1";
      configure({ models: ${models}, threads: 2 });
      const sha256 = (data) => createHash("sha256").update(data).digest("hex");
      const found = {};
      for (const name of ["nano-1", "lite-1"]) {
        const picture = await decode(await readFile(name + ".hpcm"));
        const encoded = sha256(await encode(picture, { model: name, quality: 60 }));
        found[name] = [sha256(picture.data), encoded, encoded];
      }
      console.log(JSON.stringify(found));
    `);
    assert.deepEqual(found, expected);
  }
});

test("in Node the other functions work, and what can't be done is told", async () => {
  const found = await run(`
    import { readFile } from "node:fs/promises";
    import { HpcmError, analyse, bitmapOf, cached, configure, decode, encode, info, levelOf, models, preload, thumbnail } from "hpcm-web";
    import nano from "hpcm-model-nano-1";
    configure({ models: nano });
    const data = await readFile("nano-1.hpcm");
    const told = async (work) => work.then(() => "nothing", (error) => (error instanceof HpcmError ? error.code : String(error)));
    await preload("nano");
    const latents = await analyse(await decode(data));
    const sizes = [await latents.encode(20), await latents.encode(80)].map(({ length }) => length);
    latents.free();
    const { width, height } = await thumbnail(data);
    console.log(JSON.stringify({
      info: info(data).width, thumbnail: [width, height], levels: [latents.levels, levelOf(100, latents.levels)],
      grows: sizes[0] < sizes[1], cached: await cached("nano"), models: (await models()).models.map(({ name }) => name),
      blob: await told(encode(new Blob([data]))), cut: await told(decode(data.subarray(0, 300))),
      bitmap: await told(bitmapOf(await decode(data), data)), other: await told(decode(await readFile("lite-1.hpcm"))), aborted: await told(decode(data, { signal: AbortSignal.abort() })),
    }));
  `);
  const right = { info: 153, thumbnail: [3, 2], levels: [64, 83], grows: true, cached: true, models: ["nano-1"] };
  assert.deepEqual(found, { ...right, blob: "picture", bitmap: "unsupported", cut: "truncated", other: "model", aborted: "aborted" });
});

test("in Node lossless files are made and opened, and say what they are", async () => {
  const found = await run(`
    import { readFile } from "node:fs/promises";
    import { analyse, configure, decode, encode, info } from "hpcm-web";
    import nano from "hpcm-model-nano-1";
    configure({ models: nano, threads: 2 });
    const picture = await decode(await readFile("nano-1.hpcm"));
    const told = async (work) => work.then(() => "nothing", ({ code }) => code);
    const worst = async (file) => (await decode(file)).data.reduce((most, sample, i) => Math.max(most, Math.abs(sample - picture.data[i])), 0);
    const lossless = await encode(picture, { lossless: true });
    const near = await encode(picture, { maxError: 3, quality: 20 });
    const best = await encode(picture, { quality: 100 });
    const latents = await analyse(picture);
    const again = await latents.encode(undefined, { lossless: true });
    const usual = await latents.encode();
    latents.free();
    const parts = [];
    await decode(lossless, { onpart: ({ lossy }) => parts.push(lossy) });
    const cut = lossless.subarray(0, lossless.length - 5);
    console.log(JSON.stringify({
      worst: [await worst(lossless), await worst(near)], parts, same: Buffer.compare(lossless, again),
      layers: [info(lossless), info(near), info(best), info(cut)].map(({ residual }) => residual), usual: info(usual).level, bare: info(usual).residual ?? "none",
      cut: [await told(decode(cut)), (await decode(cut, { partial: true })).whole], grows: best.length < lossless.length,
      wrong: await Promise.all([{ lossless: true, quality: 81 }, { maxError: 128 }, { quality: 101 }].map((how) => told(encode(picture, how)))),
    }));
  `);
  const beside = "lossy picture";
  assert.deepEqual(found, {
    worst: [0, 3], parts: [true, false], same: 0, usual: 39, bare: "none", cut: ["truncated", false], grows: true, wrong: ["usage", "usage", "usage"],
    layers: [{ beside, maxError: 0, progress: 1 }, { beside, maxError: 3, progress: 1 }, { beside, step: 12, progress: 1 }, { beside, maxError: 0, progress: 0 }],
  });
});

test("in Node a folder without models, and a worker that isn't there, are told", async () => {
  const found = await run(`
    import { readFile } from "node:fs/promises";
    const data = await readFile("nano-1.hpcm");
    const found = [];
    for (const given of [{ models: "nowhere" }, { worker: "nowhere.js" }, { models: {} }]) {
      const { configure, decode } = await import("./node_modules/hpcm-web/hpcm-node.js?" + found.length);
      configure(given);
      found.push(await decode(data).catch(({ code, message }) => [code, /nowhere/.test(message)]));
    }
    console.log(JSON.stringify(found));
  `);
  assert.deepEqual(found, [["network", true], ["lost", true], ["usage", false]]);
});

// ---- TypeScript --------------------------------------------------------------------------------------------------------

const CONSUMER = `
import { start } from "hpcm-web/polyfill";
import { type Info, HpcmError, analyse, bitmapOf, configure, decode, encode, info, models, qualityOf, thumbnail } from "hpcm-web";
import nano from "hpcm-model-nano-1";
import { HpcmImage } from "hpcm-web/element";

configure({ models: nano });
configure({ models: [new URL("https://example.org/models/"), "models/", nano], threads: 2 });
export const shower: Promise<string> = start({ models: nano, worker: "/hpcm-polyfill-worker.js", atOnce: 1 });
export async function show(context: CanvasRenderingContext2D, file: Uint8Array, signal: AbortSignal): Promise<number> {
  const { data, width, height, whole } = await decode(file, { signal, box: [0, 0, 8, 8], onpart: ({ left, top }) => left + top });
  context.putImageData(new ImageData(data, width, height), 0, 0);
  context.drawImage(await bitmapOf({ data, width, height }, file), 0, 0);
  const bytes = await encode(context.getImageData(0, 0, width, height), { quality: 50, onprogress: (share) => share.toFixed(2) });
  await encode(await createImageBitmap(new Blob([bytes])));
  const latents = await analyse({ data: new Uint8Array(4), width: 1, height: 1 }, { model: "nano" });
  const smaller: Uint8Array<ArrayBuffer> = await latents.encode(20, { progressive: true });
  const exact = info(await latents.encode(undefined, { lossless: true })).residual?.maxError === 0;
  const near = info(await encode(new Blob([bytes]), { maxError: 2 }));
  const quality: number | undefined = qualityOf(near.level, latents.levels, near.residual?.step);
  latents.free();
  const facts: Info = info(smaller);
  const small = await thumbnail(file);
  const element: HpcmImage = document.createElement("hpcm-img");
  element.hidden = !whole;
  return facts.level + Number(exact) + (quality ?? 0) + small.width + (await models()).models[0].bytes;
}
export const isAborted = (error: unknown): boolean => error instanceof HpcmError && error.code === "aborted";
// @ts-expect-error quality is a number
encode(new Blob(), { quality: "50" });
// @ts-expect-error a file isn't text
decode("photo.hpcm");
// @ts-expect-error no such code
new HpcmError("nonsense", "");
// @ts-expect-error a box has four sides
decode(new Uint8Array(), { box: [0, 0, 8] });
`;

/** What programs for Node have, which know no DOM. Its own types declare these three. */
const CONSUMER_OF_NODE = `
import { decode, encode } from "hpcm-web";

declare global {
  class URL { constructor(url: string); }
  class Blob { constructor(parts: unknown[]); }
  class AbortSignal {}
}
export async function smaller(file: Uint8Array): Promise<Uint8Array> {
  return encode(await decode(file), { quality: 20 });
}
`;

test("programs in TypeScript are checked against the packages' types, with and without those of browsers", async () => {
  const modules = [["--module", "nodenext"], ["--module", "esnext", "--moduleResolution", "bundler"]];
  for (const [lib, text] of [["es2022,dom", CONSUMER], ["es2022", CONSUMER_OF_NODE]]) {
    await writeFile(app("consumer.ts"), text);
    for (const options of modules) {
      const given = ["--ignoreConfig", "--noEmit", "--strict", "--target", "es2022", "--lib", lib, ...options, "consumer.ts"];
      const { status, stdout } = spawnSync(process.execPath, [TSC, ...given], { cwd: app(""), encoding: "utf8" });
      assert.equal(status, 0, stdout);
    }
  }
});

// ---- Vite --------------------------------------------------------------------------------------------------------------

const PROGRAM = `
import { configure, decode, encode } from "hpcm-web";
import nano from "hpcm-model-nano-1";
import { start } from "hpcm-web/polyfill";
import photo from "./nano-1.hpcm?url";

configure({ threads: 2 });
start({ models: nano, worker: "none" });
const hex = (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
const sha256 = async (data) => hex(await crypto.subtle.digest("SHA-256", data));
window.coded = async () => {
  const picture = await decode(await (await fetch(photo)).arrayBuffer());
  const encoded = await sha256(await encode(picture, { quality: 60 }));
  return [await sha256(picture.data), encoded, encoded];
};
`;

test("Vite bundles a program with the polyfill, and serves it while it is being developed", { skip: missing }, async (t) => {
  const icon = '<link rel="icon" href="data:,">'; // else the browser asks for one, in vain
  await writeFile(app("index.html"), `<!doctype html><title>hpcm</title>${icon}<img src="/nano-1.hpcm"><script type="module" src="/main.js"></script>`);
  await writeFile(app("main.js"), PROGRAM);
  const browser = await launch();
  t.after(() => browser.close());
  const options = { root: app(""), configFile: false, logLevel: "warn", build: { assetsInlineLimit: 0 } }; // the file is small
  const host = { host: "127.0.0.1", port: 0, headers: HEADERS };
  const check = async ({ resolvedUrls }) => {
    const page = await browser.newPage();
    const errors = [];
    page.on("pageerror", (error) => errors.push(error.message));
    page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
    await page.goto(resolvedUrls.local[0]);
    await page.waitForFunction(() => window.coded);
    assert.deepEqual(await page.evaluate(() => crossOriginIsolated && window.coded()), expected["nano-1"]);
    await page.waitForFunction(() => document.images[0].dataset.hpcm === "shown");
    assert.equal(await page.evaluate(() => document.images[0].naturalWidth), 153);
    assert.deepEqual(errors, []);
  };
  await buildForVite(options);
  const built = await preview({ ...options, preview: host });
  await check(built);
  await built.close();
  const served = await createServer({ ...options, server: { ...host, watch: null } });
  await served.listen();
  await check(served);
  await served.close();
});
