"""The metadata that a .hpcm file holds, field by field, and the names of these fields in Pillow's `info`."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ...format.fields import ANCILLARY, Container
from .xmp import GAIN_MAP_NAME

INCHES_PER_METRE = 39.37007874
CM_PER_METRE = 100
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
NAMES = {  # field: its name in notes
    "icc": "ICC profile",
    "exif": "EXIF",
    "xmp": "XMP",
    "comments": "comment",
    "density": "pixel density",
    **{field: kind.decode() for field, kind in PNG_CHUNKS.items() if field != "density"},
    "gain_map": GAIN_MAP_NAME,
}
INFO_KEYS = {  # field: its key in Pillow's `info`, where that holds the same bytes
    "icc": "icc_profile",
    "exif": "exif",
    "xmp": "xmp",
    "cicp": "cicp",
    "mastering": "mdcv",
    "light": "clli",
}
BLOCKS = ("icc", "exif", "xmp")  # fields of any length that a picture file has as one block
COMMENT = "Comment"  # PNG's keyword, for comments of formats without keywords
PNG_UNIT = 100_000  # what stands for 1.0 in gAMA and cHRM
JFIF_UNITS = {1: INCHES_PER_METRE, 2: CM_PER_METRE}  # unit of a JPEG's density: how many there are in a metre

_CHUNKS = {chunk.name: chunk for chunk in ANCILLARY.values()}


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What belongs to a picture besides its pixels, as a .hpcm file stores it. None: there is none."""

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
    gain_map: bytes | None = None  # coded: see gain_map.py; a Pillow image has a hdr.GainMap instead

    @classmethod
    def of(cls, container: Container) -> Metadata:
        """The metadata of a .hpcm file. Data of the wrong length for their type are left out."""
        chunks = [(ANCILLARY[kind], data) for kind, data in container.ancillary if kind in ANCILLARY]
        values = {chunk.name: data for chunk, data in chunks if chunk.accepts(data)}
        return cls(icc=container.icc, exif=container.exif, **values)

    @property
    def ancillary(self) -> tuple[tuple[str, bytes], ...]:
        """The ancillary chunks of a .hpcm file, in their order."""
        chunks = ((kind, getattr(self, chunk.name)) for kind, chunk in sorted(ANCILLARY.items()))
        return tuple((kind, data) for kind, data in chunks if data)

    @property
    def present(self) -> dict[str, bytes]:
        """Field: data."""
        return {field.name: data for field in fields(Metadata) if (data := getattr(self, field.name))}

    @classmethod
    def of_info(cls, info: Mapping[Any, Any]) -> Metadata:
        """The reverse of `info()`. Values of another type, or out of bounds, are left out."""
        blocks = {field: info.get(INFO_KEYS[field]) for field in BLOCKS}
        values = {field: data for field, data in blocks.items() if isinstance(data, bytes)}
        values |= fixed_length_fields(info)
        return cls(**values, comments=pack_comments(texts_of(info)))

    def info(self) -> dict[str, Any]:
        """By the keys and in the form of Pillow: bytes, but for comments, dpi, gamma, chromaticity and srgb."""
        info: dict[str, Any] = {INFO_KEYS[field]: data for field, data in self.present.items() if field in INFO_KEYS}
        if self.comments:
            info["comments"] = unpack_comments(self.comments)
        if self.gamma:
            info["gamma"] = int.from_bytes(self.gamma, "big") / PNG_UNIT
        if self.chromaticities:
            info["chromaticity"] = tuple(value / PNG_UNIT for value in struct.unpack(">8I", self.chromaticities))
        if self.srgb:
            info["srgb"] = self.srgb[0]
        if self.density:
            x, y, unit = struct.unpack(">IIB", self.density)
            in_inches = {"dpi": (x / INCHES_PER_METRE, y / INCHES_PER_METRE)}
            info |= in_inches if unit == PER_METRE else {"aspect": (x, y)}
        return info


def has_right_length(field: str, data: bytes) -> bool:
    """Whether a .hpcm file accepts these data for a field."""
    return field not in _CHUNKS or _CHUNKS[field].accepts(data)


def fixed_length_fields(info: Mapping[Any, Any]) -> dict[str, bytes]:
    """The fields of fixed length, from `info`. Values of another type, or out of bounds, are left out."""
    converters = {
        "cicp": lambda: bytes(info["cicp"]),
        "mastering": lambda: bytes(info["mdcv"]),
        "light": lambda: bytes(info["clli"]),
        "srgb": lambda: bytes([info["srgb"]]),
        "gamma": lambda: struct.pack(">I", round(info["gamma"] * PNG_UNIT)),
        "chromaticities": lambda: struct.pack(">8I", *(round(value * PNG_UNIT) for value in info["chromaticity"])),
        "density": lambda: density_of(info),
    }
    values: dict[str, bytes] = {}
    for field, convert in converters.items():
        try:
            data = convert()
        except (KeyError, TypeError, ValueError, OverflowError, struct.error):
            continue
        if has_right_length(field, data):
            values[field] = data
    return values


# ---- density --------------------------------------------------------------------------------------------------------


def density_of(info: Mapping[Any, Any]) -> bytes:
    """The density in Pillow's `info`, as pHYs; empty if there is none.

    Of a JPEG it is JFIF's, because Pillow guesses `dpi` where there is none. Raises what a wrong type raises.
    """
    if "jfif_density" in info:
        (x, y), unit = info["jfif_density"], info["jfif_unit"]
        if unit == 0 and x == y:  # square pixels of an unknown size
            return b""
        scale = JFIF_UNITS.get(unit, 1)
        return pack_density(x * scale, y * scale, PER_METRE if unit in JFIF_UNITS else 0)
    if "aspect" in info:
        x, y = info["aspect"]
        return pack_density(x, y, 0)
    x, y = info["dpi"]
    if x == y == 1:  # what Pillow gives for a TIFF that has none
        return b""
    return pack_density(x * INCHES_PER_METRE, y * INCHES_PER_METRE, PER_METRE)


def pack_density(x: float, y: float, unit: int) -> bytes:
    """A density as pHYs; empty where a number is 0, negative or not finite."""
    valid = math.isfinite(x + y) and round(x) > 0 and round(y) > 0
    return struct.pack(">IIB", round(x), round(y), unit) if valid else b""


def dots_per_inch(per_metre: int) -> int | None:
    """The whole number of dots per inch of which this is the rounded number per metre; None if there is none."""
    dpi = round(per_metre / INCHES_PER_METRE)
    return dpi if round(dpi * INCHES_PER_METRE) == per_metre else None


# ---- comments -------------------------------------------------------------------------------------------------------


def texts_of(info: Mapping[Any, Any]) -> list[tuple[str, str]]:
    """(keyword, text) of the comments that `Metadata.info` puts into Pillow's `info`."""
    comments = info.get("comments")
    return [(str(key), str(text)) for key, text in comments.items()] if isinstance(comments, dict) else []


def pack_comments(texts: list[tuple[str, str]]) -> bytes | None:
    """(keyword, text) as the field `comments`; texts of one keyword become one, of several lines."""
    joined: dict[str, str] = {}
    for key, text in texts:
        joined[key] = f"{joined[key]}\n{text}" if joined.get(key) else text
    strings = [string.replace("\0", " ") for pair in joined.items() for string in pair]
    return "\0".join(strings).encode("utf-8", "replace") or None


def unpack_comments(data: bytes) -> dict[str, str]:
    """The reverse of `pack_comments`. Any bytes give keywords and texts."""
    strings = data.decode("utf-8", "replace").split("\0")
    return dict(zip(strings[::2], strings[1::2], strict=False))
