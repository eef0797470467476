"""Where pictures and .hpcm files come from: paths, open files, bytes, arrays, Pillow images."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from ..errors import PictureError, TooLargeError, UsageError
from ..format.container import LONGEST_START, is_hpcm, picture_kind
from ..format.fields import MAX_ENCODED, check_size
from ..util.notes import OnNote
from . import deep
from .metadata.gather import attach
from .picture import Picture, adjusted, from_image, picture_of_planes, taken_apart
from .planes import peak_of, split
from .samples import READERS

File = bytes | bytearray | memoryview | str | os.PathLike[str] | IO[bytes]  # a string is a path, or a URL of fsspec's
Source = Picture | Image.Image | NDArray[Any] | File


def lift_pillows_bounds() -> None:
    """Makes Pillow open what can be compressed, in all of the process. For programs, not for `import hpcm`.

    Its own bounds stop at large photographs (2^28 / 3 pixels) and at their XMP and profiles (1 MiB).
    """
    Image.MAX_IMAGE_PIXELS = MAX_ENCODED
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # of a compressed text or profile, to that of all


def bytes_of(source: File) -> bytes:
    """The bytes of a file, or what an open file still has. Raises OSError, TypeError, and UsageError for a URL."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if isinstance(source, str) and "://" in source:
        return _behind_url(source)
    if isinstance(source, (str, os.PathLike)):
        return Path(source).read_bytes()
    data = source.read() if hasattr(source, "read") else None
    if not isinstance(data, bytes):
        raise TypeError(f"expected bytes, a path or a file open for reading bytes, not {type(source).__name__}")
    return data


def _behind_url(url: str) -> bytes:
    """The bytes of a file that fsspec opens. Raises OSError, UsageError."""
    try:
        import fsspec

        with fsspec.open(url, "rb") as file:
            return bytes(file.read())
    except (ImportError, ValueError) as error:  # fsspec or what it needs for this URL is missing; it knows no such URLs
        raise UsageError(f"{url} can't be opened: {error}") from error


def picture_of(
    source: Source, bit_depth: int | None = None, *, strip: str | None = None, icc: str | None = None
) -> Picture:
    """What is compressed of a picture.

    Args:
        source: an image; an array, uint8 or uint16, [H, W] (grey), [H, W, 3] (RGB) or [H, W, 2 or 4] (with alpha);
            or the file of a picture in any format that Pillow reads.
        bit_depth: of an array of uint16, 9 to 16: its values are 0 to 2^bit_depth - 1. By default 16.
        strip, icc: as for `from_image`; an array has neither metadata nor a profile.

    Raises OSError, PictureError, TypeError.
    """
    if bit_depth is not None and not isinstance(source, np.ndarray):
        raise PictureError("a bit depth is given for arrays alone: pictures have their own")
    if isinstance(source, Picture):
        notes = list(source.notes)
        return replace(adjusted(source, strip, icc, notes.append), notes=tuple(notes))
    if isinstance(source, Image.Image):
        return from_image(source, strip=strip, icc=icc)
    if isinstance(source, np.ndarray):
        return _picture_of_array(source, bit_depth)
    advice = ": if you trust it, allow more with PIL.Image.MAX_IMAGE_PIXELS"
    return read_picture(bytes_of(source), advice, strip=strip, icc=icc)


def _picture_of_array(array: NDArray[Any], bit_depth: int | None) -> Picture:
    planes = array.shape[2] if array.ndim == 3 else 1
    array = array.astype(array.dtype.newbyteorder("="), copy=False)  # big-endian files give arrays of their order
    if array.ndim not in (2, 3) or not 1 <= planes <= 4 or array.dtype not in (np.uint8, np.uint16) or not array.size:
        shapes = "uint8 or uint16, [H, W] or [H, W, 1 to 4]"
        raise PictureError(f"an array must be {shapes}, not {array.dtype} {array.shape}")
    depths = (8,) if array.dtype == np.uint8 else range(9, 17)
    bit_depth = depths[-1] if bit_depth is None else bit_depth
    if bit_depth not in depths:
        raise PictureError(f"an array of {array.dtype} has a bit depth of {depths[0]} to {depths[-1]}, not {bit_depth}")
    if array.max() > peak_of(bit_depth):
        raise PictureError(f"the array has the value {array.max()}: {bit_depth} bits go to {peak_of(bit_depth)}")
    check_size(array.shape[1], array.shape[0])
    return picture_of_planes(split(array, bit_depth))


def read_picture(
    data: bytes,
    advice: str = "",
    *,
    formats: tuple[str, ...] | None = None,
    max_pixels: int | None = None,
    strip: str | None = None,
    icc: str | None = None,
) -> Picture:
    """A picture from the bytes of its file.

    The bytes may be a picture in more than one format, each of another size. So they are opened once, and what is
    judged here is what the caller gets.

    Args:
        advice: for a picture of too many pixels.
        formats: Pillow's names of those that are accepted; by default all that it reads.
        max_pixels: by default Pillow's own bound, `PIL.Image.MAX_IMAGE_PIXELS`.
        strip, icc: as for `from_image`.

    Raises PictureError, of which TooLargeError is one.
    """
    if is_hpcm(data):
        raise PictureError("it is a .hpcm file already; `hpcm decompress` makes a picture of it")
    most = Image.MAX_IMAGE_PIXELS if max_pixels is None else max_pixels
    notes: list[str] = []
    try:
        image = _opened(data, formats)
        _check_size(image.size, most, advice)
        check_size(*image.size)
        _check_format(image, notes.append)
        attach(image, data)
        picture = taken_apart(image, lambda size: _check_size(size, most, advice), strip=strip, icc=icc)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooLargeError(f"it has more than {most:,} pixels{advice}") from error
    except (MemoryError, PictureError):
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        raise PictureError(f"the picture is damaged: {error}") from error
    return replace(picture, notes=(*notes, *picture.notes), file_size=len(data))


def _opened(data: bytes, formats: tuple[str, ...] | None) -> Image.Image:
    """Raises PictureError where Pillow has no reader, and whatever Pillow raises."""
    try:
        return Image.open(io.BytesIO(data), formats=formats)
    except UnidentifiedImageError:
        if deep.HEIC.match(data) and formats is None and "HEIF" not in Image.OPEN:
            if deep.open_heif():
                return _opened(data, formats)
            raise PictureError(f"it is a HEIC, which isn't read without: {deep.INSTALL}") from None
        if formats is None and (kind := picture_kind(data[:LONGEST_START])):
            raise PictureError(f"it is {kind} that Pillow can't read: damaged, or of an unknown kind") from None
        accepted = "that Pillow can read" if formats is None else f"in an accepted format: {', '.join(formats)}"
        raise PictureError(f"it is no picture {accepted}") from None


def _check_format(image: Image.Image, on_note: OnNote) -> None:
    """Refuses programs, and notes a format whose samples weren't compared with the file's own numbers."""
    if image.format == "EPS":  # for which Pillow would start Ghostscript
        raise PictureError("it is PostScript, a program, which isn't run: make a PNG of it")
    if image.format not in READERS and image.format != "HPCM":
        on_note(f"{image.format} files are read as Pillow reads them: colours, depth and alpha weren't compared")


def _check_size(size: tuple[int, int], most: int | None, advice: str) -> None:
    """Raises TooLargeError, where Pillow would warn of too many pixels and refuse only twice as many."""
    if most is not None and size[0] * size[1] > most:
        raise TooLargeError(f"it has more than {most:,} pixels{advice}", size)
