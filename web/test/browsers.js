/**
 * Chromium, Firefox and WebKit for tests that run in each of them. Playwright drives Chromium. Its Firefox and WebKit are
 * builds of its own, which no system has; Firefox itself speaks WebDriver BiDi, and WebKit's driver WebDriver.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { WebSocket } from "ws";
import { launch, missing } from "./chromium.js";

const FIREFOX = [process.env.FIREFOX, "/usr/bin/firefox-esr", "/usr/bin/firefox"].find((path) => path && existsSync(path));
const WEBKIT_DRIVER = "/usr/bin/WebKitWebDriver";
const XVFB = "/usr/bin/Xvfb"; // WebKit has no mode without a screen
const PATIENCE = 180_000; // milliseconds that a script may take
const STARTING = 30_000; // milliseconds until a browser must have started
const ENDING = 10_000; // milliseconds until a browser that was asked to end is killed

/**
 * @typedef {object} Browser with one page
 * @property {string} version
 * @property {(url: string) => Promise<void>} visit
 * @property {(work: Function, given?: unknown) => Promise<unknown>} run runs a function, which may be async, in the page
 * @property {() => Promise<void>} close
 */

const unasked = process.env.BROWSERS === "all" ? false : "Chromium alone was asked for: make check-browsers asks for all";
const noFirefox = FIREFOX ? false : "there is no Firefox here: install the package firefox-esr, or set FIREFOX";
const noWebKit = [WEBKIT_DRIVER, XVFB].every(existsSync) ? false : "there is no WebKit here: install the packages webkit2gtk-driver and xvfb";

/**
 * By name: why it isn't there or isn't asked for, or false; and what starts it.
 * @type {Record<string, {missing: string|false, start: () => Promise<Browser>}>}
 */
export const BROWSERS = {
  Chromium: { missing, start: startChromium },
  Firefox: { missing: unasked || noFirefox, start: startFirefox },
  WebKit: { missing: unasked || noWebKit, start: startWebKit },
};

/** The text of a program that gives what `work` gives, as JSON. */
const programOf = (work, given = null) => `(async () => JSON.stringify(await (${work})(${JSON.stringify(given)})) ?? "null")()`;

async function startChromium() {
  const browser = await launch();
  const page = await browser.newPage();
  return {
    version: browser.version(),
    visit: async (url) => void (await page.goto(url)),
    run: async (work, given) => JSON.parse(await page.evaluate(programOf(work, given))),
    close: () => browser.close(),
  };
}

// ---- Firefox: https://w3c.github.io/webdriver-bidi ---------------------------------------------------------------------

async function startFirefox() {
  const profile = await mkdtemp(join(tmpdir(), "hpcm-firefox-"));
  const how = ["--headless", "--no-remote", "--profile", profile, "--remote-debugging-port=0"];
  const child = started(FIREFOX, how, { stdio: ["ignore", "ignore", "pipe"] });
  const address = await line(child, child.stderr, /WebDriver BiDi listening on (ws:\S+)/);
  const { command, end } = await connected(`${address}/session`);
  const { capabilities } = await command("session.new", { capabilities: {} });
  const { contexts } = await command("browsingContext.getTree", {});
  const { context } = contexts[0];
  return {
    version: capabilities.browserVersion,
    visit: async (url) => void (await command("browsingContext.navigate", { context, url, wait: "complete" })),
    async run(work, given) {
      const { result, exceptionDetails } = await command("script.evaluate", {
        expression: programOf(work, given),
        target: { context },
        awaitPromise: true,
      });
      if (exceptionDetails) throw new Error(exceptionDetails.text);
      return JSON.parse(result.value);
    },
    async close() {
      await within(ENDING, command("browser.close", {}), "closing").catch(() => {});
      end();
      await gone(child);
      await rm(profile, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

async function connected(address) {
  const socket = new WebSocket(address);
  const waiting = new Map(); // id -> {resolve, reject}
  let count = 0;
  socket.on("message", (data) => {
    const { id, type, result, error, message } = JSON.parse(data);
    const { resolve, reject } = waiting.get(id) ?? {};
    if (type === "success") resolve?.(result);
    if (type === "error") reject?.(new Error(`${error}: ${message}`));
    waiting.delete(id);
  });
  socket.on("close", () => waiting.forEach(({ reject }) => reject(new Error("Firefox has gone"))));
  await within(STARTING, new Promise((opened, failed) => socket.once("open", opened).once("error", failed)), address);
  const command = (method, params) => {
    const answer = new Promise((resolve, reject) => waiting.set(++count, { resolve, reject }));
    socket.send(JSON.stringify({ id: count, method, params }));
    return within(PATIENCE, answer, method);
  };
  return { command, end: () => socket.terminate() };
}

// ---- WebKit: https://www.w3.org/TR/webdriver ---------------------------------------------------------------------------

async function startWebKit() {
  const how = ["-displayfd", "1", "-screen", "0", "1280x800x24", "-nolisten", "tcp"];
  const screen = started(XVFB, how, { stdio: ["ignore", "pipe", "ignore"] });
  const display = await line(screen, screen.stdout, /(\d+)/);
  const port = await freePort();
  const driver = started(WEBKIT_DRIVER, [`--port=${port}`], { env: { ...process.env, DISPLAY: `:${display}` }, stdio: "ignore" });
  const command = async (method, path, body) => {
    const signal = AbortSignal.timeout(PATIENCE + STARTING); // the driver itself ends scripts after PATIENCE
    const response = await fetch(`http://127.0.0.1:${port}/session${path}`, { method, body: body && JSON.stringify(body), signal });
    const { value } = await response.json();
    if (!response.ok) throw new Error(`${value.error}: ${value.message}`);
    return value;
  };
  const { sessionId, capabilities } = await patiently(() => command("POST", "", { capabilities: {} }));
  const session = (method, path, body) => command(method, `/${sessionId}${path}`, body);
  await session("POST", "/timeouts", { script: PATIENCE });
  const complete = async () => {
    const state = await session("POST", "/execute/sync", { script: "return document.readyState", args: [] });
    if (state !== "complete") throw new Error(`the page is ${state}`);
  };
  return {
    version: capabilities.browserVersion,
    async visit(url) {
      await session("POST", "/url", { url });
      await patiently(complete); // the driver may answer before the page's scripts have run
    },
    async run(work, given) {
      const told = "(value) => done({ value }), (error) => done({ error: String(error) })";
      const script = `const done = arguments[0]; ${programOf(work, given)}.then(${told})`;
      const { value, error } = await session("POST", "/execute/async", { script, args: [] });
      if (error) throw new Error(error);
      return JSON.parse(value);
    },
    async close() {
      await session("DELETE", "").catch(() => {});
      driver.kill();
      await gone(driver);
      screen.kill();
      await gone(screen);
    },
  };
}

/** Tries until it works. */
async function patiently(work) {
  for (const end = Date.now() + STARTING; ; ) {
    try {
      return await work();
    } catch (error) {
      if (Date.now() > end) throw error;
      await new Promise((done) => setTimeout(done, 100));
    }
  }
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((done) => server.once("listening", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

// ---- processes ---------------------------------------------------------------------------------------------------------

/** A process that ends with this one at the latest, and doesn't keep it alive: a browser that hangs ends no test run. */
function started(program, args, options) {
  const child = spawn(program, args, options);
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill);
  child.once("exit", () => process.off("exit", kill));
  for (const each of [child, child.stdout, child.stderr]) each?.unref();
  return child;
}

/** What a promise gives, or an error after some milliseconds. */
function within(milliseconds, promise, what) {
  let timer;
  const late = new Promise((_, failed) => {
    timer = setTimeout(() => failed(new Error(`${what}: no answer within ${milliseconds / 1000} s`)), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** What a process says that matches. @param {RegExp} wanted its first group is returned */
function line(child, stream, wanted) {
  return new Promise((said, failed) => {
    const late = setTimeout(() => failed(new Error(`${child.spawnfile} doesn't start`)), STARTING);
    child.once("exit", () => failed(new Error(`${child.spawnfile} ended`)));
    createInterface({ input: stream }).on("line", (text) => {
      const found = wanted.exec(text);
      if (!found) return;
      clearTimeout(late);
      said(found[1]);
    });
  });
}

/** Waits until a process has ended, and kills it if it takes too long. */
async function gone(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const end = new Promise((ended) => child.once("exit", ended));
  await within(ENDING, end, child.spawnfile).catch(() => (child.kill("SIGKILL"), end));
}
