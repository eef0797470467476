"""Speed of the entropy coder on one core, sorting included: millions of symbols per second.

    python benchmarks/entropy.py

Scales are log-normal around 0.5 with a deviation of a factor e, which gives about 1.3 bits per symbol; each number is
the best of several runs. Encoding is `push` and `finish`, decoding is `pop` and `finish`.
"""

import datetime
import math
import platform
import time
from collections.abc import Callable

import numpy as np

from hpcm.codec.entropy import Decoder, Encoder
from hpcm.eval.machine import machine
from hpcm.model.tables import SHAPE, Tables, make_tables, probability

COUNTS = (300_000, 3_000_000)  # symbols; 300k are those of a picture of about 0.25 megapixels with 320 channels
RUNS = 7


def main() -> None:
    """Measure and print the table."""
    tables = make_tables()
    versions = f"Python {platform.python_version()}, numpy {np.__version__}"
    print(f"{datetime.date.today()}, {machine()['cpu']}, one core, {versions}\n")
    print("| symbols | bits/symbol | above ideal | encode, M/s | decode, M/s |")
    print("|--:|--:|--:|--:|--:|")
    for count in COUNTS:
        print(measure(tables, count))


def measure(tables: Tables, count: int) -> str:
    """One row of the table: `count` symbols in a single push."""
    symbols, scales = draw(np.random.default_rng(0), count)
    indexes = tables.index(scales)
    data = encode(tables, symbols, indexes)
    assert np.array_equal(decode(tables, data, indexes), symbols)
    encoding = best_time(lambda: encode(tables, symbols, indexes))
    decoding = best_time(lambda: decode(tables, data, indexes))
    bits, ideal = 8 * len(data) / count, ideal_bits(symbols, scales) / count
    speeds = f"{count / encoding / 1e6:.0f} | {count / decoding / 1e6:.0f}"
    return f"| {count} | {bits:.4f} | {100 * (bits / ideal - 1):.2f}% | {speeds} |"


def draw(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rounded generalised Gaussian symbols, int32 [count], and their scales, float32 [count]."""
    scales = np.exp(rng.normal(math.log(0.5), 1.0, count)).clip(0.12, 64.0).astype(np.float32)
    magnitude = rng.gamma(1.0 / SHAPE, size=count) ** (1.0 / SHAPE) * scales
    return np.rint(magnitude * rng.choice([-1.0, 1.0], count)).astype(np.int32), scales


def ideal_bits(symbols: np.ndarray, scales: np.ndarray) -> float:
    """Sum of -log2 of the float distribution at the true scales, in parts to save memory."""
    parts = range(0, len(symbols), 100_000)
    return sum(-np.log2(probability(symbols[i : i + 100_000], scales[i : i + 100_000])).sum() for i in parts)


def encode(tables: Tables, symbols: np.ndarray, indexes: np.ndarray) -> bytes:
    """Bytes of one push."""
    encoder = Encoder(tables)
    encoder.push(symbols, indexes)
    return b"".join(encoder.finish())


def decode(tables: Tables, data: bytes, indexes: np.ndarray) -> np.ndarray:
    """The symbols of one push."""
    decoder = Decoder(tables, data)
    symbols = decoder.pop(indexes)
    decoder.finish()
    return symbols


def best_time(function: Callable[[], object]) -> float:
    """Seconds of the fastest of several runs."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
