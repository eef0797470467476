"""The exact convolutions of a model, in integers; nn/exact/grid.py says why their sums are exact.

    m = clamp(round_half_even(float32(x * 2^input_bits)), -limit, limit)       integers
    s = sum of k * m over the window + bias                                    an integer
    y = float32(s) * 2^exponent

A weights file holds, for each convolution NAME,

    NAME.weight      k, int8 where it fits, else int16: [out, in / groups, side, side], or [in, out, side, side] of a
                     transposed one
    NAME.bias        int32 [out], or int64 with a float64 carrier; in units of 2^exponent, like the sums
    NAME.exponent    int8 [out]
    NAME.input_bits  int8 [in]
    NAME.limit       int32 []

and in its metadata, under "layers", the `Geometry` of each. The modules in torch hold the same numbers as float32:

    NAME.weight = k * 2^exponent      NAME.bias = bias * 2^exponent      NAME.input_scale = 2^input_bits      NAME.limit

The two powers of two have other names elsewhere:

    here          for each          docs/core.md    nn/exact/grid.py    torch                 core/model.h
    input_bits    input channel     b               b                   input_scale = 2^b     scale = 2^b
    exponent      output channel    e               -a                  in weight and bias    unit = 2^e
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from ..errors import WeightsError
from .config import Config

TENSORS = ("weight", "bias", "exponent", "input_bits", "limit")  # of a convolution in a weights file
FLOAT_TENSORS = ("weight", "bias", "input_scale", "limit")  # and in torch
TRANSFORMS = ("g_a", "h_a", "g_s")  # networks that may be exact, but needn't be: no symbol is decoded with them
CARRIER_BITS = {"float32": 24, "split": 24, "float64": 53}  # of the mantissa, the leading one among them
TRANSFORM_BITS = 31  # of the sums of transforms, which are int32
MAX_POWER = 64  # of two, in either direction
MAX_LIMIT = 1 << 22  # of |m|; up to here float32 has halves to round
PART = 640  # products, about, of each part of a sum that is split
INT8_MAX, INT16_MAX = 127, 32767


@dataclass(frozen=True)
class Geometry:
    """How a convolution moves over its input.

    A *row* holds the weights of one sum. A transposed convolution has several for each output channel: as it writes
    stride x stride output pixels for each input pixel, and each of them with other taps of the kernel.
    """

    kind: str  # "dense", "depthwise" or "transposed"
    side: int  # of the kernel
    stride: int
    padding: int

    @property
    def transposed(self) -> bool:
        return self.kind == "transposed"

    @property
    def phases(self) -> int:
        """Rows of each output channel."""
        return self.stride**2 if self.transposed else 1

    @property
    def reach(self) -> int:
        """Side of the window of inputs that a sum reads."""
        return self.side // self.stride if self.transposed else self.side

    @property
    def border(self) -> int:
        """Zeros around the input that windows reach into."""
        return self.reach - 1 if self.transposed else self.padding

    @property
    def window_stride(self) -> int:
        """From one window of the input to the next."""
        return 1 if self.transposed else self.stride

    def outputs(self, shape: tuple[int, ...]) -> int:
        """Output channels of a convolution whose weights have this shape."""
        return shape[1] if self.transposed else shape[0]

    def inputs(self, shape: tuple[int, ...]) -> int:
        """Input channels."""
        return shape[1] if self.kind == "dense" else shape[0]

    def by_output(self, values: np.ndarray) -> np.ndarray:
        """Values [out] in a shape that multiplies the weights."""
        return values.reshape((1, -1, 1, 1) if self.transposed else (-1, 1, 1, 1))

    def rows(self, weight: np.ndarray) -> np.ndarray:
        """The weights as [rows, in / groups * reach^2]; the rows of a channel lie one after another."""
        if not self.transposed:
            return weight.reshape(len(weight), -1)
        inputs, outputs = weight.shape[:2]
        taps = weight.reshape(inputs, outputs, self.reach, self.stride, self.reach, self.stride)
        return taps.transpose(1, 3, 5, 0, 2, 4).reshape(outputs * self.phases, -1)

    def weight(self, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The inverse of `rows`."""
        if not self.transposed:
            return rows.reshape(shape)
        inputs, outputs = shape[:2]
        taps = rows.reshape(outputs, self.stride, self.stride, inputs, self.reach, self.reach)
        return taps.transpose(3, 0, 4, 1, 5, 2).reshape(shape)


GEOMETRIES = (  # that an exact convolution may have
    Geometry("dense", side=1, stride=1, padding=0),
    Geometry("dense", side=3, stride=1, padding=1),
    Geometry("dense", side=2, stride=2, padding=0),
    Geometry("dense", side=4, stride=2, padding=1),
    Geometry("depthwise", side=3, stride=1, padding=1),
    Geometry("transposed", side=2, stride=2, padding=0),
    Geometry("transposed", side=4, stride=2, padding=1),
)
Geometries = Mapping[str, Geometry]  # of convolutions, by name


@dataclass(frozen=True, eq=False)
class Layer:
    """One exact convolution; for its numbers see the module."""

    name: str
    geometry: Geometry
    weight: np.ndarray
    bias: np.ndarray
    exponent: np.ndarray
    input_bits: np.ndarray
    limit: np.ndarray
    carrier: str  # of the model

    @property
    def is_transform(self) -> bool:
        """Whether it leads to the latents or pixels, and not to means and scales."""
        return self.name.startswith(TRANSFORMS)

    @property
    def bits(self) -> int:
        """Bits that its sums may take, the sign not among them."""
        return TRANSFORM_BITS if self.is_transform else CARRIER_BITS[self.carrier]

    @property
    def room(self) -> int:
        """The largest magnitude that a sum is allowed to have. 2^31 itself is no int32."""
        return 2**self.bits - 1 if self.is_transform else 2**self.bits

    @property
    def inputs(self) -> int:
        """Channels."""
        return self.geometry.inputs(self.weight.shape)

    @property
    def rows(self) -> np.ndarray:
        """k as float64 [rows, fan in]. Not kept: of a model of 1B, all are 5 GB."""
        return self.geometry.rows(self.weight.astype(np.float64))

    @cached_property
    def row_biases(self) -> np.ndarray:
        """The bias of each row, float64 [rows]."""
        return np.repeat(self.bias.astype(np.float64), self.geometry.phases)

    @property
    def row_units(self) -> np.ndarray:
        """2^exponent of each row, float64 [rows]."""
        return np.repeat(np.ldexp(1.0, self.exponent.astype(int)), self.geometry.phases)

    @cached_property
    def parts(self) -> list[slice]:
        """The input channels whose products are summed exactly, part by part; one part unless sums are split."""
        return parts(self.weight.shape, self.geometry, self.carrier == "split" and not self.is_transform)

    @cached_property
    def reach(self) -> np.ndarray:
        """The largest magnitude that the sum of each row, or its largest part, can have, float64 [rows]."""
        return row_weights(self.rows, self.parts) * float(self.limit) + np.abs(self.row_biases)

    @property
    def share(self) -> float:
        """How large its sums can get, as a share of `room`."""
        return float(self.reach.max() / self.room)


def parts(shape: tuple[int, ...], geometry: Geometry, split: bool) -> list[slice]:
    """The input channels of a convolution with weights of this shape, cut into parts of nearly equal size.

    What each part adds up to is exact. The parts' sums are then added one after another, in this order, as float32:
    these few additions may round, but their order is the same everywhere.
    """
    channels = 1 if geometry.kind == "depthwise" else geometry.inputs(shape)
    count = -(-channels * geometry.reach**2 // PART) if split else 1
    return [slice(a, b) for a, b in pairwise(channels * i // count for i in range(count + 1))]


def row_weights(k: np.ndarray, parts: list[slice]) -> np.ndarray:
    """The sum of |k| of the heaviest part of each row, k [rows, fan in] -> [rows]."""
    taps = k.shape[1] // parts[-1].stop  # of each input channel
    sums = [np.abs(k[:, part.start * taps : part.stop * taps]).sum(1) for part in parts]
    return np.maximum.reduce(sums)


# ---- in weights files ------------------------------------------------------------------------------------------------


def exact_layers(parameters: Mapping[str, np.ndarray], geometries: Geometries, config: Config) -> Iterator[Layer]:
    """The exact convolutions of a weights file. Raises KeyError where a tensor is missing."""
    for name, geometry in geometries.items():
        tensors = {tensor: parameters[f"{name}.{tensor}"] for tensor in TENSORS}
        yield Layer(name=name, geometry=geometry, carrier=config.carrier, **tensors)


def to_json(geometries: Geometries) -> str:
    """The metadata "layers"; a kernel's side is that of its weights."""
    fields = {name: asdict(geometry) for name, geometry in geometries.items()}
    for geometry in fields.values():
        del geometry["side"]
    return json.dumps(fields)


def check_description(fields: object, geometries: Geometries) -> None:
    """Compares what a weights file says of its layers with those that a model has. Raises WeightsError."""
    if not isinstance(fields, dict):
        raise WeightsError(f"the layers are described by {fields!r} instead of names and values")
    for name in [*geometries, *fields]:
        expected = json.loads(to_json({name: geometries[name]}))[name] if name in geometries else "no exact layer"
        given = fields.get(name, "no exact layer")
        if given != expected:
            raise WeightsError(f"layer {name} is described as {given}, but in this model it is {expected}")


def to_integers(parameters: Mapping[str, np.ndarray], geometries: Geometries) -> dict[str, np.ndarray]:
    """The parameters of a model in torch as they are stored. Raises WeightsError where integers don't hold them."""
    stored = dict(parameters)
    for name, geometry in geometries.items():
        weight, bias, scale, limit = (stored.pop(f"{name}.{tensor}").astype(np.float64) for tensor in FLOAT_TENSORS)
        mantissa, power = np.frexp(scale)
        weights_finite = np.isfinite(weight).all() and np.isfinite(bias).all()
        if not (weights_finite and (mantissa == 0.5).all() and limit == np.round(limit)):
            raise _inexact(name, "it isn't made of integers and powers of two")
        exponent = _exponents(weight, bias, geometry)
        k = np.ldexp(weight, -geometry.by_output(exponent))
        values = (k, np.ldexp(bias, -exponent), exponent, power - 1, limit)
        fitting = (("int8", "int16"), ("int32", "int64"), ("int8",), ("int8",), ("int32",))
        for tensor, value, dtypes in zip(TENSORS, values, fitting, strict=True):
            stored[f"{name}.{tensor}"] = _narrowed(name, tensor, value, dtypes)
    return stored


def _exponents(weight: np.ndarray, bias: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The exponents [out] of the largest powers of two that divide a channel's weights and bias; 0 for zeros."""
    output = 1 if geometry.transposed else 0
    weights = np.moveaxis(weight, output, 0).reshape(len(bias), -1)
    mantissa, power = np.frexp(np.concatenate((weights, bias[:, None]), 1))
    digits = (mantissa * 2.0**53).astype(np.int64)
    lowest = np.frexp((digits & -digits).astype(np.float64))[1] - 1  # the place of the lowest digit that isn't 0
    zero = np.iinfo(np.int32).max  # any power of two divides a 0
    exponents = np.where(digits != 0, power - 53 + lowest, np.int32(zero)).min(1)
    return np.where(exponents == zero, 0, exponents)


def _narrowed(name: str, tensor: str, values: np.ndarray, dtypes: tuple[str, ...]) -> np.ndarray:
    """Integers in the narrowest of the types. Raises WeightsError where none holds them."""
    for dtype in dtypes:
        if np.abs(values).max(initial=0) <= np.iinfo(dtype).max:
            return values.astype(dtype)
    raise _inexact(name, f"its {tensor} doesn't fit {dtypes[-1]}")


def _inexact(name: str, why: str) -> WeightsError:
    return WeightsError(f"layer {name} breaks the bound of exact arithmetic: {why}; make the model exact again")


def to_floats(parameters: Mapping[str, np.ndarray], geometries: Geometries) -> dict[str, np.ndarray]:
    """The parameters of a weights file as a model in torch has them, float32. Raises KeyError."""
    floats = dict(parameters)
    for name, geometry in geometries.items():
        k, bias, exponent, input_bits, limit = (floats.pop(f"{name}.{tensor}") for tensor in TENSORS)
        power = exponent.astype(np.int32)
        floats[f"{name}.weight"] = np.ldexp(k.astype(np.float32), geometry.by_output(power))
        floats[f"{name}.bias"] = np.ldexp(bias.astype(np.float32), power)
        floats[f"{name}.input_scale"] = np.ldexp(np.float32(1), input_bits.astype(np.int32))
        floats[f"{name}.limit"] = limit
    return {name: np.asarray(value, np.float32) for name, value in floats.items()}
