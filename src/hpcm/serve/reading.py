"""Pictures of strangers, opened with care."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from ..coding.config import LATENT_STRIDE, Config, receptive_halo
from ..container import is_hpcm
from ..errors import PictureError
from ..fields import Box, Container
from .refusal import TOO_LARGE, Refused

# Pillow's names of what is opened. Others need programs (EPS) or are seldom tried with damaged files.
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "PPM", "JPEG2000")


def check_picture(data: bytes, max_pixels: int) -> None:
    """Whether a picture file may be decoded, from its header. Raises PictureError, Refused."""
    if is_hpcm(data):
        raise PictureError("it is a .hpcm file already")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
    except UnidentifiedImageError:
        raise PictureError(f"it is no picture in an accepted format: {', '.join(FORMATS)}") from None
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
