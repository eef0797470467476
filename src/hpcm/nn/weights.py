"""`HPCM` models from weights files, and weights files from them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..errors import UsageError, WeightsError
from ..model import layers, storage
from ..model.config import Config
from ..model.file import FORMAT, WeightsFile, read
from ..model.tables import Tables
from ..util import atomic
from .exact.bound import check
from .exact.grid import exact_networks, geometries_of, run_probe, stored_numbers, use_products
from .exact.half import use_plain_transforms
from .exact.probe import InexactError, cases
from .exact.products import KINDS, suit
from .hpcm import HPCM

LOG = logging.getLogger(__name__)


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


def build(
    weights: WeightsFile,
    parameters: Mapping[str, Any],
    device: str,
    threads: int | None = None,
    products: Sequence[str] | None = None,
) -> HPCM:
    """A model from the numbers of its weights file, float32 and channels-last, to evaluate.

    Args:
        device: one of torch's.
        threads: of the CPU, the whole process's; by default as they are.
        products: some of `products.KINDS`, for exact sums of 24 bits. The first that the probe finds exact is taken and
            named by `model.products`. By default all of them on a GPU by CUDA, and float32 elsewhere.

    Raises UsageError where the device can't be used, WeightsError where the file doesn't hold what its configuration
    asks for or an exact model's bounds don't hold, and MismatchError where this machine's arithmetic isn't exact.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    check_device(device)
    try:
        with torch.device("meta"):  # takes no memory for parameters that are replaced
            model = HPCM(Config.from_dict(weights.config))
        exact_layers = _checked_layers(model, parameters, weights)
        state = layers.to_floats(parameters, geometries_of(model))
        model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, assign=True)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{weights.path}: the weights don't fit their configuration: {error}") from error
    if model.config.carrier == "float64" and torch.device(device).type == "mps":
        raise UsageError(f"{weights.path}: device {device} has no float64, which this model's sums need: use the CPU")
    model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model = model.eval().requires_grad_(False)
    if model.config.carrier:
        on_cuda = model.device.type == "cuda"
        if on_cuda and model.config.transforms == "int32":
            use_plain_transforms(model)
        _take_products(model, exact_layers, products or (KINDS if on_cuda else ("float32",)))
    return model


def _take_products(model: HPCM, exact_layers: Sequence[layers.Layer], kinds: Sequence[str]) -> None:
    """Makes a model compute its exact sums in the first of the kinds that is exact on its device.

    Raises MismatchError where the last one isn't exact either.
    """
    on_cpu = model.device.type == "cpu"
    probed = [layer for layer in exact_layers if on_cpu or not layer.is_transform]
    if not any(map(suit, probed)):
        kinds = kinds[-1:]
    for kind in kinds:
        use_products(model, exact_layers, kind)
        try:
            run_probe(model, cases(probed, by_halves=kind == "float16"), model.device)
            return
        except (InexactError, RuntimeError) as error:  # torch raises the latter for what a GPU or a version can't
            if kind == kinds[-1]:
                raise
            reason = error.difference if isinstance(error, InexactError) else error
            LOG.info("exact sums aren't computed in %s on %s: %s", kind, model.device, reason)


def _checked_layers(model: HPCM, parameters: Mapping[str, Any], weights: WeightsFile) -> list[layers.Layer]:
    """The exact layers of a weights file, as a model of its configuration has them. Raises KeyError, WeightsError."""
    geometries = geometries_of(model)
    layers.check_description(weights.layers, geometries)
    return check(parameters, geometries, model.config) if geometries else []


def check_device(device: str) -> None:
    """Raises UsageError for a torch without CUDA, CUDA without a GPU, or what is no name of a device."""
    try:
        torch.empty(1, device=device)
    except (AssertionError, RuntimeError) as error:
        raise UsageError(f"device {device} can't be used: {error}") from error


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
        half: 16-bit parameters where nothing may depend on more, else float32. What is exact is always stored without
            loss.

    Raises WeightsError for an exact model whose numbers aren't on their grids.
    """
    geometries = geometries_of(model)
    metadata = {"hpcm": FORMAT, "config": json.dumps(model.config.to_dict()), "provenance": json.dumps(provenance)}
    metadata |= {"name": name} if name else {}
    metadata |= {"layers": layers.to_json(geometries)} if geometries else {}
    parameters = stored_numbers(model)
    exact: set[str] = set()
    if geometries:
        prefixes = tuple(f"{name}." for name, _ in exact_networks(model))
        exact = {key for key in parameters if key.startswith(prefixes)}
    atomic.write(path, storage.pack(parameters, metadata, exact=exact, half=half))
