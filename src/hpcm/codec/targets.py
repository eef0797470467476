"""Which quality level meets a target: at most so many bits per pixel, or at least so many dB.

A codec's levels are those of its model, or one of each of its models, and above them its residual layers. Either way a
higher level takes more bytes and has a higher PSNR as a rule, and `explored` knows the exceptions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from ..format.fields import Residual
from ..util.notes import OnNote
from .encoder import Encoding

BELOW, ABOVE = 5, 1  # levels that are tried beside the result of a bisection
SIZE_FALLS = 16  # bytes by which a file may be larger than one of a higher level: the entropy coder's words have 4
KEPT = 16  # files of levels that are kept while levels are tried: more than are tried as a rule


class Level(NamedTuple):
    """A quality level of a codec: one of the levels of one of its models, and perhaps a residual layer."""

    model: int  # among the codec's
    model_level: int  # among that model's
    residual: Residual | None = None

    @property
    def coded(self) -> tuple[int, Residual | None]:
        """What `Encoding` takes."""
        return self.model_level, self.residual


class Trials:
    """One picture at all the levels of a codec, computed as they are tried.

    Args:
        pixels: of the picture, how many.
        levels: of the codec, the worst first.
        encoding: gives that of the picture by a model.
        refines: whether latents can be refined for a level.
        on_note: is called with a line where no level meets the target.
    """

    def __init__(
        self,
        pixels: int,
        levels: Sequence[Level],
        encoding: Callable[[int], Encoding],
        refines: bool,
        on_note: OnNote,
    ) -> None:
        self.pixels, self.levels = pixels, levels
        self.refines, self.on_note = refines, on_note
        self._encoding = lru_cache(maxsize=1)(encoding)  # with its latents: those of one model are in memory
        self.file = lru_cache(KEPT)(self._file)
        several_models = levels[0].model != levels[-1].model
        # Of models that were trained apart, a higher level may have a file that is smaller by any number of bytes.
        self._size_falls = math.inf if several_models else SIZE_FALLS

    # ---- at a level of the codec, from 0, the worst ------------------------------------------------------------------

    def encoding(self, level: int) -> Encoding:
        """The picture encoded by the model that a level belongs to."""
        job = self._encoding(self.levels[level].model)
        job.keep_latents()
        return job

    def _file(self, level: int) -> bytes:
        """The file at a level, without refinement."""
        return self.encoding(level).file(*self.levels[level].coded)

    def psnr(self, level: int) -> float:
        """The PSNR in dB of what is decoded from `file`."""
        return self.encoding(level).psnr(*self.levels[level].coded)

    def refined(self, level: int) -> Encoding:
        """`encoding` with latents that are refined for the level."""
        return self.encoding(level).refined(self.levels[level].model_level)

    def refined_file(self, level: int) -> bytes:
        """The file at a level with latents that are refined for it."""
        return self.refined(level).file(*self.levels[level].coded)

    # ---- targets ----------------------------------------------------------------------------------------------------

    def smaller_than(self, bpp: float) -> bytes:
        """The file at the highest level that takes at most `bpp` bits per pixel, or the smallest file, with a note."""
        limit = self._bytes_within(bpp)
        from_the_best = range(len(self.levels) - 1, -1, -1)  # smaller and smaller, as a rule
        saved = explored(from_the_best, lambda level: -len(self.file(level)), -limit)
        sizes = {level: -int(value) for level, value in saved.items()}
        fitting = [level for level, size in sizes.items() if size <= limit]
        best = max(fitting) if fitting else min(sizes, key=lambda level: (sizes[level], level))
        file = self._refined_within(limit, best, sizes) if self.refines else self.file(best)
        if len(file) > limit:
            smallest = f"the smallest file has {8 * len(file) / self.pixels:.3f} ({len(file):,} bytes)"
            self.on_note(f"no level takes {bpp:g} bits per pixel or less: {smallest}")
        return file

    def _bytes_within(self, bpp: float) -> int:
        """The most bytes that a file may have. Rounding must not cost one: 8 * n / pixels bits per pixel allow n."""
        limit = round(bpp * self.pixels / 8)
        return limit if 8 * limit / self.pixels <= bpp else limit - 1

    def _refined_within(self, limit: int, best: int, sizes: Mapping[int, int]) -> bytes:
        """The refined file of `best`, the highest level that fits, or of a higher one that is expected to fit."""
        plain = self.file(best)
        refined = min(self.refined_file(best), plain, key=len)
        expected = len(refined) / len(plain)
        higher = [level for level, size in sizes.items() if level > best and size * expected <= limit]
        if not higher:
            return refined
        better = self.refined_file(max(higher))
        return better if len(better) <= limit else refined

    def reaching(self, psnr: float) -> bytes:
        """The smallest file that reaches `psnr`, in dB, or the best one, with a note."""
        tried = explored(range(len(self.levels)), self.psnr, psnr)
        reached = sorted(level for level, value in tried.items() if value >= psnr)
        if reached:
            level = self._smallest(reached)
            return min([self.file(level), *self._refined_reaching(psnr, level)], key=len)
        return self._best(psnr, tried)

    def _smallest(self, levels: Sequence[int]) -> int:
        """The one of rising levels with the smallest file."""
        best = levels[0]
        for level in levels[1:]:
            size, smallest = len(self.file(level)), len(self.file(best))
            if size > smallest + self._size_falls:
                break
            if size < smallest:
                best = level
        return best

    def _refined_reaching(self, psnr: float, level: int) -> Iterator[bytes]:
        """Refined files that reach `psnr`: from `level` downwards as long as they do, or upwards until one does."""
        direction = 0
        while self.refines and 0 <= level < len(self.levels):
            job, coded = self.refined(level), self.levels[level].coded
            reached = job.psnr(*coded) >= psnr
            if reached:
                yield job.file(*coded)
            if direction == (1 if reached else -1):
                return
            direction = -1 if reached else 1
            level += direction

    def _best(self, psnr: float, tried: Mapping[int, float]) -> bytes:
        """The file with the highest PSNR where without refinement none of those that were tried reaches `psnr`."""
        level = max(tried, key=lambda level: (tried[level], -level))
        coded = self.levels[level].coded
        job, best = self.encoding(level), tried[level]
        if self.refines:
            refined = self.refined(level)
            value = refined.psnr(*coded)
            job, best = (refined, value) if value > best else (job, best)
        if best < psnr:
            used = f"the best one, {best:.2f} dB, was used"
            self.on_note(f"no level of {job.weights.name} reaches {psnr:g} dB on this picture: {used}")
        return job.file(*coded)


def explored(order: Sequence[int], value: Callable[[int], float], target: float) -> dict[int, float]:
    """The levels that have to be tried to know which of `order` reach a target, and their values.

    Along `order` values rise as a rule. On flat and on tiny pictures they don't: a level may be several dB better than
    the next. So after a bisection the levels around its result are tried, too:

        order    . . . . X X X X X|X X . . . . .      X tried, | the target is reached from here on
                         <- BELOW ->  ABOVE

    Wherever those that were tried don't rise strictly, and before it is said that none reaches the target, all are
    tried. (On 15 pictures, flat ones and noise among them, this found the same as trying all: docs/log.md.)
    """
    values: dict[int, float] = {}

    def tried(place: int) -> float:
        level = order[place]
        if level not in values:
            values[level] = value(level)
        return values[level]

    boundary = lowest(len(order), lambda place: tried(place) >= target)
    for place in range(max(boundary - BELOW, 0), min(boundary + ABOVE + 1, len(order))):
        tried(place)
    along = [values[level] for level in order if level in values]
    rising = all(one < next_one for one, next_one in pairwise(along))
    if boundary == len(order) or not rising:
        for place in range(len(order)):
            tried(place)
    return values


def lowest(places: int, reached: Callable[[int], bool]) -> int:
    """The lowest place for which `reached`, which grows with the place, is true; `places` if there is none."""
    low, high = 0, places
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle + 1, high)
    return low
