"""Untrusted pictures, opened within limits."""

from __future__ import annotations

from ..codec.tiles import Tiling
from ..errors import TooLargeError
from ..format.fields import Box, Container
from ..image.picture import Picture
from ..image.read import read_picture
from ..model.config import LATENT_STRIDE, Config, receptive_halo
from .status import TOO_LARGE, Refused

# Pillow's names of what is opened. Others need programs (EPS) or are seldom tried with damaged files.
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "PPM", "JPEG2000")


def opened(data: bytes, max_pixels: int, strip: str | None, icc: str | None) -> Picture:
    """A picture from the bytes of its file. `strip`, `icc`: as for `read_picture`. Raises PictureError, Refused."""
    try:
        return read_picture(data, formats=FORMATS, max_pixels=max_pixels, strip=strip, icc=icc)
    except TooLargeError as error:
        pixels = f"over {max_pixels:,} pixels"
        if error.size:
            width, height = error.size
            pixels = f"{width} x {height} pixels, over {max_pixels:,}"
        raise Refused(TOO_LARGE, f"the picture has {pixels}") from None


def check_file(container: Container, config: Config, box: Box | None, max_pixels: int) -> None:
    """Whether a .hpcm file may be decoded: all the tiles that are needed count, and an alpha channel counts in full."""
    whole = 0, 0, container.width, container.height
    wanted = whole if box is None or container.alpha is not None else box
    if container.residual is not None:
        wanted = Tiling(config, (container.height, container.width), container.tile_side).of_whole_tiles(wanted)
    reach, side = receptive_halo(config) * LATENT_STRIDE, container.tile_side
    columns = _tiles(wanted[0] - reach, wanted[2] + reach, side, container.width)
    rows = _tiles(wanted[1] - reach, wanted[3] + reach, side, container.height)
    if columns * rows > max_pixels:
        raise Refused(TOO_LARGE, f"the file needs {columns} x {rows} pixels to be decoded, over {max_pixels:,}")


def _tiles(begin: int, end: int, side: int, length: int) -> int:
    """Pixels along one axis of the tiles that `begin` to `end` touches."""
    return min(-(-end // side) * side, length) - max(begin // side * side, 0)
