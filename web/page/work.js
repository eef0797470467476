/**
 * Steps that are done one after the other until none is left. `next` says which is next, so that a change takes effect
 * with the next step. What was stopped goes on when it is started again, and what was lost with the codec's worker is done
 * once more.
 */
export class Work {
  #running = false;
  #stopped = true;
  #lost = false;
  #abort = new AbortController();
  #on;

  /**
   * @param {object} on
   * @param {() => (() => Promise<void>)|undefined} on.next
   * @param {() => void} [on.lose] the worker has ended
   * @param {(error: Error) => void} on.fail a step has failed
   * @param {() => void} on.rest nothing is left to do
   */
  constructor(on) {
    this.#on = on;
  }

  /** Ends what is under way. */
  get signal() {
    return this.#abort.signal;
  }

  get stopped() {
    return this.#stopped;
  }

  get busy() {
    return this.#running && !this.#stopped;
  }

  async start() {
    this.#stopped = false;
    if (this.signal.aborted) this.#abort = new AbortController();
    if (this.#running) return; // the loop sees what is next by itself
    this.#running = true;
    for (let step; !this.#stopped && (step = this.#on.next()); ) await this.#do(step);
    this.#running = false;
    if (this.#stopped) return;
    this.#lost = false;
    this.#on.rest();
  }

  stop() {
    this.#stopped = true;
    this.#abort.abort();
  }

  async #do(step) {
    try {
      await step();
    } catch (error) {
      if (error.code === "aborted") return;
      if (error.code === "lost" && !this.#lost) {
        this.#lost = true;
        this.#on.lose?.();
        return;
      }
      this.#stopped = true;
      this.#on.fail(error);
    }
  }
}
