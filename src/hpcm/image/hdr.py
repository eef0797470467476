"""The HDR gain map of a picture, as an object: its own picture, and the numbers that say what its samples mean.

A picture that was read or decoded has it in `info["gain_map"]`. It belongs to the picture as that is: upright, and if a
region was decoded, to the region.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import HPCMError, PictureError
from ..util.notes import OnNote
from .metadata.gain_map import NOT_KEPT, GainMapMetadata, StoredGainMap
from .planes import Turn

MODES = ("L", "RGB")
MAX_STRETCH = 1.05  # of a gain map's shape beside the picture's: more means that the picture was cut or turned
JPEG_FORMATS = ("JPEG", "MPO")  # Pillow's names

Size = tuple[int, int]  # width, height


class GainMap:
    """A gain map. It is decoded when its picture is first asked for.

    Args:
        iso: the binary GainMapMetadata of ISO 21496-1, such as `GainMapMetadata.to_iso()` gives. Raises GainMapError.
        image: its picture in the mode L or RGB, or what gives that. Its size needn't be that of the picture it is for.
    """

    def __init__(self, iso: bytes, image: Image.Image | Callable[[], Image.Image]) -> None:
        self.iso = iso
        self.metadata = GainMapMetadata.from_iso(iso)
        self._image = image

    @property
    def image(self) -> Image.Image:
        """Raises HPCMError where it is stored and can't be decoded."""
        if not isinstance(self._image, Image.Image):
            self._image = self._image()
        return self._image

    def changed(self, change: Callable[[Image.Image], Image.Image]) -> GainMap:
        """The same with another picture, which is made of this one when it is asked for."""
        return GainMap(self.iso, lambda: change(self.image))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled with its picture: what would decode it belongs to the process."""
        return GainMap, (self.iso, self.image)


def read_gain_map(stored: StoredGainMap, format: str | None, size: Size, on_note: OnNote) -> GainMap | None:
    """A gain map from a picture's file; None, with a note, where it can't be decoded.

    Args:
        format: of the file, Pillow's name.
        size: of the picture in pixels: a gain map has no more.
    """
    try:
        image = _opened(stored.file, "JPEG" if format in JPEG_FORMATS else str(format), size)
    except MemoryError:
        raise
    except UnidentifiedImageError:  # whose message names an object
        on_note(NOT_KEPT.format("its picture can't be decoded: Pillow doesn't know what it is"))
        return None
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged data
        on_note(NOT_KEPT.format(f"its picture can't be decoded: {error}"))
        return None
    return GainMap(stored.iso, image)


def _opened(file: bytes, format: str, size: Size) -> Image.Image:
    """The picture of a gain map, decoded. Raises what Pillow raises, and PictureError."""
    with Image.open(io.BytesIO(file), formats=[format]) as image:
        if image.width * image.height > size[0] * size[1]:
            raise PictureError(f"it has {image.width} x {image.height} pixels, more than the picture")
        if image.mode not in MODES:
            raise PictureError(f"its mode is {image.mode}, and {' or '.join(MODES)} is allowed")
        image.load()
        plain = Image.frombytes(image.mode, image.size, image.tobytes())  # without other metadata
        if profile := image.info.get("icc_profile"):
            plain.info["icc_profile"] = profile
    return plain


def fitted(gain_map: GainMap, size: Size, on_note: OnNote) -> GainMap | None:
    """A gain map, decoded and no larger than its picture, which may have been reduced since.

    None, with a note, where it can't be decoded or no longer has the picture's shape.

    Args:
        size: of the picture in pixels.
    """
    try:
        own = gain_map.image
    except HPCMError as error:
        on_note(NOT_KEPT.format(f"its picture can't be decoded: {error}"))
        return None
    if own.mode not in MODES:
        on_note(NOT_KEPT.format(f"its mode is {own.mode}, and {' or '.join(MODES)} is allowed"))
        return None
    if not _has_shape(own.size, size):
        on_note(NOT_KEPT.format(f"it has {own.width} x {own.height} pixels, the picture {size[0]} x {size[1]}"))
        return None
    if own.width * own.height > size[0] * size[1]:
        return gain_map.changed(lambda own: own.resize(size, Image.Resampling.BOX))
    return gain_map


def _has_shape(own: Size, other: Size) -> bool:
    """Whether two pictures have the same ratio of sides, to within MAX_STRETCH or a pixel of the first."""
    width, height = own[1] * other[0] / other[1], own[0] * other[1] / other[0]  # that one side asks of the other
    stretch = max(own[0] / width, width / own[0])
    return stretch <= MAX_STRETCH or abs(own[0] - width) <= 1 or abs(own[1] - height) <= 1


def turned(gain_map: Image.Image, turn: Turn) -> Image.Image:
    """A gain map's picture after a turn of planes.py."""
    result = Image.fromarray(np.ascontiguousarray(turn(np.asarray(gain_map))))
    result.info = gain_map.info
    return result


def cropped(gain_map: Image.Image, box: tuple[int, int, int, int], size: Size) -> Image.Image:
    """The part of a gain map's picture that belongs to a box of the picture, whose size is (width, height).

    Its borders may lie within samples, so it is sampled anew, at the resolution that it has.
    """
    across, down = gain_map.width / size[0], gain_map.height / size[1]
    part = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
    own = (max(round(part[2] - part[0]), 1), max(round(part[3] - part[1]), 1))
    result = gain_map.resize(own, Image.Resampling.BILINEAR, box=part)
    result.info = gain_map.info
    return result
