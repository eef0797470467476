"""Writes what fuzz_payload begins with: PYTHONPATH=tests python tests/fuzz/seeds.py build/fuzz

models       a record of two bundled models (tests/recorder.py), for HPCM_FUZZ_MODELS
payload/*    tiles that they made: inputs of core/test/fuzz_payload.c, whose first bytes choose what is done
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hpcm.codec.engine import Engine, load_engine
from hpcm.core import library
from hpcm.model import find
from recorder import Recorder

MODELS = ("nano-1", "lite-1")
FORGED = 3  # models of random numbers, which come first
DECODE, DECODE_KNOWN, PIXELS = 0, 1, 4  # of fuzz_payload's targets
SIDE = 64  # of a tile, in pixels
MOST_BYTES = 1024  # of an input: longer ones take long to be changed


def picture() -> np.ndarray:
    """Colours that change slowly, an edge, and noise: uint8 [SIDE, SIDE, 3]."""
    row, column = np.mgrid[:SIDE, :SIDE] / SIDE
    smooth = np.stack([row, column, 1 - row * column], axis=2) * 200
    smooth[row > column] *= 0.6
    return (smooth + np.random.default_rng(1).integers(0, 24, smooth.shape)).astype(np.uint8)


def payloads(engine: Engine, model: int) -> Iterator[bytes]:
    """The picture at some levels, as inputs that decode a payload."""
    steps = sum(engine.config.steps) + 1
    y = engine.analyse(picture(), 255, (SIDE, SIDE))
    for level in range(0, engine.config.levels, 21):
        payload = b"".join(engine.encode(y, level).parts)
        where = [
            FORGED + model,
            0,
            0,
            level,
            0,
            0,
        ]  # the model, height, width, level, and what lies outside the picture
        yield bytes([DECODE, *where, steps, 255]) + payload  # 255: checks before it is stopped
        yield bytes([DECODE_KNOWN, *where, steps - 1]) + payload


def main(folder: Path) -> None:
    seeds = folder / "payload"
    seeds.mkdir(parents=True, exist_ok=True)
    with Recorder(folder / "models") as recorder:
        recorder.attach(library.library())
        engines = [load_engine(find.find(name), "core", threads=1).engine for name in MODELS]
    for model, (name, engine) in enumerate(zip(MODELS, engines, strict=True)):
        inputs = [content for content in payloads(engine, model) if len(content) <= MOST_BYTES]
        pixels = picture()[::8].tobytes()[: MOST_BYTES // 2]
        inputs.append(bytes([PIXELS, FORGED + model, 0, 0, 32, 0, 0, 0, 1, SIDE - 1, SIDE - 1, 0, 0]) + pixels)
        for number, content in enumerate(inputs):
            (seeds / f"{name}-{number}").write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
