"""Small tiles for the tests of both coders of residuals: samples of all kinds, and bases beside them."""

import numpy as np
from hypothesis import strategies as st

KINDS = ("smooth", "noise", "flat", "palette", "extremes")
PICTURES = st.tuples(
    st.sampled_from(KINDS),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from((1, 3)),
    st.integers(8, 16),
    st.integers(0, 2**32 - 1),
)


def make_picture(kind: str, rows: int, columns: int, channels: int, bit_depth: int, seed: int) -> np.ndarray:
    """Samples [rows][columns][channels], uint8 or uint16."""
    rng, peak = np.random.default_rng(seed), (1 << bit_depth) - 1
    shape = (rows, columns, channels)
    if kind == "smooth":
        places = np.add.outer(np.arange(rows), np.arange(columns))[..., None] * rng.uniform(0.1, 3, channels)
        values = peak / 2 * (1 + np.sin(places / 5)) + rng.normal(0, 2, shape)
    elif kind == "noise":
        values = rng.integers(0, peak + 1, shape).astype(float)
    elif kind == "flat":
        values = np.full(shape, float(rng.integers(0, peak + 1)))
    elif kind == "palette":
        values = rng.integers(0, peak + 1, (4, channels)).astype(float)[rng.integers(0, 4, (rows, columns))]
    else:
        values = rng.integers(0, 2, shape) * float(peak)
    return np.rint(values).clip(0, peak).astype(np.uint8 if bit_depth == 8 else np.uint16)


def make_base(source: np.ndarray, bit_depth: int, seed: int) -> np.ndarray:
    """A source that was smoothed along its rows, with errors."""
    rng, peak = np.random.default_rng(seed + 1), (1 << bit_depth) - 1
    smoothed = (source + np.roll(source.astype(float), 1, 1)) / 2 + rng.normal(0, peak / 50, source.shape)
    return np.rint(smoothed).clip(0, peak).astype(source.dtype)


def make_integers(kind: int, channels: int, bit_depth: int) -> np.ndarray:
    """[24][40][channels] by integers alone, so that every machine has the same: a wave, a palette, noise."""
    y, x, c = np.meshgrid(np.arange(24), np.arange(40), np.arange(channels), indexing="ij")
    hashed = (y * 7919 + x * 104729 + c * 1299709) * 2654435761 % 2**32 >> 16
    values = [
        ((y * y + 3 * x * y + 50 * c) << (bit_depth - 8)) + hashed % 5,
        (x // 5 * 37 + y // 4 * 91 + c * 11) % 7 << (bit_depth - 4),
        hashed,
    ][kind]
    return (values & ((1 << bit_depth) - 1)).astype(np.uint8 if bit_depth == 8 else np.uint16)
