"""The one loader of models: a weights file -> networks, computed by torch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

from ..defaults import ENGINES
from ..errors import UsageError
from ..model import storage
from ..model.file import WeightsFile, read
from ..model.tables import Tables
from ..nn.loop import Loop

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
        engine: "torch" or "auto", which is torch.
        device: "cpu", or one of torch's.
        threads: of the CPU; by default one for each core. Torch's are the whole process's.
        wrap: gives what is used in place of the networks, such as networks that are timed.

    The file is read once: what is hashed is what is loaded, also while a training run writes it anew. Raises
    UsageError where the engine or device can't be used, WeightsError where the file doesn't hold what its configuration
    asks for or an exact model's bounds don't hold, and MismatchError where this machine's arithmetic isn't exact.
    """
    if engine not in ENGINES:
        raise UsageError(f"engine is {engine!r}: it must be one of {', '.join(ENGINES)}")
    if not find_spec("torch"):
        raise UsageError(f"{weights.name} needs PyTorch: pip install 'hpcm-codec[torch]'")
    from .torch import build

    weights, data = read(weights)
    stored = storage.unpack(data, str(weights.path))
    networks: Loop = build(weights, stored.parameters, device, threads)
    LOG.debug("%s from %s, computed by %s on %s", weights.name, weights.path, type(networks).__module__, device)
    return Loaded(wrap(networks) if wrap else networks, stored.tables, weights)
