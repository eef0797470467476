"""The bound of exact arithmetic, computed from a model's actual numbers; nn/exact/grid.py says why it suffices.

Besides the bound of sums, all numbers are so small that no infinity can arise on the way through the networks: what a
convolution gives is at most 2^31 * 2^64, and factors are at most 2^32.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from ...errors import WeightsError
from ...model.config import Config
from ...model.layers import CARRIER_BITS, GEOMETRIES, MAX_LIMIT, MAX_POWER, Geometries, Layer, layers
from ..gains import KNOTS, Gain, pair

GREATEST = 2.0**32  # magnitude of parameters in floating point, gains among them
EXP_STEPS = 1024  # entries of attention's table of exp(-t) per unit of t
EXP_END = 14  # units of t; exp(-14) is below a millionth
EXP_ONE = 1 << 20  # the integer that stands for exp(0)


def check(parameters: Mapping[str, np.ndarray], geometries: Geometries, config: Config) -> list[Layer]:
    """Checks an exact model's numbers, and returns its exact layers.

    Args:
        parameters: as a weights file holds them.
        geometries: of the model's exact convolutions.

    Raises WeightsError with the layer's or the parameter's name, and KeyError for a missing one.
    """
    convolutions = list(layers(parameters, geometries, config))
    for layer in convolutions:
        _check_types(layer)
        _check_shapes(layer)
        _check_sums(layer)
    for name in parameters:
        if name.endswith(".exp_table"):
            _check_attention(name.removesuffix(".exp_table"), parameters, config)
    for name, value in parameters.items():
        _check_size(name, value)
    if config.levels > 1:
        _check_gains(parameters, config)
    return convolutions


def _check_types(layer: Layer) -> None:
    wide = CARRIER_BITS[layer.carrier] > 32 and not layer.is_transform  # sums of 53 bits can have such a bias
    allowed = {
        "weight": ("int8", "int16"),
        "bias": ("int32", "int64") if wide else ("int32",),
        "exponent": ("int8",),
        "input_bits": ("int8",),
        "limit": ("int32",),
    }
    for part, dtypes in allowed.items():
        dtype = getattr(layer, part).dtype.name
        if dtype not in dtypes:
            raise WeightsError(f"layer {layer.name} has a {part} of type {dtype} instead of {' or '.join(dtypes)}")


def _check_shapes(layer: Layer) -> None:
    geometry, shape = layer.geometry, layer.weight.shape
    fits = geometry in GEOMETRIES and len(shape) == 4 and 0 not in shape and shape[2:] == (geometry.side,) * 2
    if not fits or (geometry.kind == "depthwise" and shape[1] != 1):
        kind = f"{geometry.kind} convolution of {geometry.side} x {geometry.side}"
        raise WeightsError(f"layer {layer.name} has weights of the shape {shape}, which no {kind} has")
    outputs, inputs = geometry.outputs(shape), geometry.inputs(shape)
    given = (layer.bias.shape, layer.exponent.shape, layer.input_bits.shape, layer.limit.shape)
    if given != ((outputs,), (outputs,), (inputs,), ()):
        raise WeightsError(f"layer {layer.name} has a bias, powers or a limit that don't fit weights of {shape}")


def _check_sums(layer: Layer) -> None:
    powers = np.concatenate((layer.exponent, layer.input_bits)).astype(int)
    bias = np.abs(layer.bias.astype(np.float64))
    sound = (
        1 <= layer.limit <= MAX_LIMIT
        and np.abs(powers).max() <= MAX_POWER
        and np.array_equal(bias, bias.astype(np.float32))
        and layer.reach.max() <= layer.room
    )
    if not sound:
        raise WeightsError(
            f"layer {layer.name} breaks the bound of exact arithmetic: its sums reach {layer.share:.3g} of "
            f"what {layer.bits} bits hold, or a number is too large; make the model exact again"
        )


def _check_size(name: str, value: np.ndarray) -> None:
    """Of a parameter in floating point."""
    if np.issubdtype(value.dtype, np.floating):
        with np.errstate(invalid="ignore"):
            fits = bool((np.abs(value.astype(np.float64)) <= GREATEST).all())  # NaN doesn't
        if not fits:
            raise WeightsError(f"{name} has a number that is over {GREATEST:.3g} or none")


def _check_gains(parameters: Mapping[str, np.ndarray], config: Config) -> None:
    """Those of all quality levels, as the coding loop interpolates them.

    The sign doesn't matter: channels that a model doesn't use have gains around zero, of either sign. A gain of zero
    would be divided by.
    """
    levels = torch.arange(config.levels)
    for latent, channels in (("y", config.M), ("z", config.N)):
        arrays = [parameters[f"{latent}_{kind}.knots"] for kind in ("gain", "inverse")]
        if any(array.shape != (KNOTS, channels) for array in arrays):
            raise WeightsError(f"the gains of {latent} have the shapes {[array.shape for array in arrays]}")
        gain, inverse = (_gain(array, config.levels) for array in arrays)
        for factors in pair(gain, inverse, levels, config.interpolation):
            magnitudes = factors.abs()
            if not (magnitudes.min() >= 1 / GREATEST and magnitudes.max() <= GREATEST):
                raise WeightsError(f"{latent} has a gain that isn't between {1 / GREATEST:.3g} and {GREATEST:.3g}")


def _gain(knots: np.ndarray, levels: int) -> Gain:
    gain = Gain(levels, knots.shape[1]).requires_grad_(False)
    gain.knots.copy_(torch.from_numpy(knots))
    return gain


def _check_attention(name: str, parameters: Mapping[str, np.ndarray], config: Config) -> None:
    """Scales are powers of two, and the table of the exponential falls from EXP_ONE in integers.

    Sums then stay below 2^53: of d = 2M / heads products of 21 bits each, and of window^2 products of them.
    """
    scales = np.stack([parameters[f"{name}.{key}_scale"] for key in ("q", "k", "v")])
    table = parameters[f"{name}.exp_table"].astype(np.float64)
    products = max(2 * config.M // config.heads, max(config.windows) ** 2)
    fits = products * EXP_ONE**2 <= 2.0 ** CARRIER_BITS["float64"]
    if not _powers_of_two(scales) or not _is_exponential(table) or not fits:
        raise WeightsError(
            f"attention {name} breaks the bound of exact arithmetic: its scales or its table are damaged"
        )


def _is_exponential(table: np.ndarray) -> bool:
    """Whether these are as many integers as exp(-t) has, which fall from EXP_ONE and aren't negative."""
    if table.shape != (EXP_STEPS * EXP_END + 1,) or table[0] != EXP_ONE:
        return False
    falls = table[1:] <= table[:-1]
    whole = table == table.round()
    return bool(falls.all() and whole.all() and table[-1] >= 0)


def _powers_of_two(scales: np.ndarray) -> bool:
    values = scales.astype(np.float64)
    return bool(np.isfinite(values).all() and (np.frexp(values)[0] == 0.5).all())
