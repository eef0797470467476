"""The convolutions of an exact model without attention, by name, as its configuration implies them.

They are those of nn/transforms.py and nn/context.py in torch, and of core/model.c; this list needs neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from .config import Config, Prior, Stages
from .layers import Geometry
from .order import steps_of

POINTWISE = Geometry("dense", side=1, stride=1, padding=0)
PARTIAL = Geometry("dense", side=3, stride=1, padding=1)
DEPTHWISE = Geometry("depthwise", side=3, stride=1, padding=1)
DOWN = Geometry("dense", side=2, stride=2, padding=0)
UP = Geometry("transposed", side=2, stride=2, padding=0)
STEMS = {  # first layer of g_a, last layer of g_s
    "conv4": (
        Geometry("dense", side=4, stride=2, padding=1),
        Geometry("transposed", side=4, stride=2, padding=1),
    ),
    "conv2": (DOWN, UP),
    "unshuffle8": (POINTWISE, POINTWISE),
}
UNSHUFFLED = "unshuffle8"  # the stem whose first module, and last, only moves pixels
Modules = list[Geometry | None]  # of a Sequential: a convolution; None for a residual block


def geometries(config: Config) -> dict[str, Geometry]:
    """Every exact convolution of the entropy path and, where they are exact, of the transforms."""
    found = dict(_entropy_path(config))
    return found | dict(_transforms(config)) if config.transforms == "int32" else found


def _entropy_path(config: Config) -> Iterator[tuple[str, Geometry]]:
    widened: Modules = []
    for blocks, _ in config.hyper_synthesis:
        widened += [UP, *_blocks(blocks)]
    yield from _named("h_s", widened, PARTIAL)
    for number, step in enumerate(steps_of(config)[1:]):
        adaptor: Modules = _blocks(config.adaptor_blocks[step.scale]) or [POINTWISE]
        yield from _named(f"adaptors.{number}", adaptor, DEPTHWISE)
    priors = [config.prior_coarse] + ([config.prior_fine] if config.prior_fine else [])
    for number, prior in enumerate(priors):
        yield from _prior(f"priors.{number}", prior)
    for number in range(2 if config.context_net else 0):
        yield f"context_nets.{number}", POINTWISE


def _prior(name: str, prior: Prior) -> Iterator[tuple[str, Geometry]]:
    yield from _named(f"{name}.before", _blocks(prior.before), DEPTHWISE)
    yield from _named(f"{name}.after", _blocks(prior.after), DEPTHWISE)
    yield f"{name}.head", POINTWISE
    yield from _named(f"{name}.tail", _blocks(prior.tail), DEPTHWISE)


def _transforms(config: Config) -> Iterator[tuple[str, Geometry]]:
    first, last = STEMS[config.stem]
    moved = int(config.stem == UNSHUFFLED)  # numbers of modules begin behind the one that moves pixels
    yield from _named("g_a", [first, *_between(config.analysis, DOWN)], PARTIAL, moved)
    narrowed: Modules = []
    for blocks, _ in config.hyper_analysis:
        narrowed += [*_blocks(blocks), DOWN]
    yield from _named("h_a", narrowed, PARTIAL)
    yield from _named("g_s", [*_between(config.synthesis, UP), last], PARTIAL)


def _between(stages: Stages, change: Geometry) -> Modules:
    """The blocks of all stages, with a change of resolution between them."""
    modules = _blocks(stages[0][0])
    for _, (blocks, _) in pairwise(stages):
        modules += [change, *_blocks(blocks)]
    return modules


def _blocks(count: int) -> Modules:
    return [None] * count


def _named(name: str, modules: Modules, spatial: Geometry, first: int = 0) -> Iterator[tuple[str, Geometry]]:
    """The convolutions of a Sequential whose modules are counted from `first`."""
    for number, module in enumerate(modules, first):
        if module is not None:
            yield f"{name}.{number}", module
        else:  # a residual block: nn/layers.py
            yield f"{name}.{number}.spatial", spatial
            yield f"{name}.{number}.expand", POINTWISE
            yield f"{name}.{number}.project", POINTWISE
