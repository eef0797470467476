"""Several processes that train one model, started by torchrun; a thin layer over torch.distributed.

    torchrun --nproc-per-node 4 -m hpcm train ...

Every process takes its own part of a step's crops; DistributedDataParallel averages the gradients (or FSDP2: see
fsdp.py). The first process alone writes files, speaks, and says when the budget is used up or something is due.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from .device import choose_device

PATIENCE = timedelta(hours=2)  # with a process that evaluates or reads data while the others wait


@dataclass(frozen=True)
class Team:
    """This process's number, the number of processes, and this process's device."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def agree(self, *values: float) -> list[float]:
        """The first process's values, for all."""
        if self.size == 1:
            return list(values)
        values_of_first = torch.tensor(values, dtype=torch.float64)
        dist.broadcast(values_of_first, 0)
        return values_of_first.tolist()

    def wait(self) -> None:
        """Until all processes have come here."""
        if self.size > 1:
            dist.all_reduce(torch.zeros(1))


@contextmanager
def join(device: str) -> Iterator[Team]:
    """The team that torchrun has started this process for, or a team of one. Raises UsageError."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Team(0, 1, choose_device(device))
        return
    own = choose_device(device)
    if own.type == "cuda":
        own = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(own)
    # gloo also beside nccl: what a team agrees on lies in the CPU's memory
    dist.init_process_group("cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Team(dist.get_rank(), size, own)
    finally:
        dist.destroy_process_group()
