"""Photographs for training: folders and tar shards, held in memory as uint8, cropped at random.

A million pixels takes 3 MB; a thousand photographs of 768 x 512 take 1.2 GB.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import PictureError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".avif", ".ppm", ".bmp", ".tif", ".tiff"}


def _blobs(sources: Iterable[Path]) -> Iterator[bytes]:
    """The bytes of every picture file in folders (searched recursively), tar archives and single files, sorted."""
    for source in sources:
        if source.is_dir():
            for path in sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES or p.suffix == ".tar"):
                yield from _blobs([path])
        elif source.suffix == ".tar":
            with tarfile.open(source) as archive:
                for member in sorted(archive.getmembers(), key=lambda m: m.name):
                    file = archive.extractfile(member) if Path(member.name).suffix.lower() in SUFFIXES else None
                    if file is not None:
                        yield file.read()
        else:
            yield source.read_bytes()


class Photographs:
    """All pictures of the sources with both sides at least `smallest`, as uint8 arrays [H, W, 3].

    `skipped` counts files that couldn't be read or are too small. Raises PictureError when nothing is left.
    """

    def __init__(self, sources: Iterable[str | Path], smallest: int) -> None:
        self.pictures: list[np.ndarray] = []
        self.skipped = 0
        for blob in _blobs(Path(s) for s in sources):
            try:
                picture = np.array(Image.open(io.BytesIO(blob)).convert("RGB"))
            except (OSError, ValueError, Image.DecompressionBombError):
                self.skipped += 1
                continue
            if min(picture.shape[:2]) < smallest:
                self.skipped += 1
            else:
                self.pictures.append(picture)
        if not self.pictures:
            raise PictureError(f"no picture of at least {smallest} x {smallest} pixels found; skipped {self.skipped}")
        pixels = np.array([p.shape[0] * p.shape[1] for p in self.pictures], float)
        self.chances = pixels / pixels.sum()

    def crops(self, count: int, size: int, rng: np.random.Generator) -> Tensor:
        """Random crops, flipped left-right half of the time: float32 [count, 3, size, size] in 0..1, channels-last."""
        batch = np.empty((count, size, size, 3), np.uint8)
        for k, index in enumerate(rng.choice(len(self.pictures), count, p=self.chances)):
            picture = self.pictures[index]
            top = rng.integers(picture.shape[0] - size + 1)
            left = rng.integers(picture.shape[1] - size + 1)
            crop = picture[top : top + size, left : left + size]
            batch[k] = crop[:, ::-1] if rng.random() < 0.5 else crop
        return torch.from_numpy(batch).permute(0, 3, 1, 2).float().div_(255)

    def hold_out(self, count: int) -> list[Tensor]:
        """Takes `count` evenly spread pictures away and returns centre crops [1, 3, h, w] (sides multiples of 256)."""
        places = np.unique(np.linspace(0, len(self.pictures) - 1, count).astype(int))
        if len(self.pictures) < 4 * len(places):
            return []
        taken = []
        for place in places[::-1]:
            picture = self.pictures.pop(place)
            height, width = (min(side // 256 * 256, 512) for side in picture.shape[:2])
            top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
            crop = torch.from_numpy(picture[top : top + height, left : left + width].copy())
            taken.append(crop.permute(2, 0, 1)[None].float().div_(255))
        pixels = np.array([p.shape[0] * p.shape[1] for p in self.pictures], float)
        self.chances = pixels / pixels.sum()
        return taken
