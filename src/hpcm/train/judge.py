"""How good a run's saved weights are, on real files: held-out pictures through the codec and back."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..codec import load
from ..metrics import psnr

QUALITIES = (13, 38, 63, 88)  # of a model with several levels
SHOWN = 4  # pictures in the grid
SHOWN_SIDE = 256  # pixels of each

Row = dict[str, float]  # quality, bits per pixel, PSNR in dB: means over the pictures


def judge(weights: Path, pictures: Sequence[np.ndarray], device: str = "cpu") -> tuple[list[Row], np.ndarray]:
    """Rate and quality of pictures, uint8 [h, w, 3], and a grid of some: a row each, the original first."""
    codec = load(weights, device)
    qualities = QUALITIES if codec.levels > 1 else (50,)
    rows: list[Row] = []
    columns = [[_shown(picture) for picture in pictures[:SHOWN]]]
    for quality in qualities:
        bpp: list[float] = []
        decibels: list[float] = []
        shown: list[np.ndarray] = []
        for picture in pictures:
            data = codec.compress(Image.fromarray(picture), quality=quality)
            decoded = np.array(codec.decompress(data))
            bpp.append(8 * len(data) / (picture.shape[0] * picture.shape[1]))
            decibels.append(psnr(picture, decoded))
            if len(shown) < SHOWN:
                shown.append(_shown(decoded))
        means = {"bpp": round(float(np.mean(bpp)), 4), "psnr": round(float(np.mean(decibels)), 3)}
        rows.append({"quality": quality, **means})
        columns.append(shown)
    return rows, np.concatenate([np.concatenate(column) for column in columns], 1)


def _shown(picture: np.ndarray) -> np.ndarray:
    """The upper left corner, with grey where the picture is smaller."""
    shown = np.full((SHOWN_SIDE, SHOWN_SIDE, 3), 128, np.uint8)
    corner = picture[:SHOWN_SIDE, :SHOWN_SIDE]
    shown[: corner.shape[0], : corner.shape[1]] = corner
    return shown


def png(grid: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(grid).save(file, "PNG")
    return file.getvalue()
