"""XMP without properties that no longer hold: an orientation that was applied, items that lay beside the picture.

And with those that announce a gain map again, where one is written.

A parser finds where properties begin; they are cut out of the bytes, so that all others stay as they are. A property is
an attribute or an element, in a namespace under any prefix: tiff:Orientation="6", tiff:Orientation = '6',
<t:Orientation> 6 </t:Orientation>.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from .exif import QUARTER_TURNS

TIFF, EXIF = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/"
GAIN_MAP, APPLE_GAIN_MAP = "http://ns.adobe.com/hdr-gain-map/1.0/", "http://ns.apple.com/HDRGainMap/1.0/"
CAMERA, CONTAINER = "http://ns.google.com/photos/1.0/camera/", "http://ns.google.com/photos/1.0/container/"
ITEM, NOTE = "http://ns.google.com/photos/1.0/container/item/", "http://ns.adobe.com/xmp/note/"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
IPTC_CORE, IPTC_EXTENSION = "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/", "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
USUAL_PREFIXES = {  # prefixes that some writers don't declare
    "tiff": TIFF,
    "exif": EXIF,
    "hdrgm": GAIN_MAP,
    "HDRGainMap": APPLE_GAIN_MAP,
    "GCamera": CAMERA,
    "Container": CONTAINER,
    "GContainer": CONTAINER,
    "xmpNote": NOTE,
    "photoshop": PHOTOSHOP,
    "Iptc4xmpCore": IPTC_CORE,
    "Iptc4xmpExt": IPTC_EXTENSION,
}
ORIENTATION, DIRECTORY, EXTENDED = (TIFF, "Orientation"), (CONTAINER, "Directory"), (NOTE, "HasExtendedXMP")
SIZES = {(TIFF, "ImageWidth"), (TIFF, "ImageLength"), (EXIF, "PixelXDimension"), (EXIF, "PixelYDimension")}
PLACES = {  # where the picture was taken, or what it shows; the creator's address isn't among them
    *((PHOTOSHOP, name) for name in ("City", "State", "Country")),
    *((IPTC_CORE, name) for name in ("Location", "CountryCode")),
    *((IPTC_EXTENSION, name) for name in ("LocationShown", "LocationCreated")),
}
COORDINATES = re.compile(
    "^gps|latitude|long?t?itude|altitude", re.IGNORECASE
)  # in names of any namespace, as of drones
COLOURS = {(EXIF, "ColorSpace"), (PHOTOSHOP, "ICCProfile")}
ENCODINGS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"))
ENCODING_DECLARATION = re.compile(r"""(<\?xml[^>]*?)\s+encoding\s*=\s*("[^"]*"|'[^']*')""")
ATTRIBUTE = re.compile(rb"""\s+([^\s=/>]+)\s*=\s*("[^"]*"|'[^']*')""")
TAG_START = re.compile(rb"<[^\s/>]+")
ABOUT_AND_NAMESPACES = rb"""(?:\s+(?:xmlns:[^\s=]+|(?:[^\s=:]+:)?about)\s*=\s*(?:"[^"]*"|'[^']*'))*\s*"""
EMPTY_DESCRIPTION = re.compile(
    rb"<(?P<tag>(?:[^\s<>/:]+:)?Description)%b(?:/>|>\s*</(?P=tag)\s*>)" % ABOUT_AND_NAMESPACES
)
EMPTY_RDF = re.compile(rb"<(?P<tag>(?:[^\s<>/:]+:)?RDF)%b(?:/>|>\s*</(?P=tag)\s*>)" % ABOUT_AND_NAMESPACES)
BLANK = b"\0 \t\r\n"
GAIN_MAP_NAME, VIDEO_NAME, EXTENDED_NAME = "HDR gain map", "motion photo's video", "extended XMP"
DEPTH_NAME, ITEM_NAME = "depth map", "further items"
MAX_DEPTH = 200  # of elements


class XMPError(ValueError):
    """It isn't XML that can be understood."""


@dataclass
class Property:
    """An attribute or an element, and where it lies in the data."""

    namespace: str
    name: str
    begin: int
    end: int
    value: bytes = b""


@dataclass
class CleanXMP:
    """XMP from which properties were removed."""

    data: bytes
    lost: list[str] = field(default_factory=list)  # names of what they announce and what isn't kept
    notes: list[str] = field(default_factory=list)


def to_utf8(data: bytes) -> bytes:
    """XMP as UTF-8, from UTF-16 too; as it is where it is neither."""
    for start, encoding in ENCODINGS:
        if data.startswith(start):
            try:
                return ENCODING_DECLARATION.sub(r"\1", data.decode(encoding)).encode()
            except UnicodeError:
                return data
    return data


def orientation_of(data: bytes) -> int | None:
    """1 to 8; None if there is none."""
    if b"Orientation" not in data:  # the usual case needs no parser
        return None
    try:
        values = [item.value.strip() for item in find_properties(data, lambda *name: name == ORIENTATION)]
    except XMPError:
        return None
    return int(values[0]) if values and re.fullmatch(rb"[1-8]", values[0]) else None


def remove_outdated(data: bytes, orientation: int) -> CleanXMP:
    """Removes what no longer holds when an orientation, 1 to 8, was applied and nothing lies beside the picture.

    A gain map that is kept is announced anew where it is written.
    """
    if not data:
        return CleanXMP(data)
    try:
        outdated = find_properties(data, lambda namespace, name: _is_outdated(namespace, name, orientation))
    except XMPError as error:
        return CleanXMP(data, notes=_unreadable_notes(data, orientation, error))
    lost = [name for item in outdated for name in announced_names(item)]
    clean = _cut(data, outdated)
    if GAIN_MAP_NAME in lost:  # which often is all that a packet tells of
        clean = EMPTY_DESCRIPTION.sub(b"", clean)
        clean = b"" if EMPTY_RDF.search(clean) else clean
    return CleanXMP(clean, list(dict.fromkeys(lost)))


def without_place(data: bytes) -> bytes:
    """Without properties that tell the place. Raises XMPError."""
    return _cut(data, find_properties(data, _is_place))


def without_colours(data: bytes) -> bytes:
    """Without properties that name the colour space; as it is where it can't be read."""
    try:
        return _cut(data, find_properties(data, lambda *name: name in COLOURS))
    except XMPError:
        return data


def _is_place(namespace: str, name: str) -> bool:
    return (namespace, name) in PLACES or COORDINATES.search(name) is not None


def _is_outdated(namespace: str, name: str, orientation: int) -> bool:
    if (namespace, name) == ORIENTATION:
        return orientation > 1
    if (namespace, name) in SIZES:
        return orientation in QUARTER_TURNS
    if namespace == CAMERA:
        return name.startswith(("MotionPhoto", "MicroVideo"))
    return namespace in (GAIN_MAP, APPLE_GAIN_MAP) or (namespace, name) in (DIRECTORY, EXTENDED)


def _cut(data: bytes, properties: list[Property]) -> bytes:
    """The data without these properties, none of which lies inside another."""
    kept, at = bytearray(), 0
    for item in sorted(properties, key=lambda item: item.begin):
        kept += data[at : item.begin]
        at = item.end
    return bytes(kept + data[at:])


def _unreadable_notes(data: bytes, orientation: int, error: XMPError) -> list[str]:
    """A note, if there seems to be something outdated in XMP that can't be read, and so is kept as it is."""
    words = ["Orientation"] if orientation > 1 else []
    words += ["GainMap", "hdrgm", "MotionPhoto"]
    outdated = [word for word in words if word.encode() in data]
    if not outdated:
        return []
    return [f"the picture's XMP, which can't be read ({error}), still tells of {', '.join(outdated)}"]


def announced_names(item: Property) -> list[str]:
    """Names of what lies beside the picture according to a property."""
    if item.namespace in (GAIN_MAP, APPLE_GAIN_MAP):
        return [GAIN_MAP_NAME]
    if item.namespace == CAMERA:
        return [VIDEO_NAME] if item.value.strip() != b"0" else []
    if item.namespace == CONTAINER:
        kinds = {b"GainMap": GAIN_MAP_NAME, b"MotionPhoto": VIDEO_NAME, b"Depth": DEPTH_NAME}
        return [name for kind, name in kinds.items() if kind in item.value] or [ITEM_NAME]
    return [EXTENDED_NAME] if item.namespace == NOTE else []


# ---- gain maps ------------------------------------------------------------------------------------------------------


def announce_gain_map(packet: bytes | None, size: int) -> bytes:
    """A picture's packet, or a new one, with the properties that announce a gain map.

    They are hdrgm:Version and GContainer's directory (Android, Ultra HDR Image Format v1.1).

    Args:
        packet: without such properties; its other bytes stay as they are.
        size: of the gain map's own JPEG in bytes, which follows the picture's.

    Raises XMPError where the packet can't be read.
    """
    if packet is None:
        packet = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"></rdf:RDF></x:xmpmeta>'.encode()
    place = _Description(packet)
    items = (
        '<Container:Item Item:Semantic="Primary" Item:Mime="image/jpeg"/>',
        f'<Container:Item Item:Semantic="GainMap" Item:Mime="image/jpeg" Item:Length="{size}"/>',
    )
    listed = "".join(f'<rdf:li rdf:parseType="Resource">{item}</rdf:li>' for item in items)
    description = (
        f'<rdf:Description xmlns:rdf="{RDF}" rdf:about={quoteattr(place.about)} xmlns:Container="{CONTAINER}"'
        f' xmlns:Item="{ITEM}" xmlns:hdrgm="{GAIN_MAP}" hdrgm:Version="1.0"><Container:Directory><rdf:Seq>{listed}'
        "</rdf:Seq></Container:Directory></rdf:Description>"
    )
    return packet[: place.at] + description.encode() + packet[place.at :]


class _Description:
    """Where a description may be added: before the end of rdf:RDF, about the same as the others are.

    Raises XMPError where the packet can't be read, or has no such place.
    """

    def __init__(self, packet: bytes) -> None:
        self.about, self.at = "", -1
        self.parser = expat.ParserCreate("utf-8", " ")  # names are then "namespace name"
        self.parser.StartElementHandler = self.start_element
        self.parser.EndElementHandler = self.end_element
        _parse(self.parser, packet)
        if not packet.startswith(b"</", max(self.at, 0)):
            raise XMPError("it has no element rdf:RDF, or an empty one")

    def start_element(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == f"{RDF} Description" and not self.about:
            self.about = attributes.get(f"{RDF} about", "")

    def end_element(self, tag: str) -> None:
        if tag == f"{RDF} RDF":
            self.at = self.parser.CurrentByteIndex


def container_items(packet: bytes) -> list[dict[str, str]]:
    """The items of GContainer's directory: name of a property, such as Semantic, and its value. Raises XMPError."""
    items: list[dict[str, str]] = []
    names: list[str] = []  # of the elements that are open

    def start_element(tag: str, attributes: dict[str, str]) -> None:
        names.append(tag)
        if tag == f"{CONTAINER} Item":
            items.append({})
            for name, value in attributes.items():
                add(name, value)

    def end_element(tag: str) -> None:
        names.pop()

    def add(name: str, value: str) -> None:
        namespace, _, local = name.rpartition(" ")
        if namespace == ITEM:
            items[-1][local] = items[-1].get(local, "") + value.strip()

    def text(value: str) -> None:
        if items and names:
            add(names[-1], value)

    parser = expat.ParserCreate("utf-8", " ")
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start_element, end_element, text
    _parse(parser, packet)
    return items


def _parse(parser: expat.XMLParserType, data: bytes) -> None:
    """Calls the parser's handlers. Raises XMPError."""
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(data.rstrip(BLANK), True)
    except expat.ExpatError as error:
        raise XMPError(str(error)) from error


def _refuse_doctype(*_: object) -> None:
    """Its entities could stand for any amount of text."""
    raise XMPError("it has a document type")


# ---- properties and their places ------------------------------------------------------------------------------------


def find_properties(data: bytes, wanted: Callable[[str, str], bool]) -> list[Property]:
    """Those whose namespace and name are wanted, none inside another. Raises XMPError. Linear in the data."""
    handler = _PropertyParser(data.rstrip(BLANK), wanted)
    _parse(handler.parser, handler.data)
    return handler.properties


class _PropertyParser:
    """Finds properties and where they lie.

    Expat gives the place of a tag's beginning only, so attributes and the ends of tags are looked up in the data.
    """

    def __init__(self, data: bytes, wanted: Callable[[str, str], bool]) -> None:
        self.data, self.wanted = data, wanted
        self.properties: list[Property] = []
        self.namespaces: dict[str, list[str]] = {prefix: [uri] for prefix, uri in USUAL_PREFIXES.items()}
        self.open_elements: list[list[str]] = []  # the prefixes that each declares
        self.wanted_depth: int | None = None  # of a wanted element that is open
        self.parser = expat.ParserCreate("utf-8")
        self.parser.StartElementHandler = self.start_element
        self.parser.EndElementHandler = self.end_element

    def start_element(self, tag: str, attributes: dict[str, str]) -> None:
        self.declare_prefixes(attributes)
        if len(self.open_elements) > MAX_DEPTH:
            raise XMPError("its elements lie too deep in one another")
        if self.wanted_depth is not None:  # all that is inside goes with it
            return
        begin = self.parser.CurrentByteIndex
        found_attributes, end = self.wanted_attributes(begin)
        prefix, _, name = tag.rpartition(":")
        namespace = self.namespace(prefix)
        if self.wanted(namespace, name):
            self.properties.append(Property(namespace, name, begin, end))
            self.wanted_depth = len(self.open_elements)
        else:
            self.properties += found_attributes

    def declare_prefixes(self, attributes: dict[str, str]) -> None:
        """Those of an element hold until it ends; "" stands for elements without a prefix."""
        declarations = {name[6:]: uri for name, uri in attributes.items() if name == "xmlns" or name[:6] == "xmlns:"}
        for prefix, uri in declarations.items():
            self.namespaces.setdefault(prefix, []).append(uri)
        self.open_elements.append(list(declarations))

    def namespace(self, prefix: str) -> str:
        """Empty if the prefix isn't declared here."""
        uris = self.namespaces.get(prefix)
        return uris[-1] if uris else ""

    def wanted_attributes(self, at: int) -> tuple[list[Property], int]:
        """Those of the tag that begins at a place, and where the tag ends."""
        properties: list[Property] = []
        start = TAG_START.match(self.data, at)
        at = start.end() if start else at
        while match := ATTRIBUTE.match(self.data, at):
            at = match.end()
            prefix, _, name = match[1].decode("utf-8", "replace").rpartition(":")
            namespace = self.namespace(prefix) if prefix else ""  # the default namespace is for elements alone
            if self.wanted(namespace, name):
                value = match[2][1:-1]  # without quotation marks
                properties.append(Property(namespace, name, match.start(), at, value))
        return properties, self.data.find(b">", at) + 1

    def end_element(self, tag: str) -> None:
        if self.wanted_depth == len(self.open_elements):
            element, at = self.properties[-1], self.parser.CurrentByteIndex
            has_end_tag = at >= element.end  # else it is <element/>
            if has_end_tag:
                element.value = self.data[element.end : at]
                element.end = self.data.find(b">", at) + 1
            self.wanted_depth = None
        for prefix in self.open_elements.pop():
            self.namespaces[prefix].pop()
