/**
 * The networks of an exact model, run by ONNX Runtime Web in WebAssembly on the CPU. Its sums of whole numbers below
 * 2^24 are exact in single precision in any order, which is what makes symbols the same everywhere (docs/exactness.md).
 * Those of g_a, h_a and g_s may be larger, and so are rounded here: pixels may differ by one level from Python's.
 */
import { HpcmError } from "./errors.js";
import { between } from "./loop.js";
import { withWeights } from "./onnx.js";

export class Networks {
  /**
   * @param {import("./weights.js").Weights} weights
   * @param {Map<string, Uint8Array>} graphs
   * @param {typeof import("onnxruntime-web")} ort
   */
  constructor(weights, graphs, ort) {
    this.config = weights.config;
    this.weights = weights;
    this.graphs = graphs;
    this.ort = ort;
    this.sessions = new Map();
    this.cache = new Map();
    this.numbers = (name) => {
      if (!this.cache.has(name)) this.cache.set(name, weights.floats(name));
      return this.cache.get(name);
    };
  }

  /** g_a: x [3, 16h, 16w] -> y [M, h, w]. */
  analyse(x, [rows, columns]) {
    return this.#run("g_a", "g_a", { x: [x, [1, 3, rows, columns]] });
  }

  /** h_a: y [M, h, w] -> z [N, h/4, w/4]. */
  hyperAnalyse(y, [rows, columns]) {
    return this.#run("h_a", "h_a", { x: [y, [1, this.config.M, rows, columns]] });
  }

  /** h_s: z_hat [N, h, w] -> hyper [2M, 4h, 4w]. */
  hyperSynthesise(z, [rows, columns]) {
    return this.#run("h_s", "h_s", { x: [z, [1, this.config.N, rows, columns]] });
  }

  /** g_s: y_hat [M, h, w] -> x_hat [3, 16h, 16w], not clamped. */
  synthesise(yHat, [rows, columns]) {
    return this.#run("g_s", "g_s", { x: [yHat, [1, this.config.M, rows, columns]] });
  }

  betweenScales(scale, context, [rows, columns]) {
    const name = scale - 1;
    return this.#run(`context-${name}`, `context_nets.${name}`, { x: [context, [1, 2 * this.config.M, rows, columns]] });
  }

  /** psi [2M, h, w] of a step after the first. */
  async parametersOf(step, context, yHat, level, [rows, columns]) {
    const { M, prior_width: wide, prior_fine: fine, refine, levels } = this.config;
    const later = step.index - 1;
    const given = [context, [1, 2 * M, rows, columns]];
    const adapted = await this.#run(`adaptor-${step.scale}`, `adaptors.${later}`, {
      context: given,
      y_hat: [yHat, [1, M, rows, columns]],
    });
    const gain = between(this.numbers(`gains.${later}.knots`), level, levels);
    const index = step.scale === 2 && fine ? 1 : 0;
    return this.#run(`prior-${index}`, `priors.${index}`, {
      adapted: [adapted, [1, wide, rows, columns]],
      gain: [gain, [1, wide, 1, 1]],
      ...(refine ? { context: given } : {}),
    });
  }

  async #run(graph, module, feeds) {
    if (!this.sessions.has(module)) this.sessions.set(module, this.#session(graph, module));
    const session = await this.sessions.get(module);
    const tensors = Object.entries(feeds).map(([name, [data, dims]]) => [name, new this.ort.Tensor("float32", data, dims)]);
    const { out } = await session.run(Object.fromEntries(tensors));
    return out.data;
  }

  async #session(graph, module) {
    if (!this.graphs.has(graph)) throw new HpcmError("model", `${this.weights.name} has no graph ${graph}`);
    const model = withWeights(this.graphs.get(graph), (name) => this.weights.floats(`${module}.${name}`));
    try {
      return await this.ort.InferenceSession.create(model, { executionProviders: ["wasm"], logSeverityLevel: 4 });
    } catch (error) {
      throw new HpcmError("model", `graph ${graph} of ${this.weights.name} can't be run: ${String(error.message ?? error)}`);
    }
  }

  /** Gives the memory of the networks back. */
  async release() {
    const sessions = [...this.sessions.values()];
    this.sessions.clear();
    for (const session of sessions) await (await session).release();
  }
}

/** Raises an error for a model that can't be run here. */
export function checkSuited({ name, config }) {
  const why = unsuited(config);
  if (why) throw new HpcmError("model", `${name} can't be run here: ${why}`);
}

function unsuited({ carrier, fusion }) {
  if (!carrier) return "it isn't exact (`hpcm exact` makes it so)";
  if (fusion === "attention") return "it has attention";
  return carrier === "float32" ? null : "its sums are of a kind that needs PyTorch";
}
