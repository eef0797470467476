/**
 * The polyfill: a page's .hpcm files are shown by <img>, srcset, <picture> and style sheets as if the browser opened them.
 *
 *     <script type="module" src="hpcm/hpcm-polyfill.js" data-worker="/hpcm-polyfill-worker.js"></script>
 *
 *     the browser opens .hpcm files itself ------------------------------> nothing is done
 *     a service worker with our code controls the page (worker.js) ------> it asks the page for each picture
 *     else: the first visit, without https, without a worker ------------> elements are changed (images.js, styles.js),
 *                                                                          until such a service worker is there
 *
 * Attributes of the script, or fields of what `start` is given:
 *
 *     data-models, data-wasm   folders, by default models/ beside the script, and that of hpcm-web.js
 *     data-worker              the service worker's script, by default beside this one; "none": the page starts none
 *     data-scope               what the service worker serves, by default the folder of its script
 *     data-at-once             pictures that are decoded at the same time, by default 2
 *     data-keep                bytes of decoded pictures that the browser keeps, by default 128 MiB
 */
import { configure } from "../index.js";
import { HpcmError } from "../errors.js";
import { Images, distanceOf, imagesWith, sizeOf } from "./images.js";
import { SMALLEST, TYPE } from "./names.js";
import { Pictures } from "./pictures.js";
import { Styles } from "./styles.js";

const SCRIPT = import.meta.url;
const PATIENCE = 1000; // milliseconds until a service worker must have answered
const GENERAL = ["model", "network", "unsupported", "version", "lost"]; // codes of what is said once, not for each picture
const SOON = 500; // pixels of distance of what isn't an image, such as the picture of a style sheet

const workers = navigator.serviceWorker; // undefined without https
const images = new Images(!workers?.controller);
const styles = new Styles();
const said = new Set();
let pictures;
let begin; // resolves `begun`
const begun = new Promise((done) => (begin = done)); // when `pictures` is there. It fails as the start does
begun.catch(() => {}); // which is told already
let started;

/**
 * Starts the polyfill with other settings than those of the script's attributes. Without this it starts by itself, after the
 * script that imports it.
 * @param {object} [given]
 * @param {string|URL|import("../index.js").Model|(string|URL|import("../index.js").Model)[]} [given.models] as of `configure`
 * @param {string|URL} [given.wasm]
 * @param {string|URL} [given.worker]
 * @param {string|URL} [given.scope]
 * @param {number} [given.atOnce]
 * @param {number} [given.keep]
 * @returns {Promise<"browser"|"worker"|"elements">} who shows the page's pictures from now on
 */
export function start(given = {}) {
  if (started) throw new HpcmError("usage", "the polyfill has been started already");
  started = run({ ...places(), ...BOUNDS, ...attributes(), ...given });
  started.catch((error) => {
    report(SCRIPT, error);
    begin(Promise.reject(error)); // the service worker waits for pictures
  });
  return started;
}

const beside = (name) => new URL(name, SCRIPT);
const places = () => ({ models: beside("models/"), worker: beside("hpcm-polyfill-worker.js") });
const BOUNDS = { atOnce: 2, keep: 2 ** 27 };

function attributes() {
  const { models, wasm, worker, scope, atOnce, keep } = [...document.scripts].find(({ src }) => src === SCRIPT)?.dataset ?? {};
  const given = { models, wasm, worker, scope, atOnce: atOnce && Number(atOnce), keep: keep && Number(keep) };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

async function run({ models, wasm, worker, scope, atOnce, keep }) {
  if (!(Number.isInteger(atOnce) && atOnce >= 1)) {
    throw new HpcmError("usage", `data-at-once is ${atOnce}: it must be a whole number from 1 on`);
  }
  if (!(keep >= 0)) throw new HpcmError("usage", `data-keep is ${keep}: it must be a number of bytes`);
  if (await opensItself()) {
    images.stop();
    await leave(worker);
    return "browser";
  }
  settle(models, wasm);
  pictures = new Pictures({ atOnce, keep });
  begin();
  const served = await answers(workers?.controller);
  images.start({ pictures, report, taking: !served });
  if (served) return "worker";
  styles.start({ load, report });
  workers?.addEventListener("controllerchange", handOver);
  if (workers && worker !== "none") await register(new URL(worker, document.baseURI), scope && new URL(scope, document.baseURI));
  return "elements";
}

/** Whether the browser opens .hpcm files. An <img> would need a place in the site's Content-Security-Policy. */
function opensItself() {
  const file = Uint8Array.from(atob(SMALLEST), (char) => char.charCodeAt(0));
  return createImageBitmap(new Blob([file], { type: TYPE })).then(() => true, () => false);
}

/** The module's places, unless the page has used the module already. */
function settle(models, wasm) {
  try {
    configure({ models, ...(wasm && { wasm }), version: __VERSION__ }); // the module knows where its own files are
  } catch (error) {
    if (error.code !== "usage") throw error;
  }
}

// ---- the service worker ---------------------------------------------------------------------------------------------

/** Whether a service worker has our code: it may be the site's own. */
function answers(controller) {
  if (!controller) return false;
  const { port1, port2 } = new MessageChannel();
  return new Promise((done) => {
    port1.onmessage = () => done(true);
    setTimeout(done, PATIENCE, false);
    controller.postMessage({ hpcm: "hello" }, [port2]);
  });
}

/** Starts the service worker, unless the site has one of its own, which ours would replace. */
async function register(worker, scope) {
  try {
    const registration = await workers.getRegistration();
    const before = registration && (registration.active ?? registration.waiting ?? registration.installing);
    if (before && before.scriptURL !== worker.href) return;
    if (!location.href.startsWith((scope ?? new URL("./", worker)).href)) {
      throw new Error("it lies in another folder than this page; put it above, or see data-scope");
    }
    await workers.register(worker, { scope });
  } catch (error) {
    console.warn(`hpcm: the service worker ${worker} can't be used: ${error.message}`);
  }
}

/** A service worker has come: what isn't shown yet it shows. */
async function handOver() {
  if (!(await answers(workers.controller))) return;
  workers.removeEventListener("controllerchange", handOver);
  images.stop();
  styles.stop();
}

/** Takes away the service worker that an older browser needed. */
async function leave(worker) {
  const registration = worker === "none" ? undefined : await workers?.getRegistration();
  if (registration?.active?.scriptURL === new URL(worker, document.baseURI).href) await registration.unregister();
}

workers?.addEventListener("message", ({ data, ports }) => {
  if (data?.hpcm === "decode") decodeFor(data, ports[0]);
  if (data?.hpcm === "failed") console.error(`hpcm: ${data.url}: ${data.message}`);
});
workers?.startMessages();

/** Answers the service worker. */
async function decodeFor({ url, data }, port) {
  port.postMessage("taken");
  try {
    await begun;
    const distance = () => Math.min(...imagesWith(url).map(distanceOf), SOON);
    const shown = () => sizeOf(imagesWith(url));
    port.postMessage({ blob: await pictures.whole(url, new Uint8Array(data), { distance, shown }) });
  } catch (error) {
    report(url, error);
    port.postMessage({});
  }
}

// ---- pictures and errors --------------------------------------------------------------------------------------------

/** A style sheet's picture. */
async function load(url) {
  const how = { distance: () => SOON, signal: new AbortController().signal, onsize: () => {} };
  const { data } = await pictures.beginning(url, how);
  return pictures.whole(url, data, how);
}

/** A line in the console. What is wrong with all pictures is said once. */
function report(url, { code, message }) {
  const line = GENERAL.includes(code) ? message : `${url}: ${message}`;
  if (said.has(line)) return;
  said.add(line);
  console.error(`hpcm: ${line}`);
}

setTimeout(() => started ?? start());
