"""Photographs -> an exact model, as a weights file: how `hpcm exact` and `hpcm models --get` make one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..codec.pixels import cropped
from ..codec.tiles import extent
from ..errors import PictureError, UsageError
from ..image.read import read_picture
from ..model.file import describe
from ..nn.arrays import picture_tensor
from ..nn.exact.make_exact import carrier_for, make_exact
from ..nn.hpcm import HPCM
from ..nn.rate import bits
from ..nn.weights import load_model, save

SIDE = 512  # pixels of the crops that a model is calibrated on, at most
LEVELS = 4  # quality levels of each crop

Batches = list[tuple[Tensor, Tensor]]  # pictures x [1, 3, H, W] and their levels [1]


def batches_of(model: HPCM, photos: Sequence[str | Path]) -> Batches:
    """Crops of photographs, each at LEVELS quality levels of the model. Raises OSError, PictureError, UsageError."""
    if not photos:
        raise UsageError("there are no pictures to calibrate on: a dozen are enough")
    config = model.config
    levels = torch.linspace(0, config.levels - 1, LEVELS if config.levels > 1 else 1)
    batches: Batches = []
    for name in photos:
        picture = read_picture(Path(name).read_bytes())
        sides = [min(side, SIDE) // config.multiple * config.multiple for side in picture.size]
        if min(sides) == 0:
            raise PictureError(f"{name} is smaller than {config.multiple} pixels, too small to calibrate on")
        top, left = ((whole - side) // 2 for whole, side in zip(picture.size, sides, strict=True))
        box = (left, top, left + sides[1], top + sides[0])
        x = picture_tensor(cropped(picture, box), picture.peak, extent(box), model.device)
        batches += [(x, level[None]) for level in levels]
    return batches


def exact_of(model: HPCM, batches: Batches, carrier: str | None = None, symbols_of: HPCM | None = None) -> HPCM:
    """A trained model made exact, with the sums that suit it unless others are named; as `make_exact`.

    Raises WeightsError.
    """
    if symbols_of is not None:
        carrier = symbols_of.config.carrier
    return make_exact(model, batches, carrier or carrier_for(model.config), symbols_of)


def save_exact(exact: HPCM, output: Path, provenance: dict[str, Any], photos: int, name: str) -> None:
    """Writes an exact model, whole or not at all.

    Raises WeightsError where what was written can't be loaded.
    """
    made = {"exact": exact.config.carrier, "transforms": exact.config.transforms, "calibrated on": f"{photos} pictures"}
    save(exact, output, {**provenance, **made}, name=name)
    load_model(describe(output))  # checks the bound, and runs the probe


@torch.no_grad()
def rate(model: HPCM, batches: Batches) -> float:
    """Estimated bits per pixel."""
    total, pixels = 0.0, 0
    for x, level in batches:
        likelihoods = model(x, level)["likelihoods"]
        total += float(bits(likelihoods["y"]) + bits(likelihoods["z"]))
        pixels += x.shape[2] * x.shape[3]
    return total / pixels
