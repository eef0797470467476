"""What transforms in 16 bits, as a GPU computes them, cost in rate and quality: simulated on the CPU.

    python benchmarks/half.py PICTURES [MODEL...] [--levels L...] [--limit N]

Weights and the result of each operation of g_a, h_a and g_s are rounded to the type, and sums are float32, as in a
GPU's libraries. Latents, symbols, bytes and pixels are compared with those of exact transforms: the size of all files,
PSNR, and the largest difference of a pixel where both decode the same latents. "largest" is the greatest magnitude of
an activation or a sum; float16 holds up to 65,504. Prints a table.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import heading, pictures_of
from torch import Tensor, nn

import hpcm
from hpcm.eval.metrics import psnr
from hpcm.model.config import Config
from hpcm.model.tables import make_tables
from hpcm.nn.engine import TorchEngine, array_of, tensor_of
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
                module.weight = module.weight.to(dtype).float()
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--levels", type=int, nargs="+", default=LEVELS)
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pictures = [np.asarray(picture) for picture in pictures_of(options.pictures, options.limit)]
    print(f"{heading(1, 'torch')}, {len(pictures)} pictures\n")
    print("| model | level | type | bytes | PSNR | least PSNR | largest pixel | over 1 | largest |")
    print("|---|--:|---|--:|--:|--:|--:|--:|--:|")
    for name in options.models:
        compare(name, pictures, options.levels)


@torch.no_grad()
def compare(name: str, pictures: list[np.ndarray], levels: list[int]) -> None:
    """Prints the rows of a model."""
    codec = hpcm.load(name, threads=1)
    exact = codec.engine
    seen = {kind: Largest() for kind in TYPES}
    models = {kind: simulated(load_model(codec.weights).model, dtype, seen[kind]) for kind, dtype in TYPES.items()}
    # [bytes, PSNR] of exact transforms and of each type; the largest difference of pixels and the share over 1
    measured = np.zeros((len(levels), len(pictures), 1 + len(TYPES), 2))
    pixels_off = np.zeros((len(levels), len(pictures), len(TYPES), 2))
    for j, pixels in enumerate(pictures):
        size = padded_size(pixels, exact.config)
        crop = (0, 0, pixels.shape[1], pixels.shape[0])
        y = exact.analyse(pixels, 255, size)
        engines = [TorchEngine(model, make_tables()) for model in models.values()]
        latents = [engine.analyse(pixels, 255, size) for engine in engines]
        hypers = [
            array_of(engine.model.hyper_analyse(tensor_of(latent, CPU)))
            for engine, latent in zip(engines, latents, strict=True)
        ]
        for i, level in enumerate(levels):
            coded = exact.encode(y, level)
            decoded = exact.synthesise(coded.y_hat, 8, False, crop)
            measured[i, j, 0] = sum(map(len, coded.parts)), psnr(pixels, decoded)
            for k, engine in enumerate(engines):
                own = exact.encode(latents[k], level, z=hypers[k])
                measured[i, j, k + 1] = (
                    sum(map(len, own.parts)),
                    psnr(pixels, engine.synthesise(own.y_hat, 8, False, crop)),
                )
                same = engine.synthesise(coded.y_hat, 8, False, crop)
                off = np.abs(same.astype(int) - decoded)
                pixels_off[i, j, k] = off.max(), (off > 1).mean()
    for i, level in enumerate(levels):
        for k, kind in enumerate(TYPES):
            bytes_, quality = measured[i, :, k + 1].T
            first_bytes, first_quality = measured[i, :, 0].T
            gain = quality - first_quality
            print(
                f"| {name} | {level} | {kind} | {100 * (bytes_.sum() / first_bytes.sum() - 1):+.3f}% | "
                f"{gain.mean():+.4f} dB | {gain.min():+.4f} dB | {pixels_off[i, :, k, 0].max():.0f} | "
                f"{pixels_off[i, :, k, 1].mean():.1e} | {seen[kind].value:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
