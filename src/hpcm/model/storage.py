"""How a model's numbers are stored in a weights file.

    tensor                                       stored as
    parameters in floating point                 float16 where they are finite in it, else float32
    exact convolutions                           integers; see layers.py
    what else leads to means and scales          float16 where nothing is lost, else float32
    tables of the entropy coder                  as they are (tables.scales, tables.radius, tables.frequencies)

A weights file has no other tensors. file.py reads its metadata.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..errors import WeightsError
from .tables import Tables, make_tables

TABLES = ("scales", "radius", "frequencies")
HEADER_ALIGNMENT = 8  # bytes; safetensors fills a header with spaces up to a multiple of this

Numbers = dict[str, np.ndarray]


class Stored(NamedTuple):
    """What a weights file holds, as it is stored."""

    parameters: Numbers
    tables: Tables


def pack(
    parameters: Mapping[str, np.ndarray],
    metadata: dict[str, str],
    *,
    exact: Collection[str] = (),
    half: bool = True,
) -> bytes:
    """The bytes of a weights file; equal arguments give equal bytes.

    Args:
        parameters: float32, and integers, which stay as they are.
        exact: names of those that are stored without loss.
        half: 16 bits where nothing may depend on more.
    """
    tensors: Numbers = {}
    for name, value in parameters.items():
        short = half and value.dtype == np.float32
        tensors[name] = _shortened(value, lossless=name in exact) if short else value
    tables = make_tables()
    tensors |= {f"tables.{name}": getattr(tables, name) for name in TABLES}
    data = save({name: np.asarray(value, order="C") for name, value in tensors.items()}, metadata)
    return _with_sorted_metadata(data)


def _with_sorted_metadata(data: bytes) -> bytes:
    """A safetensors file whose metadata are in the order of their names.

    safetensors keeps them in a hash table whose order differs from process to process, and with it the file's hash.
    """
    start = struct.calcsize("<Q")
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[start : start + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % HEADER_ALIGNMENT)
    return struct.pack("<Q", len(text)) + text + data[start + size :]


def _shortened(value: np.ndarray, *, lossless: bool) -> np.ndarray:
    """float16 where the values are finite in it, or with `lossless` where it holds them to the bit; else as it is."""
    with np.errstate(over="ignore"):  # to infinity, which is refused below
        short = value.astype(np.float16)
    fits = np.array_equal(short.astype(np.float32), value) if lossless else bool(np.isfinite(short).all())
    return short if fits else value


def unpack(data: bytes, what: str) -> Stored:
    """What the bytes of a weights file hold; `what` it is, for messages. Raises WeightsError."""
    try:
        tensors = load(data)
        tables = Tables(*(tensors.pop(f"tables.{name}") for name in TABLES))
        tables.check()
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{what}: the weights don't fit their configuration: {error}") from error
    return Stored(tensors, tables)
