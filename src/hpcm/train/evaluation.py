"""How good a run's saved weights are, on real files: held-out pictures through the codec and back."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..codec.api import load
from ..codec.codec import Codec
from ..util.metrics import psnr
from ..util.notes import ignore_note

QUALITIES = (11, 31, 50, 70)  # of a model with several levels
SHOWN = 4  # pictures in the grid
SHOWN_SIDE = 256  # pixels of each

Row = dict[str, float]  # quality, bits per pixel, PSNR in dB: means over the pictures


def evaluate(weights: Path, pictures: Sequence[np.ndarray], device: str = "cpu") -> tuple[list[Row], np.ndarray]:
    """Rate and quality of pictures, uint8 [h, w, 3], and a grid of some: a row each, the original first."""
    codec = load(weights, device)
    rows: list[Row] = []
    columns = [[_shown(picture) for picture in pictures[:SHOWN]]]
    for quality in QUALITIES if codec.lossy_levels > 1 else (50,):
        files, decoded = _there_and_back(codec, pictures, quality)
        bpp = [8 * size / (picture.shape[0] * picture.shape[1]) for size, picture in zip(files, pictures, strict=True)]
        decibels = [psnr(*pair) for pair in zip(pictures, decoded, strict=True)]
        means = {"bpp": round(float(np.mean(bpp)), 4), "psnr": round(float(np.mean(decibels)), 3)}
        rows.append({"quality": quality, **means})
        columns.append([_shown(picture) for picture in decoded[:SHOWN]])
    return rows, np.concatenate([np.concatenate(column) for column in columns], 1)


def _there_and_back(codec: Codec, pictures: Sequence[np.ndarray], quality: int) -> tuple[list[int], list[np.ndarray]]:
    """The sizes of the pictures' files in bytes, and what they are decoded to.

    Notes are ignored: that the model isn't exact is no fault of a model in training.
    """
    images = map(Image.fromarray, pictures)
    files = [codec.compress(image, quality=quality, on_note=ignore_note) for image in images]
    return [len(data) for data in files], [np.array(codec.decompress(data)) for data in files]


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
