/** The lines over the page: what is going on, what is worth knowing, and what went wrong. */

const DELAY = 250; // milliseconds: what takes less isn't announced

export class Notes {
  #status = document.getElementById("status");
  #task = document.getElementById("task");
  #notice = document.getElementById("notice");
  #error = document.getElementById("error");
  #timer = 0;
  #action;

  /** @param {() => void} oncancel */
  constructor(oncancel) {
    this.#status.querySelector("button").addEventListener("click", oncancel);
    for (const note of [this.#notice, this.#error]) {
      note.querySelector(".dismiss").addEventListener("click", () => this.#hide(note));
    }
    this.#notice.querySelector(".action").addEventListener("click", () => {
      this.#hide(this.#notice);
      this.#action();
    });
  }

  /** @param {string} [text] nothing, if nothing is going on any more @param {number} [share] */
  say(text, share) {
    if (!text) {
      clearTimeout(this.#timer);
      this.#timer = 0;
      this.#hide(this.#status);
      this.#task.textContent = "";
      return;
    }
    const [task] = text.split(":");
    if (this.#task.textContent !== task) this.#task.textContent = task; // read aloud once, not with every percent
    this.#status.querySelector("span").textContent = text;
    const bar = this.#status.querySelector("progress");
    if (share === undefined) bar.removeAttribute("value");
    else bar.value = share;
    this.#timer ||= setTimeout(() => (this.#status.hidden = false), DELAY);
  }

  /** @param {string} text @param {string} [label] of a button @param {() => void} [action] what it does */
  tell(text, label, action) {
    this.#notice.querySelector("span").textContent = text;
    const button = this.#notice.querySelector(".action");
    button.hidden = !action;
    button.textContent = label ?? "";
    this.#action = action;
    this.#notice.hidden = false;
  }

  /** @param {Error} error whose message is one line */
  fail(error) {
    this.#error.querySelector("span").textContent = error.message;
    this.#error.hidden = false;
  }

  calm() {
    this.#hide(this.#notice);
    this.#hide(this.#error);
  }

  /** The focus isn't lost with a button that goes. */
  #hide(note) {
    const focused = note.contains(document.activeElement);
    note.hidden = true;
    if (focused) for (const heading of document.querySelectorAll("h1")) heading.focus(); // the one that is seen takes it
  }
}
