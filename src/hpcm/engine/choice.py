"""The one loader of models: a weights file -> networks, computed by ONNX Runtime or by torch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import NamedTuple

from ..defaults import ENGINES
from ..errors import UsageError, WeightsError
from ..model import storage
from ..model.config import Config
from ..model.file import WeightsFile, read
from ..model.find import bundled
from ..model.tables import Tables
from ..nn.loop import Loop
from . import graph

LOG = logging.getLogger(__name__)


class Loaded(NamedTuple):
    """A model that is ready to use; `weights` describes the very bytes that it was made of."""

    networks: Loop
    tables: Tables
    weights: WeightsFile


def load_networks(
    weights: WeightsFile,
    engine: str = "auto",
    device: str = "cpu",
    threads: int | None = None,
    wrap: Callable[[Loop], Loop] | None = None,
) -> Loaded:
    """A model, run by an engine.

    Args:
        engine: "onnx", "torch", or "auto": ONNX Runtime on the CPU for models that it can run, else torch.
        device: "cpu", or one of torch's.
        threads: of the CPU; by default one for each core. Torch's are the whole process's.
        wrap: gives what is used in place of the networks, such as networks that are timed.

    The file is read once: what is hashed is what is loaded, also while a training run writes it anew. Raises
    UsageError where the engine or device can't be used, WeightsError where the file doesn't hold what its configuration
    asks for or an exact model's bounds don't hold, and MismatchError where this machine's arithmetic isn't exact.
    """
    if engine not in ENGINES:
        raise UsageError(f"engine is {engine!r}: it must be one of {', '.join(ENGINES)}")
    weights, data = read(weights)
    stored = storage.unpack(data, str(weights.path))
    try:
        config = Config.from_dict(weights.config)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{weights.path}: the weights don't fit their configuration: {error}") from error
    if not bundled(weights):
        _check(stored.graphs, str(weights.path))
    against_onnx = _against_onnx(config, stored.graphs, device)
    if engine == "onnx" and against_onnx:
        raise UsageError(f"ONNX Runtime can't run {weights.name}: {against_onnx}")
    networks: Loop
    if engine == "torch" or against_onnx:
        if not find_spec("torch"):
            why = f" ({against_onnx})" if against_onnx else ""
            raise UsageError(f"{weights.name} needs PyTorch here{why}: pip install 'hpcm-codec[torch]'")
        from .torch import build

        networks = build(weights, stored.parameters, device, threads)
    else:
        from .onnx import OnnxNetworks

        networks = OnnxNetworks(config, stored.parameters, stored.graphs, threads, str(weights.path))
    LOG.debug("%s from %s, computed by %s on %s", weights.name, weights.path, type(networks).__module__, device)
    return Loaded(wrap(networks) if wrap else networks, stored.tables, weights)


def _check(graphs: Mapping[str, bytes], what: str) -> None:
    """Raises WeightsError for graphs that hpcm doesn't write."""
    for name, found in graphs.items():
        try:
            graph.check(found)
        except ValueError as error:
            raise WeightsError(f"{what}: graph {name} is refused: {error}") from error


def _against_onnx(config: Config, graphs: Mapping[str, bytes], device: str) -> str | None:
    """What speaks against ONNX Runtime for a model, if anything does."""
    from .onnx import unsuited

    if device != "cpu":
        return f"it computes on the CPU, not on {device}"
    if why := unsuited(config):
        return why
    if not graphs:
        return "its weights file has no graphs (`hpcm exact` writes them)"
    return None if find_spec("onnxruntime") else "onnxruntime isn't installed"
