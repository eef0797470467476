"""The bound of exact arithmetic, computed from a model's actual numbers; grid.py says why it suffices."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import WeightsError
from .grid import EXP_END, EXP_ONE, EXP_STEPS, GridAttention, Model, convolutions

CARRIER_BITS = {"float32": 24, "float64": 53}


def rows_of(convolution: Any) -> np.ndarray:
    """The weights as float64 [outputs, fan in]: a row for each sum that is taken, out of one output pixel.

    A transposed convolution whose stride is its kernel's side takes one tap for each output pixel, so that it has four
    rows for each output channel, the taps of a channel one after another.
    """
    weight = convolution.weight.detach().double().cpu()
    if isinstance(convolution, nn.ConvTranspose2d):  # [in, out, 2, 2]
        return weight.permute(1, 2, 3, 0).reshape(-1, weight.shape[0]).numpy()
    return weight.flatten(1).numpy()


def taps_of(convolution: Any) -> int:
    """The rows of each output channel."""
    return convolution.weight[0, 0].numel() if isinstance(convolution, nn.ConvTranspose2d) else 1


def biases_of(convolution: Any) -> np.ndarray:
    """The bias of each row, float64 [outputs]."""
    return np.repeat(convolution.bias.detach().double().cpu().numpy(), taps_of(convolution))


def check(model: Model, carrier: str) -> None:
    """Checks the bound of every layer. Raises WeightsError with the layer's name."""
    for name, _, _, convolution in convolutions(model):
        _check_convolution(name, convolution, carrier)
    for part, network in model.entropy_path():
        for name, module in network.named_modules(prefix=part):
            if isinstance(module, GridAttention):
                _check_attention(name, module)


def _check_convolution(name: str, convolution: Any, carrier: str) -> None:
    rows, biases = rows_of(convolution), biases_of(convolution)
    limit = float(convolution.limit)
    reach = np.abs(rows).sum(1) * limit + np.abs(biases)
    room = 2.0 ** CARRIER_BITS[carrier] * units(np.concatenate((rows, biases[:, None]), 1))
    whole = limit == np.floor(limit) > 0 and _powers_of_two(convolution.input_scale)
    if not whole or not np.isfinite(reach).all() or (reach > room).any():
        raise WeightsError(
            f"layer {name} breaks the bound of exact arithmetic: its sums reach {(reach / room).max():.3g} of "
            f"what a {carrier} holds; make the model exact again"
        )


def _check_attention(name: str, attention: GridAttention) -> None:
    """Scales are powers of two, and the table of the exponential falls from EXP_ONE in integers.

    Sums then stay below 2^53: of d = 2M / heads products of 21 bits each, and of window^2 products of them.
    """
    scales = torch.stack([getattr(attention, f"{key}_scale") for key in ("q", "k", "v")])
    table = attention.exp_table
    falls = len(table) == EXP_STEPS * EXP_END + 1 and bool((table[1:] <= table[:-1]).all())
    sound = falls and bool(((table >= 0) & (table <= EXP_ONE) & (table == table.round())).all()) and table[0] == EXP_ONE
    products = max(2 * attention.q.in_channels // (2 * attention.heads), attention.window**2)
    if not _powers_of_two(scales) or not sound or products * EXP_ONE**2 > 2.0 ** CARRIER_BITS["float64"]:
        raise WeightsError(
            f"attention {name} breaks the bound of exact arithmetic: its scales or its table are damaged"
        )


def _powers_of_two(scales: torch.Tensor) -> bool:
    values = scales.double().cpu().numpy()
    return bool(np.isfinite(values).all() and (np.frexp(values)[0] == 0.5).all())


def units(rows: np.ndarray) -> np.ndarray:
    """The largest power of two that divides every number of a row, [rows]; 1 for zeros."""
    mantissa, exponent = np.frexp(rows)
    digits = (mantissa * 2.0**53).astype(np.int64)
    lowest = (digits & -digits).astype(np.float64)
    smallest = np.where(digits != 0, np.ldexp(lowest, exponent - 53), np.inf).min(1)
    return np.where(np.isfinite(smallest), smallest, 1.0)
