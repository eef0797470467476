"""Archives as data sets for PyTorch: what `hpcm archive` has made, in a folder or a bucket.

    from torch.utils.data import DataLoader
    from hpcm.archive import Pictures

    pictures = Pictures("s3://bucket/small", crop=(256, 256))  # map-style: pictures[7] is uint8 [3, 256, 256]
    DataLoader(pictures, batch_size=16, shuffle=True, num_workers=8)
    DataLoader(pictures.stream(), batch_size=16, num_workers=8)  # iterable: shard after shard

The manifest of the archive is the index: no shard is scanned. With `crop` only the tiles that a region touches are
decoded. Needs PyTorch and pyarrow.
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
from .places import Place
from .shards import pictures_at

COLUMNS = ["output", "offset", "bytes", "width", "height"]
RUN = 100  # loose pictures that a stream shuffles as if they were a shard
BUFFER = 1000  # compressed pictures among which a stream draws the next one
Transform = Callable[[Image.Image], Any]


class Pictures(Dataset[Any]):
    """The pictures of an archive by number, in the order of its files and of the places in them.

    An item is a tensor uint8 [3, H, W], RGB, or what `transform` makes of a Pillow image. Processes that load data may
    be forked or spawned.

    Args:
        url: DST of `hpcm archive`.
        crop: height and width in pixels: a region at a random place, drawn with torch's generator. Pictures that are
            smaller are left out.
        transform: from a Pillow image, of the crop if there is one.
        column: of Parquet, where several hold bytes.
        threads: of the CPU for each picture.

    Raises UsageError where there is no archive; items raise OSError and FormatError.
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
        self.place, self.crop, self.transform = Place(str(url)), crop, transform
        self.column, self.threads = column, threads
        try:
            with self.place.open(MERGED) as file:
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
        return self.decoded(next(pictures_at(self.place, row["output"], [(row["offset"], row["bytes"])], self.column)))

    def decoded(self, data: bytes) -> Any:
        """The item that the bytes of a .hpcm file become."""
        container = unpack(data)
        codec = codec_for(container, threads=self.threads)
        image = codec.decompress(container, box=self._box(container.width, container.height), max_pixels=MAX_ENCODED)
        if self.transform is not None:
            return self.transform(image)
        return torch.from_numpy(rgb_of(image).transpose(2, 0, 1).copy())

    def _box(self, width: int, height: int) -> Box | None:
        if self.crop is None:
            return None
        top = int(torch.randint(height - self.crop[0] + 1, ()))
        left = int(torch.randint(width - self.crop[1] + 1, ()))
        return left, top, left + self.crop[1], top + self.crop[0]

    def stream(self, *, shuffle: bool = True, seed: int = 0) -> Stream:
        """The same pictures shard after shard, which suits buckets and Parquet."""
        return Stream(self, shuffle, seed)


class Stream(IterableDataset[Any]):
    """Pictures shard by shard. Processes of a DataLoader and ranks of torch.distributed take shards in turn.

    Shuffled, the order of the shards is another in each epoch, and items are drawn from BUFFER compressed pictures.
    """

    def __init__(self, pictures: Pictures, shuffle: bool, seed: int) -> None:
        self.pictures, self.shuffle, self.seed, self.epoch = pictures, shuffle, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Before each epoch, where processes don't persist; without it every epoch has the same order."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        chance = random.Random(f"{self.seed} {self.epoch}")
        runs = self._runs()
        if self.shuffle:
            chance.shuffle(runs)
        number, count = _turn()
        waiting: list[bytes] = []
        for data in self._read(runs[number::count]):
            waiting.append(data)
            if not self.shuffle or len(waiting) == BUFFER:
                yield self._drawn(waiting, chance)
        while waiting:
            yield self._drawn(waiting, chance)

    def _drawn(self, waiting: list[bytes], chance: random.Random) -> Any:
        if self.shuffle:
            last = chance.randrange(len(waiting))
            waiting[last], waiting[-1] = waiting[-1], waiting[last]
        return self.pictures.decoded(waiting.pop())

    def _runs(self) -> list[tuple[int, int]]:
        """Where in the index a shard or RUN loose pictures begin and end."""
        index = self.pictures.index
        if not len(index):
            return []
        outputs = index["output"].combine_chunks()
        changes = pc.indices_nonzero(pc.not_equal(outputs[1:], outputs[:-1])).to_numpy() + 1
        begins = [0, *changes.tolist()]
        begins = list(range(0, len(index), RUN)) if len(begins) == len(index) else begins
        return list(zip(begins, [*begins[1:], len(index)], strict=True))

    def _read(self, runs: list[tuple[int, int]]) -> Iterator[bytes]:
        for begin, end in runs:
            by_file: dict[str, list[tuple[int, int]]] = {}
            for row in self.pictures.index.slice(begin, end - begin).to_pylist():
                by_file.setdefault(row["output"], []).append((row["offset"], row["bytes"]))
            for key, wanted in by_file.items():
                yield from pictures_at(self.pictures.place, key, wanted, self.pictures.column)


def _turn() -> tuple[int, int]:
    """This process's number among all that load data, and how many there are."""
    worker, distributed = get_worker_info(), torch.distributed
    number, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
    if distributed.is_available() and distributed.is_initialized():
        number += distributed.get_rank() * count
        count *= distributed.get_world_size()
    return number, count
