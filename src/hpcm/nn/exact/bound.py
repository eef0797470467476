"""The bound of exact arithmetic, computed from a model's actual numbers; nn/exact/grid.py says why it suffices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...errors import WeightsError
from ...model.config import Config
from ...model.exact_layers import Layer, layers

CARRIER_BITS = {"float32": 24, "split": 24, "float64": 53}  # of the mantissa, the leading one among them
KERNELS = ((1, 1), (2, 2), (3, 3))  # sides; those of 2 are transposed
EXP_STEPS = 1024  # entries of attention's table of exp(-t) per unit of t
EXP_END = 14  # units of t; exp(-14) is below a millionth
EXP_ONE = 1 << 20  # the integer that stands for exp(0)


def check(parameters: Mapping[str, np.ndarray], config: Config) -> list[Layer]:
    """Checks the bound of every layer, and returns them. Raises WeightsError with the layer's name."""
    convolutions = list(layers(parameters, config.carrier))
    for layer in convolutions:
        _check_shapes(layer)
        _check_sums(layer, config.carrier)
    for key in parameters:
        if key.endswith(".exp_table"):
            _check_attention(key.removesuffix(".exp_table"), parameters, config)
    return convolutions


def share(layer: Layer, carrier: str) -> float:
    """Of what the carrier holds, how much the sums of a layer can take; not a number where it has none."""
    with np.errstate(invalid="ignore", over="ignore"):
        return float((layer.reach / 2.0 ** CARRIER_BITS[carrier]).max())


def _check_shapes(layer: Layer) -> None:
    shape = layer.weight.shape
    if len(shape) != 4 or 0 in shape or shape[2:] not in KERNELS:
        raise WeightsError(f"layer {layer.name} has weights of the shape {shape}, which no exact convolution has")
    outputs = shape[1] if layer.transposed else shape[0]
    fits = (layer.bias.shape, layer.input_scale.shape, layer.limit.size) == ((outputs,), (layer.inputs,), 1)
    if not fits:
        raise WeightsError(f"layer {layer.name} has a bias, scales or a limit that don't fit weights of {shape}")


def _check_sums(layer: Layer, carrier: str) -> None:
    """Finite numbers, inputs on a grid, and sums that the carrier holds."""
    limit = float(layer.limit.item())
    finite = all(np.isfinite(values).all() for values in (layer.weight, layer.bias, limit))
    on_grid = finite and limit == np.floor(limit) > 0 and _powers_of_two(layer.input_scale)
    taken = share(layer, carrier) if finite else np.nan
    if not on_grid or not taken <= 1:  # NaN isn't
        raise WeightsError(
            f"layer {layer.name} breaks the bound of exact arithmetic: its sums reach {taken:.3g} of "
            f"what {CARRIER_BITS[carrier]} bits hold; make the model exact again"
        )


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
