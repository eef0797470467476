/** The comparison of two versions of a picture: what is shown on which side, and their numbers. */
import { Side } from "./cards.js";
import { difference } from "./picture.js";
import { View } from "./view.js";

const $ = (id) => document.getElementById(id);
const SIDES = ["left", "right"];

export class Comparison {
  #shown = { left: undefined, right: undefined }; // kinds
  #usual = {}; // kinds that were chosen for pictures being compressed: they hold for the next one
  #subject; // a Session or an Opened
  #differing = false; // whether the difference is shown
  #compared = {}; // the last difference, and of what

  constructor() {
    const elements = SIDES.map((side) => [side, document.querySelector(`.side[data-side="${side}"]`)]);
    const cards = elements.map(([side, element]) => [side, new Side(element, (kind) => this.#choose(side, kind))]);
    this.cards = Object.fromEntries(cards);
    this.view = new View($("stage"), $("canvas"), () => this.#showView());
  }

  /** @param {object} [subject] a Session or an Opened; nothing clears the view */
  show(subject) {
    this.#subject = subject;
    this.#compared = {};
    this.view.left = this.view.right = this.view.whole = undefined;
    if (!subject) return;
    this.#shown = { ...subject.standard, ...(subject.picture ? this.#usual : subject.chosen) };
    for (const side of SIDES) this.cards[side].offer(subject.choices, this.#shown[side]);
    this.#showFacts(subject.facts ?? []);
    this.view.reset(subject.width, subject.height);
    subject.look(Object.values(this.#shown));
  }

  toggleDifference() {
    if (!this.#subject || this.#alone) return;
    this.#differing = !this.#differing;
    this.paint();
  }

  /** Brings everything to what the subject says now. */
  paint() {
    if (!this.#subject) return;
    for (const side of SIDES) this.#paintSide(side);
    const differing = this.#differing && !this.#alone;
    const { view } = this;
    view.whole = differing ? this.#between(view.left, view.right) : this.#alone ? view.left : undefined;
    $("difference").setAttribute("aria-pressed", String(differing));
    $("difference").disabled = this.#alone;
    $("stage").classList.toggle("whole", differing || this.#alone);
    $("stage").classList.toggle("alone", this.#alone);
    $("canvas").setAttribute("aria-label", this.#described(differing));
    view.draw();
  }

  /** Whether both sides show the same: then there is nothing to divide. */
  get #alone() {
    return this.#shown.left === this.#shown.right;
  }

  #choose(side, kind) {
    this.#shown[side] = kind;
    if (this.#subject.picture) this.#usual = { ...this.#shown };
    else this.#subject.chosen = { ...this.#shown };
    this.#subject.look(Object.values(this.#shown));
    this.paint();
  }

  #paintSide(side) {
    const { results, choices, original, width, height, stale } = this.#subject;
    const kind = this.#shown[side];
    const result = results[kind];
    const name = choices.find(([each]) => each === kind)[1];
    this.view[side] = result?.image ?? original;
    $(`tag-${side}`).textContent = result?.image ? name + (result.note ? `, ${result.note}` : "") : `${name} …`;
    this.cards[side].show(result, width * height, stale && kind !== "original");
  }

  #described(differing) {
    const [left, right] = SIDES.map((side) => $(`tag-${side}`).textContent);
    if (this.#alone) return right;
    return differing ? `Difference of ${left} and ${right}` : `${left} left, ${right} right`;
  }

  #between(left, right) {
    if (!left || !right) return undefined;
    if (this.#compared.left !== left || this.#compared.right !== right) {
      this.#compared = { left, right, image: difference(left, right, this.#subject.width, this.#subject.height) };
    }
    return this.#compared.image;
  }

  #showFacts(facts) {
    $("facts").replaceChildren(
      ...facts.map(([name, value]) => {
        const pair = document.createElement("div");
        pair.append(Object.assign(document.createElement("dt"), { textContent: name }));
        pair.append(Object.assign(document.createElement("dd"), { textContent: value }));
        return pair;
      }),
    );
  }

  #showView() {
    $("divider").style.left = `${this.view.split * 100}%`;
    $("divider").setAttribute("aria-valuenow", String(Math.round(this.view.split * 100)));
    $("zoom-level").textContent = `${Math.round(this.view.zoom * 100)}%`;
  }
}
