/** The middle of the panel: quality or lossless, model, how much is saved, and the downloads. */
import { formatOf, renamed, savingOf, sizeOf } from "./format.js";

const $ = (id) => document.getElementById(id);

export class Panel {
  #address = "";
  #data; // that the address is of

  /** @param {object[]} models in words */
  offer(models) {
    $("model").replaceChildren(...models.map(({ label, name }) => new Option(label, name)));
    $("model").disabled = models.length < 2;
    $("models").replaceChildren(
      ...models.flatMap(({ label, name, bytes }) => [
        Object.assign(document.createElement("dt"), { textContent: label }),
        Object.assign(document.createElement("dd"), { textContent: `${name}, ${sizeOf(bytes)}` }),
      ]),
    );
  }

  /** What the controls say. @returns {{quality: number, lossless: boolean}} */
  get setting() {
    return { quality: $("quality").valueAsNumber, lossless: $("lossless").checked };
  }

  /** Brings the controls to what somebody chose for this subject. */
  show({ quality, lossless, model }) {
    if (quality) $("quality").value = quality;
    if (quality) $("lossless").checked = lossless;
    if (model?.name) $("model").value = model.name;
  }

  /** @param {object} subject a Session, an Opened or a Batch */
  paint(subject) {
    if (subject.view !== "opened") this.#paintModel(subject);
    if (subject.view === "list") this.#paintList(subject);
    else this.#paintPicture(subject);
  }

  #paintModel({ model, data }) {
    const { quality, lossless } = this.setting;
    $("quality-value").textContent = lossless ? "–" : quality;
    $("quality").disabled = lossless;
    $("quality").setAttribute("aria-valuetext", `${quality} of 100${data ? `, ${sizeOf(data.length)}` : ""}`);
    if (!model?.name) return;
    $("model").value = model.name;
    $("model").title = `${model.name}, ${sizeOf(model.bytes)}`;
  }

  #paintPicture(subject) {
    const { data, picture } = subject;
    const before = picture && `the ${formatOf(picture.type)} you opened`;
    this.#paintSaving(data && picture ? savingOf(picture.bytes, data.length, before) : []);
    this.#link(subject);
    $("save-png").disabled = !subject.decoded;
  }

  #paintList({ done, entries }) {
    const compressed = done.filter((entry) => entry.compressed);
    const sum = (sizes) => sizes.reduce((total, size) => total + size, 0);
    const sizes = [sum(compressed.map(({ blob }) => blob.size)), sum(compressed.map(({ result }) => result.size))];
    const pictures = compressed.length === 1 ? "the picture" : `the ${compressed.length} pictures`;
    this.#paintSaving(compressed.length ? savingOf(...sizes, pictures) : []);
    $("save-all").disabled = !done.length;
    const all = done.length === entries.length ? `all ${done.length}` : done.length || "";
    $("save-all").querySelector("span").textContent = `Download ${all}`.trim();
  }

  #paintSaving([saving = "", detail = ""]) {
    $("saving").textContent = saving;
    $("saving-detail").textContent = detail;
  }

  #link({ data, name }) {
    if (this.#data === data) return;
    URL.revokeObjectURL(this.#address);
    this.#data = data;
    this.#address = data ? URL.createObjectURL(new Blob([data], { type: "image/x-hpcm" })) : "";
    const link = $("save-hpcm");
    if (data) Object.assign(link, { href: this.#address, download: renamed(name, "hpcm") });
    else link.removeAttribute("href");
    link.setAttribute("aria-disabled", String(!data));
  }
}
