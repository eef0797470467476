/**
 * Who is coded when, as lists of places; the coding order and its drawing are in the Python package's
 * nn/schedule.py.
 *
 * A lattice is what a scale sees of the latent y [M, h, w]: scale 2 all of it, scale 1 a quarter and scale 0 a sixteenth
 * of the places, of each of the eight groups of channels with its own phase. A place is an index into [M, rows, columns].
 */
const GROUPS = 8;
const PERIOD = 8;
const QUADS = [[0, 0], [0, 1], [1, 0], [1, 1]];
const PHASES = [[0, 0], [1, 1], [0, 1], [1, 0]]; // of a group's half-resolution lattice, by g % 4
const SCALE2_ORDER = [[3, 2, 1, 0], [2, 3, 0, 1], [1, 0, 3, 2]]; // [step][g >> 1]: which of QUADS is coded
const PATTERNS = [
  [[0, 0], [2, 2]], [[0, 2], [2, 0]], [[1, 1], [3, 3]], [[1, 3], [3, 1]],
  [[0, 1], [2, 3]], [[0, 3], [2, 1]], [[1, 0], [3, 2]], [[1, 2], [3, 0]],
];
const ORDER = [
  [0, 2, 4, 6, 1, 3, 5, 7], [1, 3, 5, 7, 0, 2, 4, 6], [2, 4, 6, 0, 3, 5, 7, 1], [3, 5, 7, 1, 2, 4, 6, 0],
  [4, 6, 0, 2, 5, 7, 1, 3], [5, 7, 1, 3, 4, 6, 0, 2], [6, 0, 2, 4, 7, 1, 3, 5], [7, 1, 3, 5, 6, 0, 2, 4],
];

/** The coding steps: {index, scale, turn}. */
function stepsOf(config) {
  return config.steps.flatMap((count, scale) => Array.from({ length: count }, (_, turn) => ({ scale, turn })))
    .map((step, index) => ({ index, ...step }));
}

/** After how many steps, the hyper latent's among them, each scale is done. */
export function passEnds({ steps }) {
  return [1 + steps[0], 1 + steps[0] + steps[1], 1 + steps[0] + steps[1] + steps[2]];
}

/** The coding order [8][8][8]: at which step position (i, j) of group g is coded. */
export function table([coarse, middle, fine]) {
  return Array.from({ length: GROUPS }, (_, g) => {
    const order = Array.from({ length: PERIOD }, () => new Array(PERIOD).fill(-1));
    for (let turn = 2; turn < 8; turn++) {
      PATTERNS[ORDER[turn][g]].forEach(([i, j], half) => {
        const step = coarse + middle + Math.floor(((2 * (turn - 2) + half) * fine) / 12);
        for (const [a, b] of QUADS) order[i + 4 * a][j + 4 * b] = step;
      });
    }
    const [pi, pj] = PHASES[g % 4];
    const [qi, qj] = QUADS[g >> 1];
    const half = (i, j, step) => (order[pi + 2 * i][pj + 2 * j] = step);
    for (let turn = 0; turn < 3; turn++) {
      const [i, j] = QUADS[SCALE2_ORDER[turn][g >> 1]];
      for (const [a, b] of QUADS) half(i + 2 * a, j + 2 * b, coarse + Math.floor((turn * middle) / 3));
    }
    for (const [r, c] of QUADS) {
      const turn = Math.floor(((2 * ((r + c + (g >> 2)) % 2) + r) * coarse) / 4);
      half(qi + 2 * r, qj + 2 * c, turn);
    }
    return order;
  });
}

/** The schedule for latents of one size. */
export class Plan {
  /** @param {number[]} size rows and columns of y; `inside`: those that touch the picture */
  constructor(config, size, inside) {
    this.M = config.M;
    this.steps = stepsOf(config);
    const strides = config.hierarchy ? [4, 2, 1] : [1, 1, 1];
    this.sizes = strides.map((stride) => [size[0] / stride, size[1] / stride]);
    this.hierarchy = config.hierarchy;
    const order = table(config.steps);
    this.places = this.steps.map((step) => this.#places(step, order, inside));
    this.finer = [0, 1].map((scale) => (config.hierarchy ? this.#finer(scale) : null));
    this.firsts = [0, config.steps[0], config.steps[0] + config.steps[1]];
    this.seen = [0, 1, 2].map((scale) => (config.hierarchy ? null : this.#seen(order, this.firsts[scale])));
  }

  /** Where position (i, j) of a channel lies at the next finer scale. */
  #up(scale, group, i, j) {
    const [a, b] = scale === 1 ? PHASES[group % 4] : QUADS[group >> 1];
    return [2 * i + a, 2 * j + b];
  }

  #finest(scale, group, i, j) {
    for (let s = scale; this.hierarchy && s < 2; s++) [i, j] = this.#up(s, group, i, j);
    return [i, j];
  }

  /** Of a step: `coded` places of its lattice in the order row, column, channel, their places in y, and the `other`
   * places of the step, which touch only padding and take their means. */
  #places(step, order, inside) {
    const [rows, columns] = this.sizes[step.scale];
    const [height, width] = this.sizes[2];
    const [coded, fine, other] = [[], [], []];
    const wide = this.M / GROUPS;
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++) {
        for (let g = 0; g < GROUPS; g++) {
          const [y, x] = this.#finest(step.scale, g, i, j);
          if (order[g][y % PERIOD][x % PERIOD] !== step.index) continue;
          const touches = y < inside[0] && x < inside[1];
          for (let c = g * wide; c < (g + 1) * wide; c++) {
            const place = (c * rows + i) * columns + j;
            (touches ? coded : other).push(place);
            if (touches) fine.push((c * height + y) * width + x);
          }
        }
      }
    }
    return { coded: Int32Array.from(coded), fine: Int32Array.from(fine), other: Int32Array.from(other) };
  }

  /** For each place of a scale's lattice its place on the next finer lattice. */
  #finer(scale) {
    const [rows, columns] = this.sizes[scale];
    const out = new Int32Array(this.M * rows * columns);
    for (let c = 0, at = 0; c < this.M; c++) {
      const group = Math.floor(c / (this.M / GROUPS));
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < columns; j++) {
          const [y, x] = this.#up(scale, group, i, j);
          out[at++] = (c * 2 * rows + y) * 2 * columns + x;
        }
      }
    }
    return out;
  }

  /** Without hierarchy: which places the scales before have coded. */
  #seen(order, first) {
    const [rows, columns] = this.sizes[2];
    const out = [];
    for (let c = 0; c < this.M; c++) {
      const pattern = order[Math.floor(c / (this.M / GROUPS))];
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < columns; j++) {
          if (pattern[i % PERIOD][j % PERIOD] < first) out.push((c * rows + i) * columns + j);
        }
      }
    }
    return Int32Array.from(out);
  }

  /** x, of M or 2M channels on the lattice of `scale`, on the next coarser one. */
  gather(x, scale) {
    if (!this.hierarchy) return x;
    const finer = this.finer[scale - 1];
    const [count, size] = [finer.length, this.M * this.sizes[scale][0] * this.sizes[scale][1]];
    const out = new Float32Array((x.length / size) * count);
    for (let start = 0, part = 0; start < out.length; start += count, part += size) {
      for (let i = 0; i < count; i++) out[start + i] = x[part + finer[i]];
    }
    return out;
  }

  /** The values of the coarser lattice at their places on that of `scale`; `fill` (Float32Array, changed) elsewhere. */
  scatter(coarse, fill, scale) {
    const target = this.hierarchy ? this.finer[scale - 1] : this.seen[scale];
    const size = this.M * this.sizes[scale][0] * this.sizes[scale][1];
    const count = this.hierarchy ? target.length : size;
    for (let start = 0, part = 0; part < fill.length; start += count, part += size) {
      for (let i = 0; i < target.length; i++) {
        fill[part + target[i]] = coarse[start + (this.hierarchy ? i : target[i])];
      }
    }
    return fill;
  }
}
