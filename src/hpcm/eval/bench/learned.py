"""Checkouts of other learned codecs: for `--against` of `hpcm bench`, and experiments/complexity.py.

dcvc.py is about DCVC-UF-Intra. Of the others this is all that is expected; their weights are random:

    DCAE (LabShuHangGU/DCAE)                 models/dcae.py    class DCAE without arguments
    LALIC (sjtu-medialab/RwkvCompress)       models/lalic.py   class LALIC without arguments; load_biwkv4, RUN_BiWKV4

    forward(x)                               x [1, 3, 256, 256] in 0..1
    update()                                 makes the tables of their coder, compressai's rANS
    compress(x) -> {"strings", "shape"}      x [1, 3, H, W], sides multiples of MULTIPLE; strings: lists of bytes
    decompress(strings, shape) -> {"x_hat"}

LALIC's linear attention is a CUDA kernel, which it compiles when it is made. On a CPU values take that kernel's place:
parameters and kMACs are the same, for the kernel has no products of matrices, but times aren't, so that there are none.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...errors import UsageError
from ..cost import SIDE
from . import dcvc
from .checkouts import OtherCodec, counted, module_of
from .runners import Runner, TensorCodec

KNOWN = {"DCAE": "models/dcae.py", "LALIC": "models/lalic.py", dcvc.NAME: dcvc.MARK}  # a file that no other has
MULTIPLE = 128  # pixels: what their own evaluations pad to
NEEDS = "pip install compressai timm einops torchvision matplotlib"


def kind(checkout: Path) -> str | None:
    """Which of KNOWN it is."""
    return next((name for name, file in KNOWN.items() if (checkout / file).is_file()), None)


def open_checkout(checkout: Path, device: str = "cpu") -> OtherCodec:
    """The codec of a checkout. Raises UsageError where it can't be used."""
    name = kind(checkout)
    if name is None:
        raise UsageError(f"{checkout} is no checkout of {either(KNOWN)}: it has none of {', '.join(KNOWN.values())}")
    if name == dcvc.NAME:
        return dcvc.open_checkout(checkout, device)
    untimed = "its WKV kernel needs CUDA" if name == "LALIC" and device == "cpu" else ""
    torch.manual_seed(0)
    net = _made(checkout, name, without_kernel=bool(untimed)).eval().requires_grad_(False).to(device)

    def make() -> Runner:
        net.update()
        return TensorCodec(net, MULTIPLE, device)

    kmacs = counted(lambda: net(torch.rand(1, 3, SIDE, SIDE, device=device)))
    return OtherCodec(name, sum(map(torch.numel, net.parameters())), kmacs, "random weights", make, untimed)


def either(names: Iterable[str]) -> str:
    """A, B or C."""
    *first, last = names
    return f"{', '.join(first)} or {last}"


def _made(checkout: Path, name: str, without_kernel: bool) -> Any:
    """The network. Raises UsageError."""
    try:
        code: Any = module_of(checkout, KNOWN[name].removesuffix(".py").replace("/", "."))
        if without_kernel:
            code.load_biwkv4 = lambda: None
            code.RUN_BiWKV4 = lambda decay, boost, k, v: v
        net: nn.Module = getattr(code, name)()
    except (ImportError, OSError, RuntimeError) as error:  # the last two: a kernel that can't be compiled
        why = str(error).partition("\n")[0]
        raise UsageError(f"the code of {name} can't be used: {why}; it needs {NEEDS}") from error
    return net
