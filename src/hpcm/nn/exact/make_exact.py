"""Making a trained model exact: quantisation after training, with calibration; see grid.py for what that means.

Weights become integers times a power of two per output channel: int8 (float32 carrier, whole or split) or int16
(float64) where they lead to means and scales, int16 or narrower in transforms. The grid of each layer's inputs is the
finest that its own bound allows for the largest input seen in calibration; in transforms, where weights and inputs
share 31 bits, it is the combination with the least expected error. Input channels with large weights and small values
are scaled up beforehand, by powers of two, and those with small weights and large values down, so that both keep their
precision (as Xiao et al., "SmoothQuant", ICML 2023, with alpha = 1/2). In a depthwise convolution, whose channels have
weights of their own, small values are scaled up as far as the bias allows.

Calibration also corrects the mean of decoded pictures. A model that was trained in bfloat16 has learned to make up for
that arithmetic, in which most of the 256 values of a pixel are rounded up (by 0.17 of 255 on average); in float32 its
pictures are too dark by as much. The bias of the last layer takes that out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import WeightsError
from ...model.config import Config
from ...model.layers import CARRIER_BITS, INT16_MAX, MAX_LIMIT, PART, TRANSFORM_BITS, row_weights
from ..context import WindowAttention
from ..hpcm import HPCM
from .bound import check
from .grid import GridAttention, GridConv2d, by_input, convolutions, geometries_of, geometry_of, stored_numbers


@dataclass(frozen=True)
class Precision:
    """How many bits an exact convolution's numbers get."""

    sum_bits: int
    weight_bits: tuple[int, ...]  # of k, sign included; the best is taken
    input_bits: int  # of m at most for the largest calibrated input, sign not included
    headroom: int  # times that input what the sums must leave room for; more is clamped
    limit: int  # of |m| at most


# With sums of 24 bits the bound leaves about 10 to the inputs. In sums of 31 bits they get 13 bits at most, so that
# four times the largest input that was seen fits an int16: in a transform it is clamping that costs most.
ENTROPY_PATH = {
    "float32": Precision(CARRIER_BITS["float32"], (8,), 14, 1, INT16_MAX),
    "split": Precision(CARRIER_BITS["split"], (8,), 14, 1, INT16_MAX),
    "float64": Precision(CARRIER_BITS["float64"], (16,), 20, 1, MAX_LIMIT),
}
TRANSFORM = Precision(TRANSFORM_BITS, tuple(range(8, 17)), 13, 4, INT16_MAX)
# Weights aren't stored finer than 2^-24. The sums of a channel whose weights are all near zero would else be in units
# so small that the bias alone fills the carrier, and all channels' inputs would have to be coarser for it.
FINEST_WEIGHTS = 24
COARSEST_INPUTS = -39  # of input_bits: inputs of 2^39 become 1, and no sound model has larger ones
MAX_SHARE = 6  # bits by which an input channel is scaled up or down before rounding
ATTENTION_BITS = 20  # of q, k and v, sign not included
MAX_ATTENTION_POWER = 32  # of the powers of two that they are multiplied by
MAX_SHIFT = 1 / 255  # of the mean of decoded pictures that is corrected; more isn't the arithmetic's
TINY = 2.0**-20  # what zeros count as where a logarithm is taken


class Inputs(NamedTuple):
    """A convolution's inputs as calibration has seen them, for each channel [in]."""

    largest: Tensor  # magnitude
    mean_square: Tensor


class Calibration(NamedTuple):
    """What calibration has seen."""

    inputs: dict[str, Inputs]  # of convolutions by name, and q, k, v of attention as "NAME.q>"
    shift: float  # what the mean of decoded pictures lacks, of 1


@torch.no_grad()
def make_floating(model: HPCM) -> HPCM:
    """The same weights in plain floating point, to train further or to make exact anew; `model` isn't changed.

    The weights of a grid convolution act on integers, so they are taken back to the inputs' own units.
    """
    with torch.device("meta"):
        floating = HPCM(replace(model.config, carrier="", transforms="float"))
    own = floating.state_dict()
    values = {name: value.float().clone() for name, value in model.state_dict().items() if name in own}
    floating.load_state_dict(values, assign=True)
    floating.eval().requires_grad_(False)
    if model.config.carrier:
        for site in convolutions(model):
            ours = cast(nn.Conv2d, floating.get_submodule(site.name))
            ours.weight.mul_(by_input(ours, cast(GridConv2d, site.convolution).input_scale))
    return floating.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@torch.no_grad()
def make_exact(
    model: HPCM, batches: Iterable[tuple[Tensor, Tensor]], carrier: str = "float32", symbols_of: HPCM | None = None
) -> HPCM:
    """Quantises a trained model after training.

    Args:
        model: in evaluation mode, in floating point or exact already; it isn't changed.
        batches: pictures x [B, 3, H, W] and levels [B] to calibrate on.
        carrier: "float32" or "split" (weights of 8 bits, inputs as fine as the bound allows), or "float64" (16 and 20
            bits). With "float32" the transforms become exact, too.
        symbols_of: an exact model of the same carrier, whose numbers are taken for all but the synthesis: both models
            then make the same symbols of a picture, and decode the same y_hat.

    Raises WeightsError for attention with a whole float32 carrier.
    """
    if model.config.fusion == "attention" and carrier == "float32":
        raise WeightsError(f"{model.config.name} has attention, whose sums need the carrier split or float64")
    floating = make_floating(model)
    transforms = "int32" if carrier == "float32" else "float"
    exact = HPCM(replace(floating.config, carrier=carrier, transforms=transforms)).eval()
    calibration = calibrate(floating, [site.name for site in convolutions(exact)], batches)
    exact.load_state_dict(floating.state_dict(), strict=False, assign=True)  # shared: they are 4 GB of a 1B model
    correct_mean(exact, calibration.shift)
    for site in convolutions(exact):
        grid = cast(GridConv2d, site.convolution)
        precision = TRANSFORM if grid.carrier == "int32" else ENTROPY_PATH[carrier]
        quantise(grid, calibration.inputs[site.name], precision)
    for name, module in exact.named_modules():
        if isinstance(module, GridAttention):
            for key in ("q", "k", "v"):
                largest = max(float(calibration.inputs[f"{name}.{key}>"].largest.max()), TINY)
                power = ATTENTION_BITS - np.ceil(np.log2(largest))
                getattr(module, f"{key}_scale").fill_(2.0 ** min(power, MAX_ATTENTION_POWER))
    if symbols_of is not None:
        kept = {name: value for name, value in symbols_of.state_dict().items() if not name.startswith("g_s.")}
        exact.load_state_dict(kept, strict=False)
    check(stored_numbers(exact), geometries_of(exact), exact.config)
    return exact.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def carrier_for(config: Config) -> str:
    """What is fast and precise enough: split sums where layers are wide, and where there is attention."""
    narrow = 2 * config.prior_width <= PART  # inputs of the widest layers
    return "float32" if narrow and config.fusion != "attention" else "split"


@torch.no_grad()
def calibrate(model: HPCM, names: Iterable[str], batches: Iterable[tuple[Tensor, Tensor]]) -> Calibration:
    """Runs a model in floating point on pictures.

    Args:
        names: of the convolutions whose inputs are wanted.
        batches: pictures x [B, 3, H, W] and levels [B].
    """
    largest: dict[str, Tensor] = {}
    squares: dict[str, Tensor] = {}  # sums of each batch's mean
    shifts: list[float] = []

    def note(name: str, values: Tensor) -> None:
        channels = values.shape[1]
        seen = largest.setdefault(name, values.new_zeros(channels))
        # In place: small tensors that are made among large ones, and kept, keep the allocator from giving memory back.
        torch.maximum(seen, values.abs().amax((0, 2, 3)), out=seen)
        squares.setdefault(name, values.new_zeros(channels)).add_(values.square().mean((0, 2, 3)))

    def note_input(name: str, _: nn.Module, inputs: tuple[Tensor]) -> None:
        note(name, inputs[0])

    def note_output(name: str, _: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        note(f"{name}>", output)

    handles = [model.get_submodule(name).register_forward_pre_hook(partial(note_input, name)) for name in names]
    for name, module in model.named_modules():
        if isinstance(module, WindowAttention):
            for key in ("q", "k", "v"):
                hook = partial(note_output, f"{name}.{key}")
                handles.append(getattr(module, key).register_forward_hook(hook))
    for x, level in batches:
        x_hat = cast(Tensor, model(x, level)["x_hat"])
        shifts.append(float((x - x_hat.clamp(0, 1)).mean()))
    for handle in handles:
        handle.remove()
    inputs = {name: Inputs(largest[name], squares[name] / len(shifts)) for name in largest}
    return Calibration(inputs, float(np.median(shifts)))


def correct_mean(model: HPCM, shift: float) -> None:
    """Makes decoded pictures brighter, by `shift` of 1."""
    last = [module for module in model.g_s.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)][-1]
    cast(Tensor, last.bias).add_(min(max(shift, -MAX_SHIFT), MAX_SHIFT))


def _input_shares(convolution: Any, ranges: Tensor) -> Tensor:
    """Powers of two [in] by which the input channels are scaled before all are rounded alike."""
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


def quantise(convolution: Any, inputs: Inputs, precision: Precision) -> None:
    """Rounds the weights of a grid convolution and picks the grid of its inputs.

    Raises WeightsError where no grid keeps the bound.
    """
    shares = _input_shares(convolution, inputs.largest)
    largest = float((inputs.largest.double() * shares).max())
    convolution.weight.div_(by_input(convolution, shares.float()))
    geometry = geometry_of(convolution)
    mean_square = (inputs.mean_square.double() * shares.square()).numpy()
    if geometry.kind == "depthwise":
        mean_square = mean_square[:, None]
    else:
        mean_square = mean_square.repeat(geometry.reach**2)
    weights = geometry.rows(convolution.weight.detach().double().numpy())
    bias = np.repeat(convolution.bias.detach().double().numpy(), geometry.phases)
    grids = [_grid(convolution, weights, bias, bits, largest, precision) for bits in precision.weight_bits]
    fitting = (grid for grid in grids if grid)
    best = min(fitting, key=lambda grid: _error(grid, weights, mean_square), default=None)
    if best is None:
        raise WeightsError(f"no grid of inputs keeps the sums of a layer within {precision.sum_bits} bits: train anew")
    weight = geometry.weight(best.k * best.unit[:, None], tuple(convolution.weight.shape))
    convolution.weight.copy_(torch.from_numpy(weight))
    convolution.bias.copy_(torch.from_numpy((best.bias * best.unit)[:: geometry.phases].copy()))
    convolution.input_scale.copy_(2.0**best.input_bits * shares)
    convolution.limit.fill_(best.limit)


class _Grid(NamedTuple):
    """The integers of a convolution whose input channels have one power of two, 2^input_bits, in common."""

    k: np.ndarray  # integers [rows, fan in]: round(weight * 2^weight_power)
    weight_power: np.ndarray  # [rows]
    input_bits: int
    limit: int  # of |m|, as large as the bound and `Precision.limit` allow
    bias: np.ndarray  # integers [rows], in units of 2^exponent

    @property
    def exponent(self) -> np.ndarray:
        """That of the sums [rows], as model/layers.py defines it."""
        return -(self.weight_power + self.input_bits)

    @property
    def unit(self) -> np.ndarray:
        """The unit 2^exponent of the sums and the bias, [rows]."""
        return 2.0**self.exponent


def _grid(
    convolution: Any, weights: np.ndarray, bias: np.ndarray, weight_bits: int, largest: float, precision: Precision
) -> _Grid | None:
    """The finest inputs for weights of so many bits, such that the bound holds; None where none do.

    Args:
        weights, bias: [rows, fan in], [rows], in floating point.
        largest: input that calibration has seen.
    """
    weight_power = _weight_powers(weights, geometry_of(convolution).phases, weight_bits)
    k = np.round(weights * 2.0 ** weight_power[:, None])
    room = 2.0**precision.sum_bits - 1
    sums = np.maximum(row_weights(k, convolution.parts), 1)  # [rows]; 1 where all weights are rounded to zero
    finest = precision.input_bits - int(np.ceil(np.log2(max(largest, TINY))))
    for bits in range(finest, COARSEST_INPUTS - 1, -1):
        # A bias is a float32 in torch, which has 24 bits of the 31 that sums of transforms have.
        whole_bias = np.round(bias * 2.0 ** (weight_power + bits)).astype(np.float32).astype(np.float64)
        limit = np.floor(((room - np.abs(whole_bias)) / sums).min())
        if limit >= max(precision.headroom * largest * 2.0**bits, 1):
            return _Grid(k, weight_power, bits, min(int(limit), precision.limit), whole_bias)
    return None


def _weight_powers(weights: np.ndarray, phases: int, bits: int) -> np.ndarray:
    """The largest p of each row [rows] for which |k| = |weight * 2^p| fits so many bits, the sign among them.

    One for each output channel: its rows share it.
    """
    peak = 2 ** (bits - 1) - 1
    largest = np.abs(weights).max(1).reshape(-1, phases).max(1)  # of output channels
    power = np.floor(np.log2(peak / np.maximum(largest, TINY)))
    return np.repeat(np.minimum(power, FINEST_WEIGHTS), phases)


def _error(grid: _Grid, weights: np.ndarray, mean_square: np.ndarray) -> float:
    """The expected square of what rounding adds to the sums, over all rows, as if all roundings were independent.

    Args:
        weights: [rows, fan in], in floating point.
        mean_square: of the input that each weight acts on, in a shape that multiplies the weights.
    """
    of_weights = (grid.k * 2.0 ** -grid.weight_power[:, None] - weights) ** 2 * mean_square
    of_inputs = 4.0**-grid.input_bits / 12 * weights**2  # a number rounded to multiples of 2^-input_bits
    return float(of_weights.sum() + of_inputs.sum())
