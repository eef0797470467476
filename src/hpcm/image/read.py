"""Where pictures and .hpcm files come from: paths, open files, bytes, arrays, Pillow images."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from ..errors import PictureError, TooLargeError
from ..format.container import is_hpcm
from ..format.fields import MAX_ENCODED, check_size
from ..util.notes import OnNote, log_note
from .metadata.gather import attach
from .samples import READERS, load_samples, replace_samples

File = bytes | bytearray | memoryview | str | os.PathLike[str] | IO[bytes]  # a string is a path
Source = Image.Image | NDArray[Any] | File


def lift_pillows_bounds() -> None:
    """Makes Pillow open what can be compressed, in all of the process. For programs, not for `import hpcm`.

    Its own bounds stop at large photographs (2^28 / 3 pixels) and at their XMP and profiles (1 MiB).
    """
    Image.MAX_IMAGE_PIXELS = MAX_ENCODED
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # of a compressed text or profile, to that of all


def bytes_of(source: File) -> bytes:
    """The bytes of a file, or what an open file still has. Raises OSError, TypeError."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if isinstance(source, (str, os.PathLike)):
        return Path(source).read_bytes()
    data = source.read() if hasattr(source, "read") else None
    if not isinstance(data, bytes):
        raise TypeError(f"expected bytes, a path or a file open for reading bytes, not {type(source).__name__}")
    return data


def image_of(source: Source, on_note: OnNote = log_note) -> Image.Image:
    """A picture as a Pillow image.

    Args:
        source: an image; an array, uint8 [H, W] (grey), [H, W, 3] (RGB), [H, W, 2 or 4] (with alpha) or uint16 [H, W];
            or the file of a picture in any format that Pillow reads.
        on_note: is called with each note; see util/notes.py.

    Raises OSError, PictureError, TypeError.
    """
    if isinstance(source, Image.Image):
        return source
    if not isinstance(source, np.ndarray):
        advice = ": if you trust it, allow more with PIL.Image.MAX_IMAGE_PIXELS"
        return open_picture(bytes_of(source), advice, on_note=on_note)
    planes = source.shape[2] if source.ndim == 3 else 1
    is_8_bit, is_16_bit = source.dtype == np.uint8, source.dtype == np.uint16
    if source.ndim not in (2, 3) or not ((is_8_bit and 1 <= planes <= 4) or (is_16_bit and planes == 1)):
        raise PictureError(f"an array must be uint8 [H, W, 1 to 4] or uint16 [H, W], not {source.dtype} {source.shape}")
    return Image.fromarray(source.reshape(source.shape[:2]) if planes == 1 else source)


def open_picture(
    data: bytes,
    advice: str = "",
    *,
    formats: tuple[str, ...] | None = None,
    max_pixels: int | None = None,
    on_note: OnNote = log_note,
) -> Image.Image:
    """A picture from the bytes of its file, decoded.

    The bytes may be a picture in more than one format, each of another size. So they are opened once, and what is
    judged here is what the caller gets.

    Args:
        advice: for a picture of too many pixels.
        formats: Pillow's names of those that are accepted; by default all that it reads.
        max_pixels: by default Pillow's own bound, `PIL.Image.MAX_IMAGE_PIXELS`.
        on_note: is called with each note; see util/notes.py.

    Raises PictureError, of which TooLargeError is one.
    """
    if is_hpcm(data):
        raise PictureError("it is a .hpcm file already; `hpcm decompress` makes a picture of it")
    most = Image.MAX_IMAGE_PIXELS if max_pixels is None else max_pixels
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=formats)
        _check_size(image, most, advice)
        check_size(*image.size)
        _check_format(image, on_note)
        image = replace_samples(image, load_samples(image, on_note))
        _check_size(image, most, advice)  # some formats have another size when they are decoded
        attach(image, data)
    except UnidentifiedImageError:
        accepted = "that Pillow can read" if formats is None else f"in an accepted format: {', '.join(formats)}"
        raise PictureError(f"it is no picture {accepted}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooLargeError(f"it has more than {most:,} pixels{advice}") from error
    except (MemoryError, PictureError):
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        raise PictureError(f"the picture is damaged: {error}") from error
    return image


def _check_format(image: Image.Image, on_note: OnNote) -> None:
    """Refuses programs, and notes a format whose samples weren't compared with the file's own numbers."""
    if image.format == "EPS":  # for which Pillow would start Ghostscript
        raise PictureError("it is PostScript, a program, which isn't run: make a PNG of it")
    if image.format not in READERS and image.format != "HPCM":
        on_note(f"{image.format} files are read as Pillow reads them: colours, depth and alpha weren't compared")


def _check_size(image: Image.Image, most: int | None, advice: str) -> None:
    """Raises TooLargeError, where Pillow would warn of too many pixels and refuse only twice as many."""
    if most is not None and image.width * image.height > most:
        raise TooLargeError(f"it has more than {most:,} pixels{advice}", image.size)
