"""The samples of a picture file, corrected where Pillow reads them wrongly, in full where it reads fewer bits.

Pillow reads some kinds of files wrongly without a warning: it compares a PNG's transparent colour with samples of
another depth, takes signed samples for unsigned ones, or white for black. So each kind of file is looked up before its
pixels are used. The tables below name the kinds whose samples were compared with the file's own numbers
(tests/test_samples.py); some of them are corrected here, and every other kind is refused.

Of samples with two bytes Pillow's images hold the upper one, unless they are grey. But its decoders can be asked for
either byte: so such a file is decoded twice.

The kind of a file is known as long as Pillow hasn't read the pixels, and of TIFF also afterwards.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import PictureError
from ..util.notes import OnNote, SampleLoss
from . import deep
from .metadata.boxes import walk
from .metadata.gather import attached_file
from .metadata.scan import significant_bits
from .planes import Planes, peak_of, split, upright, with_depth

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
PNG_DEEP = ("RGB;16B", "RGBA;16B", "LA;16B")  # raw modes of two bytes a sample, of which Pillow keeps one
GREY_BITS = {"1": 1, "L;2": 2, "L;4": 4, "L": 8}  # of a grey PNG's samples, by raw mode

# Tags of a TIFF, and their values.
PHOTOMETRIC, BITS, SAMPLES, PLANAR, FILL_ORDER, EXTRA, SAMPLE_FORMAT = 262, 258, 277, 284, 266, 338, 339
SUBFILE, ORIENTATION, INK_SET, YCBCR_SUBSAMPLING = 254, 274, 332, 530
UNKNOWN_CHANNEL, MULTIPLIED_ALPHA, STRAIGHT_ALPHA = 0, 1, 2  # of EXTRA
REDUCED = 1  # bit of SUBFILE: a smaller version of another picture
INKS_OF_CMYK = 1  # of INK_SET
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
TIFF_KINDS = {  # (photometric interpretation, sample format, bits of a sample)
    *((WHITE_IS_ZERO, UNSIGNED, bits) for bits in (1, 2, 4, 8, 16)),
    *((BLACK_IS_ZERO, UNSIGNED, bits) for bits in (1, 2, 4, 8, 12, 16, 32)),
    *((BLACK_IS_ZERO, SIGNED, bits) for bits in (8, 16, 32)),
    *((grey, FLOAT, 32) for grey in (WHITE_IS_ZERO, BLACK_IS_ZERO)),  # which are refused as a mode
    *((PALETTE, UNSIGNED, bits) for bits in (1, 2, 4, 8)),
    *((colour, UNSIGNED, bits) for colour in (RGB, CMYK) for bits in (8, 16)),
    (YCBCR, UNSIGNED, 8),
    (LAB, UNSIGNED, 8),
}

DEEP_TIFF_KIND = (RGB, UNSIGNED, 16)
DEEP_TIFF = ("RGB", "RGBA", "RGBa", "RGBX")  # raw modes, before ";16"; the last has a channel that isn't alpha

JPEG2000_SPACES = (12, 16, 17, 18)  # numbers of colour spaces: CMYK, sRGB, grey, sYCC
PREMULTIPLIED = b"\0\2"  # type of a channel in the box `cdef`: alpha by which the colours were multiplied
CODESTREAM_SIGNATURE = b"\xff\x4f\xff\x51"  # the markers SOC and SIZ
BMP_FILE_HEADER, BMP_BITFIELDS = 14, 3  # bytes; the method of compression that has masks
AV1_HIGH_BIT_DEPTH, AV1_TWELVE_BIT = 0x40, 0x20  # flags of the box `av1C`

PNM_COMMENT = re.compile(rb"#[^\n\r]*")
DIVIDED = "the picture's colours were multiplied by alpha, and are divided by it"
BEYOND_16_BITS = "the picture has grey values below 0 or above 65,535: bring them into 0 to 65,535"
AVIF_HEADER = 1 << 16  # bytes at the beginning of a file in which AVIF's depth is looked for


def load_samples(image: Image.Image, on_note: OnNote) -> Image.Image | Planes:
    """Loads the pixels.

    Returns the image; where Pillow reads its file wrongly, another one with the right pixels; and where it reads fewer
    bits than the file has, the samples themselves.
    Raises PictureError for a kind of file that isn't known to be read rightly, and whatever Pillow raises.
    """
    return READERS.get(image.format or "", _load)(image, on_note)


def file_depth(data: bytes) -> int:
    """The bits of a file's samples as far as more than 8 of them can be read here; 8 for all other files.

    By its header: nothing is decoded. Raises whatever Pillow raises.
    """
    image = Image.open(io.BytesIO(data))
    if image.format == "HEIF":
        return int(image.info.get("bit_depth", 8))
    if image.format == "AVIF":
        return _av1_depth(data)
    if image.format == "JPEG2000":
        return max(_component_depths(image, data))
    if image.format == "TIFF":
        return 16 if _TiffLayout.of(image).kind == DEEP_TIFF_KIND else 8
    arguments: Any = image.tile[0].args if image.tile else ""
    raw = arguments if isinstance(arguments, str) else str(arguments[0])
    if image.format == "PPM" and raw == "RGB" and not isinstance(arguments, str):
        return int(arguments[1]).bit_length()
    return 16 if ";16" in raw else 8


def _raw_mode(image: Image.Image, format: str) -> str | None:
    """How the samples lie in the file; None if they have been read. Raises PictureError if it isn't in RAW_MODES."""
    if not getattr(image, "tile", None):
        return None
    arguments = image.tile[0][3]  # type: ignore[attr-defined]
    raw = arguments if isinstance(arguments, str) else arguments[0]
    if raw not in RAW_MODES[format]:
        raise _refusal(image, f"samples {raw!r}")
    return str(raw)


def _refusal(image: Image.Image, what: str, advice: str = "") -> PictureError:
    return PictureError(f"a {image.format} file with {what} isn't known to be read rightly: make a PNG of it{advice}")


def _file_bytes(image: Image.Image, size: int = -1) -> bytes:
    """The beginning of the file, or all of it; empty once Pillow has read the pixels or closed the file."""
    file = getattr(image, "fp", None)
    if file is None or not getattr(image, "tile", None):
        return b""
    at = file.tell()
    file.seek(0)
    data = file.read(size)
    file.seek(at)
    return bytes(data)


def _note_depth(bits: int, on_note: OnNote, advice: str = "") -> None:
    on_note(SampleLoss(f"the picture has {bits} bits a sample, and 8 are kept{advice}"))


# ---- two bytes a sample ---------------------------------------------------------------------------------------------

OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}  # of raw modes ";16B" and so on


def _both_bytes(image: Image.Image, data: bytes, raw: str) -> NDArray[np.uint16]:
    """Samples of 16 bits, [H, W, 3 or 4], of an image that isn't loaded and of which Pillow gives the upper bytes.

    Args:
        data: the image's file.
        raw: its raw mode, which ends in 16B, 16L or 16N.
    """
    upper = np.asarray(image).astype(np.uint16)
    return upper << 8 | np.asarray(_reopened(image, data, raw[:-1] + OTHER_BYTE[raw[-1]]))


def _reopened(image: Image.Image, data: bytes, raw: str, mode: str | None = None) -> Image.Image:
    """The image's current frame once more, with its samples taken for others."""
    again = Image.open(io.BytesIO(data), formats=[str(image.format)])
    if (frame := image.tell()) > 0:
        again.seek(frame)
    again._mode = mode or again.mode
    again.tile = [tile._replace(args=_with_raw_mode(tile.args, raw)) for tile in again.tile]
    return again


def _with_raw_mode(arguments: Any, raw: str) -> Any:
    """What Pillow's decoders get: a raw mode, or a tuple that begins with it."""
    return raw if isinstance(arguments, str) else (raw, *arguments[1:])


# ---- PNG ------------------------------------------------------------------------------------------------------------


def _png(image: Image.Image, on_note: OnNote) -> Image.Image | Planes:
    raw = _raw_mode(image, "PNG")
    data = _file_bytes(image) if raw in (*PNG_DEEP, "I;16B") else b""
    if raw in PNG_DEEP:
        return _deep_png(image, data, raw)
    image.load()
    key = image.info.get("transparency")
    if raw is None:
        _check_key(image)
        return image
    if raw == "I;16B":
        planes = Planes(_grey16(image), 16, opaque_but(_grey16(image), key))
        return _with_significant_bits(planes, data)
    if raw in GREY_BITS and isinstance(key, int):
        bits = GREY_BITS[raw]
        peak = 2**bits - 1
        return _with_key(image, (key & peak) * (255 // peak))
    return image


def _deep_png(image: Image.Image, data: bytes, raw: str) -> Planes:
    samples: NDArray[np.uint16]
    key = image.info.get("transparency")
    if raw == "LA;16B":  # four bytes a pixel, as RGBA has them
        pairs = np.asarray(_reopened(image, data, "RGBA", "RGBA")).astype(np.uint16)  # upper and lower byte
        image.load()
        samples = (pairs[..., ::2] << 8 | pairs[..., 1::2]).astype(np.uint16)
    else:
        samples = _both_bytes(image, data, raw)
    planes = split(samples, 16)
    if raw == "RGB;16B":
        planes = replace(planes, alpha=opaque_but(samples, key))
    return _with_significant_bits(planes, data)


def opaque_but(samples: NDArray[Any], key: Any) -> NDArray[np.uint16] | None:
    """Alpha of 16 bits where one grey value [H, W] or colour [H, W, 3] is transparent; None where no pixel has it."""
    if key is None:
        return None
    transparent = samples == np.asarray(key)
    transparent = transparent.all(axis=2) if transparent.ndim == 3 else transparent
    return np.where(transparent, 0, 65535).astype(np.uint16) if transparent.any() else None


def _with_significant_bits(planes: Planes, data: bytes) -> Planes:
    """Samples at the depth that the chunk sBIT tells, if that gives back all that is there."""
    bits = {*significant_bits(data)}
    depth = bits.pop() if len(bits) == 1 else 16
    if not 8 <= depth < 16:
        return planes
    narrow = with_depth(planes, depth)
    wide = with_depth(narrow, 16)
    is_same = np.array_equal(wide.joined, planes.joined)
    return narrow if is_same else planes


def _with_key(image: Image.Image, value: int) -> Image.Image:
    """The image with a transparent value of 0 to 255, or with none if no pixel has it."""
    copy = image.copy()
    del copy.info["transparency"]
    if image.histogram()[value]:
        copy.info["transparency"] = value
    return copy


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


def _tiff(image: Image.Image, on_note: OnNote) -> Image.Image | Planes:
    layout = _TiffLayout.of(image)
    is_unread = bool(image.tile)  # type: ignore[attr-defined]
    if is_unread and layout.has_deep_planes and (samples := deep.tiff(_file_bytes(image), image.tell())) is not None:
        _note_tiff_losses(layout, True, on_note)
        orientation = image.tag_v2.get(ORIENTATION, 1)  # type: ignore[attr-defined]
        image.load()  # which turns it
        return upright(_planes_of_tiff(samples, layout.extra_channels), orientation)
    if fault := layout.fault:
        raise _refusal(image, fault, f", or {deep.INSTALL}" if layout.has_deep_planes else "")
    raw = _tiff_raw_mode(image) if is_unread and not layout.is_planar else ""
    is_deep = layout.kind == DEEP_TIFF_KIND and raw.partition(";")[0] in DEEP_TIFF and raw[-3:-1] == "16"
    data = _file_bytes(image) if is_deep else b""
    if is_unread:
        _note_tiff_losses(layout, is_deep, on_note)
    if is_deep:
        return _deep_tiff(image, data, raw)
    image.load()
    if layout.kind == (BLACK_IS_ZERO, SIGNED, 8) and np.asarray(image).max() > 127:  # Pillow takes -1 for 255
        raise PictureError(BEYOND_16_BITS)
    if layout.kind == (WHITE_IS_ZERO, UNSIGNED, 16):
        return _with_info_of(Image.fromarray(65535 - _grey16(image)), image)
    if layout.kind == (BLACK_IS_ZERO, UNSIGNED, 12):
        return Planes(_grey16(image), 12)
    return image


def _tiff_raw_mode(image: Image.Image) -> str:
    arguments = image.tile[0].args  # type: ignore[attr-defined]
    return arguments if isinstance(arguments, str) else str(arguments[0])


def _deep_tiff(image: Image.Image, data: bytes, raw: str) -> Planes:
    """RGB of 16 bits, with alpha or an unknown channel behind it."""
    kind = raw.partition(";")[0]
    if kind == "RGBa":  # colours multiplied by alpha, by which Pillow would divide the bytes
        raw = raw.replace("RGBa", "RGBA")
        samples = _both_bytes(_reopened(image, data, raw), data, raw)
        image.load()
        return _divided(split(samples, 16))
    samples = _both_bytes(image, data, raw)
    return split(samples if kind == "RGBA" else samples[..., :3], 16)


def _planes_of_tiff(samples: NDArray[np.uint16], extra_channels: tuple[int, ...]) -> Planes:
    """RGB [H, W, 3 or more] with what its tag of extra channels says of those behind it."""
    if extra_channels == (STRAIGHT_ALPHA,):
        return split(samples, 16)
    if extra_channels == (MULTIPLIED_ALPHA,):
        return _divided(split(samples, 16))
    return split(samples[..., :3], 16)


def _divided(planes: Planes) -> Planes:
    """Colours that were multiplied by alpha, without that."""
    assert planes.alpha is not None
    alpha = planes.alpha[..., None].astype(np.uint32)
    straight = (planes.pixels.astype(np.uint32) * planes.peak + alpha // 2) // np.maximum(alpha, 1)
    return replace(planes, pixels=straight.clip(0, planes.peak).astype(np.uint16))


@dataclass(frozen=True)
class _TiffLayout:
    """How the samples of a TIFF are stored, by its tags. None where samples differ."""

    photometric: int
    sample_format: int | None
    bits: int | None  # of a sample
    compression: str  # Pillow's name; "raw" is none
    is_big_endian: bool
    is_planar: bool  # each channel by itself
    extra_channels: tuple[int, ...]  # what they are
    chroma_subsampling: tuple[int, ...]
    ink_set: int
    fill_order: int
    is_thumbnail: bool

    @classmethod
    def of(cls, image: Image.Image) -> _TiffLayout:
        tags = image.tag_v2  # type: ignore[attr-defined]
        return cls(
            photometric=tags.get(PHOTOMETRIC, WHITE_IS_ZERO),
            sample_format=_common_value(tags.get(SAMPLE_FORMAT, (UNSIGNED,))),
            bits=_common_value(tags.get(BITS, (1,))),
            compression=image.info.get("compression", "raw"),
            is_big_endian=tags.prefix[:2] == b"MM",
            is_planar=tags.get(PLANAR, 1) == 2 and tags.get(SAMPLES, 1) > 1,
            extra_channels=tuple(tags.get(EXTRA, ())),
            chroma_subsampling=tags.get(YCBCR_SUBSAMPLING, (2, 2)),
            ink_set=tags.get(INK_SET, INKS_OF_CMYK),
            fill_order=tags.get(FILL_ORDER, 1),
            is_thumbnail=bool(tags.get(SUBFILE, 0) & REDUCED) and image.tell() == 0,
        )

    @property
    def kind(self) -> tuple[int, int | None, int | None]:
        return self.photometric, self.sample_format, self.bits

    @property
    def has_deep_planes(self) -> bool:
        """Whether its colours of 16 bits lie in planes, of which Pillow reads 8 bits or what isn't there."""
        return self.is_planar and self.kind == DEEP_TIFF_KIND

    @property
    def fault(self) -> str | None:
        """What isn't known to be read rightly."""
        photometric, sample_format, bits = self.kind
        if self.kind not in TIFF_KINDS:
            return f"photometric interpretation {photometric}, sample format {sample_format} and {bits} bits a sample"
        if not self._has_known_planes:
            return f"planes of {bits} bits and photometric interpretation {photometric}"
        if not self._has_known_byte_order:
            return "compressed big-endian samples that are signed"
        if not self._has_known_jpeg:
            return f"old JPEG compression and photometric interpretation {photometric}"
        if not self._has_known_chroma:
            return "uncompressed chroma of fewer pixels"
        if not self._has_known_inks:
            return "other inks than CMYK"
        if not self._has_known_bit_order:
            return f"fill order 2 and {bits} bits a sample"
        if self.is_thumbnail:
            return "a thumbnail in front, as raw photographs have it,"
        return None

    @property
    def _has_known_planes(self) -> bool:
        is_raw_16_bit = self.bits == 16 and self.compression == "raw"
        return not self.is_planar or (self.photometric in (RGB, CMYK) and not is_raw_16_bit)

    @property
    def _has_known_byte_order(self) -> bool:
        has_several_bytes = (self.bits or 0) > 8
        is_swapped = self.is_big_endian and has_several_bytes and self.compression != "raw"  # by libtiff
        return not is_swapped or self.sample_format == UNSIGNED

    @property
    def _has_known_jpeg(self) -> bool:
        return self.compression != "tiff_jpeg" or self.photometric == YCBCR

    @property
    def _has_known_chroma(self) -> bool:
        is_raw = self.photometric == YCBCR and self.compression == "raw"
        return not is_raw or tuple(self.chroma_subsampling) == (1, 1)

    @property
    def _has_known_inks(self) -> bool:
        return self.photometric != CMYK or self.ink_set == INKS_OF_CMYK

    @property
    def _has_known_bit_order(self) -> bool:
        return self.fill_order == 1 or self.bits == 1


def _common_value(values: Any) -> int | None:
    """The value that all samples have; None if they differ."""
    different = {*values} if isinstance(values, tuple) else {values}
    return different.pop() if len(different) == 1 else None


def _note_tiff_losses(layout: _TiffLayout, is_deep: bool, on_note: OnNote) -> None:
    if layout.bits == 16 and not is_deep and layout.photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO):
        _note_depth(16, on_note, layout.has_deep_planes * deep.ADVICE)
    if UNKNOWN_CHANNEL in layout.extra_channels:
        on_note(SampleLoss("the picture's extra channels are not kept"))
    if MULTIPLIED_ALPHA in layout.extra_channels:
        on_note(SampleLoss(DIVIDED))


def _grey16(image: Image.Image) -> NDArray[np.uint16]:
    return np.asarray(image).astype(np.uint16)


# ---- others ---------------------------------------------------------------------------------------------------------


def _jpeg(image: Image.Image, on_note: OnNote) -> Image.Image:
    _raw_mode(image, "JPEG")
    if image.mode == "CMYK" and "adobe" not in image.info:  # Pillow inverts all, as Adobe does
        raise _refusal(image, "four colours and no word of Adobe's on whether they are inverted")
    image.load()
    return image


def _bmp(image: Image.Image, on_note: OnNote) -> Image.Image:
    raw, header = _raw_mode(image, "BMP"), _file_bytes(image, 70)
    start = 0 if image.format == "DIB" else BMP_FILE_HEADER
    size, compression = _little_endian(header[start : start + 4]), _little_endian(header[start + 16 : start + 20])
    has_masks = size >= 56 and compression == BMP_BITFIELDS
    alpha_mask = _little_endian(header[start + 52 : start + 56]) if has_masks else 0
    if raw is not None and bool(alpha_mask) != ("A" in raw):
        raise _refusal(image, "a mask for alpha that Pillow doesn't apply")
    image.load()
    return image


def _little_endian(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _tga(image: Image.Image, on_note: OnNote) -> Image.Image:
    raw, header = _raw_mode(image, "TGA"), _file_bytes(image, 18)
    if raw is not None:
        has_palette, palette_bits, alpha_bits = header[1], header[7], header[17] & 15
        expected_bits = 8 if raw in ("LA", "BGRA") else 0
        if alpha_bits != expected_bits or (has_palette and palette_bits != 24):
            what = f"samples {raw!r}, {alpha_bits} bits of alpha and a palette of {palette_bits} bits"
            raise _refusal(image, what)
    image.load()
    return image


def _ppm(image: Image.Image, on_note: OnNote) -> Image.Image | Planes:
    raw = _raw_mode(image, "PPM")
    if raw is not None:
        decoder, _, offset, arguments = image.tile[0]  # type: ignore[attr-defined]
        if decoder in ("ppm", "ppm_plain") and arguments[1] > 255:  # the value of white
            return _deep_ppm(image, _file_bytes(image)[offset:], decoder == "ppm_plain", arguments[1])
    image.load()
    return image


def _deep_ppm(image: Image.Image, data: bytes, is_plain: bool, peak: int) -> Planes:
    """Two bytes a sample, the upper one first, or numbers as text; Pillow would scale colours to 8 bits, grey to 16."""
    channels = 3 if image.mode == "RGB" else 1
    count = image.width * image.height * channels
    values: NDArray[Any]
    if is_plain:
        values = np.fromstring(PNM_COMMENT.sub(b" ", data), np.int32, count, sep=" ")  # ValueError where it is cut
    else:
        values = np.frombuffer(data, ">u2", count)  # ValueError where it is cut
    image.load()
    if not 0 <= values.min() <= values.max() <= peak:
        raise PictureError(
            f"the picture is damaged: it has values of {values.min()} to {values.max()}, not 0 to {peak}"
        )
    samples = values.astype(np.uint16)
    bit_depth = peak.bit_length()
    if peak != peak_of(bit_depth):  # a white that no number of bits has
        samples = ((samples.astype(np.uint32) * 65535 + peak // 2) // peak).astype(np.uint16)
        bit_depth = 16
    return split(samples.reshape(image.height, image.width, channels), bit_depth)


def _avif(image: Image.Image, on_note: OnNote) -> Image.Image | Planes:
    bits = _av1_depth(_file_bytes(image, AVIF_HEADER))
    data = _file_bytes(image) if bits > 8 else b""
    if bits > 8 and getattr(image, "n_frames", 1) == 1 and (samples := deep.avif(data)) is not None:
        image.load()
        return split(samples, bits)
    image.load()
    if bits > 8:
        _note_depth(bits, on_note, deep.ADVICE)
    return image


def _av1_depth(data: bytes) -> int:
    """The bits of an AVIF's samples, by the first box `av1C`."""
    at = data.find(b"av1C", 0, AVIF_HEADER)
    flags = data[at + 6] if 0 <= at < len(data) - 6 else 0
    if not flags & AV1_HIGH_BIT_DEPTH:
        return 8
    return 12 if flags & AV1_TWELVE_BIT else 10


def _heif(image: Image.Image, on_note: OnNote) -> Image.Image | Planes:
    """By pillow_heif, which has turned it upright."""
    data, bits = attached_file(image), image.info.get("bit_depth", 8)
    image.load()
    if bits > 8 and data is not None:
        return split(deep.heif(data, bits), bits)
    return image


def _load(image: Image.Image, on_note: OnNote) -> Image.Image:
    image.load()
    return image


# ---- JPEG 2000 ------------------------------------------------------------------------------------------------------


def _jpeg2000(image: Image.Image, on_note: OnNote) -> Image.Image | Planes:
    data = _file_bytes(image)
    if fault := _jpeg2000_fault(data):
        raise _refusal(image, fault)
    depths = _component_depths(image, data)
    if max(depths, default=8) > 8 and image.mode != "I;16":
        return _deep_jpeg2000(image, data, depths)
    image.load()
    if not depths:  # Pillow has read the pixels before
        return image
    if image.mode == "I;16":
        return Planes(_grey16(image) >> (16 - depths[0]), depths[0])  # Pillow shifts them to the upper end
    return image


def _deep_jpeg2000(image: Image.Image, data: bytes, depths: list[int]) -> Planes:
    """Colours, or grey with alpha, of more than 8 bits: Pillow rounds them to 0 to 256, of which 256 becomes 0.

    Raises PictureError without the package that reads them rightly.
    """
    what = f"{max(depths)} bits a sample in {len(depths)} channels"
    if image.mode not in ("RGB", "RGBA", "LA") or len({*depths}) > 1:
        raise _refusal(image, what)
    samples = deep.jpeg2000(data)
    if samples is None:
        raise PictureError(f"a JPEG2000 file with {what} isn't read without: {deep.INSTALL}")
    image.load()
    if samples.shape != np.asarray(image).shape:
        raise _refusal(image, what)
    return split(samples, depths[0])


def _jpeg2000_fault(data: bytes) -> str | None:
    """A colour space, or a kind of alpha, for which Pillow takes others."""
    boxes = _header_boxes(data)
    colour_spaces = [box for kind, box in boxes if kind == b"colr"]
    if colour_spaces and colour_spaces[0][:1] == b"\1":  # it is a number; the first box counts
        number = int.from_bytes(colour_spaces[0][3:7], "big")
        if number not in JPEG2000_SPACES:
            return f"the colour space {number}"
    for kind, box in boxes:
        if kind == b"cdef" and PREMULTIPLIED in _channel_types(box):
            return "colours multiplied by alpha"
    return None


def _header_boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    """(type, content) of the boxes in `jp2h`."""
    headers = [(begin, end) for kind, begin, end in walk(data, 0, len(data)) if kind == b"jp2h"]
    return [(kind, data[at:stop]) for begin, end in headers for kind, at, stop in walk(data, begin, end)]


def _channel_types(cdef: bytes) -> list[bytes]:
    """The box `cdef`: a count, then for each channel its number, its type, and the colour that it belongs to."""
    return [cdef[at + 2 : at + 4] for at in range(2, len(cdef), 6)]


def _component_depths(image: Image.Image, data: bytes) -> list[int]:
    """The bits of each component, by the marker SIZ; none without data. Raises PictureError if not 8 to 16 unsigned."""
    at = _codestream_offset(data)
    count = int.from_bytes(data[at + 40 : at + 42], "big")
    depths = []
    for size in data[at + 42 : at + 42 + 3 * count : 3]:
        is_signed, bits = bool(size & 0x80), (size & 0x7F) + 1
        if is_signed or not 8 <= bits <= 16:
            raise _refusal(image, f"{'signed ' * is_signed}samples of {bits} bits")
        depths.append(bits)
    return depths


def _codestream_offset(data: bytes) -> int:
    """Where the codestream begins, after the boxes before it. Raises PictureError if there is none."""
    at = 0
    while data and not data.startswith(CODESTREAM_SIGNATURE, at):
        size = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"jp2c":
            at += 16 if size == 1 else 8
        elif size >= 8:
            at += size
        else:
            at = len(data)
        if at >= len(data):
            raise PictureError("the picture is damaged: its JPEG 2000 codestream isn't there")
    return at


# ---- formats --------------------------------------------------------------------------------------------------------


READERS: dict[str, Callable[[Image.Image, OnNote], Image.Image | Planes]] = {
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
    "HEIF": _heif,
    "GIF": _load,  # 8 bits, and nothing else
    "WEBP": _load,
}


def _with_info_of(image: Image.Image, source: Image.Image) -> Image.Image:
    image.info = source.info.copy()
    return image
