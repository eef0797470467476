"""What a worker does: the bytes of a body to those of an answer. It knows no HTTP but its headers."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass, field
from typing import Any

from ..codec.info import file_info
from ..defaults import MIME_TYPE
from ..errors import PictureError, UsageError
from ..format import container as format_
from ..format.fields import Box, Container
from ..image.picture import Picture
from ..image.planes import fitting
from ..image.write import draft_size, save_picture
from ..model.file import WeightsFile
from ..util.notes import OnNote
from ..util.parallel import Check
from .limits import Limits
from .models import Models
from .reading import check_file, opened
from .status import one_line

Stop = threading.Event  # set when nobody waits for the result any more


class Stopped(Exception):
    """Nobody waits for the result any more."""


@dataclass(frozen=True)
class Answer:
    body: bytes
    kind: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Worker:
    """The codec behind the server. Methods raise HPCMError, Refused, MemoryError; several threads may call them."""

    models: Models
    limits: Limits

    def compress(
        self, data: bytes, stop: Stop, weights: WeightsFile, how: dict[str, Any], appearance: dict[str, Any]
    ) -> Answer:
        """A picture file to a .hpcm file."""
        notes: list[str] = []
        picture = opened(data, self.limits.max_pixels, **appearance)
        if how["effort"]:
            bound_torch(self.limits.threads)
        codec = self.models.codec(weights)
        compressed = codec.compress(picture, **how, check=checking(stop), on_note=notes.append)
        head = format_.unpack_head(compressed)
        bpp = 8 * len(compressed) / (head.width * head.height)
        headers = {"X-Hpcm-Model": weights.name, "X-Hpcm-Bpp": f"{bpp:.4f}"}
        return Answer(compressed, MIME_TYPE, headers | notice(notes))

    def decompress(
        self,
        data: bytes,
        stop: Stop,
        format: str,
        scale: int | None,
        box: Box | None,
        max_size: int | None,
        strip: str | None = None,
        icc: str | None = None,
    ) -> Answer:
        """A .hpcm file to a picture file."""
        notes: list[str] = []
        container = format_.unpack(data)
        weights = self.models.decoder(container)
        codec = self.models.codec(weights)
        check_box(container, box)
        check_file(container, codec.engine.config, box, self.limits.max_pixels)
        picture = codec.decompress_picture(
            container,
            box=box,
            draft=draft_size(container, max_size),
            scale=scale,
            max_pixels=self.limits.max_pixels,
            strip=strip,
            icc=icc,
            check=checking(stop),
            on_note=notes.append,
        )
        body = written(fitting(picture, max_size), format, checking(stop), notes.append)
        return Answer(body, f"image/{format}", {"X-Hpcm-Model": weights.name} | notice(notes))

    def info(self, data: bytes, stop: Stop) -> dict[str, Any]:
        """What a .hpcm file says, also one that was cut short; all of its CRCs are checked, nothing is decoded."""
        container = format_.unpack_left(data)
        weights = self.models.decoders.get(container.model_hash)
        return {**file_info(container, len(data), weights), "decodes_here": weights is not None}


def checking(stop: Stop) -> Check:
    """What ends the work once nobody waits for it. Raises Stopped."""

    def check() -> None:
        if stop.is_set():
            raise Stopped

    return check


class _Checked(io.BytesIO):
    """A file in memory; `check` is called before each piece that is written."""

    def __init__(self, check: Check) -> None:
        super().__init__()
        self.check = check

    def write(self, data: Any, /) -> int:
        self.check()
        return super().write(data)


def written(picture: Picture, format: str, check: Check, on_note: OnNote) -> bytes:
    """The bytes of a picture file; the work ends when `check` raises.

    Pillow writes PNG piece by piece, and WebP at once. Raises UsageError where the format, which is a parameter, can't
    take the picture.
    """
    check()
    try:
        return save_picture(picture, f".{format}", out=_Checked(check), on_note=on_note)
    except PictureError as error:
        raise UsageError(f"format: {str(error).removesuffix('; try .png')}; take png") from error


def check_box(container: Container, box: Box | None) -> None:
    """Raises UsageError for a box that isn't inside the picture."""
    width, height = container.width, container.height
    if box is not None and not (0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height):
        raise UsageError(f"box: it must be LEFT,TOP,RIGHT,BOTTOM inside the picture of {width} x {height} pixels")


def notice(lines: list[str]) -> dict[str, str]:
    """The header that says what was converted, or why a target wasn't met."""
    return {"X-Hpcm-Notice": one_line("; ".join(lines))} if lines else {}


def bound_torch(threads: int) -> None:
    """The search of an effort runs in torch, whose threads are the process's."""
    import torch

    torch.set_num_threads(threads)
