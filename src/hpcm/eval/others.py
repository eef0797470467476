"""Checkouts of other learned codecs, with random weights; for `runs/complexity.py --against PATH`.

Nothing of them is part of this package, so this is all that is expected of them:

    DCAE (LabShuHangGU/DCAE)                 models/dcae.py    class DCAE without arguments
    LALIC (sjtu-medialab/RwkvCompress)       models/lalic.py   class LALIC without arguments; load_biwkv4, RUN_BiWKV4

Each is a nn.Module whose forward takes x [1, 3, 256, 256]. LALIC's linear attention is a CUDA kernel, which it compiles
when it is made. Here values take that kernel's place, so that its parameters and kMACs can be told without CUDA: the
kernel has no products of matrices.
A checkout is imported into this process, under the name `models`: only use one that you trust.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..errors import UsageError

SIDE = 256  # pixels, of the picture that published costs refer to
NEEDS = "pip install compressai timm einops torchvision matplotlib"


class Other:
    """A codec of others. Raises UsageError where the checkout can't be used."""

    def __init__(self, checkout: Path) -> None:
        known = {"DCAE": "dcae", "LALIC": "lalic"}
        found = [name for name, file in known.items() if (checkout / "models" / f"{file}.py").is_file()]
        if not found:
            files = ", ".join(f"models/{file}.py" for file in known.values())
            raise UsageError(f"{checkout} is no checkout of {' or '.join(known)}: it has none of {files}")
        self.name = found[0]
        self.net = _made(checkout, f"models.{known[self.name]}", self.name).eval().requires_grad_(False)

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.net.parameters())

    def kmacs(self) -> float:
        """Per pixel, of a forward pass."""
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.net(torch.rand(1, 3, SIDE, SIDE))
        return counter.get_total_flops() / 2 / SIDE**2 / 1000


def _made(checkout: Path, module: str, name: str) -> nn.Module:
    """The network, of a module that is forgotten afterwards: the next checkout's has the same name."""
    sys.path.insert(0, str(checkout))
    try:
        code: Any = importlib.import_module(module)
        if name == "LALIC":
            code.load_biwkv4 = lambda: None
            code.RUN_BiWKV4 = lambda decay, boost, k, v: v
        net: nn.Module = getattr(code, name)()
        return net
    except ImportError as error:
        raise UsageError(f"the code of {name} can't be imported: {error}; it needs {NEEDS}") from error
    finally:
        sys.path.remove(str(checkout))
        for key in [key for key in sys.modules if key == "models" or key.startswith("models.")]:
            del sys.modules[key]
