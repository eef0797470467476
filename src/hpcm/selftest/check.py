"""Every set of kernels of this machine against the known answers, by the way that every picture takes.

A codec with the set compresses a drawing and decompresses what it has made. The symbols are compared first: where they
are wrong, the pixels say nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ..codec.codec import Codec
from ..errors import HPCMError, UsageError
from ..model.file import WeightsFile
from ..model.find import available
from ..util.notes import OnNote
from .answers import Answer, Case, compressed, hash_of_pixels, hash_of_symbols, known
from .pictures import DRAWINGS

QUICK = (  # what is asked unless all is: sums of any number of places at once, and the largest ones
    Case("pixel", 63),
    Case("strip", 32),
    Case("primaries", 63),
    Case("deep", 0),
    Case("see-through", 32),
)


@dataclass(frozen=True)
class Difference:
    """An answer that isn't the right one; `decoding` is where a set can't open what it has just made."""

    model: str
    drawing: str
    level: int
    what: Literal["symbols", "pixels", "decoding"]


@dataclass(frozen=True)
class Result:
    """What a set of kernels answers. `refused` is what the library says where it doesn't compute with the set."""

    kernels: str
    asked: int
    differences: Sequence[Difference] = ()
    refused: str | None = None

    @property
    def is_right(self) -> bool:
        return not self.differences and self.refused is None


def models(on_note: OnNote) -> list[WeightsFile]:
    """The installed models whose answers are known; a note names those that are missing.

    Raises UsageError if all are.
    """
    names = {model.name for model in known().values()}
    by_hash = {weights.hash.hex(): weights for weights in available() if weights.name in names}  # hashing takes time
    missing = [model.name for model_hash, model in known().items() if model_hash not in by_hash]
    if len(missing) == len(known()):
        raise UsageError(f"no model is installed whose answers are known; these are: {', '.join(missing)}")
    if missing:
        on_note(f"not installed, or changed, and so not tested: {', '.join(missing)}")
    return [by_hash[model_hash] for model_hash in known() if model_hash in by_hash]


def check(kernels: str, models: Iterable[WeightsFile], *, everything: bool = False) -> Result:
    """What a set of kernels answers, for each of the models.

    Args:
        kernels: the name of one that this machine has.
        everything: asks for all known answers instead of QUICK.
    """
    asked, differences = 0, list[Difference]()
    for weights in models:
        answers = known()[weights.hash.hex()].answers
        cases = answers if everything else QUICK
        asked += len(cases)
        try:
            codec = Codec([weights], engine="core", kernels=kernels)
        except UsageError as error:
            return Result(kernels, 0, refused=str(error))
        for case in cases:
            if what := difference(codec, case, answers[case]):
                differences.append(Difference(weights.name, *case, what))
    return Result(kernels, asked, differences)


def difference(codec: Codec, case: Case, right: Answer) -> Literal["symbols", "pixels", "decoding"] | None:
    """In what a codec's answer differs from the right one."""
    (drawing,) = (drawing for drawing in DRAWINGS if drawing.name == case.drawing)
    container = compressed(codec, drawing, case.level)
    if hash_of_symbols(container) != right.symbols:
        return "symbols"
    try:
        pixels = hash_of_pixels(codec.decompress(container))
    except HPCMError:
        return "decoding"
    return None if pixels == right.pixels else "pixels"
