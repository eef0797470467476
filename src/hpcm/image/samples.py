"""The samples of a picture file as they are meant, where Pillow reads them otherwise.

Pillow reads some kinds of files wrongly and says nothing: it compares a PNG's transparent colour with samples of
another depth, takes signed samples for unsigned ones, or white for black. So each kind of file is looked up before its
pixels are used. The tables below name the kinds whose samples were compared with the file's own numbers
(tests/test_samples.py); some are then set right, and every other kind is refused.

What is looked up is known as long as Pillow hasn't read the pixels, and of TIFF also afterwards.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import PictureError
from ..util.notes import OnNote
from .metadata.boxes import walk

# Pillow's names of how the samples lie in a file ("raw modes"), by format.
RAW_MODES = {
    "PNG": {"1", "L;2", "L;4", "L", "I;16B", "RGB", "RGB;16B", "P;1", "P;2", "P;4", "P", "LA", "LA;16B", "RGBA"}
    | {"RGBA;16B"},
    "BMP": {"1", "P;1", "P;4", "P", "L", "BGR;15", "BGR;16", "BGR", "BGRX", "XBGR", "BGXR", "ABGR", "RGBA", "BGRA"}
    | {"BGAR"},
    "PPM": {"1;I", "L", "RGB", "I;16B", "F;32F", "F;32BF"},  # the last two are refused as modes
    "JPEG": {"L", "RGB", "CMYK;I"},
    "TGA": {"L", "LA", "P", "BGR", "BGRA"},
}
GREY_BITS = {"1": 1, "L;2": 2, "L;4": 4, "L": 8}  # of a grey PNG's samples, by raw mode

# What a TIFF file's tags say: (photometric interpretation, sample format, bits of a sample).
PHOTOMETRIC, BITS, SAMPLES, PLANAR, FILL_ORDER, EXTRA, SAMPLE_FORMAT = 262, 258, 277, 284, 266, 338, 339
SUBFILE, INK_SET, YCBCR_SUBSAMPLING = 254, 332, 530
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
TIFF = {
    *((WHITE_IS_ZERO, UNSIGNED, bits) for bits in (1, 2, 4, 8, 16)),
    *((BLACK_IS_ZERO, UNSIGNED, bits) for bits in (1, 2, 4, 8, 12, 16, 32)),
    *((BLACK_IS_ZERO, SIGNED, bits) for bits in (8, 16, 32)),
    *((grey, FLOAT, 32) for grey in (WHITE_IS_ZERO, BLACK_IS_ZERO)),  # which are refused as a mode
    *((PALETTE, UNSIGNED, bits) for bits in (1, 2, 4, 8)),
    *((colour, UNSIGNED, bits) for colour in (RGB, CMYK) for bits in (8, 16)),
    (YCBCR, UNSIGNED, 8),
    (LAB, UNSIGNED, 8),
}

# JPEG 2000's numbers of colour spaces: CMYK, sRGB, grey, sYCC; and what `cdef` calls alpha that was multiplied
JPEG2000_SPACES, PREMULTIPLIED = (12, 16, 17, 18), b"\0\2"

BEYOND_16_BITS = "the picture has grey values below 0 or above 65,535: bring them into 0 to 65,535"
HEADER = 1 << 16  # bytes at the beginning of a file in which AVIF's depth is looked for


def faithful(image: Image.Image, on_note: OnNote) -> Image.Image:
    """The image with its pixels loaded, or another one where Pillow reads its file wrongly; `image` keeps its pixels.

    Raises PictureError for a kind of file that isn't known to be read rightly, and whatever Pillow raises.
    """
    return READERS.get(image.format or "", _loaded)(image, on_note)


def _raw_mode(image: Image.Image, format: str) -> str | None:
    """How the samples lie in the file; None if they have been read. Raises PictureError where it isn't in the table."""
    if not getattr(image, "tile", None):
        return None
    arguments = image.tile[0][3]  # type: ignore[attr-defined]
    raw = arguments if isinstance(arguments, str) else arguments[0]
    if raw not in RAW_MODES[format]:
        raise _refusal(image, f"samples {raw!r}")
    return str(raw)


def _refusal(image: Image.Image, what: str) -> PictureError:
    return PictureError(f"a {image.format} file with {what} isn't known to be read rightly: make a PNG of it")


def _bytes(image: Image.Image, size: int = -1) -> bytes:
    """The beginning of the file, or all of it, while Pillow has it open and hasn't read the pixels; else nothing."""
    file = getattr(image, "fp", None)
    if file is None or not getattr(image, "tile", None):
        return b""
    at = file.tell()
    file.seek(0)
    data = file.read(size)
    file.seek(at)
    return bytes(data)


def _note_depth(bits: int, on_note: OnNote) -> None:
    on_note(f"the picture has {bits} bits a sample, and 8 are kept: Pillow reads no more of colours or with alpha")


# ---- PNG ------------------------------------------------------------------------------------------------------------


def _png(image: Image.Image, on_note: OnNote) -> Image.Image:
    raw = _raw_mode(image, "PNG")
    data = _bytes(image) if raw == "RGB;16B" else b""
    image.load()
    key = image.info.get("transparency")
    if raw is None:
        _check_key(image)
        return image
    if raw == "LA;16B":
        _note_depth(16, on_note)
        return _with_info(Image.merge("LA", (image.getchannel(0), image.getchannel("A"))), image)
    if raw in ("RGB;16B", "RGBA;16B"):
        _note_depth(16, on_note)
    if raw == "RGB;16B" and key is not None:
        return _keyed(image, data, key)
    if raw in GREY_BITS and isinstance(key, int):
        bits = GREY_BITS[raw]
        peak = 2**bits - 1
        return _with_key(image, (key & peak) * (255 // peak))
    return image


def _with_key(image: Image.Image, value: int) -> Image.Image:
    """The image with a transparent value of 0 to 255, or with none if no pixel has it."""
    copy = image.copy()
    del copy.info["transparency"]
    if image.histogram()[value]:
        copy.info["transparency"] = value
    return copy


def _keyed(image: Image.Image, data: bytes, key: tuple[int, int, int]) -> Image.Image:
    """16-bit colours of which one is transparent: Pillow has their high bytes, and compares all 16 bits with them."""
    if getattr(image, "n_frames", 1) > 1:
        raise _refusal(image, "a transparent colour of 16 bits and several frames")
    low = Image.open(io.BytesIO(data))
    low.tile = [low.tile[0]._replace(args="RGB;16L")]  # the other byte of each sample
    samples = np.asarray(image).astype(np.uint16) << 8 | np.asarray(low)
    alpha = np.where((samples == key).all(axis=2), 0, 255).astype(np.uint8)
    found = image.copy()
    del found.info["transparency"]
    found.putalpha(Image.fromarray(alpha))
    return found


def _check_key(image: Image.Image) -> None:
    """Raises PictureError where Pillow has read the pixels and a transparent value may be meant at another depth.

    Grey samples of 2 and 4 bits have become multiples of 85 and 17, colours of 16 bits have lost 8: the value hasn't.
    """
    key, doubtful = image.info.get("transparency"), False
    if image.mode == "RGB" and isinstance(key, tuple):
        doubtful = max(key) > 255
    elif image.mode == "L" and isinstance(key, int) and 0 < key < 16:
        values = np.flatnonzero(image.histogram())
        doubtful = any(key * step in values and not (values % step).any() for step in (17, 85))
    if doubtful:
        raise PictureError(
            "the picture's pixels were read before, and the depth of its transparent value isn't known: give the file"
        )


# ---- TIFF -----------------------------------------------------------------------------------------------------------


def _tiff(image: Image.Image, on_note: OnNote) -> Image.Image:
    tags = image.tag_v2  # type: ignore[attr-defined]
    kind = tags.get(PHOTOMETRIC, WHITE_IS_ZERO), _only(tags.get(SAMPLE_FORMAT, (1,))), _only(tags.get(BITS, (1,)))
    photometric, _, bits = kind
    if what := _tiff_fault(image, kind):
        raise _refusal(image, what)
    fresh = bool(image.tile)  # type: ignore[attr-defined]
    image.load()
    if fresh and bits == 16 and photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO):
        _note_depth(16, on_note)
    if fresh and 0 in tags.get(EXTRA, ()):
        on_note("the picture's extra channels are not kept")
    if kind == (BLACK_IS_ZERO, SIGNED, 8) and np.asarray(image).max() > 127:
        raise PictureError(BEYOND_16_BITS)
    if kind == (WHITE_IS_ZERO, UNSIGNED, 16):
        return _with_info(Image.fromarray(65535 - _grey16(image)), image)
    if kind == (BLACK_IS_ZERO, UNSIGNED, 12):
        return _with_info(Image.fromarray(_widened(_grey16(image) * np.uint16(16), 12)), image)
    return image


def _only(values: Any) -> int | None:
    """What is said of all samples alike; None if they differ."""
    found = {*values} if isinstance(values, tuple) else {values}
    return found.pop() if len(found) == 1 else None


def _tiff_fault(image: Image.Image, kind: tuple[Any, Any, Any]) -> str | None:
    """What isn't known to be read rightly."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    photometric, sample_format, bits = kind
    compression = image.info.get("compression", "raw")
    planes = tags.get(PLANAR, 1) == 2 and tags.get(SAMPLES, 1) > 1
    big = tags.prefix[:2] == b"MM"
    if kind not in TIFF:
        return f"photometric interpretation {photometric}, sample format {sample_format} and {bits} bits a sample"
    if planes and (photometric not in (RGB, CMYK) or (bits == 16 and compression == "raw")):
        return f"planes of {bits} bits and photometric interpretation {photometric}"
    if big and compression != "raw" and bits > 8 and sample_format != UNSIGNED:
        return "compressed big-endian samples that are signed"
    if compression == "tiff_jpeg" and photometric != YCBCR:
        return f"old JPEG compression and photometric interpretation {photometric}"
    if photometric == YCBCR and compression == "raw" and tuple(tags.get(YCBCR_SUBSAMPLING, (2, 2))) != (1, 1):
        return "uncompressed chroma of fewer pixels"
    if photometric == CMYK and tags.get(INK_SET, 1) != 1:
        return "other inks than CMYK"
    if tags.get(FILL_ORDER, 1) != 1 and bits != 1:
        return f"fill order 2 and {bits} bits a sample"
    if tags.get(SUBFILE, 0) & 1 and image.tell() == 0:
        return "a thumbnail in front, as raw photographs have it,"
    return None


def _grey16(image: Image.Image) -> NDArray[np.uint16]:
    return np.asarray(image).astype(np.uint16)


def _widened(values: NDArray[np.uint16], bits: int) -> NDArray[np.uint16]:
    """Samples of 8 to 16 bits, shifted to the upper end of 16: 0 to 65,535, by repeating their upper bits below."""
    return values + values // np.uint16(2**bits)


# ---- others ---------------------------------------------------------------------------------------------------------


def _jpeg(image: Image.Image, on_note: OnNote) -> Image.Image:
    _raw_mode(image, "JPEG")
    if image.mode == "CMYK" and "adobe" not in image.info:  # Pillow inverts all, as Adobe does
        raise _refusal(image, "four colours and no word of Adobe's on whether they are inverted")
    image.load()
    return image


def _bmp(image: Image.Image, on_note: OnNote) -> Image.Image:
    raw, header = _raw_mode(image, "BMP"), _bytes(image, 70)
    start = 0 if image.format == "DIB" else 14
    size, compression = _little(header[start : start + 4]), _little(header[start + 16 : start + 20])
    mask = _little(header[start + 52 : start + 56]) if size >= 56 and compression == 3 else 0
    if raw is not None and bool(mask) != ("A" in raw):
        raise _refusal(image, "a mask for alpha that Pillow doesn't apply")
    image.load()
    return image


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _tga(image: Image.Image, on_note: OnNote) -> Image.Image:
    raw, header = _raw_mode(image, "TGA"), _bytes(image, 18)
    if raw is not None:
        alpha = header[17] & 15  # bits of a pixel
        if alpha != (8 if raw in ("LA", "BGRA") else 0) or (header[1] and header[7] != 24):
            raise _refusal(image, f"samples {raw!r}, {alpha} bits of alpha and a palette of {header[7]} bits")
    image.load()
    return image


def _ppm(image: Image.Image, on_note: OnNote) -> Image.Image:
    raw = _raw_mode(image, "PPM")
    arguments = image.tile[0][3] if raw is not None else ""  # type: ignore[attr-defined]
    if raw == "RGB" and not isinstance(arguments, str) and arguments[1] > 255:
        _note_depth(int(arguments[1]).bit_length(), on_note)
    image.load()
    return image


def _jpeg2000(image: Image.Image, on_note: OnNote) -> Image.Image:
    data = _bytes(image)
    if what := _jpeg2000_fault(data):
        raise _refusal(image, what)
    depths = _component_depths(data)
    for signed, bits in depths:
        if signed or not 8 <= bits <= 16:
            raise _refusal(image, f"{'signed ' * signed}samples of {bits} bits")
    if depths and max(depths)[1] > 8 and image.mode != "I;16":
        _note_depth(max(depths)[1], on_note)
    image.load()
    if depths and depths[0][1] < 16 and image.mode == "I;16":
        return _with_info(Image.fromarray(_widened(_grey16(image), depths[0][1])), image)
    return image


def _jpeg2000_fault(data: bytes) -> str | None:
    """A colour space, or a kind of alpha, for which Pillow takes others."""
    inner = [box for kind, begin, end in walk(data, 0, len(data)) if kind == b"jp2h" for box in walk(data, begin, end)]
    spaces = [data[begin:end] for kind, begin, end in inner if kind == b"colr"]
    if spaces and spaces[0][:1] == b"\1":  # the first one counts
        space = int.from_bytes(spaces[0][3:7], "big")
        if space not in JPEG2000_SPACES:
            return f"the colour space {space}"
    channels = [data[begin + 2 : end] for kind, begin, end in inner if kind == b"cdef"]  # number, kind, what it is of
    kinds = (channel[at + 2 : at + 4] for channel in channels for at in range(0, len(channel), 6))
    return "colours multiplied by alpha" if PREMULTIPLIED in kinds else None


def _component_depths(data: bytes) -> list[tuple[bool, int]]:
    """Whether it is signed, and its bits, for each component of a JPEG 2000 file: from the marker SIZ."""
    at = 0
    while data and not data.startswith(b"\xff\x4f\xff\x51", at):  # the boxes before the codestream
        size = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"jp2c":
            at += 16 if size == 1 else 8
        elif size >= 8:
            at += size
        else:
            at = len(data)
        if at >= len(data):
            raise PictureError("the picture is damaged: its JPEG 2000 codestream isn't there")
    count = int.from_bytes(data[at + 40 : at + 42], "big")
    sizes = data[at + 42 : at + 42 + 3 * count : 3]
    return [(bool(size & 0x80), (size & 0x7F) + 1) for size in sizes]


def _avif(image: Image.Image, on_note: OnNote) -> Image.Image:
    data = _bytes(image, HEADER)
    at = data.find(b"av1C")
    flags = data[at + 6] if 0 <= at < len(data) - 6 else 0  # tier, high bit depth, twelve bits, monochrome, ...
    image.load()
    if flags & 0x40:
        _note_depth(12 if flags & 0x20 else 10, on_note)
    return image


def _loaded(image: Image.Image, on_note: OnNote) -> Image.Image:
    image.load()
    return image


READERS: dict[str, Callable[[Image.Image, OnNote], Image.Image]] = {
    "PNG": _png,
    "TIFF": _tiff,
    "JPEG": _jpeg,
    "MPO": _jpeg,
    "BMP": _bmp,
    "DIB": _bmp,
    "TGA": _tga,
    "PPM": _ppm,
    "JPEG2000": _jpeg2000,
    "AVIF": _avif,
    "GIF": _loaded,  # 8 bits, and nothing else
    "WEBP": _loaded,
}


def _with_info(image: Image.Image, source: Image.Image) -> Image.Image:
    image.info = source.info.copy()
    return image


def adopt(image: Image.Image, found: Image.Image) -> Image.Image:
    """`image`, just opened, with the pixels of what `faithful` made of it: it keeps its metadata.

    Its tags then say of its samples what they are now.
    """
    if found is image:
        return image
    image.im, image._mode, image.info = found.im, found.mode, found.info
    if image.format == "TIFF":
        image.tag_v2[PHOTOMETRIC], image.tag_v2[BITS] = BLACK_IS_ZERO, (16,)  # type: ignore[attr-defined]
    return image
