"""Codecs as `hpcm bench` times them: several pictures of one size, to bytes and back.

Ours starts with pictures in memory and ends with pictures in memory. The code of others starts and ends with tensors on
the device, as its authors time it: what is ours alone, the way to the device and back, the file around the bytes and
the rounding to whole numbers, counts for ours only. Ours codes the pictures of a batch side by side. The others take
one picture at a time, and so take those of a batch one after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ...codec.codec import Codec
from ...errors import UsageError
from ...nn.engine import TorchEngine
from ...util.notes import ignore_note
from .clock import Timed, elapsed

QUALITY = 40  # of our files
WARM_UPS = {"cpu": 1, "cuda": 5}  # runs before the clock counts, by type of device; CUDA graphs are captured in them


class Runner(Protocol):
    """A codec that is timed. What `load` and `encode` give is its own affair."""

    @property
    def products(self) -> str:
        """The type of its matrix products, as torch names it."""

    def load(self, pictures: Sequence[Image.Image]) -> Any:
        """What it encodes, made before the clock starts."""

    def encode(self, loaded: Any) -> Any:
        """The bytes of all pictures, in whatever form `decode` takes."""

    def decode(self, coded: Any) -> object:
        """All pictures."""

    def size(self, coded: Any) -> int:
        """Bytes of all pictures together."""


class OurCodec:
    """A model of hpcm: as many pictures side by side as there are."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec

    @property
    def products(self) -> str:
        engine = self.codec.engine
        return engine.model.products if isinstance(engine, TorchEngine) else "float32"

    def load(self, pictures: Sequence[Image.Image]) -> Sequence[Image.Image]:
        return pictures

    def encode(self, loaded: Sequence[Image.Image]) -> list[bytes]:
        files = self.codec.compress_many(loaded, workers=len(loaded), quality=QUALITY, on_note=ignore_note)
        return list(files)

    def decode(self, coded: Sequence[bytes]) -> list[Image.Image]:
        return list(self.codec.decompress_many(coded, workers=len(coded)))

    def size(self, coded: Sequence[bytes]) -> int:
        return sum(map(len, coded))


class TensorCodec:
    """A network of others with compress(x) -> {"strings", "shape"} and decompress(strings, shape), x [1, 3, H, W].

    Strings are bytes or lists of bytes.
    """

    products = "float32"

    def __init__(self, net: Any, multiple: int, device: str) -> None:
        """`multiple`: of pixels, to which sides are padded."""
        self._net, self._multiple, self._device = net, multiple, device

    def load(self, pictures: Sequence[Image.Image]) -> list[Tensor]:
        return [self._padded(tensor_of(picture, self._device)) for picture in pictures]

    @torch.no_grad()
    def encode(self, loaded: Sequence[Tensor]) -> list[Any]:
        return [self._net.compress(x) for x in loaded]

    @torch.no_grad()
    def decode(self, coded: Sequence[Any]) -> list[Any]:
        return [self._net.decompress(one["strings"], one["shape"]) for one in coded]

    def size(self, coded: Sequence[Any]) -> int:
        strings = [part for one in coded for part in one["strings"]]
        return sum(len(b"".join(part) if isinstance(part, list) else part) for part in strings)

    def _padded(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, -x.shape[3] % self._multiple, 0, -x.shape[2] % self._multiple))


def tensor_of(picture: Image.Image, device: str) -> Tensor:
    """A picture in RGB as x [1, 3, H, W] in 0..1."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float().div(255).to(device)


@dataclass(frozen=True)
class Measured:
    """Of all pictures of a batch together; seconds are medians."""

    encode_s: float
    decode_s: float
    bytes: int


def measure(
    runner: Runner, pictures: Sequence[Image.Image], repeats: int, device: str, timed: Timed = elapsed
) -> Measured:
    """How long a codec takes, after WARM_UPS.

    Raises UsageError where the GPU's memory is too small.
    """
    try:
        loaded = runner.load(pictures)
        for _ in range(WARM_UPS[torch.device(device).type]):
            coded = runner.encode(loaded)
            runner.decode(coded)
        encode_s = median(timed(lambda: runner.encode(loaded), device)[0] for _ in range(repeats))
        decode_s = median(timed(lambda: runner.decode(coded), device)[0] for _ in range(repeats))
    except torch.cuda.OutOfMemoryError as error:
        width, height = pictures[0].size
        batch = f"a batch of {len(pictures)} of {width}x{height}"
        raise UsageError(f"the GPU has too little memory for {batch}: take a smaller --batch or --size") from error
    return Measured(encode_s, decode_s, runner.size(coded))
