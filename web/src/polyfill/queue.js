/** Work of which a few are done at once: the most urgent first, judged when there is room for it. */
export class Queue {
  #waiting = [];
  #active = 0;

  /** @param {number} atOnce */
  constructor(atOnce) {
    this.atOnce = atOnce;
  }

  /**
   * @template T
   * @param {() => Promise<T>} work
   * @param {() => number} urgency the smallest is next
   * @returns {Promise<T>}
   */
  add(work, urgency) {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ work, urgency, resolve, reject });
      this.#next();
    });
  }

  #next() {
    while (this.#active < this.atOnce && this.#waiting.length) {
      const { work, resolve, reject } = this.#taken();
      this.#active++;
      work().then(resolve, reject).finally(() => {
        this.#active--;
        this.#next();
      });
    }
  }

  #taken() {
    const urgencies = this.#waiting.map(({ urgency }) => urgency());
    return this.#waiting.splice(urgencies.indexOf(Math.min(...urgencies)), 1)[0];
  }
}
