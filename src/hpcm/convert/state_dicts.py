"""Where the parameters of a model lie in what a training script has saved.

Scripts save a state dict by itself, or behind a key ("state_dict", "model", "net"), or deeper; often a second one with
averaged weights (EMA) beside it. Wrappers lengthen the names: `module.` (DataParallel, DDP, AveragedModel) and
`_orig_mod.` (torch.compile) may stand anywhere in a name, and a whole training module puts its own name in front
("model.", "ema_model."). So a set of parameters is all tensors of one dictionary whose names are those of the model
behind the same prefix, and every dictionary of the checkpoint is looked through.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

WRAPPERS = ("module", "_orig_mod")  # parts of names that wrappers of torch add
AVERAGED = re.compile(r"(?i)(?<![a-z])(ema|swa|avg|averaged?|polyak|shadow)(?![a-z])")  # in keys and prefixes
COUNTER = "n_averaged"  # beside the weights of torch.optim.swa_utils.AveragedModel
DEPTH = 8  # of dictionaries in one another; a checkpoint's optimizer is as deep as 4

Content = Mapping[Any, Any]


@dataclass(eq=False)
class Parameters:
    """A set of parameters in a checkpoint."""

    where: str  # the keys that lead to it and the prefix of its names, with points between; "" is the checkpoint itself
    averaged: bool  # judged by their names, or by the counter that torch's AveragedModel keeps
    tensors: dict[str, Tensor] = field(default_factory=dict)  # by the model's names, without prefix and wrappers
    twice: list[str] = field(default_factory=list)  # names that two tensors have, such as g_a.0 and g_a.module.0

    def same_as(self, other: Parameters) -> bool:
        """Whether the numbers are the same, as of a state dict that was saved under two keys."""
        if self.tensors.keys() != other.tensors.keys():
            return False
        pairs = [(value, other.tensors[name]) for name, value in self.tensors.items()]
        return all(one.dtype == two.dtype and torch.equal(one, two) for one, two in pairs)


def parameters_in(checkpoint: Any, names: Collection[str]) -> list[Parameters]:
    """All sets in which at least one of the model's `names` occurs, those that have most of them first."""
    sets = [one for keys, content in _dictionaries(checkpoint, (), set()) for one in _sets(keys, content, names)]
    return sorted(sets, key=lambda one: len(one.tensors.keys() & set(names)), reverse=True)


def holds_tensors(checkpoint: Any) -> bool:
    """Whether any dictionary in it has a tensor under a name."""
    return any(_tensors(content) for _, content in _dictionaries(checkpoint, (), set()))


def _dictionaries(content: Any, keys: tuple[str, ...], seen: set[int]) -> Iterator[tuple[tuple[str, ...], Content]]:
    """Every dictionary once, with the keys that lead to it.

    Those of optimizers are left out: their moments can have the names and shapes of weights. A file may be forged, so
    neither a circle nor a list of the same list over and over makes this long.
    """
    if not isinstance(content, Mapping | list | tuple) or id(content) in seen or len(keys) > DEPTH:
        return
    seen.add(id(content))
    if isinstance(content, Mapping):
        yield keys, content
    for key, value in content.items() if isinstance(content, Mapping) else enumerate(content):
        if "optim" not in str(key).lower():
            yield from _dictionaries(value, (*keys, str(key)), seen)


def _tensors(content: Content) -> dict[str, Tensor]:
    return {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}


def _sets(keys: tuple[str, ...], content: Content, names: Collection[str]) -> list[Parameters]:
    """The sets of parameters that lie in one dictionary."""
    tensors = _tensors(content)
    prefixes = {prefix for name in tensors if (prefix := _prefix(name.split("."), names)) is not None}
    sets = {}
    for prefix in sorted(prefixes):
        where = ".".join((*keys, *prefix))
        sets[prefix] = Parameters(where, bool(AVERAGED.search(where)) or COUNTER in content)
    for name, value in tensors.items():
        parts = tuple(name.split("."))
        # The longest prefix: what lies behind "ema_model." isn't an unknown name of the model beside it.
        fitting = [prefix for prefix in prefixes if parts[: len(prefix)] == prefix]
        if not fitting:
            continue  # belongs to another module of the training script, such as its loss
        prefix = max(fitting, key=len)
        plain = _without_wrappers(parts[len(prefix) :])
        if plain in sets[prefix].tensors:
            sets[prefix].twice.append(plain)
        sets[prefix].tensors[plain] = value
    return list(sets.values())


def _prefix(parts: list[str], names: Collection[str]) -> tuple[str, ...] | None:
    """What stands before one of the model's names in a name, cut into its parts; None if none of them ends it."""
    for start in range(len(parts)):
        if parts[start] not in WRAPPERS and _without_wrappers(parts[start:]) in names:
            return tuple(parts[:start])
    return None


def _without_wrappers(parts: Collection[str]) -> str:
    return ".".join(part for part in parts if part not in WRAPPERS)
