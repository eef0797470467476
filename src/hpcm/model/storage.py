"""How a model's numbers are stored in a weights file.

    tensor                                       stored as
    parameters in floating point                 float16 where they are finite in it, else float32
    weights of an exact convolution              int8, k = weight / 2^exponent, and int8 exponents as NAME.exponent
    what else leads to means and scales          float16 where nothing is lost, else float32
    tables of the entropy coder                  as they are (tables.scales, tables.radius, tables.frequencies)
    graphs for ONNX Runtime                      bytes (graph.NAME), compressed by zlib; see engine/onnx.py

The exponents have the shape of the weights with 1 in all places but that of the output channel, so that
int8 * 2^exponent gives the weights back, to the bit.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..errors import WeightsError
from .exact_layers import EXPONENT, UPSAMPLING_SIDE, units
from .tables import Tables, make_tables

TABLES = ("scales", "radius", "frequencies")
GRAPH = "graph."
INT8_MAX = 127
MAX_GRAPHS = 1 << 24  # bytes of all graphs of a model
HEADER_ALIGNMENT = 8  # bytes; safetensors fills a header with spaces up to a multiple of this

Numbers = dict[str, np.ndarray]


class Stored(NamedTuple):
    """What a weights file holds, as it is stored."""

    parameters: Numbers
    tables: Tables
    graphs: dict[str, bytes]


def pack(
    parameters: Mapping[str, np.ndarray],
    metadata: dict[str, str],
    *,
    exact: Collection[str] = (),
    integers: Collection[str] = (),
    graphs: Mapping[str, bytes] | None = None,
    half: bool = True,
) -> bytes:
    """The bytes of a weights file; equal arguments give equal bytes.

    Args:
        parameters: float32.
        exact: names of those that are stored without loss, `integers`: of those in 8 bits where that is without loss.
        half: 16 bits where nothing may depend on more.
    """
    tensors: Numbers = {}
    for name, value in parameters.items():
        whole = _integers(value) if name in integers else None
        if whole is not None:
            tensors[name], tensors[name + EXPONENT] = whole
        else:
            tensors[name] = _shortened(value, lossless=name in exact) if half else value
    tables = make_tables()
    tensors |= {f"tables.{name}": getattr(tables, name) for name in TABLES}
    tensors |= _packed(graphs or {})
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


def _packed(graphs: Mapping[str, bytes]) -> Numbers:
    return {GRAPH + name: np.frombuffer(zlib.compress(graph, 9), np.uint8) for name, graph in graphs.items()}


def _shortened(value: np.ndarray, *, lossless: bool) -> np.ndarray:
    """float16 where the values are finite in it, or with `lossless` where it holds them to the bit; else as it is."""
    with np.errstate(over="ignore"):  # to infinity, which is refused below
        short = value.astype(np.float16)
    fits = np.array_equal(short.astype(np.float32), value) if lossless else bool(np.isfinite(short).all())
    return short if fits else value


def _integers(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """int8 and the exponents of its output channels, or None where 8 bits don't hold the weights to the bit."""
    output = 1 if weight.shape[-1] == UPSAMPLING_SIDE else 0
    unit = units(np.moveaxis(weight, output, 0).reshape(weight.shape[output], -1))
    exponent = np.where(np.isfinite(unit), np.frexp(unit)[1] - 1, 0)
    exponent = exponent.reshape([-1 if axis == output else 1 for axis in range(4)])
    k = np.ldexp(weight, -exponent)
    fits = bool((np.abs(k) <= INT8_MAX).all() and (np.abs(exponent) <= INT8_MAX).all())
    return (k.astype(np.int8), exponent.astype(np.int8)) if fits else None


def unpack(data: bytes, what: str) -> Stored:
    """What the bytes of a weights file hold; `what` it is, for messages. Raises WeightsError."""
    try:
        tensors = load(data)
        tables = Tables(*(tensors.pop(f"tables.{name}") for name in TABLES))
        tables.check()
        graphs = _graphs(tensors)
        _check_exponents(tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, zlib.error) as error:
        raise WeightsError(f"{what}: the weights don't fit their configuration: {error}") from error
    return Stored({name: value for name, value in tensors.items() if not name.startswith(GRAPH)}, tables, graphs)


def _check_exponents(tensors: Numbers) -> None:
    """Exponents of another shape would make weights larger than they are in the file. Raises ValueError."""
    for name, exponent in tensors.items():
        weight = tensors.get(name.removesuffix(EXPONENT))
        if name.endswith(EXPONENT) and weight is not None:
            sides = zip(exponent.shape, weight.shape, strict=False)
            fits = exponent.ndim == weight.ndim and all(few in (1, many) for few, many in sides)
            if weight.dtype != np.int8 or exponent.dtype != np.int8 or not fits:
                raise ValueError(f"{name} is {exponent.dtype} {exponent.shape} for {weight.dtype} {weight.shape}")


def _graphs(tensors: Numbers) -> dict[str, bytes]:
    """Raises ValueError, zlib.error."""
    graphs: dict[str, bytes] = {}
    left = MAX_GRAPHS
    for name, value in tensors.items():
        if name.startswith(GRAPH):
            stream = zlib.decompressobj()
            graph = stream.decompress(value.tobytes(), max(left, 1))  # 0 would mean no limit
            left -= len(graph)
            if not stream.eof or left < 0:
                raise ValueError(f"graph {name} is cut off, or its graphs have over {MAX_GRAPHS:,} bytes")
            graphs[name.removeprefix(GRAPH)] = graph
    return graphs


def floats(parameters: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """A parameter as float32, integers with their powers of two. Raises KeyError."""
    value = parameters[name].astype(np.float32)
    exponent = parameters.get(name + EXPONENT)
    return value if exponent is None else np.ldexp(value, exponent.astype(np.int32))
