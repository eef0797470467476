"""A training step as one CUDA graph (--graph).

A step of a small network is thousands of short kernels, and Python starts them more slowly than a fast GPU computes
them. A graph holds them all: it is recorded once, and replayed with other crops and levels, which are copied to where
the recorded kernels read them. It draws other noise each time as well: a replay begins at the seed that is set then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

WARM_UP = 3  # steps before recording: kernels are chosen, masks and tables made

Batch = tuple[Tensor, Tensor]  # crops [B, 3, crop, crop] and levels [B]


class StepGraph:
    """`step` of one batch like `batch`, recorded.

    To warm up, it is computed WARM_UP times on `batch`, which must have no effect: see Run._recorded.
    """

    def __init__(self, step: Callable[[Iterable[Batch]], None], batch: Batch) -> None:
        self.x, self.level = batch
        self.graph = torch.cuda.CUDAGraph()
        # All crops have one size, so that trying out cuDNN's algorithms pays.
        with torch.backends.cudnn.flags(enabled=True, benchmark=True):
            self._warm_up(step)
            # Only this thread's calls are bound by the recording: another one may copy the next pictures meanwhile.
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                step([batch])

    def _warm_up(self, step: Callable[[Iterable[Batch]], None]) -> None:
        """On a stream of its own, as torch asks of what comes before a recording."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                step([(self.x, self.level)])
        torch.cuda.current_stream().wait_stream(aside)

    def __call__(self, batches: Iterable[Batch]) -> None:
        ((x, level),) = batches
        self.x.copy_(x)
        self.level.copy_(level)
        self.graph.replay()
