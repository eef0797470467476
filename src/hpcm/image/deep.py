"""Files that Pillow reads in part or not at all, by packages of the extra `photos`, where they are installed.

AVIF of 10 and 12 bits                 imagecodecs (libavif)
TIFF of 16 bits in planes              imagecodecs (libtiff)
JPEG 2000 of 9 to 16 bits in colour    imagecodecs (OpenJPEG)
colours of 9 to 16 bits in sRGB        imagecodecs (littleCMS)
HEIC of 8 to 12 bits                   pillow_heif (libheif)
"""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .planes import Samples

INSTALL = "pip install 'hpcm-codec[photos]'"
ADVICE = f"; all are with: {INSTALL}"
HEIC = re.compile(rb"....ftyp(hei[cmxs]|hev[cmxs]|mif1|msf1)", re.DOTALL)


def _imagecodecs() -> Any:
    """The package, or None."""
    return import_module("imagecodecs") if find_spec("imagecodecs") else None


def avif(data: bytes) -> Samples | None:
    """Samples [H, W] or [H, W, 3 or 4] of an AVIF, as they are in the file, not turned. None without imagecodecs."""
    package = _imagecodecs()
    return package and package.avif_decode(data)


def tiff(data: bytes, page: int) -> Samples | None:
    """Samples [H, W, C] of a TIFF whose channels lie in planes. None without imagecodecs."""
    package = _imagecodecs()
    return package and np.ascontiguousarray(np.moveaxis(package.tiff_decode(data, index=page), 0, -1))


def jpeg2000(data: bytes) -> Samples | None:
    """Samples [H, W, 2 to 4] of a JPEG 2000. None without imagecodecs."""
    package = _imagecodecs()
    return package and package.jpeg2k_decode(data)


def has_colours() -> bool:
    """Whether `srgb_of` has its package."""
    return find_spec("imagecodecs") is not None


def srgb_of(colours: NDArray[np.float32], icc: bytes, space: str) -> NDArray[np.float32]:
    """Colours of 0 to 1, [H, W, 3] or grey [H, W], as sRGB [H, W, 3], which may be below 0 or above 1.

    Relative colorimetric with black point compensation, as colours.py has it for 8 bits. In floats littleCMS computes
    each colour; of 16-bit integers it would interpolate between a few, and be off by up to 17 of 255 in dark ones.
    Raises RuntimeError for a profile that can't be applied. `space`: of the profile, rgb or gray.
    """
    import imagecodecs

    return imagecodecs.cms_transform(
        np.ascontiguousarray(colours),
        icc,
        imagecodecs.cms_profile("srgb"),
        colorspace=space,
        outcolorspace="rgb",
        intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
        flags=imagecodecs.CMS.FLAGS.BLACKPOINTCOMPENSATION,
    )


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
