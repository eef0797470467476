"""Transforms in 16 bits, for a GPU: exact ones as plain convolutions, whose inputs aren't rounded to a grid.

g_a, h_a and g_s lead to no mean or scale, so on a GPU, whose units for float16 are the faster ones, their sums needn't
be the same bits as elsewhere. Weights are those that the integers stand for:

    exact     m = clamp(round(x * 2^b))     s = sum of k * m + bias     y = float32(s) * 2^-a
    here      x' = clamp(x) to limit * 2^-b     y = float16(sum of w * x' + bias), with w = float16(k * 2^-a * 2^b)

Inputs are clamped as on the grid, because what exceeds four times the largest number of calibration would else give
other pixels, in drawn pictures by more than a hundred of 255. Activations between the convolutions are float16 too, and
y, z and x_hat become float32 at the end. docs/exactness.md says what that costs, and why it isn't bfloat16.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .grid import GridConv2d, GridConvTranspose2d, Model, by_input

HALF = torch.float16


class PlainConvolution(nn.Module):
    """A grid convolution's weights in a floating-point type; they follow `.to(device)` and aren't stored."""

    weight: Tensor
    bias: Tensor
    largest: Tensor  # magnitude of inputs, [in, 1, 1]

    def __init__(self, grid: GridConv2d | GridConvTranspose2d, dtype: torch.dtype) -> None:
        super().__init__()
        numbers = {
            "weight": grid.weight * by_input(grid, grid.input_scale),  # acts on x instead of m
            "bias": cast(Tensor, grid.bias),
            "largest": (grid.limit / grid.input_scale)[:, None, None],
        }
        for name, values in numbers.items():
            self.register_buffer(name, values.detach().to(dtype), persistent=False)
        self.convolve = F.conv_transpose2d if isinstance(grid, GridConvTranspose2d) else F.conv2d
        self.stride, self.padding = grid.stride, grid.padding

    def forward(self, x: Tensor) -> Tensor:
        """x [B, in, h, w] -> [B, out, h', w'], both of the weights' type."""
        x = x.clamp(-self.largest, self.largest)
        return self.convolve(x, self.weight, self.bias, self.stride, self.padding)  # type: ignore[arg-type]


def use_plain_transforms(model: Model, dtype: torch.dtype = HALF) -> None:
    """Makes a model compute its transforms in plain floating point of this type, on the device where it is."""
    for _, network in model.transforms():
        for convolution in network.modules():
            if isinstance(convolution, GridConv2d | GridConvTranspose2d):
                convolution.plain = PlainConvolution(convolution, dtype)
        network.register_forward_pre_hook(partial(_cast_input, dtype))


def _cast_input(dtype: torch.dtype, _: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """So that what passes the convolutions by, in residual blocks, is of this type too."""
    return (inputs[0].to(dtype), *inputs[1:])
