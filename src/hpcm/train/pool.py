"""Decoded pictures in one stretch of memory, and crops cut out of it by indexing: the same code on every device.

Shapes: the pixels of all pictures one after another, uint8 [pixels, 3]; a crop's pixel (i, j) lies at
start + (top + i) * width + left + j.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import PictureError

DEVICE_SHARE = 0.5  # of an accelerator's free memory, that pictures may take


class Decodable(Protocol):
    """An entry of the index of files."""

    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def source(self) -> int: ...
    def decode(self) -> np.ndarray: ...


Picture = TypeVar("Picture", bound=Decodable)


@dataclass(frozen=True)
class Draw:
    """Crops: the pixel at which each begins, its picture's width, whether it is mirrored; their common side."""

    pool: Pool
    first: np.ndarray  # int64 [n]
    width: np.ndarray  # int64 [n]
    mirrored: np.ndarray  # bool [n]
    side: int  # before they are scaled to `crop`
    crop: int

    def cut(self, part: slice = slice(None)) -> Tensor:
        """Float32 [n, 3, crop, crop] in 0..1, channels-last, where the pool is."""
        pixels = self.pool.pixels
        table = np.stack((self.first, self.width, self.mirrored))[:, part]
        first, width, mirrored = torch.from_numpy(table).to(pixels.device)[:, :, None, None]  # each [n, 1, 1]
        row = torch.arange(self.side, device=pixels.device)[:, None]
        column = torch.arange(self.side, device=pixels.device)[None]
        column = torch.where(mirrored > 0, self.side - 1 - column, column)
        index = first + row * width + column  # [n, side, side]
        crops = pixels.index_select(0, index.reshape(-1)).reshape(*index.shape, 3).permute(0, 3, 1, 2).float()
        crops = crops.div_(255)
        if self.side == self.crop:
            return crops
        size = (self.crop, self.crop)
        return F.interpolate(crops, size, mode="bicubic", antialias=True).clamp_(0, 1)


@dataclass(frozen=True)
class Pool:
    """Pictures: their pixels uint8 [pixels, 3]; of each where it begins, rows, columns and source, int64 [n].

    `mix` is the share of crops of each source; by default that of its area. Within a source every pixel is as likely as
    any other.
    """

    pixels: Tensor
    starts: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    sources: np.ndarray
    mix: tuple[float, ...] = ()

    @classmethod
    def decode(
        cls, entries: Sequence[Picture], mix: Sequence[float] = ()
    ) -> tuple[Pool, list[tuple[Picture, Exception]]]:
        """Decodes pictures, with as many threads as torch uses; also returns those that can't be decoded, and why.

        Raises PictureError when no picture is left.
        """
        heights, widths = (np.array([entry[k] for entry in _sizes(entries)], np.int64) for k in range(2))
        ends = np.cumsum(heights * widths)
        starts = ends - heights * widths
        pixels = torch.empty(int(ends[-1]), 3, dtype=torch.uint8)

        def fill(k: int) -> Exception | None:
            try:
                pixels[starts[k] : ends[k]] = torch.from_numpy(entries[k].decode()).reshape(-1, 3)
            except Exception as error:  # Pillow has many parsers, and a damaged file may raise anything in them
                return error
            return None

        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            errors = list(threads.map(fill, range(len(entries))))
        sound = np.array([error is None for error in errors], bool)
        if not sound.any():
            raise PictureError(f"none of {len(entries)} pictures can be decoded")
        bad = [(entry, error) for entry, error in zip(entries, errors, strict=True) if error is not None]
        sources = np.array([entry.source for entry in entries])[sound]
        return cls(pixels, starts[sound], heights[sound], widths[sound], sources, tuple(mix)), bad

    @cached_property
    def chances(self) -> np.ndarray:
        """How often crops are cut from each picture, in any unit, [n]."""
        areas = (self.heights * self.widths).astype(float)
        for source, share in enumerate(self.mix):
            areas[self.sources == source] *= share / max(areas[self.sources == source].sum(), 1)
        return areas

    def with_others(self, more: Pool) -> Pool:
        """The pictures of both, in the CPU's memory."""
        first, second = self.pixels.cpu(), more.pixels.cpu()
        return Pool(
            torch.cat((first, second)),
            np.concatenate((self.starts, more.starts + len(first))),
            np.concatenate((self.heights, more.heights)),
            np.concatenate((self.widths, more.widths)),
            np.concatenate((self.sources, more.sources)),
            self.mix,
        )

    def near(self, device: torch.device) -> Pool:
        """The pool in the device's memory where that has room enough, else as it is."""
        if device.type != "cuda":
            return self
        free, _ = torch.cuda.mem_get_info(device)
        if self.pixels.numel() > DEVICE_SHARE * free:
            return self
        return replace(self, pixels=self.pixels.to(device))

    def draw(self, rng: np.random.Generator, count: int, crop: int, downscale: float = 1.0) -> Draw:
        """Random crops from pictures drawn by their chances, mirrored half of the time.

        They are cut at 1 to 1 / `downscale` times their size, by the same random factor, and scaled down.
        """
        chances = np.cumsum(self.chances)
        which = np.searchsorted(chances, rng.random(count) * chances[-1], side="right")
        heights, widths = self.heights[which], self.widths[which]
        side = round(crop * rng.uniform(1, 1 / downscale)) if downscale < 1 else crop
        side = int(min(side, heights.min(), widths.min()))
        top, left = rng.integers(heights - side + 1), rng.integers(widths - side + 1)
        mirrored = rng.random(count) < 0.5
        return Draw(self, self.starts[which] + top * widths + left, widths, mirrored, side, crop)


def _sizes(entries: Sequence[Decodable]) -> list[tuple[int, int]]:
    return [(entry.height, entry.width) for entry in entries]
