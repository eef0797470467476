"""What the codec keeps of a picture: pixels, alpha and metadata; Pillow images in and out.

| input (Pillow mode)            | kept as                        | comes back as |
|--------------------------------|--------------------------------|---------------|
| RGB, RGBX                      | 8-bit colour                   | RGB           |
| 1, L                           | 8-bit grey                     | L             |
| I;16, I (0..65535)             | 16-bit grey                    | I;16          |
| I;16 with a transparent value  | 8-bit grey, with a note        | LA            |
| RGBA, RGBa, LA, La, tRNS       | colour or grey, lossless alpha | RGBA, LA      |
| P, PA (palette)                | as RGB or RGBA, with a note    | RGB, RGBA     |
| CMYK, YCbCr, LAB, HSV          | as RGB, with a note            | RGB           |

What Pillow reads wrongly is corrected or refused by samples.py. Pillow reads 16-bit colour as 8-bit, so that is what is
kept of it. The ICC profile is carried along untouched, except for CMYK and LAB, whose profile wouldn't fit the
converted pixels. The orientation is applied to the pixels. What else belongs to the picture is kept or noted: see
metadata/.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from ..errors import CorruptError, PictureError
from ..format.fields import Container, check_size
from ..util.notes import OnNote
from .metadata.gather import ImageInfo, ImageMetadata, attached_file, gather
from .metadata.record import Metadata
from .metadata.tiff import OTHER_METADATA
from .samples import BEYOND_16_BITS, load_samples

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


@dataclass(frozen=True)
class Picture(Metadata):
    """Pixels uint8 [H, W, 3] or uint8/uint16 [H, W] (grey), alpha uint8 [H, W] or None, and what belongs to them.

    `notes` are lines about what was converted, or isn't kept, of the image that it was made of.
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    alpha: NDArray[np.uint8] | None = None
    notes: tuple[str, ...] = ()

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
    notes: list[str] = []
    try:
        if (frames := _frames(image)) > 1:
            notes.append(f"the picture has {frames} frames: only the current one is kept")
        file = file_of(image)  # before Pillow closes it
        samples = load_samples(image, notes.append)
        image_metadata = _metadata(image, file, frames)
        notes += image_metadata.notes
        image = _convert_mode(samples, notes.append)
        turn = UPRIGHT.get(image_metadata.orientation)
        planes = np.asarray(image if turn is None else image.transpose(turn))
    except (PictureError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        raise PictureError(f"the picture can't be read: {error}") from error
    alpha = None
    if image.mode in ("RGBA", "LA"):
        alpha, planes = planes[..., -1], planes[..., :-1]
        planes = planes[..., 0] if image.mode == "LA" else planes
    return Picture(planes, alpha, tuple(notes), **image_metadata.metadata.present)


def _frames(image: Image.Image) -> int:
    try:
        return getattr(image, "n_frames", 1)
    except (OSError, ValueError, AttributeError, EOFError):  # the file is closed, or damaged after this frame
        return 1


def file_of(image: Image.Image) -> bytes | None:
    """The file of an image, or None. To be called before the image is decoded, because then Pillow closes the file.

    One that is closed is read again by its name, if what Pillow knows of the image still comes from it.
    """
    data, name = attached_file(image), getattr(image, "filename", "")
    if data is not None or not image.format or not name:
        return data
    try:
        data = Path(os.fsdecode(name)).read_bytes()
        with Image.open(io.BytesIO(data)) as again:
            same = (again.format, again.size) == (image.format, image.size)
            keys = {*again.info, "exif", "xmp", "icc_profile"}
            return data if same and all(image.info.get(key) == again.info.get(key) for key in keys) else None
    except Exception:  # it is gone, or another one: Pillow raises nearly anything
        return None


def _metadata(image: Image.Image, file: bytes | None, frames: int) -> ImageMetadata:
    """What belongs to a decoded image besides its pixels."""
    tags, lost = _tags(image) if file is None and hasattr(image, "tag_v2") else ({}, ())
    info = ImageInfo(
        info=image.info | tags,
        texts=getattr(image, "text", {}),
        format=image.format,
        file=file,
        directory=getattr(getattr(image, "tag_v2", None), "offset", None),
        frames=frames,
        size=(image.height, image.width),
        lost=lost,
    )
    return gather(info, foreign_profile=image.mode in FOREIGN_PROFILE)


def _tags(image: Image.Image) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """EXIF of a TIFF whose file is closed, as Pillow writes it, and the names of other metadata."""
    try:
        exif = image.getexif()
        others = [tag for tag in exif if tag in OTHER_METADATA]
        for tag in others:
            del exif[tag]
        return {"exif": exif.tobytes()}, tuple(OTHER_METADATA[tag] for tag in others)
    except Exception:  # parsers and writers of EXIF raise nearly anything on damaged tags
        return {}, ("EXIF of a TIFF",)


def _convert_mode(image: Image.Image, on_note: OnNote) -> Image.Image:
    """The image in one of the modes RGB, RGBA, L, LA and I;16."""
    mode = image.mode
    if mode in WIDE:
        return _convert_grey16(image, on_note)
    if image.has_transparency_data and mode in ("1", "L", "RGB", "P"):
        target = "RGBA" if mode in ("P", "RGB") else "LA"
    else:
        target = PLAIN.get(mode, CONVERTED.get(mode, mode))
    if target not in ("RGB", "RGBA", "L", "LA"):
        raise PictureError(f"pictures of mode {mode} can't be coded: convert them to RGB, grey, or 16-bit grey")
    if mode in CONVERTED:
        on_note(f"the picture's mode {mode} was converted to {target}")
    return image if mode == target else image.convert(target)


def _convert_grey16(image: Image.Image, on_note: OnNote) -> Image.Image:
    """As I;16, or as LA where a value that some pixels have is transparent."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise PictureError(BEYOND_16_BITS)
    transparent = values == image.info.get("transparency", -1)
    if transparent.any():
        on_note("the picture has 16 bits and a transparent value: 8 bits are kept, since it has alpha")
        grey = eight_bits(image)
        grey.putalpha(Image.fromarray(np.where(transparent, 0, 255).astype(np.uint8)))
        return grey
    return image if image.mode == "I;16" else Image.fromarray(values.astype(np.uint16))


def to_image(picture: Picture) -> Image.Image:
    """The Pillow image of a picture, with metadata in `info`: see `Metadata.info`."""
    planes = picture.pixels
    image = Image.fromarray(planes if picture.alpha is None else np.dstack((planes, picture.alpha)))
    image.info.update(picture.info())
    return image


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
