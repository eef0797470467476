"""What the process sets up in torch that would make sums inexact: switched off while the coding loop runs.

- CPU, oneDNN: convolutions run as direct or GEMM kernels (PyTorch never asks for its Winograd); in reduced precision
  only after `fp32_precision` was lowered, which is undone here.
- CPU, MKL and native kernels: sums of products; MKL_CBWR and instruction sets change their order only.
- CUDA, cuDNN: switched off here, because its choice of algorithms includes Winograd, FFT and TF32.
- CUDA, cuBLAS: TF32 is switched off here, unless NVIDIA_TF32_OVERRIDE forces it, which is refused. Settings of
  reduced-precision reductions concern products of 16-bit matrices, of which there are none.
- Autocast is switched off here, on every device.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

import torch

from ..errors import MismatchError

EXACT = ("ieee", "none")  # values of fp32_precision; "none" in all places means the full precision


class _Switches:
    """The process's settings that `arithmetic` changes; the first thread to enter changes them, the last restores."""

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0
        self.saved: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> None:
        with self.lock:
            self.inside += 1
            if self.inside == 1:
                self.saved = [_switch(*setting) for setting in _settings()]

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                for place, name, value in self.saved:
                    setattr(place, name, value)


def _switch(place: Any, name: str, value: Any) -> tuple[Any, str, Any]:
    """Changes a setting; what to write to restore it."""
    before = getattr(place, name)
    if name != "fp32_precision":
        setattr(place, name, value)
        return place, name, before
    # Read, it may be the parent's. It is if it stays the same when its own is taken away.
    place.fp32_precision = "none"
    own = before if place.fp32_precision != before else "none"
    if place.fp32_precision not in EXACT:
        place.fp32_precision = value
    return place, name, own


def _settings() -> Iterator[tuple[Any, str, Any]]:
    """(module, attribute, value while arithmetic must be exact), as far as this version of torch has them."""
    yield torch.backends.cudnn, "enabled", False
    matmul = torch.backends.cuda.matmul
    yield (matmul, "fp32_precision", "ieee") if hasattr(matmul, "fp32_precision") else (matmul, "allow_tf32", False)
    for name in ("conv", "matmul"):
        place = getattr(torch.backends.mkldnn, name, None)
        if hasattr(place, "fp32_precision"):
            yield place, "fp32_precision", "ieee"


_switches = _Switches()


@contextlib.contextmanager
def arithmetic(device: torch.device) -> Iterator[None]:
    """Switches off what would make sums inexact and restores it afterwards. Raises MismatchError where it can't."""
    if device.type == "cuda" and os.environ.get("NVIDIA_TF32_OVERRIDE") == "1":
        raise MismatchError("NVIDIA_TF32_OVERRIDE=1 makes this GPU's sums inexact: unset it to make or read files")
    with torch.autocast(device.type, enabled=False), _switches:
        yield
