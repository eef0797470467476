"""Where and how precisely to compute, and how fast the device can multiply matrices."""

from __future__ import annotations

import time
from functools import lru_cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..errors import UsageError
from ..model.config import Config
from ..model.hpcm import HPCM

SIDE = {"cpu": 512, "cuda": 4096}  # of the square matrices that are multiplied to compare precisions
TRIALS = 5
WORTH_IT = 1.3  # times that bf16 must be faster than float32 to be chosen
BACKWARD = 3  # times the multiplications of the forward pass are those of a training step


def choose_device(name: str) -> torch.device:
    """ "auto", "cpu" or "cuda". Raises UsageError."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no CUDA device, or this torch is built without CUDA: try --device cpu")
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def matrix_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Multiplications and additions per second of a product of square matrices: the best of TRIALS.

    On the CPU by the time that the processor spends on it: what else runs on the machine then matters less.
    """
    side = SIDE.get(device.type, 1024)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    cpu = device.type == "cpu"
    now, threads = (time.process_time, torch.get_num_threads()) if cpu else (time.perf_counter, 1)
    best = float("inf")
    for _ in range(TRIALS + 1):  # one to warm up
        begin = now()
        product = a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, (now() - begin) / threads)
    return 2 * side * side * product.shape[1] / best


def choose_precision(name: str, device: torch.device) -> tuple[bool, str]:
    """Whether to autocast to bfloat16, and a sentence about it."""
    if name != "auto":
        return name == "bf16", f"precision {name}"
    with torch.random.fork_rng(devices=[]):
        slow, fast = (matrix_speed(device, dtype) / 1e9 for dtype in (torch.float32, torch.bfloat16))
    chosen = fast > WORTH_IT * slow
    name = "bf16" if chosen else "float32"
    return chosen, f"precision {name}: a matrix product runs at {slow:.0f} GFLOP/s in float32, {fast:.0f} in bf16"


@lru_cache
def flops_per_crop(config: Config, crop: int) -> float:
    """Of a training step for one crop: convolutions and matrix products, counted without computing them."""
    with torch.device("meta"):
        model = HPCM(config).requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, crop, crop, device="meta"))
    return BACKWARD * float(counter.get_total_flops())
