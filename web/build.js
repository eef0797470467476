/**
 * Makes web/dist/: the page, the module and what they need beside them, without the weights.
 *
 *     index.html, style.css, app.js, theme.js, rivals-worker.js, offline.js, icon.svg, samples/    the page
 *     hpcm-web.js, worker.js, hpcm.wasm, hpcm-threads.wasm    the module, its worker, and libhpcm for one thread and several
 *     hpcm-img.js                                             the element
 *     hpcm-polyfill.js, hpcm-polyfill-worker.js               the polyfill, and its service worker
 *     licenses.txt                                            of what others wrote: @noble/hashes, client-zip
 *
 * `python core/build.py --wasm` compiles libhpcm into build/wasm before. The page, the element and the polyfill
 * import hpcm-web.js, so that the module is there once. A version is made of all sources: page, worker and .wasm files work with their own alone.
 */
import { createHash } from "node:crypto";
import { copyFile, cp, mkdir, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build as bundle } from "esbuild";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const PAGE = join(HERE, "page");
const CORE = join(HERE, "../build/wasm");
const WASM = ["hpcm.wasm", "hpcm-threads.wasm"];
const MOST_BYTES = 420_000; // of the page without samples
const LICENSES = { "@noble/hashes": "LICENSE", "client-zip": "LICENSE.txt" };

const MODULE = join(HERE, "src/index.js");
/** The module stays a file of its own where the page, the element or the polyfill imports it. */
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
export function shared(out, define) {
  const options = { bundle: true, minify: true, format: "esm", target: "es2022", legalComments: "none", define };
  return { ...options, outdir: out, logLevel: "warning" };
}

/**
 * What the sources are told: their version, and what the .wasm files' SHA-256 must be.
 * @param {string} [mark] makes another version of the same sources
 */
export async function constants(mark = "") {
  const wasm = {};
  for (const name of WASM) wasm[name] = sha256(await readFile(join(CORE, name)));
  const hash = createHash("sha256").update(JSON.stringify(wasm)).update(mark);
  const folders = await Promise.all(["src", "page"].map((folder) => sizes(join(HERE, folder), HERE)));
  const sources = [...folders.flatMap(Object.keys), "build.js", "package-lock.json"];
  for (const file of sources) hash.update(file).update(await readFile(join(HERE, file)));
  return { __VERSION__: JSON.stringify(hash.digest("hex").slice(0, 16)), __WASM__: JSON.stringify(wasm) };
}

const sha256 = (data, form = "hex") => createHash("sha256").update(data).digest(form);

/** @param {string} [out] the folder, which is emptied @returns {Promise<Record<string, number>>} bytes by file */
export async function build(out = join(HERE, "dist"), mark = "") {
  const define = await constants(mark);
  await rm(out, { recursive: true, force: true });
  await mkdir(out, { recursive: true });
  for (const name of WASM) await copyFile(join(CORE, name), join(out, name));
  await bundles(out, define);
  for (const file of ["index.html", "icon.svg"]) await copyFile(join(PAGE, file), join(out, file));
  await writeFile(join(out, "licenses.txt"), await licenses());
  await cp(join(PAGE, "samples"), join(out, "samples"), { recursive: true });
  const files = JSON.stringify(await integrities(out));
  await bundle({ ...shared(out, { ...define, __FILES__: files }), entryPoints: [join(PAGE, "offline.js")], format: "iife" });
  return sizes(out);
}

/** What those ask for whose code is in here. */
export async function licenses(names = Object.keys(LICENSES)) {
  const read = (name) => readFile(join(HERE, "node_modules", name, LICENSES[name]), "utf8");
  const texts = await Promise.all(names.map(read));
  return names.map((name, i) => `${name}\n\n${texts[i]}`).join("\n\n");
}

/** What the service worker keeps: each file as `integrity` of a request asks for it. */
async function integrities(out) {
  const of = async (file) => [file, `sha256-${sha256(await readFile(join(out, file)), "base64")}`];
  return Object.fromEntries(await Promise.all(Object.keys(await sizes(out)).map(of)));
}

async function bundles(out, define) {
  const options = shared(out, define);
  const page = ["app", "rivals-worker", "style"].map((name) => ({ in: join(PAGE, name), out: name }));
  const element = { in: join(HERE, "src/element.js"), out: "hpcm-img" };
  const worker = { in: join(HERE, "src/worker.js"), out: "worker" };
  const polyfill = { in: join(HERE, "src/polyfill/page.js"), out: "hpcm-polyfill" };
  const service = { in: join(HERE, "src/polyfill/worker.js"), out: "hpcm-polyfill-worker" };
  await bundle({ ...options, entryPoints: [...page, element, polyfill], plugins: [apart] });
  await bundle({ ...options, entryPoints: [service], format: "iife" });
  await bundle({ ...options, entryPoints: [{ in: MODULE, out: "hpcm-web" }, worker] });
  await bundle({ ...options, entryPoints: [join(PAGE, "theme.js")], format: "iife" });
}

/** The bytes of a folder's files, by their paths from `base` on. */
export async function sizes(folder, base = folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath ?? entry.path, entry.name)).sort();
  const found = files.map(async (file) => [relative(base, file).replaceAll("\\", "/"), (await stat(file)).size]);
  return Object.fromEntries(await Promise.all(found));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const made = await build(process.argv[2]);
  const total = Object.entries(made).reduce((sum, [file, bytes]) => sum + (file.startsWith("samples/") ? 0 : bytes), 0);
  for (const [file, bytes] of Object.entries(made)) console.log(`${String(bytes).padStart(10)}  ${file}`);
  console.log(`${String(total).padStart(10)}  without samples, of ${MOST_BYTES} at most`);
  if (total > MOST_BYTES) process.exit(1);
}
