"""Pictures in a GPU's memory, for train_gpu.py: pools that a CUDA graph reads, filled from archives as they come."""

import io
import math
import tarfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from hpcm.image.picture import rgb_of

LARGER = 1.5  # times the side of a crop: of crops that are reduced
SMALLEST = 384  # pixels, of pictures
PICTURES = 4096  # room in a pool's tables
HELD_OUT, HELD_SIDE = 16, 448  # photographs that are judged and not trained on; pixels of their middles


class Pool:
    """Pictures of one kind. Memory and tables have a fixed place, so that a CUDA graph can read what comes later."""

    def __init__(self, device: torch.device, pixels: int, crop: int) -> None:
        self.device, self.crop, self.used = device, crop, 0
        self.pixels = torch.zeros(pixels, 3, dtype=torch.uint8, device=device)
        self.start, self.height, self.width = torch.zeros(3, PICTURES, dtype=torch.int64, device=device)
        self.ends = torch.full((PICTURES,), math.inf, dtype=torch.float64, device=device)  # cumulative areas
        self.area = torch.zeros((), dtype=torch.float64, device=device)
        self.rows: list[tuple[int, int, int]] = []

    def put(self, picture: np.ndarray) -> None:
        """uint8 [h, w, 3]; without effect where there is no room, or where it is too small."""
        height, width, _ = picture.shape
        end = self.used + height * width
        if end > len(self.pixels) or len(self.rows) == PICTURES or min(height, width) < SMALLEST:
            return
        self.pixels[self.used : end] = torch.from_numpy(picture.reshape(-1, 3)).to(self.device)
        self.rows.append((self.used, height, width))
        self.used = end

    def publish(self) -> None:
        """Crops are cut from all pictures so far."""
        rows = torch.tensor(self.rows, dtype=torch.int64, device=self.device)
        count = len(rows)
        self.start[:count], self.height[:count], self.width[:count] = rows.unbind(1)
        self.ends[:count] = (rows[:, 1] * rows[:, 2]).double().cumsum(0)
        self.area.copy_(self.ends[count - 1])

    def cut(self, count: int, side: int) -> Tensor:
        """Float32 [count, 3, crop, crop] in 0..1, mirrored half of the time."""
        dice = torch.rand(4, count, dtype=torch.float64, device=self.device)
        which = torch.searchsorted(self.ends, dice[0] * self.area, right=True)
        height, width = self.height[which], self.width[which]
        top, left = ((d * (size - side + 1)).long() for d, size in zip(dice[1:3], (height, width), strict=True))
        first = (self.start[which] + top * width + left)[:, None, None]
        places = torch.arange(side, device=self.device)
        column = torch.where((dice[3] < 0.5)[:, None, None], side - 1 - places, places)
        index = first + places[:, None] * width[:, None, None] + column
        crops = self.pixels.index_select(0, index.reshape(-1)).view(count, side, side, 3).permute(0, 3, 1, 2)
        if side == self.crop:
            return crops.float() / 255
        return F.interpolate(crops.float() / 255, (self.crop, self.crop), mode="bicubic", antialias=True).clamp(0, 1)


class Feed:
    """The archives of a folder, read into a pool as they come."""

    def __init__(self, folder: Path, pool: Pool, held: list[np.ndarray] | None = None) -> None:
        self.folder, self.pool, self.held = folder, pool, held
        self.seen: set[Path] = set()
        self.fresh = False

    def look(self) -> None:
        for archive in sorted(set(self.folder.rglob("*.tar")) - self.seen):
            self.seen.add(archive)
            for number, picture in enumerate(_pictures(archive)):
                if self.held is not None and len(self.held) < HELD_OUT and number % 10 == 0:
                    self.held += _middle(picture)
                else:
                    self.pool.put(picture)
            self.fresh = True
        self.held = None  # only of what is there at the beginning

    def go_on(self) -> None:
        while True:
            time.sleep(1)
            try:
                self.look()
            except Exception:  # a damaged archive is no reason to stop training
                traceback.print_exc()


def _pictures(archive: Path) -> Iterator[np.ndarray]:
    with tarfile.open(archive) as file:
        blobs = [file.extractfile(member).read() for member in file if member.isfile()]

    def decode(blob: bytes) -> np.ndarray | None:
        try:
            return rgb_of(Image.open(io.BytesIO(blob)))
        except Exception:  # no picture, or a damaged one
            return None

    with ThreadPoolExecutor() as threads:
        yield from (picture for picture in threads.map(decode, blobs) if picture is not None)


def _middle(picture: np.ndarray) -> list[np.ndarray]:
    """A square of a picture, if it is large enough."""
    top, left = ((size - HELD_SIDE) // 2 for size in picture.shape[:2])
    return [] if min(top, left) < 0 else [picture[top : top + HELD_SIDE, left : left + HELD_SIDE].copy()]
