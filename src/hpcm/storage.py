"""How a model's numbers are stored in a weights file, and a model from them.

    tensor                                       stored as
    parameters in floating point                 float16 where they are finite in it, else float32
    weights of an exact convolution              int8, k = weight / 2^exponent, and int8 exponents as NAME.exponent
    what else leads to means and scales          float16 where nothing is lost, else float32
    tables of the entropy coder                  as they are (tables.scales, tables.radius, tables.frequencies)

The exponents have the shape of the weights with 1 in all places but that of the output channel, so that
int8 * 2^exponent gives the weights back, to the bit. Older files hold float16 in place of both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from .entropy.tables import Tables, make_tables
from .errors import UsageError, WeightsError
from .model.bound import check
from .model.config import Config
from .model.grid import convolutions
from .model.hpcm import HPCM
from .model.probe import probe

TABLES = ("scales", "radius", "frequencies")
EXPONENT = ".exponent"  # behind the name of weights that are stored as integers
INT8_MAX = 127


def pack(model: HPCM, metadata: dict[str, str], *, half: bool) -> bytes:
    """The bytes of a weights file; see `weights.save`."""
    exact = set()
    if model.config.carrier:
        parts = tuple(f"{name}." for name, _ in model.entropy_path())
        exact = {name for name in model.state_dict() if name.startswith(parts)}
    integers = {f"{name}.weight": module for name, _, _, module in convolutions(model)} if exact else {}
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        value = value.detach().cpu().contiguous().float()
        whole = (
            _integers(value, transposed=isinstance(integers[name], nn.ConvTranspose2d)) if name in integers else None
        )
        if whole is not None:
            tensors[name], tensors[name + EXPONENT] = whole
            continue
        short = value.half()
        lossless = torch.equal(short.float(), value)
        tensors[name] = short if half and (lossless if name in exact else bool(short.isfinite().all())) else value
    tables = make_tables()
    for name in TABLES:
        tensors[f"tables.{name}"] = torch.from_numpy(np.array(getattr(tables, name)))
    return save(tensors, metadata)


def _integers(weight: Tensor, *, transposed: bool) -> tuple[Tensor, Tensor] | None:
    """int8 and the exponents of its output channels, or None where 8 bits don't hold the weights to the bit."""
    others = [axis for axis in range(4) if axis != (1 if transposed else 0)]
    top = weight.abs().amax(others, keepdim=True)
    exponent = torch.frexp(top).exponent - 7  # so that the largest of a channel lies in 64..127
    exponent = torch.where(top > 0, exponent, 0)
    k = torch.ldexp(weight, -exponent)
    fits = torch.equal(k, k.round()) and bool((exponent.abs() <= INT8_MAX).all())
    return (k.to(torch.int8), exponent.to(torch.int8)) if fits else None


def build(
    path: Path, config: dict[str, Any], data: bytes, device: str, *, decodes_only: bool = False
) -> tuple[HPCM, Tables]:
    """A model from the bytes of its weights file; see `weights.load_model`."""
    try:
        tensors = load(data)
        tables = Tables(*(tensors.pop(f"tables.{name}").numpy() for name in TABLES))
        tables.check()
        with torch.device("meta"):
            model = HPCM(Config.from_dict(config))
        if decodes_only:
            model.drop_encoder()
        model.load_state_dict(_floats(tensors), assign=True)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path}: the weights don't fit their configuration: {error}") from error
    if model.config.carrier == "float64" and torch.device(device).type == "mps":
        raise UsageError(f"{path}: device {device} has no float64, which this model's sums need: take the cpu")
    if model.config.carrier:
        check(model, model.config.carrier)
    model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model = model.eval().requires_grad_(False)
    if model.config.carrier:
        probe(model, torch.device(device))
    return model, tables


def _floats(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parameters as float32, integers with their powers of two."""
    values = {name: value.float() for name, value in tensors.items() if not name.endswith(EXPONENT)}
    for name, exponent in tensors.items():
        if name.endswith(EXPONENT):
            weight = name.removesuffix(EXPONENT)
            values[weight] = torch.ldexp(values[weight], exponent.int())
    return values
