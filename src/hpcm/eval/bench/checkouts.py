"""What the adapters for checkouts of other codecs' code share: a module of a checkout, and what a codec is.

A checkout is imported into this process: only use one that you trust. Nothing of such code is part of this package.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..cost import per_pixel
from .runners import Runner


@dataclass(frozen=True)
class OtherCodec:
    """A codec of others, and how it can be timed."""

    name: str
    parameters: int
    kmacs: float  # per pixel
    weights: str  # which: "random weights", or where they are from
    make: Callable[[], Runner]  # raises UsageError
    untimed: str = ""  # why it can't be timed on this device; then nothing is made


def module_of(checkout: Path, name: str, *, keep: bool = False) -> ModuleType:
    """A module of a checkout.

    Other checkouts have packages of the same name: what is imported of them is set aside meanwhile, and this one's is
    forgotten afterwards.

    Args:
        keep: this one's stays instead, for code that imports more when it runs.
    """
    package = name.partition(".")[0]
    aside = _taken(package)
    sys.path.insert(0, str(checkout))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # theirs, about packages that are newer than they are
            return importlib.import_module(name)
    finally:
        sys.path.remove(str(checkout))
        if not keep:
            _taken(package)
            sys.modules.update(aside)


def _taken(package: str) -> dict[str, ModuleType]:
    """All imported modules of a package, which the process forgets."""
    names = [name for name in sys.modules if name == package or name.startswith(f"{package}.")]
    return {name: sys.modules.pop(name) for name in names}


@torch.no_grad()
def counted(forward: Callable[[], object]) -> float:
    """kMACs per pixel of what `forward` computes, for a picture of cost.SIDE x cost.SIDE."""
    with FlopCounterMode(display=False) as counter:
        forward()
    return per_pixel(counter.get_total_flops())
