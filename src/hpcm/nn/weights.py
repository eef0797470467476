"""`HPCM` models from weights files, and weights files from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..errors import UsageError, WeightsError
from ..model import storage
from ..model.config import Config
from ..model.exact_layers import EXPONENT
from ..model.file import FORMAT, WeightsFile, read
from ..model.tables import Tables
from ..util import atomic
from .exact.bound import check
from .exact.grid import convolutions, probe
from .exact.probe import cases
from .hpcm import HPCM


class LoadedModel(NamedTuple):
    """A model in torch; `weights` describes the very bytes that it was made of."""

    model: HPCM
    tables: Tables
    weights: WeightsFile


def load_model(weights: WeightsFile, device: str = "cpu") -> LoadedModel:
    """A model in evaluation mode, float32 and channels-last; raises as `build`.

    The file is read once: what is hashed is what is loaded, also while a training run writes it anew.
    """
    weights, data = read(weights)
    stored = storage.unpack(data, str(weights.path))
    return LoadedModel(build(weights, stored.parameters, device), stored.tables, weights)


def build(weights: WeightsFile, parameters: Mapping[str, Any], device: str, threads: int | None = None) -> HPCM:
    """A model from the numbers of its weights file, float32 and channels-last, to evaluate.

    Args:
        device: one of torch's.
        threads: of the CPU, the whole process's; by default as they are.

    Raises UsageError where the device can't be used, WeightsError where the file doesn't hold what its configuration
    asks for or an exact model's bounds don't hold, and MismatchError where this machine's arithmetic isn't exact.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    _check_device(device)
    try:
        model = _with_parameters(Config.from_dict(weights.config), parameters)
        exact_layers = check(parameters, model.config) if model.config.carrier else []
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{weights.path}: the weights don't fit their configuration: {error}") from error
    if model.config.carrier == "float64" and torch.device(device).type == "mps":
        raise UsageError(f"{weights.path}: device {device} has no float64, which this model's sums need: use the CPU")
    model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model = model.eval().requires_grad_(False)
    if model.config.carrier:
        probe(model, cases(exact_layers, model.config.carrier), torch.device(device))
    return model


def _check_device(device: str) -> None:
    """Raises UsageError for a torch without CUDA, CUDA without a GPU, or what is no name of a device."""
    try:
        torch.empty(1, device=device)
    except (AssertionError, RuntimeError) as error:
        raise UsageError(f"device {device} can't be used: {error}") from error


def _with_parameters(config: Config, parameters: Mapping[str, Any]) -> HPCM:
    """A model of these parameters, on the CPU. Raises KeyError, TypeError, ValueError, RuntimeError."""
    with torch.device("meta"):  # takes no memory for parameters that are replaced
        model = HPCM(config)
    names = [name for name in parameters if not name.endswith(EXPONENT)]
    state = {name: torch.from_numpy(storage.floats(parameters, name)) for name in names}
    model.load_state_dict(state, assign=True)
    return model


def save(
    model: HPCM,
    path: Path,
    provenance: dict[str, Any],
    *,
    name: str | None = None,
    half: bool = True,
) -> None:
    """Writes a weights file, whole or not at all.

    Args:
        name: of the model, by default its configuration's.
        half: 16-bit parameters where nothing may depend on more, else float32. What leads to means and scales in an
            exact model is always stored without loss.
    """
    metadata = {"hpcm": FORMAT, "config": json.dumps(model.config.to_dict()), "provenance": json.dumps(provenance)}
    metadata |= {"name": name} if name else {}
    parameters = model.arrays_by_name()
    exact: set[str] = set()
    integers: set[str] = set()
    if model.config.carrier:
        parts = tuple(f"{part}." for part, _ in model.entropy_path())
        exact = {key for key in parameters if key.startswith(parts)}
        integers = {f"{layer}.weight" for layer, _, _, _ in convolutions(model)}
    data = storage.pack(parameters, metadata, exact=exact, integers=integers, half=half)
    atomic.write(path, data)
