"""Metadata that are left out: all, or the place alone. What is gone is gone from the bytes."""

import io
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hpcm
from hpcm import cli
from hpcm.cli.commands import parser
from hpcm.image.metadata import exif as exif_
from hpcm.image.metadata import xmp as xmp_
from hpcm.image.metadata.exif import ExifError, make_upright
from hpcm.image.metadata.record import Metadata
from hpcm.image.metadata.strip import stripped
from hpcm.image.read import read_picture
from hpcm.util.notes import ignore_note
from pictures import directory, encoded, exif, gif, jp2, jpeg, png, png_chunk, tags_of, tiff
from profiles import rgb_profile

NOTE = b"a maker's note"
DATE = b"2026:11:30\0"
RDF = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"'
    ' xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:c="http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/"'
    ' xmlns:d="http://www.dji.com/drone-dji/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"'
    ' exif:GPSLatitude="48,51.5N" photoshop:City="Paris" d:GpsLongtitude="+2.2945" dc:source="kept1">'
    "<exif:GPSLongitude>2,17.67E</exif:GPSLongitude><photoshop:Country>France</photoshop:Country>"
    '<e:LocationShown><rdf:Bag><rdf:li e:City="Lyon"/></rdf:Bag></e:LocationShown>'
    "<c:Location>Champ de Mars</c:Location><d:AbsoluteAltitude>+330.1</d:AbsoluteAltitude>"
    "<c:CreatorContactInfo c:CiAdrCity='kept2'/><dc:title>kept3</dc:title>"
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)
XMP = RDF.encode()
PLACES = (b"48,51.5", b"2,17.67", b"2.2945", b"Paris", b"France", b"Lyon", b"Champ de Mars", b"330.1")
KEPT = (b"kept1", b"kept2", b"kept3")


def degrees(order: str, *values: int) -> bytes:
    return b"".join(struct.pack(order + "2I", value, 1) for value in values)


LATITUDE, LONGITUDE = (48, 51, 30), (2, 17, 40)


def block(order: str = "<", **options) -> bytes:
    """EXIF of a camera that knows where it is, with XMP and IPTC in it, too."""
    gps = [
        (1, 2, b"N\0"),
        (2, 5, degrees(order, *LATITUDE)),
        (3, 2, b"E\0"),
        (4, 5, degrees(order, *LONGITUDE)),
        (29, 2, DATE),
    ]
    tags = [(271, 2, b"Maker\0"), (700, 1, b"<x>Paris</x>"), (33723, 7, b"IPTC of Paris")]
    return exif(tags, [(0x927C, 7, NOTE)], gps, order=order, **options)


def coordinates(order: str = "<") -> list[bytes]:
    return [degrees(order, *LATITUDE), degrees(order, *LONGITUDE), DATE]


def texts() -> list[tuple[bytes, bytes]]:
    return [(b"tEXt", b"exif:GPSLatitude\0" + b"48/1, 51/1, 30/1"), (b"tEXt", b"Title\0kept4")]


def with_everything(format: str) -> bytes:
    """A picture of a format with all the metadata that Pillow writes into it."""
    if format == "PNG":
        plain = encoded("PNG", exif=block(), icc_profile=rgb_profile(), dpi=(300, 300))
        itxt = b"XML:com.adobe.xmp\0\0\0\0\0" + XMP
        chunks = [*texts(), (b"iTXt", itxt), (b"cICP", bytes([12, 13, 0, 1])), (b"tIME", bytes(7))]
        return plain[:33] + b"".join(png_chunk(*chunk) for chunk in chunks) + plain[33:]
    options = {"lossless": True} if format == "WEBP" else {}
    if format == "JPEG":
        options["dpi"] = (300, 300)
        options["comment"] = b"kept4"
    return encoded(format, exif=block(), icc_profile=rgb_profile(), xmp=XMP, **options)


FORMATS = ["JPEG", "PNG", "WEBP", "AVIF"]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def compressed() -> Callable[..., bytes]:
    def compressed(data: bytes, **options) -> bytes:
        return hpcm.compress(data, model="nano", on_note=ignore_note, **options)

    return compressed


def has_place(data: bytes) -> bool:
    """Whether something of the place is in a file, as it is, of either byte order."""
    return any(part in data for part in (*PLACES, *coordinates("<"), *coordinates(">"), b"48/1"))


@pytest.mark.parametrize("format", FORMATS)
def test_the_place_alone(format, compressed):
    data = with_everything(format)
    assert has_place(compressed(data))
    file = compressed(data, strip="gps")
    assert not has_place(file)
    assert all(text in file for text in (*KEPT, NOTE, b"Maker", rgb_profile()))
    if format in ("JPEG", "PNG"):
        assert b"kept4" in file
    before, after = read_picture(data), read_picture(data, strip="gps")
    assert {*after.present} == {*before.present}
    assert tags_of(after.exif) == {(271,): (2, 6, b"Maker\0"), (34665, 0x927C): (7, len(NOTE), NOTE)}
    assert after.notes == before.notes


@pytest.mark.parametrize("format", FORMATS)
def test_all(format, compressed):
    data = with_everything(format)
    file = compressed(data, strip="all")
    assert not any(text in file for text in (*PLACES, *KEPT, NOTE, b"Maker", b"kept4", *coordinates()))
    picture = read_picture(data, strip="all")
    assert {*picture.present} == {"icc", "cicp"} if format == "PNG" else {"icc"}
    assert picture.icc == rgb_profile()
    assert picture.notes == ()  # what was to go needs no note
    assert np.array_equal(picture.pixels, read_picture(data).pixels)


@pytest.mark.parametrize("order", "<>")
def test_tiff(order, compressed):
    def with_gps_at(offset: int) -> bytes:
        pointer = (34853, 4, struct.pack(order + "I", offset))
        return tiff((271, 2, b"Maker\0"), (700, 1, XMP), pointer, order=order)

    end = len(with_gps_at(0))
    data = with_gps_at(end) + directory([(2, 5, degrees(order, *LATITUDE)), (29, 2, DATE)], end, order)
    kept = compressed(data)
    assert DATE in kept
    assert coordinates(order)[0] in kept
    file = compressed(data, strip="gps")
    assert not has_place(file)
    assert b"Maker" in file
    assert b"kept3" in file
    assert not any(text in compressed(data, strip="all") for text in (b"Maker", *KEPT, DATE))


@pytest.mark.parametrize(
    "data", [gif(b"\xfe\x06secret\0"), jp2(), jpeg((0xFE, b"secret")), png((b"tEXt", b"Comment\0secret"))]
)
def test_comments(data, compressed):
    assert (b"secret" in compressed(data)) == (b"secret" in data)
    assert b"secret" in compressed(data, strip="gps") or b"secret" not in data
    assert b"secret" not in compressed(data, strip="all")
    assert read_picture(data, strip="all").comments is None


def test_the_orientation_is_applied_before_it_goes():
    data = encoded("JPEG", exif=exif([(274, 3, struct.pack("<H", 6))]))
    picture = read_picture(data, strip="all")
    assert picture.exif is None
    assert np.array_equal(picture.pixels, read_picture(data).pixels)


def test_notes_of_all_tell_what_looks_different():
    """A damaged profile is missed; a time and a Photoshop resource aren't."""
    data = png((b"tIME", bytes(7)), (b"iCCP", b"name\0\0damaged"), (b"caBX", b"credentials"))
    assert read_picture(data, strip="all").notes == ("the picture's damaged ICC profile is not kept",)
    (note,) = read_picture(data).notes
    assert "time of change" in note
    assert "content credentials" in note


def test_pixels_that_are_no_squares_stay_so():
    assert read_picture(png((b"pHYs", struct.pack(">IIB", 4000, 2000, 1))), strip="all").density == (
        struct.pack(">IIB", 2, 1, 0)
    )
    assert read_picture(png((b"pHYs", struct.pack(">IIB", 4000, 4000, 1))), strip="all").density is None


# ---- EXIF and XMP ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", "<>")
def test_exif_bytes(order):
    """All that isn't the place stays where it is: maker's notes hold offsets."""
    before = make_upright(block(order, thumbnail=b"\xff\xd8 a thumbnail"), 1, (16, 16))
    after = exif_.without_place(before)
    assert all(value in before and value not in after for value in coordinates(order))
    assert b"Paris" not in after
    assert after.index(NOTE) == before.index(NOTE)
    assert len(after) < len(before)  # the place was at the end
    assert exif_.without_place(after) == after


def test_exif_of_the_place_alone():
    assert exif_.without_place(exif([], gps=[(1, 2, b"N\0")])) is None
    assert exif_.without_place(exif([(271, 2, b"Maker\0")])) == exif([(271, 2, b"Maker\0")])


def damaged(offset: int) -> bytes:
    """EXIF whose GPS directory lies elsewhere."""
    made = exif([(271, 2, b"Maker\0")], gps=[(1, 2, b"N\0")])
    at = made.index(struct.pack("<HHI", 34853, 4, 1)) + 8
    return made[:at] + struct.pack("<I", offset) + made[at + 4 :]


@pytest.mark.parametrize("offset", [8, 9, 10, 1 << 20])
def test_a_place_that_cant_be_taken_out(offset):
    """It goes with all of the EXIF, and a note."""
    with pytest.raises(ExifError):
        exif_.without_place(damaged(offset))
    notes: list[str] = []
    assert stripped(Metadata(exif=damaged(offset)), "gps", notes.append).exif is None
    (note,) = notes
    assert "the place can't be taken out" in note


def test_forged_exif_takes_no_time():
    """As many entries as a directory may have, each for the place, and each with a value of megabytes."""
    count = 65535
    entries = b"".join(struct.pack("<HHII", tag, 7, 8 << 20, 2 << 20) for tag in (700, 33723)) * (count // 2)
    made = (
        b"II*\0\x08\0\0\0" + struct.pack("<HHHI4s", count // 2 * 2 + 1, 271, 2, 2, b"a\0") + entries + bytes(16 << 20)
    )
    began = time.process_time()
    assert tags_of(exif_.without_place(b"Exif\0\0" + made)) == {(271,): (2, 2, b"a\0")}
    entries = b"".join(struct.pack("<HHII", 34853, 4, 1, 8 + 2 * i) for i in range(count))
    with pytest.raises(ExifError):
        exif_.without_place(b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", count) + entries)
    assert time.process_time() - began < 20  # hours, if each of them were read


def test_geotiff():
    data = tiff((271, 2, b"Maker\0"), (33922, 12, struct.pack("<6d", *range(6))), (34737, 2, b"Paris / Lambert\0"))
    assert tags_of(read_picture(data, strip="gps").exif) == {(271,): (2, 6, b"Maker\0")}


def test_a_pointer_to_nowhere():
    assert tags_of(exif_.without_place(damaged(0))) == {(271,): (2, 6, b"Maker\0")}


def test_a_place_that_shares_bytes_with_another_tag():
    """Zeroed, the other tag would be wrong; kept, the place would be there."""
    made = block()
    at = made.index(struct.pack("<HHI", 0x927C, 7, len(NOTE))) + 8
    latitude = made.index(degrees("<", *LATITUDE)) - 6
    shared = made[:at] + struct.pack("<I", latitude) + made[at + 4 :]
    with pytest.raises(ExifError, match="shares bytes"):
        exif_.without_place(shared)


def test_xmp():
    clean = xmp_.without_place(XMP)
    assert not any(place in clean for place in PLACES)
    assert all(kept in clean for kept in KEPT)
    assert xmp_.without_place(clean) == clean
    assert not any(name in clean for name in (b"GPS", b"Gps", b"LocationShown", b"photoshop:"[:-1] + b":City"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_xmp_in_utf_16(encoding):
    packet = RDF.encode(encoding)
    picture = read_picture(encoded("JPEG", xmp=packet), strip="gps")
    assert not any(place in picture.xmp for place in PLACES)
    assert all(kept in picture.xmp for kept in KEPT)


def test_xmp_that_cant_be_read():
    data = encoded("JPEG", xmp=b"<not closed GPSLatitude='48'>")
    picture = read_picture(data, strip="gps")
    assert picture.xmp is None
    (note,) = picture.notes
    assert note.startswith("the picture's XMP is not kept, because it can't be read and may tell the place")
    assert read_picture(data).xmp is not None


# ---- ways to it ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "avif", "tif"])
def test_decompress(folder, compressed, suffix):
    """A picture that is given on, from a file that has all."""
    (folder / "in.hpcm").write_bytes(compressed(with_everything("JPEG")))
    out = folder / f"out.{suffix}"
    command = ["decompress", "in.hpcm", "-qf", "-o", str(out)]
    assert cli.main(command) == 0
    assert has_place(out.read_bytes())
    assert cli.main([*command, "--strip", "gps"]) == 0
    assert not has_place(out.read_bytes())
    assert read_picture(out.read_bytes()).exif is not None
    assert cli.main([*command, "--strip"]) == 0
    picture = read_picture(out.read_bytes())
    assert {*picture.present} <= {"icc", "density"}  # the latter: what JFIF must have
    assert not any(text in out.read_bytes() for text in (NOTE, *KEPT))


def test_python(compressed):
    file = compressed(with_everything("PNG"))
    assert {"exif", "xmp", "comments", "dpi"} <= {*hpcm.decompress(file).info}
    assert {*hpcm.decompress(file, strip="all").info} == {"icc_profile", "cicp"}
    assert not has_place(
        repr(hpcm.preview(file, strip="gps").info).encode() + hpcm.preview(file, strip="gps").info["exif"]
    )


def test_pillow(tmp_path):
    import hpcm.pillow  # noqa: F401 (registers the format)

    with Image.open(io.BytesIO(with_everything("JPEG"))) as image:
        image.save(tmp_path / "out.hpcm", model="nano", strip="gps")
        image.save(tmp_path / "none.hpcm", model="nano", strip="all", exif=block())
    assert not has_place((tmp_path / "out.hpcm").read_bytes())
    assert NOTE in (tmp_path / "out.hpcm").read_bytes()
    assert NOTE not in (tmp_path / "none.hpcm").read_bytes()


@pytest.mark.parametrize(
    ("line", "strip"),
    [
        ("compress photo.jpg", None),
        ("compress --strip photo.jpg", "all"),
        ("compress photo.jpg --strip", "all"),
        ("compress --strip gps photo.jpg", "gps"),
        ("compress --strip=gps photo.jpg", "gps"),
        ("compress --strip all photo.jpg", "all"),
        ("compress photo.jpg --strip gps", "gps"),
        ("compress photo.jpg --strip --icc srgb", "all"),
        ("compress --strip -- photo.jpg", "all"),
        ("compress --str photo.jpg", "all"),
        ("compress --strip ./gps photo.jpg", "all"),
        ("decompress --strip photo.hpcm", "all"),
        ("decompress --strip gps photo.hpcm -o photo.png", "gps"),
        ("archive --strip photos small", "all"),
    ],
)
def test_the_value_may_be_left_out(line, strip):
    """And the name of a file isn't taken for it."""
    options = parser().parse_args(line.split())
    assert options.strip == strip
    inputs = options.inputs if "inputs" in options else options.sources
    assert inputs[-1].startswith("photo")


def test_a_wrong_value(capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(["compress", "--strip=exif", "photo.jpg"])
    assert "invalid choice: 'exif'" in capsys.readouterr().err


# ---- files that are larger than their input --------------------------------------------------------------------------

NOTICE = (
    "the .hpcm file of {:,} bytes is larger than the picture's own of {:,}; of drawings, pages and screens, lossless "
    "files (--lossless) may be smaller"
)


@pytest.fixture(scope="module")
def tiny_png() -> bytes:
    """A pattern of black and white that PNG holds in few bytes, and no photograph has."""
    out = io.BytesIO()
    Image.fromarray(np.indices((64, 64)).sum(axis=0) % 3 == 0).save(out, "PNG", optimize=True)
    return out.getvalue()


def test_a_note_in_python(folder, tiny_png):
    (folder / "in.png").write_bytes(tiny_png)
    for source in (tiny_png, "in.png", io.BytesIO(tiny_png)):
        notes: list[str] = []
        data = hpcm.compress(source, model="nano", on_note=notes.append)
        assert notes == [NOTICE.format(len(data), len(tiny_png))]
    notes = []
    hpcm.compress(np.asarray(Image.open("in.png")).astype(np.uint8), model="nano", on_note=notes.append)  # no file
    hpcm.compress(encoded("PPM"), model="nano", on_note=notes.append, quality=1)  # one that is large
    assert notes == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_note_and_a_count(folder, tiny_png, capsys, jobs):
    (folder / "a.png").write_bytes(tiny_png)
    (folder / "b.png").write_bytes(tiny_png)
    Image.effect_noise((64, 64), 99).save("c.bmp")
    command = ["compress", "a.png", "b.png", "c.bmp", "--model", "nano", "-f", "-j", str(jobs)]
    assert cli.main(command) == 0
    out, err = capsys.readouterr()
    note = NOTICE.format((folder / "a.hpcm").stat().st_size, len(tiny_png))
    assert err.splitlines() == [
        f"hpcm: note: a.png: {note}",
        f"hpcm: note: b.png: {note}",
        "hpcm: 3 written (2 of them larger than the input), 0 failed",
    ]
    assert len(out.splitlines()) == 3
    assert cli.main([*command, "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    assert cli.main(["decompress", "a.hpcm", "b.hpcm", "-f"]) == 0  # pictures are larger as a rule
    assert capsys.readouterr().err == "hpcm: 2 written, 0 failed\n"
