"""The convolutions of an exact model as their numbers, by their parameters' names; nn/exact/grid.py says what they do.

NAME.weight       [out, in / groups, k, k], or [in, out, 2, 2] of a transposed one: integers times a power of two
NAME.exponent     of two, for each output channel, where the weights are stored as integers (model/storage.py)
NAME.bias         [out]
NAME.input_scale  [in], powers of two; the layer's inputs are rounded to integers in units of 1 / input_scale
NAME.limit        of the magnitude of these integers
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

EXPONENT = ".exponent"  # behind the name of weights that are stored as integers
PARTS = ("weight", "bias", "input_scale", "limit")
UPSAMPLING_SIDE = 2  # kernels of this side, and only they, are transposed
PART = 640  # products of a part of a sum, about, where sums are split


@dataclass(frozen=True, eq=False)
class Layer:
    """One exact convolution. A *row* holds the weights of one sum, as it is taken out of one output pixel."""

    name: str
    weight: np.ndarray
    bias: np.ndarray
    input_scale: np.ndarray
    limit: np.ndarray
    exponent: np.ndarray | None = None
    split: bool = False  # its sums are added up of parts; see `parts`

    @property
    def transposed(self) -> bool:
        return self.weight.shape[-1] == UPSAMPLING_SIDE

    @property
    def depthwise(self) -> bool:
        return self.weight.shape[1] == 1 and self.weight.shape[-1] == 3 and len(self.weight) > 1

    @property
    def inputs(self) -> int:
        """Channels."""
        return len(self.weight) if self.transposed or self.depthwise else self.weight.shape[1]

    @property
    def taps(self) -> int:
        """Rows of each output channel. A transposed one takes one tap for each output pixel, so that it has four."""
        return UPSAMPLING_SIDE**2 if self.transposed else 1

    def rows(self, values: np.ndarray) -> np.ndarray:
        """The weight, or what has its shape, as [rows, fan in]; the taps of a channel lie one after another."""
        if self.transposed:
            return values.transpose(1, 2, 3, 0).reshape(-1, values.shape[0])
        return values.reshape(len(values), -1)

    @cached_property
    def unit(self) -> np.ndarray:
        """The power of two whose multiples the weights of a row and its bias are, [rows]."""
        if self.exponent is None:
            weights = units(self.rows(self.weight))
        else:
            weights = np.repeat(np.ldexp(1.0, self.exponent.ravel().astype(int)), self.taps)
        biases = units(np.repeat(self.bias, self.taps)[:, None])
        unit = np.minimum(weights, biases)
        return np.where(np.isfinite(unit), unit, 1.0)  # a row of zeros has any unit

    @property
    def integers(self) -> np.ndarray:
        """The weights in units of their row, float64 [rows, fan in]. Not kept: of a model of 1B, all are 5 GB."""
        scale = 1.0 if self.exponent is None else np.ldexp(1.0, self.exponent.astype(int))
        return self.rows(self.weight.astype(np.float64) * scale) / self.unit[:, None]

    @cached_property
    def bias_integers(self) -> np.ndarray:
        """The bias of each row in its units, float64 [rows]."""
        return np.repeat(self.bias.astype(np.float64), self.taps) / self.unit

    @cached_property
    def parts(self) -> list[slice]:
        """See `parts`."""
        return parts(self.weight.shape, self.split)

    def weigh(self, k: np.ndarray) -> np.ndarray:
        """The sum of |k| of the heaviest part of each row, k [rows, fan in] -> [rows]."""
        area = k.shape[1] // self.parts[-1].stop
        sums = [np.abs(k[:, part.start * area : part.stop * area]).sum(1) for part in self.parts]
        return np.maximum.reduce(sums)

    @cached_property
    def reach(self) -> np.ndarray:
        """How large the sum of each row, or its largest part, can get, in units, float64 [rows]."""
        return self.weigh(self.integers) * float(self.limit) + np.abs(self.bias_integers)


def parts(shape: Sequence[int], split: bool) -> list[slice]:
    """The input channels of a convolution with weights of this shape, cut into parts of nearly equal size.

    What each part adds up to is exact. The parts' sums are then added one after another, in this order, as float32:
    these few additions may round, but their order is the same everywhere.
    """
    channels, area = (shape[0], 1) if shape[-1] == UPSAMPLING_SIDE else (shape[1], shape[-1] ** 2)
    count = -(-channels * area // PART) if split else 1
    return [slice(a, b) for a, b in pairwise(channels * i // count for i in range(count + 1))]


def layers(parameters: Mapping[str, np.ndarray], carrier: str) -> Iterator[Layer]:
    """All exact convolutions among a model's parameters. Raises KeyError where a part of one is missing."""
    for key in parameters:
        if key.endswith(".input_scale"):
            name = key.removesuffix(".input_scale")
            weight, bias, scale, limit = (parameters[f"{name}.{part}"] for part in PARTS)
            exponent = parameters.get(f"{name}.weight{EXPONENT}")
            yield Layer(name, weight, bias, scale, limit, exponent, carrier == "split")


def units(rows: np.ndarray) -> np.ndarray:
    """The largest power of two that divides every number of a row, [rows]; infinity for zeros."""
    mantissa, exponent = np.frexp(rows.astype(np.float64))
    digits = (mantissa * 2.0**53).astype(np.int64)
    lowest = (digits & -digits).astype(np.float64)
    return np.where(digits != 0, np.ldexp(lowest, exponent - 53), np.inf).min(1)
