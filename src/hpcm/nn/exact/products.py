"""Exact sums as products of float16 matrices, for a GPU, whose units for these are the faster ones.

    m [B, in, h, w]  -- windows -->  [B * h' * w', fan in]  @  k [fan in, rows]  -->  sums [B * h' * w', rows]

float16 holds every integer up to 2^11, and the weights of a layer with sums of 24 bits have 8 bits and a sign. A
product of two float16 has at most 22 bits, which float32 holds, and the units for such matrices add products up in
float32. So below the bound of grid.py no addition rounds here either, in whatever order.

**Units.** k are the integers themselves. Sums are multiplied by the unit of their row afterwards, a power of two, and
the bias is added in that unit: neither rounds.

**Large inputs.** Inputs above 2^11 are cut in two, both toward zero: m = high + low, where high is a multiple of a
power of two u, with limit / u <= 2^11, and |low| < u. Both lie side by side in the window, each with the same weights.
As they have the same sign, |high| + |low| = |m|, and so the bound of |m| covers any order of these products, too:

    m = -5003, u = 4        high = -5000 = -1250 * 4        low = -3

That a GPU's units add up in float32 without cutting off bits isn't taken for granted: the probe tries it when a model
is loaded, and where a sum is wrong, float32 matrices remain (nn/weights.py).

Transposed convolutions have rows for each of the stride^2 pixels that an input pixel becomes (`Geometry.phases`); here
those of one phase lie together, so that pixels are moved to their places whole.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...model.layers import CARRIER_BITS, Layer

KINDS = ("float16", "float32")  # what sums of 24 bits may be computed in, the fastest on a GPU first
WHOLE = 1 << 11  # up to here float16 holds all integers
LARGEST = 65504  # that float16 holds
MIXES_TYPES = "dtype" in torch.ops.aten.mm.overloads()  # whether torch gives such products in float32: from 2.8 on


def suit(layer: Layer) -> bool:
    """Whether a layer's sums can be computed so: not those of more than 24 bits, and not depthwise ones."""
    return bool(
        layer.geometry.kind != "depthwise"
        and layer.bits == CARRIER_BITS["float32"]
        and np.abs(layer.weight.astype(int)).max() <= WHOLE
        and layer.limit <= LARGEST
    )


class Products(nn.Module):
    """The exact sums of one convolution; its numbers follow `.to(device)` and aren't stored with the model.

    They are those of the layer that it is made of. Where the convolution's own weights change, it must be made anew.
    """

    k: Tensor  # float16 [fan in, rows], the parts of a split sum one under another
    unit: Tensor  # float32 [rows]
    bias: Tensor  # float32 [rows]

    def __init__(self, layer: Layer) -> None:
        """Raises ValueError for a layer that doesn't suit."""
        super().__init__()
        if not suit(layer):
            raise ValueError(f"the sums of layer {layer.name} don't fit products of float16")
        self.geometry, self.parts = layer.geometry, layer.parts
        self.cut = _cut(int(layer.limit))
        blocks = _blocks(layer, self.cut is not None)
        self.heights = [len(block) for block in blocks]
        arrays = {"k": np.concatenate(blocks), "unit": layer.row_units, "bias": layer.row_biases * layer.row_units}
        for name in ("unit", "bias"):
            arrays[name] = arrays[name].reshape(-1, self.geometry.phases).T.ravel()
        for name, array in arrays.items():
            dtype = torch.float16 if name == "k" else torch.float32
            self.register_buffer(name, torch.from_numpy(array).to(dtype), persistent=False)

    def forward(self, m: Tensor) -> Tensor:
        """Integers m [B, in, h, w], as floats -> y [B, out, H, W], float32; in channels-last memory."""
        halves = self._halves(m.permute(0, 2, 3, 1))
        total = self.bias
        for part, k in zip(self.parts, self.k.split(self.heights), strict=True):
            windows = self._windows([half[..., part] for half in halves])  # [B, h', w', fan in]
            sums = product(windows.flatten(0, 2), k)
            # Sums times units are exact, and so is the first addition; those of further parts round once, in order.
            total = torch.addcmul(total, sums, self.unit)
        return self._in_place(total.unflatten(0, windows.shape[:3]))

    def _halves(self, m: Tensor) -> list[Tensor]:
        """m as one float16, or as two that add up to it."""
        if self.cut is None:
            return [m.half()]
        high = (m / self.cut).trunc_().mul_(self.cut)
        return [high.half(), (m - high).half()]

    def _windows(self, halves: list[Tensor]) -> Tensor:
        """[B, h, w, C] each -> [B, h', w', reach^2 * C * halves]; a window's channels lie together, pixel by pixel."""
        x = halves[0] if len(halves) == 1 else torch.cat(halves, -1)
        reach, border, step = self.geometry.reach, self.geometry.border, self.geometry.window_stride
        if border:
            x = F.pad(x, (0, 0, border, border, border, border))
        windows = x.unfold(1, reach, step).unfold(2, reach, step)  # [B, h', w', C, reach, reach]
        return windows.permute(0, 1, 2, 4, 5, 3).flatten(3)  # a copy, but for 1x1

    def _in_place(self, y: Tensor) -> Tensor:
        """The rows [B, h', w', rows] as pixels [B, out, H, W]; nothing moves but for transposed convolutions."""
        if self.geometry.transposed:
            stride, padding = self.geometry.stride, self.geometry.padding
            y = y.unflatten(3, (stride, stride, -1)).permute(0, 1, 3, 2, 4, 5)  # [B, h', stride, w', stride, out]
            y = y.flatten(1, 2).flatten(2, 3)
            y = y[:, padding : y.shape[1] - padding, padding : y.shape[2] - padding]
        return y.permute(0, 3, 1, 2)


def _cut(limit: int) -> float | None:
    """The power of two of which high parts are multiples; None where inputs fit whole."""
    cut = 1
    while limit > WHOLE * cut:
        cut *= 2
    return None if cut == 1 else float(cut)


def _blocks(layer: Layer, twice: bool) -> list[np.ndarray]:
    """The weights k of each part, [fan in, rows], in the order of `_windows` and `_in_place`.

    `twice`: for inputs cut in two.
    """
    geometry, reach = layer.geometry, layer.geometry.reach
    k = layer.rows.reshape(-1, geometry.phases, layer.inputs, reach, reach)
    if geometry.transposed:  # its kernel meets the window's pixels from the last to the first
        k = k[..., ::-1, ::-1]
    k = k.transpose(3, 4, 2, 1, 0)  # [reach, reach, in, phases, out]
    blocks = [k[:, :, part] for part in layer.parts]
    if twice:
        blocks = [np.concatenate((block, block), 2) for block in blocks]
    return [block.reshape(-1, k.shape[3] * k.shape[4]) for block in blocks]


def product(a: Tensor, b: Tensor) -> Tensor:
    """a [n, k] @ b [k, rows] of float16, added up in float32 and given as that, [n, rows].

    Raises RuntimeError where the device or this version of torch can't.
    """
    if a.device.type == "cpu":
        return a.float() @ b.float()
    if not MIXES_TYPES:
        raise RuntimeError(f"torch {torch.__version__} has no products of float16 in float32; 2.8 has")
    return torch.mm(a, b, out_dtype=torch.float32)
