/** For tests of what goes wrong: two releases of the site with a tiny model, pages, answers that are wrong, and the codec in a page. */
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { after, before } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "../build.js";
import { launch, missing } from "./chromium.js";
import { writeModels, serve, temporary } from "./server.js";

const PATIENCE = 180_000; // milliseconds
const GOLDEN = fileURLToPath(new URL("../../tests/golden/", import.meta.url));
const PORTAL = "<!doctype html><title>Free WiFi</title><p>Please accept our terms.";
export const WEIGHTS = "models/tiny.safetensors.gz";
export const INSECURE = "insecure.test"; // a host that the browser doesn't trust

let folder;
let browser;

/** The folder of a release. @param {"one"|"two"} name */
export const releaseOf = (name) => join(folder, name);

before(async () => {
  if (missing) return;
  folder = await temporary();
  for (const release of ["one", "two"]) {
    await build(releaseOf(release), release);
    await writeModels(releaseOf(release), { tiny: join(GOLDEN, "tiny.safetensors") });
  }
  browser = await launch({ args: [`--host-resolver-rules=MAP ${INSECURE} 127.0.0.1`] });
});

after(async () => {
  await browser?.close();
  if (folder) await rm(folder, { recursive: true, force: true });
});

/** A server, and a page in a profile of its own; unless the path says otherwise one that runs nothing. @returns {Promise<{site, page, context}>} */
export async function opened(t, path = "licenses.txt") {
  const site = await serve(releaseOf("one"), "/some/path/");
  const context = await browser.newContext();
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  t.after(async () => {
    await context.close();
    site.close();
  });
  await page.goto(site.url + path);
  return { site, page, context };
}

/** Answers a path with a portal's page, as all paths are answered before somebody has clicked. */
export const portal = (response, headers) => response.writeHead(200, { ...headers, "content-type": "text/html" }).end(PORTAL);

/** Answers with a file, of which `change` gives other headers or bytes. */
export const altered = (change) => async (response, headers, file) => {
  const { status = 200, body, ...others } = change(await readFile(file));
  response.writeHead(status, { ...headers, ...others }).end(body);
};

/** Lets code run in the worker before the worker's own. It may keep `self.onmessage` from a message. */
export const inWorker = (code) => altered((source) => ({ body: `${code};\n${source}` }));

/** A picture there and back in the page, with these settings. @returns {Promise<string>} "good", or an error's code and message */
export const coding = (page, settings = {}, side = 60) =>
  page.evaluate(
    async ([settings, side]) => {
      const hpcm = await import(new URL("hpcm-web.js", document.baseURI).href);
      if (Object.keys(settings).length) hpcm.configure(settings);
      const data = Uint8ClampedArray.from({ length: 4 * side * side }, (_, i) => (i % 4 === 3 ? 255 : (i * i) % 251));
      try {
        const file = await hpcm.encode(new ImageData(data, side, side), { quality: 60 });
        const { width, height } = await hpcm.decode(file);
        return width === side && height === side ? "good" : `${width} x ${height}`;
      } catch (error) {
        return error instanceof hpcm.HpcmError ? `${error.code}: ${error.message}` : String(error);
      }
    },
    [settings, side],
  );

/** The bytes of each model that the browser keeps. */
export const keptModels = (page) =>
  page.evaluate(async () => {
    const cache = await caches.open("hpcm-models");
    const found = await Promise.all((await cache.keys()).map((key) => cache.match(key)));
    return Promise.all(found.map(async (each) => (await each.arrayBuffer()).byteLength));
  });

/** How often a path was asked for. */
export const count = (site, name) => site.asked.filter((each) => each === name).length;
