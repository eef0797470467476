"""Lists every segment, chunk, block or box of a picture file that is more than its pixels.

The list is complete, so that whatever isn't kept can be noted. Of a damaged file it has what can be read. Each walker
moves on by the length of what it passes, so that it is linear in the file.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress

from ...format.fields import MAX_METADATA
from . import boxes, jpeg
from .exif import HEADERS
from .pieces import COMMENT, DAMAGED_ICC, EXIF, ICC, IPTC, PHOTOSHOP, XMP, Piece, printable, trailing_pieces
from .record import NAMES, PNG_CHUNKS

TIFF_SIGNATURES = tuple(HEADERS)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_STRUCTURE = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"acTL", b"fcTL", b"fdAT")  # frames are counted elsewhere
PNG_DEPTH = 24  # where a PNG has the bits of a sample
PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
PNG_NAMES = {
    **{kind: NAMES[field] for field, kind in PNG_CHUNKS.items()},
    b"eXIf": EXIF,
    b"sBIT": "number of significant bits (sBIT)",
    b"bKGD": "background colour (bKGD)",
    b"hIST": "histogram (hIST)",
    b"sPLT": "suggested palette (sPLT)",
    b"tIME": "time of change (tIME)",
    b"oFFs": "offset (oFFs)",
    b"caBX": "content credentials (caBX)",
}
RAW_PROFILE = "Raw profile type "  # begins the keyword of a profile that ImageMagick writes as a text
RAW_PROFILE_NAMES = {"xmp": XMP, "iptc": IPTC, "8bim": PHOTOSHOP, "icc": ICC, "icm": ICC, "exif": EXIF, "APP1": EXIF}

WEBP_NAMES = {b"ICCP": ICC, b"EXIF": EXIF, b"XMP ": XMP}
WEBP_STRUCTURE = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF")

GIF_HEADER = 13  # bytes: signature and logical screen
GIF_IMAGE, GIF_EXTENSION, GIF_TRAILER = 0x2C, 0x21, 0x3B
GIF_TEXT, GIF_CONTROL, GIF_COMMENT, GIF_APPLICATION = 0x01, 0xF9, 0xFE, 0xFF  # labels of extensions
GIF_XMP = b"XMP DataXMP"
GIF_XMP_TRAILER = 258  # bytes that lead readers of sub-blocks to the end of XMP, which isn't in sub-blocks
GIF_ANIMATION = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
GIF_NAMES = {b"ICCRGBG1012": ICC, b"MGK8BIM0000": PHOTOSHOP, b"MGKIPTC0000": IPTC}

BMP_FILE_HEADER = 14  # bytes
BMP_UNCOMPRESSED = (0, 3, 6)  # values of the field "compression"
BMP_PROFILE, BMP_PLAIN = (b"DEBM", b"KNIL"), (b"BGRs", b" niW", bytes(4))  # colour spaces of a BMP's header
TGA_SIGNATURE, TGA_FOOTER = b"TRUEVISION-XFILE.\0", 26  # bytes of the footer, the signature at its end


def pieces(data: bytes, format: str | None = None) -> list[Piece] | None:
    """What a file has besides its pixels; None for a format that isn't listed here. TIFF has tags instead: tiff.py.

    Args:
        format: Pillow's name, for formats whose files have no signature.
    """
    if data.startswith(TIFF_SIGNATURES):
        return []
    walkers: list[tuple[bytes, Callable[[bytes], Iterator[Piece]]]] = [  # the signature, as a regular expression
        (rb"\xff\xd8", jpeg.pieces),
        (re.escape(PNG_SIGNATURE), png),
        (rb"RIFF....WEBP", webp),
        (rb"GIF8[79]a", gif),
        (rb"....ftyp", boxes.heif),
        (rb"....jP  ", boxes.jp2),
        (rb"\xff\x4f\xff\x51", jpeg.codestream),
        (rb"BM", bmp),
        (rb"P[1-6][\s#]", pnm),
    ]
    walker = next((walk for signature, walk in walkers if re.match(signature, data, re.DOTALL)), None)
    walker = walker or {"TGA": tga, "DIB": dib}.get(format or "")
    if walker is None:
        return None
    result: list[Piece] = []
    with suppress(struct.error, IndexError):  # where the file is cut short, which the decoder will notice
        for piece in walker(data):
            result.append(piece)
    return result


# ---- PNG ------------------------------------------------------------------------------------------------------------


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The type of each chunk, and where its data begin and end, which may be behind the end of a file that was cut."""
    at = len(PNG_SIGNATURE)
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind, at + 8, at + 8 + size
        at += 12 + size  # length, type, data, CRC


def png(data: bytes) -> Iterator[Piece]:
    behind = len(PNG_SIGNATURE)
    text_budget = MAX_METADATA  # bytes for all texts together: few bytes inflate to many
    for kind, begin, end in png_chunks(data):
        body = data[begin:end] if kind not in PNG_STRUCTURE else b""
        behind = end + 4  # its CRC
        if kind in PNG_TEXTS:
            for piece in png_text(kind, body, text_budget):
                text_budget -= len(piece.data)
                yield piece
        elif kind == b"iCCP":
            yield png_profile(body)
        elif kind not in PNG_STRUCTURE and not (kind == b"sBIT" and _tells_depth(body, data[PNG_DEPTH])):
            yield Piece(PNG_NAMES.get(kind, f"PNG chunk {printable(kind)}"), body)
        if kind == b"IEND":
            break
    yield from trailing_pieces(data[behind:])


def _tells_depth(sbit: bytes, bit_depth: int) -> bool:
    """Whether the chunk sBIT says no more than the picture's depth does: see image/samples.py."""
    return len({*sbit}) == 1 and bit_depth in (16, sbit[0])


def significant_bits(data: bytes) -> bytes:
    """The chunk sBIT of a PNG, a number of bits for each channel; empty if it has none."""
    for kind, begin, end in png_chunks(data):
        if kind == b"sBIT":
            return data[begin:end]
        if kind == b"IDAT":
            break
    return b""


def png_text(kind: bytes, body: bytes, max_bytes: int) -> Iterator[Piece]:
    """A text of a PNG of at most so many bytes, or the metadata that are written as one."""
    keyword, _, rest = body.partition(b"\0")
    key, language = keyword.decode("latin-1"), b""
    try:
        if kind == b"iTXt":  # compression flag and method, language, translated keyword, text
            is_compressed = rest[:1] == b"\1"
            language, _, rest = rest[2:].partition(b"\0")
            translated, _, rest = rest.partition(b"\0")
            language += translated
            rest = inflate(rest, max_bytes) if is_compressed else rest
        elif kind == b"zTXt":  # compression method, text
            rest = inflate(rest[1:], max_bytes)
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


def png_profile(body: bytes) -> Piece:
    """An ICC profile of a PNG: its name, the method of compression, and the profile."""
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(body.partition(b"\0")[2][1:], MAX_METADATA + 1)
    except zlib.error:
        return Piece(DAMAGED_ICC)
    is_whole = inflater.eof or inflater.unconsumed_tail  # the latter: longer than what is kept, and noted as such
    return Piece(ICC if is_whole else DAMAGED_ICC, profile)


def inflate(data: bytes, max_bytes: int) -> bytes:
    """At most so many bytes. Raises zlib.error."""
    inflater = zlib.decompressobj()
    result = inflater.decompress(data, max(max_bytes, 1))  # 0 would be without a bound
    if not inflater.eof:
        raise zlib.error("too long, or cut short")
    return result


def raw_profile(kind: str, text: bytes) -> Piece:
    """As ImageMagick writes it: a line feed, the kind, the length, and the profile in hexadecimal digits."""
    lines = text.strip().split(b"\n", 2)
    try:
        profile = bytes.fromhex(lines[2].decode("ascii"))
    except (IndexError, ValueError):
        return Piece(f"damaged profile {kind!r}")
    if profile.startswith(jpeg.XMP_HEAD):
        return Piece(XMP, profile.removeprefix(jpeg.XMP_HEAD))
    return Piece(RAW_PROFILE_NAMES.get(kind, f"profile {kind!r}"), profile)


# ---- WebP -----------------------------------------------------------------------------------------------------------


def webp(data: bytes) -> Iterator[Piece]:
    at, end = 12, 8 + struct.unpack_from("<I", data, 4)[0]
    while at + 8 <= min(end, len(data)):
        kind, size = struct.unpack_from("<4sI", data, at)
        if kind not in WEBP_STRUCTURE:
            name = WEBP_NAMES.get(kind, f"WebP chunk {printable(kind)}")
            yield Piece(name, data[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    yield from trailing_pieces(data[end + end % 2 :])


# ---- GIF ------------------------------------------------------------------------------------------------------------


def gif(data: bytes) -> Iterator[Piece]:
    aspect = data[12]  # a pixel's width to its height, in 64ths from 15; 0: unknown
    if aspect:
        yield from boxes.pixel_aspect(64, aspect + 15)
    at = GIF_HEADER + gif_palette_bytes(data[10])
    while at < len(data) and data[at] != GIF_TRAILER:
        if data[at] == GIF_IMAGE:
            local_palette = gif_palette_bytes(data[at + 9])
            _, at = gif_sub_blocks(data, at + 11 + local_palette)
        elif data[at] == GIF_EXTENSION:
            label, begin = data[at + 1], at + 2
            blocks, at = gif_sub_blocks(data, begin)
            yield from gif_extension(label, blocks, data[begin:at])
        else:  # damaged
            return
    yield from trailing_pieces(data[at + 1 :])


def gif_extension(label: int, blocks: list[bytes], body: bytes) -> Iterator[Piece]:
    """What an extension holds: `body` as it is in the file, `blocks` without their lengths."""
    if label == GIF_COMMENT:
        yield Piece(COMMENT, b"".join(blocks))
    elif label == GIF_APPLICATION:
        yield from gif_application(blocks, body)
    elif label == GIF_TEXT:
        yield Piece("text upon the picture")
    elif label != GIF_CONTROL:
        yield Piece(f"GIF extension {label}")


def gif_application(blocks: list[bytes], body: bytes) -> Iterator[Piece]:
    """What an extension holds whose first block names an application."""
    if not blocks or blocks[0] in GIF_ANIMATION:
        return
    if blocks[0] == GIF_XMP:
        yield Piece(XMP, body[1 + len(GIF_XMP) : -GIF_XMP_TRAILER])
    else:
        name = GIF_NAMES.get(blocks[0], f"GIF extension {printable(blocks[0])}")
        yield Piece(name, b"".join(blocks[1:]))


def gif_palette_bytes(flags: int) -> int:
    has_palette, log2_colours = flags & 0x80, (flags & 7) + 1
    return 3 << log2_colours if has_palette else 0


def gif_sub_blocks(data: bytes, at: int) -> tuple[list[bytes], int]:
    """Blocks of at most 255 bytes up to an empty one, and where it ends."""
    blocks = []
    while size := data[at]:
        blocks.append(data[at + 1 : at + 1 + size])
        at += 1 + size
    return blocks, at + 1


# ---- BMP ------------------------------------------------------------------------------------------------------------


def bmp(data: bytes) -> Iterator[Piece]:
    begin, size, width, height, _, bits, compression, image_size = struct.unpack_from("<IIiiHHII", data, 10)
    if size >= 40:  # else the header of OS/2
        if compression in BMP_UNCOMPRESSED:
            image_size = abs(height) * ((width * bits + 31) // 32 * 4)  # rows of whole words
        profile_at, profile_size = struct.unpack_from("<II", data, 126) if size >= 124 else (0, 0)
        file_size = int.from_bytes(data[2:6], "little")
        end = max(begin + image_size, BMP_FILE_HEADER + profile_at + profile_size, file_size)
        yield from trailing_pieces(data[end:])
    yield from bmp_colour_space(data)


def bmp_colour_space(data: bytes) -> Iterator[Piece]:
    if len(data) > 74 and struct.unpack_from("<I", data, 14)[0] >= 108:
        space, is_calibrated = data[70:74], any(data[74:122])  # the latter: primaries and gamma
        if space in BMP_PROFILE:
            yield Piece(ICC)
        elif space not in BMP_PLAIN or (space == bytes(4) and is_calibrated):
            yield Piece("colour space (of BMP)")


def dib(data: bytes) -> Iterator[Piece]:
    """A BMP without the header of its file."""
    return bmp_colour_space(bytes(BMP_FILE_HEADER) + data)


# ---- TGA and PNM ----------------------------------------------------------------------------------------------------


def tga(data: bytes) -> Iterator[Piece]:
    """A text of up to 255 bytes after the header, and two areas that the footer of version 2 points to."""
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
    is_text, numbers = data[1:2] in b"123", 2 if data[1:2] in b"14" else 3
    gap = rb"(?:\s|#[^\n\r]*[\n\r])+"
    header = re.match(rb"P[1-6](?:%b\d{1,10}){%d}\s" % (gap, numbers), data[: 1 << 16])
    if header is None:
        return
    for line in re.findall(rb"#([^\n\r]*)", data if is_text else header[0]):
        yield Piece(COMMENT, line.strip())
    if not is_text:
        yield from trailing_pieces(data[header.end() + pnm_sample_bytes(header[0]) :])


def pnm_sample_bytes(header: bytes) -> int:
    kind, width, height, *peak = re.sub(rb"#[^\n\r]*", b" ", header).split()
    row = {b"P4": (int(width) + 7) // 8, b"P5": int(width), b"P6": 3 * int(width)}[kind]
    return int(height) * row * (2 if peak and int(peak[0]) > 255 else 1)
