/**
 * The loop over coding steps, as in the Python package's nn/hpcm.py.
 *
 * Exactness: what leads to means and scales is single precision, one rounded operation at a time, so every product and
 * sum here goes through Math.fround. Shapes: y [M, h, w], z [N, h/4, w/4], hyper, context, psi [2M, ...], scales first.
 */
import { Plan } from "./schedule.js";

const KNOTS = 6;
const f = Math.fround;

/** Rounds to the nearest whole number, halves to the even one. */
export function rint(x) {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest < 0.5 || (rest === 0.5 && floor % 2 === 0) ? floor : floor + 1;
}

/** Learned factors [KNOTS or 1, C] at a quality level. */
export function between(knots, level, levels) {
  const channels = knots.length / (levels === 1 ? 1 : KNOTS);
  if (levels === 1) return knots.slice(0, channels);
  const place = f(level * f((KNOTS - 1) / (levels - 1)));
  const low = Math.min(Math.max(Math.floor(place), 0), KNOTS - 2);
  const share = f(place - low);
  const rest = f(1 - share);
  return Float32Array.from({ length: channels }, (_, c) =>
    f(f(knots[low * channels + c] * rest) + f(knots[(low + 1) * channels + c] * share)),
  );
}

/** A gain and its learned inverse at a level. @returns {[Float32Array, Float32Array]} */
function pair(gain, inverse, level, { levels, interpolation }) {
  const factor = between(gain, level, levels);
  if (interpolation !== "paired") return [factor, between(inverse, level, levels)];
  const product = between(gain.map((value, i) => f(inverse[i] * value)), level, levels);
  return [factor, product.map((value, c) => f(value / factor[c]))];
}

/**
 * A driver is asked at every step: (place, means, scales) -> Int32Array of symbols, where `place` is {coded, fine, ...}
 * and means and scales belong to `coded`, in units of the quantisation step.
 */
export class Loop {
  /** @param {import("./networks.js").Networks} networks */
  constructor(networks) {
    this.networks = networks;
    this.config = networks.config;
    this.plans = new Map();
  }

  gainsOf(latent, level) {
    const { networks, config } = this;
    if (config.levels === 1) {
      const ones = new Float32Array(latent === "y" ? config.M : config.N).fill(1);
      return [ones, ones];
    }
    return pair(networks.numbers(`${latent}_gain.knots`), networks.numbers(`${latent}_inverse.knots`), level, config);
  }

  /** The schedule of latents of `size`, of which `inside` rows and columns touch the picture. */
  plan(size, inside) {
    const key = [...size, ...inside].join();
    if (!this.plans.has(key)) {
      if (this.plans.size >= 4) this.plans.clear();
      this.plans.set(key, new Plan(this.config, size, inside));
    }
    return this.plans.get(key);
  }

  /** y_hat [M, h, w] of a tile, with the symbols that the driver gives. */
  async run(drive, size, inside, level, told = () => {}) {
    const hyper = await this.#hyper(drive, size, inside, level);
    return this.#latent(hyper, drive, this.plan(size, inside), level, told);
  }

  /** Codes z in one step and gives the hyper parameters. */
  async #hyper(drive, size, inside, level) {
    const { N } = this.config;
    const [gain, inverse] = this.gainsOf("z", level);
    const [rows, columns] = [size[0] / 4, size[1] / 4];
    const [tall, wide] = [Math.ceil(inside[0] / 4), Math.ceil(inside[1] / 4)];
    const [means, scales] = ["z_means", "z_scales"].map((name) =>
      this.networks.numbers(name).map((value, c) => f(value * gain[c])),
    );
    const coded = [];
    for (let i = 0; i < tall; i++) {
      for (let j = 0; j < wide; j++) for (let c = 0; c < N; c++) coded.push((c * rows + i) * columns + j);
    }
    const channel = coded.map((_, k) => k % N);
    const place = { coded: Int32Array.from(coded), fine: Int32Array.from(coded) };
    const symbols = drive(place, Float32Array.from(channel, (c) => means[c]), Float32Array.from(channel, (c) => scales[c]));
    const z = new Float32Array(N * rows * columns);
    for (let c = 0; c < N; c++) z.fill(f(means[c] * inverse[c]), c * rows * columns, (c + 1) * rows * columns);
    for (let k = 0; k < coded.length; k++) z[coded[k]] = f(f(symbols[k] + means[channel[k]]) * inverse[channel[k]]);
    return this.networks.hyperSynthesise(z, [rows, columns]);
  }

  async #latent(hyper, drive, plan, level, told) {
    const { config, networks } = this;
    const gains = this.gainsOf("y", level);
    const half = plan.gather(hyper, 2);
    const hypers = [plan.gather(half, 1), half, hyper];
    let context = hypers[0];
    let yHat = new Float32Array(context.length / 2);
    for (const step of plan.steps) {
      const size = plan.sizes[step.scale];
      if (step.turn === 0 && step.scale > 0) {
        yHat = plan.scatter(yHat, new Float32Array(hypers[step.scale].length / 2), step.scale);
        context = plan.scatter(context, hypers[step.scale].slice(), step.scale);
        if (config.context_net) context = await networks.betweenScales(step.scale, context, size);
      }
      const psi = step.index ? await networks.parametersOf(step, context, yHat, level, size) : context;
      this.#code(plan.places[step.index], psi, yHat, drive, gains, size[0] * size[1]);
      if (step.index && config.fusion === "psi") context = psi;
      told((step.index + 1) / plan.steps.length);
    }
    return yHat;
  }

  /** One step: asks the driver and writes symbol + mean into yHat. */
  #code(place, psi, yHat, drive, [gain, inverse], area) {
    const { coded, other } = place;
    const means = new Float32Array(coded.length);
    const scales = new Float32Array(coded.length);
    for (let k = 0; k < coded.length; k++) {
      const factor = gain[Math.floor(coded[k] / area)];
      scales[k] = psi[coded[k]] * factor;
      means[k] = psi[yHat.length + coded[k]] * factor;
    }
    const symbols = drive(place, means, scales);
    for (let k = 0; k < coded.length; k++) {
      yHat[coded[k]] = f(symbols[k] + means[k]) * inverse[Math.floor(coded[k] / area)];
    }
    for (const at of other) {
      const c = Math.floor(at / area);
      yHat[at] = f(psi[yHat.length + at] * gain[c]) * inverse[c];
    }
  }
}
