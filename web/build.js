/**
 * Makes web/dist/: the page, the module and what they need beside them, without the weights.
 *
 *     index.html, style.css, app.js, theme.js, rivals-worker.js, offline.js, icon.svg, samples/    the page
 *     hpcm-web.js, worker.js, hpcm.wasm, hpcm-threads.wasm    the module, its worker, and libhpcm for one thread and several
 *     hpcm-img.js                                             the element
 *
 * `python core/build.py --wasm` compiles libhpcm into build/wasm before. The page and the element import hpcm-web.js, so
 * that the module is there once. A version is made of all sources: page, worker and .wasm files work with their own alone.
 */
import { createHash } from "node:crypto";
import { copyFile, cp, mkdir, readFile, readdir, rm, stat } from "node:fs/promises";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build as bundle } from "esbuild";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const PAGE = join(HERE, "page");
const CORE = join(HERE, "../build/wasm");
const WASM = ["hpcm.wasm", "hpcm-threads.wasm"];
const MOST_BYTES = 400_000; // of the page without samples

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
  return { ...options, outdir: out, logLevel: "warning" };
}

/** What the sources are told: their version, and what the .wasm files' SHA-256 must be. */
export async function constants() {
  const wasm = {};
  for (const name of WASM) wasm[name] = sha256(await readFile(join(CORE, name)));
  const hash = createHash("sha256").update(JSON.stringify(wasm));
  for (const folder of ["src", "page"]) {
    for (const file of Object.keys(await sizes(join(HERE, folder)))) hash.update(file).update(await readFile(join(HERE, folder, file)));
  }
  return { __VERSION__: JSON.stringify(hash.digest("hex").slice(0, 16)), __WASM__: JSON.stringify(wasm) };
}

const sha256 = (data) => createHash("sha256").update(data).digest("hex");

/** @param {string} [out] the folder, which is emptied @returns {Promise<Record<string, number>>} bytes by file */
export async function build(out = join(HERE, "dist")) {
  const define = await constants();
  await rm(out, { recursive: true, force: true });
  await mkdir(out, { recursive: true });
  for (const name of WASM) await copyFile(join(CORE, name), join(out, name));
  await bundles(out, define);
  for (const file of ["index.html", "icon.svg"]) await copyFile(join(PAGE, file), join(out, file));
  await cp(join(PAGE, "samples"), join(out, "samples"), { recursive: true });
  const files = JSON.stringify(Object.keys(await sizes(out)));
  await bundle({ ...shared(out, { ...define, __FILES__: files }), entryPoints: [join(PAGE, "offline.js")], format: "iife" });
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

async function sizes(out) {
  const entries = await readdir(out, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath ?? entry.path, entry.name)).sort();
  const found = files.map(async (file) => [relative(out, file), (await stat(file)).size]);
  return Object.fromEntries(await Promise.all(found));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const made = await build(process.argv[2]);
  const total = Object.entries(made).reduce((sum, [file, bytes]) => sum + (file.startsWith("samples/") ? 0 : bytes), 0);
  for (const [file, bytes] of Object.entries(made)) console.log(`${String(bytes).padStart(10)}  ${file}`);
  console.log(`${String(total).padStart(10)}  without samples, of ${MOST_BYTES} at most`);
  if (total > MOST_BYTES) process.exit(1);
}
