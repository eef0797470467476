/**
 * The browser's history: Back and Forward go through the start, a list and a picture, which stay in memory.
 *
 *     depth 0: start --> 1: a list, or a picture --> 2: a picture of the list
 *
 * What takes the place of another at the same depth replaces it: Back from a picture leads to the list or the start.
 */
export class Places {
  #kept = [undefined]; // what is shown at each depth; nothing at the start
  #onarrive;

  /** @param {(subject: object|undefined) => void} onarrive shows what was kept, or the start */
  constructor(onarrive) {
    this.#onarrive = onarrive;
    addEventListener("popstate", () => this.#arrive());
    if (this.#depth) history.go(-this.#depth); // the page was loaded again, and what was there is gone
  }

  get #depth() {
    return history.state?.depth ?? 0;
  }

  /** The list on the way here, if there is one. */
  get list() {
    return this.#kept.slice(0, this.#depth + 1).find((subject) => subject?.view === "list");
  }

  /** Shows something new. @param {{view: string, close: () => void}} subject */
  enter(subject) {
    const here = this.#kept[this.#depth];
    const below = here === undefined || (here.view === "list" && subject.view !== "list");
    const depth = below ? this.#depth + 1 : this.#depth;
    const gone = this.#kept.splice(depth); // the browser forgets its way forward, too
    if (below) history.pushState({ depth }, "");
    this.#kept[depth] = subject;
    this.#onarrive(subject);
    for (const each of gone) each?.close();
  }

  /** To the list on the way here. */
  backToList() {
    const steps = this.#kept.indexOf(this.list) - this.#depth;
    if (steps) history.go(steps);
  }

  home() {
    if (this.#depth) history.go(-this.#depth);
  }

  #arrive() {
    this.#onarrive(this.#kept[this.#depth]);
  }
}
