"""Checkouts of other learned codecs, with random weights: for `--against` of `hpcm bench`, experiments/complexity.py.

Nothing of them is part of this package, so this is all that is expected of them:

    DCAE (LabShuHangGU/DCAE)                 models/dcae.py    class DCAE without arguments
    LALIC (sjtu-medialab/RwkvCompress)       models/lalic.py   class LALIC without arguments; load_biwkv4, RUN_BiWKV4

    forward(x)                               x [1, 3, 256, 256] in 0..1
    update()                                 makes the tables of their coder, compressai's rANS
    compress(x) -> {"strings", "shape"}      x [1, 3, H, W], sides multiples of MULTIPLE; strings: lists of bytes
    decompress(strings, shape) -> {"x_hat"}

LALIC's linear attention is a CUDA kernel, which it compiles when it is made. On a CPU values take that kernel's place:
parameters and kMACs are the same, for the kernel has no products of matrices, but times aren't, so that there are none.
A checkout is imported into this process, under the name `models`: only use one that you trust.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..errors import UsageError

KNOWN = {"DCAE": "models/dcae.py", "LALIC": "models/lalic.py"}
SIDE = 256  # pixels, of the picture that published costs refer to
MULTIPLE = 128  # pixels: what their own evaluations pad to
NEEDS = "pip install compressai timm einops torchvision matplotlib"

Timed = Callable[[Callable[[], object], str], tuple[float, Any]]  # (work, device) -> seconds, result


@dataclass(frozen=True)
class LearnedCost:
    """What a learned baseline takes for the picture that the model was timed with."""

    name: str
    parameters: int
    kmacs: float  # per pixel
    untimed: str = ""  # why there are no times
    seconds: dict[str, float] | None = None  # encode_s, decode_s
    bytes: int | None = None


class LearnedBaseline:
    """The network of a checkout. Raises UsageError where it can't be used."""

    def __init__(self, checkout: Path, device: str = "cpu") -> None:
        name = kind(checkout)
        if name is None:
            files = ", ".join(KNOWN.values())
            raise UsageError(f"{checkout} is no checkout of {' or '.join(KNOWN)}: it has none of {files}")
        self.name = name
        self.untimed = "its WKV kernel needs CUDA" if name == "LALIC" and device == "cpu" else ""
        self._device = device
        torch.manual_seed(0)
        self.net = _made(checkout, name, without_kernel=bool(self.untimed)).eval().requires_grad_(False).to(device)

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.net.parameters())

    @cached_property
    def kmacs(self) -> float:
        """Per pixel, of a forward pass."""
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.net(torch.rand(1, 3, SIDE, SIDE, device=self._device))
        return counter.get_total_flops() / 2 / SIDE**2 / 1000

    def cost(self, image: Image.Image, repeats: int, timed: Timed) -> LearnedCost:
        """What it takes for a picture, times included where it can be timed."""
        if self.untimed:
            return LearnedCost(self.name, self.parameters, self.kmacs, self.untimed)
        net: Any = self.net
        net.update()
        seconds, size = speed(net, image, MULTIPLE, self._device, repeats, timed)
        return LearnedCost(self.name, self.parameters, self.kmacs, seconds=seconds, bytes=size)


def kind(checkout: Path) -> str | None:
    """Which of KNOWN it is."""
    return next((name for name, file in KNOWN.items() if (checkout / file).is_file()), None)


@torch.no_grad()
def speed(
    net: Any, image: Image.Image, multiple: int, device: str, repeats: int, timed: Timed
) -> tuple[dict[str, float], int]:
    """encode_s and decode_s: medians of a network's compress and decompress, after one run of each; and bytes."""
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float().div(255).to(device)
    x = F.pad(x, (0, -x.shape[3] % multiple, 0, -x.shape[2] % multiple))
    coded = net.compress(x)
    net.decompress(coded["strings"], coded["shape"])
    encode = [timed(lambda: net.compress(x), device)[0] for _ in range(repeats)]
    decode = [timed(lambda: net.decompress(coded["strings"], coded["shape"]), device)[0] for _ in range(repeats)]
    size = sum(len(b"".join(part) if isinstance(part, list) else part) for part in coded["strings"])
    return {"encode_s": median(encode), "decode_s": median(decode)}, size


def _made(checkout: Path, name: str, without_kernel: bool) -> nn.Module:
    """The network, of a module that is forgotten afterwards: the next checkout's has the same name."""
    sys.path.insert(0, str(checkout))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # theirs, about packages that are newer than they are
            code: Any = importlib.import_module(KNOWN[name].removesuffix(".py").replace("/", "."))
        if without_kernel:
            code.load_biwkv4 = lambda: None
            code.RUN_BiWKV4 = lambda decay, boost, k, v: v
        net: nn.Module = getattr(code, name)()
        return net
    except (ImportError, OSError, RuntimeError) as error:  # the last two: a kernel that can't be compiled
        why = str(error).partition("\n")[0]
        raise UsageError(f"the code of {name} can't be used: {why}; it needs {NEEDS}") from error
    finally:
        sys.path.remove(str(checkout))
        for key in [key for key in sys.modules if key == "models" or key.startswith("models.")]:
            del sys.modules[key]
