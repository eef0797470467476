"""The right answers, answers.txt: hashes of the symbols and of the pixels that the models make of the drawings.

A line for each model, then one for each drawing and level:

    model nano-1 c724d01a93eacdf9
    photograph 32 0123456789abcdef 0123456789abcdef

tests/golden/answers.py makes the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..codec.codec import Codec
from ..codec.quality import quality_of
from ..format.container import unpack
from ..format.fields import Container
from .pictures import DRAWINGS, Drawing

FILE = Path(__file__).with_name("answers.txt")
DIGITS = 16  # of a hash, hexadecimal
LEVELS = (0, 32, 63)
AT_ALL_LEVELS = "small"  # a drawing that takes little time
ALL_LEVELS = range(64)


class Case(NamedTuple):
    """What is asked: a drawing's name and a quality level."""

    drawing: str
    level: int


class Answer(NamedTuple):
    """Hashes."""

    symbols: str
    pixels: str


class Known(NamedTuple):
    """The answers of a model."""

    name: str
    answers: Mapping[Case, Answer]


def cases() -> list[Case]:
    """All that a model is asked."""
    levels = {drawing.name: ALL_LEVELS if drawing.name == AT_ALL_LEVELS else LEVELS for drawing in DRAWINGS}
    return [Case(name, level) for name in levels for level in levels[name]]


@cache
def known() -> Mapping[str, Known]:
    """By the hash of the model, in the order of the file."""
    found: dict[str, Known] = {}
    answers: dict[Case, Answer] = {}
    for line in FILE.read_text(encoding="utf-8").splitlines():
        match line.split():
            case ["model", name, model_hash]:
                answers = {}
                found[model_hash] = Known(name, answers)
            case [drawing, level, symbols, pixels]:
                answers[Case(drawing, int(level))] = Answer(symbols, pixels)
    return found


def compressed(codec: Codec, drawing: Drawing, level: int) -> Container:
    """What a codec of one model makes of a drawing."""
    quality = quality_of(level, codec.engine.config.levels)
    data = codec.compress(drawing.pixels(), quality=quality, tile=drawing.tile, progressive=drawing.progressive)
    return unpack(data)


def hash_of_symbols(container: Container) -> str:
    """Of the payloads, and of the checksums of the symbols in them."""
    parts = [part for tile in container.tiles for part in tile]
    numbers = np.array([(part.checksum, len(part.payload)) for part in parts], "<u4")
    return _hash(numbers.tobytes(), *(part.payload for part in parts))


def hash_of_pixels(image: Image.Image) -> str:
    """Of the samples, alpha included, and of their shape."""
    samples = np.asarray(image)
    little_endian = samples.astype(samples.dtype.newbyteorder("<"))
    return _hash(f"{image.mode} {samples.shape} ".encode(), little_endian.tobytes())


def _hash(*data: bytes) -> str:
    return hashlib.sha256(b"".join(data)).hexdigest()[:DIGITS]
