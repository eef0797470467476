/**
 * Makes web/dist/: the page, the module and what they need beside them, without the weights.
 *
 *     index.html, style.css, app.js, theme.js, rivals-worker.js, offline.js, icon.svg, samples/    the page
 *     hpcm-web.js, worker.js    the module and its worker     hpcm-img.js    the element
 *     graphs.json               the networks of models, without weights
 *     ort/                      ONNX Runtime, as its package has it
 *
 * The page and the element import hpcm-web.js, so that the module is there once.
 */
import { createHash } from "node:crypto";
import { copyFile, cp, mkdir, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build as bundle } from "esbuild";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const PAGE = join(HERE, "page");
const ORT = join(HERE, "node_modules/onnxruntime-web");
const RUNTIME = ["ort-wasm-simd-threaded.wasm", "ort-wasm-simd-threaded.mjs"];
const MOST_BYTES = 200_000; // of what the page is besides ONNX Runtime's wasm, models and samples

const MODULE = join(HERE, "src/index.js");
/** The module stays a file of its own where the page or the element imports it. */
const apart = {
  name: "apart",
  setup(work) {
    work.onResolve({ filter: /^hpcm-web$|\/index\.js$/ }, ({ path, resolveDir }) => {
      const ours = path === "hpcm-web" || join(resolveDir, path) === MODULE;
      return ours ? { path: "./hpcm-web.js", external: true } : undefined;
    });
  },
};

/** What all bundles share. */
function shared(out, define) {
  const options = { bundle: true, minify: true, format: "esm", target: "es2022", legalComments: "none", define };
  return { ...options, outdir: out, conditions: ["onnxruntime-web-use-extern-wasm"], logLevel: "warning" };
}

/** @param {string} [out] the folder, which is emptied @returns {Promise<Record<string, number>>} bytes by file */
export async function build(out = join(HERE, "dist")) {
  await rm(out, { recursive: true, force: true });
  await mkdir(join(out, "ort"), { recursive: true });
  for (const file of RUNTIME) await copyFile(join(ORT, "dist", file), join(out, "ort", file));
  const { version } = JSON.parse(await readFile(join(ORT, "package.json"), "utf8"));
  const { size } = await stat(join(out, "ort", RUNTIME[0]));
  await bundles(out, { __ORT_BYTES__: String(size) });
  for (const file of ["index.html", "icon.svg"]) await copyFile(join(PAGE, file), join(out, file));
  await copyFile(join(HERE, "graphs.json"), join(out, "graphs.json"));
  await cp(join(PAGE, "samples"), join(out, "samples"), { recursive: true });
  await offline(out, version);
  return sizes(out);
}

async function bundles(out, define) {
  const options = shared(out, define);
  const page = ["app", "rivals-worker", "style"].map((name) => ({ in: join(PAGE, name), out: name }));
  const element = { in: join(HERE, "src/element.js"), out: "hpcm-img" };
  const worker = { in: join(HERE, "src/worker.js"), out: "worker" };
  await bundle({ ...options, entryPoints: [...page, element], plugins: [apart] });
  await bundle({ ...options, entryPoints: [{ in: MODULE, out: "hpcm-web" }, worker] });
  await bundle({ ...options, entryPoints: [join(PAGE, "theme.js")], format: "iife" });
}

/** The service worker knows the files of the page, and a version that changes with any of them. */
async function offline(out, ortVersion) {
  const files = Object.keys(await sizes(out)).filter((file) => !file.startsWith("ort/"));
  const hash = createHash("sha256");
  for (const file of files) hash.update(file).update(await readFile(join(out, file)));
  const define = {
    __VERSION__: JSON.stringify(hash.digest("hex").slice(0, 16)),
    __ORT_FILES__: JSON.stringify(RUNTIME),
    __ORT_VERSION__: JSON.stringify(ortVersion),
    __FILES__: JSON.stringify(files),
  };
  await bundle({ ...shared(out, define), entryPoints: [join(PAGE, "offline.js")], format: "iife" });
}

async function sizes(out) {
  const entries = await readdir(out, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath ?? entry.path, entry.name)).sort();
  const found = files.map(async (file) => [relative(out, file), (await stat(file)).size]);
  return Object.fromEntries(await Promise.all(found));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const made = await build(process.argv[2]);
  const counted = Object.entries(made).filter(([file]) => !file.endsWith(".wasm") && !file.startsWith("samples/"));
  const total = counted.reduce((sum, [, bytes]) => sum + bytes, 0);
  for (const [file, bytes] of Object.entries(made)) console.log(`${String(bytes).padStart(10)}  ${file}`);
  console.log(`${String(total).padStart(10)}  without wasm and samples, of ${MOST_BYTES} at most`);
  if (total > MOST_BYTES) process.exit(1);
}
