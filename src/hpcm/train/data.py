"""Photographs for training: folders and tar archives, as an index of files from which pools of pictures are decoded.

    sources --scan--> entries (which file, where in it, how large) --Pool--> pixels in memory --draw, cut--> crops

A set that fits into memory is decoded once. A larger one is read in chapters: a part of the shuffled pictures is
decoded while crops are cut from the part before, CROPS_PER_PICTURE of them for each picture.

Nothing here has a state that a checkpoint would have to hold: which pictures are in a chapter and where the crops of a
step lie are functions of the seed and the number of the step, so a resumed run goes on with the same crops. (Unless
pictures arrive while a run goes on: see `look_again`.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from ..errors import PictureError, UsageError
from .index import Entry, Identity, Index, Skipped, Source, described, fingerprint, reason, scan
from .pool import Draw, Pool

CROPS_PER_PICTURE = 8  # before the next chapter of a set that doesn't fit into memory
LARGEST_HELD_OUT = 512  # pixels, side of the pictures that are kept for evaluation
SHUFFLE, CROPS = 1, 2  # seed numpy's generators beside the run's seed: each purpose has numbers of its own


class Arrived(NamedTuple):
    """Pictures that came to the sources, and the pool of all; None where they don't fit into memory together."""

    entries: list[Entry]
    pool: Pool | None


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
        self.sources = tuple(sources)
        self.files_then: frozenset[tuple[str, int, int, int]] = frozenset()  # of the last look
        index = scan(sources, smallest)
        self.entries, self.unusable, self.others = index.entries, index.skipped, index.others
        self.files = index.identities()
        self.known = set(_keys(index))
        self.apart: set[Identity] = set()  # files that are never trained on, should they come to the sources
        self.smallest, self.mix, self.seed, self.device = smallest, mix, seed, device
        self.memory = memory
        self.bad: dict[Entry, Skipped] = {}  # turned out damaged when they were decoded
        self.pools: dict[int, Future[Pool]] = {}  # by chapter
        self.loader = ThreadPoolExecutor(1, "chapters")
        self.looking: Future[Arrived | None] | None = None
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
        return _bytes(self.entries)

    @property
    def chapters(self) -> int:
        """The parts in which the pictures are read: one if all fit into memory, else two parts are held at a time."""
        if self.bytes <= self.memory:
            return 1
        return min(len(self.entries), -(-2 * self.bytes // int(self.memory)))

    def hold_out(self, count: int) -> list[np.ndarray]:
        """Takes `count` evenly spread pictures away and returns their middles, uint8 [h, w, 3]; none of too few."""
        places = evenly_spread(len(self.entries), count)
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
        self._remember(bad)
        return pool.near(self.device)

    def _remember(self, bad: Iterable[tuple[Entry, Exception]]) -> None:
        """Takes note of pictures that can't be decoded."""
        self.bad.update({entry: Skipped(entry.name, reason(error)) for entry, error in bad if entry not in self.bad})

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

    # ---- pictures that arrive ---------------------------------------------------------------------------------------

    def look_again(self) -> None:
        """Reads pictures that have come to the sources, in the background: crops of later steps come from them, too.

        A file should come there complete, that is be moved there: of an archive that is still written, the picture that
        it ends with so far is left out.
        """
        if self.looking is None:
            self.looking = self.loader.submit(self._look)

    def _look(self) -> Arrived | None:
        """None if nothing has come."""
        files = fingerprint(self.sources)
        if files == self.files_then:
            return None
        self.files_then = files
        try:
            index = scan(self.sources, self.smallest)
        except (OSError, UsageError):  # a source that can't be read now may be sound at the next look
            return None
        found = {key: entry for key, entry in _keys(index).items() if key[1] not in self.apart}
        entries = [entry for key, entry in found.items() if key not in self.known]
        self.known.update(found)
        skipped_before = set(self.unusable)
        self.unusable += [skipped for skipped in index.skipped if skipped not in skipped_before]
        if not entries:
            return None
        if self.chapters > 1 or self.bytes + _bytes(entries) > self.memory or 0 not in self.pools:
            return Arrived(entries, None)
        try:
            pool, bad = Pool.decode(entries, self.mix)
        except PictureError:  # all of them are damaged
            return None
        self._remember(bad)
        entries = [entry for entry in entries if entry not in self.bad]
        return Arrived(entries, self.pools[0].result().with_others(pool).near(self.device))

    def _take_arrived(self) -> None:
        """Adds what the last look found, if it is finished."""
        if self.looking is None or not self.looking.done():
            return
        arrived, self.looking = self.looking.result(), None
        if arrived is None:
            return
        self.entries = self.entries + arrived.entries
        self.pools.clear()  # where there are chapters, others begin
        if arrived.pool is not None:
            self.pools[0] = Future()
            self.pools[0].set_result(arrived.pool)

    # ---- crops ------------------------------------------------------------------------------------------------------

    def draw(self, step: int, count: int, crop: int, downscale: float = 1.0) -> Draw:
        """Where the `count` crops of a step lie."""
        self._take_arrived()
        chapters = self.chapters
        crops_per_chapter = max(1, CROPS_PER_PICTURE * len(self.entries) // chapters)
        pool = self.pool(step * count // crops_per_chapter if chapters > 1 else 0)
        return pool.draw(np.random.default_rng((self.seed, CROPS, step)), count, crop, downscale)

    def close(self) -> None:
        """Stops reading ahead."""
        self.loader.shutdown(cancel_futures=True)


def evenly_spread(length: int, count: int) -> np.ndarray:
    """`count` places in a list of `length`, or all of a shorter one."""
    return np.unique(np.linspace(0, length - 1, count).astype(int))


def _bytes(entries: Iterable[Entry]) -> int:
    """Of pictures, decoded."""
    return sum(3 * entry.height * entry.width for entry in entries)


def _keys(index: Index) -> dict[tuple[int, Identity, int], Entry]:
    """The pictures of an index by source, real file and length: a new file may have the number of one that is gone."""
    return {(*place, entry.length): entry for place, entry in index.places.items()}


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
