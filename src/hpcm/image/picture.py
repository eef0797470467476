"""What the codec keeps of a picture: pixels, alpha and metadata; Pillow images and arrays in, Pillow images out.

| input (Pillow mode)            | kept as                        | comes back as |
|--------------------------------|--------------------------------|---------------|
| RGB, RGBX                      | 8-bit colour                   | RGB           |
| 1, L                           | 8-bit grey                     | L             |
| I;16, I (0..65535)             | 16-bit grey                    | I;16          |
| I;16 with a transparent value  | 16-bit grey and alpha          | LA, 8 bits    |
| RGBA, LA, tRNS                 | colour or grey, lossless alpha | RGBA, LA      |
| RGBa, La                       | divided by alpha, with a note  | RGBA, LA      |
| P, PA (palette)                | as RGB or RGBA, with a note    | RGB, RGBA     |
| CMYK, YCbCr, LAB, HSV          | as RGB, with a note            | RGB           |
| a file of 9 to 16 bits         | its own depth                  | RGB, RGBA, LA of 8 bits; I;16 |

Pillow has no images of 16-bit colour: samples.py reads such files, as arrays, and corrects or refuses what Pillow reads
wrongly. The ICC profile is carried along untouched, except for CMYK and LAB, whose profile wouldn't fit the
converted pixels; with `icc="srgb"` colours are converted by it instead (colours.py). The orientation is applied to the
pixels. What else belongs to the picture is kept or noted: see metadata/.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from ..errors import CorruptError, PictureError
from ..format.fields import Container, check_size, sample_bytes
from ..util.notes import OnNote, SampleLoss, ignore_note
from . import png
from .colours import planes_to_srgb, to_srgb
from .hdr import GainMap, fitted, read_gain_map, turned
from .metadata.gain_map import INFO_KEY
from .metadata.gather import ImageInfo, ImageMetadata, attached_file, gather
from .metadata.record import NAMES, Metadata
from .metadata.strip import stripped
from .metadata.tiff import OTHER_METADATA
from .planes import UPRIGHT, Planes, Samples, peak_of, rescaled, split, upright, with_depth
from .samples import BEYOND_16_BITS, DIVIDED, file_depth, load_samples, opaque_but

CONVERTED = {"P": "RGB", "PA": "RGBA", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB"}
PALETTES = ("P", "PA")  # of CONVERTED: no sample is lost
MULTIPLIED = {"RGBa": "RGBA", "La": "LA"}  # modes of colours that were multiplied by alpha
PLAIN = {"1": "L", "RGBX": "RGB"}
FOREIGN_PROFILE = ("CMYK", "LAB")  # modes whose ICC profile describes other colours than RGB or grey
DEPTH_KEY = "bit_depth"  # in Pillow's `info`, also pillow_heif's
WIDE = ("I", "I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True)
class Picture(Metadata, Planes):
    """Samples and what belongs to them.

    `notes` are lines about what was converted, or isn't kept, of the image that it was made of; `file_size` are the
    bytes of the file, if it was read from one. `hdr` is its gain map, upright; the field `gain_map` is that of a file,
    coded.
    """

    notes: tuple[str, ...] = ()
    file_size: int | None = None
    hdr: GainMap | None = None


def rgb_of(image: Image.Image) -> NDArray[np.uint8]:
    """Pixels as 8-bit RGB, [H, W, 3], without alpha; of 16-bit grey Pillow would cut off what is over 255.

    Raises PictureError for samples of more than 16 bits, such as floating-point ones: what is white isn't known.
    """
    if image.mode == "F":
        raise _uncodable(image.mode)
    return np.array((eight_bits(image) if image.mode in WIDE else image).convert("RGB"))


def eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey, with its metadata. Raises PictureError for values beyond 16 bits."""
    values = np.asarray(image)
    _refuse_beyond_16_bits(values)
    values = values.astype(np.uint16)
    grey = Image.fromarray(rescaled(values, 16, 8))
    grey.info = image.info
    return grey


def from_image(image: Image.Image, *, strip: str | None = None, icc: str | None = None) -> Picture:
    """Takes a Pillow image apart. Raises PictureError where it can't be read or coded.

    Args:
        strip: metadata that are left out, one of STRIPS; see metadata/strip.py.
        icc: one of ICC_SPACES, which the colours are converted to; see colours.py.
    """
    try:
        return taken_apart(image, strip=strip, icc=icc)
    except (PictureError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        raise PictureError(f"the picture can't be read: {error}") from error


def taken_apart(
    image: Image.Image,
    check_loaded: Callable[[tuple[int, int]], None] = lambda size: None,
    *,
    strip: str | None = None,
    icc: str | None = None,
) -> Picture:
    """As `from_image`; raises also what Pillow raises.

    Args:
        check_loaded: gets (width, height) when the image is decoded, which of some formats differ from those before.
    """
    check_size(*image.size)
    notes: list[str] = []
    frames = _frames(image)
    file = file_of(image)  # before Pillow closes it
    was_loaded = not getattr(image, "tile", None)
    deep_samples = _of_full_depth(image, file, notes.append) if was_loaded else None
    samples = deep_samples or load_samples(image, notes.append)
    check_loaded(image.size)
    image_metadata = _metadata(image, file, frames, strip, keep_profile=icc is not None)
    if image_metadata.has_gain_map and image.format == "MPO":
        frames -= 1  # it counts as one
    if frames > 1:
        notes.insert(0, f"the picture has {frames} frames: only the current one is kept")
    notes += image_metadata.notes
    hdr = _gain_map(image, image_metadata, notes.append)
    planes, metadata = _planes_of(samples, image_metadata.metadata, icc, notes.append)
    planes = upright(planes, image_metadata.orientation)
    return replace(picture_of_planes(planes, metadata), notes=tuple(dict.fromkeys(notes)), hdr=hdr)


def _gain_map(image: Image.Image, metadata: ImageMetadata, on_note: OnNote) -> GainMap | None:
    """What an image has in `info`, even None; else that of its file. Upright."""
    if isinstance(given := image.info.get(INFO_KEY), GainMap):
        gain_map = fitted(given, image.size, on_note)
    elif metadata.gain_map and INFO_KEY not in image.info and not _frame(image):  # others may be the gain map itself
        gain_map = read_gain_map(metadata.gain_map, image.format, image.size, on_note)
    else:
        return None
    turn = UPRIGHT.get(metadata.orientation)
    if gain_map is None or turn is None:
        return gain_map
    return gain_map.changed(lambda own: turned(own, turn))


def _frame(image: Image.Image) -> int:
    """The number of the current one, from 0."""
    try:
        return image.tell()
    except (OSError, ValueError):  # the file is closed
        return 0


def picture_of_planes(planes: Planes, metadata: Metadata | None = None) -> Picture:
    """Samples with what belongs to them."""
    present: dict[str, Any] = (metadata or Metadata()).present
    return Picture(planes.pixels, planes.bit_depth, planes.alpha, **present)


def adjusted(picture: Picture, strip: str | None, icc: str | None, on_note: OnNote) -> Picture:
    """The picture without metadata that are to be left out, in the colours that it is to have; as for `from_image`."""
    if icc is not None:
        planes, picture = planes_to_srgb(picture, picture, on_note)
        picture = replace(picture, pixels=planes.pixels, alpha=planes.alpha)
    return stripped(picture, strip, on_note)


def _of_full_depth(image: Image.Image, file: bytes | None, on_note: OnNote) -> Planes | None:
    """The samples of an image that Pillow has read before, from its file if that has more than 8 bits.

    None, with a note if there were more bits, where the image has changed since or the file is gone.
    Raises PictureError where Pillow reads the file wrongly.
    """
    if image.mode in WIDE:
        return None
    bits, file_bits = image.info.get(DEPTH_KEY, 8), 8
    if file is not None:
        with suppress(Exception):  # Pillow raises nearly anything
            file_bits = file_depth(file)
        if file_bits > 8 and (planes := _read_again(image, file)) is not None:
            return planes
    if file_bits > 8 or (isinstance(bits, int) and bits > 8):
        lost = f"the picture had {max(bits, file_bits)} bits a sample, and 8 are kept, which Pillow's image of it has"
        on_note(SampleLoss(f"{lost}: give its file or an array"))
    return None


def _read_again(image: Image.Image, file: bytes) -> Planes | None:
    """The samples of a file of more than 8 bits; None if an image of it no longer has the pixels that Pillow reads."""
    try:
        again = Image.open(io.BytesIO(file), formats=[image.format] if image.format else None)
        if (frame := _frame(image)) > 0:
            again.seek(frame)
        samples = load_samples(again, ignore_note)
    except (PictureError, MemoryError):
        raise
    except Exception:  # Pillow's decoders raise nearly anything
        return None
    same_key = again.info.get("transparency") == image.info.get("transparency")
    is_same = same_key and again.mode == image.mode and np.array_equal(np.asarray(again), np.asarray(image))
    return samples if isinstance(samples, Planes) and is_same else None


def _frames(image: Image.Image) -> int:
    try:
        return getattr(image, "n_frames", 1)
    except (OSError, ValueError, AttributeError, EOFError):  # the file is closed, or damaged after this frame
        return 1


def file_of(image: Image.Image) -> bytes | None:
    """The file of an image, or None. To be called before the image is decoded, because then Pillow closes the file.

    One that is closed is read again by its name, if what Pillow knows of the image still comes from it.
    """
    data, name = attached_file(image), getattr(image, "filename", "")
    if data is not None or not image.format or not name:
        return data
    try:
        data = Path(os.fsdecode(name)).read_bytes()
        with Image.open(io.BytesIO(data)) as again:
            same = (again.format, again.size) == (image.format, image.size)
            keys = {*again.info, "exif", "xmp", "icc_profile"}
            return data if same and all(image.info.get(key) == again.info.get(key) for key in keys) else None
    except Exception:  # it is gone, or another one: Pillow raises nearly anything
        return None


def _metadata(
    image: Image.Image, file: bytes | None, frames: int, strip: str | None, *, keep_profile: bool
) -> ImageMetadata:
    """What belongs to a decoded image besides its pixels.

    Args:
        keep_profile: also one that doesn't fit the pixels after they are converted to RGB.
    """
    tags, lost = _tags(image) if file is None and hasattr(image, "tag_v2") else ({}, ())
    info = ImageInfo(
        info=image.info | tags,
        texts=getattr(image, "text", {}),
        format=image.format,
        file=file,
        directory=getattr(getattr(image, "tag_v2", None), "offset", None),
        frames=frames,
        size=(image.height, image.width),
        lost=lost,
    )
    return gather(info, foreign_profile=image.mode in FOREIGN_PROFILE and not keep_profile, strip=strip)


def _tags(image: Image.Image) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """EXIF of a TIFF whose file is closed, as Pillow writes it, and the names of other metadata."""
    try:
        exif = image.getexif()
        others = [tag for tag in exif if tag in OTHER_METADATA]
        for tag in others:
            del exif[tag]
        return {"exif": exif.tobytes()}, tuple(OTHER_METADATA[tag] for tag in others)
    except Exception:  # parsers and writers of EXIF raise nearly anything on damaged tags
        return {}, ("EXIF of a TIFF",)


def _planes_of(
    samples: Image.Image | Planes, metadata: Metadata, icc: str | None, on_note: OnNote
) -> tuple[Planes, Metadata]:
    """The samples of a picture, and metadata that fit them; with `icc` in sRGB if that is possible."""
    if isinstance(samples, Planes) or samples.mode in WIDE:
        planes = samples if isinstance(samples, Planes) else _grey16(samples)
        return (planes, metadata) if icc is None else planes_to_srgb(planes, metadata, on_note)
    image = samples
    if icc is not None:
        is_foreign = image.mode in FOREIGN_PROFILE
        image, metadata = to_srgb(image if is_foreign else _convert_mode(image, on_note), metadata, on_note)
        if is_foreign and metadata.icc:
            on_note(f"the picture's {NAMES['icc']} is not kept")
            metadata = replace(metadata, icc=None)
    return split(np.asarray(_convert_mode(image, on_note)), 8), metadata


def _convert_mode(image: Image.Image, on_note: OnNote) -> Image.Image:
    """The image in one of the modes RGB, RGBA, L and LA."""
    mode = image.mode
    if image.has_transparency_data and mode in ("1", "L", "RGB", "P"):
        target = "RGBA" if mode in ("P", "RGB") else "LA"
    else:
        target = {**PLAIN, **CONVERTED, **MULTIPLIED}.get(mode, mode)
    if target not in ("RGB", "RGBA", "L", "LA"):
        raise _uncodable(mode)
    if mode in CONVERTED:
        note = f"the picture's mode {mode} was converted to {target}"
        on_note(note if mode in PALETTES else SampleLoss(note))
    if mode in MULTIPLIED:
        on_note(SampleLoss(DIVIDED))
    return image if mode == target else image.convert(target)


def _uncodable(mode: str) -> PictureError:
    return PictureError(f"pictures of mode {mode} can't be coded: convert them to RGB, grey, or 16-bit grey")


def _refuse_beyond_16_bits(values: NDArray[Any]) -> None:
    """Raises PictureError."""
    if values.min() < 0 or values.max() > 65535:
        raise PictureError(BEYOND_16_BITS)


def _grey16(image: Image.Image) -> Planes:
    """With alpha where a value that some pixels have is transparent."""
    values = np.asarray(image)
    _refuse_beyond_16_bits(values)
    return Planes(values.astype(np.uint16), 16, opaque_but(values, image.info.get("transparency")))


def to_image(picture: Picture) -> Image.Image:
    """The Pillow image of a picture, in the mode of `mode_of`, with metadata in `info`: see `Metadata.info`.

    If the picture has more than 8 bits, `info` has its "bit_depth".
    """
    is_wide = picture.bit_depth > 8 and picture.colour == "grey" and picture.alpha is None
    image = Image.fromarray(with_depth(picture, 16 if is_wide else 8).joined)
    image.info.update(info_of(picture, picture.bit_depth))
    if picture.hdr is not None:
        image.info[INFO_KEY] = picture.hdr
    return image


def info_of(metadata: Metadata, bit_depth: int) -> dict[str, Any]:
    """`info` of a Pillow image."""
    return metadata.info() | ({DEPTH_KEY: bit_depth} if bit_depth > 8 else {})


def mode_of(container: Container) -> str:
    """The mode of the image that a file gives. Pillow has 16 bits for grey pictures without alpha alone."""
    if container.colour == "grey" and container.bit_depth > 8 and container.alpha is None:
        return "I;16"
    return ("RGB" if container.colour == "rgb" else "L") + ("" if container.alpha is None else "A")


def pack_alpha(alpha: Samples) -> bytes:
    """Lossless: a grey PNG of 8 or 16 bits."""
    stream = io.BytesIO()
    Image.fromarray(alpha).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def unpack_alpha(data: bytes, size: tuple[int, int], bit_depth: int) -> Samples:
    """Alpha [H, W] of `size`. Raises CorruptError for anything else; the size is checked before decoding."""
    mode = "L" if bit_depth == 8 else "I;16"
    try:
        image = PngImageFile(io.BytesIO(data))  # Image.open has a bound of its own for the number of pixels
        if (image.height, image.width) != size or image.mode != mode:
            found = f"{image.width} x {image.height} {image.mode}"
            raise CorruptError(f"the alpha plane is {found}, not {size[1]} x {size[0]} {mode}")
        alpha = np.asarray(image)
        if image.info.get("interlace") or not png.holds_all_rows(data, size, sample_bytes(bit_depth)):
            raise CorruptError("the alpha plane isn't a PNG of all its rows, without interlacing")
    except (CorruptError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged data
        raise CorruptError(f"the alpha plane can't be decoded: {error}") from error
    if alpha.max() > peak_of(bit_depth):
        raise CorruptError(f"the alpha plane has the value {alpha.max()}, over {peak_of(bit_depth)}")
    return alpha
