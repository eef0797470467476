"""A training loop of one's own: the synthesis of a model learns another loss; then it is saved, made exact and used.

    python examples/own_loop.py PICTURE... -o FOLDER [--steps N] [--model NAME]

It writes FOLDER/own.safetensors, the model in floating point, FOLDER/own-exact.safetensors, whose files open everywhere
and which reads the files of the model that it began with, and FOLDER/own.hpcm, the first picture. `hpcm train` does the
same with data of any size, averages of the weights, checkpoints and several GPUs (docs/training.md).
"""

import argparse
from pathlib import Path

import torch

import hpcm
from hpcm.eval.measure import read_pixels

CROP, BATCH, RATE = 128, 4, 1e-4


def crops(pictures: list[torch.Tensor], random: torch.Generator) -> torch.Tensor:
    """BATCH crops of random places, [B, 3, CROP, CROP] in 0..1."""
    drawn = []
    for _ in range(BATCH):
        picture = pictures[int(torch.randint(len(pictures), (), generator=random))]
        top, left = (int(torch.randint(side - CROP + 1, (), generator=random)) for side in picture.shape[1:])
        drawn.append(picture[:, top : top + CROP, left : left + CROP])
    return torch.stack(drawn)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path, help=f"of at least {CROP} x {CROP} pixels")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--model", default="nano", help="that it begins with")
    options = parser.parse_args()
    arrays = [read_pixels(path) for path in options.pictures]
    pictures = [torch.tensor(array).permute(2, 0, 1).float() / 255 for array in arrays]
    random = torch.Generator().manual_seed(0)
    options.output.mkdir(parents=True, exist_ok=True)

    model = hpcm.load_model(options.model)  # in floating point; hpcm.HPCM(config) is a new one
    model.requires_grad_(False)
    model.g_s.requires_grad_(True)
    adam = torch.optim.Adam(model.g_s.parameters(), RATE)
    for step in range(options.steps):
        x = crops(pictures, random)
        level = torch.rand(BATCH, generator=random) * (model.config.levels - 1)  # of each picture
        out = model(x, level)
        bpp = sum(-p.log2().sum((1, 2, 3)) for p in out["likelihoods"].values()) / CROP**2
        distortion = 255 * (out["x_hat"] - x).abs().mean((1, 2, 3))  # any loss; here the mean absolute error
        loss = (model.config.lambda_of(level) * distortion + bpp).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        print(f"step {step + 1}: loss {float(loss.detach()):.4f}, {float(bpp.mean()):.4f} bpp")

    hpcm.save_model(model, options.output / "own.safetensors", name="own-1")
    exact = options.output / "own-exact.safetensors"
    hpcm.save_exact(model, exact, options.pictures, name="own-1", synthesis_of=options.model)
    data = hpcm.compress(options.pictures[0], model=exact, quality=50)
    (options.output / "own.hpcm").write_bytes(data)
    print(f"{options.pictures[0]} -> {options.output / 'own.hpcm'}: {len(data):,} bytes")


if __name__ == "__main__":
    main()
