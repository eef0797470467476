"""The gain map of a picture: a .hpcm file within its .hpcm file.

GainMap (image/hdr.py) --(compress)--> chunk "u": its numbers, a .hpcm file of its picture --(stored)--> GainMap
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image

from ..errors import FormatError, HPCMError
from ..format.container import unpack
from ..format.fields import MAX_METADATA, Box, Container
from ..image.hdr import GainMap, cropped
from ..image.metadata.gain_map import NOT_KEPT, GainMapError, pack_chunk, unpack_chunk
from ..image.metadata.record import Metadata
from ..image.picture import Picture
from ..util.notes import OnNote
from ..util.parallel import Check
from .encoder import Encoding
from .engine import LoadedEngine
from .lossless import smallest_file


def compressed(
    gain_map: GainMap,
    loaded: LoadedEngine,
    level: int,
    max_error: int | None,
    check: Check | None,
    on_note: OnNote,
) -> bytes | None:
    """The chunk of a gain map, coded by a model at one of its levels; None, with a note, where it is too long.

    With `max_error` no sample of it is off by more, which is checked. `check` ends the work by raising.

    At the picture's own level a phone's gain map takes 4 to 6% of the file, and its error in stops is a quarter of the
    picture's (benchmarks/gain_maps.py).
    """
    image = gain_map.image
    # Gains apply in the colour space of this profile, or else in that of the picture.
    profile = None if gain_map.metadata.use_base_colour_space else image.info.get("icc_profile")
    picture = Picture(np.asarray(image), icc=profile)
    job = Encoding(loaded, picture, progressive=False, check=check)
    chunk = pack_chunk(gain_map.iso, job.file(level) if max_error is None else smallest_file(job, max_error, level))
    if len(chunk) > MAX_METADATA:
        on_note(NOT_KEPT.format(f"it takes {len(chunk):,} bytes, and {MAX_METADATA:,} are allowed"))
        return None
    return chunk


def stored(
    container: Container, decode: Callable[[Container], Image.Image], box: Box | None, on_note: OnNote
) -> GainMap | None:
    """The gain map of a .hpcm file; None if it has none or, with a note, if it breaks a bound.

    Args:
        decode: of the gain map's own file. It is called when the gain map's picture is asked for.
        box: of the picture, to which the gain map is cut.
    """
    data = Metadata.of(container).gain_map
    if data is None:
        return None
    try:
        iso, file = unpack_chunk(data)
        own = unpack(file)
        _check(own, container)
        gain_map = GainMap(iso, partial(decode, own))
    except (GainMapError, HPCMError) as error:
        on_note(f"the file's HDR gain map is damaged and left out: {error}")
        return None
    if box is None:
        return gain_map
    return gain_map.changed(lambda image: cropped(image, box, (container.width, container.height)))


def _check(own: Container, picture: Container) -> None:
    """Raises FormatError for a gain map's file that has more than it may have."""
    if own.width * own.height > picture.width * picture.height:
        raise FormatError(f"it has {own.width} x {own.height} pixels, more than the picture")
    if own.bit_depth != 8 or own.alpha is not None or own.exif is not None or own.ancillary:
        raise FormatError("it has more than 8 bits, alpha or metadata")
