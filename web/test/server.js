/** A small static server for the tests, with the headers that threads need, and a site to serve. */
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const ASSETS = fileURLToPath(new URL("../../src/hpcm/model/assets/", import.meta.url));
const LINKED = ["nano-1", "lite-1", "lite-mse-1"];
const TYPES = {
  ".css": "text/css",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".json": "application/json",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
  ".webp": "image/webp",
};

/** Links weights as models/ into a folder, with the index that the module reads. */
export async function linkModels(folder) {
  const models = join(folder, "models");
  await mkdir(models, { recursive: true });
  const entries = [];
  for (const name of LINKED) {
    const file = `${name}.safetensors`;
    const weights = await readFile(join(ASSETS, file));
    await symlink(join(ASSETS, file), join(models, file));
    const sha256 = createHash("sha256").update(weights).digest("hex");
    entries.push({ name, hash: sha256.slice(0, 16), sha256, file, bytes: weights.length });
  }
  await writeFile(join(models, "index.json"), JSON.stringify({ default: "nano-1", models: entries }));
}

/** A new folder for a site. */
export const temporary = () => mkdtemp(join(tmpdir(), "hpcm-web-"));

async function answer(folder, prefix, request, response) {
  const path = normalize(decodeURIComponent(new URL(request.url, "http://x").pathname));
  if (!path.startsWith(prefix)) return response.writeHead(404).end();
  let file = join(folder, path.slice(prefix.length));
  if (file.endsWith("/") || file === folder) file = join(file, "index.html");
  try {
    await stat(file);
  } catch {
    return response.writeHead(404).end();
  }
  response.writeHead(200, {
    "content-type": TYPES[extname(file)] ?? "application/octet-stream",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "cache-control": "no-cache",
  });
  return response.end(await readFile(file));
}

/** Serves a folder under a prefix, at a port that is free. @returns {Promise<{url: string, close: () => void}>} */
export async function serve(folder, prefix = "/") {
  const server = createServer((request, response) => answer(folder, prefix, request, response));
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return {
    url: `http://127.0.0.1:${server.address().port}${prefix}`,
    close: () => (server.closeAllConnections(), server.close()),
  };
}

// node test/server.js FOLDER: serves a built folder, to look at it.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  console.log((await serve(process.argv[2] ?? "dist")).url);
}
