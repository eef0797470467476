"""XMP without what no longer holds: an orientation that was applied, and items that lay beside the picture.

A parser tells where properties begin; they are cut out of the bytes, so that all others stay as they are. A property is
an attribute or an element, in a namespace under any prefix: tiff:Orientation="6", tiff:Orientation = '6',
<t:Orientation> 6 </t:Orientation>.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from xml.parsers import expat

from .exif import QUARTER_TURNS

TIFF, EXIF = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/"
GAIN_MAP, APPLE_GAIN_MAP = "http://ns.adobe.com/hdr-gain-map/1.0/", "http://ns.apple.com/HDRGainMap/1.0/"
CAMERA, CONTAINER = "http://ns.google.com/photos/1.0/camera/", "http://ns.google.com/photos/1.0/container/"
NOTE = "http://ns.adobe.com/xmp/note/"
USUAL = {  # prefixes that some writers don't declare
    "tiff": TIFF,
    "exif": EXIF,
    "hdrgm": GAIN_MAP,
    "HDRGainMap": APPLE_GAIN_MAP,
    "GCamera": CAMERA,
    "Container": CONTAINER,
    "GContainer": CONTAINER,
    "xmpNote": NOTE,
}
SIZES = {(TIFF, "ImageWidth"), (TIFF, "ImageLength"), (EXIF, "PixelXDimension"), (EXIF, "PixelYDimension")}
ENCODINGS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"))
DECLARED = re.compile(r"""(<\?xml[^>]*?)\s+encoding\s*=\s*("[^"]*"|'[^']*')""")
ATTRIBUTE = re.compile(rb"""\s+([^\s=/>]+)\s*=\s*("[^"]*"|'[^']*')""")
START = re.compile(rb"<[^\s/>]+")
BLANK = b"\0 \t\r\n"
GAIN_MAP_NAME, VIDEO_NAME, EXTENDED_NAME = "HDR gain map", "motion photo's video", "extended XMP"
DEPTH_NAME, ITEM_NAME = "depth map", "further items"
MAX_DEPTH = 200  # of elements


class XMPError(ValueError):
    """It isn't XML that can be understood."""


@dataclass
class Property:
    namespace: str
    name: str
    begin: int
    end: int = 0
    value: bytes = b""


@dataclass
class Mended:
    data: bytes
    lost: list[str] = field(default_factory=list)  # names of what it announced and what isn't there any more
    notes: list[str] = field(default_factory=list)


def utf8(data: bytes) -> bytes:
    """XMP as UTF-8, from UTF-16 too; as it is where it is neither."""
    for start, encoding in ENCODINGS:
        if data.startswith(start):
            try:
                return DECLARED.sub(r"\1", data.decode(encoding)).encode()
            except UnicodeError:
                return data
    return data


def orientation_of(data: bytes) -> int | None:
    """1 to 8, if it tells one."""
    if b"Orientation" not in data:
        return None
    try:
        found = [item.value.strip() for item in properties(data, lambda *name: name == (TIFF, "Orientation"))]
    except XMPError:
        return None
    return int(found[0]) if found and re.fullmatch(rb"[1-8]", found[0]) else None


def mended(data: bytes, orientation: int) -> Mended:
    """Of a picture to whose pixels an orientation, 1 to 8, was applied and beside which nothing is kept."""

    def outdated(namespace: str, name: str) -> bool:
        if (namespace, name) == (TIFF, "Orientation"):
            return orientation > 1
        beside = namespace in (GAIN_MAP, APPLE_GAIN_MAP) or (namespace, name) == (CONTAINER, "Directory")
        video = namespace == CAMERA and name.startswith(("MotionPhoto", "MicroVideo"))
        sideways = (namespace, name) in SIZES and orientation in QUARTER_TURNS
        return beside or video or sideways or (namespace, name) == (NOTE, "HasExtendedXMP")

    try:
        found = properties(data, outdated) if data else []
    except XMPError as error:
        wrong = [text for text in ("Orientation", "GainMap", "hdrgm", "MotionPhoto") if text.encode() in data]
        wrong = wrong if orientation > 1 else [text for text in wrong if text != "Orientation"]
        told = f"the picture's XMP, which can't be read ({error}), still tells of {', '.join(wrong)}"
        return Mended(data, notes=[told] if wrong else [])
    kept, at = bytearray(), 0
    for item in sorted(found, key=lambda item: item.begin):
        kept += data[at : item.begin]
        at = item.end
    return Mended(bytes(kept + data[at:]), list(dict.fromkeys(name for item in found for name in announced(item))))


def announced(item: Property) -> list[str]:
    """What a property says to lie beside the picture."""
    if item.namespace in (GAIN_MAP, APPLE_GAIN_MAP):
        return [GAIN_MAP_NAME]
    if item.namespace == CAMERA:
        return [VIDEO_NAME] if item.value.strip() != b"0" else []
    if item.namespace == CONTAINER:
        kinds = {b"GainMap": GAIN_MAP_NAME, b"MotionPhoto": VIDEO_NAME, b"Depth": DEPTH_NAME}
        return [name for kind, name in kinds.items() if kind in item.value] or [ITEM_NAME]
    return [EXTENDED_NAME] if item.namespace == NOTE else []


def properties(data: bytes, wanted: Callable[[str, str], bool]) -> list[Property]:
    """Those whose namespace and name are wanted, none inside another. Raises XMPError. Linear in the data."""
    reader = _Reader(data.rstrip(BLANK), wanted)
    reader.read()
    return reader.found


class _Reader:
    def __init__(self, data: bytes, wanted: Callable[[str, str], bool]) -> None:
        self.data, self.wanted = data, wanted
        self.found: list[Property] = []
        self.scopes: dict[str, list[str]] = {prefix: [uri] for prefix, uri in USUAL.items()}
        self.declared: list[list[str]] = []  # prefixes, by element
        self.inside: tuple[int, int] | None = None  # of a wanted element: how deep it lies, where its start tag ends
        self.parser = expat.ParserCreate("utf-8")
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.finish
        self.parser.StartDoctypeDeclHandler = self.refuse

    def read(self) -> None:
        try:
            self.parser.Parse(self.data, True)
        except expat.ExpatError as error:
            raise XMPError(str(error)) from error

    def refuse(self, *_: object) -> None:
        raise XMPError("it has a document type")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        at = self.parser.CurrentByteIndex
        declared = [name for name in attributes if name == "xmlns" or name.startswith("xmlns:")]
        self.declared.append(prefixes := [name[6:] for name in declared])
        for prefix, name in zip(prefixes, declared, strict=True):
            self.scopes.setdefault(prefix, []).append(attributes[name])
        if len(self.declared) > MAX_DEPTH:
            raise XMPError("its elements lie too deep in one another")
        if self.inside is not None:
            return
        begun = START.match(self.data, at)
        end = begun.end() if begun else at
        inner: list[Property] = []
        while match := ATTRIBUTE.match(self.data, end):
            prefix, _, local = match[1].decode("utf-8", "replace").rpartition(":")
            space = self.scopes.get(prefix, [""])[-1] if prefix else ""
            if self.wanted(space, local):
                inner.append(Property(space, local, match.start(), match.end(), match[2][1:-1]))
            end = match.end()
        end = self.data.find(b">", end) + 1
        prefix, _, local = tag.rpartition(":")
        space = (self.scopes.get(prefix) or [""])[-1]
        if not self.wanted(space, local):
            self.found += inner
            return
        self.found.append(Property(space, local, at, end))
        self.inside = (len(self.declared), end)

    def finish(self, tag: str) -> None:
        if self.inside is not None and self.inside[0] == len(self.declared):
            item, at = self.found[-1], self.parser.CurrentByteIndex
            if at >= self.inside[1]:  # else it is an element of one tag
                item.value, item.end = self.data[self.inside[1] : at], self.data.find(b">", at) + 1
            self.inside = None
        for prefix in self.declared.pop():
            self.scopes[prefix].pop()
