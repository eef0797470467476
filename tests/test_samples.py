"""Each row of the table "Colours and depth" in docs/pictures.md, with files built sample by sample.

Pillow isn't asked what a file holds: the files are made of bytes, and what comes out is compared with the numbers that
went in.
"""

import base64
import io
import re
import struct
import zlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

import hpcm
import hpcm.pillow
from hpcm.codec.pixels import reduced
from hpcm.errors import PictureError
from hpcm.image import deep
from hpcm.image.picture import from_image, to_image
from hpcm.image.planes import fitting
from hpcm.image.read import read_picture
from hpcm.image.samples import DIVIDED, RAW_MODES, READERS
from hpcm.image.write import _note_losses, save_picture

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "pictures.md"
NOT_OPENED = "it is a TIFF that Pillow can't read: damaged, or of an unknown kind"
HEIGHT, WIDTH = 16, 24
RANDOM = np.random.default_rng(1)
DEEP = RANDOM.integers(0, 65536, (HEIGHT, WIDTH, 4), np.uint16)
BYTES = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)
GREY, RGB, RGBA = BYTES[..., 0], BYTES[..., :3], BYTES
ALPHA = BYTES[..., 3]
GREY16 = DEEP[..., 0]
WITH_WHITE = np.where(DEEP > 60000, 65535, DEEP).astype(np.uint16)  # which a wrong rounding turns into black

# 16 x 16 pixels of (100, 400, 800) of 1023, by libavif; Pillow writes 8 bits alone.
AVIF_OF_10_BITS = base64.b64decode(
    "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUEAAADrbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAAAAAAAAAO"
    "cGl0bQAAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAETAAAAJwAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEAAGF2MDFDb2xvcgAA"
    "AABqaXBycAAAAEtpcGNvAAAAFGlzcGUAAAAAAAAAEAAAABAAAAAQcGl4aQAAAAADCgoKAAAADGF2MUOBIEAAAAAAE2NvbHJuY2x4AAIAAgAG"
    "gAAAABdpcG1hAAAAAAAAAAEAAQQBAoMEAAAAL21kYXQSAAoIOAz/2sCAgaQyGReCYwTDDDDPIIQAdYN6mYlV7a5J4BMQ6oA="
)


# ---- files of bytes -------------------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed(rows: np.ndarray, bits: int, order: str = ">") -> list[bytes]:
    """The bytes of each row of samples [H, ...] of so many bits."""
    if bits >= 8 and bits % 8 == 0:
        dtype = rows.dtype if rows.dtype.itemsize * 8 == bits else np.dtype(f"u{bits // 8}")
        return [row.astype(dtype.newbyteorder(order)).tobytes() for row in rows]
    ones = (rows.reshape(len(rows), -1)[..., None] >> np.arange(bits)[::-1]) & 1
    return [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in ones]


def png(
    samples: np.ndarray,
    bits: int,
    colour_type: int,
    transparent: bytes = b"",
    palette: bytes = b"",
    significant: bytes = b"",
) -> bytes:
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], bits, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header)
    body += chunk(b"sBIT", significant) if significant else b""
    body += chunk(b"PLTE", palette) if palette else b""
    body += chunk(b"tRNS", transparent) if transparent else b""
    body += chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in packed(samples, bits))))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def tiff(samples, bits, photometric, *, order="<", zipped=False, planes=False, format=None, extra=(), **tags) -> bytes:
    """One page of samples [H, W] or [H, W, C]; `tags` are shorts, t259=(7,) for the tag 259."""
    samples = samples[..., None] if samples.ndim == 2 else samples
    height, width, channels = samples.shape
    parts = [samples[..., i] for i in range(channels)] if planes else [samples]
    strips = [b"".join(packed(part, bits, order)) for part in parts]
    strips = [zlib.compress(strip) for strip in strips] if zipped else strips
    shorts = {256: [width], 257: [height], 258: [bits] * channels, 259: [8 if zipped else 1], 262: [photometric]}
    shorts |= {277: [channels], 284: [2 if planes else 1]}
    shorts |= {338: [*extra]} if extra else {}
    shorts |= {339: [format] * channels} if format else {}
    shorts |= {int(name[1:]): [*values] for name, values in tags.items()}
    longs = {273: [0] * len(strips), 278: [height], 279: [*map(len, strips)]}
    count = len(shorts) + len(longs)
    values_at = 8 + 2 + 12 * count + 4
    total = values_at + sum(len(v) * 2 for v in shorts.values()) + sum(len(v) * 4 for v in longs.values())
    for i, strip in enumerate(strips):
        longs[273][i] = total
        total += len(strip)
    entries, values = b"", b""
    for tag in sorted(shorts | longs):
        letter, kind, numbers = ("H", 3, shorts[tag]) if tag in shorts else ("I", 4, longs[tag])
        data = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        if len(data) <= 4:
            place = data.ljust(4, b"\0")
            data = b"\0" * len(data)  # keeps the place that was counted
        else:
            place = struct.pack(f"{order}I", values_at + len(values))
        values += data
        entries += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + place
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, count)
    return head + entries + b"\0" * 4 + values + b"".join(strips)


def pnm(magic: bytes, samples: np.ndarray, peak: int) -> bytes:
    return b"%s\n%d %d\n%d\n" % (magic, WIDTH, HEIGHT, peak) + b"".join(packed(samples, 8 if peak < 256 else 16))


def plain_ppm(samples: np.ndarray, peak: int) -> bytes:
    """Numbers as text, with a comment among them."""
    rows = (" ".join(map(str, row.reshape(-1))) for row in samples)
    return b"P3\n%d %d\n%d\n# 9 9\n" % (WIDTH, HEIGHT, peak) + "\n# 1 2\n".join(rows).encode()


def bmp(samples: np.ndarray, bits: int, masks: tuple[int, ...] = (), header: int = 40) -> bytes:
    """Rows from the bottom; four masks make a header of 108 bytes."""
    pixels = b"".join(row.tobytes() for row in samples[::-1])
    header = 108 if len(masks) == 4 else header
    info = struct.pack("<IiiHHIIiiII", header, WIDTH, HEIGHT, 1, bits, 3 if masks else 0, len(pixels), 0, 0, 0, 0)
    info += struct.pack(f"<{len(masks)}I", *masks)
    info = info.ljust(header, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(info) + len(pixels), 0, 0, 14 + len(info)) + info + pixels


def tga(samples: np.ndarray, kind: int, alpha_bits: int) -> bytes:
    bits = samples.shape[2] * 8 if samples.dtype == np.uint8 else 16
    return struct.pack("<BBBHHBHHHHBB", 0, 0, kind, 0, 0, 0, 0, 0, WIDTH, HEIGHT, bits, alpha_bits | 32) + (
        samples.tobytes()
    )


def saved(image: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def in_space(number: int) -> bytes:
    """A JPEG 2000 whose colours are said to be others than sRGB."""
    plain = saved(Image.fromarray(RGB), "JPEG2000")
    return plain.replace(b"colr\1\0\0" + struct.pack(">I", 16), b"colr\1\0\0" + struct.pack(">I", number))


def with_multiplied_alpha() -> bytes:
    """A JPEG 2000: `cdef` has three numbers for each channel, of which the second says what it is."""
    data = bytearray(saved(Image.fromarray(RGBA), "JPEG2000"))
    last = data.index(b"cdef") + 4 + 2 + 3 * 6
    assert data[last : last + 4] == b"\0\3\0\1"
    data[last + 3] = 2
    return bytes(data)


def jpeg2000(samples: np.ndarray, bits: int, signed: bool = False) -> bytes:
    """Samples of fewer bits than 16, as a codestream: Pillow writes 16, and the depth in its header is changed.

    A decoder adds half the range that the header tells, an encoder takes half of 65,536 away.
    """
    shifted = (samples.astype(int) + 32768 - 2 ** (bits - 1)).astype(np.uint16)
    data = bytearray(saved(Image.fromarray(shifted), "JPEG2000", no_jp2=True))
    assert data[42] == 15
    data[42] = bits - 1 | (128 if signed else 0)
    return bytes(data)


def jpeg2000_of_colours(samples: np.ndarray, bits: int) -> bytes:
    """By OpenJPEG, lossless."""
    import imagecodecs

    return imagecodecs.jpeg2k_encode(samples, level=0, reversible=True, bitspersample=bits)


def heic(samples: np.ndarray, bits: int) -> bytes:
    """By libheif, without subsampling; x265 isn't lossless."""
    import pillow_heif

    file, shifted = io.BytesIO(), samples >> (16 - bits) << (16 - bits)
    heif = pillow_heif.from_bytes(mode="RGB;16", size=samples.shape[1::-1], data=shifted.tobytes())
    heif.save(file, quality=100, chroma=444)
    return file.getvalue()


def without_adobe(data: bytes) -> bytes:
    at = data.index(b"\xff\xee")
    return data[:at] + data[at + 16 :]


# ---- what a file holds and what comes out ---------------------------------------------------------------------------


@dataclass
class Case:
    name: str
    data: bytes
    expected: np.ndarray | None = None  # None: is refused
    note: str | None = None  # or, if it is refused, what is said
    within: float = 0
    bits: int = 8  # of the samples that are expected


def scaled(values: np.ndarray, bits: int, to: int = 8) -> np.ndarray:
    return np.rint(values * ((2**to - 1) / (2**bits - 1)))


def keyed(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.dstack((values, np.where(alpha, 0, 255)))


def keyed_16(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.dstack((values, np.where(alpha, 0, 65535)))


def divided(colours: np.ndarray, alpha: np.ndarray, peak: int) -> np.ndarray:
    """Colours that were multiplied by alpha, with alpha."""
    plain = np.minimum(np.floor(colours * float(peak) / np.maximum(alpha, 1)[..., None]), peak)
    plain = np.where(alpha[..., None] == 0, 0, plain)
    return np.dstack((plain, alpha))


def few(bits: int) -> np.ndarray:
    return GREY >> (8 - bits)


def grey_of_few_bits() -> list[Case]:
    cases = [Case(f"PNG of {b} bits", png(few(b), b, 0), scaled(few(b), b)) for b in (1, 2, 4, 8)]
    for b in (1, 2, 4, 8):
        values = scaled(few(b), b)
        for order in "<>":
            cases.append(Case(f"TIFF {order}{b}, black is 0", tiff(few(b), b, 1, order=order), values))
            cases.append(Case(f"TIFF {order}{b}, white is 0", tiff(few(b), b, 0, order=order), 255 - values))
        cases.append(Case(f"TIFF {b}, zipped, white is 0", tiff(few(b), b, 0, zipped=True), 255 - values))
    for peak in (1, 3, 15, 100, 255):
        values = np.rint(GREY * (peak / 255)).astype(np.uint8)
        cases.append(Case(f"PGM to {peak}", pnm(b"P5", values, peak), values * (255 / peak), within=0.51))
    cases.append(Case("TGA", tga(GREY[..., None], 3, 0), GREY))
    cases.append(Case("signed TIFF of 8 bits", tiff((GREY >> 1).view(np.int8), 8, 1, format=2), GREY >> 1))
    return cases


def grey_of_16_bits() -> list[Case]:
    cases = [Case("PNG", png(GREY16, 16, 0), GREY16, bits=16)]
    for zipped in (False, True):
        for order in "<>":
            cases.append(
                Case(f"TIFF {order}{zipped}", tiff(GREY16, 16, 1, order=order, zipped=zipped), GREY16, bits=16)
            )
        white = tiff(GREY16, 16, 0, zipped=zipped)
        cases.append(Case(f"TIFF {zipped}, white is 0", white, 65535 - GREY16, bits=16))
    twelve = GREY16 >> 4
    cases.append(Case("TIFF of 12 bits", tiff(twelve, 12, 1), twelve, bits=12))
    for bits in (9, 10, 12, 16):
        values = GREY16 >> (16 - bits)
        cases.append(Case(f"PGM to 2^{bits}", pnm(b"P5", values, 2**bits - 1), values, bits=bits))
    for peak in (256, 1000, 65534):
        values = np.rint(GREY16 * (peak / 65535)).astype(np.uint16)
        expected = values * (65535 / peak)
        cases.append(Case(f"PGM to {peak}", pnm(b"P5", values, peak), expected, within=0.51, bits=16))
    for bits in (10, 12, 16):
        values = GREY16 >> (16 - bits)
        cases.append(Case(f"JPEG 2000 of {bits}", jpeg2000(values, bits), values, bits=bits))
    return cases


def grey_of_other_numbers() -> list[Case]:
    half = (GREY16 >> 1).astype(np.int16)
    return [
        *(Case(f"int16 {order}", tiff(half, 16, 1, format=2, order=order), half, bits=16) for order in "<>"),
        Case("int16 zipped", tiff(half, 16, 1, format=2, zipped=True), half, bits=16),
        Case("int32", tiff(GREY16.astype(np.int32), 32, 1, format=2), GREY16, bits=16),
        Case("uint32", tiff(GREY16, 32, 1), GREY16, bits=16),
    ]


def transparent() -> list[Case]:
    cases = []
    for bits in (1, 2, 4, 8):
        for value in {0, 1, 2**bits - 1}:
            key = few(bits) == value
            expected = keyed(scaled(few(bits), bits), key)
            data = png(few(bits), bits, 0, struct.pack(">H", value))
            cases.append(Case(f"grey PNG of {bits} bits, {value}", data, expected))
    colours = RGB // 100
    key = (colours == colours[3, 3]).all(axis=2)
    data = png(colours, 8, 2, struct.pack(">3H", *colours[3, 3]))
    return [
        *cases,
        Case("RGB PNG with a key", data, keyed(colours, key)),
        Case("RGBA PNG", png(RGBA, 8, 6), RGBA),
        Case("grey PNG with alpha", png(RGBA[..., :2], 8, 4), RGBA[..., :2]),
        *(Case(f"TIFF {z}", tiff(RGBA, 8, 2, extra=(2,), zipped=z), RGBA) for z in (False, True)),
        *(
            Case(f"TIFF {z} in planes", tiff(RGBA, 8, 2, extra=(2,), zipped=z, planes=True), RGBA)
            for z in (False, True)
        ),
        Case("grey TIFF", tiff(RGBA[..., :2], 8, 1, extra=(2,)), RGBA[..., :2]),
        Case("WebP", saved(Image.fromarray(RGBA), "WEBP", lossless=True, exact=True), RGBA),
        Case(
            "AVIF",
            saved(Image.new("RGBA", (WIDTH, HEIGHT), (9, 99, 199, 50)), "AVIF", quality=100),
            np.full((HEIGHT, WIDTH, 4), (9, 99, 199, 50)),
            within=2,
        ),
        Case("BMP", bmp(RGBA[..., [2, 1, 0, 3]], 32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)), RGBA),
        Case("TGA", tga(RGBA[..., [2, 1, 0, 3]], 2, 8), RGBA),
        Case("JPEG 2000", saved(Image.fromarray(RGBA), "JPEG2000"), RGBA),
    ]


def multiplied() -> list[Case]:
    """Alpha that colours have been multiplied by."""
    alpha = np.maximum(ALPHA, 1)
    colours = (RGB.astype(int) * alpha[..., None] // 255).astype(np.uint8)
    samples = np.dstack((colours, alpha))
    deep = np.dstack((colours, alpha)).astype(np.uint16) * 257
    expected_16 = divided(deep[..., :3], deep[..., 3], 65535)
    expected = divided(colours, alpha, 255)
    return [
        *(
            Case(f"TIFF {z}", tiff(samples, 8, 2, extra=(1,), zipped=z), expected, DIVIDED, within=1)
            for z in (False, True)
        ),
        Case("TIFF in planes", tiff(samples, 8, 2, extra=(1,), zipped=True, planes=True), expected, DIVIDED, within=1),
        Case("grey TIFF", tiff(samples[..., 2:], 8, 1, extra=(1,)), expected[..., 2:], DIVIDED, within=1),
        *(
            Case(
                f"16-bit TIFF {o}{z}",
                tiff(deep, 16, 2, extra=(1,), order=o, zipped=z),
                expected_16,
                DIVIDED,
                within=1,
                bits=16,
            )
            for o in "<>"
            for z in (False, True)
        ),
    ]


def grey_16_with_alpha() -> list[Case]:
    value = int(GREY16[3, 3])
    key = value == GREY16
    data = png(GREY16, 16, 0, struct.pack(">H", value))
    cases = [deep_jpeg2000(2, bits) for bits in (10, 12, 16)] if find_spec("imagecodecs") else []
    return [
        *cases,
        Case("PNG with alpha", png(DEEP[..., :2], 16, 4), DEEP[..., :2], bits=16),
        Case("PNG with a transparent value", data, keyed_16(GREY16, key), bits=16),
    ]


def colours_of_8_bits() -> list[Case]:
    bgr = RGB[..., ::-1]
    mask = (0xFF0000, 0xFF00, 0xFF)
    return [
        Case("PNG", png(RGB, 8, 2), RGB),
        *(Case(f"TIFF {p}{z}", tiff(RGB, 8, 2, planes=p, zipped=z), RGB) for p in (False, True) for z in (False, True)),
        *(
            Case(
                f"PPM to {peak}",
                pnm(b"P6", RGB.astype(int) % (peak + 1), peak),
                RGB.astype(int) % (peak + 1) * (255 / peak),
                within=0.51,
            )
            for peak in (15, 100, 255)
        ),
        Case("BMP", bmp(bgr, 24), RGB),
        Case("BMP without its file header", bmp(bgr, 24)[14:], RGB),
        Case("BMP of 32 bits", bmp(RGBA[..., [2, 1, 0, 3]], 32), RGB),
        Case("BMP with masks", bmp(RGBA[..., [2, 1, 0, 3]], 32, mask), RGB),
        Case("BMP with a mask of no alpha", bmp(RGBA[..., [2, 1, 0, 3]], 32, (*mask, 0)), RGB),
        Case("TGA", tga(bgr, 2, 0), RGB),
        Case(
            "JPEG",
            saved(Image.new("RGB", (WIDTH, HEIGHT), (9, 99, 199)), "JPEG", quality=100),
            np.full((HEIGHT, WIDTH, 3), (9, 99, 199)),
            within=2,
        ),
        Case("JPEG 2000", saved(Image.fromarray(RGB), "JPEG2000"), RGB),
        Case("WebP", saved(Image.fromarray(RGB), "WEBP", lossless=True), RGB),
    ]


def colours_of_16_bits() -> list[Case]:
    rgb = DEEP[..., :3]
    odd = np.broadcast_to(np.arange(HEIGHT)[:, None] % 2, (HEIGHT, WIDTH)).astype(bool)
    transparent_colour = 0x1234, 0x5678, 0x9ABC
    two = np.where(odd[..., None], transparent_colour, (0x3400, 0x7800, 0xBC00))  # the other one's low bytes
    near = np.where(odd[..., None], transparent_colour, (0x1235, 0x5678, 0x9ABC))
    key = struct.pack(">3H", *transparent_colour)
    ten = np.rint((rgb >> 6) * (65535 / 1023)).astype(np.uint16)
    cases = [
        Case("PNG", png(rgb, 16, 2), rgb, bits=16),
        Case("PNG with alpha", png(DEEP, 16, 6), DEEP, bits=16),
        Case("PNG with a key", png(two, 16, 2, key), keyed_16(two, odd), bits=16),
        Case("PNG, keys alike", png(near, 16, 2, key), keyed_16(near, odd), bits=16),
        Case("PNG with sBIT", png(ten, 16, 2, significant=b"\x0a" * 3), rgb >> 6, bits=10),
        Case("PNG with sBIT that isn't true", png(rgb, 16, 2, significant=b"\x0a" * 3), rgb, bits=16),
        Case("PPM", pnm(b"P6", rgb, 65535), rgb, bits=16),
        Case("PPM to 1023", pnm(b"P6", rgb >> 6, 1023), rgb >> 6, bits=10),
        Case("PPM in numbers", plain_ppm(rgb, 65535), rgb, bits=16),
        Case("PPM in numbers to 1023", plain_ppm(rgb >> 6, 1023), rgb >> 6, bits=10),
        Case("PPM to 1000", pnm(b"P6", rgb // 66, 1000), rgb // 66 * 65.535, within=0.51, bits=16),
    ]
    if find_spec("pillow_heif"):
        cases += [Case("HEIC of 10 bits", heic(ten, 10), rgb >> 6, within=40, bits=10)]
    cases += by_imagecodecs()
    for order in "<>":
        for zipped in (False, True):
            name, how = f"TIFF {order}{zipped}", {"order": order, "zipped": zipped}
            cases.append(Case(name, tiff(rgb, 16, 2, **how), rgb, bits=16))
            cases.append(Case(f"{name} alpha", tiff(DEEP, 16, 2, extra=(2,), **how), DEEP, bits=16))
    return cases


def by_imagecodecs() -> list[Case]:
    """Colours of more than 8 bits that Pillow reads in part, or wrongly."""
    if not find_spec("imagecodecs"):
        return []
    rgb, multiplied = DEEP[..., :3], (DEEP[..., :3] * (DEEP[..., 3:] / 65535.0)).astype(np.uint16)
    multiplied = np.dstack((multiplied, DEEP[..., 3]))
    cases = [Case("AVIF", AVIF_OF_10_BITS, np.full((16, 16, 3), (100, 400, 800)), within=8, bits=10)]
    for order in "<>":
        for zipped in (False, True):
            name, how = f"TIFF in planes {order}{zipped}", {"order": order, "zipped": zipped, "planes": True}
            cases.append(Case(name, tiff(rgb, 16, 2, **how), rgb, bits=16))
            cases.append(Case(f"{name} alpha", tiff(DEEP, 16, 2, extra=(2,), **how), DEEP, bits=16))
    return [*cases, *(deep_jpeg2000(channels, bits) for channels in (3, 4) for bits in (10, 12, 16))]


def deep_jpeg2000(channels: int, bits: int) -> Case:
    samples = WITH_WHITE[..., :channels] >> (16 - bits)
    return Case(f"JPEG 2000 {channels} {bits}", jpeg2000_of_colours(samples, bits), samples, bits=bits)


def palettes() -> list[Case]:
    note = "mode P was converted"
    cases = []
    for bits in (1, 2, 4, 8):
        palette, indices = RANDOM.integers(0, 256, (2**bits, 3), np.uint8), few(bits)
        alphas = RANDOM.integers(0, 256, 2**bits, np.uint8)
        cases.append(Case(f"PNG {bits}", png(indices, bits, 3, palette=palette.tobytes()), palette[indices], note))
        expected = np.dstack((palette[indices], alphas[indices]))
        cases.append(
            Case(f"PNG {bits} tRNS", png(indices, bits, 3, alphas.tobytes(), palette.tobytes()), expected, note)
        )
        colours = (palette.T.astype(int) * 257).reshape(-1).tolist()
        cases.append(Case(f"TIFF {bits}", tiff(indices, bits, 3, t320=colours), palette[indices], note))
    palette, indices = RANDOM.integers(0, 256, (16, 3), np.uint8), few(4)
    image = Image.fromarray(indices)
    image.putpalette(palette.tobytes())
    expected = keyed(palette[indices], indices == 3)
    return [*cases, Case("GIF", saved(image, "GIF", transparency=3), expected, note)]


def srgb(lab: np.ndarray) -> np.ndarray:
    """CIELAB of D50 as in a TIFF file (L of 0 to 255, a and b signed) in 8-bit sRGB."""
    _, a, b = np.moveaxis(lab.astype(np.int8).astype(float), 2, 0)
    middle = (lab[..., 0] * (100 / 255) + 16) / 116
    cubes = np.stack((middle + a / 500, middle, middle - b / 200), axis=2)
    xyz = np.where(cubes > 6 / 29, cubes**3, 3 * (6 / 29) ** 2 * (cubes - 4 / 29)) * (0.9642, 1, 0.8249)
    to_rgb = [[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]]
    linear = np.clip(xyz @ np.transpose(to_rgb), 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def other_colours() -> list[Case]:
    note = "was converted to RGB"
    cmyk = 255 - np.minimum(255, RGB.astype(int)[..., :3])
    four = np.dstack((cmyk, np.zeros_like(GREY))).astype(np.uint8)
    solid = Image.new("CMYK", (WIDTH, HEIGHT), (255, 155, 55, 0))
    lab = np.dstack((GREY // 3 + 80, *np.broadcast_to([[[40]], [[-20]]], (2, HEIGHT, WIDTH)))).astype(np.uint8)
    return [
        *(
            Case(f"CMYK TIFF {p}{z}", tiff(four, 8, 5, planes=p, zipped=z), RGB, note)
            for p in (False, True)
            for z in (False, True)
        ),
        Case(
            "CMYK JPEG", saved(solid, "JPEG", quality=100), np.full((HEIGHT, WIDTH, 3), (0, 100, 200)), note, within=2
        ),
        *(Case(f"LAB TIFF {z}", tiff(lab, 8, 8, zipped=z), srgb(lab), note, within=3) for z in (False, True)),
    ]


def extra_channels() -> list[Case]:
    note = "extra channels are not kept"
    return [
        Case("RGB TIFF", tiff(RGBA, 8, 2, extra=(0,)), RGB, note),
        Case("grey TIFF", tiff(RGBA[..., :2], 8, 1, extra=(0,)), GREY, note),
    ]


def frames() -> list[Case]:
    first, second = Image.fromarray(RGB), Image.fromarray(RGB[::-1].copy())
    note = "2 frames: only"
    solid = Image.new("RGB", (WIDTH, HEIGHT), (9, 99, 199))
    photographs = saved(solid, "MPO", save_all=True, append_images=[second.copy()], quality=100)
    return [
        *(
            Case(format, saved(first, format, save_all=True, append_images=[second], **options), RGB, note)
            for format, options in (("TIFF", {}), ("PNG", {}), ("WEBP", {"lossless": True}))
        ),
        Case("MPO", photographs, np.asarray(solid), note, within=2),
    ]


def refused_numbers() -> list[Case]:
    said = "below 0 or above 65,535"
    return [
        Case("int8", tiff(GREY.view(np.int8), 8, 1, format=2), note=said),
        *(
            Case(f"int16 {order}", tiff(GREY16.view(np.int16), 16, 1, format=2, order=order), note=said)
            for order in "<>"
        ),
        Case("int32", tiff(GREY16.astype(np.int32) * 2, 32, 1, format=2), note=said),
        Case("uint32", tiff(GREY16.astype(np.uint32) << 16, 32, 1), note=said),
        Case("float32", tiff(GREY16.astype(np.float32), 32, 1, format=3), note="mode F can't be coded"),
        Case("PFM", b"Pf\n%d %d\n-1.0\n" % (WIDTH, HEIGHT) + GREY16.astype("<f4").tobytes(), note="mode F can't be"),
        Case("float16", tiff(GREY16.astype(np.float16), 16, 1, format=3), note=NOT_OPENED),
    ]


def refused_kinds() -> list[Case]:
    unknown = "isn't known to be read rightly: make a PNG of it"
    solid = Image.new("CMYK", (WIDTH, HEIGHT), (255, 155, 55, 0))
    return [
        Case("LAB in planes", tiff(RGB, 8, 8, planes=True), note=unknown),
        *(
            Case(f"LA in planes {e}", tiff(RGBA[..., :2], 8, 1, planes=True, zipped=True, extra=(e,)), note=unknown)
            for e in (1, 2)
        ),
        Case("L16 in planes", tiff(DEEP[..., :2], 16, 1, planes=True, zipped=True, extra=(0,)), note=unknown),
        Case(
            "int16 zipped, big-endian",
            tiff(GREY16.view(np.int16), 16, 1, format=2, order=">", zipped=True),
            note=unknown,
        ),
        Case(
            "int32 zipped, big-endian",
            tiff(GREY16.astype(np.int32), 32, 1, format=2, order=">", zipped=True),
            note=unknown,
        ),
        Case("chroma of fewer pixels", tiff(RGB, 8, 6), note=unknown),
        Case("other inks", tiff(RGBA, 8, 5, t332=(2,)), note=unknown),
        Case("bits in reverse", tiff(GREY, 8, 1, t266=(2,)), note=unknown),
        Case("a thumbnail", tiff(RGB, 8, 2, t254=(1,)), note=unknown),
        Case("BMP of 16 bits with alpha", bmp(GREY16, 16, (0x7C00, 0x3E0, 0x1F, 0x8000)), note=unknown),
        Case("TGA whose alpha isn't", tga(RGBA, 2, 0), note=unknown),
        Case("TGA of 16 bits", tga(GREY16, 2, 1), note=unknown),
        Case("CMYK JPEG without Adobe", without_adobe(saved(solid, "JPEG")), note=unknown),
        Case("signed JPEG 2000", jpeg2000(GREY16, 16, signed=True), note=unknown),
        Case("JPEG 2000 of 4 bits", jpeg2000(few(4), 4), note=unknown),
        *(Case(f"JPEG 2000 in the colour space {s}", in_space(s), note=unknown) for s in (14, 20, 21, 24)),
        Case("JPEG 2000 with colours multiplied by alpha", with_multiplied_alpha(), note=unknown),
    ]


ROWS = {
    "8-bit colour": colours_of_8_bits,
    "grey of up to 8 bits, black and white": grey_of_few_bits,
    "grey of 9 to 16 bits": grey_of_16_bits,
    "signed or 32-bit grey, all values 0 to 65,535": grey_of_other_numbers,
    "colour of 9 to 16 bits": colours_of_16_bits,
    "alpha, or a transparent colour": transparent,
    "colours multiplied by alpha": multiplied,
    "16-bit grey with alpha or a transparent value": grey_16_with_alpha,
    "palette (GIF, some PNG)": palettes,
    "CMYK, YCbCr, LAB, HSV": other_colours,
    "extra channels (TIFF)": extra_channels,
    "animated, or several pages": frames,
    "floating point, values below 0 or above 65,535": refused_numbers,
    "a kind that Pillow reads wrongly": refused_kinds,
}
CASES = [(row, case) for row, make in ROWS.items() for case in make()]


def documented() -> dict[str, tuple[str, str]]:
    """The rows of the table: what a picture is stored as, and decoded as."""
    section = DOCUMENT.read_text().split("## Colours and depth")[1].split("\n## ")[0]
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in section.splitlines() if line.startswith("| ")]
    return {row[0]: (row[1], row[2] if len(row) > 2 else "") for row in rows[1:]}


def test_every_row_of_the_table_has_its_files():
    assert [*documented()] == [*ROWS]


def opens(data: bytes) -> bool:
    try:
        Image.open(io.BytesIO(data))
    except Image.UnidentifiedImageError:
        return False
    return True


def skip_what_pillow_12_refuses(case: Case) -> None:
    """Some kinds are new in Pillow 13, where all must open but the one whose note says otherwise."""
    if PIL.__version__ < "13" and not opens(case.data) and case.note != NOT_OPENED:
        pytest.skip("Pillow 12 doesn't open it")


def read(data: bytes) -> tuple[Image.Image, tuple[str, ...]]:
    picture = read_picture(data)
    return to_image(picture), picture.notes


@pytest.mark.parametrize(("row", "case"), CASES, ids=[f"{row}: {case.name}" for row, case in CASES])
def test_a_row_of_the_table(row, case):
    skip_what_pillow_12_refuses(case)
    stored, decoded = documented()[row]
    if case.expected is None:
        assert stored == "is refused"
        with pytest.raises(PictureError, match=re.escape(case.note)):
            read(case.data)
        return
    picture = read_picture(case.data)
    image, notes = to_image(picture), picture.notes
    assert picture.bit_depth == case.bits
    found, expected = picture.joined.astype(float), np.asarray(case.expected).astype(float)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= case.within
    name = {"L": "grey", "LA": "grey with alpha", "I;16": "16-bit grey"}.get(image.mode, image.mode)
    assert decoded == "as above" or name in decoded.split(", ")
    assert len(notes) == (case.note is not None)  # once, though the picture is looked at twice
    assert all(case.note in note for note in notes)
    assert ("a note" in stored) == bool(notes)


@pytest.mark.parametrize(("row", "case"), CASES, ids=[f"{row}: {case.name}" for row, case in CASES])
def test_an_image_that_pillow_has_opened(row, case):
    """The same comes out, and the image keeps its pixels."""
    skip_what_pillow_12_refuses(case)
    if case.note == NOT_OPENED:
        return
    if case.expected is None:
        with pytest.raises(PictureError, match=re.escape(case.note)):
            from_image(Image.open(io.BytesIO(case.data)))
        return
    image, plain = (Image.open(io.BytesIO(case.data)) for _ in range(2))
    assert np.array_equal(from_image(image).joined, read_picture(case.data).joined)
    assert image.mode == plain.mode
    assert np.array_equal(np.asarray(image), np.asarray(plain))


def test_every_format_that_is_looked_up_has_a_file():
    formats = {Image.open(io.BytesIO(case.data)).format for _, case in CASES if opens(case.data)}
    assert formats | {"HEIF"} == {*READERS}
    assert {*RAW_MODES} <= {*READERS}


def test_packages_that_are_not_there(monkeypatch):
    """AVIF and TIFF in planes are read as Pillow reads them, what it reads wrongly isn't; all with advice."""
    monkeypatch.setattr(deep, "find_spec", lambda name: None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])
    picture = read_picture(AVIF_OF_10_BITS)
    assert picture.bit_depth == 8
    assert picture.notes == (
        "the picture has 10 bits a sample, and 8 are kept; all are with: pip install 'hpcm-codec[photos]'",
    )
    rgb = DEEP[..., :3]
    picture = read_picture(tiff(rgb, 16, 2, zipped=True, planes=True))
    assert np.array_equal(picture.pixels, rgb >> 8)
    assert picture.notes == (
        "the picture has 16 bits a sample, and 8 are kept; all are with: pip install 'hpcm-codec[photos]'",
    )
    with pytest.raises(PictureError, match=r"make a PNG of it, or pip install 'hpcm-codec\[photos\]'"):
        read_picture(tiff(rgb, 16, 2, planes=True))
    with pytest.raises(
        PictureError, match=r"it is a HEIC, which isn't read without: pip install 'hpcm-codec\[photos\]'"
    ):
        read_picture(b"\0\0\0\x18ftypheic" + bytes(100))


def test_white_of_a_jpeg_2000_is_never_black(monkeypatch):
    """Pillow rounds its 16 bits up to 256, and takes 256 for 0."""
    pytest.importorskip("imagecodecs")
    data = jpeg2000_of_colours(np.full((HEIGHT, WIDTH, 3), 65535, np.uint16), 16)
    loaded = Image.open(io.BytesIO(data))
    loaded.load()
    assert read_picture(data).pixels.min() == 65535
    monkeypatch.setattr(deep, "find_spec", lambda name: None)
    with pytest.raises(PictureError, match=r"16 bits a sample in 3 channels isn't read without: pip install"):
        read_picture(data)


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_deep_tiff_is_turned(orientation, planes):
    """As Pillow turns one of 8 bits."""
    if planes:
        pytest.importorskip("imagecodecs")
    how = {"planes": planes, "zipped": True, "t274": (orientation,)}
    shallow = read_picture(tiff(RGB, 8, 2, **how)).pixels
    assert np.array_equal(read_picture(tiff(RGB.astype(np.uint16) * 257, 16, 2, **how)).pixels, shallow * 257.0)


def test_samples_that_are_in_no_table(monkeypatch):
    """As a later Pillow may read them."""
    monkeypatch.setitem(RAW_MODES, "PNG", RAW_MODES["PNG"] - {"RGB"})
    with pytest.raises(PictureError, match="a PNG file with samples 'RGB' isn't known to be read rightly"):
        read_picture(png(RGB, 8, 2))


def test_formats_that_nobody_has_compared():
    data = saved(Image.fromarray(RGB), "QOI")
    image, notes = read(data)
    assert np.array_equal(np.asarray(image), RGB)
    assert "QOI files are read as Pillow reads them: colours, depth and alpha weren't compared" in notes


@pytest.mark.parametrize(
    "data",
    [
        png(few(4), 4, 0, struct.pack(">H", 1)),
        png(few(2), 2, 0, struct.pack(">H", 3)),
        png(DEEP[..., :3], 16, 2, struct.pack(">3H", 1, 2, 3000)),
    ],
)
def test_a_transparent_value_whose_depth_is_lost(data):
    """Pillow has read the pixels, and no longer knows how deep they were; nor does the file tell once they change."""
    image = Image.open(io.BytesIO(data))
    image.putpixel((0, 0), image.getpixel((1, 0)))
    with pytest.raises(PictureError, match="the depth of its transparent value isn't known: give the file"):
        from_image(image)


@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_transparent_value_whose_depth_does_not_matter(value):
    image = Image.open(io.BytesIO(png(GREY, 8, 0, struct.pack(">H", value))))
    image.load()
    assert np.array_equal(from_image(image).alpha == 0, value == GREY)


def test_what_a_written_file_says_that_it_holds():
    """Each loss is noted once, whatever the format."""

    def notes_of(image: Image.Image, suffix: str) -> list[str]:
        notes: list[str] = []
        save_picture(from_image(image), suffix, on_note=notes.append)
        return notes

    assert notes_of(Image.fromarray(RGB), ".gif") == ["GIF holds 256 colours: the picture's were reduced to them"]
    (size,) = notes_of(Image.new("RGB", (400, 200)), ".ico")
    assert re.fullmatch(r"ICO holds \d+ x \d+ pixels: the picture has 400 x 200", size)
    assert any(
        "whether PDF holds all of the picture isn't known" in note for note in notes_of(Image.fromarray(RGB), ".pdf")
    )
    file, notes = io.BytesIO(saved(Image.fromarray(RGB), "BMP")), []
    _note_losses(from_image(Image.fromarray(RGBA)), file, "BMP", notes.append)
    assert notes == ["BMP has no room for transparency: it is lost"]
    for image in (Image.fromarray(GREY), Image.fromarray(RGB // 100)):
        assert not notes_of(image, ".gif")  # with few colours


# ---- reduced --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [2, 8, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_colours_that_are_hidden_do_not_count(factor, channels):
    """As Pillow reduces a transparent picture, but without rounding on the way."""
    pixels = RANDOM.integers(0, 256, (70, 90, channels), np.uint8)
    alpha = np.where(RANDOM.random((70, 90)) < 0.5, 0, RANDOM.integers(128, 256, (70, 90))).astype(np.uint8)
    alpha[:40, :40] = 0
    found = reduced(pixels[..., 0] if channels == 1 else pixels, factor, alpha).reshape(-1, channels)
    blocks = [(slice(y, y + factor), slice(x, x + factor)) for y in range(0, 70, factor) for x in range(0, 90, factor)]
    for block, colour in zip(blocks, found, strict=True):
        weights = alpha[block].reshape(-1) if alpha[block].any() else None
        expected = np.average(pixels[block].reshape(-1, channels), axis=0, weights=weights)
        assert np.abs(colour - expected).max() < 0.01


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("side", [64, 80])  # of which the last blocks aren't whole
def test_a_draft_shows_no_hidden_colour(mode, side):
    """It equals Pillow's own reduction of the decoded picture, from Python and as Pillow's draft."""
    striped = np.zeros((side, side, 4), np.uint8)
    striped[..., :3] = (0, 255, 0)
    striped[np.arange(side) // 8 % 2 == 0] = (255, 0, 0, 255)
    data = hpcm.compress(Image.fromarray(striped).convert(mode), model="nano", quality=75)
    expected = np.asarray(hpcm.decompress(data).reduce(32)).astype(int)
    opened = Image.open(io.BytesIO(data), formats=[hpcm.pillow.FORMAT])
    opened.draft(None, (2, 2))
    for small in (hpcm.decompress(data, draft=(2, 2)), opened):
        assert small.mode == mode
        assert np.abs(np.asarray(small) - expected).max() <= 2


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_reduced_picture_shows_no_hidden_colour(mode):
    """Opaque stripes of one colour stay so among transparent ones of another, as in Pillow's own reduction."""
    striped = np.zeros((64, 64, 4), np.uint8)
    striped[..., :3] = (0, 255, 0)
    striped[::2] = (255, 0, 0, 255)
    image = Image.fromarray(striped).convert(mode)
    seen = image.getpixel((0, 0))[0]
    small = fitting(from_image(image), 16).joined
    assert np.abs(small[..., 0].astype(int) - seen).max() <= 2


def test_16_bit_grey_stays_within_its_range_when_it_is_reduced():
    """A sharp edge overshoots in a Lanczos filter."""
    edge = np.zeros((64, 64), np.uint16)
    edge[:, 20:40] = 65535
    small = fitting(from_image(Image.fromarray(edge)), 21).pixels.astype(int)
    assert small.min() == 0
    assert small.max() == 65535
    assert (small[:, 8:12] > 60000).all()
    assert (small[:, :3] < 3000).all()
