"""imageio opens and saves .hpcm files once this is imported, with more than 8 bits of colours too, which Pillow lacks.

    import hpcm.imageio
    import imageio.v3 as iio

    array = iio.imread("photo.hpcm")  # [H, W] (grey), [H, W, 3] (RGB), [H, W, 2 or 4] (with alpha); uint8 or uint16
    iio.imwrite("photo.hpcm", array, quality=50)

`imread` takes what `hpcm.decompress_array` takes, and `imwrite` what `hpcm.compress` takes. Where no
name tells the format, say `extension=".hpcm"`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from imageio import RETURN_BYTES
from imageio.config import FileExtension, known_extensions, known_plugins
from imageio.config.plugins import PluginConfig
from imageio.core.request import InitializationError, IOMode
from imageio.core.v3_plugin_api import ImageProperties
from numpy.typing import ArrayLike

from .defaults import SUFFIX
from .format.container import LONGEST_START, is_hpcm, no_hpcm, unpack_head
from .image.metadata.record import Metadata
from .image.picture import info_of
from .image.planes import Samples

NAME = "hpcm"  # imageio's for the plugin


class HPCMPlugin:
    """A .hpcm file as imageio sees it: one picture. For the methods see imageio.core.v3_plugin_api.PluginV3."""

    def __init__(self, request: Any) -> None:
        """Raises InitializationError, upon which imageio tries another plugin."""
        self.request = request
        if request.mode.io_mode == IOMode.write:
            if request.extension != SUFFIX:
                raise InitializationError(
                    f"{request.extension!r} isn't {SUFFIX!r}, the suffix or extension of .hpcm files"
                )
        elif not is_hpcm(request.firstbytes):
            raise InitializationError(no_hpcm(request.firstbytes[:LONGEST_START]))

    def read(self, *, index: Any = 0, **how: Any) -> Samples:
        """Decodes; `index=...` gives [1, H, W, ...]. Raises HPCMError, and ValueError for another picture's index."""
        from .codec.api import decompress_array

        _check_index(index)
        array = decompress_array(self._data(), **how)
        return array[None] if index is ... else array

    def iter(self, **how: Any) -> Iterator[Samples]:
        yield self.read(**how)

    def write(self, ndimage: ArrayLike, **how: Any) -> bytes | None:
        """Compresses. Returns the bytes if they are asked for. Raises HPCMError."""
        from .codec.api import compress

        data = compress(np.asarray(ndimage), **how)
        self.request.get_file().write(data)
        return data if self.request.raw_uri == RETURN_BYTES else None

    def properties(self, index: Any = 0) -> ImageProperties:
        """Shape and type, from the head alone. Raises FormatError."""
        _check_index(index)
        head = unpack_head(self._data())
        channels = (3 if head.colour == "rgb" else 1) + (head.alpha is not None)
        shape = (head.height, head.width, channels) if channels > 1 else (head.height, head.width)
        dtype = np.dtype(np.uint8 if head.bit_depth == 8 else np.uint16)
        if index is ...:
            return ImageProperties((1, *shape), dtype, n_images=1, is_batch=True)
        return ImageProperties(shape, dtype)

    def metadata(self, index: Any = 0, exclude_applied: bool = True) -> dict[str, Any]:
        """What Pillow's `info` says of the file. Nothing of it is applied to the samples. Raises FormatError."""
        _check_index(index)
        head = unpack_head(self._data())
        return {**info_of(Metadata.of(head), head.bit_depth), "model": head.model, "level": head.level}

    def close(self) -> None:
        self.request.finish()

    def __enter__(self) -> HPCMPlugin:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _data(self) -> bytes:
        file = self.request.get_file()
        file.seek(0)
        return bytes(file.read())


def _check_index(index: Any) -> None:
    if index not in (0, None, ...):
        raise ValueError(f"a .hpcm file has one picture, 0; {index!r} was asked for")


known_plugins[NAME] = PluginConfig(name=NAME, class_name=HPCMPlugin.__name__, module_name=__name__)
known_extensions[SUFFIX] = [FileExtension(extension=SUFFIX, priority=[NAME], name="HPCM learned image compression")]
