"""Tensors that are made once, and kept for the next call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

_held: ContextVar[list[Any] | None] = ContextVar("held", default=None)


def kept(count: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Keeps the last `count` results of a function that makes tensors, so that every caller can use them.

    Whoever comes first: what is made in inference mode would be of no use to training. Under torch.export and others
    that run a model on stand-ins (FakeTensorMode) a stand-in would be made, and every later call would get it: then
    nothing is kept.
    """

    def decorate(make: Callable[P, R]) -> Callable[P, R]:
        make = torch.inference_mode(False)(make)
        keep = lru_cache(maxsize=count)(make)

        @wraps(make)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if type(torch.empty(0)) is not torch.Tensor:
                return make(*args, **kwargs)
            result = keep(*args, **kwargs)  # type: ignore[arg-type]  # all arguments can be hashed
            if (held := _held.get()) is not None:
                held.append(result)
            return result

        return call

    return decorate


@contextmanager
def holding() -> Iterator[list[Any]]:
    """Collects what such functions give in here.

    A CUDA graph reads tensors where they were when it was recorded: whoever keeps the graph keeps them.
    """
    held: list[Any] = []
    token = _held.set(held)
    try:
        yield held
    finally:
        _held.reset(token)
