"""EXIF patched in place, XMP cut, files scanned: what changes is right, the rest untouched, and forgers get nowhere."""

import io
import struct
import time
import zlib
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from hpcm.format.fields import MAX_METADATA
from hpcm.image.metadata import exif as exif_
from hpcm.image.metadata import tiff as tiff_
from hpcm.image.metadata import xmp
from hpcm.image.metadata.exif import ExifError, make_upright, merge_ranges, orientation_of, overlaps, turn_point
from hpcm.image.metadata.gather import ImageInfo, gather
from hpcm.image.metadata.scan import pieces
from hpcm.image.picture import from_image
from pictures import HEIGHT, PIXELS, WIDTH, box, directory, encoded, exif, gif, jp2, jpeg, png, tags_of, tiff, webp

SIZE = (HEIGHT, WIDTH)
THUMBNAIL = b"\xff\xd8 a thumbnail \xff\xd9"
NOTE = b"a maker's note" * 5


def short(order: str, *values: int) -> bytes:
    return struct.pack(f"{order}{len(values)}H", *values)


def camera(order: str = "<", orientation: int = 6, **options: bytes) -> bytes:
    """As a camera writes it."""
    rationals = [struct.pack(order + "2I", value, 1) for value in (300, 150)]
    return exif(
        [
            (271, 2, "caméra\0".encode()),
            (274, 3, short(order, orientation)),
            (282, 5, rationals[0]),
            (283, 5, rationals[1]),
            (259, 3, short(order, 6)),
        ],
        [
            (0x927C, 7, NOTE),
            (0x9214, 3, short(order, 4, 3, 6, 2)),
            (0xA002, 3, short(order, 999)),
            (0xA003, 4, struct.pack(order + "I", 998)),
        ],
        [(1, 2, b"N\0")],
        order=order,
        **options,
    )


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_changes_and_what_does_not(order, orientation):
    block = camera(order, orientation, thumbnail=THUMBNAIL)
    sideways = orientation > 4
    size = (WIDTH, HEIGHT) if sideways else (HEIGHT, WIDTH)
    result = make_upright(block, orientation, size)
    expected = tags_of(block)
    del expected[274,], expected[259,]
    expected[34665, 0xA002] = 3, 1, short(order, size[1])
    expected[34665, 0xA003] = 4, 1, struct.pack(order + "I", size[0])
    expected[34665, 0x9214] = (3, 4, tags_of(result)[34665, 0x9214][2])  # see below
    if sideways:
        expected[282,], expected[283,] = expected[283,], expected[282,]
    assert tags_of(result) == expected
    assert THUMBNAIL not in result
    assert len(result) < len(block)
    assert result.index(NOTE) == block.index(NOTE)
    assert make_upright(result, 1, size) == result
    assert orientation_of(block) == orientation
    assert orientation_of(result) is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_subject_goes_with_the_pixels(orientation):
    x, y = 5, 3
    stored = Image.new("L", (WIDTH, HEIGHT))
    stored.putpixel((x, y), 255)
    stored.getexif()[274] = orientation
    turned = ImageOps.exif_transpose(stored)
    assert turned.getpixel(turn_point(x, y, orientation, (turned.height, turned.width))) == 255


def test_the_area_around_the_subject():
    assert tags_of(make_upright(camera("<", 6), 6, (WIDTH, HEIGHT)))[34665, 0x9214][2] == short(
        "<", HEIGHT - 1 - 3, 4, 2, 6
    )
    assert tags_of(make_upright(camera("<", 3), 3, SIZE))[34665, 0x9214][2] == short(
        "<", WIDTH - 1 - 4, HEIGHT - 1 - 3, 6, 2
    )


def test_a_thumbnail_between_other_data_becomes_zeros():
    block = camera(thumbnail=THUMBNAIL)
    behind = block + NOTE  # which nothing but a maker's note may know of
    result = make_upright(behind, 6, SIZE)
    assert THUMBNAIL not in result
    assert len(result) == len(behind)
    assert result.endswith(NOTE)


def test_a_thumbnail_that_lies_upon_other_data_costs_none():
    """Only a forger writes this."""
    block = bytearray(camera(thumbnail=THUMBNAIL))
    place = block.index(struct.pack("<HHI", 513, 4, 1)) + 8
    block[place : place + 4] = struct.pack("<I", block.index(NOTE) - 6)
    assert NOTE in make_upright(bytes(block), 1, SIZE)


def test_a_size_over_16_bits():
    block = camera()
    assert tags_of(make_upright(block, 1, (70_000, 5)))[34665, 0xA003] == (4, 1, struct.pack("<I", 70_000))
    assert tags_of(make_upright(block, 1, (5, 70_000)))[34665, 0xA002] == (4, 1, struct.pack("<I", 70_000))


def test_nothing_is_left():
    assert make_upright(exif([(274, 3, b"\6\0"), (256, 4, bytes(4))]), 6, SIZE) is None


def test_bigtiff():
    def big(*tags: tuple[int, int, int, bytes]) -> bytes:
        entries = (struct.pack("<HHQ", *tag[:3]) + tag[3].ljust(8, b"\0") for tag in tags)
        return b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, len(tags)) + b"".join(entries) + bytes(8)

    made, lost = tiff_.read_block(big((256, 4, 1, b"\x09"), (315, 2, 3, b"me\0"), (50000, 16, 1, b"\7")))
    assert lost == []
    assert tags_of(made) == {(315,): (2, 3, b"me\0"), (50000,): (4, 1, struct.pack("<I", 7))}


def test_tiff_that_is_turned():
    """Pillow turns it when it decodes."""
    data = tiff((274, 3, b"\6\0"), (282, 5, struct.pack("<2I", 300, 1)), (283, 5, struct.pack("<2I", 150, 1)))
    for loaded in (False, True):
        image = Image.open(io.BytesIO(data))
        if loaded:
            image.load()
        picture = from_image(image)
        assert picture.size == (WIDTH, HEIGHT)
        assert (274,) not in tags_of(picture.exif)
    assert tags_of(from_image(Image.open(io.BytesIO(data))).exif)[282,][2] == struct.pack("<2I", 150, 1)


# ---- XMP ------------------------------------------------------------------------------------------------------------

NAMESPACES = (
    'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:t=\'http://ns.adobe.com/tiff/1.0/\' xmlns:o="http://other/" '
    'xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" '
    'xmlns:Container="http://ns.google.com/photos/1.0/container/" xmlns:xmpNote="http://ns.adobe.com/xmp/note/" '
    'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"'
)


def packet(attributes: str = "", elements: str = "") -> bytes:
    begin = "<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>"
    body = f"<rdf:Description {NAMESPACES} o:keep='> &lt;tiff:Orientation=\"6\"'{attributes}>{elements}<o:last/>"
    xmpmeta = f"<x:xmpmeta xmlns:x='adobe:ns:meta/' xmlns:rdf='r'>{body}</rdf:Description></x:xmpmeta>"
    return f"{begin}{xmpmeta}\n   <?xpacket end='w'?>".encode()


@pytest.mark.parametrize(
    ("attributes", "elements"),
    [
        (' tiff:Orientation="6"', ""),
        (" tiff:Orientation='6'", ""),
        ("\n  tiff:Orientation =\n '6'", ""),
        (" t:Orientation='6'", ""),
        ("", "<tiff:Orientation>6</tiff:Orientation>"),
        ("", "<tiff:Orientation >\n 6\t</tiff:Orientation\n>"),
        ("", '<Orientation xmlns="http://ns.adobe.com/tiff/1.0/">6</Orientation>'),
        ("", '<q:Orientation xmlns:q="http://ns.adobe.com/tiff/1.0/" rdf:parseType="x">6</q:Orientation>'),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be"])
def test_an_orientation_that_was_applied(attributes, elements, encoding):
    data = xmp.to_utf8(packet(attributes, elements).decode().encode(encoding))
    assert xmp.orientation_of(data) == 6
    assert xmp.remove_outdated(data, 6) == xmp.CleanXMP(packet())
    assert xmp.remove_outdated(data, 1) == xmp.CleanXMP(packet(attributes, elements))


@pytest.mark.parametrize(
    "elements", ["<o:Orientation>6</o:Orientation>", "<!-- <tiff:Orientation>6</tiff:Orientation> -->"]
)
def test_what_is_no_orientation(elements):
    data = packet(" o:Orientation='6'", elements)
    assert xmp.orientation_of(data) is None
    assert xmp.remove_outdated(data, 6) == xmp.CleanXMP(data)


@pytest.mark.parametrize(
    ("attributes", "elements", "lost"),
    [
        (" hdrgm:Version='1.0'", "", ["HDR gain map"]),
        (" GCamera:MotionPhoto='1' GCamera:MotionPhotoVersion='1'", "", ["motion photo's video"]),
        (" GCamera:MicroVideo='1' GCamera:MicroVideoOffset='99'", "", ["motion photo's video"]),
        (
            "",
            "<Container:Directory><rdf:Seq><rdf:li><Container:Item Item:Semantic='GainMap'/></rdf:li></rdf:Seq>"
            "</Container:Directory>",
            ["HDR gain map"],
        ),
        (" xmpNote:HasExtendedXMP='0123456789ABCDEF0123456789ABCDEF'", "", ["extended XMP"]),
    ],
)
def test_what_is_announced_and_not_kept(attributes, elements, lost):
    assert xmp.remove_outdated(packet(attributes, elements), 1) == xmp.CleanXMP(packet(), lost)


def test_sizes_at_a_quarter_turn():
    data = packet(" tiff:ImageWidth='9' exif:PixelYDimension='8'", "<exif:PixelXDimension>9</exif:PixelXDimension>")
    assert xmp.remove_outdated(data, 8).data == packet()
    assert xmp.remove_outdated(data, 3).data == data


@pytest.mark.parametrize(
    "data", [b"<a tiff:Orientation='6'", b'<!DOCTYPE a><a>tiff:Orientation="6"</a>', b"Orientation"]
)
def test_xmp_that_cannot_be_read(data):
    result = xmp.remove_outdated(data, 6)
    assert result.data == data
    assert len(result.notes) == 1
    assert "still tells of Orientation" in result.notes[0]
    assert xmp.remove_outdated(data, 1).notes == []


def test_a_prefix_that_was_declared_elsewhere():
    """Beyond the element that declares it, it stands for no namespace."""
    data = b"<r><a xmlns:q='http://ns.adobe.com/tiff/1.0/'/><b q:Orientation='6'/></r>"
    assert xmp.orientation_of(data) is None
    assert xmp.remove_outdated(data, 6) == xmp.CleanXMP(data)


# ---- forged data ----------------------------------------------------------------------------------------------------

BLOCKS = [camera(order, thumbnail=THUMBNAIL)[6:] for order in "<>"]
quickly = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck), derandomize=True)
changes = st.lists(
    st.tuples(st.integers(0, 400), st.sampled_from([0, 1, 2, 8, 10, 127, 255]) | st.integers(0, 255)), max_size=8
)


def changed(data: bytes, places: list[tuple[int, int]]) -> bytes:
    forged = bytearray(data)
    for place, value in places:
        forged[place % len(forged)] = value
    return bytes(forged)


@quickly
@given(st.sampled_from(BLOCKS), changes, st.integers(0, 400), st.integers(1, 8))
def test_forged_exif(block, places, cut, orientation):
    forged = changed(block, places)[: cut or None]
    for call in (
        lambda: make_upright(forged, orientation, SIZE),
        lambda: tiff_.read_block(forged),
        lambda: tiff_.build_file(PIXELS, tiff_.Metadata(exif=forged)),
    ):
        with suppress(ExifError):
            call()


@quickly
@given(st.binary(max_size=300))
def test_exif_of_any_bytes(data):
    for begin in (b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0"):
        gather(ImageInfo(info={"exif": begin + data}, size=SIZE))
        gather(ImageInfo(info={}, file=begin + data, size=SIZE))


@quickly
@given(
    st.sampled_from(
        [
            jpeg((0xE1, camera()), behind=b"x"),
            png((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x/>"), (b"zTXt", b"a\0\0" + zlib.compress(b"b"))),
            webp((b"EXIF", BLOCKS[0])),
            gif(b"\xfe\5hello\0", b"\xff\x0bXMP DataXMP<x/>\0"),
            jp2(b"\0\0\0\x18uuidJpgTiffExif->JP2"),
            encoded("AVIF", exif=camera(orientation=1), icc_profile=b"p"),
            tiff((34665, 4, struct.pack("<I", 8))),
        ]
    ),
    changes,
)
def test_forged_files(data, places):
    forged = changed(data[:400], places)
    pieces(forged)
    gather(ImageInfo(info={}, format="AVIF", file=forged, size=SIZE))


@quickly
@given(
    st.sampled_from([packet(" tiff:Orientation='6'", "<t:Orientation>6</t:Orientation>")]),
    changes,
    st.binary(max_size=50),
)
def test_forged_xmp(data, places, more):
    for forged in (changed(data, places), more, data + more):
        xmp.remove_outdated(xmp.to_utf8(forged), 6)
        xmp.orientation_of(xmp.to_utf8(forged))


def large(count: int, offset: int) -> bytes:
    """Directories of so many entries, each of which claims a value of almost the whole block."""
    block = b"II*\0\x08\0\0\0" + struct.pack("<H", count)
    block += struct.pack("<HHII", 40000, 7, 12 * count, offset) * count
    return block + struct.pack("<I", 8) + bytes(100)


@pytest.mark.parametrize("offset", [0, 8, 1 << 31])
def test_many_large_values_take_no_time(offset):
    begin = time.process_time()
    block = large(65_535, offset)
    for call in (lambda: make_upright(block, 6, SIZE), lambda: tiff_.read_block(block)):
        call()
    assert time.process_time() - begin < 20  # hours, if each of them were read


def test_texts_that_inflate():
    """Few bytes that become many: all texts of a PNG share one bound."""
    bomb = zlib.compress(bytes(9 << 20))
    found = pieces(png(*[(b"zTXt", b"a\0\0" + bomb)] * 50))
    assert sum(len(piece.data) for piece in found) <= MAX_METADATA
    assert {piece.name for piece in found} == {"comment", "damaged or too long text 'a'"}


def test_boxes_deep_in_one_another():
    inner = b""
    for _ in range(3000):
        inner = box(b"jp2h", inner)
    assert pieces(jp2(inner))[-1].name == "box jp2h"


def test_exif_in_many_segments():
    """Linear: a copy for each would be of gigabytes."""
    (block,) = pieces(jpeg(*[(0xE1, b"Exif\0\0" + bytes(100))] * 50_000))
    assert len(block.data) == 6 + 100 * 50_000


def test_sizes_of_many_digits():
    assert pieces(b"P6 " + b"9" * 60000 + b" 1\n255\nabc") == []


def test_directories_that_go_round():
    pointing = [(34665, 4, struct.pack("<I", 8)), (34853, 4, struct.pack("<I", 8)), (315, 2, b"me\0")]
    block = b"II*\0\x08\0\0\0" + directory(pointing, 8, next_at=8)
    assert make_upright(block, 6, SIZE) == b"Exif\0\0" + block[:46] + bytes(4)  # no second directory
    made, lost = tiff_.read_block(block)
    assert tags_of(made)[315,] == tags_of(made)[34665, 315] == (2, 3, b"me\0")
    assert lost == ["damaged tag 34665", "damaged tag 34853"] * 2


def test_ranges():
    found = merge_ranges([(5, 9), (0, 2), (8, 12), (2, 3)])
    assert found == [(0, 3), (5, 12)]
    assert [overlaps(found, *given) for given in ((3, 5), (0, 1), (2, 4), (4, 6), (12, 15), (6, 7))] == [
        *(False, True, True, True, False, True)
    ]


def test_storage_tags_have_no_descriptive_ones():
    assert not exif_.STORAGE & {
        269,
        270,
        271,
        272,
        282,
        283,
        285,
        296,
        305,
        306,
        315,
        316,
        318,
        319,
        33432,
        34665,
        34853,
    }
