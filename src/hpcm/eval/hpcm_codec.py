"""A model of hpcm behind the two methods of a codec, with its time split into network, entropy coding and file."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from PIL import Image

from ..codec.codec import Codec
from ..defaults import MAX_QUALITY
from ..format.container import pack, unpack
from ..model.find import find_all
from ..nn.hpcm import HPCM
from ..nn.loop import Loop
from ..nn.stoppable import unwrapped
from .protocol import Setting, TimeSplit
from .timing import Stopwatch, TimedNetworks

MEASURED = (1, 10, 25, 40, 55, 70, 85, 100)  # qualities of a model with several levels


class HpcmCodec:
    """A model by name or weights file; its settings are qualities, of which a model with one level has only one.

    Args:
        engine: what computes the networks, as for `hpcm.load`.
        threads: torch's are the whole process's. They are set even where ONNX Runtime computes, because the search of
            an effort takes torch.
    """

    def __init__(
        self, path: str, device: str = "cpu", effort: int = 0, *, engine: str = "auto", threads: int = 1
    ) -> None:
        torch.set_num_threads(threads)
        on_gpu = device.startswith("cuda")
        self._watch = Stopwatch((lambda: torch.cuda.synchronize(device)) if on_gpu else (lambda: None))
        self.codec = Codec(find_all(path), device, engine=engine, threads=threads, wrap=self._timed)
        self.threads, self.effort = threads, effort
        self.engine = engine_of(self.codec)
        self.libraries = _libraries(self.engine, effort)
        self.settings, self.scale = _settings(self.codec)
        kind, name = ("family", path) if len(self.codec.models) > 1 else ("model", self.codec.weights.name)
        self.label = f"hpcm {name}"
        self.description = f"{kind} {name}, {self.codec.levels} levels, on {device}"
        if effort:
            self.label += f" e{effort}"
            self.description += f", effort {effort}"

    def compress(self, image: Image.Image, setting: Setting) -> bytes:
        self._watch.reset()
        return self.codec.compress(image, quality=int(setting), effort=self.effort)

    def decompress(self, data: bytes) -> Image.Image:
        self._watch.reset()
        return self.codec.decompress(data)

    def encode_split(self, data: bytes, seconds: float) -> TimeSplit | None:
        """Where the `seconds` of the last compress() went; None for an effort, whose search runs other networks.

        Packing the file is timed by doing it once more. What remains is the entropy coder's.
        """
        if self.effort:
            return None
        container = unpack(data)
        start = time.perf_counter()
        pack(container)
        file = time.perf_counter() - start
        network = self._watch.seconds["network"]
        return TimeSplit(network=network, entropy=seconds - network - file, file=file)

    def decode_split(self, seconds: float) -> TimeSplit:
        """Where the `seconds` of the last decompress() went. What remains is the file's."""
        network, entropy = self._watch.seconds["network"], self._watch.seconds["entropy"]
        return TimeSplit(network=network, entropy=entropy, file=seconds - network - entropy)

    def _timed(self, networks: Loop) -> Loop:
        return TimedNetworks(networks, self._watch)


def engine_of(codec: Codec) -> str:
    """The package that computes a codec's networks."""
    return "torch" if isinstance(unwrapped(codec.networks), HPCM) else "onnxruntime"


def _libraries(engine: str, effort: int) -> Sequence[str]:
    """What the numbers of a model depend on; the search of an effort takes torch, whatever the engine."""
    search = ["torch"] if effort else []
    return tuple(dict.fromkeys([engine, *search, "numpy", "constriction"]))  # each once


def _settings(codec: Codec) -> tuple[Sequence[Setting], Sequence[Setting]]:
    """The qualities that are measured, and all that there are."""
    if codec.levels == 1:
        return (1,), (1,)
    every = range(1, MAX_QUALITY + 1)
    if len(codec.models) == 1:
        return MEASURED, every
    lowest = {codec.level_of(quality): quality for quality in reversed(every)}  # quality of each model
    return tuple(sorted(lowest.values())), every
