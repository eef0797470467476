/**
 * Makes the npm packages, each a folder in build/npm: hpcm-web, and hpcm-model-NAME for each bundled model.
 *
 *     node npm/make.js [--out FOLDER] [--pack] [--repository URL]
 *
 *     --pack        also as NAME-VERSION.tgz beside them, which `npm publish` takes
 *     --repository  of the sources: npm asks for it where a package is published with its provenance
 *
 * hpcm-web has no weights: a page loads one model, of 3 or of 14 MB. A model's package has its exact name, such as
 * hpcm-model-nano-1, because a file needs exactly this model. The names have no scope, since hpcm-web has none.
 * All versions are that of the Python package.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { appendFile, copyFile, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { basename, join, posix } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { gzipSync } from "node:zlib";
import { build as bundle } from "esbuild";
import { build, constants, licenses, shared, sizes } from "../build.js";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const WEB = join(HERE, "..");
const ROOT = join(WEB, "..");
const ASSETS = join(ROOT, "src/hpcm/model/assets");
const OUT = join(ROOT, "build/npm");
const SUFFIX = ".safetensors";
const PACKED = ".gz"; // the module unpacks such files: a quarter smaller, and few servers pack weights by themselves
const HASH_DIGITS = 16; // of the SHA-256, by which files name a model
const NODE = ["hpcm-node.js", "node-worker.js"];
/** What hpcm-web has of the site that build.js makes. */
const OF_SITE = [
  ...["hpcm-web.js", "worker.js", "hpcm.wasm", "hpcm-threads.wasm", "hpcm-img.js"],
  ...["hpcm-polyfill.js", "hpcm-polyfill-worker.js"],
];
const TYPED = ["index.js", "element.js", "polyfill/page.js"]; // sources that programs import
/** What comments can't say of the element: `document.createElement` makes it. */
const TAG = `declare global {
  interface HTMLElementTagNameMap {
    "hpcm-img": HpcmImage;
  }
}
`;
const SIZES = "<!-- sizes -->"; // in npm/README.md: where the table comes

/**
 * @param {string} [out] the folder, which is emptied
 * @param {string} [repository] its URL
 * @returns {Promise<string[]>} the packages' folders
 */
export async function packages(out = OUT, repository) {
  await rm(out, { recursive: true, force: true });
  const common = { version: await versionOf() };
  if (repository) common.repository = { type: "git", url: `git+${repository}.git` };
  const made = [await codecPackage(join(out, "hpcm-web"), common)];
  for (const path of await modelPaths()) made.push(await modelPackage(out, path, common));
  return made;
}

/** The Python package's, which all packages have. */
export async function versionOf() {
  const source = await readFile(join(ROOT, "src/hpcm/__init__.py"), "utf8");
  return /^__version__ = "(.+)"$/m.exec(source)[1];
}

/** Paths of the bundled models' weights. */
async function modelPaths() {
  const files = (await readdir(ASSETS)).filter((file) => file.endsWith(SUFFIX));
  return files.sort().map((file) => join(ASSETS, file));
}

// ---- hpcm-web ----------------------------------------------------------------------------------------------------------

async function codecPackage(out, common) {
  await mkdir(out, { recursive: true });
  const site = join(out, "site");
  const there = await build(site);
  for (const file of OF_SITE.filter((name) => name in there)) await copyFile(join(site, file), join(out, file));
  await rm(site, { recursive: true });
  const define = await constants();
  const entryPoints = [
    { in: join(WEB, "src/index.js"), out: "hpcm-node" },
    { in: join(WEB, "src/worker.js"), out: "node-worker" },
  ];
  await bundle({ ...shared(out, define), entryPoints, platform: "node", minify: false }); // for readable traces
  await types(join(out, "types"));
  await writeFile(join(out, "licenses.txt"), await licenses(["@noble/hashes"]));
  await writeManifest(out, { ...common, ...JSON.parse(await readFile(join(HERE, "hpcm-web.json"), "utf8")) });
  await copyFile(join(ROOT, "LICENSE"), join(out, "LICENSE"));
  const readme = await readFile(join(HERE, "README.md"), "utf8");
  await writeFile(join(out, "README.md"), readme.replace(SIZES, await table(out)).replaceAll("VERSION", common.version));
  return out;
}

/** Types as the sources' comments give them: those of what programs import, and what these refer to. */
async function types(out) {
  const entries = TYPED.filter((source) => existsSync(join(WEB, "src", source)));
  const emitted = ["--allowJs", "--declaration", "--emitDeclarationOnly"];
  const options = [...emitted, "--module", "nodenext", "--target", "es2022", "--ignoreConfig"];
  const paths = ["--rootDir", join(WEB, "src"), "--outDir", out, ...entries.map((source) => join(WEB, "src", source))];
  execFileSync(process.execPath, [join(WEB, "node_modules/typescript/bin/tsc"), ...options, ...paths], { stdio: "inherit" });
  const needed = new Set(entries);
  for (const source of needed) {
    const text = await readFile(typesOf(join(out, source)), "utf8");
    for (const [, other] of text.matchAll(/(?:from |import\()"(\..+?)"/g)) needed.add(posix.join(posix.dirname(source), other));
  }
  const kept = [...needed].map(typesOf);
  for (const file of Object.keys(await sizes(out))) if (!kept.includes(file)) await rm(join(out, file));
  await appendFile(join(out, "element.d.ts"), TAG);
}

const typesOf = (source) => source.replace(/\.js$/, ".d.ts");

/** What a page loads, as it is and compressed. */
async function table(out) {
  const files = Object.keys(await sizes(out)).filter((file) => /\.(js|wasm)$/.test(file) && !NODE.includes(file));
  const rows = await Promise.all(files.map(async (file) => {
    const data = await readFile(join(out, file));
    return `| ${file} | ${kilobytes(data.length)} | ${kilobytes(gzipSync(data, { level: 9 }).length)} |`;
  }));
  return ["| file | bytes | gzipped |", "|---|--:|--:|", ...rows].join("\n");
}

const kilobytes = (bytes) => `${(bytes / 1000).toFixed(1)} kB`;

// ---- models ------------------------------------------------------------------------------------------------------------

async function modelPackage(folder, path, common) {
  const data = await readFile(path);
  const weights = gzipSync(data, { level: 9 });
  const sha256 = createHash("sha256").update(data).digest("hex");
  const facts = { name: basename(path, SUFFIX), hash: sha256.slice(0, HASH_DIGITS), sha256, bytes: data.length };
  const { name } = facts;
  const file = `${name}${SUFFIX}${PACKED}`;
  const out = join(folder, `hpcm-model-${name}`);
  await mkdir(out, { recursive: true });
  await writeFile(join(out, file), weights);
  await copyFile(join(ROOT, "LICENSE"), join(out, "LICENSE"));
  await writeFile(join(out, "index.json"), `${JSON.stringify({ default: name, models: [{ ...facts, file }] }, null, 1)}\n`);
  await writeFile(join(out, "index.js"), moduleOf(facts, file));
  const typed = "{ name: string; hash: string; sha256: string; bytes: number; url: string }";
  await writeFile(join(out, "index.d.ts"), `declare const model: ${typed};\nexport default model;\n`);
  await writeManifest(out, {
    name: `hpcm-model-${name}`,
    ...common,
    description: `The model ${name} of the hpcm image codec, for hpcm-web`,
    ...{ keywords: ["hpcm", "image", "codec"], license: "MIT", type: "module", sideEffects: false },
    exports: {
      ".": { types: "./index.d.ts", default: "./index.js" },
      ...Object.fromEntries(["index.json", file, "package.json"].map((each) => [`./${each}`, `./${each}`])),
    },
    publishConfig: { access: "public", provenance: true },
  });
  const readme = await readFile(join(HERE, "model.md"), "utf8");
  const size = `${(weights.length / 1e6).toFixed(1)} MB`;
  await writeFile(join(out, "README.md"), readme.replaceAll("NAME", name).replaceAll("VERSION", common.version).replaceAll("SIZE", size));
  return out;
}

/** The text of a module that exports a model. Its URL is written in the form that bundlers look for. */
function moduleOf(facts, file) {
  const fields = Object.entries(facts).map(([name, value]) => `  ${name}: ${JSON.stringify(value)},\n`);
  const url = `  url: new URL("./${file}", import.meta.url).href,\n`;
  return `/** For configure({ models }) of hpcm-web. */\nexport default {\n${fields.join("")}${url}};\n`;
}

// ---- all packages ------------------------------------------------------------------------------------------------------

const writeManifest = (out, manifest) => writeFile(join(out, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);

/** Makes a .tgz of a package. @returns {{path: string, files: string[]}} files: in it */
export function pack(folder, into) {
  // npm is a script that Windows starts only in a shell
  const options = { cwd: folder, encoding: "utf8", shell: process.platform === "win32" };
  const said = execFileSync("npm", ["pack", "--json", "--loglevel=error", "--pack-destination", into], options);
  const [{ filename, files }] = listedOf(JSON.parse(said));
  return { path: join(into, filename), files: files.map(({ path }) => path).sort() };
}

/** npm 12 gives its answer by names, earlier ones as an array. */
const listedOf = (said) => (Array.isArray(said) ? said : Object.values(said));

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const options = { out: { type: "string", default: OUT }, pack: { type: "boolean" }, repository: { type: "string" } };
  const { values } = parseArgs({ options });
  for (const folder of await packages(values.out, values.repository)) {
    for (const [file, bytes] of Object.entries(await sizes(folder))) {
      console.log(`${String(bytes).padStart(10)}  ${basename(folder)}/${file}`);
    }
    if (values.pack) console.log(pack(folder, values.out).path);
  }
}
