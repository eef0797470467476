"""The numbers of an HDR gain map: what its samples mean. As ISO 21496-1 stores them, and as XMP does.

A gain map is a small picture beside another one, the base. For each of its pixels it says how many stops (factors of 2)
lie between two renditions of the scene, as a rule one for ordinary displays (SDR) and one for bright ones (HDR). With a
sample g of 0 to 1 and a weight w of 0 to 1 that depends on the display:

    stops     = minimum + g^(1 / gamma) * (maximum - minimum)
    rendition = (base + base offset) * 2^(w * stops) - alternate offset            in linear light, 1 is SDR's white

where w is 1 from the alternate rendition's headroom on, and 0 up to that of the base. (If the base is the HDR
rendition, w is negative: stops are those from SDR to HDR in any case.)

    sources     ISO 21496-1:2025, Annex C: the binary GainMapMetadata, in APP2 of a JPEG and the item `tmap` of HEIF
                Android, Ultra HDR Image Format v1.1, and Adobe, Gain Map 1.0: the properties hdrgm:... of XMP
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from ...errors import FormatError
from ...format.wire import Reader, varint
from .xmp import GAIN_MAP, XMPError, find_properties

Ratio = tuple[int, int]  # numerator, denominator

VERSION = 0  # that a reader has to know
MULTICHANNEL, BASE_COLOUR_SPACE = 0x80, 0x40  # bits of the flags
COMMON_DENOMINATOR, BACKWARD = 0x08, 0x04  # bits that the draft had and libultrahdr still writes
MAX_ISO = 1024  # bytes that are read, of which three channels take 141
INFO_KEY = "gain_map"  # in Pillow's `info`: a hdr.GainMap, or None if none is to be kept
NOT_KEPT = "the picture's HDR gain map is not kept: {}"  # a note
MAX_STOPS = 64  # of a gain or a headroom: twice what any display, sensor or half float can hold
MAX_GAMMA = 256
MAX_OFFSET = 16  # of linear light; the usual one is 1/64
MAX_DENOMINATOR = 10_000_000  # of a decimal number in XMP: seven digits stay exact

XMP_NUMBERS: dict[str, float | None] = {  # the properties hdrgm:... that are numbers, and what they are if left out
    "GainMapMin": 0.0,
    "GainMapMax": None,
    "Gamma": 1.0,
    "OffsetSDR": 1 / 64,
    "OffsetHDR": 1 / 64,
    "HDRCapacityMin": 0.0,
    "HDRCapacityMax": None,
}
PACKET = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">{}</rdf:RDF>'
    "</x:xmpmeta>"
)
LIST_ITEM = re.compile(rb"<(?:[\w.-]+:)?li\b[^>]*>([^<]*)<")


class GainMapError(ValueError):
    """The numbers of a gain map make no sense, or can't be read."""


@dataclass(frozen=True)
class StoredGainMap:
    """A gain map in a picture file."""

    iso: bytes  # the binary GainMapMetadata
    file: bytes  # of the gain map's own picture, in the format of the file it lies in
    rest: bytes  # the picture file without the gain map, for the list of what else it has


@dataclass(frozen=True)
class Channel:
    """What the samples of one channel mean; of a gain map with one channel, of all three colours."""

    minimum: Ratio  # stops where the sample is 0
    maximum: Ratio  # stops where the sample is the highest
    gamma: Ratio
    base_offset: Ratio
    alternate_offset: Ratio


@dataclass(frozen=True)
class GainMapMetadata:
    """The numbers of a gain map. Fractions are as they are stored, not reduced."""

    base_headroom: Ratio  # stops between SDR's white and the brightest that the base rendition can show
    alternate_headroom: Ratio  # of the other rendition
    channels: tuple[Channel, ...]  # 1, or 3: red, green, blue
    use_base_colour_space: bool = True  # else gains apply in the colour space of the gain map's ICC profile
    backward: bool = False  # the draft's flag of an HDR base, which says no more than the headrooms

    @property
    def base_is_hdr(self) -> bool:
        """Whether the picture itself is the HDR rendition, and the gain map leads to the SDR one."""
        return _value(self.base_headroom) > _value(self.alternate_headroom)

    # ---- ISO 21496-1, Annex C ---------------------------------------------------------------------------------------

    @classmethod
    def from_iso(cls, data: bytes) -> GainMapMetadata:
        """From the binary GainMapMetadata. Raises GainMapError, also for numbers that make no sense."""
        if len(data) > MAX_ISO:
            raise GainMapError(f"its numbers take {len(data):,} bytes, and {MAX_ISO:,} are allowed")
        try:
            version, _writer, flags = struct.unpack_from(">HHB", data)
            if version != VERSION:
                raise GainMapError(f"its numbers are of version {version} of ISO 21496-1, and {VERSION} is known")
            ratios = _ratios(data, flags)
            base, alternate = next(ratios), next(ratios)
            channels = tuple(Channel(*(next(ratios) for _ in range(5))) for _ in range(_channels(flags)))
        except struct.error:
            raise GainMapError(f"its numbers are cut short, at {len(data)} bytes") from None
        metadata = cls(base, alternate, channels, bool(flags & BASE_COLOUR_SPACE), bool(flags & BACKWARD))
        metadata.check()
        return metadata

    def to_iso(self) -> bytes:
        """As the binary GainMapMetadata."""
        flags = (MULTICHANNEL if len(self.channels) == 3 else 0) + (BACKWARD if self.backward else 0)
        flags += BASE_COLOUR_SPACE if self.use_base_colour_space else 0
        data = struct.pack(">HHB4I", VERSION, VERSION, flags, *self.base_headroom, *self.alternate_headroom)
        for channel in self.channels:
            numbers = (*channel.minimum, *channel.maximum, *channel.gamma)
            data += struct.pack(">iIiIII", *numbers)
            data += struct.pack(">iIiI", *channel.base_offset, *channel.alternate_offset)
        return data

    # ---- XMP --------------------------------------------------------------------------------------------------------

    @classmethod
    def from_xmp(cls, packet: bytes) -> GainMapMetadata | None:
        """From the properties hdrgm:...; None where there are none but hdrgm:Version, which announces a gain map.

        Raises GainMapError.
        """
        texts = _xmp_texts(packet)
        if not texts.keys() - {"Version"}:
            return None
        count = max(len(texts.get(name, [])) for name in XMP_NUMBERS)
        numbers = {name: _xmp_ratios(name, texts.get(name), count) for name in XMP_NUMBERS}
        sdr, hdr = "SDR", "HDR"
        low, high = numbers["HDRCapacityMin"][0], numbers["HDRCapacityMax"][0]
        if texts.get("BaseRenditionIsHDR", [b""])[0].strip().lower() == b"true":
            (sdr, hdr), (low, high) = (hdr, sdr), (high, low)
        names = ("GainMapMin", "GainMapMax", "Gamma", f"Offset{sdr}", f"Offset{hdr}")
        channels = zip(*(numbers[name] for name in names), strict=True)
        metadata = cls(low, high, tuple(Channel(*channel) for channel in channels))
        metadata.check()
        return metadata

    def to_xmp(self) -> bytes:
        """As a packet with the properties hdrgm:..., for the gain map's own file."""
        low, high = self.base_headroom, self.alternate_headroom
        sdr = [channel.base_offset for channel in self.channels]
        hdr = [channel.alternate_offset for channel in self.channels]
        if self.base_is_hdr:
            (low, high), (sdr, hdr) = (high, low), (hdr, sdr)
        numbers = {
            "GainMapMin": [channel.minimum for channel in self.channels],
            "GainMapMax": [channel.maximum for channel in self.channels],
            "Gamma": [channel.gamma for channel in self.channels],
            "OffsetSDR": sdr,
            "OffsetHDR": hdr,
            "HDRCapacityMin": [low],
            "HDRCapacityMax": [high],
        }
        attributes = [f'xmlns:hdrgm="{GAIN_MAP}"', 'hdrgm:Version="1.0"']
        elements = ""
        for name, ratios in numbers.items():
            texts = [_decimal(ratio) for ratio in ratios]
            if len(set(texts)) == 1:
                attributes.append(f'hdrgm:{name}="{texts[0]}"')
            else:
                items = "".join(f"<rdf:li>{text}</rdf:li>" for text in texts)
                elements += f"<hdrgm:{name}><rdf:Seq>{items}</rdf:Seq></hdrgm:{name}>"
        attributes.append(f'hdrgm:BaseRenditionIsHDR="{self.base_is_hdr}"')
        description = f'<rdf:Description rdf:about="" {" ".join(attributes)}>{elements}</rdf:Description>'
        return PACKET.format(description).encode()

    # ---- sense ------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises GainMapError for numbers by which no rendition can be computed, or that no picture has."""
        headrooms = {"headroom of the base": self.base_headroom, "headroom of the alternate": self.alternate_headroom}
        for name, ratio in headrooms.items():
            _check(name, ratio, 0, MAX_STOPS)
        if _value(self.base_headroom) == _value(self.alternate_headroom):
            raise GainMapError("both of its renditions have the same headroom")
        for channel in self.channels:
            _check("minimum", channel.minimum, -MAX_STOPS, MAX_STOPS)
            _check("maximum", channel.maximum, -MAX_STOPS, MAX_STOPS)
            _check("gamma", channel.gamma, 1 / MAX_GAMMA, MAX_GAMMA)
            _check("offset of the base", channel.base_offset, -MAX_OFFSET, MAX_OFFSET)
            _check("offset of the alternate", channel.alternate_offset, -MAX_OFFSET, MAX_OFFSET)
            if _value(channel.maximum) < _value(channel.minimum):
                raise GainMapError("its maximum is less than its minimum")


def _channels(flags: int) -> int:
    return 3 if flags & MULTICHANNEL else 1


def _ratios(data: bytes, flags: int) -> Iterator[Ratio]:
    """The fractions in their order: two headrooms, which are unsigned, and five of each channel, of which gamma is."""
    at = 5
    common = None
    if flags & COMMON_DENOMINATOR:
        (common,) = struct.unpack_from(">I", data, at)
        at += 4
    for sign in "II" + "iiIii" * _channels(flags):
        (numerator,) = struct.unpack_from(f">{sign}", data, at)
        at += 4
        denominator = common
        if denominator is None:
            (denominator,) = struct.unpack_from(">I", data, at)
            at += 4
        yield numerator, denominator


def _value(ratio: Ratio) -> float:
    return ratio[0] / ratio[1]


def _check(name: str, ratio: Ratio, low: float, high: float) -> None:
    if not ratio[1]:
        raise GainMapError(f"its {name} has the denominator 0")
    if not low <= _value(ratio) <= high:
        raise GainMapError(f"its {name} is {_value(ratio):g}, and {low:g} to {high:g} are allowed")


def _xmp_texts(packet: bytes) -> dict[str, list[bytes]]:
    """The properties hdrgm:..., each a text, or a list of them. Raises GainMapError."""
    try:
        properties = find_properties(packet, lambda namespace, _: namespace == GAIN_MAP)
    except XMPError as error:
        raise GainMapError(f"its XMP can't be read: {error}") from None
    return {item.name: LIST_ITEM.findall(item.value) or [item.value] for item in properties}


def _xmp_ratios(name: str, texts: list[bytes] | None, count: int) -> list[Ratio]:
    """A property as one fraction for each channel. Raises GainMapError."""
    if count not in (0, 1, 3):
        raise GainMapError(f"it has {count} channels, and 1 or 3 are allowed")
    if texts is None and XMP_NUMBERS[name] is None:
        raise GainMapError(f"it has no {name}")
    texts = texts or [str(XMP_NUMBERS[name]).encode()]
    if len(texts) not in (1, count):
        raise GainMapError(f"its {name} has {len(texts)} numbers, for {count} channels")
    try:
        ratios = [_ratio(name, float(text)) for text in texts]
    except ValueError as error:
        if isinstance(error, GainMapError):
            raise
        raise GainMapError(f"its {name} is {texts[0][:32]!r}") from None
    return ratios * count if len(ratios) < count else ratios


def _ratio(name: str, value: float) -> Ratio:
    """The nearest fraction of 32 bits."""
    if not math.isfinite(value) or abs(value) > MAX_GAMMA:  # the largest bound of all
        raise GainMapError(f"its {name} is {value:g}")
    fraction = Fraction(value).limit_denominator(MAX_DENOMINATOR)
    return fraction.numerator, fraction.denominator


def _decimal(ratio: Ratio) -> str:
    """Without an exponent, which some readers don't know."""
    return f"{_value(ratio):.9f}".rstrip("0").rstrip(".")


# ---- the chunk of a .hpcm file --------------------------------------------------------------------------------------


def pack_chunk(iso: bytes, file: bytes) -> bytes:
    """The data of the chunk "u": the length of the numbers, the numbers, and a .hpcm file of the gain map's picture."""
    return varint(len(iso)) + iso + file


def unpack_chunk(data: bytes) -> tuple[bytes, bytes]:
    """The reverse of `pack_chunk`: the binary GainMapMetadata and the .hpcm file. Raises GainMapError."""
    reader = Reader(data)
    try:
        size = reader.varint("length of its numbers")
        if not 1 <= size <= MAX_ISO:
            raise GainMapError(f"its numbers take {size:,} bytes, and 1 to {MAX_ISO:,} are allowed")
        iso = bytes(reader.take(size, "its numbers"))
    except FormatError as error:
        raise GainMapError(str(error)) from None
    return iso, bytes(data[reader.at :])
