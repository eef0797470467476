/** Buttons, files, drops and the theme. */
import { ZOOM_STEP } from "./gestures.js";

const $ = (id) => document.getElementById(id);

/**
 * @param {{open, openOne, home, view, toggleDifference, fail, quality, settled, lossless, choose, png, zip}} actions
 *   quality: while the slider moves; settled: when it is left
 */
export function wireControls(actions) {
  const { view } = actions;
  wireFiles(actions);
  wireTheme();
  $("home").addEventListener("click", actions.home);
  $("difference").addEventListener("click", actions.toggleDifference);
  $("about").addEventListener("click", () => $("about-dialog").showModal());
  $("about-dialog").addEventListener("click", (event) => event.target === event.currentTarget && event.target.close());
  $("zoom-in").addEventListener("click", () => view.zoomTo(view.zoom * ZOOM_STEP));
  $("zoom-out").addEventListener("click", () => view.zoomTo(view.zoom / ZOOM_STEP));
  $("zoom-fit").addEventListener("click", () => view.fit());
  $("zoom-one").addEventListener("click", () => view.zoomTo(1));
  $("quality").addEventListener("input", ({ target }) => actions.quality(target.valueAsNumber));
  $("quality").addEventListener("change", ({ target }) => actions.settled(target.valueAsNumber));
  $("lossless").addEventListener("change", ({ target }) => actions.lossless(target.checked));
  $("model").addEventListener("change", ({ target }) => actions.choose(target.value));
  $("save-png").addEventListener("click", actions.png);
  $("save-all").addEventListener("click", actions.zip);
}

function wireFiles({ open, openOne, fail }) {
  const ask = () => $("file").click();
  $("open").addEventListener("click", ask);
  $("choose").addEventListener("click", ask);
  $("file").addEventListener("change", ({ target }) => {
    open([...target.files]);
    target.value = ""; // so that the same file can be chosen again
  });
  for (const button of document.querySelectorAll("[data-sample]")) {
    button.addEventListener("click", () => openSample(button.dataset.sample, openOne, fail));
  }
  addEventListener("paste", ({ clipboardData }) => open([...clipboardData.files]));
  wireDrop(open);
}

async function openSample(name, openOne, fail) {
  try {
    const answer = await fetch(new URL(`samples/${name}`, document.baseURI));
    if (!answer.ok) throw new Error(`The sample ${name} can't be fetched: ${answer.status}.`);
    await openOne(await answer.blob(), name);
  } catch (error) {
    fail(error);
  }
}

function wireDrop(open) {
  const carriesFile = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    $("drop").hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) $("drop").hidden = true; // it left the window
  });
  addEventListener("drop", (event) => {
    $("drop").hidden = true;
    if (!carriesFile(event)) return;
    event.preventDefault();
    open([...event.dataTransfer.files]);
  });
}

/** The toggle chooses the other one; what the system has too isn't stored, so the page follows the system again. */
function wireTheme() {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const tell = () => $("theme").setAttribute("aria-pressed", String(dark()));
  $("theme").addEventListener("click", () => {
    const theme = dark() ? "light" : "dark";
    if ((theme === "dark") === system.matches) delete root.dataset.theme;
    else root.dataset.theme = theme;
    try {
      if (root.dataset.theme) localStorage.setItem("hpcm-theme", theme);
      else localStorage.removeItem("hpcm-theme");
    } catch {
      // storage may be forbidden; the theme holds until the page is closed
    }
    tell();
  });
  system.addEventListener("change", tell);
  tell();
}
