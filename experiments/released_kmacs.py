"""kMACs per pixel of the authors' own code of HPCM-1B, counted as ours are.

    python experiments/released_kmacs.py LIC-HPCM

LIC-HPCM is a checkout of their code (tried at c271cfe). Its networks run on the meta device, without numbers: what
gathers and scatters latents by masks, which multiplies nothing, gives tensors of the right shape instead, and the
entropy coder isn't loaded.
"""

import argparse
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

SIDE = 256  # pixels, of the picture that published costs refer to
BY_MASKS = ("get_s1_s2_with_mask", "recon_for_s2_s3", "get_s2_hyper_with_mask", "get_s3_hyper_with_mask")


class NoEntropyModel(nn.Module):
    def forward(self, values: Tensor, scales: Tensor) -> Tensor:
        return values + scales


def shape_alone(_: nn.Module, x: Tensor, *arguments: Any, **__: Any) -> Tensor:
    """Of those functions' result: B, C, h and w are their whole numbers, in this order."""
    return x.new_empty([value for value in arguments if isinstance(value, int)][:4])


def load(checkout: Path) -> nn.Module:
    sys.path.insert(0, str(checkout))
    for module in ("src.entropy_models", "src.entropy_models.entropy_models"):
        sys.modules[module] = ModuleType(module)
    sys.modules["src.entropy_models.entropy_models"].GGM = NoEntropyModel  # type: ignore[attr-defined]
    base = importlib.import_module("src.models.base").BB
    for function in BY_MASKS:
        setattr(base, function, shape_alone)
    with torch.device("meta"):
        model: nn.Module = importlib.import_module("src.models.HPCM_1B").HPCM().eval()
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    model = load(parser.parse_args().checkout)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, SIDE, SIDE, device="meta"))
    parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    print(f"{parameters:.3f} M parameters, {counter.get_total_flops() / 2 / SIDE**2 / 1000:.3f} kMACs per pixel")


if __name__ == "__main__":
    main()
