"""What transforms in 16 bits, as a GPU computes them, cost in rate and quality: simulated on the CPU.

    python benchmarks/half.py PICTURES [MODEL...] [--levels L...] [--types T...] [--limit N]

Weights and the result of each operation of g_a, h_a and g_s are rounded to the type, and sums are float32, as in a
GPU's libraries. Latents, symbols, bytes and pixels are compared with those of exact transforms: the size of all files,
PSNR, on average and of the picture that loses most, and the largest difference of a sample where both decode the same
latents, with the share of those over 1. "largest" is the greatest magnitude of an activation or a sum; float16 holds up
to 65,504. Prints a table.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from common import heading, pictures_of
from torch import Tensor, nn

import hpcm
from hpcm.codec.engine import Engine
from hpcm.eval.metrics import psnr
from hpcm.model.config import Config
from hpcm.model.tables import make_tables
from hpcm.nn.arrays import array_of, tensor_of
from hpcm.nn.engine import TorchEngine
from hpcm.nn.exact.half import PlainConvolution, use_plain_transforms
from hpcm.nn.hpcm import HPCM
from hpcm.nn.layers import PConvRB
from hpcm.nn.weights import load_model

MODELS = ("nano", "lite", "lite-mse")
LEVELS = (8, 32, 63)
TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
CPU = torch.device("cpu")


class Largest:
    """The greatest magnitude that was seen."""

    def __init__(self) -> None:
        self.value = 0.0

    def see(self, x: Tensor) -> None:
        self.value = max(self.value, float(x.abs().max()))


def simulated(model: HPCM, dtype: torch.dtype, largest: Largest) -> HPCM:
    """The model with plain transforms, each of whose operations rounds to `dtype`."""
    use_plain_transforms(model, torch.float32)
    for _, network in model.transforms():
        network.register_forward_pre_hook(lambda _, inputs: (rounded(inputs[0], dtype, largest),))
        for module in network.modules():
            if isinstance(module, PlainConvolution):
                module.weight, module.largest = (x.to(dtype).float() for x in (module.weight, module.largest))
                bias = module.bias.to(dtype).float()[:, None, None]
                module.bias = None  # added after the sum was rounded, an operation of its own
                module.register_forward_hook(partial(add_bias, dtype, largest, bias))
            elif isinstance(module, nn.LeakyReLU | PConvRB):
                module.register_forward_hook(lambda _, inputs, output: rounded(output, dtype, largest))
    return model


def add_bias(
    dtype: torch.dtype, largest: Largest, bias: Tensor, _: nn.Module, inputs: tuple[Tensor, ...], sums: Tensor
) -> Tensor:
    return rounded(rounded(sums, dtype, largest) + bias, dtype, largest)


def rounded(x: Tensor, dtype: torch.dtype, largest: Largest) -> Tensor:
    largest.see(x)
    return x.to(dtype).float()


def padded_size(pixels: np.ndarray, config: Config) -> tuple[int, int]:
    """Rows and columns of the tile."""
    height, width = (-(-side // config.multiple) * config.multiple for side in pixels.shape[:2])
    return height, width


class Coded(NamedTuple):
    """A picture at a level."""

    size: int  # bytes
    y_hat: np.ndarray
    decoded: np.ndarray
    psnr: float  # dB


class Difference(NamedTuple):
    """What other transforms change about a picture at a level."""

    before: int  # bytes
    after: int
    gain: float  # dB
    pixel: int  # the largest difference of a sample where both decode the same latents
    over_one: float  # the share of samples that differ by more than 1


def coded(exact: Engine, transforms: Engine, pixels: np.ndarray, level: int) -> Coded:
    """Transforms of one engine, and symbols of the exact one."""
    y = transforms.analyse(pixels, 255, padded_size(pixels, exact.config))
    z = None
    if isinstance(transforms, TorchEngine):
        z = array_of(transforms.model.hyper_analyse(tensor_of(y, CPU)))
    encoded = exact.encode(y, level, z=z)
    decoded = decode(transforms, encoded.y_hat, pixels)
    return Coded(sum(map(len, encoded.parts)), encoded.y_hat, decoded, psnr(pixels, decoded))


def decode(transforms: Engine, y_hat: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Of the size of `pixels`."""
    height, width = pixels.shape[:2]
    return transforms.synthesise(y_hat, 8, False, (0, 0, width, height))


def difference(before: Coded, exact: Engine, other: Engine, pixels: np.ndarray, level: int) -> Difference:
    after = coded(exact, other, pixels, level)
    off = np.abs(decode(other, before.y_hat, pixels).astype(int) - before.decoded)
    return Difference(before.size, after.size, after.psnr - before.psnr, int(off.max()), float((off > 1).mean()))


@torch.no_grad()
def compare(name: str, pictures: list[np.ndarray], levels: Sequence[int], types: Sequence[str]) -> None:
    """Prints the rows of a model."""
    codec = hpcm.load(name, threads=1)
    seen = {kind: Largest() for kind in types}
    engines = {
        kind: TorchEngine(simulated(load_model(codec.weights).model, TYPES[kind], seen[kind]), make_tables())
        for kind in types
    }
    differences: dict[tuple[int, str], list[Difference]] = {(level, kind): [] for level in levels for kind in types}
    for pixels in pictures:
        for level in levels:
            before = coded(codec.engine, codec.engine, pixels, level)
            for kind, engine in engines.items():
                differences[level, kind].append(difference(before, codec.engine, engine, pixels, level))
    for (level, kind), of_pictures in differences.items():
        columns = Difference(*np.array(of_pictures).T)
        change = 100 * (columns.after.sum() / columns.before.sum() - 1)
        print(
            f"| {name} | {level} | {kind} | {change:+.3f}% | {columns.gain.mean():+.4f} dB | "
            f"{columns.gain.min():+.4f} dB | {columns.pixel.max():.0f} | {columns.over_one.mean():.1e} | "
            f"{seen[kind].value:.0f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--levels", type=int, nargs="+", default=LEVELS)
    parser.add_argument("--types", choices=TYPES, nargs="+", default=[*TYPES])
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pictures = [np.asarray(picture) for picture in pictures_of(options.pictures, options.limit)]
    print(f"{heading(1, 'torch')}, {len(pictures)} pictures\n")
    print("| model | level | type | bytes | PSNR | PSNR, worst | largest pixel | over 1 | largest |")
    print("|---|--:|---|--:|--:|--:|--:|--:|--:|")
    for name in options.models:
        compare(name, pictures, options.levels, options.types)


if __name__ == "__main__":
    main()
