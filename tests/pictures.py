"""Picture files made byte by byte, with any segment, chunk, box or tag in them, for tests of metadata; and pictures to
train on."""

import io
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 24, 16
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}

Tag = tuple[int, int, bytes]  # tag, type, value


def photographs(folder: Path, count: int) -> Path:
    """The folder, with small pictures of some structure to train on: 00.png, 01.png, ..."""
    rng = np.random.default_rng(0)
    for k in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 10, 3), dtype=np.uint8))
        coarse.resize((100 + k, 90), Image.Resampling.BICUBIC).save(folder / f"{k:02}.png")
    return folder


def encoded(format: str, **options) -> bytes:
    out = io.BytesIO()
    Image.fromarray(PIXELS).save(out, format, **options)
    return out.getvalue()


def jpeg(*segments: tuple[int, bytes], behind: bytes = b"", **options) -> bytes:
    """With segments (marker, data) behind the first, which is JFIF, and bytes behind its end."""
    plain = encoded("JPEG", **options)
    made = b"".join(struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data for marker, data in segments)
    return plain[:20] + made + plain[20:] + behind


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: tuple[bytes, bytes], behind: bytes = b"") -> bytes:
    """With chunks (type, data) behind its header."""
    plain = encoded("PNG")
    return plain[:33] + b"".join(png_chunk(*chunk) for chunk in chunks) + plain[33:] + behind


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    """In the extended form, with chunks behind the picture."""
    plain = encoded("WEBP", lossless=True)[12:]
    flags = sum({b"ICCP": 32, b"EXIF": 8, b"XMP ": 4}.get(kind, 0) for kind, _ in chunks)
    head = (
        b"VP8X" + struct.pack("<II", 10, flags) + struct.pack("<I", WIDTH - 1)[:3] + struct.pack("<I", HEIGHT - 1)[:3]
    )
    made = (kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks)
    body = b"WEBP" + head + plain + b"".join(made)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif(*extensions: bytes) -> bytes:
    """With extensions in front of the picture, each of its label and its blocks."""
    plain = encoded("GIF")
    at = 13 + (3 << (plain[10] & 7) + 1)
    return b"GIF89a" + plain[6:at] + b"".join(b"!" + extension for extension in extensions) + plain[at:]


def box(kind: bytes, *body: bytes) -> bytes:
    data = b"".join(body)
    return struct.pack(">I4s", len(data) + 8, kind) + data


def jp2(*boxes: bytes) -> bytes:
    return encoded("JPEG2000") + b"".join(boxes)


def avif(*boxes: bytes, **options) -> bytes:
    return encoded("AVIF", **options) + b"".join(boxes)


GAIN_MAP_NUMBERS = struct.pack(  # ISO 21496-1: one channel, up to 2.3 stops, gamma 1.25
    ">HHB 2I 2I iI iI II iI iI", 0, 0, 0x40, 0, 1, 23, 10, 0, 1, 23, 10, 5, 4, 1, 64, 1, 64
)


def heif_parts(image: Image.Image, format: str = "AVIF") -> tuple[list[bytes], bytes]:
    """The properties of a picture's AVIF or HEIF file, as whole boxes, and its coded data."""
    out = io.BytesIO()
    image.save(out, format, quality=95, **({"subsampling": "4:4:4"} if format == "AVIF" else {}))
    data = out.getvalue()
    at = data.index(b"ipco")
    (size,) = struct.unpack_from(">I", data, at - 4)
    properties, place = [], at + 4
    while place < at - 4 + size:
        (length,) = struct.unpack_from(">I", data, place)
        properties.append(data[place : place + length])
        place += length
    at = data.index(b"mdat")
    (size,) = struct.unpack_from(">I", data, at - 4)
    return properties, data[at + 4 : at - 4 + size]


def heif_with_gain_map(
    gain_map: Image.Image | None = None, tmap: bytes = b"\0" + GAIN_MAP_NUMBERS, format: str = "AVIF"
) -> bytes:
    """A picture as item 1, its gain map as item 2, and the item that is derived of both, as ISO 21496-1 has it.

    Args:
        format: "AVIF", or "HEIF" where pillow_heif is registered.
    """
    coding, brand = {"AVIF": (b"av01", b"avif"), "HEIF": (b"hvc1", b"heic")}[format]
    gain_map = gain_map or Image.fromarray(PIXELS[::2, ::2, 0])
    pictures = [heif_parts(Image.fromarray(PIXELS), format), heif_parts(gain_map, format)]
    bodies = [*(body for _, body in pictures), tmap]
    kinds = [coding, coding, b"tmap"]
    infos = [
        box(b"infe", bytes([2, 0, 0, kind == b"tmap" or number == 2]), struct.pack(">HH", number, 0), kind, b"\0")
        for number, kind in enumerate(kinds, 1)
    ]
    properties, owned, first = b"", b"", 1
    for number, (boxes, _) in enumerate(pictures, 1):
        indices = [
            first + i | (0x80 if one[4:8] in (b"av1C", b"hvcC") else 0) for i, one in enumerate(boxes)
        ]  # it is essential
        owned += struct.pack(">HB", number, len(indices)) + bytes(indices)
        properties += b"".join(boxes)
        first += len(boxes)
    start = box(b"ftyp", brand, bytes(4), brand, b"mif1miaf")

    def meta(at: int) -> bytes:
        places = b""
        for number, body in enumerate(bodies, 1):
            places += struct.pack(">HHHII", number, 0, 1, at, len(body))
            at += len(body)
        return box(
            b"meta",
            bytes(4),
            box(b"hdlr", bytes(8), b"pict", bytes(13)),
            box(b"pitm", bytes(4), b"\0\1"),
            box(b"iloc", bytes(4), b"\x44\0", struct.pack(">H", len(bodies)), places),
            box(b"iinf", bytes(4), struct.pack(">H", len(infos)), *infos),
            box(b"iref", bytes(4), box(b"dimg", struct.pack(">4H", 3, 2, 1, 2))),
            box(b"iprp", box(b"ipco", properties), box(b"ipma", bytes(4), struct.pack(">I", 2), owned)),
        )

    return start + meta(len(start) + len(meta(0)) + 8) + box(b"mdat", *bodies)


def tiff(*tags: Tag, order: str = "<") -> bytes:
    """A picture without compression, and tags besides those that it needs."""
    own = [
        (256, 4, WIDTH),
        (257, 4, HEIGHT),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (277, 3, 1),
        (279, 4, WIDTH * HEIGHT),
    ]
    values = [(tag, type_, struct.pack(order + ("H" if type_ == 3 else "I"), value)) for tag, type_, value in own]
    pixels = PIXELS[..., 0].tobytes()
    begin = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(pixels)) + pixels
    return begin + directory([*values, (273, 4, struct.pack(order + "I", 8)), *tags], len(begin), order)


def exif(
    tags: Iterable[Tag],
    inner: Iterable[Tag] = (),
    gps: Iterable[Tag] = (),
    thumbnail: bytes = b"",
    order: str = "<",
) -> bytes:
    """A block as a camera lays it out: IFD0, Exif, GPS, IFD1 with a thumbnail at the end."""
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    tags, inner, gps = list(tags), list(inner), list(gps)
    pointers = [(34665, 4, bytes(4))] * bool(inner) + [(34853, 4, bytes(4))] * bool(gps)
    first = len(start) + len(directory([*tags, *pointers], 8, order))
    second = first + (len(directory(inner, first, order)) if inner else 0)
    third = second + (len(directory(gps, second, order)) if gps else 0)
    pointers = [(34665, 4, struct.pack(order + "I", first))] * bool(inner)
    pointers += [(34853, 4, struct.pack(order + "I", second))] * bool(gps)
    block = start + directory([*tags, *pointers], 8, order, next_at=third if thumbnail else 0)
    block += directory(inner, first, order) if inner else b""
    block += directory(gps, second, order) if gps else b""
    if thumbnail:
        at = third + 2 + 12 * 2 + 4
        numbers = [(513, 4, struct.pack(order + "I", at)), (514, 4, struct.pack(order + "I", len(thumbnail)))]
        block += directory(numbers, third, order) + thumbnail
    return b"Exif\0\0" + block


def directory(tags: Iterable[Tag], at: int, order: str = "<", next_at: int = 0) -> bytes:
    """A directory that lies at an offset, and the values behind it."""
    tags = sorted(tags)
    entries, values = b"", b""
    end = at + 2 + 12 * len(tags) + 4
    for tag, type_, value in tags:
        slot = value.ljust(4, b"\0")
        if len(value) > 4:
            slot = struct.pack(order + "I", end + len(values))
            values += value + bytes(len(value) % 2)
        entries += struct.pack(order + "HHI", tag, type_, len(value) // SIZES[type_]) + slot
    return struct.pack(order + "H", len(tags)) + entries + struct.pack(order + "I", next_at) + values


def tags_of(block: bytes) -> dict[tuple[int, ...], tuple[int, int, bytes]]:
    """(tag,) or (pointer, tag): type, count and the bytes of the value, read by the plainest of readers."""
    data = block.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}[data[:2]]
    found: dict[tuple[int, ...], tuple[int, int, bytes]] = {}

    def read(at: int, path: tuple[int, ...]) -> None:
        for i in range(struct.unpack_from(order + "H", data, at)[0]):
            place = at + 2 + 12 * i
            tag, type_, count, offset = struct.unpack_from(order + "HHII", data, place)
            size = SIZES[type_] * count
            begin = place + 8 if size <= 4 else offset
            if tag in (34665, 34853, 40965):
                read(offset, (*path, tag))
            else:
                found[(*path, tag)] = type_, count, data[begin : begin + size]

    read(struct.unpack_from(order + "I", data, 4)[0], ())
    return found
