"""Pictures side by side at about equal bytes: what a BD-rate looks like."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..image.picture import rgb_of
from ..util import atomic
from .measure import CodecSpec, Source, Task, open_codec, read_image, read_pixels
from .metrics import psnr
from .protocol import Codec, Setting
from .results import CodecResult, Measurement

BPP = 0.35  # about the rate at which pictures are shown
CROP = (480, 320)  # pixels, width and height


@dataclass(frozen=True)
class Version:
    """A crop of a picture as it came back from a codec; the original has neither bytes nor quality."""

    label: str
    src: str  # data URI
    setting: Setting | None = None
    bytes: int | None = None  # of the whole picture, as the next two
    bpp: float | None = None
    psnr: float | None = None  # None also for a picture that came back exactly


@dataclass(frozen=True)
class SideBySide:
    """A picture as every codec makes it."""

    picture: str
    crop: tuple[int, int]  # width and height
    versions: list[Version]  # the original is the first


def side_by_side(source: Source, specs: Sequence[CodecSpec], codecs: dict[str, CodecResult], cache: Path) -> SideBySide:
    """A crop of a picture by every codec in about the same number of bytes.

    The bytes are those of the last codec (a model, if there is one) at its measured setting next to BPP.
    """
    original = read_pixels(source.path)
    *others, last = specs
    setting, measured = _next_to(BPP, codecs[last.name], source.name)
    files = [_near(spec, source, measured.bytes, None, cache) for spec in others]
    files.append(_near(last, source, measured.bytes, setting, cache))
    versions = [Version("original", _embedded(original))]
    for spec, (used, data) in zip(specs, files, strict=True):
        decoded = rgb_of(open_codec(spec).decompress(data))
        versions.append(
            Version(
                label=codecs[spec.name].label,
                src=_embedded(decoded),
                setting=used,
                bytes=len(data),
                bpp=8 * len(data) / (source.width * source.height),
                psnr=psnr(original, decoded),
            )
        )
    crop = min(CROP[0], source.width), min(CROP[1], source.height)
    return SideBySide(source.name, crop, versions)


def _next_to(bpp: float, codec: CodecResult, picture: str) -> tuple[Setting, Measurement]:
    """The setting whose file of a picture is next to a rate, and what was measured there."""
    measured = [(point.setting, m) for point in codec.points for m in point.pictures if m.picture == picture]
    return min(measured, key=lambda pair: abs(pair[1].bpp - bpp))


def _near(spec: CodecSpec, source: Source, size: int, exact: Setting | None, cache: Path) -> tuple[Setting, bytes]:
    """The setting and the file next to `size` bytes, or the file of an exact setting; cached."""
    task = Task(spec, exact or 0, source)
    file = task.file(cache).with_suffix(f".{size}.file")
    if file.is_file():
        head, _, data = file.read_bytes().partition(b"\n")
        return json.loads(head)["used"], data
    codec, image = open_codec(spec), read_image(source.path)
    setting, data = _search(codec, image, size) if exact is None else (exact, codec.compress(image, exact))
    atomic.write(file, json.dumps({**task.identity(), "used": setting}).encode() + b"\n" + data)
    return setting, data


def _search(codec: Codec, image: Image.Image, size: int) -> tuple[Setting, bytes]:
    """By bisection over the codec's scale, on which files grow."""
    files: dict[Setting, bytes] = {}
    low, high = 0, len(codec.scale) - 1
    while low <= high:
        setting = codec.scale[(low + high) // 2]
        files[setting] = codec.compress(image, setting)
        if len(files[setting]) < size:
            low = (low + high) // 2 + 1
        else:
            high = (low + high) // 2 - 1
    return min(files.items(), key=lambda item: abs(len(item[1]) - size))


def _embedded(pixels: np.ndarray) -> str:
    """The middle of a picture as a data URI, without losses."""
    height, width = pixels.shape[:2]
    left, top = max(0, width - CROP[0]) // 2, max(0, height - CROP[1]) // 2
    file = io.BytesIO()
    Image.fromarray(pixels[top : top + CROP[1], left : left + CROP[0]]).save(file, "WEBP", lossless=True, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
