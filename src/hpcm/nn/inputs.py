"""What `HPCM.forward` is given: checked before a network sees it, so that an error says what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..model.config import PICTURE_CHANNELS, Config


def check_pictures(x: Any, weights: Tensor, config: Config) -> None:
    """Raises ValueError unless x is [B, 3, H, W], of the weights' type and device, H and W multiples.

    Under autocast the types may differ, unless one of them is float64, which autocast leaves alone.
    """
    if config.carrier and weights.dtype != torch.float32:
        raise ValueError(f"an exact model in {weights.dtype}: its integers need float32; load it anew")
    if not isinstance(x, Tensor):
        raise ValueError(f"pictures are a tensor [B, {PICTURE_CHANNELS}, H, W], not a {type(x).__name__}")
    shape, multiple = list(x.shape), config.multiple
    if len(shape) != 4 or shape[1] != PICTURE_CHANNELS:
        raise ValueError(f"a tensor {shape}: pictures are [B, {PICTURE_CHANNELS}, H, W], red, green and blue")
    if not all(side > 0 and side % multiple == 0 for side in shape[2:]):
        raise ValueError(f"a picture of {shape[2]} x {shape[3]}: {config.name} needs multiples of {multiple}")
    if not x.is_floating_point():
        raise ValueError(f"pictures in {x.dtype}: {config.name} needs {weights.dtype} in 0..1")
    if x.dtype != weights.dtype and not _cast(x, weights):
        raise ValueError(
            f"pictures in {x.dtype}, weights in {weights.dtype}: give x.to({weights.dtype}), or model.to({x.dtype})"
        )
    if x.device != weights.device:
        raise ValueError(f"pictures on {x.device}, weights on {weights.device}: they belong on the same device")


def _cast(x: Tensor, weights: Tensor) -> bool:
    """Whether autocast brings both to one type."""
    return torch.is_autocast_enabled(x.device.type) and torch.float64 not in (x.dtype, weights.dtype)


def levels_of(level: Any, x: Tensor, count: int) -> Tensor:
    """The quality level of each picture, [B] on the device of x.

    Args:
        level: None, which is the middle one; a number for all pictures; or a tensor [B]. 0..count-1: between whole
            levels gains are interpolated, as training does. A tensor on a GPU isn't checked, which would wait for it.

    Raises ValueError.
    """
    pictures = x.shape[0]
    if level is None:
        level = (count - 1) // 2
    if isinstance(level, int | float | np.integer | np.floating) and not isinstance(level, bool):
        _check_range(bool(0 <= level <= count - 1), level, count)
        return torch.full((pictures,), float(level), device=x.device)
    if not isinstance(level, Tensor) or level.is_complex() or level.dtype == torch.bool:
        kind = level.dtype if isinstance(level, Tensor) else type(level).__name__
        raise ValueError(f"a level is a number or a tensor of numbers, not {kind}")
    if level.shape != (pictures,):
        raise ValueError(f"levels {list(level.shape)} for {pictures} pictures: one of each is needed, [{pictures}]")
    if level.device.type == "cpu" and not torch.compiler.is_compiling():
        _check_range(bool(((level >= 0) & (level <= count - 1)).all()), level.tolist(), count)
    return level.to(x.device)


def _check_range(inside: bool, level: Any, count: int) -> None:
    if not inside:
        allowed = f"0 to {count - 1}" if count > 1 else "0, as the model has one"
        raise ValueError(f"level {level}: it must be {allowed}")
