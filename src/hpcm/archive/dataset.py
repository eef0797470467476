"""Archives of `hpcm archive` as PyTorch data sets.

    from torch.utils.data import DataLoader
    from hpcm.archive import Pictures

    pictures = Pictures("s3://bucket/small", crop=(256, 256))  # map-style: pictures[7] is uint8 [3, 256, 256]
    DataLoader(pictures, batch_size=16, shuffle=True, num_workers=8)
    DataLoader(pictures.stream(), batch_size=16, num_workers=8)  # iterable: shard after shard

The archive's manifest is the index: no shard is scanned. With `crop`, only the tiles that a region touches are decoded.
Needs PyTorch and pyarrow.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from ..codec.api import codec_for
from ..errors import UsageError
from ..format.container import unpack
from ..format.fields import MAX_ENCODED, Box
from ..image.picture import rgb_of
from .manifest import MERGED
from .shards import read_pictures
from .store import Store

COLUMNS = ["output", "offset", "bytes", "width", "height"]
LOOSE_GROUP = 100  # loose pictures that a stream treats as one shard
SHUFFLE_BUFFER = 1000  # compressed pictures among which a stream draws the next one
Transform = Callable[[Image.Image], Any]


class Pictures(Dataset[Any]):
    """The pictures of an archive by number, in the order of its files and of the offsets in them.

    An item is a uint8 tensor [3, H, W], RGB, or the result of `transform`. Workers of a DataLoader may be forked or
    spawned.

    Args:
        url: DST of `hpcm archive`.
        crop: height and width in pixels of a region, whose position is drawn with torch's generator. Smaller pictures
            are left out.
        transform: is called with a Pillow image, of the region if there is one.
        column: of Parquet, where several hold bytes.
        threads: of the CPU for each picture.

    Raises UsageError where there is no archive; reading items raises OSError and FormatError.
    """

    def __init__(
        self,
        url: str,
        *,
        crop: tuple[int, int] | None = None,
        transform: Transform | None = None,
        column: str | None = None,
        threads: int = 1,
    ) -> None:
        self.store, self.crop, self.transform = Store(str(url)), crop, transform
        self.column, self.threads = column, threads
        try:
            with self.store.open(MERGED) as file:
                index = pq.read_table(file, columns=COLUMNS)
        except FileNotFoundError:
            raise UsageError(f"{url} is no archive: it has no {MERGED}") from None
        height, width = crop or (1, 1)
        large = pc.and_(pc.greater_equal(index["height"], height), pc.greater_equal(index["width"], width))
        index = index.filter(pc.and_(pc.is_valid(index["output"]), large))
        self.index = index.sort_by([("output", "ascending"), ("offset", "ascending")]).combine_chunks()

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> Any:
        if not -len(self) <= number < len(self):
            raise IndexError(f"there are {len(self)} pictures, and no number {number}")
        (row,) = self.index.slice(number % len(self), 1).to_pylist()
        location = row["offset"], row["bytes"]
        return self.decode(next(read_pictures(self.store, row["output"], [location], self.column)))

    def decode(self, data: bytes) -> Any:
        """The bytes of a .hpcm file to an item."""
        container = unpack(data)
        codec = codec_for(container, threads=self.threads)
        box = self._draw_box(container.width, container.height)
        image = codec.decompress(container, box=box, max_pixels=MAX_ENCODED)
        if self.transform is not None:
            return self.transform(image)
        return torch.from_numpy(rgb_of(image).transpose(2, 0, 1).copy())  # [H, W, 3] -> [3, H, W]

    def _draw_box(self, width: int, height: int) -> Box | None:
        if self.crop is None:
            return None
        top = int(torch.randint(height - self.crop[0] + 1, ()))
        left = int(torch.randint(width - self.crop[1] + 1, ()))
        return left, top, left + self.crop[1], top + self.crop[0]

    def stream(self, *, shuffle: bool = True, seed: int = 0) -> Stream:
        """The same pictures shard after shard, which suits buckets and Parquet."""
        return Stream(self, shuffle, seed)


class Stream(IterableDataset[Any]):
    """Pictures shard by shard, divided among the workers of a DataLoader and the ranks of torch.distributed.

    With `shuffle`, the order of the shards depends on the seed and the epoch, and the next item is drawn from a buffer
    of SHUFFLE_BUFFER compressed pictures.
    """

    def __init__(self, pictures: Pictures, shuffle: bool, seed: int) -> None:
        self.pictures, self.shuffle, self.seed, self.epoch = pictures, shuffle, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """To be called before each epoch, unless workers persist; without it all epochs have the same order."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        rng = random.Random(f"{self.seed} {self.epoch}")
        shards = self._shards()
        if self.shuffle:
            rng.shuffle(shards)
        rank, count = _rank_and_count()
        buffer: list[bytes] = []
        for data in self._read(shards[rank::count]):
            buffer.append(data)
            if not self.shuffle or len(buffer) == SHUFFLE_BUFFER:
                yield self._next_item(buffer, rng)
        while buffer:
            yield self._next_item(buffer, rng)

    def _next_item(self, buffer: list[bytes], rng: random.Random) -> Any:
        if self.shuffle:
            drawn = rng.randrange(len(buffer))
            buffer[drawn], buffer[-1] = buffer[-1], buffer[drawn]
        return self.pictures.decode(buffer.pop())

    def _shards(self) -> list[tuple[int, int]]:
        """Begin and end in the index of each shard, or of each group of LOOSE_GROUP loose pictures."""
        index = self.pictures.index
        if not len(index):
            return []
        outputs = index["output"].combine_chunks()
        changes = pc.indices_nonzero(pc.not_equal(outputs[1:], outputs[:-1])).to_numpy() + 1
        begins = [0, *changes.tolist()]
        if len(begins) == len(index):  # each picture is a file
            begins = list(range(0, len(index), LOOSE_GROUP))
        return list(zip(begins, [*begins[1:], len(index)], strict=True))

    def _read(self, shards: list[tuple[int, int]]) -> Iterator[bytes]:
        for begin, end in shards:
            by_file: dict[str, list[tuple[int, int]]] = {}
            for row in self.pictures.index.slice(begin, end - begin).to_pylist():
                by_file.setdefault(row["output"], []).append((row["offset"], row["bytes"]))
            for key, locations in by_file.items():
                yield from read_pictures(self.pictures.store, key, locations, self.pictures.column)


def _rank_and_count() -> tuple[int, int]:
    """The number of this process among all that load data, and how many they are."""
    worker, distributed = get_worker_info(), torch.distributed
    rank, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
    if distributed.is_available() and distributed.is_initialized():
        rank += distributed.get_rank() * count
        count *= distributed.get_world_size()
    return rank, count
