/** What the npm packages give for golden files: in a page, and in Node. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const QUALITY = 60;

/** The path of a file of tests/golden. */
export const golden = (name) => fileURLToPath(new URL(`../../tests/golden/${name}`, import.meta.url));

/**
 * Runs in a page of a folder with packages: the SHA-256 of what each file decodes to, and of what that is encoded to.
 * @param {{files: string[], threads: number}} given
 */
export async function coded({ files, threads }) {
  const at = (path) => new URL(path, document.baseURI).href;
  const { configure, decode, encode } = await import(at("hpcm-web/hpcm-web.js"));
  const [one, ...others] = files;
  const { default: model } = await import(at(`hpcm-model-${one}/index.js`)); // a model, and URLs of folders
  configure({ models: [model, ...others.map((name) => `hpcm-model-${name}`)], threads });
  const sha256 = async (data) => Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", data)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  const found = {};
  for (const name of files) {
    const picture = await decode(await (await fetch(at(`${name}.hpcm`))).arrayBuffer());
    found[name] = [await sha256(picture.data), await sha256(await encode(picture, { model: name, quality: 60 }))];
  }
  return { ...found, isolated: crossOriginIsolated };
}

/** The same in Node. @param {string} folder with packages @param {string[]} files */
export async function nodesAnswer(folder, files) {
  const { configure, decode, encode } = await import(pathToFileURL(join(folder, "hpcm-web/hpcm-node.js")));
  configure({ models: files.map((name) => join(folder, `hpcm-model-${name}`)) });
  const sha256 = (data) => createHash("sha256").update(data).digest("hex");
  const found = {};
  for (const name of files) {
    const picture = await decode(await readFile(golden(`${name}.hpcm`)));
    found[name] = [sha256(picture.data), sha256(await encode(picture, { model: name, quality: QUALITY }))];
  }
  return found;
}
