/** A smaller picture, of whose pixels each is the mean of `every` x `every`: summed part by part, without the whole one. */
export class Reduced {
  /** @param {[number, number]} size rows and columns of the whole picture @param {number} every a whole number */
  constructor([height, width], every) {
    Object.assign(this, { height, width, every });
    [this.rows, this.columns] = [Math.ceil(height / every), Math.ceil(width / every)];
    this.sums = new Uint32Array(3 * this.rows * this.columns); // 255 * every ** 2 fits for every side of a tile
  }

  /** Adds the samples of a box: [rows][columns][3], or [1] for grey. */
  add([left, top, right, bottom], samples, grey) {
    const { every, columns, sums } = this;
    const step = grey ? 1 : 3;
    let from = 0;
    for (let y = top; y < bottom; y++) {
      const row = 3 * Math.floor(y / every) * columns;
      for (let x = left; x < right; x++, from += step) {
        const to = row + 3 * Math.floor(x / every);
        sums[to] += samples[from];
        sums[to + 1] += samples[grey ? from : from + 1];
        sums[to + 2] += samples[grey ? from : from + 2];
      }
    }
  }

  /** @returns {import("./codec.js").Pixels} opaque */
  pixels() {
    const { rows, columns, every } = this;
    const data = new Uint8ClampedArray(4 * rows * columns).fill(255);
    for (let i = 0; i < rows * columns; i++) {
      const [row, column] = [Math.floor(i / columns), i % columns];
      const height = Math.min(every, this.height - row * every); // the last ones may be cut
      const width = Math.min(every, this.width - column * every);
      for (let k = 0; k < 3; k++) data[4 * i + k] = this.sums[3 * i + k] / (height * width); // which rounds
    }
    return { data, width: columns, height: rows };
  }
}

/** By how much a picture may be reduced so that it still fills a size. @param {[number, number]} within width and height */
export function factorOf({ width, height }, within) {
  return Math.max(1, Math.floor(Math.min(width / within[0], height / within[1])));
}
