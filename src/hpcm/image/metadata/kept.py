"""The metadata that a .hpcm file holds, field by field, and what Pillow calls it in `info`."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ...format.fields import ANCILLARY, Container

METRE = 39.37007874  # inches
CM_IN_METRE = 100
PER_METRE = 1  # the unit of a density; 0: unknown, only the ratio of the two numbers counts
PNG_CHUNKS = {  # field: type of PNG's chunk, whose data it holds byte for byte; in the order in which they are written
    "cicp": b"cICP",
    "gamma": b"gAMA",
    "chromaticities": b"cHRM",
    "srgb": b"sRGB",
    "mastering": b"mDCV",
    "light": b"cLLI",
    "density": b"pHYs",
}
_CHUNKS = {chunk.name: chunk for chunk in ANCILLARY.values()}
NAMES = {
    "icc": "ICC profile",
    "exif": "EXIF",
    "xmp": "XMP",
    "comments": "comment",
    "density": "pixel density",
    **{name: kind.decode() for name, kind in PNG_CHUNKS.items() if name != "density"},
}
COMMENT = "Comment"  # PNG's keyword, for comments of formats that have none
UNIT = 100_000  # of gAMA and cHRM: 1.0


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """None stands for what there isn't."""

    icc: bytes | None = None
    exif: bytes | None = None  # begins with b"Exif\\0\\0"
    xmp: bytes | None = None  # UTF-8
    comments: bytes | None = None  # keyword NUL text NUL keyword ..., UTF-8
    cicp: bytes | None = None  # primaries, transfer, matrix, full range (ITU-T H.273)
    gamma: bytes | None = None
    chromaticities: bytes | None = None
    srgb: bytes | None = None  # the rendering intent
    mastering: bytes | None = None  # of HDR: the display's colours and luminance
    light: bytes | None = None  # of HDR: the highest and the mean luminance
    density: bytes | None = None  # pixels per unit in x and y, unit

    @classmethod
    def of(cls, container: Container) -> Metadata:
        """That of a file; what has the wrong length for its kind counts as none."""
        chunks = [(ANCILLARY[kind], data) for kind, data in container.ancillary if kind in ANCILLARY]
        found = {chunk.name: data for chunk, data in chunks if chunk.accepts(data)}
        return cls(icc=container.icc, exif=container.exif, **found)

    @property
    def ancillary(self) -> tuple[tuple[str, bytes], ...]:
        """The ancillary chunks of a file, in their order."""
        found = ((kind, getattr(self, chunk.name)) for kind, chunk in sorted(ANCILLARY.items()))
        return tuple((kind, data) for kind, data in found if data)

    @property
    def present(self) -> dict[str, bytes]:
        """Field: data."""
        return {field.name: data for field in fields(Metadata) if (data := getattr(self, field.name))}

    @classmethod
    def of_info(cls, info: Mapping[Any, Any]) -> Metadata:
        """The reverse of `info`; what it can't be is left out."""
        texts = {key: info.get(name) for key, name in (("icc", "icc_profile"), ("exif", "exif"), ("xmp", "xmp"))}
        found = {key: data for key, data in texts.items() if isinstance(data, bytes)} | numbers_of(info)
        comments = info.get("comments")
        named = [(str(key), str(text)) for key, text in comments.items()] if isinstance(comments, dict) else []
        return cls(**found, comments=comments_from(named))

    def info(self) -> dict[str, Any]:
        """By the names and in the form that Pillow has: bytes, but for comments, dpi, gamma, chromaticity and srgb."""
        names = {
            "icc": "icc_profile",
            "exif": "exif",
            "xmp": "xmp",
            "cicp": "cicp",
            "mastering": "mdcv",
            "light": "clli",
        }
        info: dict[str, Any] = {names[name]: data for name, data in self.present.items() if name in names}
        if self.comments:
            info["comments"] = comments_of(self.comments)
        if self.gamma:
            info["gamma"] = int.from_bytes(self.gamma, "big") / UNIT
        if self.chromaticities:
            info["chromaticity"] = tuple(value / UNIT for value in struct.unpack(">8I", self.chromaticities))
        if self.srgb:
            info["srgb"] = self.srgb[0]
        if self.density:
            x, y, unit = struct.unpack(">IIB", self.density)
            info |= {"dpi": (x / METRE, y / METRE)} if unit == PER_METRE else {"aspect": (x, y)}
        return info


def fits(name: str, data: bytes) -> bool:
    """Whether a field can have these data."""
    return name not in _CHUNKS or _CHUNKS[name].accepts(data)


def numbers_of(info: Mapping[Any, Any]) -> dict[str, bytes]:
    """The fields of fixed length, from `info`; what is out of bounds or of another type is left out."""
    given = {
        "cicp": lambda: bytes(info["cicp"]),
        "mastering": lambda: bytes(info["mdcv"]),
        "light": lambda: bytes(info["clli"]),
        "srgb": lambda: bytes([info["srgb"]]),
        "gamma": lambda: struct.pack(">I", round(info["gamma"] * UNIT)),
        "chromaticities": lambda: struct.pack(">8I", *(round(value * UNIT) for value in info["chromaticity"])),
        "density": lambda: density_of(info),
    }
    found: dict[str, bytes] = {}
    for name, read in given.items():
        try:
            data = read()
        except (KeyError, TypeError, ValueError, OverflowError, struct.error):
            continue
        if fits(name, data):
            found[name] = data
    return found


def density_of(info: Mapping[Any, Any]) -> bytes:
    """Of JPEG as JFIF has it: Pillow's dpi are a guess where there is none. Raises what a wrong type raises."""
    if "jfif_density" in info:
        (x, y), unit = info["jfif_density"], info["jfif_unit"]
        scale = {1: METRE, 2: CM_IN_METRE}.get(unit, 1)
        return b"" if unit == 0 and x == y else density(x * scale, y * scale, PER_METRE if unit in (1, 2) else 0)
    if "aspect" in info:
        x, y = info["aspect"]
        return density(x, y, 0)
    x, y = info["dpi"]
    if x == y == 1:  # Pillow's, for a TIFF that has none
        return b""
    return density(x * METRE, y * METRE, PER_METRE)


def density(x: float, y: float, unit: int) -> bytes:
    """pHYs; nothing where it says nothing."""
    known = math.isfinite(x + y) and round(x) > 0 and round(y) > 0
    return struct.pack(">IIB", round(x), round(y), unit) if known else b""


def dots_per_inch(per_metre: int) -> int | None:
    """A whole number, if it is one that was rounded to pixels per metre."""
    dpi = round(per_metre / METRE)
    return dpi if round(dpi * METRE) == per_metre else None


def comments_from(texts: list[tuple[str, str]]) -> bytes | None:
    """Texts under their keywords; those of one keyword become one, of several lines."""
    joined: dict[str, str] = {}
    for key, text in texts:
        joined[key] = f"{joined[key]}\n{text}" if joined.get(key) else text
    fields_ = [field.replace("\0", " ") for pair in joined.items() for field in pair]
    return "\0".join(fields_).encode("utf-8", "replace") or None


def comments_of(data: bytes) -> dict[str, str]:
    """The reverse; whatever the bytes are, they give keywords and texts."""
    fields_ = data.decode("utf-8", "replace").split("\0")
    return dict(zip(fields_[::2], fields_[1::2], strict=False))
