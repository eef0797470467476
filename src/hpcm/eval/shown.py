"""Pictures side by side at about equal bytes: what a BD-rate looks like."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..util import atomic
from .measure import Row, Source, Subject, Task, open_codec, read_pixels
from .metrics import psnr
from .rivals import Codec, Setting

BPP = 0.35  # about the rate at which pictures are shown
CROP = (480, 320)  # pixels, width and height


def side_by_side(source: Source, subjects: Sequence[Subject], codecs: dict[str, Row], cache: Path) -> Row:
    """A crop of a picture as every codec makes it of about the same number of bytes; images as data URIs.

    The bytes are those of the last codec (a model, if there is one) at its measured setting next to BPP.
    """
    name, original = source.path.stem, read_pixels(source.path)
    rows = [(p["setting"], row) for p in codecs[subjects[-1].name]["points"] for row in p["pictures"]]
    setting, row = min((r for r in rows if r[1]["picture"] == name), key=lambda r: abs(r[1]["bpp"] - BPP))
    versions: list[Row] = [{"label": "original", "bytes": None, "bpp": None, "psnr": None, "src": _embedded(original)}]
    for subject in subjects:
        exact = setting if subject is subjects[-1] else None
        used, data = _near(subject, source, row["bytes"], exact, cache)
        decoded = np.asarray(open_codec(subject).decompress(data))
        versions.append(
            {
                "label": codecs[subject.name]["label"],
                "setting": used,
                "bytes": len(data),
                "bpp": 8 * len(data) / (source.width * source.height),
                "psnr": psnr(original, decoded),
                "src": _embedded(decoded),
            }
        )
    return {"picture": name, "crop": [min(CROP[0], source.width), min(CROP[1], source.height)], "versions": versions}


def _near(subject: Subject, source: Source, size: int, exact: Setting | None, cache: Path) -> tuple[Setting, bytes]:
    """The file next to `size` bytes, or that of an exact setting; cached."""
    identity = Task(subject, exact or 0, source).identity()
    file = Task(subject, exact or 0, source).file(cache).with_suffix(f".{size}.file")
    if file.is_file():
        head, _, data = file.read_bytes().partition(b"\n")
        return json.loads(head)["shown"], data
    codec, image = open_codec(subject), Image.fromarray(read_pixels(source.path))
    setting, data = (exact, codec.compress(image, exact)) if exact is not None else _search(codec, image, size)
    atomic.write(file, json.dumps({**identity, "shown": setting}).encode() + b"\n" + data)
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
