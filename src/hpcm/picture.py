"""What the codec keeps of a picture: pixels, alpha and metadata; Pillow images in and out.

| input (Pillow mode)            | kept as                        | comes back as |
|--------------------------------|--------------------------------|---------------|
| RGB, RGBX                      | 8-bit colour                   | RGB           |
| 1, L                           | 8-bit grey                     | L             |
| I;16, I (0..65535)             | 16-bit grey, without alpha     | I;16          |
| RGBA, RGBa, LA, La, tRNS       | colour or grey, lossless alpha | RGBA, LA      |
| P, PA (palette)                | as RGB or RGBA, with a notice  | RGB, RGBA     |
| CMYK, YCbCr, LAB, HSV          | as RGB, with a notice          | RGB           |

Pillow reads 16-bit colour as 8-bit, so that is what is kept of it. The ICC profile is carried along untouched, except
for CMYK and LAB, whose profile wouldn't fit the converted pixels. The EXIF orientation is applied to the pixels; the
other EXIF tags are kept but for those that tell how the file was stored, and for the thumbnail. XMP is kept but for its
own orientation, and so are comments, and the four numbers of PNG's cICP chunk where `info["cicp"]` holds them (Pillow
doesn't read them; the command line does). IPTC is not kept, with a notice.
"""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngImageFile

from .errors import CorruptError, PictureError, PictureNotice
from .fields import CICP, COMMENTS, MAX_METADATA, XMP, Container, check_size

CONVERTED = {"P": "RGB", "PA": "RGBA", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB"}
PLAIN = {"1": "L", "RGBX": "RGB", "RGBa": "RGBA", "La": "LA"}
FOREIGN_PROFILE = ("CMYK", "LAB")  # modes whose ICC profile describes other colours than RGB or grey
WIDE = ("I", "I;16", "I;16B", "I;16L", "I;16N")
UPRIGHT = {  # EXIF orientation: what makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Tags up to XMP tell how a TIFF file is stored, but for these: what, who, when, with what, dots per inch.
LAST_STORAGE_TAG = 700
DESCRIPTIVE_TAGS = (269, 270, 271, 272, 282, 283, 285, 296, 305, 306, 315, 316)
IPTC_TAG = 33723
BULKY_TAGS = (IPTC_TAG, 34377, 34675, 37724)  # of TIFF: IPTC, two of Photoshop's, the ICC profile
IPTC_RESOURCE = 0x0404  # among the resources of Photoshop in a JPEG
XMP_ORIENTATION = re.compile(rb'\s?tiff:Orientation="\d+"|<tiff:Orientation>\d+</tiff:Orientation>')
CICP_BYTES = 4
COMMENT = "Comment"  # PNG's keyword
NO_COMMENTS = ("XML:com.adobe.xmp", "Raw profile type")  # texts of a PNG that are other metadata


@dataclass(frozen=True)
class Picture:
    """Pixels uint8 [H, W, 3] or uint8/uint16 [H, W] (grey), alpha uint8 [H, W] or None, and metadata."""

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    alpha: NDArray[np.uint8] | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    cicp: bytes | None = None  # primaries, transfer, matrix, full range (ITU-T H.273)
    comments: bytes | None = None  # keyword NUL text NUL keyword ..., UTF-8

    @property
    def size(self) -> tuple[int, int]:
        """Height, width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def colour(self) -> Literal["rgb", "grey"]:
        return "rgb" if self.pixels.ndim == 3 else "grey"

    @property
    def bit_depth(self) -> Literal[8, 16]:
        return 8 if self.pixels.dtype == np.uint8 else 16

    @property
    def peak(self) -> int:
        return 2**self.bit_depth - 1


def rgb_of(image: Image.Image) -> NDArray[np.uint8]:
    """Pixels as 8-bit RGB, [H, W, 3], without alpha; of 16-bit grey Pillow would cut off what is over 255."""
    return np.array((eight_bits(image) if image.mode in WIDE else image).convert("RGB"))


def eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey, with its metadata."""
    grey = Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
    grey.info = image.info
    return grey


def from_image(image: Image.Image) -> Picture:
    """Takes a Pillow image apart. Raises PictureError where it can't be read or coded."""
    check_size(*image.size)
    try:
        if _frames(image) > 1:
            _note(f"the picture has {_frames(image)} frames: only the current one is kept")
        image.load()
        orientation, exif = _exif(image)
        icc = None if image.mode in FOREIGN_PROFILE else image.info.get("icc_profile")
        xmp = _xmp(image.info.get("xmp"), upright=orientation in UPRIGHT)
        cicp = image.info.get("cicp")
        comments = _comments(image)
        _tell_losses(image)
        image = _plain(image)
        planes = np.asarray(image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image)
    except (PictureError, PictureNotice, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        raise PictureError(f"the picture can't be read: {error}") from error
    alpha = None
    if image.mode in ("RGBA", "LA"):
        alpha, planes = planes[..., -1], planes[..., :-1]
        planes = planes[..., 0] if image.mode == "LA" else planes
    cicp = cicp if cicp and len(cicp) == CICP_BYTES else None
    icc, exif, xmp = _bounded(icc, "ICC profile"), _bounded(exif, "EXIF"), _bounded(xmp, "XMP")
    return Picture(planes, alpha, icc, exif, xmp, cicp, _bounded(comments, "comment"))


def _frames(image: Image.Image) -> int:
    try:
        return getattr(image, "n_frames", 1)
    except (OSError, ValueError, AttributeError, EOFError):  # the file is closed, or damaged after this frame
        return 1


def _exif(image: Image.Image) -> tuple[object, bytes | None]:
    """The orientation and the bytes of the tags that are worth keeping, which begin with b"Exif\\0\\0"."""
    orientation = None
    try:
        found, kept = image.getexif(), Image.Exif()
        orientation = found.get(ExifTags.Base.Orientation)
        kept.endian = found.endian  # a maker's note may depend on it
        for tag, value in found.items():
            if tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
                kept[tag] = inner = dict(found.get_ifd(tag))
                if ExifTags.IFD.Interop in inner:
                    inner[ExifTags.IFD.Interop] = found.get_ifd(ExifTags.IFD.Interop)
            elif tag in DESCRIPTIVE_TAGS or (tag > LAST_STORAGE_TAG and tag not in BULKY_TAGS):
                kept[tag] = value
        return orientation, kept.tobytes() if len(kept) else None
    except Exception as error:  # parsers and writers of EXIF raise nearly anything on damaged tags
        _note(f"the picture's EXIF is damaged and not kept: {error}")
        return orientation, None


def _xmp(data: object, *, upright: bool) -> bytes | None:
    """XMP as bytes; without its orientation where the pixels are turned, lest they be turned twice."""
    data = data.encode() if isinstance(data, str) else data
    if not isinstance(data, bytes):
        return None
    return XMP_ORIENTATION.sub(b"", data) if upright else data


def _comments(image: Image.Image) -> bytes | None:
    """A PNG's texts under their keywords, another format's comment under COMMENT."""
    texts = {key: str(text) for key, text in getattr(image, "text", {}).items() if not key.startswith(NO_COMMENTS)}
    if comment := image.info.get("comment"):
        texts.setdefault(COMMENT, comment.decode("utf-8", "replace") if isinstance(comment, bytes) else str(comment))
    fields = [field.replace("\0", " ") for pair in texts.items() for field in pair]
    return "\0".join(fields).encode("utf-8", "replace") or None


def comments_of(data: bytes) -> dict[str, str]:
    """The reverse; whatever the bytes are, they give keywords and texts."""
    fields = data.decode("utf-8", "replace").split("\0")
    return dict(zip(fields[::2], fields[1::2], strict=False))


def _tell_losses(image: Image.Image) -> None:
    """A notice of metadata that has no place in a .hpcm file."""
    resources = image.info.get("photoshop")
    if IPTC_TAG in getattr(image, "tag_v2", {}) or (isinstance(resources, dict) and IPTC_RESOURCE in resources):
        _note("the picture's IPTC is not kept")


def _bounded(data: bytes | None, what: str) -> bytes | None:
    """Metadata that a .hpcm file has room for."""
    if data and len(data) > MAX_METADATA:
        _note(f"the picture's {what} of {len(data):,} bytes is not kept: {MAX_METADATA:,} are allowed")
        return None
    return data or None


def _plain(image: Image.Image) -> Image.Image:
    """The image in one of the modes RGB, RGBA, L, LA and I;16."""
    mode = image.mode
    if mode in WIDE:
        if "transparency" in image.info:
            _note("the picture's transparent value is not kept: 16-bit pictures have no alpha here")
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise PictureError("the picture has 32-bit values: grey pictures may have 8 or 16 bits")
        return image if mode == "I;16" else Image.fromarray(values.astype(np.uint16))
    if image.has_transparency_data and mode in ("1", "L", "RGB", "P"):
        target = "RGBA" if mode in ("P", "RGB") else "LA"
    else:
        target = PLAIN.get(mode, CONVERTED.get(mode, mode))
    if target not in ("RGB", "RGBA", "L", "LA"):
        raise PictureError(f"pictures of mode {mode} can't be coded: convert them to RGB, grey, or 16-bit grey")
    if mode in CONVERTED:
        _note(f"the picture's mode {mode} was converted to {target}")
    return image if mode == target else image.convert(target)


def _note(text: str) -> None:
    warnings.warn(text, PictureNotice, stacklevel=4)


def to_image(picture: Picture) -> Image.Image:
    """The Pillow image of a picture, with metadata in `info`: see `info_of`."""
    planes = picture.pixels
    image = Image.fromarray(planes if picture.alpha is None else np.dstack((planes, picture.alpha)))
    kept = {name: getattr(picture, name) for name in ("icc", "exif", "xmp", "cicp", "comments")}
    image.info.update(info_of(**kept))
    return image


def info_of(
    icc: bytes | None, exif: bytes | None, xmp: bytes | None, cicp: bytes | None, comments: bytes | None
) -> dict[str, Any]:
    """Metadata as Pillow names it: icc_profile, exif, xmp, cicp, comments (keyword: text), where there is any."""
    info = {"icc_profile": icc, "exif": exif, "xmp": xmp, "cicp": cicp}
    return {key: value for key, value in info.items() if value} | (
        {"comments": comments_of(comments)} if comments else {}
    )


def metadata_of(container: Container) -> dict[str, bytes | None]:
    """What a file says besides the picture, by the names that `Picture` has for it."""
    ancillary = dict(container.ancillary)
    named = {"xmp": ancillary.get(XMP), "cicp": ancillary.get(CICP), "comments": ancillary.get(COMMENTS)}
    return {"icc": container.icc, "exif": container.exif, **named}


def mode_of(container: Container) -> str:
    """The mode of the image that a file gives. Pillow has 16 bits for grey pictures without alpha alone."""
    if container.colour == "grey" and container.bit_depth == 16 and container.alpha is None:
        return "I;16"
    return ("RGB" if container.colour == "rgb" else "L") + ("" if container.alpha is None else "A")


def pack_alpha(alpha: NDArray[np.uint8]) -> bytes:
    """Lossless: a grey PNG."""
    stream = io.BytesIO()
    Image.fromarray(alpha).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def unpack_alpha(data: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Alpha [H, W] of `size`. Raises CorruptError for anything else; the size is checked before decoding."""
    try:
        image = PngImageFile(io.BytesIO(data))  # Image.open has a bound of its own for the number of pixels
        if (image.height, image.width) != size or image.mode != "L":
            raise CorruptError(f"the alpha plane is {image.width} x {image.height} {image.mode}, not {size[::-1]} L")
        return np.asarray(image)
    except (CorruptError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged data
        raise CorruptError(f"the alpha plane can't be decoded: {error}") from error
