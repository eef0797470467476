"""A model of hpcm behind the two methods of a codec, with its time split into transforms, entropy coding and file."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from ..codec.codec import Codec
from ..defaults import BASE_QUALITY, MAX_QUALITY
from ..model.find import find_all
from ..nn.engine import TorchEngine
from ..util.notes import ignore_note
from .protocol import Setting, TimeSplit
from .timing import Stopwatch

MEASURED = (1, 9, 20, 32, 44, 56, 67, 80)  # qualities of a model with several levels


class HpcmCodec:
    """A model by name or weights file; its settings are qualities, of which a model with one level has only one.

    Args:
        engine: what computes the model, as for `hpcm.load`.
        threads: torch's are the whole process's. They are set even where the native library computes, because the
            search of an effort takes torch.
    """

    def __init__(
        self, path: str, device: str = "cpu", effort: int = 0, *, engine: str = "auto", threads: int = 1
    ) -> None:
        torch.set_num_threads(threads)
        self._watch = Stopwatch()
        self.codec = Codec(find_all(path), device, engine=engine, threads=threads, wrap=self._watch.timed)
        self.threads, self.effort = threads, effort
        self.engine = engine_of(self.codec)
        self.libraries = _libraries(self.engine, effort)
        self.settings, self.scale = _settings(self.codec)
        kind, name = ("family", path) if len(self.codec.models) > 1 else ("model", self.codec.weights.name)
        self.label = f"hpcm {name}"
        self.description = f"{kind} {name}, {self.codec.lossy_levels} levels, on {device}"
        if effort:
            self.label += f" e{effort}"
            self.description += f", effort {effort}"

    def compress(self, image: Image.Image, setting: Setting) -> bytes:
        self._watch.reset()
        # Notes would come with every process that opens the model; evaluate.py says once whether it is exact.
        return self.codec.compress(image, quality=int(setting), effort=self.effort, on_note=ignore_note)

    def decompress(self, data: bytes) -> Image.Image:
        self._watch.reset()
        return self.codec.decompress(data)

    def encode_split(self, seconds: float) -> TimeSplit | None:
        """Where the `seconds` of the last compress() went; None for an effort, whose search runs other networks."""
        return None if self.effort else self._split(seconds)

    def decode_split(self, seconds: float) -> TimeSplit:
        """Where the `seconds` of the last decompress() went."""
        return self._split(seconds)

    def _split(self, seconds: float) -> TimeSplit:
        transforms, entropy = self._watch.seconds["transforms"], self._watch.seconds["entropy"]
        return TimeSplit(transforms=transforms, entropy=entropy, file=seconds - transforms - entropy)


def engine_of(codec: Codec) -> str:
    """The package that computes a codec's model: the native library is hpcm's own."""
    return "torch" if isinstance(codec.engine, TorchEngine) else "hpcm"


def _libraries(engine: str, effort: int) -> Sequence[str]:
    """What the numbers of a model depend on; the search of an effort takes torch, whatever the engine."""
    search = ["torch"] if effort else []
    return tuple(dict.fromkeys([engine, *search, "numpy"]))  # each once


def _settings(codec: Codec) -> tuple[Sequence[Setting], Sequence[Setting]]:
    """The qualities that are measured, and all that there are."""
    if codec.lossy_levels == 1:
        return (1,), (1,)
    every = range(1, (MAX_QUALITY if codec.levels > codec.lossy_levels else BASE_QUALITY) + 1)
    if len(codec.models) == 1:
        return MEASURED, every
    lowest = {codec.level_of(quality): quality for quality in range(BASE_QUALITY, 0, -1)}  # quality of each model
    return tuple(sorted(lowest.values())), every
