"""An hpcm model behind the two methods of a codec, with the time split into network, entropy coding and file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image

from ..codec.api import load
from ..defaults import MAX_QUALITY
from ..engine.choice import Loaded
from ..format.container import pack, unpack
from ..nn.hpcm import HPCM
from .rivals import Setting


class Ours:
    """A weights file as a codec; its settings are qualities, of which a model with one level has but one.

    `engine` is the package that computes the networks. Torch's threads are the whole process's: they are set even where
    ONNX Runtime computes, because the search of efforts takes torch.
    """

    def __init__(
        self, path: str, device: str = "cpu", effort: int = 0, *, engine: str = "auto", threads: int = 1
    ) -> None:
        torch.set_num_threads(threads)
        self.codec = load(path, device, engine=engine, threads=threads)
        self.engine = "torch" if isinstance(self.codec.networks, HPCM) else "onnxruntime"
        self.threads = threads
        needed = dict.fromkeys((self.engine, *(["torch"] if effort else []), "numpy", "constriction"))
        self.libraries: Sequence[str] = tuple(needed)
        self.effort = effort
        several = len(self.codec.models) > 1
        name = path if several else self.codec.weights.name
        self.label = f"hpcm {name}" + (f" e{effort}" if effort else "")
        self.said = f"{'models' if several else 'model'} {name}, {self.codec.levels} levels, on {device}" + (
            f", effort {effort}" if effort else ""
        )
        self.settings: Sequence[Setting] = (1, 10, 25, 40, 55, 70, 85, 100) if self.codec.levels > 1 else (1,)
        if several:  # a quality of each model
            level_of = self.codec.level_of
            self.settings = tuple({level_of(quality): quality for quality in range(MAX_QUALITY, 0, -1)}.values())[::-1]
        self.scale: Sequence[Setting] = range(1, MAX_QUALITY + 1) if self.codec.levels > 1 else (1,)
        self._device = device
        self._spent = {"network": 0.0, "symbols": 0.0}  # seconds of the last call
        self._time(self.codec.loaded())
        self.codec.when_loaded = self._time

    def _time(self, loaded: Loaded) -> None:
        """Has the networks of a model timed."""
        model = loaded.networks
        for name in ("analyse", "encode", "synthesise"):
            setattr(model, name, self._timed(getattr(model, name), "network"))
        decode = model.decode  # calls back into the entropy decoder, step by step
        setattr(model, "decode", lambda pop, *rest: self._decode(decode, pop, *rest))  # noqa: B010

    def compress(self, image: Image.Image, setting: Setting) -> bytes:
        self._spent = dict.fromkeys(self._spent, 0.0)
        return self.codec.compress(image, quality=int(setting), effort=self.effort)

    def decompress(self, data: bytes) -> Image.Image:
        self._spent = dict.fromkeys(self._spent, 0.0)
        return self.codec.decompress(data)

    def encode_split(self, data: bytes, seconds: float) -> dict[str, float]:
        """Where the `seconds` of the last compress() went; packing the file is measured anew, once."""
        container = unpack(data)
        start = time.perf_counter()
        pack(container)
        file = time.perf_counter() - start
        return {"network": self._spent["network"], "entropy": seconds - self._spent["network"] - file, "file": file}

    def decode_split(self, seconds: float) -> dict[str, float]:
        """Where the `seconds` of the last decompress() went; `file` includes making the picture of the tensor."""
        network, symbols = self._spent["network"], self._spent["symbols"]
        return {"network": network, "entropy": symbols, "file": seconds - network - symbols}

    @contextmanager
    def _clock(self, part: str) -> Iterator[None]:
        self._wait()
        start = time.perf_counter()
        yield
        self._wait()
        self._spent[part] += time.perf_counter() - start

    def _wait(self) -> None:
        if self._device.startswith("cuda"):
            torch.cuda.synchronize(self._device)

    def _timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def timed(*given: Any) -> Any:
            with self._clock(part):
                return function(*given)

        return timed

    def _decode(self, decode: Callable[..., Any], pop: Callable[..., Any], *rest: Any) -> Any:
        before = self._spent["symbols"]
        y_hat = self._timed(decode, "network")(self._timed(pop, "symbols"), *rest)
        self._spent["network"] -= self._spent["symbols"] - before
        return y_hat
