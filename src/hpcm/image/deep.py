"""Samples of 10 and 12 bits that Pillow reads as 8: by libavif, of the package imagecodecs, if that is installed."""

from __future__ import annotations

from importlib.util import find_spec

from .planes import Samples

ADVICE = ": pip install 'hpcm-codec[photos]' keeps them"


def avif(data: bytes) -> Samples | None:
    """Samples [H, W, 3 or 4] of an AVIF, as they are in the file, not turned. None without imagecodecs."""
    if not find_spec("imagecodecs"):
        return None
    import imagecodecs

    return imagecodecs.avif_decode(data)
