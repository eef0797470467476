"""Photographs for training: folders and tar archives, as an index of files from which pools of pictures are decoded.

    sources --scan--> entries (which file, where in it, how large) --Pool--> pixels in memory --draw, cut--> crops

A set that fits into memory is decoded once. A larger one is read in chapters: a part of the shuffled pictures is
decoded while crops are cut from the part before, CROPS_PER_PICTURE of them for each picture.

Nothing here has a state that a checkpoint would have to hold: which pictures are in a chapter and where the crops of a
step lie are functions of the seed and the number of the step, so a resumed run goes on with the same crops.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from ..errors import PictureError, UsageError
from .index import Entry, Skipped, Source, described, reason, scan
from .pool import Draw, Pool

CROPS_PER_PICTURE = 8  # before the next chapter of a set that doesn't fit into memory
LARGEST_HELD_OUT = 512  # pixels, side of the pictures that are kept for evaluation
SHUFFLE, CROPS = 1, 2  # seed numpy's generators beside the run's seed: each purpose has numbers of its own


class Photographs:
    """All pictures of the sources with both sides at least `smallest`.

    Args:
        mix: the share of crops of each source, in their order; by default a source's share is that of its area.
        memory: bytes for decoded pictures; by default there is no bound.
        device: where crops are wanted. The pictures go there too if they fit.

    `skipped` names the files that are no pictures, damaged or too small, and `others` counts those whose names say that
    they are no pictures. Raises PictureError when nothing is left, or
    nothing of a source that has a share, and UsageError for a mix that doesn't fit the sources.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        smallest: int,
        *,
        mix: Sequence[float] = (),
        seed: int = 0,
        memory: float = math.inf,
        device: torch.device = torch.device("cpu"),  # noqa: B008
    ) -> None:
        index = scan(sources, smallest)
        self.entries, self.unusable, self.others = index.entries, index.skipped, index.others
        self.files = index.identities()
        self.smallest, self.mix, self.seed, self.device = smallest, mix, seed, device
        self.memory = memory
        self.bad: dict[Entry, Skipped] = {}  # turned out damaged when they were decoded
        self.pools: dict[int, Future[Pool]] = {}  # by chapter
        self.loader = ThreadPoolExecutor(1, "chapters")
        if not self.entries:
            raise index.without_pictures(smallest, sources)
        if mix and len(mix) != len(sources):
            raise UsageError(f"--mix has {len(mix)} shares, but there are {len(sources)} sources of pictures")
        present = {entry.source for entry in self.entries}
        if empty := [described(sources[k]) for k in range(len(mix)) if k not in present]:
            raise PictureError(f"no picture of at least {smallest} x {smallest} pixels found in {', '.join(empty)}")

    @property
    def skipped(self) -> list[Skipped]:
        return [*self.unusable, *list(self.bad.values())]

    @property
    def bytes(self) -> int:
        """Of all pictures, decoded."""
        return sum(3 * entry.height * entry.width for entry in self.entries)

    @property
    def chapters(self) -> int:
        """The parts in which the pictures are read: one if all fit into memory, else two parts are held at a time."""
        if self.bytes <= self.memory:
            return 1
        return min(len(self.entries), -(-2 * self.bytes // int(self.memory)))

    def hold_out(self, count: int) -> list[np.ndarray]:
        """Takes `count` evenly spread pictures away and returns their middles, uint8 [h, w, 3]; none of too few."""
        places = np.unique(np.linspace(0, len(self.entries) - 1, count).astype(int))
        if len(self.entries) < 4 * len(places):
            return []
        pictures, skipped = middles([self.entries.pop(place) for place in places[::-1]])
        self.unusable += skipped
        return pictures

    # ---- chapters ---------------------------------------------------------------------------------------------------

    def pool(self, chapter: int) -> Pool:
        """The pictures of a chapter; the next one is decoded meanwhile."""
        chapters = self.chapters
        for near in (chapter, chapter + 1) if chapters > 1 else (chapter,):
            if near not in self.pools:
                self.pools[near] = self.loader.submit(self._load, near, chapters)
        for past in [number for number in self.pools if number < chapter]:
            del self.pools[past]
        return self.pools[chapter].result()

    def _load(self, chapter: int, chapters: int) -> Pool:
        entries = self._part(*divmod(chapter, chapters), chapters) if chapters > 1 else self.entries
        pool, bad = Pool.decode(entries, self.mix)
        self.bad.update({entry: Skipped(entry.name, reason(error)) for entry, error in bad if entry not in self.bad})
        return pool.near(self.device)

    def _part(self, epoch: int, part: int, parts: int) -> list[Entry]:
        """One of the parts of the shuffled pictures; where there is a mix, with pictures of every source."""
        rng = np.random.default_rng((self.seed, SHUFFLE, epoch))
        sources = [[entry for entry in self.entries if entry.source == k] for k in range(len(self.mix))]
        chosen: list[Entry] = []
        for entries in filter(None, sources or [self.entries]):
            order = rng.permutation(len(entries))
            places = np.array_split(order, parts)[part]
            chosen += [entries[place] for place in (places if len(places) else order[[part % len(order)]])]
        return chosen

    def draw(self, step: int, count: int, crop: int, downscale: float = 1.0) -> Draw:
        """Where the `count` crops of a step lie."""
        chapters = self.chapters
        crops_per_chapter = max(1, CROPS_PER_PICTURE * len(self.entries) // chapters)
        pool = self.pool(step * count // crops_per_chapter if chapters > 1 else 0)
        return pool.draw(np.random.default_rng((self.seed, CROPS, step)), count, crop, downscale)

    def close(self) -> None:
        """Stops reading ahead."""
        self.loader.shutdown(cancel_futures=True)


def middles(entries: Iterable[Entry]) -> tuple[list[np.ndarray], list[Skipped]]:
    """The middles of pictures, at most LARGEST_HELD_OUT a side, uint8 [h, w, 3]; and those that are damaged."""
    taken, skipped = [], []
    for entry in entries:
        try:
            picture = entry.decode()
        except Exception as error:  # see Entry.decode
            skipped.append(Skipped(entry.name, reason(error)))
            continue
        height, width = (min(side, LARGEST_HELD_OUT) for side in picture.shape[:2])
        top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
        taken.append(picture[top : top + height, left : left + width].copy())
    return taken, skipped
