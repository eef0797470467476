"""The promise of docs/pictures.md, cell by cell of its table: what belongs to a picture is kept, or noted."""

import io
import random
import re
import struct
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import hpcm
from hpcm.cli import main
from hpcm.format.container import pack, unpack
from hpcm.format.fields import Container
from hpcm.image.metadata.gather import ImageInfo, gather
from hpcm.image.metadata.record import Metadata, pack_density, unpack_comments
from hpcm.image.picture import Picture, from_image, picture_of_planes, to_image
from hpcm.image.planes import Planes
from hpcm.image.read import read_picture
from hpcm.image.write import save_picture
from pictures import (
    HEIGHT,
    WIDTH,
    avif,
    box,
    encoded,
    exif,
    gif,
    heif_with_gain_map,
    jp2,
    jpeg,
    png,
    png_chunk,
    tags_of,
    tiff,
    webp,
)

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "pictures.md"
NOTE = "hpcm: note: "

EXIF = exif(
    [(315, 2, "José Müller\0".encode()), (318, 5, struct.pack("<4I", 3127, 10000, 329, 1000))],
    [
        (0x9101, 7, b"\1\2\3\0"),
        (0x927C, 7, b"ACME\0" + bytes(range(50))),
        (0x9286, 7, b"ASCII\0\0\0hello"),
        (0xA301, 7, b"\1"),
    ],
    [(1, 2, b"N\0"), (2, 5, struct.pack("<6I", 47, 1, 30, 1, 15, 10))],
)
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="Zürich"/>'
    "</rdf:RDF></x:xmpmeta>"
).encode()
ICC = b"a profile" * 20
XMP_SEGMENT, EXTENDED = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
IPTC = b"\x1c\x02x\0\x04word"
GAIN_MAP = b'<rdf:Description xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"/>'
ULTRA_HDR = XMP.replace(b"</rdf:RDF>", GAIN_MAP + b"</rdf:RDF>")
ULTRA_HDR_JPEG = (Path(__file__).parent / "data" / "gain_maps" / "libultrahdr.jpg").read_bytes()
APPLE_GAIN_MAP = ULTRA_HDR.replace(b"http://ns.adobe.com/hdr-gain-map/", b"http://ns.apple.com/HDRGainMap/")
VIDEO = box(b"ftyp", b"mp42", bytes(4)) + box(b"mdat", bytes(99))


def resource(number: int, data: bytes) -> bytes:
    return b"8BIM" + struct.pack(">HHI", number, 0, len(data)) + data + bytes(len(data) % 2)


def raw_profile(kind: str, data: bytes) -> tuple[bytes, bytes]:
    text = f"\n{kind}\n{len(data):8}\n{data.hex()}\n".encode()
    return b"zTXt", f"Raw profile type {kind}".encode() + b"\0\0" + zlib.compress(text)


def item(number: int, kind: bytes) -> bytes:
    return box(b"infe", b"\2\0\0\0", struct.pack(">HH", number, 0), kind, b"\0")


def heif(*kinds: bytes, properties: tuple[bytes, ...] = (), data: bytes = b"") -> bytes:
    """The boxes of a file with a picture as item 1 and others behind it, of which each has these data."""
    start = box(b"ftyp", b"avif", bytes(4), b"mif1")
    items = [item(i, kind) for i, kind in enumerate((b"av01", *kinds), 1)]
    infos = box(b"iinf", bytes(4), struct.pack(">H", len(items)), *items)
    indices = bytes(range(1, len(properties) + 1))
    owned = box(b"ipma", bytes(4), struct.pack(">IHB", 1, 1, len(properties)), indices)
    shape = box(b"iprp", box(b"ipco", *properties), owned)

    def meta(at: int) -> bytes:
        places = b"".join(struct.pack(">HHHII", i, 0, 1, at, len(data)) for i in range(2, len(kinds) + 2))
        where = box(b"iloc", bytes(4), b"\x44\0", struct.pack(">H", len(kinds)), places)
        return box(b"meta", bytes(4), box(b"pitm", bytes(4), b"\0\1"), infos, where, shape)

    return start + meta(len(start) + len(meta(0)) + 8) + box(b"mdat", data)


def colr(primaries: int, transfer: int) -> bytes:
    return box(b"colr", b"nclx", struct.pack(">HHHB", primaries, transfer, 9, 128))


def bmp(space: bytes) -> bytes:
    """With a header of version 5, which names a colour space."""
    plain = encoded("BMP")
    start = bytearray(plain[:54]).ljust(14 + 124, b"\0")
    struct.pack_into("<I", start, 10, len(start))  # where the pixels begin
    struct.pack_into("<I", start, 14, 124)
    start[70:78] = space + struct.pack("<I", 1 << 30)  # and the first of the primaries
    return bytes(start) + plain[54:]


def tga(text: bytes = b"", extension: int = 0, developer: int = 0) -> bytes:
    plain = encoded("TGA")[: 18 + 3 * WIDTH * HEIGHT]
    return (
        bytes([len(text)])
        + plain[1:18]
        + text
        + plain[18:]
        + struct.pack("<II", extension, developer)
        + b"TRUEVISION-XFILE.\0"
    )


def gif_of_pixels_twice_as_high() -> bytes:
    data = bytearray(gif())
    data[12] = 32 - 15  # 64ths of a pixel's height
    return bytes(data)


def jp2_with(*boxes: bytes, colr: bytes = b"") -> bytes:
    """With boxes in the header, and another colour space."""
    plain, old = jp2(), box(b"colr", b"\1\0\0\0\0\0\x10")
    at, (size,) = plain.index(b"jp2h") - 4, struct.unpack_from(">I", plain, plain.index(b"jp2h") - 4)
    inner = plain[at + 8 : at + size].replace(old, box(b"colr", colr) if colr else old)
    return plain[:at] + box(b"jp2h", inner, *boxes) + plain[at + size :]


@dataclass(frozen=True)
class Case:
    """A file, the field that holds what it has, and its value; or the note that it isn't kept."""

    file: bytes
    field: str = ""
    value: bytes | None = None
    note: str = ""  # when it is compressed
    homeless: str = ""  # when it is decompressed to the same format


def kept(file: bytes, field: str, value: bytes, homeless: str = "") -> Case:
    return Case(file, field, value, homeless=homeless)


def noted(file: bytes, name: str) -> Case:
    return Case(file, note=f"the picture's {name} is not kept")


LIGHT, MASTERING = struct.pack(">II", 10_000_000, 4_000_000), bytes(range(24))
MASTERING_OF_HEIF = MASTERING[4:12] + MASTERING[:4] + MASTERING[12:]  # green, blue, red
CHROMATICITIES = struct.pack(">8I", 31270, 32900, 70800, 29200, 17000, 79700, 13100, 4600)
DPI_300 = pack_density(300 * 39.37007874, 300 * 39.37007874, 1)

CASES = {  # (row, cell of docs/pictures.md): a file that has it
    ("JPEG", "ICC profile"): kept(jpeg(icc_profile=ICC), "icc", ICC),
    ("JPEG", "damaged ICC profile"): noted(jpeg((0xE2, b"ICC_PROFILE\0\1\2" + ICC)), "damaged ICC profile"),
    ("JPEG", "EXIF"): kept(jpeg((0xE1, EXIF)), "exif", EXIF),
    ("JPEG", "XMP"): kept(jpeg((0xE1, XMP_SEGMENT + XMP)), "xmp", XMP),
    ("JPEG", "comments"): kept(
        jpeg((0xFE, b"one"), (0xFE, "zwei ü".encode())), "comments", "Comment\0one\nzwei ü".encode()
    ),
    ("JPEG", "density"): kept(jpeg(dpi=(300, 300)), "density", DPI_300),
    ("JPEG", "IPTC"): noted(jpeg((0xED, b"Photoshop 3.0\0" + resource(0x404, IPTC))), "IPTC"),
    ("JPEG", "Photoshop resources"): noted(
        jpeg((0xED, b"Photoshop 3.0\0" + resource(0x3F3, b"x"))), "Photoshop resources"
    ),
    ("JPEG", "HDR gain map"): Case(ULTRA_HDR_JPEG),  # test_gain_maps.py tells what becomes of it
    ("JPEG", "damaged HDR gain map"): noted(
        jpeg((0xE1, XMP_SEGMENT + ULTRA_HDR), behind=jpeg((0xE1, XMP_SEGMENT + ULTRA_HDR))), "HDR gain map"
    ),
    ("JPEG", "Apple's HDR gain map"): noted(jpeg(behind=jpeg((0xE1, XMP_SEGMENT + APPLE_GAIN_MAP))), "HDR gain map"),
    ("JPEG", "motion photo's video"): noted(jpeg(behind=VIDEO), "motion photo's video"),
    ("JPEG", "further pictures behind its end"): noted(jpeg(behind=jpeg()), "further pictures behind its end"),
    ("JPEG", "other data behind its end"): noted(jpeg(behind=b"SEFH" + bytes(96)), "data behind its end (100 bytes)"),
    ("JPEG", "extended XMP"): noted(jpeg((0xE1, EXTENDED + b"0" * 32 + bytes(8) + b"<x/>")), "extended XMP"),
    ("JPEG", "content credentials"): noted(jpeg((0xEB, b"JP" + bytes(30))), "content credentials (JUMBF)"),
    ("JPEG", "FlashPix"): noted(jpeg((0xE2, b"FPXR\0" + bytes(9))), "FlashPix"),
    ("JPEG", "other segments"): noted(jpeg((0xEC, b"Ducky\0" + bytes(9))), "segment APP12 (Ducky)"),
    ("PNG", "ICC profile"): kept(encoded("PNG", icc_profile=ICC), "icc", ICC),
    ("PNG", "damaged ICC profile"): noted(
        png((b"iCCP", b"name\0\0" + zlib.compress(random.Random(0).randbytes(999))[:500])), "damaged ICC profile"
    ),
    ("PNG", "EXIF"): kept(png((b"eXIf", EXIF[6:])), "exif", EXIF),
    ("PNG", "XMP"): kept(png((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)), "xmp", XMP),
    ("PNG", "texts"): kept(
        png((b"tEXt", b"Author\0J\xf6rg"), (b"tEXt", b"Author\0other"), (b"zTXt", b"Title\0\0" + zlib.compress(b"t"))),
        "comments",
        "Author\0Jörg\nother\0Title\0t".encode(),
    ),
    ("PNG", "pHYs"): kept(
        png((b"pHYs", struct.pack(">IIB", 11811, 5906, 1))), "density", struct.pack(">IIB", 11811, 5906, 1)
    ),
    ("PNG", "gAMA"): kept(png((b"gAMA", struct.pack(">I", 100_000))), "gamma", struct.pack(">I", 100_000)),
    ("PNG", "cHRM"): kept(png((b"cHRM", CHROMATICITIES)), "chromaticities", CHROMATICITIES),
    ("PNG", "sRGB"): kept(png((b"sRGB", b"\2")), "srgb", b"\2"),
    ("PNG", "cICP"): kept(png((b"cICP", b"\x09\x10\0\1")), "cicp", b"\x09\x10\0\1"),
    ("PNG", "mDCV"): kept(png((b"mDCV", MASTERING)), "mastering", MASTERING),
    ("PNG", "cLLI"): kept(png((b"cLLI", LIGHT)), "light", LIGHT),
    ("PNG", "raw profile exif"): kept(png(raw_profile("exif", EXIF)), "exif", EXIF),
    ("PNG", "raw profile APP1"): kept(png(raw_profile("APP1", XMP_SEGMENT + XMP)), "xmp", XMP),
    ("PNG", "raw profile xmp"): kept(png(raw_profile("xmp", XMP)), "xmp", XMP),
    ("PNG", "raw profile icc"): kept(png(raw_profile("icc", ICC)), "icc", ICC),
    ("PNG", "raw profile iptc"): noted(png(raw_profile("iptc", IPTC)), "IPTC"),
    ("PNG", "raw profile 8bim"): noted(png(raw_profile("8bim", resource(0x404, IPTC))), "Photoshop resources"),
    ("PNG", "language of a text"): noted(
        png((b"iTXt", "Title\0\0\0de\0Titel\0ü".encode())), "language of the text 'Title'"
    ),
    ("PNG", "sBIT"): noted(png((b"sBIT", b"\5\6\5")), "number of significant bits (sBIT)"),
    ("PNG", "bKGD"): noted(png((b"bKGD", bytes(6))), "background colour (bKGD)"),
    ("PNG", "hIST"): noted(png((b"hIST", bytes(8))), "histogram (hIST)"),
    ("PNG", "sPLT"): noted(png((b"sPLT", b"p\0\x08")), "suggested palette (sPLT)"),
    ("PNG", "tIME"): noted(png((b"tIME", b"\x07\xe8\1\1\0\0\0")), "time of change (tIME)"),
    ("PNG", "oFFs"): noted(png((b"oFFs", bytes(9))), "offset (oFFs)"),
    ("PNG", "content credentials"): noted(png((b"caBX", b"c2pa")), "content credentials (caBX)"),
    ("PNG", "other chunks"): noted(png((b"prVt", b"x")), "PNG chunk prVt"),
    ("PNG", "data behind its end"): noted(png(behind=b"x" * 9), "data behind its end (9 bytes)"),
    ("WebP", "ICC profile"): kept(webp((b"ICCP", ICC)), "icc", ICC),
    ("WebP", "EXIF"): kept(webp((b"EXIF", EXIF[6:])), "exif", EXIF),
    ("WebP", "XMP"): kept(webp((b"XMP ", XMP)), "xmp", XMP),
    ("WebP", "other chunks"): noted(webp((b"what", b"x")), "WebP chunk what"),
    ("WebP", "data behind its end"): noted(webp() + b"x" * 100, "data behind its end (100 bytes)"),
    ("AVIF", "ICC profile"): kept(avif(icc_profile=ICC), "icc", ICC),
    ("AVIF", "EXIF"): kept(avif(exif=EXIF), "exif", EXIF),
    ("AVIF", "XMP"): kept(avif(xmp=XMP), "xmp", XMP),
    ("AVIF", "CICP"): kept(
        heif(properties=(colr(9, 16),)), "cicp", b"\x09\x10\0\1", "AVIF has no place for the picture's cICP"
    ),
    ("AVIF", "HDR gain map"): Case(heif_with_gain_map()),
    ("AVIF", "damaged HDR gain map"): noted(heif(b"tmap"), "HDR gain map"),
    ("AVIF", "Apple's HDR gain map"): noted(
        heif(properties=(box(b"auxC", bytes(4), b"urn:com:apple:photo:2020:aux:hdrgainmap\0"),)), "HDR gain map"
    ),
    ("AVIF", "depth map"): noted(
        heif(properties=(box(b"auxC", bytes(4), b"urn:mpeg:hevc:2015:auxid:2\0"),)), "depth map"
    ),
    ("AVIF", "pixel aspect"): kept(
        heif(properties=(box(b"pasp", struct.pack(">II", 2, 1)),)), "density", struct.pack(">IIB", 1, 2, 0)
    ),
    ("AVIF", "crop"): noted(heif(properties=(box(b"clap", bytes(32)),)), "crop (clap)"),
    ("AVIF", "other properties"): noted(heif(properties=(box(b"what", b""),)), "property what"),
    ("AVIF", "data behind its end"): noted(avif(b"x" * 100), "data behind its end (100 bytes)"),
    ("AVIF", "mdcv"): kept(
        heif(properties=(box(b"mdcv", MASTERING_OF_HEIF),)),
        "mastering",
        MASTERING,
        "AVIF has no place for the picture's mDCV",
    ),
    ("AVIF", "clli"): kept(
        heif(properties=(box(b"clli", struct.pack(">2H", 1000, 400)),)),
        "light",
        LIGHT,
        "AVIF has no place for the picture's cLLI",
    ),
    ("AVIF", "other items"): noted(heif(b"what"), "item what"),
    ("AVIF", "other boxes"): noted(avif(box(b"what", b"x")), "box what"),
    ("TIFF", "tags"): kept(
        tiff((315, 2, "José\0".encode()), (42034, 5, struct.pack("<2I", 24, 1)), (50000, 7, b"private")),
        "exif",
        exif([(315, 2, "José\0".encode()), (42034, 5, struct.pack("<2I", 24, 1)), (50000, 7, b"private")]),
    ),
    ("TIFF", "ICC profile"): kept(tiff((34675, 7, ICC)), "icc", ICC),
    ("TIFF", "XMP"): kept(tiff((700, 1, XMP)), "xmp", XMP),
    ("TIFF", "IPTC"): noted(tiff((33723, 7, IPTC)), "IPTC"),
    ("TIFF", "Photoshop resources"): noted(tiff((34377, 7, resource(0x3F3, b"x"))), "Photoshop resources"),
    ("TIFF", "Photoshop layers"): noted(tiff((37724, 7, b"Adobe Photoshop Document Data Block\0")), "Photoshop layers"),
    ("TIFF", "further pictures (SubIFDs)"): noted(tiff((330, 4, struct.pack("<I", 8))), "further pictures (SubIFDs)"),
    ("TIFF", "damaged tags"): noted(tiff((34665, 4, struct.pack("<I", 1 << 30))), "damaged tag 34665"),
    ("GIF", "comments"): kept(gif(b"\xfe\5hello\0"), "comments", b"Comment\0hello"),
    ("GIF", "XMP"): kept(
        gif(b"\xff\x0bXMP DataXMP" + XMP + b"\1" + bytes(range(255, -1, -1)) + b"\0"),
        "xmp",
        XMP,
        "GIF has no place for the picture's XMP",
    ),
    ("GIF", "ICC profile"): kept(
        gif(b"\xff\x0bICCRGBG1012" + bytes([len(ICC)]) + ICC + b"\0"),
        "icc",
        ICC,
        "GIF has no place for the picture's ICC profile",
    ),
    ("GIF", "pixel aspect"): kept(
        gif_of_pixels_twice_as_high(),
        "density",
        struct.pack(">IIB", 64, 32, 0),
        "GIF has no place for the picture's pixel density",
    ),
    ("GIF", "data behind its end"): noted(gif() + b"x" * 100, "data behind its end (100 bytes)"),
    ("GIF", "other extensions"): noted(gif(b"\xff\x0bWHATEVER1.0\1x\0"), "GIF extension WHATEVER1.0"),
    ("GIF", "text upon the picture"): noted(gif(b"\x01\x0c" + bytes(12) + b"\1x\0"), "text upon the picture"),
    ("JPEG 2000", "comments"): kept(encoded("JPEG2000", comment="hello", no_jp2=True), "comments", b"Comment\0hello"),
    ("JPEG 2000", "EXIF"): kept(
        jp2(box(b"uuid", b"JpgTiffExif->JP2", EXIF[6:])), "exif", EXIF, "JPEG2000 has no place for the picture's EXIF"
    ),
    ("JPEG 2000", "XMP"): kept(
        jp2(box(b"uuid", bytes.fromhex("be7acfcb97a942e89c71999491e3afac"), XMP)),
        "xmp",
        XMP,
        "JPEG2000 has no place for the picture's XMP",
    ),
    ("JPEG 2000", "ICC profile"): kept(
        jp2_with(colr=b"\2\0\0" + ICC), "icc", ICC, "JPEG2000 has no place for the picture's ICC profile"
    ),
    ("JPEG 2000", "density"): kept(
        jp2_with(box(b"res ", box(b"resd", struct.pack(">4H2b", 11811, 1, 11811, 1, 0, 0)))),
        "density",
        DPI_300,
        "JPEG2000 has no place for the picture's pixel density",
    ),
    ("JPEG 2000", "colour space without a number"): noted(
        jp2_with(colr=b"\5\0\0" + bytes(7)), "colour space of method 5"
    ),
    ("JPEG 2000", "data behind its end"): noted(jp2(b"x" * 100), "data behind its end (100 bytes)"),
    ("JPEG 2000", "IPTC"): noted(jp2(box(b"uuid", bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38"), IPTC)), "IPTC"),
    ("JPEG 2000", "other boxes"): noted(jp2(box(b"xml ", b"<x/>")), "box xml_"),
    ("BMP", "density"): kept(encoded("BMP", dpi=(300, 300)), "density", DPI_300),
    ("BMP", "ICC profile"): noted(bmp(b"DEBM"), "ICC profile"),
    ("BMP", "data behind its end"): noted(encoded("BMP") + b"x" * 100, "data behind its end (100 bytes)"),
    ("BMP", "other colour space"): noted(bmp(bytes(4)), "colour space (of BMP)"),
    ("TGA", "image ID"): noted(tga(b"made by somebody"), "image ID"),
    ("TGA", "extension area"): noted(tga(extension=99), "extension area"),
    ("TGA", "developer area"): noted(tga(developer=99), "developer area"),
    ("PNM", "comments"): kept(
        b"P6\n# made by me\n2 1\n255\n" + bytes(6),
        "comments",
        b"Comment\0made by me",
        "PPM has no place for the picture's comment",
    ),
    ("PNM", "further pictures behind its end"): noted(2 * encoded("PPM"), "further pictures behind its end"),
    ("PNM", "other data behind its end"): noted(encoded("PPM") + b"x" * 100, "data behind its end (100 bytes)"),
}
SUFFIXES = {"JPEG": ".jpg", "WebP": ".webp", "JPEG 2000": ".jp2", "PNM": ".ppm", "TIFF": ".tif"}


def promised() -> list[tuple[str, str]]:
    """(format, kind) of the table in docs/pictures.md, of what is kept and what is noted."""
    rows = re.findall(
        r"^\| (\S.*?) *\| (kept|noted) *\| (.*?) *\|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE
    )
    return [(format, kind) for format, _, kinds in rows for kind in kinds.split(", ")]


def test_the_table_of_the_document_is_tested_cell_by_cell():
    assert sorted(promised()) == sorted(CASES)
    text = DOCUMENT.read_text(encoding="utf-8")
    for (format, kind), case in CASES.items():
        verdict = "noted" if case.note else "kept"
        assert re.search(
            rf"^\| {re.escape(format)} *\| {verdict} *\| (.*, )?{re.escape(kind)}[, |]", text, re.MULTILINE
        )


def without_pixels(notes: Iterable[str]) -> list[str]:
    """Notes, but for those of pixels."""
    return [note for note in notes if "was converted to" not in note]


def read(data: bytes) -> tuple[Picture | Metadata, list[str]]:
    """What is kept of a file, and the notes of the rest."""
    if data[4:8] == b"ftyp" and b"mif1" in data[:24] and len(data) < 400:  # boxes without a picture
        found = gather(ImageInfo(info={}, format="AVIF", file=data))
        return found.metadata, found.notes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow
        picture = read_picture(data)
    return picture, without_pixels(picture.notes)


def stored(metadata: Metadata) -> Metadata:
    """As it comes out of a .hpcm file."""
    container = unpack((Path(__file__).parent / "golden" / "tiny.hpcm").read_bytes())
    changed = replace(container, icc=metadata.icc, exif=metadata.exif, ancillary=metadata.ancillary)
    return Metadata.of(unpack(pack(changed)))


def written(metadata: Metadata, suffix: str) -> tuple[bytes, list[str]]:
    picture = picture_of_planes(Planes(np.zeros((HEIGHT, WIDTH, 3), np.uint8)), metadata)
    notes: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow
        return save_picture(picture, suffix, on_note=notes.append), notes


def same(one: Metadata, other: Metadata) -> bool:
    """EXIF as tags, types and bytes: a TIFF lays them out anew."""
    tags = [tags_of(metadata.exif) if metadata.exif else {} for metadata in (one, other)]
    return tags[0] == tags[1] and replace(one, exif=None) == replace(other, exif=None)


@pytest.mark.parametrize("cell", CASES, ids=" ".join)
def test_kept_or_noted(cell):
    """Kept: equal after it was compressed and decompressed to the same format. Noted: in exactly one line, once."""
    case = CASES[cell]
    picture, notes = read(case.file)
    assert notes == ([case.note] if case.note else [])
    metadata = Metadata(**picture.present)
    if case.field:
        expected = Metadata(**{case.field: case.value})
        assert same(Metadata(**{case.field: getattr(metadata, case.field)}), expected)
    assert stored(metadata) == metadata
    data, notes = written(metadata, SUFFIXES.get(cell[0], f".{cell[0].lower()}"))
    assert notes == ([case.homeless] if case.homeless else [])
    again, notes = read(data)
    assert notes == []
    if cell == ("AVIF", "pixel aspect"):  # which is written as EXIF
        assert tags_of(again.exif)[282,][2] + tags_of(again.exif)[283,][2] == struct.pack("<4I", 1, 1, 2, 1)
    elif not case.homeless:
        assert same(Metadata(**again.present), metadata)


OTHER_EXIF = exif([(315, 2, b"somebody else\0")])


@pytest.mark.parametrize(
    ("one", "file", "name"),
    [
        (EXIF, jpeg((0xE1, EXIF), (0xE1, OTHER_EXIF)), "EXIF"),
        (None, png((b"eXIf", EXIF[6:]), (b"eXIf", OTHER_EXIF[6:])), "EXIF"),
        (EXIF, webp((b"EXIF", EXIF), (b"EXIF", OTHER_EXIF)), "EXIF"),
        (EXIF, png((b"eXIf", EXIF[6:]), raw_profile("exif", OTHER_EXIF)), "EXIF"),
        (EXIF, png((b"eXIf", EXIF[6:]), raw_profile("exif", EXIF)), ""),  # the same, as some writers have it
    ],
)
def test_a_second_one_is_noted(one, file, name):
    picture, notes = read(file)
    assert picture.exif == (one or OTHER_EXIF)
    assert notes == ([f"the picture's second {name} is not kept"] if name else [])


@pytest.mark.parametrize(
    ("data", "comments", "note"),
    [
        (b"P6\n#one\n2 #two\n1\n255\n" + b"#ab\ncd", ["one\ntwo"], None),  # samples that look like a comment
        (b"P4\n8 4\n" + b"123\n", [], None),  # ... or like a number
        (b"P4\n8 4\n" + b"123\n" + b"P4\n8 4\n1234", [], "further pictures behind its end"),
        (b"P5\n2 1\n300\n" + bytes([0, 9, 0, 10]) + b"tail", [], "data behind its end (4 bytes)"),
        (b"P2\n2 1\n255\n#one\n1 2 #two\n", ["one\ntwo"], None),
    ],
)
def test_comments_of_pnm_end_where_the_samples_begin(data, comments, note):
    picture, notes = read(data)
    assert list(unpack_comments(picture.comments or b"").values()) == comments
    assert notes == ([f"the picture's {note} is not kept"] if note else [])


def test_an_empty_exif_hides_no_other():
    assert read(jpeg((0xE1, b"Exif\0\0"), (0xE1, EXIF)))[0].exif == EXIF


def test_an_item_of_another_type_is_no_xmp():
    metadata, notes = read(heif(b"mimea name\0text/plain", data=b"words"))
    assert metadata.xmp is None
    assert notes == ["the picture's item of type text/plain is not kept"]
    assert read(heif(b"mimea name\0application/rdf+xml", data=b"<x/>"))[0].xmp == b"<x/>"


def test_several_losses_are_one_line():
    _, notes = read(png((b"sBIT", b"\5\6\5"), (b"prVt", b"x"), (b"tIME", bytes(7))))
    assert notes == [
        "the picture's number of significant bits (sBIT), PNG chunk prVt and time of change (tIME) are not kept"
    ]


def test_a_format_of_which_nothing_is_known():
    notes = gather(ImageInfo(info={}, format="ICO", file=encoded("ICO"))).notes
    assert notes == ["of a picture in the format ICO only what Pillow reads is kept"]


def test_an_image_without_its_file():
    """What Pillow kept of it is all that is known."""
    chunks = raw_profile("iptc", IPTC), (b"gAMA", struct.pack(">I", 50_000)), (b"pHYs", struct.pack(">IIB", 9, 8, 0))
    image = Image.open(io.BytesIO(png(*chunks)))
    image.load()
    assert image.fp is None
    picture = from_image(image)
    assert "the picture's IPTC is not kept" in picture.notes
    assert (picture.gamma, picture.density) == (struct.pack(">I", 50_000), struct.pack(">IIB", 9, 8, 0))
    image = Image.open(io.BytesIO(tiff((33723, 7, IPTC), (315, 2, b"me\0"))))
    image.load()
    picture = from_image(image)
    assert "the picture's IPTC is not kept" in picture.notes
    assert tags_of(picture.exif) == {(315,): (2, 3, b"me\0")}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
def test_exif_is_written_as_it_is(suffix):
    """Types, counts and bytes of every tag, in both byte orders; as Pillow's writer of TIFF and AVIF wouldn't."""
    motorola = exif(
        [(315, 2, "é\0".encode())], [(0x927C, 7, b"note" * 9), (0xA002, 4, struct.pack(">I", WIDTH))], order=">"
    )
    for block in (EXIF, motorola):
        data, notes = written(Metadata(exif=block), suffix)
        picture, more = read(data)
        assert (notes, more) == ([], [])
        assert tags_of(picture.exif) == tags_of(block)
        assert picture.exif == block or suffix == ".tif"


def test_a_stranger_s_file_and_a_part_of_one():
    """EXIF in a file has no orientation, as its pixels are upright; a part of a picture has its own size."""
    foreign = exif([(274, 3, b"\6\0"), (315, 2, b"me\0")], [(0xA002, 4, struct.pack("<I", 4000))])
    data, notes = written(Metadata(exif=foreign), ".jpg")
    assert notes == []
    tags = tags_of(read(data)[0].exif)
    assert tags == {(315,): (2, 3, b"me\0"), (34665, 0xA002): (4, 1, struct.pack("<I", WIDTH))}
    assert Image.open(io.BytesIO(data)).getexif().get(274) is None


def test_a_maker_s_note_stays_at_its_place_in_a_tiff():
    """Its offsets may count from the beginning of the block, which is that of the file."""
    note = b"a maker's note"
    block = exif([(315, 2, b"me, myself\0")], [(0x927C, 7, note * 3)])
    data, _ = written(Metadata(exif=block), ".tif")
    assert data.index(note) == block.index(note) - 6


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "I;16"])
@pytest.mark.parametrize("order", "<>")
def test_tiff_files_of_every_mode(mode, order):
    image = Image.open(io.BytesIO(encoded("PNG"))).convert("L" if mode == "I;16" else mode)
    image = image.point(lambda value: value * 257, "I").convert("I;16") if mode == "I;16" else image
    image.info["exif"] = exif([(315, 2, b"me, myself\0")], order=order)
    back = to_image(read_picture(save_picture(from_image(image), ".tif")))
    assert back.mode in (mode, "I;16B")
    assert np.array_equal(np.asarray(back), np.asarray(image))


def test_colours_that_a_format_has_no_place_for():
    """gAMA and cHRM change what is seen, unless a profile is there; sRGB is what is taken for granted."""
    colours = Metadata(gamma=struct.pack(">I", 100_000), chromaticities=CHROMATICITIES)
    assert written(colours, ".jpg")[1] == ["JPEG has no place for the picture's gAMA and cHRM"]
    assert written(replace(colours, icc=ICC), ".jpg")[1] == []
    assert written(replace(colours, srgb=b"\0"), ".webp")[1] == []
    assert written(Metadata(srgb=b"\0"), ".jpg")[1] == []


def test_density_in_every_format():
    metadata = Metadata(density=DPI_300)
    for suffix in (".jpg", ".png", ".bmp", ".tif"):
        data, notes = written(metadata, suffix)
        assert notes == []
        assert [round(value) for value in Image.open(io.BytesIO(data)).info["dpi"]] == [300, 300]
    for suffix in (".webp", ".avif"):
        data, notes = written(metadata, suffix)
        assert notes == []
        assert Image.open(io.BytesIO(data)).getexif()[282] == 300
        assert written(replace(metadata, exif=EXIF), suffix)[1] == [
            f"{suffix[1:].upper()} has no place for the picture's pixel density"
        ]
    assert written(metadata, ".ppm")[1] == ["PPM has no place for the picture's pixel density"]
    ratio = Metadata(density=struct.pack(">IIB", 4, 3, 0))
    for suffix in (".jpg", ".png", ".tif"):
        data, notes = written(ratio, suffix)
        assert notes == []
    assert Image.open(io.BytesIO(written(ratio, ".jpg")[0])).info["jfif_density"] == (4, 3)


@pytest.mark.parametrize(
    ("field", "name", "size"), [("exif", "EXIF", 65533), ("xmp", "XMP", 65504), ("comments", "comment", 65533)]
)
def test_what_a_jpeg_has_no_room_for(field, name, size):
    large = {
        "exif": exif([(315, 2, b"me" * 40_000)]),
        "xmp": b"<x>" + b" " * 70_000 + b"</x>",
        "comments": b"Comment\0" + b"c" * 70_000,
    }
    data, notes = written(Metadata(**{field: large[field]}), ".jpg")
    assert len(notes) == 1
    assert re.fullmatch(rf"the picture's {name} of [\d,]+ bytes is not written: JPEG takes {size:,}", notes[0])
    assert Image.open(io.BytesIO(data)).size == (WIDTH, HEIGHT)


@pytest.mark.parametrize(
    "garbage", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_garbage_is_noted_and_the_picture_kept(garbage):
    for data in (jpeg((0xE1, garbage)), png((b"eXIf", garbage[6:])), webp((b"EXIF", garbage[6:]))):
        picture, notes = read(data)
        assert picture.exif is None
        assert len(notes) == 1
        assert notes[0].startswith("the picture's EXIF is damaged and not kept: ")
    for suffix in (".jpg", ".tif", ".avif"):
        (note,) = written(Metadata(exif=garbage), suffix)[1]
        assert note.startswith("the file's EXIF is damaged and not written: ")


def test_exif_that_was_split():
    """Over 64 KiB it takes several segments of a JPEG, each with the same beginning."""
    block = exif([(315, 2, b"me" * 40_000)])
    picture, notes = read(jpeg((0xE1, block[:60_000]), (0xE1, b"Exif\0\0" + block[60_000:])))
    assert (picture.exif, notes) == (block, [])


def test_pictures_turned_by_their_avif():
    """Pillow writes their EXIF anew to say so; the bytes of the file are kept."""
    data = avif(exif=exif([(274, 3, b"\6\0"), (315, 2, b"me, myself\0")], [(0x9286, 7, b"ASCII\0\0\0hello")]))
    byte, undefined = (struct.pack("<HHI", 0x9286, type_, 13) for type_ in (1, 7))  # Pillow's writer, and ours
    data = data.replace(byte, undefined).replace(b"myself", "mysélf"[:5].encode())
    picture, notes = read(data)
    assert picture.size == (WIDTH, HEIGHT)
    assert notes == []
    assert tags_of(picture.exif)[315,] == (2, 11, "me, mysél\0".encode())
    assert tags_of(picture.exif)[34665, 0x9286] == (7, 13, b"ASCII\0\0\0hello")


def test_the_whole_way(tmp_path, capsys):
    """The command line: a file with everything in it, to .hpcm and back."""
    chunks = [
        (b"gAMA", struct.pack(">I", 100_000)),
        (b"eXIf", EXIF[6:]),
        (b"pHYs", struct.pack(">IIB", 11811, 11811, 1)),
    ]
    (tmp_path / "in.png").write_bytes(png(*chunks, (b"prVt", b"x")))
    assert main(["compress", str(tmp_path / "in.png"), "--model", "nano"]) in (0, None)
    assert capsys.readouterr().err.endswith(": the picture's PNG chunk prVt is not kept\n")
    assert main(["decompress", str(tmp_path / "in.hpcm"), "-o", str(tmp_path / "out.png")]) in (0, None)
    assert capsys.readouterr().err == ""
    out = (tmp_path / "out.png").read_bytes()
    assert all(png_chunk(*chunk) in out for chunk in chunks)


def test_large_texts_and_profiles_of_a_png(tmp_path, capsys, monkeypatch):
    """Pillow by itself refuses the picture from 1 MiB on; the command line keeps 16, and notes what is larger."""
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", PngImagePlugin.MAX_TEXT_CHUNK)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    profile, long = bytes(2 << 20), bytes(17 << 20).replace(b"\0", b"a")
    chunks = [
        (b"iCCP", b"name\0\0" + zlib.compress(profile)),
        (b"zTXt", b"Title\0\0" + zlib.compress(long[: 3 << 20])),
        (b"zTXt", b"Comment\0\0" + zlib.compress(long)),
    ]
    (tmp_path / "in.png").write_bytes(png(*chunks))
    assert main(["compress", str(tmp_path / "in.png"), "--model", "nano"]) in (0, None)
    (note, _) = capsys.readouterr().err.splitlines()  # the other one: the file is larger than the picture's
    assert note.endswith(": the picture's damaged or too long text 'Comment' is not kept")
    info = hpcm.decompress(tmp_path / "in.hpcm").info
    assert info["icc_profile"] == profile
    assert len(info["comments"]["Title"]) == 3 << 20


def test_pillow_keeps_the_same(tmp_path, caplog):
    import hpcm.pillow  # noqa: F401 (registers the format)

    (tmp_path / "in.jpg").write_bytes(jpeg((0xE1, EXIF), (0xEC, b"Ducky\0")))
    image = Image.open(tmp_path / "in.jpg")
    out = io.BytesIO()
    image.save(out, "HPCM", model="nano", xmp=XMP)
    assert "segment APP12 (Ducky) is not kept" in caplog.text
    caplog.clear()
    back = unpack(out.getvalue())
    assert isinstance(back, Container)
    assert back.exif == EXIF
    assert Metadata.of(back).xmp == XMP
    out = io.BytesIO()
    image.save(out, "HPCM", model="nano", exif=None)
    assert "Ducky" in caplog.text
    caplog.clear()
    assert unpack(out.getvalue()).exif is None
    (tmp_path / "in.jpg").write_bytes(jpeg((0xED, b"another file")))
    image.save(io.BytesIO(), "HPCM", model="nano")  # the name leads to another picture now
    assert not caplog.text


def test_comments_survive(tmp_path):
    data = hpcm.compress(png((b"tEXt", b"Author\0me")), model="nano")
    assert unpack_comments(Metadata.of(unpack(data)).comments) == {"Author": "me"}
    assert to_image(read_picture(png((b"tEXt", b"Author\0me")))).info["comments"] == {"Author": "me"}
