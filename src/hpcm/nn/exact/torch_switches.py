"""What the process sets up in torch that would make sums inexact: switched off while the coding loop runs.

A convolution library may pick an algorithm by the sizes of its inputs, and some algorithms are inexact: Winograd's and
FFT form other sums on the way, and reduced precision cuts operands. What torch 2.4 to 2.13 chooses from:

- CPU, oneDNN: convolutions run as direct or GEMM kernels (PyTorch never asks for its Winograd); in reduced precision
  only after `fp32_precision` was lowered, which is undone here.
- CPU, NNPACK, where oneDNN is absent or doesn't want a convolution, from 16 pictures on: Winograd and FFT. It is
  switched off here.
- CPU, torch's own depthwise 3x3 kernel on ARM and RISC-V, where oneDNN is absent: Winograd, which can't be switched
  off. grid.py computes depthwise convolutions itself then, see `has_onednn`.
- CPU, XNNPACK: PyTorch takes it for convolutions on phones alone; it has no Winograd.
- CPU, MKL and native kernels: sums of products; MKL_CBWR and instruction sets change their order only.
- CUDA, cuDNN, and ROCm, MIOpen, which have one switch: off here, because their choice of algorithms includes Winograd,
  FFT and TF32.
- CUDA, cuBLAS: TF32 is switched off here, unless NVIDIA_TF32_OVERRIDE forces it, which is refused. Products of float16
  matrices (products.py) are added up in float32: float16 sums, and reductions in 16 bits of what several blocks of
  threads have added up, are switched off here.
- MPS: has no switches. The probe alone decides whether models run there.
- Autocast is switched off here, on every device.

Whatever this list lacks, the probe is to find (nn/exact/probe.py): it runs when a model is loaded, with the same
switches, in the sizes that are used.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from ...errors import MismatchError

REDUCTIONS = ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")
EXACT = ("ieee", "none")  # values of fp32_precision; "none" in all places means the full precision


class _Switches:
    """The process's settings that `arithmetic` changes; the first thread to enter changes them, the last restores."""

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0
        self.restore: list[Callable[[], Any]] = []

    def __enter__(self) -> None:
        with self.lock:
            self.inside += 1
            if self.inside == 1:
                self.restore = [_switch(*setting) for setting in _settings()]
                (nnpack,) = torch.backends.nnpack.set_flags(False)
                self.restore.append(partial(torch.backends.nnpack.set_flags, nnpack))

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                for restore in self.restore:
                    restore()


def _switch(place: Any, name: str, value: Any) -> Callable[[], Any]:
    """Changes a setting; what restores it."""
    before = getattr(place, name)
    if name in REDUCTIONS and hasattr(place, f"{name}_split_k"):
        before = (before, getattr(place, f"{name}_split_k"))  # one setting that is read in two parts
    if name != "fp32_precision":
        setattr(place, name, value)
        return partial(setattr, place, name, before)
    # Read, it may be the parent's. It is if it stays the same when its own is taken away.
    place.fp32_precision = "none"
    own = before if place.fp32_precision != before else "none"
    if place.fp32_precision not in EXACT:
        place.fp32_precision = value
    return partial(setattr, place, name, own)


def _settings() -> Iterator[tuple[Any, str, Any]]:
    """(module, attribute, value while arithmetic must be exact), as far as this version of torch has them."""
    yield torch.backends.cudnn, "enabled", False
    matmul = torch.backends.cuda.matmul
    yield (matmul, "fp32_precision", "ieee") if hasattr(matmul, "fp32_precision") else (matmul, "allow_tf32", False)
    for name in (*REDUCTIONS, "allow_fp16_accumulation"):
        if hasattr(matmul, name):
            yield matmul, name, False
    for name in ("conv", "matmul"):
        place = getattr(torch.backends.mkldnn, name, None)
        if hasattr(place, "fp32_precision"):
            yield place, "fp32_precision", "ieee"


_switches = _Switches()


def has_onednn() -> bool:
    """Whether oneDNN computes convolutions on the CPU: it does unless it was left out or switched off."""
    return torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)


@contextlib.contextmanager
def arithmetic(device: torch.device) -> Iterator[None]:
    """Switches off what would make sums inexact and restores it afterwards. Raises MismatchError where it can't."""
    if device.type == "cuda" and os.environ.get("NVIDIA_TF32_OVERRIDE") == "1":
        raise MismatchError("NVIDIA_TF32_OVERRIDE=1 makes this GPU's sums inexact: unset it to make or read files")
    with torch.autocast(device.type, enabled=False), _switches:
        yield
