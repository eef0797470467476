"""The probe: are this machine's sums exact? Found out with the loaded model's own hardest layers, before any decoding.

For each kind of layer in the model (kernel, stride, groups, channels) a `Case` holds integers as large as the layer
allows, arranged so that sums reach the bound: around the middle of each picture the inputs have the signs of the
weights of one output, so that this sum is the largest that the bound lets through, and the last bits of the inputs are
random, so that all bits of it are in use. For 3x3 kernels there are as many pictures with one sign in each channel.
What the sums must be is computed in 64-bit integers.

A carrier with fewer bits (TF32, bfloat16, float16), a sum in fewer, or a kernel that forms other sums on the way
(Winograd, FFT) gives other numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import MismatchError
from .arithmetic import arithmetic
from .bound import CARRIER_BITS, biases_of, rows_of, taps_of, units
from .grid import EXP_ONE, GridAttention, Model, convolutions

IMAGES = 8  # pictures of a case; each leads one sum to the bound
SIDE = 7  # their rows and columns: a 3x3 window in the middle touches no edge
LOW_BITS = 8  # of an input that are random, at most; the others are those of the limit


@dataclass(frozen=True)
class Case:
    """Integers m [B, in, h, w] for a layer, and what its outputs `channels` must be, float64 [B, n, h, w]."""

    name: str
    layer: Any
    m: np.ndarray
    channels: np.ndarray
    expected: np.ndarray


def cases(model: Model, carrier: str) -> Iterator[Case]:
    """One for each kind of convolution: that whose sums come nearest to the bound."""
    hardest: dict[tuple[object, ...], tuple[float, str, Any]] = {}
    layer: Any
    for name, _, _, layer in convolutions(model):
        rows, biases = rows_of(layer), biases_of(layer)
        room = 2.0 ** CARRIER_BITS[carrier] * units(np.concatenate((rows, biases[:, None]), 1))
        share = float(((np.abs(rows).sum(1) * float(layer.limit) + np.abs(biases)) / room).max())
        kind = (type(layer), tuple(layer.weight.shape), layer.stride, layer.groups)
        hardest[kind] = max(hardest.get(kind, (0.0, "", None)), (share, name, layer), key=lambda found: found[0])
    rng = np.random.default_rng(0)
    for _, name, layer in hardest.values():
        yield _case(name, layer, rng)


def _case(name: str, layer: Any, rng: np.random.Generator) -> Case:
    rows, biases, taps = rows_of(layer), biases_of(layer), taps_of(layer)
    unit = units(np.concatenate((rows, biases[:, None]), 1))
    k, bias = (rows / unit[:, None]).astype(np.int64), (biases / unit).astype(np.int64)
    limit = int(layer.limit)
    chosen = np.argsort(-(np.abs(k).sum(1) * limit + np.abs(bias)))[:IMAGES]  # the largest sums
    low = rng.integers(0, min(1 << LOW_BITS, limit // 2 + 1), (len(chosen), layer.in_channels, SIDE, SIDE))
    m = (limit - low) * rng.choice((-1, 1), low.shape)
    middle, reach = SIDE // 2, layer.weight.shape[-1] // 2 if not isinstance(layer, nn.ConvTranspose2d) else 0
    window = slice(middle - reach, middle + reach + 1)
    for image, row in enumerate(chosen):
        signs = np.where(k[row] < 0, -1, 1) * (-1 if bias[row] < 0 else 1)
        channels = slice(row, row + 1) if layer.groups > 1 else slice(None)
        patch = m[image, channels, window, window]
        m[image, channels, window, window] = np.abs(patch) * signs.reshape(patch.shape)
    if reach and layer.groups == 1:
        m = np.concatenate((m, _flat(m, k[chosen], layer.weight.shape[1])))
    outputs = np.unique(chosen // taps)
    wanted = (outputs[:, None] * taps + np.arange(taps)).ravel()
    sums = _sums(layer, m, k[wanted], bias[wanted], outputs) * unit[wanted][:, None, None]
    return Case(name, layer, m, outputs, _shuffled(sums, taps))


def _flat(m: np.ndarray, k: np.ndarray, channels: int) -> np.ndarray:
    """The same sizes with one sign in each channel, that of its weights' sum: where Winograd's sums are largest."""
    signs = np.where(k.reshape(len(k), channels, -1).sum(2) < 0, -1, 1)
    return np.abs(m) * signs[:, :, None, None]


def _sums(layer: Any, m: np.ndarray, k: np.ndarray, bias: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """The sums of rows k [rows, fan in] in int64, [B, rows, h, w]."""
    if layer.weight.shape[-1] == 1 or isinstance(layer, nn.ConvTranspose2d):
        return np.einsum("bchw,rc->brhw", m, k) + bias[:, None, None]
    side, pad = layer.weight.shape[-1], layer.padding[0]
    padded = np.pad(m, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), (2, 3))  # [B, in, h, w, side, side]
    if layer.groups > 1:
        return np.einsum("brhwij,rij->brhw", windows[:, outputs], k.reshape(-1, side, side)) + bias[:, None, None]
    return np.einsum("bchwij,rcij->brhw", windows, k.reshape(len(k), -1, side, side)) + bias[:, None, None]


def _shuffled(sums: np.ndarray, taps: int) -> np.ndarray:
    """Rows of taps [B, n * 4, h, w] to their places [B, n, 2h, 2w]; nothing to do for one tap."""
    if taps == 1:
        return sums
    images, rows, height, width = sums.shape
    sums = sums.reshape(images, rows // 4, 2, 2, height, width).transpose(0, 1, 4, 2, 5, 3)
    return sums.reshape(images, rows // 4, 2 * height, 2 * width)


def probe(model: Any, device: torch.device) -> None:
    """Runs a model's hardest layers on its device. Raises MismatchError where a sum isn't exact."""
    carrier = getattr(torch, model.config.carrier)

    def run(case: Case) -> np.ndarray:
        m = torch.from_numpy(case.m).to(device=device, dtype=carrier)
        m = m.to(memory_format=torch.channels_last)
        return case.layer.convolve(m)[:, torch.from_numpy(case.channels).to(device)].double().cpu().numpy()

    with torch.no_grad(), arithmetic(device):
        compare(cases(model, model.config.carrier), run, device.type)
        if any(isinstance(module, GridAttention) for module in model.modules()):
            _probe_products(device)


def compare(these: Iterator[Case], run: Callable[[Case], np.ndarray], engine: str) -> None:
    """Raises MismatchError where `run` gives other sums than integers do."""
    for case in these:
        if not np.array_equal(run(case), case.expected):
            raise _inexact(engine, f"layer {case.name}")


def _probe_products(device: torch.device) -> None:
    """The products of matrices in attention: 64 keys, operands of 20 bits."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(-EXP_ONE, EXP_ONE + 1, (2, 3, 64, 64))
    found = torch.from_numpy(a).to(device).double() @ torch.from_numpy(b).to(device).double()
    if not np.array_equal(found.cpu().numpy(), a @ b):
        raise _inexact(device.type, "a product of matrices")


def _inexact(engine: str, what: str) -> MismatchError:
    return MismatchError(
        f"this machine's {engine} arithmetic isn't exact in {what} (reduced precision is switched on somewhere, "
        "ONEDNN_DEFAULT_FPMATH_MODE perhaps): files can't be made or read safely"
    )
