"""HDR gain maps: from the files that have them, through a .hpcm file, to a JPEG that readers of Ultra HDR take."""

import io
import json
import pickle
import re
import struct
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import hpcm
import hpcm.pillow  # which registers the format
from hpcm.cli import main
from hpcm.errors import HPCMError
from hpcm.format.container import pack, unpack
from hpcm.image.hdr import GainMap
from hpcm.image.metadata import ultra_hdr, xmp
from hpcm.image.metadata.gain_map import INFO_KEY, Channel, GainMapError, GainMapMetadata, pack_chunk, unpack_chunk
from hpcm.image.metadata.gather import ImageInfo, gather
from hpcm.image.metadata.record import Metadata
from hpcm.image.picture import from_image
from hpcm.image.read import read_picture
from hpcm.image.write import save_picture
from pictures import GAIN_MAP_NUMBERS, box, exif, heif_parts, heif_with_gain_map

DATA = Path(__file__).parent / "data" / "gain_maps"
LIBULTRAHDR = (DATA / "libultrahdr.jpg").read_bytes()
WIDTH, HEIGHT = 96, 64
XMP_HEAD, ISO_HEAD = b"http://ns.adobe.com/xap/1.0/\0", b"urn:iso:std:iso:ts:21496:-1\0"
CHANNEL = Channel((-1, 2), (23, 10), (5, 4), (1, 64), (1, 32))
NUMBERS = GainMapMetadata((0, 1), (23, 10), (CHANNEL,))
COLOUR = replace(NUMBERS, channels=(CHANNEL, replace(CHANNEL, maximum=(9, 4)), replace(CHANNEL, gamma=(1, 1))))
BASE_IS_HDR = replace(NUMBERS, base_headroom=(23, 10), alternate_headroom=(0, 1), use_base_colour_space=False)
IGNORED = "the picture's HDR gain map is not kept"


def drawn(mode: str, size: tuple[int, int]) -> Image.Image:
    """Brighter to the right, and at the top left corner dark; no symmetry."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    grey = 255 * x / width * (0.4 + 0.6 * y / height)
    image = Image.fromarray(grey.astype(np.uint8))
    return image if mode == "L" else Image.merge("RGB", (image, image.point(lambda value: value // 2), image))


def plain_jpeg(mode: str, size: tuple[int, int], **options) -> bytes:
    out = io.BytesIO()
    drawn(mode, size).save(out, "JPEG", quality=95, subsampling=0, **options)
    return out.getvalue()


def with_segments(jpeg: bytes, *segments: tuple[int, bytes]) -> bytes:
    """A JPEG with segments (marker, data) behind its first."""
    made = b"".join(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body for marker, body in segments)
    return jpeg[:20] + made + jpeg[20:]


def gain_map_jpeg(numbers: GainMapMetadata = NUMBERS, kind: str = "iso", size=(24, 16), mode: str = "L") -> bytes:
    """A gain map's own JPEG, with its numbers as ISO 21496-1 or as XMP has them."""
    segment = (0xE2, ISO_HEAD + numbers.to_iso()) if kind == "iso" else (0xE1, XMP_HEAD + numbers.to_xmp())
    return with_segments(plain_jpeg(mode, size), segment)


def directory(size: int, padding: int = 0, before: int = 0) -> bytes:
    """XMP of a picture with GContainer's directory, as Google's cameras write it, perhaps with an item before."""
    other = f'<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="Other" Item:Length="{before}"/></rdf:li>'
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0" '
        'xmlns:Container="http://ns.google.com/photos/1.0/container/" '
        'xmlns:Item="http://ns.google.com/photos/1.0/container/item/"><Container:Directory><rdf:Seq>'
        f'<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="Primary" Item:Padding="{padding}"/></rdf:li>'
        f"{other if before else ''}"
        '<rdf:li rdf:parseType="Resource"><Container:Item rdf:parseType="Resource">'
        f"<Item:Semantic>GainMap</Item:Semantic><Item:Length>{size}</Item:Length></Container:Item></rdf:li>"
        "</rdf:Seq></Container:Directory></rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


def joined(gain_map: bytes, *, first: bytes | None = None) -> bytes:
    """The gain map right behind the picture: neither MPF nor XMP point to it."""
    return (plain_jpeg("RGB", (WIDTH, HEIGHT)) if first is None else first) + gain_map


def kept(file: bytes) -> tuple[GainMap | None, list[str]]:
    """The gain map of a picture file as it would be coded, and all notes."""
    picture = read_picture(file)
    return picture.hdr, list(picture.notes)


def samples(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(float)


def close(one: Image.Image, other: Image.Image, tolerance: float = 6) -> bool:
    """Root mean square of the differences, of 255."""
    assert (one.mode, one.size) == (other.mode, other.size)
    return bool(np.sqrt(np.mean((samples(one) - samples(other)) ** 2)) < tolerance)


# ---- numbers --------------------------------------------------------------------------------------------------------


def test_numbers_as_iso_21496_has_them():
    """Byte by byte: two versions, flags, two headrooms, then five fractions of each channel."""
    head = "0000 0000 40" + "00000000 00000001" + "00000017 0000000a"
    channel = "ffffffff 00000002 00000017 0000000a 00000005 00000004 00000001 00000040 00000001 00000020"
    assert NUMBERS.to_iso() == bytes.fromhex(head + channel)
    assert GainMapMetadata.from_iso(bytes.fromhex(head + channel)) == NUMBERS
    assert COLOUR.to_iso()[4] == 0xC0
    assert len(COLOUR.to_iso()) == 141


@pytest.mark.parametrize("numbers", [NUMBERS, COLOUR, BASE_IS_HDR, replace(NUMBERS, backward=True)])
def test_iso_is_read_as_it_was_written(numbers):
    assert GainMapMetadata.from_iso(numbers.to_iso()) == numbers


def test_numbers_with_one_denominator():
    """The draft of the standard had that, and libultrahdr writes it."""
    data = struct.pack(">HHBI", 0, 0, 0x48, 64) + struct.pack(">II", 0, 128) + struct.pack(">iiIii", -32, 128, 64, 1, 2)
    numbers = GainMapMetadata.from_iso(data)
    assert numbers.alternate_headroom == (128, 64)
    assert numbers.channels == (Channel((-32, 64), (128, 64), (64, 64), (1, 64), (2, 64)),)


def test_numbers_of_libultrahdr():
    found = ultra_hdr.find(LIBULTRAHDR)
    numbers = GainMapMetadata.from_iso(found.iso)
    assert numbers.to_iso() == found.iso
    assert numbers.base_headroom == (0, 1)
    assert not numbers.base_is_hdr


@pytest.mark.parametrize("numbers", [NUMBERS, COLOUR])
def test_xmp_is_read_as_it_was_written(numbers):
    assert GainMapMetadata.from_xmp(numbers.to_xmp()) == numbers


def test_xmp_of_a_base_that_is_hdr():
    """XMP names offsets and headrooms by SDR and HDR, ISO 21496-1 by the base; gains lead from SDR to HDR in both."""
    packet = BASE_IS_HDR.to_xmp()
    for text in (
        b'BaseRenditionIsHDR="True"',
        b'HDRCapacityMax="2.3"',
        b'OffsetHDR="0.015625"',
        b'OffsetSDR="0.03125"',
    ):
        assert b"hdrgm:" + text in packet
    assert GainMapMetadata.from_xmp(packet) == replace(BASE_IS_HDR, use_base_colour_space=True)


def test_xmp_as_adobe_writes_it():
    """Elements, lists of three, and properties that are left out."""
    packet = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
      <rdf:Description rdf:about="" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"
       hdrgm:HDRCapacityMax="3.5"><hdrgm:GainMapMax><rdf:Seq> <rdf:li>3.5</rdf:li> <rdf:li>3</rdf:li>
       <rdf:li>2.25</rdf:li> </rdf:Seq></hdrgm:GainMapMax></rdf:Description></rdf:RDF></x:xmpmeta>"""
    numbers = GainMapMetadata.from_xmp(packet)
    assert [channel.maximum for channel in numbers.channels] == [(7, 2), (3, 1), (9, 4)]
    assert {(c.minimum, c.gamma, c.base_offset, c.alternate_offset) for c in numbers.channels} == {
        ((0, 1), (1, 1), (1, 64), (1, 64))
    }
    assert (numbers.base_headroom, numbers.alternate_headroom) == ((0, 1), (7, 2))


def test_xmp_that_only_announces():
    assert GainMapMetadata.from_xmp(directory(99)) is None


ABSURD = [
    ({"base_headroom": (0, 0)}, "its headroom of the base has the denominator 0"),
    ({"alternate_headroom": (65, 1)}, "its headroom of the alternate is 65, and 0 to 64 are allowed"),
    ({"alternate_headroom": (0, 5)}, "both of its renditions have the same headroom"),
    ({"minimum": (5, 0)}, "its minimum has the denominator 0"),
    ({"minimum": (3, 1)}, "its maximum is less than its minimum"),
    ({"maximum": (1 << 30, 1)}, "its maximum is 1.07374e+09, and -64 to 64 are allowed"),
    ({"gamma": (0, 1)}, "its gamma is 0, and 0.00390625 to 256 are allowed"),
    ({"gamma": (1 << 31, 1)}, "its gamma is 2.14748e+09, and 0.00390625 to 256 are allowed"),
    ({"base_offset": (-17, 1)}, "its offset of the base is -17, and -16 to 16 are allowed"),
    ({"alternate_offset": (1, 0)}, "its offset of the alternate has the denominator 0"),
]


def absurd(change: dict[str, tuple[int, int]]) -> GainMapMetadata:
    if change.keys() & {"base_headroom", "alternate_headroom"}:
        return replace(NUMBERS, **change)
    return replace(NUMBERS, channels=(replace(CHANNEL, **change),))


@pytest.mark.parametrize(("change", "message"), ABSURD)
def test_absurd_numbers_are_told_and_the_picture_kept(change, message):
    with pytest.raises(GainMapError, match=re.escape(message)):
        GainMapMetadata.from_iso(absurd(change).to_iso())
    assert kept(joined(gain_map_jpeg(absurd(change)))) == (None, [f"{IGNORED}: {message}"])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "its numbers are cut short, at 0 bytes"),
        (NUMBERS.to_iso()[:-1], "its numbers are cut short, at 60 bytes"),
        (b"\0\1" + NUMBERS.to_iso()[2:], "its numbers are of version 1 of ISO 21496-1, and 0 is known"),
        (bytes(1025), "its numbers take 1,025 bytes, and 1,024 are allowed"),
    ],
)
def test_iso_that_cannot_be_read(data, message):
    with pytest.raises(GainMapError, match=re.escape(message)):
        GainMapMetadata.from_iso(data)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'GainMapMax="2.3"', b'GainMapMax="nan"', "its GainMapMax is nan"),
        (b'GainMapMax="2.3"', b'GainMapMax="1e999"', "its GainMapMax is inf"),
        (b'GainMapMax="2.3"', b'GainMapMax="much"', "its GainMapMax is b'much'"),
        (b'hdrgm:GainMapMax="2.3"', b"", "it has no GainMapMax"),
        (b'hdrgm:HDRCapacityMax="2.3"', b"", "it has no HDRCapacityMax"),
        (b'Gamma="1.25"', b'Gamma="-1"', "its gamma is -1, and 0.00390625 to 256 are allowed"),
        (b"></rdf:Desc", b"><hdrgm:Gamma><rdf:li>1</rdf:li><rdf:li>2</rdf:li></hdrgm:Gamma></rdf:Desc", "2 channels"),
        (b"</rdf:RDF>", b"", "its XMP can't be read"),
    ],
)
def test_absurd_xmp_is_told_and_the_picture_kept(old, new, message):
    file = gain_map_jpeg(kind="xmp")
    packet = NUMBERS.to_xmp().replace(old, new)
    assert packet != NUMBERS.to_xmp()
    file = with_segments(plain_jpeg("L", (24, 16)), (0xE1, XMP_HEAD + packet))
    gain_map, notes = kept(joined(file))
    assert gain_map is None
    assert len(notes) == 1
    assert notes[0].startswith(f"{IGNORED}: ")
    assert message in notes[0]


# ---- JPEG files that have one ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["iso", "xmp"])
def test_behind_the_end_of_the_picture(kind):
    gain_map, notes = kept(joined(gain_map_jpeg(kind=kind)))
    assert notes == []
    assert gain_map.metadata == NUMBERS
    assert close(gain_map.image, drawn("L", (24, 16)), 2)


def test_by_the_directory_of_gcontainer():
    """Padding, and another item before it."""
    own = gain_map_jpeg(kind="xmp")
    first = with_segments(plain_jpeg("RGB", (WIDTH, HEIGHT)), (0xE1, XMP_HEAD + directory(len(own), 7, 100)))
    gain_map, notes = kept(first + bytes(7) + b"x" * 100 + own)
    assert gain_map.metadata == NUMBERS
    assert notes == ["the picture's data behind its end (107 bytes) is not kept"]


@pytest.mark.parametrize("order", "<>")
def test_by_the_index_of_mpf(order):
    """Of three pictures the middle one; the others have no numbers."""
    own, other = gain_map_jpeg(), plain_jpeg("L", (8, 8))
    plain = plain_jpeg("RGB", (WIDTH, HEIGHT))
    entries_at = 8 + 2 + 12 + 4
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    index = struct.pack(order + "H", 1) + struct.pack(order + "HHII", 0xB002, 7, 4 * 16, entries_at) + bytes(4)
    header_at = 20 + 4 + 4
    end = len(plain) + 4 + 4 + entries_at + 4 * 16
    places = [(end, 0), (len(other), end - header_at), (len(own), end + len(other) - header_at), (9, 1 << 31)]
    entries = b"".join(struct.pack(order + "IIIHH", 0, size, offset, 0, 0) for size, offset in places)
    first = with_segments(plain, (0xE2, b"MPF\0" + header + index + entries))
    assert len(first) == end
    found = ultra_hdr.find(first + other + own)
    assert (found.iso, found.file, found.rest) == (NUMBERS.to_iso(), own, first + other)


def test_what_else_lies_behind_it_is_still_told():
    video = box(b"ftyp", b"mp42", bytes(4)) + box(b"mdat", bytes(99))
    assert kept(joined(gain_map_jpeg()) + video)[1] == ["the picture's motion photo's video is not kept"]
    assert kept(joined(gain_map_jpeg()) + b"SEFH")[1] == ["the picture's data behind its end (4 bytes) is not kept"]


def test_it_is_no_frame():
    """Pillow counts it as one."""
    file = ultra_hdr.join(plain_jpeg("RGB", (WIDTH, HEIGHT)), gain_map_jpeg())
    assert Image.open(io.BytesIO(file)).n_frames == 2
    gain_map, notes = kept(file)
    assert gain_map.metadata == NUMBERS
    assert notes == []
    change, message = ABSURD[0]
    own = gain_map_jpeg(absurd(change))
    assert kept(ultra_hdr.join(plain_jpeg("RGB", (WIDTH, HEIGHT)), own)) == (None, [f"{IGNORED}: {message}"])


def test_the_second_picture_does_not_decode():
    own = gain_map_jpeg()
    for broken in (own[: len(own) // 2], own.replace(b"\xff\xc0", b"\xff\xcf")):
        gain_map, notes = kept(joined(broken))
        assert gain_map is None
        assert len(notes) == 1
        assert notes[0].startswith(f"{IGNORED}: its picture can't be decoded: ")
        assert "object at" not in notes[0]
    without_start = plain_jpeg("L", (24, 16))
    assert kept(joined(without_start)) == (None, ["the picture's further pictures behind its end is not kept"])


def test_a_second_picture_that_is_too_large_or_of_another_kind():
    assert kept(joined(gain_map_jpeg(size=(WIDTH + 1, HEIGHT)))) == (
        None,
        [f"{IGNORED}: its picture can't be decoded: it has 97 x 64 pixels, more than the picture"],
    )
    out = io.BytesIO()
    Image.new("CMYK", (24, 16)).save(out, "JPEG")
    at = out.getvalue().index(b"\xff\xdb")  # there is no JFIF
    own = out.getvalue()[:at] + gain_map_jpeg()[20:][: 4 + len(ISO_HEAD) + 61] + out.getvalue()[at:]
    assert kept(joined(own)) == (
        None,
        [f"{IGNORED}: its picture can't be decoded: its mode is CMYK, and L or RGB is allowed"],
    )


def test_it_is_turned_with_the_picture():
    first = with_segments(plain_jpeg("RGB", (WIDTH, HEIGHT)), (0xE1, exif([(274, 3, b"\6\0")])))
    gain_map, notes = kept(joined(gain_map_jpeg(), first=first))
    assert notes == []
    assert close(gain_map.image, drawn("L", (24, 16)).transpose(Image.Transpose.ROTATE_270), 2)


# ---- AVIF and HEIC files that have one ------------------------------------------------------------------------------


def test_the_item_tmap_of_an_avif():
    """The gain map is an item like the picture; the library decodes it as the picture of the same file."""
    own = drawn("RGB", (12, 8))
    gain_map, notes = kept(heif_with_gain_map(own))
    assert (gain_map.iso, notes) == (GAIN_MAP_NUMBERS, [])
    assert close(gain_map.image, own, 4)


def test_the_item_tmap_of_a_heic(monkeypatch):
    """Where pillow_heif is registered with Pillow."""
    pillow_heif = pytest.importorskip("pillow_heif")
    for registry in ("OPEN", "MIME", "SAVE", "SAVE_ALL", "EXTENSION"):
        monkeypatch.setattr(Image, registry, dict(getattr(Image, registry)))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    pillow_heif.register_heif_opener()
    monkeypatch.setattr("pictures.PIXELS", np.asarray(drawn("RGB", (WIDTH, HEIGHT))))
    gain_map, notes = kept(heif_with_gain_map(drawn("L", (48, 32)), format="HEIF"))
    assert gain_map.iso == GAIN_MAP_NUMBERS
    assert close(gain_map.image, drawn("L", (48, 32)), 4)
    assert [note for note in notes if "gain map" in note] == []


@pytest.mark.parametrize(
    ("tmap", "message"),
    [
        (b"\1" + GAIN_MAP_NUMBERS, "its item tmap is of version 01, and 0 is known"),
        (b"", "its item tmap is of version ?, and 0 is known"),
        (b"\0" + GAIN_MAP_NUMBERS[:30], "its numbers are cut short, at 30 bytes"),
        (b"\0" + absurd({"gamma": (0, 1)}).to_iso(), "its gamma is 0, and 0.00390625 to 256 are allowed"),
    ],
)
def test_an_item_tmap_that_makes_no_sense(tmap, message):
    gain_map, notes = kept(heif_with_gain_map(tmap=tmap))
    assert (gain_map, notes) == (None, [f"{IGNORED}: {message}"])


def test_an_avif_whose_gain_map_does_not_decode():
    file = heif_with_gain_map(Image.new("L", (WIDTH, HEIGHT)))
    assert kept(file)[1] == [f"{IGNORED}: its picture can't be decoded: it has 96 x 64 pixels, more than the picture"]
    own = drawn("RGB", (12, 8))
    data = heif_parts(own)[1]
    gain_map, notes = kept(heif_with_gain_map(own).replace(data, bytes(len(data))))
    assert gain_map is None
    assert len(notes) == 1
    assert notes[0].startswith(f"{IGNORED}: its picture can't be decoded: ")


# ---- to .hpcm and back ----------------------------------------------------------------------------------------------


def compressed(file: bytes, **how) -> bytes:
    notes: list[str] = []
    data = hpcm.compress(file, model="nano", on_note=notes.append, **how)
    assert notes == []
    return data


def saved(image: Image.Image, suffix: str = ".jpg") -> tuple[bytes, list[str]]:
    picture = from_image(image)
    notes = list(picture.notes)
    return save_picture(picture, suffix, on_note=notes.append), notes


@pytest.fixture(scope="module")
def coded() -> bytes:
    return compressed(joined(gain_map_jpeg(COLOUR, mode="RGB", size=(48, 32))))


def test_the_chunk_of_a_file(coded):
    """The numbers as they were, and a .hpcm file of its own size without metadata."""
    container = unpack(coded)
    iso, own = unpack_chunk(dict(container.ancillary)["u"])
    assert iso == COLOUR.to_iso()
    assert (unpack(own).width, unpack(own).height, unpack(own).ancillary) == (48, 32, ())
    assert pack_chunk(iso, own) == Metadata.of(container).gain_map


def test_what_is_decoded(coded):
    gain_map = hpcm.decompress(coded).info["gain_map"]
    assert gain_map.metadata == COLOUR
    assert close(gain_map.image, drawn("RGB", (48, 32)))
    again = pickle.loads(pickle.dumps(gain_map))
    assert (again.iso, again.image.tobytes()) == (gain_map.iso, gain_map.image.tobytes())


@pytest.mark.parametrize("numbers", [NUMBERS, COLOUR, BASE_IS_HDR], ids=["grey", "colour", "base is HDR"])
def test_the_structure_of_what_is_written(numbers):
    """Against the specifications, by hand: both indices lead to the second JPEG, which has the numbers twice."""
    mode = "RGB" if numbers is COLOUR else "L"
    image = drawn("RGB", (WIDTH, HEIGHT))
    image.info[INFO_KEY] = GainMap(numbers.to_iso(), drawn(mode, (24, 16)))
    file, notes = saved(image)
    assert notes == []
    (length,) = re.findall(rb'Item:Semantic="GainMap" Item:Mime="image/jpeg" Item:Length="(\d+)"', file)
    second = file[-int(length) :]
    first = file[: -int(length)]
    assert first.endswith(b"\xff\xd9")
    assert second.startswith(b"\xff\xd8\xff")
    assert second.endswith(b"\xff\xd9")
    assert first.count(b"hdrgm:Version") == 1
    assert ISO_HEAD + bytes(4) in first
    header_at = first.index(b"MPF\0") + 4
    assert first[header_at : header_at + 8] == b"MM\0*\0\0\0\x08"
    tags = struct.unpack_from(">HHHI4s HHII HHII I", first, header_at + 8)
    assert tags[:9] == (3, 0xB000, 7, 4, b"0100", 0xB001, 4, 1, 2)
    assert tags[9:] == (0xB002, 7, 32, 50, 0)
    entries = struct.unpack_from(">3I2H 3I2H", first, header_at + 50)
    assert entries == (0x030000, len(first), 0, 0, 0, 0, len(second), len(first) - header_at, 0, 0)
    assert ISO_HEAD + numbers.to_iso() in second
    (packet,) = re.findall(rb"<x:xmpmeta.*?</x:xmpmeta>", second)
    assert GainMapMetadata.from_xmp(packet) == replace(numbers, use_base_colour_space=True)
    assert Image.open(io.BytesIO(second)).mode == mode
    again, notes = kept(file)
    assert (again.iso, notes) == (numbers.to_iso(), [])


@pytest.mark.parametrize("file", [LIBULTRAHDR, joined(gain_map_jpeg(COLOUR, mode="RGB")), joined(gain_map_jpeg())])
def test_libultrahdr_reads_what_is_written(file):
    """The reference reader gives nearly the same HDR picture for the file and for what became of it."""
    imagecodecs = pytest.importorskip("imagecodecs")
    if not imagecodecs.ULTRAHDR.available:
        pytest.skip("imagecodecs was built without libultrahdr")
    back, notes = saved(hpcm.decompress(compressed(file, quality=100)))
    assert notes == []
    light = imagecodecs.ultrahdr_decode(back)[..., :3].astype(float)
    assert light.shape == (HEIGHT, WIDTH, 3)
    expected = rendered(Image.open(io.BytesIO(file)), kept(file)[0])
    difference = np.log2(np.maximum(light, 0.1)) - np.log2(np.maximum(expected, 0.1))
    assert np.sqrt(np.mean(difference**2)) < 0.2  # stops
    assert light.max() > 2  # SDR's white is 1


def rendered(picture: Image.Image, gain_map: GainMap) -> np.ndarray:
    """The HDR rendition in linear light, by the formula of ISO 21496-1."""
    values = samples(picture.convert("RGB")) / 255
    base = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    own = gain_map.image.convert("RGB").resize(picture.size, Image.Resampling.BILINEAR)
    numbers = [
        np.array([ratio[0] / ratio[1] for ratio in ratios])
        for ratios in zip(*(vars(channel).values() for channel in gain_map.metadata.channels), strict=True)
    ]
    low, high, gamma, base_offset, alternate_offset = numbers
    stops = low + (samples(own) / 255) ** (1 / gamma) * (high - low)
    return (base + base_offset) * 2**stops - alternate_offset


def test_many_generations():
    """Numbers and XMP stay the same: nothing is announced twice, and what announces is not kept."""
    note = b'<rdf:Description rdf:about="uuid:1" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="me"/></rdf:RDF>'
    own = gain_map_jpeg()
    packet = directory(len(own)).replace(b"</rdf:RDF>", note)
    file = joined(own, first=with_segments(plain_jpeg("RGB", (WIDTH, HEIGHT)), (0xE1, XMP_HEAD + packet)))
    packets = set()
    for _ in range(3):
        data = compressed(file)
        packets.add(Metadata.of(unpack(data)).xmp)
        file, notes = saved(hpcm.decompress(data))
        assert notes == []
        first = file[: file.index(b"\xff\xd9\xff\xd8")]
        assert (first.count(b"hdrgm:Version"), first.count(b"Container:Directory>")) == (1, 2)
        assert (first.count(b'dc:source="me"'), first.count(b'about="uuid:1"')) == (1, 2)
    assert len(packets) == 1
    assert b"hdrgm" not in packets.pop()


def test_xmp_that_has_nothing_else_is_not_kept():
    own = gain_map_jpeg(kind="xmp")
    first = with_segments(plain_jpeg("RGB", (WIDTH, HEIGHT)), (0xE1, XMP_HEAD + directory(len(own))))
    assert Metadata.of(unpack(compressed(joined(own, first=first)))).xmp is None


@pytest.mark.parametrize(
    "packet",
    [b"<unfinished", b"<x/>", b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/>', b"<!DOCTYPE a>"],
)
def test_xmp_that_cannot_announce_it(packet):
    """It stays as it is, and ISO 21496-1 and MPF announce the gain map."""
    with pytest.raises(xmp.XMPError):
        xmp.announce_gain_map(packet, 9)
    image = drawn("RGB", (WIDTH, HEIGHT))
    image.info |= {INFO_KEY: GainMap(NUMBERS.to_iso(), drawn("L", (24, 16))), "xmp": packet}
    file, notes = saved(image)
    assert len(notes) == 1
    assert notes[0].startswith("the picture's XMP doesn't tell of its HDR gain map")
    assert packet in file
    assert ultra_hdr.find(file).iso == NUMBERS.to_iso()


def test_xmp_without_room_to_announce_it():
    filled = b"<rdf:Description>" + b" " * 64_900 + b"o</rdf:Description></rdf:RDF>"
    long = b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">' + filled
    image = drawn("RGB", (WIDTH, HEIGHT))
    image.info |= {INFO_KEY: GainMap(NUMBERS.to_iso(), drawn("L", (24, 16))), "xmp": long}
    file, notes = saved(image)
    assert len(notes) == 1
    assert "JPEG takes 65,504" in notes[0]
    assert ultra_hdr.find(file).iso == NUMBERS.to_iso()


@pytest.mark.parametrize("suffix", [".png", ".webp", ".avif", ".tif", ".ppm"])
def test_other_formats_have_no_place_for_it(coded, suffix):
    _, notes = saved(hpcm.decompress(coded), suffix)
    name = {".tif": "TIFF"}.get(suffix, suffix[1:].upper())
    assert notes == [f"{name} has no place for the picture's HDR gain map"]


def test_a_region_has_its_part(coded):
    image = hpcm.decompress(coded, box=(30, 10, 70, 61))
    own = image.info["gain_map"].image
    assert own.size == (20, 26)
    whole = drawn("RGB", (48, 32)).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR).crop((30, 10, 70, 61))
    assert close(own.resize(whole.size, Image.Resampling.BILINEAR), whole)
    assert saved(image)[1] == []


def test_a_reduced_picture_has_all_of_it(coded):
    image = hpcm.decompress(coded, draft=(40, 30))
    assert image.size == (48, 32)
    assert image.info["gain_map"].image.size == (48, 32)
    assert saved(image)[1] == []


def test_it_does_not_fit_a_part_that_was_cut_out_later(coded):
    image = hpcm.decompress(coded).crop((0, 0, 30, 64))
    file, notes = saved(image)
    assert notes == [f"{IGNORED}: it has 48 x 32 pixels, the picture 30 x 64"]
    assert ultra_hdr.find(file) is None


def test_a_picture_that_was_reduced_later(coded):
    """Its gain map is as large as it then, as no file may have a larger one."""
    image = hpcm.decompress(coded).resize((24, 16))
    file, notes = saved(image)
    assert notes == []
    assert kept(file)[0].image.size == (24, 16)
    assert hpcm.decompress(hpcm.compress(image, model="nano")).info["gain_map"].image.size == (24, 16)


def test_one_that_takes_more_bytes_than_a_chunk(monkeypatch):
    monkeypatch.setattr("hpcm.codec.nested.MAX_METADATA", 200)
    notes: list[str] = []
    data = hpcm.compress(joined(gain_map_jpeg(COLOUR, mode="RGB")), model="nano", on_note=notes.append)
    assert len(notes) == 1
    assert re.fullmatch(rf"{IGNORED}: it takes \d+ bytes, and 200 are allowed", notes[0])
    assert unpack(data).ancillary == ()


def test_bits_per_pixel_include_it():
    """So there are fewer left for the picture."""
    out = io.BytesIO()
    with Image.open(DATA.parent / "kodim20.png") as photograph:
        photograph.crop((200, 150, 392, 278)).save(out, "JPEG", quality=95)
    pixels = 192 * 128
    best = compressed(out.getvalue(), quality=80)
    data = compressed(out.getvalue() + gain_map_jpeg(), bpp=8 * len(best) / pixels)
    assert Metadata.of(unpack(data)).gain_map
    assert len(data) <= len(best)
    assert unpack(data).level < unpack(best).level


# ---- Pillow, the command line ---------------------------------------------------------------------------------------


def test_pillow_opens_and_saves_it(coded, tmp_path):
    (tmp_path / "in.hpcm").write_bytes(coded)
    with Image.open(tmp_path / "in.hpcm") as image:
        assert image.info["gain_map"].metadata == COLOUR
        image.save(tmp_path / "again.hpcm", model="nano", quality=90)
    with Image.open(tmp_path / "again.hpcm") as image:
        assert image.info["gain_map"].iso == COLOUR.to_iso()
        assert close(image.info["gain_map"].image, drawn("RGB", (48, 32)), 10)
        image.info["gain_map"] = None
        image.save(tmp_path / "without.hpcm", model="nano")
    with Image.open(tmp_path / "without.hpcm") as image:
        assert "gain_map" not in image.info


def test_the_command_line(tmp_path, capsys):
    (tmp_path / "in.jpg").write_bytes(LIBULTRAHDR)
    assert main(["compress", str(tmp_path / "in.jpg"), "--model", "nano"]) in (0, None)
    assert "note" not in capsys.readouterr().err
    assert main(["info", str(tmp_path / "in.hpcm")]) in (0, None)
    assert re.search(r"extras .*HDR gain map of 96 x 64 pixels \d+ bytes", capsys.readouterr().out)
    assert main(["info", str(tmp_path / "in.hpcm"), "--json"]) in (0, None)
    fields = json.loads(capsys.readouterr().out)
    assert fields["gain_map_bytes"] > 100
    assert fields["gain_map_size"] == [WIDTH, HEIGHT]
    assert main(["decompress", str(tmp_path / "in.hpcm"), "-o", str(tmp_path / "out.jpg")]) in (0, None)
    assert "note" not in capsys.readouterr().err
    assert ultra_hdr.find((tmp_path / "out.jpg").read_bytes()).iso == ultra_hdr.find(LIBULTRAHDR).iso
    assert main(["decompress", str(tmp_path / "in.hpcm"), "-o", str(tmp_path / "out.png")]) in (0, None)
    assert capsys.readouterr().err.endswith(": PNG has no place for the picture's HDR gain map\n")


# ---- forged files ---------------------------------------------------------------------------------------------------


def forged(coded: bytes, chunk: bytes) -> bytes:
    return pack(replace(unpack(coded), ancillary=(("u", chunk),)))


def damaged_chunks(coded: bytes) -> list[tuple[bytes, str]]:
    iso, own = unpack_chunk(dict(unpack(coded).ancillary)["u"])
    large = compressed(plain_jpeg("L", (WIDTH + 1, HEIGHT)))
    return [
        (b"", "cut short"),
        (b"\0" + own, "its numbers take 0 bytes"),
        (b"\x81\x08" + bytes(1025) + own, "its numbers take 1,025 bytes"),
        (b"\x80\x80\x80\x80\x80\x80", "takes more bytes than a varint"),
        (pack_chunk(absurd({"gamma": (0, 1)}).to_iso(), own), "its gamma is 0"),
        (pack_chunk(iso, own[:-9]), "cut short"),
        (pack_chunk(iso, b""), "cut short"),
        (pack_chunk(iso, b"no file"), "no .hpcm file"),
        (pack_chunk(iso, large), "it has 97 x 64 pixels, more than the picture"),
        (pack_chunk(iso, coded), "it has more than 8 bits, alpha or metadata"),
    ]


def test_a_damaged_chunk_is_told_and_the_picture_decoded(coded):
    plain = np.asarray(hpcm.decompress(coded))
    for chunk, message in damaged_chunks(coded):
        notes: list[str] = []
        image = hpcm.decompress(forged(coded, chunk), on_note=notes.append)
        assert np.array_equal(np.asarray(image), plain)
        assert "gain_map" not in image.info
        if chunk:
            assert len(notes) == 1
            assert notes[0].startswith("the file's HDR gain map is damaged and left out: ")
            assert message in notes[0]


def test_pillow_tells_of_a_damaged_chunk_once(coded, caplog):
    with Image.open(io.BytesIO(forged(coded, b"damaged"))) as image:
        image.load()
        assert "gain_map" not in image.info
    assert [record.getMessage()[:41] for record in caplog.records] == ["the file's HDR gain map is damaged and le"]
    caplog.clear()


def test_a_gain_map_that_cannot_be_decoded_later(coded):
    """Its file is whole, but by a model that isn't here: that is told when it is needed."""
    iso, own = unpack_chunk(dict(unpack(coded).ancillary)["u"])
    foreign = pack(replace(unpack(own), model="nobodys", model_hash=bytes(8)))
    image = hpcm.decompress(forged(coded, pack_chunk(iso, foreign)))
    with pytest.raises(HPCMError, match="nobodys"):
        _ = image.info["gain_map"].image
    file, notes = saved(image)
    assert len(notes) == 1
    assert notes[0].startswith(f"{IGNORED}: its picture can't be decoded: ")
    assert Image.open(io.BytesIO(file)).size == (WIDTH, HEIGHT)


changes = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=6)


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    st.sampled_from(
        [LIBULTRAHDR, ultra_hdr.join(joined(b""), gain_map_jpeg(COLOUR, "xmp")), heif_with_gain_map()[:800]]
    ),
    changes,
)
def test_changed_bytes(file, places):
    """Whatever a file says, it has a gain map, or none, or a note."""
    data = bytearray(file)
    for place, value in places:
        data[place % len(data)] = value
    gather(ImageInfo(info={}, format="JPEG", file=bytes(data), size=(HEIGHT, WIDTH)))


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.binary(max_size=200), st.binary(max_size=80))
def test_any_bytes(packet, iso):
    for read in (lambda: GainMapMetadata.from_iso(b"\0\0\0\0\x40" + iso), lambda: GainMapMetadata.from_xmp(packet)):
        with suppress(GainMapError):
            read()
    first = with_segments(plain_jpeg("L", (8, 8)), (0xE2, b"MPF\0MM\0*\0\0\0\x08" + packet))
    gather(ImageInfo(info={}, format="JPEG", file=first + iso, size=(8, 8)))
