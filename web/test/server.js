/** A small static server for the tests, with the headers that threads need, and a site to serve. */
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const ASSETS = fileURLToPath(new URL("../../src/hpcm/model/assets/", import.meta.url));
/** Paths of the bundled models. */
export const RELEASED = Object.fromEntries(["nano-1", "lite-1", "lite-mse-1"].map((name) => [name, join(ASSETS, `${name}.safetensors`)]));
const ISOLATION = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };
const TYPES = {
  ".css": "text/css",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".json": "application/json",
  ".mjs": "text/javascript",
  ".txt": "text/plain; charset=utf-8",
  ".wasm": "application/wasm",
  ".webp": "image/webp",
};

/**
 * Writes weights as models/ into a folder, packed as `hpcm serve` packs them, with the index that the module reads.
 * @param {Record<string, string>} [files] paths by name; the first is the default
 */
export async function writeModels(folder, files = RELEASED) {
  const models = join(folder, "models");
  await mkdir(models, { recursive: true });
  const entries = [];
  for (const [name, path] of Object.entries(files)) {
    const file = `${name}.safetensors.gz`;
    const weights = await readFile(path);
    await writeFile(join(models, file), gzipSync(weights));
    const sha256 = createHash("sha256").update(weights).digest("hex");
    entries.push({ name, hash: sha256.slice(0, 16), sha256, file, bytes: weights.length });
  }
  await writeFile(join(models, "index.json"), JSON.stringify({ default: entries[0].name, models: entries }));
}

/** A new folder for a site. */
export const temporary = () => mkdtemp(join(tmpdir(), "hpcm-web-"));

async function answer(site, request, response) {
  const path = normalize(decodeURIComponent(new URL(request.url, "http://x").pathname));
  if (!path.startsWith(site.prefix)) return response.writeHead(404).end("not found");
  const name = path.slice(site.prefix.length) || "index.html";
  const file = join(site.folder, name);
  const headers = { "content-type": TYPES[extname(file)] ?? "application/octet-stream", "cache-control": "no-cache", ...site.headers };
  site.asked.push(name);
  if (site.answers[name]) return site.answers[name](response, headers, file);
  try {
    const data = await readFile(file);
    return response.writeHead(200, headers).end(data);
  } catch {
    return response.writeHead(404).end("not found");
  }
}

/**
 * Serves a folder under a prefix, at a port that is free. What it returns may be changed: `folder`, `headers`, and `answers`:
 * functions of (response, headers, file) by path, which answer in its place. `asked` are the paths that were asked for.
 */
export async function serve(folder, prefix = "/") {
  const site = { folder, prefix, headers: { ...ISOLATION }, answers: {}, asked: [] };
  const server = createServer((request, response) => answer(site, request, response));
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  const close = () => (server.closeAllConnections(), server.close());
  return Object.assign(site, { url: `http://127.0.0.1:${port}${prefix}`, port, close });
}

// node test/server.js FOLDER: serves a built folder, to look at it.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  console.log((await serve(process.argv[2] ?? "dist")).url);
}
