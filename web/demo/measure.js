/**
 * How long the gallery takes in Chromium, and how much memory: the table in docs/browser.md.
 *
 *     python web/demo/make.py OUT && node web/demo/measure.js OUT      on Linux, which tells how much memory processes have
 *
 * `python -m http.server` serves OUT. Each row has a browser of its own, which is scrolled through the gallery, and waits on
 * each screen until its pictures are there. Memory is the most that the page's process had, with codec and service worker.
 */
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { cpus } from "node:os";
import { launch } from "../test/chromium.js";

const PORT = 8123;
const VIEWPORT = { width: 1280, height: 800 };
const PATIENCE = 180_000; // milliseconds

/** Scrolls through the page. @returns {Promise<[number, number]>} milliseconds until the first screen is there, and all of it */
async function scrolled(page) {
  const shown = () => page.waitForFunction(() => {
    const near = [...document.images].filter((img) => img.getBoundingClientRect().top < innerHeight && img.getBoundingClientRect().bottom > 0);
    return near.length && near.every((img) => "shown" in img.dataset);
  });
  const begin = performance.now();
  await page.reload({ waitUntil: "commit" });
  await page.waitForSelector("main img");
  await shown();
  const first = performance.now() - begin;
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  for (let top = 0; top < height; top += VIEWPORT.height) {
    await page.evaluate((top) => scrollTo(0, top), top);
    await shown();
  }
  return [first, performance.now() - begin];
}

/** The most memory that the page's processes had, in bytes. */
async function peak(browser) {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  const renderers = processInfo.filter(({ type }) => type === "renderer");
  const sizes = await Promise.all(renderers.map(async ({ id }) => Number(/VmHWM:\s+(\d+)/.exec(await readFile(`/proc/${id}/status`, "utf8"))[1])));
  return 1024 * Math.max(...sizes);
}

/** @param {{path: string, worker?: boolean, kept?: boolean}} how worker: a service worker serves. kept: pictures were decoded before */
async function measured({ path, worker = false, kept = false }) {
  const browser = await launch();
  const page = await (await browser.newContext({ viewport: VIEWPORT })).newPage();
  page.setDefaultTimeout(PATIENCE);
  if (!worker) await page.addInitScript(() => delete Navigator.prototype.serviceWorker);
  await page.goto(`http://127.0.0.1:${PORT}/${worker ? "index.html" : path}`);
  if (worker) {
    await page.evaluate(async () => {
      await navigator.serviceWorker.register("hpcm-polyfill-worker.js");
      await navigator.serviceWorker.ready;
    });
    await page.goto(`http://127.0.0.1:${PORT}/${path}`);
  }
  if (!kept) await page.evaluate(() => caches.delete("hpcm-pictures"));
  else await scrolled(page);
  const times = await scrolled(page);
  const memory = await peak(browser);
  await browser.close();
  return [...times.map((ms) => `${(ms / 1000).toFixed(1)} s`), `${Math.round(memory / 1e6)} MB`];
}

const [folder] = process.argv.slice(2);
const server = spawn("python3", ["-m", "http.server", "--bind", "127.0.0.1", "-d", folder, String(PORT)], { stdio: "ignore" });
await new Promise((done) => setTimeout(done, 1000));
const browser = await launch();
console.log(`Chromium ${browser.version()}, ${cpus()[0].model}, ${cpus().length} cores, ${new Date().toISOString().slice(0, 10)}\n`);
await browser.close();
console.log("| gallery | first screen | all | memory |\n|---|--:|--:|--:|");
const rows = [
  ["JPEG", { path: "gallery.html?jpeg" }],
  ["hpcm, elements are changed", { path: "gallery.html" }],
  ["hpcm, by the service worker", { path: "gallery.html", worker: true }],
  ["hpcm, decoded before", { path: "gallery.html", worker: true, kept: true }],
  ["12 million pixels, elements are changed", { path: "gallery.html?large" }],
  ["12 million pixels, by the service worker", { path: "gallery.html?large", worker: true }],
];
try {
  for (const [name, how] of rows) console.log(`| ${[name, ...(await measured(how))].join(" | ")} |`);
} finally {
  server.kill();
}
