"""Writes what fuzzers of the native library begin with: PYTHONPATH=tests python tests/fuzz/seeds.py build/fuzz

models       a record of two bundled models (tests/recorder.py), for HPCM_FUZZ_MODELS
payload/*    tiles that they made: inputs of core/test/fuzz_payload.c, whose first bytes choose what is done
file/*       files of a tiny model: inputs of core/test/fuzz_file.c
parts/*      headers of weights, and PNGs: inputs of core/test/fuzz_parts.c
"""

import io
import json
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import cycle, product
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image

from hpcm.codec.api import load
from hpcm.codec.engine import Engine, load_engine
from hpcm.core import library
from hpcm.format import container, wire
from hpcm.format.container import pack, unpack
from hpcm.format.fields import Part
from hpcm.model import find
from recorder import Recorder

ROOT = Path(__file__).resolve().parents[2]
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


# ---- files ----------------------------------------------------------------------------------------------------------

CHOICES = 24  # bytes of an input of fuzz_file, before the file
SEEING, BLIND = 0, 1  # the first of them: whether checksums are looked at
REQUESTS = {  # as fuzz_file's choices have them: kind, partial, scale, bit depth, channels, reduction or box
    "whole": [6, 1, 0, 0, 0],
    "coarse": [6, 1, 1, 0, 0],
    "other samples": [6, 1, 0, 1, 4, 1, 1],
    "reduced": [0, 1, 0, 0, 0, 2],
    "box": [3, 1, 0, 0, 0, 3, 0, 1, 0, 250, 0, 2, 0],
}


def tiny_files() -> Iterator[bytes]:
    """Small files, of one tile and of two, with all that the format knows."""
    codec = load(ROOT / "tests" / "golden" / "tiny.safetensors", engine="core", threads=1)
    kinds = {
        "RGB": ("quality", "quality above 80", "lossless"),
        "L": ("quality", "lossless", "max_error"),
        "RGBA": ("quality",),
    }
    options = {
        "quality": {"quality": 30},
        "quality above 80": {"quality": 81},
        "lossless": {"lossless": True},
        "max_error": {"max_error": 9},
    }
    for columns, rows in ((20, 12), (260, 4), (4, 260)):
        pixels = np.resize(picture(), (rows, columns, 3))
        for mode, names in kinds.items():
            image = Image.fromarray(pixels).convert(mode)
            image.info = {"icc_profile": b"a profile", "xmp": b"<x/>"}
            for name, progressive in product(names, (False, True)):
                yield codec.compress(image, progressive=progressive, tile=256, **options[name])
    for columns, rows in ((4, 530), (530, 4)):  # three tiles: the first is given up before the last
        image = Image.fromarray(np.resize(picture(), (rows, columns, 3)))
        yield codec.compress(image, quality=30, progressive=True, tile=256)
    deep = Image.fromarray(np.resize(picture()[..., 0], (12, 20)).astype(np.uint16) * 257)
    yield codec.compress(deep, quality=30)
    yield codec.compress(deep, max_error=300)


def blinded(data: bytes) -> bytes:
    """A file in which every checksum is 0, that of an alpha plane's PNG, too."""
    held = unpack(data)
    tiles = tuple(tuple(Part(part.payload, 0) for part in tile) for tile in held.tiles)
    if held.residual:
        tiles = tuple((*tile[:-1], Part(tile[-1].payload[:-4] + bytes(4), 0)) for tile in tiles)
    alpha = held.alpha and png_without_crcs(held.alpha)
    with patch.object(container, "crc32", lambda *_: 0), patch.object(wire, "crc32", lambda *_: 0):
        return pack(replace(held, tiles=tiles, alpha=alpha))


def png_without_crcs(png: bytes) -> bytes:
    made, at = png[:8], 8
    while at < len(png):
        size = int.from_bytes(png[at : at + 4], "big")
        made += png[at : at + 8 + size] + bytes(4)
        at += 12 + size
    return made


def file_inputs() -> Iterator[bytes]:
    """Each file whole and cut, with its checksums and without, and with some request."""
    requests = cycle(REQUESTS.values())
    for data in tiny_files():
        for eyes, content in ((SEEING, data), (BLIND, blinded(data)), (BLIND, blinded(data)[: len(data) * 2 // 3])):
            choices = [eyes, 7, 99, *next(requests)]  # allocations, bytes of a piece
            yield bytes(choices).ljust(CHOICES, b"\xfb") + content


# ---- weights and PNGs -----------------------------------------------------------------------------------------------

CHANGED_WEIGHTS, HEADER, PNG = 0, 1, 2  # of fuzz_parts' targets
RAW, IDAT = 0, 2  # of a PNG: it as a whole, or what its chunks IDAT hold
NEVER = 0  # an allocation fails


def parts_inputs() -> Iterator[bytes]:
    config = '{"name": "tiny", "M": 16, "analysis": [[1, 16], [0, 16]], "lambda_min": 1e-3, "prior_fine": null}'
    metadata = {"hpcm": "1", "config": config, "layers": "{}", "provenance": "{}", "name": "a\\u00e9"}
    tensor = {"dtype": "F32", "shape": [1, 4], "data_offsets": [0, 16]}
    header = json.dumps({"__metadata__": metadata, "z_means": tensor, "z_scales": tensor | {"data_offsets": [16, 32]}})
    yield bytes([HEADER, NEVER, 32]) + header.encode()
    for changes in range(4):
        yield bytes([CHANGED_WEIGHTS, NEVER, changes]) + bytes([1, 40, changes * 50, 7] * 4)
    columns, rows = 9, 7
    plane = picture()[:rows, :columns, 0]
    for depth, level in product((8, 12), (0, 1, 9)):
        row = plane.astype(np.uint8 if depth == 8 else ">u2")
        filtered = b"".join(bytes([i % 5]) + line.tobytes() for i, line in enumerate(row))
        head = [PNG, columns - 1, rows - 1, depth - 8]
        yield bytes([*head, IDAT, 0, 0, 40]) + zlib.compress(filtered, level)
        yield bytes([*head, IDAT, 0, 1, 5]) + zlib.compress(filtered + bytes(60), level)  # interlaced: other rows
        png = io.BytesIO()
        Image.fromarray(row.astype(np.uint8 if depth == 8 else np.uint16)).save(png, "png", compress_level=level)
        yield bytes([*head, RAW, 0]) + png.getvalue()


# ---- all ------------------------------------------------------------------------------------------------------------


def write(folder: Path, inputs: Iterable[bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(inputs):
        if len(content) <= MOST_BYTES:
            (folder / f"seed-{number}").write_bytes(content)


def main(folder: Path) -> None:
    seeds = folder / "payload"
    seeds.mkdir(parents=True, exist_ok=True)
    with Recorder(folder / "models") as recorder:
        recorder.attach(library.library())
        engines = [load_engine(find.find(name), "core", threads=1).engine for name in MODELS]
    write(folder / "file", file_inputs())
    write(folder / "parts", parts_inputs())
    for model, (name, engine) in enumerate(zip(MODELS, engines, strict=True)):
        inputs = [content for content in payloads(engine, model) if len(content) <= MOST_BYTES]
        pixels = picture()[::8].tobytes()[: MOST_BYTES // 2]
        inputs.append(bytes([PIXELS, FORGED + model, 0, 0, 32, 0, 0, 0, 1, SIDE - 1, SIDE - 1, 0, 0]) + pixels)
        for number, content in enumerate(inputs):
            (seeds / f"{name}-{number}").write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
