/** The list of several files: a row for each. */
import { savingOf, sizeOf } from "./format.js";

const STATES = { waiting: "Waiting", working: "Working", done: "Done", failed: "Failed" };

export class List {
  #element;
  #template = document.getElementById("entry");
  #rows = new Map(); // by entry
  #onopen;

  /** @param {HTMLElement} element @param {(entry: object) => void} onopen */
  constructor(element, onopen) {
    this.#element = element;
    this.#onopen = onopen;
  }

  /** @param {{entries: import("./batch.js").Entry[]}} batch */
  paint({ entries }) {
    for (const [entry, { row }] of this.#rows) {
      if (entries.includes(entry)) continue;
      row.remove();
      this.#rows.delete(entry);
    }
    for (const entry of entries) this.#paintRow(this.#rows.get(entry) ?? this.#made(entry), entry);
  }

  /** To where one was. @param {object} entry */
  focus(entry) {
    this.#rows.get(entry)?.row.querySelector("button").focus();
  }

  #made(entry) {
    const row = this.#template.content.firstElementChild.cloneNode(true);
    row.querySelector(".name").textContent = entry.name;
    row.querySelector("button").addEventListener("click", () => this.#onopen(entry));
    this.#element.append(row);
    const made = { row, thumbnail: undefined };
    this.#rows.set(entry, made);
    return made;
  }

  #paintRow(made, entry) {
    const { row } = made;
    row.dataset.state = entry.state;
    row.querySelector(".state").textContent = (entry.state === "working" && entry.line) || STATES[entry.state];
    row.querySelector(".sizes").textContent = sizesOf(entry);
    row.querySelector("button").disabled = entry.state === "failed";
    if (made.thumbnail === entry.thumbnail) return;
    made.thumbnail = entry.thumbnail;
    row.querySelector("canvas").getContext("2d").drawImage(entry.thumbnail, 0, 0);
  }
}

/** What one learns of an entry: its sizes, or what went wrong. */
function sizesOf({ blob, compressed, line, result, state }) {
  if (state === "failed") return line;
  const before = sizeOf(blob.size);
  if (state !== "done") return before;
  const [saving] = savingOf(blob.size, result.size, "");
  return `${before} → ${sizeOf(result.size)}${compressed ? `, ${saving}` : ""}`;
}
