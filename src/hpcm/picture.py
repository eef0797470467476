"""What the codec keeps of a picture: pixels, alpha and metadata; Pillow images in and out.

| input (Pillow mode)            | kept as                        | comes back as |
|--------------------------------|--------------------------------|---------------|
| RGB, RGBX                      | 8-bit colour                   | RGB           |
| 1, L                           | 8-bit grey                     | L             |
| I;16, I (0..65535)             | 16-bit grey                    | I;16          |
| RGBA, RGBa, LA, La, tRNS       | colour or grey, lossless alpha | RGBA, LA      |
| P (palette)                    | as RGB or RGBA, with a notice  | RGB, RGBA     |
| CMYK, YCbCr, LAB, HSV          | as RGB, with a notice          | RGB           |

Pillow reads 16-bit colour as 8-bit, so that is what is kept of it. The EXIF orientation is applied to the pixels. The
ICC profile is carried along untouched, except for CMYK, whose profile wouldn't fit the converted pixels.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from .errors import CorruptError, PictureError, PictureNotice

CONVERTED = {"P": "RGB", "PA": "RGBA", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB"}
PLAIN = {"1": "L", "RGBX": "RGB", "RGBa": "RGBA", "La": "LA"}


@dataclass(frozen=True)
class Picture:
    """Pixels uint8 [H, W, 3] or uint8/uint16 [H, W] (grey), alpha uint8 [H, W] or None, and metadata."""

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    alpha: NDArray[np.uint8] | None = None
    icc: bytes | None = None
    exif: bytes | None = None

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


def from_image(image: Image.Image) -> Picture:
    """Takes a Pillow image apart. Raises PictureError where it can't be read or coded."""
    try:
        if getattr(image, "n_frames", 1) > 1:
            _note(f"the picture has {image.n_frames} frames: only the current one is kept")  # type: ignore[attr-defined]
        image = ImageOps.exif_transpose(image)
        mode, icc, exif = image.mode, image.info.get("icc_profile"), image.getexif().tobytes()
        image = _plain(image)
        if min(image.size) < 1:
            raise PictureError(f"the picture has {image.width} x {image.height} pixels: at least one is needed")
        planes = np.asarray(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise PictureError(f"the picture can't be read: {error}") from error
    alpha = None
    if image.mode in ("RGBA", "LA"):
        alpha, planes = planes[..., -1], planes[..., :-1]
        planes = planes[..., 0] if image.mode == "LA" else planes
    empty = len(exif) <= len(b"Exif\0\0") + 14  # nothing but its header
    return Picture(planes, alpha, None if mode == "CMYK" else icc or None, None if empty else exif)


def _plain(image: Image.Image) -> Image.Image:
    """The image in one of the modes RGB, RGBA, L, LA and I;16."""
    mode = image.mode
    if mode in ("I", "I;16B", "I;16L", "I;16N"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise PictureError("the picture has 32-bit values: grey pictures may have 8 or 16 bits")
        return Image.fromarray(values.astype(np.uint16))
    if "transparency" in image.info and mode in ("1", "L", "RGB", "P"):
        target = "RGBA" if mode in ("P", "RGB") else "LA"
    else:
        target = PLAIN.get(mode, CONVERTED.get(mode, mode))
    if target not in ("RGB", "RGBA", "L", "LA", "I;16"):
        raise PictureError(f"pictures of mode {mode} can't be coded: convert them to RGB, grey, or 16-bit grey")
    if mode in CONVERTED:
        _note(f"the picture's mode {mode} was converted to {target}")
    return image if mode == target else image.convert(target)


def _note(text: str) -> None:
    warnings.warn(text, PictureNotice, stacklevel=4)


def to_image(picture: Picture) -> Image.Image:
    """The Pillow image of a picture; metadata in `info["icc_profile"]` and `info["exif"]`."""
    planes = picture.pixels
    image = Image.fromarray(planes if picture.alpha is None else np.dstack((planes, picture.alpha)))
    for key, value in (("icc_profile", picture.icc), ("exif", picture.exif)):
        if value:
            image.info[key] = value
    return image


def pack_alpha(alpha: NDArray[np.uint8]) -> bytes:
    """Lossless: a grey PNG."""
    stream = io.BytesIO()
    Image.fromarray(alpha).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def unpack_alpha(data: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Alpha [H, W] of `size`. Raises CorruptError for anything else; the size is checked before decoding."""
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG",))
        if (image.height, image.width) != size or image.mode != "L":
            raise CorruptError(f"the alpha plane is {image.width} x {image.height} {image.mode}, not {size[::-1]} L")
        return np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise CorruptError(f"the alpha plane can't be decoded: {error}") from error
