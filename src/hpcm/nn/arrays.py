"""numpy's arrays <-> tensors: pictures and latents on their way into the networks and out of them.

Arrays are channels last, tensors [B, C, h, w] in channels-last memory: the same numbers in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.coded import Latent
from ..model.config import PICTURE_CHANNELS


def tensor_of(latent: Latent, device: torch.device) -> Tensor:
    """[h, w, C] -> [1, C, h, w]. On the CPU it may share the memory."""
    return first_channels(stacked([latent]).to(device))


def array_of(tensor: Tensor) -> Latent:
    """[1, C, h, w] -> [h, w, C]."""
    array: Latent = last_channels(tensor)[0].cpu().numpy()
    return array


def first_channels(x: Tensor) -> Tensor:
    """[B, h, w, C] -> [B, C, h, w], without a copy."""
    return x.permute(0, 3, 1, 2)


def last_channels(x: Tensor) -> Tensor:
    """[B, C, h, w] -> [B, h, w, C], without a copy if x is channels-last."""
    return x.permute(0, 2, 3, 1).contiguous()


def stacked(arrays: Sequence[NDArray[Any]]) -> Tensor:
    """Arrays of one shape [...] as a tensor on the host, [B, ...]; of one array it may share the memory."""
    together = np.stack(arrays) if len(arrays) > 1 else arrays[0][None]
    if together.dtype == np.uint16:  # with which torch doesn't calculate
        together = together.astype(np.int32)
    return torch.from_numpy(np.require(together, requirements=["C", "W"]))


def picture_tensor(pixels: NDArray[Any], peak: int, size: tuple[int, int], device: torch.device) -> Tensor:
    """Pixels [h, w, 3 or 1] -> x [1, 3, H, W]; see `pictures`."""
    return pictures(stacked([pixels]).to(device), peak, size)


def pictures(pixels: Tensor, peak: int, size: tuple[int, int]) -> Tensor:
    """Pixels [B, h, w, 3 or 1] -> x [B, 3, H, W] in 0..1, repeating the last row and column up to `size`."""
    x = pixels.float()
    x = x / x.new_full((), peak)  # a tensor: by a number a GPU would divide less exactly
    for axis, side in zip((1, 2), size, strict=True):
        if x.shape[axis] < side:
            places = torch.arange(side, device=x.device).clamp(max=x.shape[axis] - 1)
            x = x.index_select(axis, places)
    return first_channels(x.expand(-1, -1, -1, PICTURE_CHANNELS).contiguous())


def whole_numbers(x_hat: Tensor, bit_depth: int, grey: bool) -> Tensor:
    """x_hat [B, 3, h, w] in 0..1 as samples, [B, h, w, 3] or [B, h, w]; uint8 for 8 bits, else int32.

    What isn't a number, as a forged file may give, is 0.
    """
    peak = 2**bit_depth - 1
    red, green, blue = x_hat.unbind(1)
    colours = (red + green + blue) / 3 if grey else x_hat.permute(0, 2, 3, 1)
    values = (colours * peak).round().clamp(0, peak).nan_to_num(0)
    return values.to(torch.uint8 if bit_depth == 8 else torch.int32)
