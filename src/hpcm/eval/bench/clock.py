"""How long a work takes on a device, and what it takes of a GPU's memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

Timed = Callable[[Callable[[], object], str], tuple[float, Any]]  # (work, device) -> seconds, result


def elapsed(work: Callable[[], object], device: str) -> tuple[float, Any]:
    """Seconds that `work` took, and its result; a GPU has begun nothing else before and is done at the end."""
    wait_for(device)
    start = time.perf_counter()
    result = work()
    wait_for(device)
    return time.perf_counter() - start, result


def wait_for(device: str) -> None:
    """Waits until all that a GPU was given is done; a CPU has done it already."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def gpu_memory(device: str) -> int | None:
    """Bytes that tensors take of a GPU; None on a CPU, as for the next."""
    return torch.cuda.memory_allocated(device) if torch.device(device).type == "cuda" else None


def gpu_peak(device: str) -> int | None:
    """Bytes that tensors have taken at most since `reset_gpu_peak`."""
    return torch.cuda.max_memory_allocated(device) if torch.device(device).type == "cuda" else None


def reset_gpu_peak(device: str) -> None:
    """Begins anew to note what tensors take at most."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
