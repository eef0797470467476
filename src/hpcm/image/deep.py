"""Files that Pillow reads in part or not at all, by packages of the extra `photos`, where they are installed.

AVIF of 10 and 12 bits                 imagecodecs (libavif)
TIFF of 16 bits in planes              imagecodecs (libtiff)
JPEG 2000 of 9 to 16 bits in colour    imagecodecs (OpenJPEG)
HEIC of 8 to 12 bits                   pillow_heif (libheif)
"""

from __future__ import annotations

import re
from importlib.util import find_spec

import numpy as np

from .planes import Samples

INSTALL = "pip install 'hpcm-codec[photos]'"
ADVICE = f"; all are with: {INSTALL}"
HEIC = re.compile(rb"....ftyp(hei[cmxs]|hev[cmxs]|mif1|msf1)", re.DOTALL)


def avif(data: bytes) -> Samples | None:
    """Samples [H, W] or [H, W, 3 or 4] of an AVIF, as they are in the file, not turned. None without imagecodecs."""
    if not find_spec("imagecodecs"):
        return None
    import imagecodecs

    return imagecodecs.avif_decode(data)


def tiff(data: bytes, page: int) -> Samples | None:
    """Samples [H, W, C] of a TIFF whose channels lie in planes. None without imagecodecs."""
    if not find_spec("imagecodecs"):
        return None
    import imagecodecs

    return np.ascontiguousarray(np.moveaxis(imagecodecs.tiff_decode(data, index=page), 0, -1))


def jpeg2000(data: bytes) -> Samples | None:
    """Samples [H, W, 2 to 4] of a JPEG 2000. None without imagecodecs."""
    if not find_spec("imagecodecs"):
        return None
    import imagecodecs

    return imagecodecs.jpeg2k_decode(data)


def heif(data: bytes, bit_depth: int) -> Samples:
    """Samples [H, W] or [H, W, 3 or 4] of a HEIC of more than 8 bits, upright."""
    import pillow_heif

    file = pillow_heif.open_heif(data, convert_hdr_to_8bit=False)
    return np.asarray(file) >> (16 - bit_depth)  # libheif shifts them to the upper end


def open_heif() -> bool:
    """Lets Pillow open HEIC, in all of the process. False without pillow_heif."""
    if not find_spec("pillow_heif"):
        return False
    import pillow_heif

    pillow_heif.register_heif_opener()
    return True
