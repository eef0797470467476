/**
 * Draws two pictures of the same size on one canvas, the left one up to the divider and the right one from there on.
 * There is one zoom and one position for both, so they can't get out of step.
 *
 * Zoom is CSS pixels per picture pixel. The position is the point of the picture that lies in the stage's middle.
 */

const MOST = 32;
const SHARP = 3; // from this zoom on pixels are shown as squares

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

export class View {
  #stage;
  #canvas;
  #onchange;
  #frame = 0;
  #fitted = true;
  #size = { width: 0, height: 0 };
  zoom = 1;
  split = 0.5;
  x = 0;
  y = 0;
  left;
  right;
  whole; // instead of the two, if set: the difference

  /** @param {HTMLElement} stage @param {HTMLCanvasElement} canvas @param {() => void} onchange zoom or split moved */
  constructor(stage, canvas, onchange) {
    this.#stage = stage;
    this.#canvas = canvas;
    this.#onchange = onchange;
    new ResizeObserver(() => (this.#fitted ? this.fit() : this.#moved())).observe(stage);
  }

  /** Sets the size of the pictures to come and fits it. */
  reset(width, height) {
    this.#size = { width, height };
    this.split = 0.5;
    this.fit();
  }

  get fitting() {
    const { clientWidth, clientHeight } = this.#stage;
    const margin = Math.min(clientWidth, clientHeight) < 500 ? 0 : 24;
    const { width, height } = this.#size;
    return clamp(Math.min((clientWidth - 2 * margin) / width, (clientHeight - 2 * margin) / height), 0.01, MOST);
  }

  fit() {
    if (!this.#size.width) return;
    this.zoom = this.fitting;
    this.x = this.#size.width / 2;
    this.y = this.#size.height / 2;
    this.#moved();
    this.#fitted = true;
  }

  /** @param {number} zoom @param {{x, y}} [at] the point of the stage that stays, by default its middle */
  zoomTo(zoom, at = { x: this.#stage.clientWidth / 2, y: this.#stage.clientHeight / 2 }) {
    const next = clamp(zoom, Math.min(this.fitting, 1), MOST);
    const [dx, dy] = [at.x - this.#stage.clientWidth / 2, at.y - this.#stage.clientHeight / 2];
    this.x += dx / this.zoom - dx / next;
    this.y += dy / this.zoom - dy / next;
    this.zoom = next;
    this.#moved();
  }

  /** Between the whole picture and its pixels. */
  toggle(at) {
    if (this.#fitted) this.zoomTo(this.fitting < 0.9 ? 1 : 2 * Math.ceil(this.fitting), at);
    else this.fit();
  }

  /** @param {number} dx CSS pixels */
  pan(dx, dy) {
    this.x -= dx / this.zoom;
    this.y -= dy / this.zoom;
    this.#moved();
  }

  /** @param {number} split 0 to 1 of the stage's width */
  divide(split) {
    this.split = clamp(split, 0, 1);
    this.draw();
    this.#onchange();
  }

  /** Keeps the picture in sight: it can't leave the stage, and what is smaller than the stage stays in its middle. */
  #moved() {
    const { width, height } = this.#size;
    const slack = (side, room) => Math.max(0, side / 2 - room / this.zoom / 2);
    const [right, down] = [slack(width, this.#stage.clientWidth), slack(height, this.#stage.clientHeight)];
    this.x = clamp(this.x, width / 2 - right, width / 2 + right);
    this.y = clamp(this.y, height / 2 - down, height / 2 + down);
    this.#fitted = Math.abs(this.zoom / this.fitting - 1) < 0.001;
    this.draw();
    this.#onchange();
  }

  draw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#paint();
    });
  }

  #paint() {
    const ratio = devicePixelRatio;
    const [width, height] = [this.#stage.clientWidth, this.#stage.clientHeight].map((side) => Math.round(side * ratio));
    if (this.#canvas.width !== width) this.#canvas.width = width;
    if (this.#canvas.height !== height) this.#canvas.height = height;
    const context = this.#canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    const scale = this.zoom * ratio;
    context.imageSmoothingEnabled = this.zoom < SHARP;
    context.imageSmoothingQuality = "high";
    const box = [width / 2 - this.x * scale, height / 2 - this.y * scale, this.#size.width * scale, this.#size.height * scale];
    const at = box.map(Math.round);
    const cut = Math.round(this.split * width);
    if (this.whole) return this.#part(context, this.whole, at, 0, width);
    this.#part(context, this.left, at, 0, cut);
    this.#part(context, this.right, at, cut, width);
  }

  #part(context, image, at, from, to) {
    if (!image || to <= from) return;
    context.save();
    context.beginPath();
    context.rect(from, 0, to - from, this.#canvas.height);
    context.clip();
    context.drawImage(image, ...at);
    context.restore();
  }
}
