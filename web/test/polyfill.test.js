/** The polyfill in a real browser. Each case is tried with the service worker, and without one. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { BROWSERS } from "./browsers.js";
import { missing } from "./chromium.js";
import { WITHOUT, answering, controlled, heard, hears, html, looksLike, opened, seen, shows, sited } from "./polyfill.js";

for (const [how, script] of [["a service worker", undefined], ["changed elements", WITHOUT]]) {
  const ready = (page) => (script ? undefined : controlled(page));
  const cased = (name, work) => test(`${name}, by ${how}`, { skip: missing }, work);
  const paged = async (t, body, head = "") => {
    const site = await sited(t, { "page.html": answering(html(body, script, head)) });
    const found = await opened(t, site);
    await ready(found.page);
    return { site, ...found };
  };

  cased("an image is shown, with one load and its size", async (t) => {
    const { page, said } = await paged(t, '<img id="a" src="small.hpcm" alt="A"><img id="b" src="small.hpcm?v=2#x"><img id="c" src="rough.hpcm">');
    for (const id of "abc") await hears(page, `${id} load`);
    for (const [id, name] of [["a", "small"], ["b", "small"], ["c", "rough"]]) await shows(page, `#${id}`, name);
    await page.waitForTimeout(300);
    const loads = (await heard(page)).filter((each) => !/error/.test(each)); // the browser's own try may fail before the script is there
    assert.deepEqual(loads.sort(), ["a load", "b load", "c load"]);
    assert.deepEqual(said, []);
  });

  cased("srcset and sizes", async (t) => {
    const { page } = await paged(t, '<img id="a" src="other.hpcm" srcset="other.hpcm 1x, large.hpcm 3x"><img id="b" sizes="640px" srcset="small.hpcm 96w, rough.hpcm 640w, large.hpcm 2304w">');
    for (const id of "ab") await hears(page, `${id} load`);
    await shows(page, "#a", "other");
    await shows(page, "#b", "rough");
  });

  cased("<picture>, and another choice when the window changes", async (t) => {
    const { page } = await paged(t, '<picture><source media="(min-width: 900px)" srcset="rough.hpcm"><img id="a" src="small.hpcm"></picture>');
    await hears(page, "a load");
    await shows(page, "#a", "rough");
    for (const [width, name] of [[500, "small"], [1200, "rough"], [600, "small"]]) {
      await page.evaluate(() => (window.heard = []));
      await page.setViewportSize({ width, height: 700 });
      await hears(page, "a load");
      await shows(page, "#a", name);
    }
    assert.ok(!(await heard(page)).includes("a error"));
  });

  cased("sources of the type are for browsers that open it, unless there is nothing else", async (t) => {
    const { page, site } = await paged(t, `
      <picture><source type="image/x-hpcm" srcset="rough.hpcm"><img id="a" src="hpcm/samples/text.webp"></picture>
      <picture><source type="image/x-hpcm" srcset="small.hpcm"><img id="b" alt="B"></picture>`);
    for (const id of "ab") await hears(page, `${id} load`);
    await shows(page, "#b", "small");
    assert.ok(!site.asked.includes("rough.hpcm"));
  });

  cased("lossless files, with a lossy picture and without", async (t) => {
    const { page, said } = await paged(t, '<img id="a" src="exact.hpcm"><img id="b" src="drawn.hpcm">');
    for (const id of "ab") await hears(page, `${id} load`);
    await shows(page, "#a", "exact");
    await shows(page, "#b", "drawn");
    assert.deepEqual(said, []);
  });

  cased("alpha", async (t) => {
    const { page } = await paged(t, '<img id="a" src="alpha.hpcm">');
    await hears(page, "a load");
    const [width, height, , , , alpha] = await seen(page, "#a");
    assert.deepEqual([width, height, Math.round(alpha)], [90, 60, Math.round((255 * 70) / 90)]);
  });

  cased("what a script adds, changes and takes away", async (t) => {
    const { page } = await paged(t, "<p>Nothing yet");
    await page.evaluate(() => {
      document.body.insertAdjacentHTML("beforeend", '<div><img id="a" src="small.hpcm"></div>');
      document.body.append(Object.assign(new Image(), { id: "gone", src: "rough.hpcm" }));
      document.querySelector("#gone").remove();
    });
    await hears(page, "a load");
    await shows(page, "#a", "small");
    for (const [src, name] of [["other.hpcm", "other"], ["alpha.hpcm", "alpha"], ["small.hpcm", "small"]]) {
      await page.evaluate((src) => {
        window.heard = [];
        document.querySelector("#a").src = src;
      }, src);
      await hears(page, "a load");
      await shows(page, "#a", name);
    }
    await page.evaluate(() => {
      window.heard = [];
      document.querySelector("#a").src = "hpcm/samples/text.webp";
    });
    await hears(page, "a load");
    await page.evaluate(() => document.body.append(document.querySelector("#a"))); // moved
    await page.waitForTimeout(300);
    assert.deepEqual(await heard(page), ["a load"]);
  });

  cased("pictures of style sheets", async (t) => {
    const sheet = `<style>#a { background: url(small.hpcm) no-repeat; width: 96px; height: 64px }
      #b { width: 80px } #b::before { content: ""; display: block; width: 80px; height: 120px; background-image: linear-gradient(#0000, #0000), url("other.hpcm") }</style>`;
    const { page } = await paged(t, '<div id="a"></div><div id="b"></div><div id="c" style="background-image: url(many-3.hpcm); width: 67px; height: 64px"></div>', sheet);
    for (const [selector, name] of [["#a", "small"], ["#b", "other"], ["#c", "many-3"]]) await looksLike(page, selector, name);
  });
}

for (const [name, { missing: why, start }] of Object.entries(BROWSERS)) {
  test(`${name}: images on the first visit, and by the service worker afterwards`, { skip: missing || why }, async (t) => {
    const body = `<img id="a" srcset="other.hpcm, large.hpcm 9x">
      <picture><source srcset="alpha.hpcm" media="(min-width: 1px)"><img id="c"></picture>`;
    const site = await sited(t, { "page.html": answering(html(body)) });
    const browser = await start();
    t.after(() => browser.close());
    for (const way of ["elements", "worker"]) {
      await browser.visit(`${site.url}page.html`);
      const found = await browser.run(async (way) => {
        const until = async (is) => {
          for (let i = 0; i < 200 && !is(); i++) await new Promise((go) => setTimeout(go, 100));
          return is();
        };
        const loaded = await until(() => ["a", "c"].every((id) => window.heard.includes(`${id} load`)));
        const widths = ["a", "c"].map((id) => document.getElementById(id).naturalWidth);
        const files = [...document.images].every((img) => img.currentSrc.endsWith(".hpcm"));
        const controlled = await until(() => Boolean(navigator.serviceWorker.controller));
        return { loaded, widths, controlled, files: way === "elements" || files }; // at first the service worker may be quicker
      }, way);
      assert.deepEqual(found, { loaded: true, widths: [80, 90], controlled: true, files: true }, way);
    }
  });
}
