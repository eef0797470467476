/** The page in a real browser, with the package's models: node --test test/browser.test.js */
import assert from "node:assert/strict";
import { copyFile, readFile, stat, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { missing } from "./chromium.js";
import { QUICK, download, numbers, open, page, pathOf, sample, settled, shows } from "./page.js";

const SHARE_OFF = 0.05; // by which JPEG's file may be smaller than hpcm's

test("a picture is compressed, compared at equal bytes, saved and opened again", { skip: missing }, async (t) => {
  const p = await page(t, QUICK);
  assert.equal(await p.evaluate(() => crossOriginIsolated), true);
  await sample(p);
  const [jpeg, hpcm] = [await numbers(p, "left"), await numbers(p, "right")];
  assert.ok(jpeg.bytes <= hpcm.bytes && jpeg.bytes > hpcm.bytes * (1 - SHARE_OFF), `${jpeg.bytes} against ${hpcm.bytes}`);
  assert.ok(hpcm.psnr > jpeg.psnr + 1, `${hpcm.psnr} dB against ${jpeg.psnr} dB`);

  await p.selectOption('.side[data-side="left"] select', "webp");
  await settled(p);
  const webp = await numbers(p, "left");
  assert.ok(webp.bytes <= hpcm.bytes && webp.bytes > hpcm.bytes * (1 - SHARE_OFF), `${webp.bytes} against ${hpcm.bytes}`);

  await p.fill("#quality", "14");
  await settled(p);
  const small = await numbers(p, "right");
  assert.ok(small.bytes < hpcm.bytes / 1.5, `${small.bytes} against ${hpcm.bytes}`);

  const path = await download(p);
  assert.match(path, /plane\.hpcm$/);
  assert.ok(Math.abs((await stat(path)).size - small.bytes) < 10);
  await open(p, path);
  await p.waitForSelector('body[data-view="opened"]');
  await settled(p);
  const facts = await p.locator("#facts").innerText();
  assert.match(facts, /768 × 512/);
  assert.match(facts, /nano-1/);
  assert.match(facts, /10 of 63, quality 14/);
  assert.equal(await p.locator("#tag-right").innerText(), "hpcm");
});

test("lossless is chosen beside the slider, compared with the picture's own file, saved and opened again", { skip: missing }, async (t) => {
  const p = await page(t, QUICK);
  await sample(p);
  const { bytes } = await numbers(p, "right");
  await p.check("#lossless");
  await settled(p);
  const exact = await numbers(p, "right");
  assert.ok(exact.bytes > 5 * bytes, `${exact.bytes} against ${bytes}`);
  assert.equal(await p.locator('.side[data-side="right"] [data-of="psnr"]').innerText(), "exact");
  assert.equal(await p.isDisabled("#quality"), true);
  assert.match(await p.locator("#saving-detail").innerText(), /(than|as) the WebP you opened$/);
  const path = await download(p);
  await p.uncheck("#lossless");
  await settled(p);
  assert.equal((await numbers(p, "right")).bytes, bytes);

  await open(p, path);
  await p.waitForSelector('body[data-view="opened"]');
  await settled(p);
  const facts = await p.locator("#facts").innerText();
  assert.match(facts, /level of the lossy picture\s+0 of 63, quality 1\s/);
  assert.match(facts, /lossless\s+every sample as in the original/);
  await p.selectOption('.side[data-side="left"] select', "scale-3");
  await shows(p, "#tag-left", /^lossy picture$/);

  const data = await readFile(path);
  await open(p, { name: "cut.hpcm", mimeType: "", buffer: data.subarray(0, data.length * 0.8) });
  await p.getByText("cut.hpcm was cut. Where the rest is missing, it is lossy.").waitFor();
  await settled(p);
  assert.match(await p.locator("#facts").innerText(), /lossless\s+no, the file was cut/);
});

test("a large lossless file shows the lossy picture first; a drawing's needs no model", { skip: missing }, async (t) => {
  const p = await page(t, QUICK);
  const lossless = (width, height, quality) =>
    p.evaluate(
      async ([width, height, quality]) => {
        const { encode } = await import(new URL("hpcm-web.js", document.baseURI).href);
        const data = Uint8ClampedArray.from({ length: 4 * width * height }, (_, i) => (i % 4 === 3 ? 255 : i >> 9));
        return [...(await encode({ data, width, height }, { model: "nano", lossless: true, quality }))];
      },
      [width, height, quality],
    );
  const tags = async (bytes) => {
    await p.evaluate(() => {
      const tag = document.querySelector("#tag-right");
      window.said = [];
      new MutationObserver(() => window.said.push(tag.textContent)).observe(tag, { childList: true });
    });
    await open(p, { name: "exact.hpcm", mimeType: "", buffer: Buffer.from(bytes) });
    await p.waitForSelector('body[data-view="opened"]');
    await settled(p);
    const said = await p.evaluate(() => window.said);
    await p.click("#home");
    return said.filter((text, i) => text !== said[i - 1]);
  };
  const [withPicture, drawing] = [await lossless(1100, 1000, 20), await lossless(300, 200)];
  assert.deepEqual(await tags(withPicture), ["hpcm …", "hpcm, rough for now", "hpcm, lossy for now", "hpcm"]);
  await p.reload();
  await p.context().route("**/*.safetensors.gz", (route) => route.abort());
  assert.deepEqual(await tags(drawing), ["hpcm …", "hpcm"]);
});

test("files are dropped and pasted: a .hpcm file that Python made, and a picture", { skip: missing }, async (t) => {
  const p = await page(t, QUICK);
  const give = (kind, bytes, name, type) =>
    p.evaluate(
      ([kind, bytes, name, type]) => {
        const given = new DataTransfer();
        given.items.add(new File([Uint8Array.from(bytes)], name, { type }));
        const how = { bubbles: true, cancelable: true };
        const event = kind === "drop" ? new DragEvent("drop", { ...how, dataTransfer: given }) : new ClipboardEvent("paste", { ...how, clipboardData: given });
        document.body.dispatchEvent(event);
      },
      [kind, [...bytes], name, type],
    );
  await give("drop", await readFile(new URL("../../tests/golden/progressive.hpcm", import.meta.url)), "golden.hpcm", "");
  await p.waitForSelector('body[data-view="opened"]');
  await settled(p);
  assert.match(await p.locator("#facts").innerText(), /300 × 201/);
  await give("paste", await readFile(new URL("../../tests/golden/nano-1.png", import.meta.url)), "pasted.png", "image/png");
  await p.waitForSelector('body[data-view="compressing"]');
  await settled(p);
  assert.ok((await numbers(p, "right")).psnr > 30);
});

test("<hpcm-img> shows a file, and tells when it can't", { skip: missing }, async (t) => {
  const golden = new URL("../../tests/golden/", import.meta.url);
  await copyFile(new URL("progressive.hpcm", golden), pathOf("site/photo.hpcm"));
  const p = await page(t, QUICK);
  const shown = await p.evaluate(async () => {
    await import(new URL("hpcm-img.js", document.baseURI).href);
    const element = document.createElement("hpcm-img");
    const told = (name) => new Promise((done) => element.addEventListener(name, (event) => done(event.detail?.message), { once: true }));
    const loaded = told("load");
    element.setAttribute("alt", "A parrot");
    element.setAttribute("src", "photo.hpcm");
    document.body.append(element);
    await loaded;
    const canvas = element.shadowRoot.querySelector("canvas");
    const failed = told("error");
    element.setAttribute("src", "icon.svg");
    return { size: [canvas.width, canvas.height], label: canvas.ariaLabel, failure: await failed };
  });
  assert.deepEqual(shown, { size: [300, 201], label: "A parrot", failure: "this is no .hpcm file" });
});

test("while the slider moves, the latest level wins", { skip: missing }, async (t) => {
  const p = await page(t, QUICK);
  await sample(p);
  for (let quality = 95; quality >= 20; quality -= 15) await p.fill("#quality", String(quality));
  await settled(p);
  const { bytes } = await numbers(p, "right");
  await p.fill("#quality", "95");
  await settled(p);
  assert.ok((await numbers(p, "right")).bytes > 2 * bytes);
  await p.fill("#quality", "20");
  await settled(p);
  assert.equal((await numbers(p, "right")).bytes, bytes);
});

test("what can't be opened is said in one line, and a file that was cut shows what it has", { skip: missing }, async (t) => {
  const p = await page(t, QUICK);
  const none = pathOf("none.png");
  await writeFile(none, "no picture");
  await open(p, none);
  await p.getByText("none.png isn't a picture that this browser can open.").waitFor();
  assert.equal(await p.getAttribute("body", "data-view"), "start");

  await sample(p);
  const path = await download(p);
  const data = await readFile(path);
  await writeFile(pathOf("cut.hpcm"), data.subarray(0, data.length * 0.8));
  await open(p, pathOf("cut.hpcm"));
  await p.getByText("cut.hpcm was cut.").waitFor();
  data[data.length - 200] ^= 1;
  await writeFile(pathOf("changed.hpcm"), data);
  await open(p, pathOf("changed.hpcm"));
  await p.getByText("changed.hpcm: tile 0").waitFor();
});

test("the keyboard alone moves the divider, zooms and shows the difference", { skip: missing }, async (t) => {
  const p = await page(t, QUICK);
  await sample(p);
  const divider = p.locator("#divider");
  await p.locator("#stage").focus();
  await p.keyboard.press("Tab");
  assert.equal(await divider.evaluate((element) => element === document.activeElement), true);
  const value = () => divider.getAttribute("aria-valuenow");
  await p.keyboard.press("ArrowRight");
  assert.equal(await value(), "52");
  await p.keyboard.press("Shift+ArrowLeft");
  assert.equal(await value(), "42");
  await p.keyboard.press("Home");
  assert.equal(await value(), "0");

  const zoom = () => p.locator("#zoom-level").innerText();
  const fitted = await zoom();
  await p.keyboard.press("1");
  assert.equal(await zoom(), "100%");
  await p.keyboard.press("+");
  assert.equal(await zoom(), "125%");
  await p.keyboard.press("0");
  assert.equal(await zoom(), fitted);
  await p.keyboard.press("d");
  assert.equal(await p.getAttribute("#difference", "aria-pressed"), "true");
  assert.match(await p.getAttribute("#canvas", "aria-label"), /^Difference of JPEG/);
});

test("the divider and the picture follow the pointer, the wheel zooms where it is", { skip: missing }, async (t) => {
  const p = await page(t, QUICK);
  await sample(p);
  const box = await p.locator("#stage").boundingBox();
  await p.mouse.move(box.x + box.width / 2, box.y + 100);
  await p.mouse.down();
  await p.mouse.move(box.x + box.width / 4, box.y + 100, { steps: 3 });
  await p.mouse.up();
  assert.equal(await p.getAttribute("#divider", "aria-valuenow"), "25");
  await p.mouse.move(box.x + box.width * 0.6, box.y + 200);
  await p.mouse.wheel(0, -600);
  await p.waitForFunction(() => parseInt(document.querySelector("#zoom-level").textContent) > 200);
});

test("dark and light follow the system, and the toggle", { skip: missing }, async (t) => {
  const p = await page(t, { colorScheme: "dark" });
  const surface = () => p.evaluate(() => getComputedStyle(document.querySelector("header")).backgroundColor);
  const dark = await surface();
  await p.emulateMedia({ colorScheme: "light" });
  const light = await surface();
  assert.notEqual(dark, light);
  await p.click("#theme");
  assert.equal(await surface(), dark);
  await p.reload();
  assert.equal(await surface(), dark);
  await p.click("#theme");
  assert.equal(await surface(), light);
});

test("About says what the codec isn't good at", { skip: missing }, async (t) => {
  const p = await page(t, QUICK);
  await p.click("#about");
  assert.match(await p.locator("#about-dialog").innerText(), /What it isn't good at\s+Text, drawings and screenshots/);
  await p.keyboard.press("Escape");
  assert.equal(await p.locator("#about-dialog").isVisible(), false);
});

test("after the first picture the page works offline", { skip: missing }, async (t) => {
  const p = await page(t, QUICK);
  await sample(p);
  await p.evaluate(async () => {
    await navigator.serviceWorker.ready; // it has the page's files then
    while (!(await caches.match(new URL("models/index.json", document.baseURI)))) await new Promise((done) => setTimeout(done, 50));
  });
  await p.context().setOffline(true);
  await p.reload();
  await sample(p, "parrots.webp");
  assert.ok((await numbers(p, "right")).psnr > 30);
});
