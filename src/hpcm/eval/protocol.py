"""What an evaluation asks of a codec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from PIL import Image

Setting = int | float  # a codec's own: a quality, a quantiser, a distance


@dataclass(frozen=True)
class TimeSplit:
    """Where the seconds of compressing or decompressing went."""

    transforms: float  # between pixels and latents
    entropy: float  # the entropy model and the entropy coder
    file: float  # what remains: the container, and making the picture


class Codec(Protocol):
    """A codec at any of its settings."""

    label: str  # for tables and plots
    description: str  # how it is set, for the report
    threads: int  # of its work, both ways: what it was given, or 1 where it can't use more

    @property
    def settings(self) -> Sequence[Setting]:
        """The measured ones, about 0.1 to 1.5 bits per pixel on photographs."""

    @property
    def scale(self) -> Sequence[Setting]:
        """All of them, from the smallest file to the largest."""

    @property
    def libraries(self) -> Sequence[str]:
        """What its output depends on, as machine.versions() names it."""

    def compress(self, image: Image.Image, setting: Setting) -> bytes:
        """Of a picture in grey or RGB (modes "L" and "RGB"), 8 bits."""

    def decompress(self, data: bytes) -> Image.Image:
        """In grey or RGB."""


@runtime_checkable
class LearnedCodec(Codec, Protocol):
    """A codec of networks, whose time can be split."""

    engine: str  # the package that computes the model

    def encode_split(self, seconds: float) -> TimeSplit | None:
        """Where the `seconds` of the last compress() went."""

    def decode_split(self, seconds: float) -> TimeSplit | None:
        """Where the `seconds` of the last decompress() went."""
