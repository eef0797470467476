/** The browser of the tests. */
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const PLACES = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const executablePath = PLACES.find((path) => path && existsSync(path));

/** Why there is no browser; false if there is one. */
export const missing = executablePath ? false : "there is no Chromium here: install the package chromium, or set CHROMIUM";

export const launch = (options = {}) => chromium.launch({ executablePath, ...options });
