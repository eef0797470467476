"""Pictures of strangers: opened with care, reduced, and written for the answer."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from ..coding.config import LATENT_STRIDE, Config, receptive_halo
from ..container import is_hpcm
from ..errors import PictureError, UsageError
from ..fields import Box, Container
from .refusal import TOO_LARGE, Refused

# Pillow's names of what is opened. Others need programs (EPS) or are seldom tried with damaged files.
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "PPM", "JPEG2000")
SAVED: dict[str, dict[str, Any]] = {  # as the command line writes them
    "png": {"compress_level": 3},
    "webp": {"lossless": True},
    "jpeg": {"quality": 95, "subsampling": 0},
}


def check_picture(data: bytes, max_pixels: int) -> None:
    """Whether a picture file may be decoded, from its header. Raises PictureError, Refused."""
    if is_hpcm(data):
        raise PictureError("it is a .hpcm file already")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
    except UnidentifiedImageError:
        raise PictureError(f"it is no picture of a kind that is taken here: {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise Refused(TOO_LARGE, f"the picture has over {max_pixels:,} pixels") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        raise PictureError(f"the picture is damaged: {error}") from error
    if width * height > max_pixels:
        raise Refused(TOO_LARGE, f"the picture has {width} x {height} pixels, over {max_pixels:,}")


def check_file(container: Container, config: Config, box: Box | None, max_pixels: int) -> None:
    """Whether a .hpcm file may be decoded: all the tiles that are needed count, and an alpha channel counts in full."""
    whole = 0, 0, container.width, container.height
    wanted = whole if box is None or container.alpha is not None else box
    reach, side = receptive_halo(config) * LATENT_STRIDE, container.tile_side
    columns = _tiles(wanted[0] - reach, wanted[2] + reach, side, container.width)
    rows = _tiles(wanted[1] - reach, wanted[3] + reach, side, container.height)
    if columns * rows > max_pixels:
        raise Refused(TOO_LARGE, f"the file needs {columns} x {rows} pixels to be decoded, over {max_pixels:,}")


def _tiles(begin: int, end: int, side: int, length: int) -> int:
    """Pixels along one axis of the tiles that `begin` to `end` touches."""
    return min(-(-end // side) * side, length) - max(begin // side * side, 0)


def draft_of(container: Container, side: int | None) -> tuple[int, int] | None:
    """The picture's size when its longer side has `side` pixels."""
    if side is None:
        return None
    scale = min(side / max(container.width, container.height), 1)
    return max(round(container.width * scale), 1), max(round(container.height * scale), 1)


def fitted(image: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    """The image with no more than `size` pixels a side."""
    if size is None or (image.width <= size[0] and image.height <= size[1]):
        return image
    wide = image.mode == "I;16"  # which Pillow resizes only as 32-bit integers
    small = (image.convert("I") if wide else image).resize(size, Image.Resampling.LANCZOS)
    small = small.convert("I;16") if wide else small
    small.info = image.info
    return small


def written(image: Image.Image, format: str) -> bytes:
    """The bytes of a picture file, with its metadata as far as the format has a place for it. Raises UsageError."""
    metadata = {key: image.info[key] for key in ("icc_profile", "exif", "xmp") if image.info.get(key)}
    if format == "png":
        metadata["pnginfo"] = chunks = PngInfo()
        if cicp := image.info.get("cicp"):
            chunks.add(b"cICP", cicp)
        if xmp := metadata.pop("xmp", None):
            chunks.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
        for keyword, text in image.info.get("comments", {}).items():
            chunks.add_text(keyword, text)
    out = io.BytesIO()
    try:
        image.save(out, format, **metadata, **SAVED[format])
    except MemoryError:
        raise
    except Exception as error:  # "cannot write mode RGBA as JPEG", or EXIF that the format can't take
        raise UsageError(f"format: the picture can't be written as {format}: {error}; take png") from error
    return out.getvalue()
