"""Making a trained model exact: quantisation after training, with calibration; see grid.py for what that means.

Weights become integers of 8 (float32 carrier, whole or split) or 16 bits (float64) times a power of two per output
channel. The grid of each layer's inputs is the finest that its own bound allows for the largest input seen in
calibration. Input channels with large weights and small values are scaled up beforehand, by powers of two, and those
with small weights and large values down, so that both keep their precision (as Xiao et al., "SmoothQuant", ICML 2023,
with alpha = 1/2). In a depthwise convolution, whose channels have weights of their own, small values are scaled up as
far as the bias allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import WeightsError
from ...model.config import Config
from ...model.exact_layers import PART, Layer
from ..context import WindowAttention
from ..hpcm import HPCM
from .bound import CARRIER_BITS, check
from .grid import GridAttention, GridConv2d, by_input, convolutions, layer_of

WEIGHT_BITS = {"float32": 8, "split": 8, "float64": 16}  # of k, sign included
INPUT_BITS = 20  # of m at most, sign not included; the bound leaves about 10 with a float32 carrier
MAX_LIMIT = 2.0**23  # of |m|, for inputs beyond the calibrated ones: up to here float32 has halves to round
# Weights aren't stored finer than 2^-24. The sums of a channel whose weights are all near zero would else be in units
# so small that the bias alone fills the carrier, and all channels' inputs would have to be coarser for it.
FINEST_WEIGHTS = 24
COARSEST_INPUTS = -39  # b at least: inputs of 2^39 become 1, and no sound model has larger ones
MAX_SHARE = 6  # bits by which an input channel is scaled up or down before rounding
TINY = 2.0**-20  # what zeros count as where a logarithm is taken


@torch.no_grad()
def make_floating(model: HPCM) -> HPCM:
    """The same weights in plain floating point, to train further or to make exact anew; `model` isn't changed.

    The weights of a grid convolution act on integers, so they are taken back to the inputs' own units.
    """
    with torch.device("meta"):
        floating = HPCM(replace(model.config, carrier=""))
    own = floating.state_dict()
    values = {name: value.float().clone() for name, value in model.state_dict().items() if name in own}
    floating.load_state_dict(values, assign=True)
    floating.eval().requires_grad_(False)
    if model.config.carrier:
        pairs = zip(convolutions(floating), convolutions(model), strict=True)
        for (_, _, _, ours), (_, _, _, theirs) in pairs:
            ours.weight.mul_(by_input(ours, cast(GridConv2d, theirs).input_scale))
    return floating.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@torch.no_grad()
def make_exact(model: HPCM, batches: Iterable[tuple[Tensor, Tensor]], carrier: str = "float32") -> HPCM:
    """Quantises a trained model after training.

    Args:
        model: in evaluation mode, in floating point or exact already; it isn't changed.
        batches: pictures x [B, 3, H, W] and levels [B] to calibrate the inputs' ranges on.
        carrier: "float32" or "split" (weights of 8 bits, inputs as fine as the bound allows), or "float64" (16 and 20
            bits).

    Raises WeightsError for attention with a whole float32 carrier.
    """
    if model.config.fusion == "attention" and carrier == "float32":
        raise WeightsError(f"{model.config.name} has attention, whose sums need the carrier split or float64")
    model = make_floating(model)
    ranges = _input_ranges(model, batches)
    exact = HPCM(replace(model.config, carrier=carrier)).eval()
    exact.load_state_dict(model.state_dict(), strict=False, assign=True)  # nobody else needs them: 4 GB of a 1B model
    for name, _, _, convolution in convolutions(exact):
        _quantise(convolution, ranges[name], carrier)
    for name, module in exact.named_modules():
        if isinstance(module, GridAttention):
            for key in ("q", "k", "v"):
                largest = max(float(ranges[f"{name}.{key}>"].max()), TINY)
                getattr(module, f"{key}_scale").fill_(2.0 ** (INPUT_BITS - np.ceil(np.log2(largest))))
    check(exact.arrays_by_name(), exact.config)
    return exact.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def carrier_for(config: Config) -> str:
    """What is fast and precise enough: split sums where layers are wide, and where there is attention."""
    narrow = 2 * config.prior_width <= PART  # inputs of the widest layers
    return "float32" if narrow and config.fusion != "attention" else "split"


def _input_ranges(model: HPCM, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """The largest inputs [C] of each convolution, by its name, and q, k, v of attention, by name and ">"."""
    ranges: dict[str, Tensor] = {}

    def note(name: str, values: Tensor) -> None:
        largest = values.abs().amax((0, 2, 3))
        ranges[name] = torch.maximum(ranges[name], largest) if name in ranges else largest

    def inputs_of(name: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        return lambda _, inputs: note(name, inputs[0])

    def outputs_of(name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
        return lambda _, inputs, output: note(f"{name}>", output)

    handles = [module.register_forward_pre_hook(inputs_of(name)) for name, _, _, module in convolutions(model)]
    for name, module in model.named_modules():
        if isinstance(module, WindowAttention):
            handles += [getattr(module, k).register_forward_hook(outputs_of(f"{name}.{k}")) for k in ("q", "k", "v")]
    for x, level in batches:
        model(x, level)
    for handle in handles:
        handle.remove()
    return ranges


def _input_shares(convolution: Any, ranges: Tensor) -> Tensor:
    """By what each input channel is scaled before all are rounded alike, powers of two [in]."""
    values = ranges.double().clamp(min=TINY)
    if convolution.groups > 1:  # each has an output, and so a power of two for its weights, of its own
        bias = convolution.bias.detach().double().abs()
        reach = values.max() * convolution.weight.detach().double().abs().sum((1, 2, 3))
        shares = torch.minimum(values.max() / values, (reach / bias.clamp(min=TINY)).clamp(min=1))
    else:
        output = 0 if isinstance(convolution, nn.Conv2d) else 1
        weight = convolution.weight.detach().double().abs().transpose(0, output)  # [out, in, k, k]
        weight = weight / weight.amax((1, 2, 3), keepdim=True).clamp(min=TINY)
        shares = (weight.amax((0, 2, 3)).clamp(min=TINY) / values).sqrt()
        shares = shares / shares.median()
    return 2.0 ** shares.log2().floor().clamp(-MAX_SHARE, MAX_SHARE)


def _quantise(convolution: Any, ranges: Tensor, carrier: str) -> None:
    """Rounds the weights of a grid convolution and picks the finest input grid that the bound allows.

    `ranges` [in] are the largest inputs. Raises WeightsError where no grid keeps the bound.
    """
    shares = _input_shares(convolution, ranges)
    largest = float((ranges.double() * shares).max())
    convolution.weight.div_(by_input(convolution, shares.float()))
    layer = layer_of("", convolution)
    exponent = _weight_exponents(layer, WEIGHT_BITS[carrier])
    k = np.round(layer.rows(layer.weight) * 2.0 ** exponent[:, None])
    inputs = _finest_inputs(layer, k, exponent, largest, carrier)
    unit = 2.0 ** -(exponent + inputs.bits)  # of the products and the bias of each row
    _set_weights(convolution, k * unit[:, None])
    bias = (inputs.bias * unit)[:: layer.taps]  # the taps of a channel have the same
    convolution.bias.copy_(torch.from_numpy(bias.copy()))
    convolution.input_scale.copy_(2.0**inputs.bits * shares)
    convolution.limit.fill_(min(inputs.limit, MAX_LIMIT))


def _weight_exponents(layer: Layer, bits: int) -> np.ndarray:
    """The largest a of each row [rows] for which |k| = |weight * 2^a| fits so many bits, the sign among them.

    One for each output channel: its taps share it.
    """
    peak = 2 ** (bits - 1) - 1
    largest_of_rows = np.abs(layer.rows(layer.weight)).max(1)
    largest = largest_of_rows.reshape(-1, layer.taps).max(1)  # of output channels
    exponent = np.floor(np.log2(peak / np.maximum(largest, TINY)))
    return np.repeat(np.minimum(exponent, FINEST_WEIGHTS), layer.taps)


class _InputGrid(NamedTuple):
    bits: int  # b
    limit: float  # of |m|, as large as the bound allows
    bias: np.ndarray  # [rows], integers in units of 2^-(a + b)


def _finest_inputs(layer: Layer, k: np.ndarray, exponent: np.ndarray, largest: float, carrier: str) -> _InputGrid:
    """The largest b for which the bound holds and the largest input isn't clamped.

    Args:
        k: integer weights [rows, fan in].
        exponent: a of each row [rows].
        largest: input that calibration has seen.
    """
    room = 2.0 ** CARRIER_BITS[carrier] - 1
    weight_sums = np.maximum(layer.weigh(k), 1)  # [rows]; 1 where all weights are rounded to zero
    bias = np.repeat(layer.bias, layer.taps)
    finest = INPUT_BITS - int(np.ceil(np.log2(max(largest, TINY))))
    for bits in range(finest, COARSEST_INPUTS - 1, -1):
        whole_bias = np.round(bias * 2.0 ** (exponent + bits))
        limit = np.floor(((room - np.abs(whole_bias)) / weight_sums).min())
        if limit >= largest * 2.0**bits:
            return _InputGrid(bits, limit, whole_bias)
    raise WeightsError(f"no grid of inputs keeps the sums of a layer within {CARRIER_BITS[carrier]} bits: train anew")


def _set_weights(convolution: Any, values: np.ndarray) -> None:
    weight = torch.from_numpy(values)
    shape = convolution.weight.shape
    if isinstance(convolution, nn.ConvTranspose2d):
        weight = weight.reshape(shape[1], shape[2], shape[3], shape[0]).permute(3, 0, 1, 2)
    convolution.weight.copy_(weight.reshape(shape))
