/** What the npm packages give for golden files: in a page, and in Node. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { inflateSync } from "node:zlib";

/** The path of a file of tests/golden. */
export const golden = (name) => fileURLToPath(new URL(`../../tests/golden/${name}`, import.meta.url));

/**
 * Runs in a page: the SHA-256 of what each file decodes to, and of what that is encoded to.
 * @param {{files: string[], threads: number, packages?: string}} given packages: the URL of the folder that has them, by
 *   default the page's
 */
export async function coded({ files, threads, packages = document.baseURI }) {
  const from = (path, base = document.baseURI) => new URL(path, base).href;
  const { configure, decode, encode } = await import(from("hpcm-web/hpcm-web.js", packages));
  const [one, ...others] = files;
  const { default: model } = await import(from(`hpcm-model-${one}/index.js`, packages)); // a model, and URLs of folders
  configure({ models: [model, ...others.map((name) => from(`hpcm-model-${name}`, packages))], threads });
  const hex = (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
  const sha256 = async (data) => hex(await crypto.subtle.digest("SHA-256", data));
  const found = {};
  for (const name of files) {
    const picture = await decode(await (await fetch(from(`${name}.hpcm`))).arrayBuffer());
    const png = await (await fetch(from(`${name}.png`))).blob(); // the same pixels
    const encoded = await Promise.all([picture, png].map(async (image) => sha256(await encode(image, { model: name, quality: 60 }))));
    found[name] = [await sha256(picture.data), ...encoded];
  }
  return { ...found, isolated: crossOriginIsolated };
}

/** Runs in a page: what <hpcm-img> shows of a file. @param {string} file @returns {Promise<number[]>} columns and rows */
export async function shown(file) {
  await import(new URL("hpcm-web/hpcm-img.js", document.baseURI).href);
  const element = document.createElement("hpcm-img");
  const loaded = new Promise((done, failed) => {
    element.addEventListener("load", done);
    element.addEventListener("error", ({ detail }) => failed(detail));
  });
  element.setAttribute("src", file);
  document.body.append(element);
  await loaded;
  const { width, height } = element.shadowRoot.querySelector("canvas");
  return [width, height];
}

/** What these should be: of the golden pictures, and encoded in Node. @param {string} folder with packages @param {string[]} files */
export async function nodesAnswer(folder, files) {
  const { configure, decode, encode } = await import(pathToFileURL(join(folder, "hpcm-web/hpcm-node.js")));
  configure({ models: files.map((name) => join(folder, `hpcm-model-${name}`)) });
  const sha256 = (data) => createHash("sha256").update(data).digest("hex");
  const found = {};
  for (const name of files) {
    const picture = await decode(await readFile(golden(`${name}.hpcm`)));
    const right = pixelsOf(await readFile(golden(`${name}.png`)));
    assert.deepEqual([picture.width, picture.height, sha256(picture.data)], [right.width, right.height, sha256(right.data)]);
    const encoded = sha256(await encode(picture, { model: name, quality: 60 }));
    found[name] = [sha256(picture.data), encoded, encoded];
  }
  return found;
}

/** RGBA of a PNG of 8-bit RGB. @param {Buffer} png */
export function pixelsOf(png) {
  const [width, height] = [png.readUInt32BE(16), png.readUInt32BE(20)];
  assert.deepEqual([...png.subarray(24, 29)], [8, 2, 0, 0, 0]);
  const pieces = [];
  for (let at = 8, size; at < png.length; at += size + 12) {
    size = png.readUInt32BE(at);
    if (png.toString("latin1", at + 4, at + 8) === "IDAT") pieces.push(png.subarray(at + 8, at + 8 + size));
  }
  const rows = inflateSync(Buffer.concat(pieces));
  const data = new Uint8ClampedArray(4 * width * height).fill(255);
  const value = (x, y, channel) => (x < 0 || y < 0 ? 0 : data[4 * (y * width + x) + channel]);
  for (let y = 0; y < height; y++) {
    const start = y * (3 * width + 1);
    for (let i = 0; i < 3 * width; i++) {
      const [x, channel] = [Math.floor(i / 3), i % 3];
      const [left, up, corner] = [value(x - 1, y, channel), value(x, y - 1, channel), value(x - 1, y - 1, channel)];
      const nearest = [left, up, corner].sort((a, b) => Math.abs(left + up - corner - a) - Math.abs(left + up - corner - b))[0];
      const guess = [0, left, up, (left + up) >> 1, nearest][rows[start]];
      data[4 * (y * width + x) + channel] = (rows[start + 1 + i] + guess) & 0xff;
    }
  }
  return { data, width, height };
}
