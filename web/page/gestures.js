/** Pointers, wheel and keys of the stage. */

const KEY_STEP = 40; // CSS pixels
export const ZOOM_STEP = 1.25;

/** @param {HTMLElement} stage @param {import("./view.js").View} view */
export function listenToStage(stage, view) {
  const pointers = new Map();
  const place = (event) => {
    const box = stage.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.target.closest(".zoom")) return;
    stage.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, place(event));
  });
  stage.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    const before = [...pointers.values()];
    pointers.set(event.pointerId, place(event));
    move(view, before, [...pointers.values()]);
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
    stage.addEventListener(end, (event) => pointers.delete(event.pointerId));
  }
  stage.addEventListener("dblclick", (event) => {
    if (!event.target.closest(".zoom, #divider")) view.toggle(place(event));
  });
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    const speed = event.ctrlKey ? 0.01 : 0.002; // a pinch on a trackpad comes as a wheel with ctrl, in small steps
    view.zoomTo(view.zoom * Math.exp(-event.deltaY * lines * speed), place(event));
  }, { passive: false });
}

const middle = (points) => ({
  x: points.reduce((sum, point) => sum + point.x, 0) / points.length,
  y: points.reduce((sum, point) => sum + point.y, 0) / points.length,
});
const spread = ([a, b]) => Math.hypot(a.x - b.x, a.y - b.y);

function move(view, before, after) {
  const [from, to] = [middle(before), middle(after)];
  view.pan(to.x - from.x, to.y - from.y);
  if (after.length === 2 && spread(before) > 0) view.zoomTo((view.zoom * spread(after)) / spread(before), to);
}

/** @param {HTMLElement} divider @param {HTMLElement} stage @param {import("./view.js").View} view */
export function listenToDivider(divider, stage, view) {
  let held = false;
  divider.addEventListener("pointerdown", (event) => {
    event.stopPropagation();
    divider.setPointerCapture(event.pointerId);
    held = true;
  });
  divider.addEventListener("pointermove", (event) => {
    if (!held) return;
    const box = stage.getBoundingClientRect();
    view.divide((event.clientX - box.left) / box.width);
  });
  divider.addEventListener("lostpointercapture", () => (held = false));
  divider.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 0.1 : 0.02;
    const ends = { Home: 0, End: 1, ArrowLeft: view.split - step, ArrowRight: view.split + step };
    if (!(event.key in ends)) return;
    event.preventDefault();
    event.stopPropagation();
    view.divide(ends[event.key]);
  });
}

/** Keys that hold wherever the focus is, except where one writes or chooses. @param {Record<string, () => void>} more */
export function listenToKeys(stage, view, more) {
  const zooms = {
    "+": () => view.zoomTo(view.zoom * ZOOM_STEP),
    "=": () => view.zoomTo(view.zoom * ZOOM_STEP),
    "-": () => view.zoomTo(view.zoom / ZOOM_STEP),
    0: () => view.fit(),
    1: () => view.zoomTo(1),
  };
  const pans = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  stage.addEventListener("keydown", (event) => {
    if (event.target !== stage || !pans[event.key]) return;
    event.preventDefault();
    const [x, y] = pans[event.key];
    view.pan(x * KEY_STEP, y * KEY_STEP);
  });
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, dialog")) return;
    const action = { ...zooms, ...more }[event.key.toLowerCase()];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
