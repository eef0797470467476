"""Where and how precisely to compute, and how much a training step computes."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..errors import UsageError
from ..model.config import Config
from ..nn.hpcm import HPCM
from ..util.hardware import matrix_speed

WORTH_IT = 1.3  # times that bf16 must be faster than float32 to be chosen
BACKWARD = 3  # times the multiplications of the forward pass are those of a training step


def choose_device(name: str) -> torch.device:
    """ "auto", "cpu" or "cuda". Raises UsageError."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no CUDA device, or this torch is built without CUDA: try --device cpu")
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def matrix_peak(device: torch.device, bf16: bool) -> float:
    """Multiplications and additions per second of a matrix product; on a CPU other programs matter little."""
    return matrix_speed(device, torch.bfloat16 if bf16 else torch.float32, processor_time=True)


def choose_precision(name: str, device: torch.device) -> tuple[bool, str]:
    """Whether to autocast to bfloat16, and a sentence about it."""
    if name != "auto":
        return name == "bf16", f"precision {name}"
    with torch.random.fork_rng(devices=[]):
        slow, fast = (matrix_peak(device, bf16) / 1e9 for bf16 in (False, True))
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
