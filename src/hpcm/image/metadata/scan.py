"""Every segment, chunk, block or box of a picture file that is more than its pixels, by name.

Whoever knows the whole list can't forget one of them: what isn't kept is told. Damaged files give what can be read.
Every walk moves on by the length of what it passes, so that it is linear in the file.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress

from ...format.fields import MAX_METADATA
from . import boxes, jpeg
from .kept import NAMES, PNG_CHUNKS
from .pieces import COMMENT, DAMAGED_ICC, EXIF, ICC, IPTC, PHOTOSHOP, XMP, Piece, behind, shown

PNG_BEGIN = 8  # bytes before the first chunk
XMP_OF_GIF, ICC_OF_GIF = b"XMP DataXMP", b"ICCRGBG1012"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PNG_STRUCTURE = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"acTL", b"fcTL", b"fdAT")  # frames are counted elsewhere
PNG_KEPT = {kind: NAMES[name] for name, kind in PNG_CHUNKS.items()} | {b"eXIf": EXIF}
PNG_TOLD = {
    b"sBIT": "number of significant bits (sBIT)",
    b"bKGD": "background colour (bKGD)",
    b"hIST": "histogram (hIST)",
    b"sPLT": "suggested palette (sPLT)",
    b"tIME": "time of change (tIME)",
    b"oFFs": "offset (oFFs)",
    b"caBX": "content credentials (caBX)",
}
WEBP_KEPT = {b"ICCP": ICC, b"EXIF": EXIF, b"XMP ": XMP}
WEBP_STRUCTURE = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF")
RAW_PROFILE = "Raw profile type "
APP1_XMP = b"http://ns.adobe.com/xap/1.0/\0"
BMP_FILE_HEADER = 14  # bytes
BMP_RAW = (0, 3, 6)  # ways of compression that are none
TGA_SIGNATURE, TGA_FOOTER = b"TRUEVISION-XFILE.\0", 26  # bytes of the footer, the signature at its end
BMP_PROFILE, BMP_PLAIN = (b"DEBM", b"KNIL"), (b"BGRs", b" niW", bytes(4))  # colour spaces of a BMP's header


def pieces(data: bytes, format: str | None = None) -> list[Piece] | None:
    """Of a file; None if it is of another format than those here. TIFF has tags instead: tiff.py.

    Args:
        format: Pillow's name, for formats whose files have no beginning of their own.
    """
    if data.startswith(TIFF):
        return []
    walks: list[tuple[str, Callable[[bytes], Iterator[Piece]]]] = [
        (r"\xff\xd8", jpeg.pieces),
        (r"\x89PNG\r\n\x1a\n", png),
        (r"RIFF....WEBP", webp),
        (r"GIF8[79]a", gif),
        (r"....ftyp", boxes.heif),
        (r"....jP  ", boxes.jp2),
        (r"\xff\x4f\xff\x51", jpeg.codestream),
        (r"BM", bmp),
        (r"P[1-6][\s#]", pnm),
    ]
    walk = next((walk for begin, walk in walks if re.match(begin.encode(), data, re.DOTALL)), None)
    walk = walk or {"TGA": tga, "DIB": dib}.get(format or "")
    if walk is None:
        return None
    found: list[Piece] = []
    with suppress(struct.error, IndexError):  # where the file is cut short, as the decoder will say
        for piece in walk(data):
            found.append(piece)
    return found


def png(data: bytes) -> Iterator[Piece]:
    at, kind = PNG_BEGIN, b""
    room = MAX_METADATA  # for all texts together: few bytes inflate to many
    while at + 8 <= len(data) and kind != b"IEND":
        size, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + size] if kind not in PNG_STRUCTURE else b""
        at += 12 + size  # length, type, data, CRC
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            for piece in text(kind, body, room):
                room -= len(piece.data)
                yield piece
        elif kind == b"iCCP":
            yield profile(body)
        elif kind not in PNG_STRUCTURE:
            name = PNG_KEPT.get(kind) or PNG_TOLD.get(kind, f"PNG chunk {shown(kind)}")
            yield Piece(name, body)
    yield from behind(data[at:])


def text(kind: bytes, body: bytes, room: int) -> Iterator[Piece]:
    """A text of a PNG of at most so many bytes, or the profile that is written as one."""
    keyword, _, rest = body.partition(b"\0")
    key, language = keyword.decode("latin-1"), b""
    try:
        if kind == b"iTXt":
            packed = rest[:1] == b"\1"
            language, _, rest = rest[2:].partition(b"\0")
            translated, _, rest = rest.partition(b"\0")
            language += translated
            rest = inflated(rest, room) if packed else rest
        elif kind == b"zTXt":
            rest = inflated(rest[1:], room)
    except zlib.error:
        yield Piece(f"damaged or too long text {key!r}")
        return
    if key == "XML:com.adobe.xmp":
        yield Piece(XMP, rest)
    elif key.startswith(RAW_PROFILE):
        yield raw_profile(key.removeprefix(RAW_PROFILE), rest)
    else:
        yield Piece(COMMENT, rest if kind == b"iTXt" else rest.decode("latin-1").encode(), key)
        if language:
            yield Piece(f"language of the text {key!r}")


def profile(body: bytes) -> Piece:
    """An ICC profile of a PNG: its name, the method of compression, and the profile."""
    unpacker = zlib.decompressobj()
    try:
        found = unpacker.decompress(body.partition(b"\0")[2][1:], MAX_METADATA + 1)
    except zlib.error:
        return Piece(DAMAGED_ICC)
    return Piece(ICC if unpacker.eof or unpacker.unconsumed_tail else DAMAGED_ICC, found)


def inflated(data: bytes, room: int) -> bytes:
    """At most so many bytes. Raises zlib.error."""
    unpacker = zlib.decompressobj()
    found = unpacker.decompress(data, max(room, 1))  # 0 would be without a bound
    if not unpacker.eof:
        raise zlib.error("too long, or cut short")
    return found


def raw_profile(kind: str, text_: bytes) -> Piece:
    """As ImageMagick writes it: a line feed, the kind, the length, and the profile in hexadecimal digits."""
    lines = text_.strip().split(b"\n", 2)
    try:
        profile = bytes.fromhex(lines[2].decode("ascii"))
    except (IndexError, ValueError):
        return Piece(f"damaged profile {kind!r}")
    if profile.startswith(APP1_XMP):
        return Piece(XMP, profile.removeprefix(APP1_XMP))
    name = {"xmp": XMP, "iptc": IPTC, "8bim": PHOTOSHOP, "icc": ICC, "icm": ICC, "exif": EXIF, "APP1": EXIF}.get(kind)
    return Piece(name or f"profile {kind!r}", profile)


def webp(data: bytes) -> Iterator[Piece]:
    at, end = 12, 8 + struct.unpack_from("<I", data, 4)[0]
    while at + 8 <= min(end, len(data)):
        kind, size = struct.unpack_from("<4sI", data, at)
        if kind not in WEBP_STRUCTURE:
            yield Piece(WEBP_KEPT.get(kind) or f"WebP chunk {shown(kind)}", data[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    yield from behind(data[end + end % 2 :])


def gif(data: bytes) -> Iterator[Piece]:
    if data[12]:  # a pixel's width to its height, in 64ths from 15
        yield from boxes.ratio(64, data[12] + 15)
    at = 13 + gif_palette(data[10])
    while at < len(data) and data[at] != 0x3B:
        if data[at] == 0x2C:  # a picture
            at = sub_blocks(data, at + 11 + gif_palette(data[at + 9]))[1]
            continue
        if data[at] != 0x21:
            return
        label, begin = data[at + 1], at + 2
        blocks, at = sub_blocks(data, begin)
        if label == 0xFE:
            yield Piece(COMMENT, b"".join(blocks))
        elif label == 0xFF and blocks and blocks[0] == XMP_OF_GIF:  # not in blocks: it ends with a ladder of 258 bytes
            yield Piece(XMP, data[begin + 12 : at - 258])
        elif label == 0xFF and blocks and blocks[0] not in (b"NETSCAPE2.0", b"ANIMEXTS1.0"):
            known = {ICC_OF_GIF: ICC, b"MGK8BIM0000": PHOTOSHOP, b"MGKIPTC0000": IPTC}
            yield Piece(known.get(blocks[0]) or f"GIF extension {shown(blocks[0])}", b"".join(blocks[1:]))
        elif label not in (0xF9, 0xFF):
            yield Piece("text upon the picture" if label == 1 else f"GIF extension {label}")
    yield from behind(data[at + 1 :])


def gif_palette(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def sub_blocks(data: bytes, at: int) -> tuple[list[bytes], int]:
    """Blocks of at most 255 bytes up to an empty one, and where it ends."""
    blocks = []
    while size := data[at]:
        blocks.append(data[at + 1 : at + 1 + size])
        at += 1 + size
    return blocks, at + 1


def bmp(data: bytes) -> Iterator[Piece]:
    begin, size, width, height, _, bits, compression, image_size = struct.unpack_from("<IIiiHHII", data, 10)
    if size >= 40:  # else the header of OS/2
        raw = abs(height) * ((width * bits + 31) // 32 * 4)  # rows of whole words
        profile_at, profile_size = struct.unpack_from("<II", data, 126) if size >= 124 else (0, 0)
        ends = [begin + (raw if compression in BMP_RAW else image_size), BMP_FILE_HEADER + profile_at + profile_size]
        yield from behind(data[max(*ends, int.from_bytes(data[2:6], "little")) :])
    yield from bmp_space(data)


def bmp_space(data: bytes) -> Iterator[Piece]:
    if len(data) > 74 and struct.unpack_from("<I", data, 14)[0] >= 108:
        space = data[70:74]
        if space in BMP_PROFILE:
            yield Piece(ICC)
        elif space not in BMP_PLAIN or (any(data[74:122]) and space == bytes(4)):
            yield Piece("colour space (of BMP)")


def dib(data: bytes) -> Iterator[Piece]:
    """A BMP without the header of its file."""
    return bmp_space(bytes(BMP_FILE_HEADER) + data)


def tga(data: bytes) -> Iterator[Piece]:
    """A text of up to 255 bytes behind the header, and two areas that the footer of version 2 points to."""
    if data[0]:
        yield Piece("image ID")
    if data.endswith(TGA_SIGNATURE):
        extension, developer = struct.unpack_from("<II", data, len(data) - TGA_FOOTER)
        if extension:
            yield Piece("extension area")
        if developer:
            yield Piece("developer area")


def pnm(data: bytes) -> Iterator[Piece]:
    """Comments stand in the header, before the last of its numbers; where the samples are text, also among them."""
    plain, numbers = data[1:2] in b"123", 2 if data[1:2] in b"14" else 3
    gap = rb"(?:\s|#[^\n\r]*[\n\r])+"
    header = re.match(rb"P[1-6](?:%b\d{1,10}){%d}\s" % (gap, numbers), data[: 1 << 16])
    if header is None:
        return
    for line in re.findall(rb"#([^\n\r]*)", data if plain else header[0]):
        yield Piece(COMMENT, line.strip())
    if not plain:
        yield from behind(data[header.end() + samples_of_pnm(header[0]) :])


def samples_of_pnm(header: bytes) -> int:
    """How many bytes they take."""
    kind, width, height, *peak = re.sub(rb"#[^\n\r]*", b" ", header).split()
    row = {b"P4": (int(width) + 7) // 8, b"P5": int(width), b"P6": 3 * int(width)}[kind]
    return int(height) * row * (2 if peak and int(peak[0]) > 255 else 1)
