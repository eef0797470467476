"""Where an engine's arrays live: numpy's, or torch's on a device.

What this room computes with is the array API standard (data-apis.org/array-api), so that the same lines run on numpy
arrays and, with gradients, on torch tensors. Beyond the standard an engine brings arrays in and out, in the layout that
its networks like, and has two moves between resolutions.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from array_api_compat import array_namespace

Array = Any  # a numpy array or a torch tensor


def namespace(array: Array) -> Any:
    """The functions of the standard for an array. numpy 2 has them itself, so that its wrapper isn't imported."""
    return np if isinstance(array, np.ndarray) else array_namespace(array)


class Arrays(Hashable, Protocol):
    """Equal and with equal hashes where arrays of one can be used with the other's."""

    def put(self, array: np.ndarray) -> Array:
        """A numpy array to where the engine computes."""
        ...

    def get(self, array: Array) -> np.ndarray:
        """An engine's array as a numpy array."""
        ...

    def sum_cells(self, x: Array) -> Array:
        """The sum over each cell of 2x2 places: [B, C, 2h, 2w] -> [B, C, h, w]."""
        ...

    def repeat_cells(self, x: Array) -> Array:
        """Each place four times, as a cell of 2x2: [B, C, h, w] -> [B, C, 2h, 2w]."""
        ...


@dataclass(frozen=True)
class NumpyArrays:
    """The arrays of engines that take numpy's."""

    def put(self, array: np.ndarray) -> Array:
        return np.asarray(array, order="C")

    def get(self, array: Array) -> np.ndarray:
        return np.asarray(array)

    def sum_cells(self, x: Array) -> Array:
        upper, lower = x[:, :, ::2], x[:, :, 1::2]
        return upper[..., ::2] + upper[..., 1::2] + lower[..., ::2] + lower[..., 1::2]

    def repeat_cells(self, x: Array) -> Array:
        return x.repeat(2, axis=2).repeat(2, axis=3)
