"""Colours converted to sRGB by their ICC profile, for those who show a picture without heeding profiles.

The conversion is relative colorimetric with black point compensation, as Photoshop and GIMP do it by default: colours
that sRGB has stay what they are, others become the nearest, and the darkest tone of a print becomes black.

What can't be converted (colours that cICP or gAMA and cHRM describe, a profile that doesn't fit the pixels, more than 8
bits without the package imagecodecs) stays as it is with all that describes it, and a note says so. So a picture never
looks different.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import numpy as np
from PIL import Image, ImageCms

from ..util.notes import OnNote
from . import deep
from .metadata import exif, xmp
from .metadata.exif import ExifError
from .metadata.record import PNG_UNIT, Metadata
from .planes import BAND, Planes, Samples, dtype_of, split

SRGB_CICP = (1, 13)  # primaries, transfer (ITU-T H.273)
SRGB_GAMMA = round(PNG_UNIT / 2.2)  # in gAMA
SRGB_CHROMATICITIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)  # in cHRM
GAMMA_TOLERANCE, CHROMATICITY_TOLERANCE = 500, 100  # of what writers round differently
MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}  # colour space of a profile: Pillow's mode
GREEN = 1
CUBE = 17  # values a channel that are compared, 0 to 255

AnyMetadata = TypeVar("AnyMetadata", bound=Metadata)
Colours = TypeVar("Colours", Image.Image, Planes)


class _Unfit(Exception):
    """The profile can't be applied."""


def to_srgb(image: Image.Image, metadata: AnyMetadata, on_note: OnNote) -> tuple[Image.Image, AnyMetadata]:
    """An image with its colours converted to sRGB, RGB or grey with its alpha, and metadata that describe no others.

    Args:
        image: in the mode RGB, RGBA, L, LA, CMYK or LAB; other ones aren't converted.
        on_note: is called with a line where the colours aren't sRGB and stay as they are.
    """
    return _in_srgb(image, _converted, metadata, on_note)


def _in_srgb(
    colours: Colours, convert: Callable[[Colours, bytes], Colours], metadata: AnyMetadata, on_note: OnNote
) -> tuple[Colours, AnyMetadata]:
    """As `to_srgb`; `convert` gets the ICC profile."""
    try:
        _check_description(metadata)
        if metadata.icc is not None:
            colours = colours if metadata.cicp else convert(colours, metadata.icc)  # cICP comes first, and says sRGB
            metadata = _as_srgb(metadata)
    except _Unfit as reason:
        on_note(f"the picture's colours are not converted to sRGB: {reason}")
    return colours, metadata


def planes_to_srgb(planes: Planes, metadata: AnyMetadata, on_note: OnNote) -> tuple[Planes, AnyMetadata]:
    """As `to_srgb`, of samples. Those of more than 8 bits are converted by imagecodecs: Pillow has no mode for them."""
    if planes.bit_depth > 8:
        return _in_srgb(planes, _converted_planes, metadata, on_note)
    image, metadata = to_srgb(Image.fromarray(planes.joined), metadata, on_note)
    return split(np.asarray(image), 8), metadata


def _check_description(metadata: Metadata) -> None:
    """Raises _Unfit where something else than an ICC profile describes other colours than those of sRGB."""
    if metadata.cicp and tuple(metadata.cicp[:2]) != SRGB_CICP:
        raise _Unfit("cICP describes them, and only an ICC profile is applied")
    if metadata.icc or metadata.cicp or metadata.srgb:
        return
    if not _is_srgb_like(metadata):
        raise _Unfit("gAMA and cHRM describe them, and only an ICC profile is applied")
    if metadata.exif and exif.has_other_colours(metadata.exif):
        raise _Unfit("they are those of Adobe RGB by the picture's EXIF, but it has no ICC profile")


def _is_srgb_like(metadata: Metadata) -> bool:
    """Whether gAMA and cHRM, as far as they are there, are those of sRGB."""
    gamma = int.from_bytes(metadata.gamma, "big") if metadata.gamma else SRGB_GAMMA
    chromaticities = struct.unpack(">8I", metadata.chromaticities) if metadata.chromaticities else SRGB_CHROMATICITIES
    differences = [abs(a - b) for a, b in zip(chromaticities, SRGB_CHROMATICITIES, strict=True)]
    return abs(gamma - SRGB_GAMMA) <= GAMMA_TOLERANCE and max(differences) <= CHROMATICITY_TOLERANCE


def _converted(image: Image.Image, icc: bytes) -> Image.Image:
    """Raises _Unfit."""
    try:
        profile, space = _opened(icc)
        return _apply(profile, space, image)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        raise _Unfit(f"its ICC profile can't be applied: {error}") from error


def _opened(icc: bytes) -> tuple[ImageCms.ImageCmsProfile, str]:
    """A profile, and the colour space that it is for. Raises PyCMSError, OSError."""
    profile = ImageCms.getOpenProfile(io.BytesIO(icc))
    return profile, profile.profile.xcolor_space.strip()


def _converted_planes(planes: Planes, icc: bytes) -> Planes:
    """Samples of more than 8 bits. Raises _Unfit."""
    if not deep.has_colours():
        raise _Unfit(f"those of more than 8 bits are with: {deep.INSTALL}")
    try:
        _, space = _opened(icc)
        if MODES.get(space) != "RGB" and (space, planes.colour) != ("GRAY", "grey"):
            raise _Unfit(f"its ICC profile is for {space}, and the picture is {planes.colour}")
        return replace(planes, pixels=_converted_samples(planes, icc, space))
    except (ImageCms.PyCMSError, OSError, ValueError, RuntimeError) as error:
        raise _Unfit(f"its ICC profile can't be applied: {error}") from error


def _converted_samples(planes: Planes, icc: bytes, space: str) -> Samples:
    """Raises what littleCMS raises."""

    def convert(colours: Samples) -> Samples:
        """Samples [H, W, 3], or those of one channel [H, W] if the profile is for grey, as sRGB [H, W, 3]."""
        channels = "gray" if space == "GRAY" else "rgb"
        in_srgb = deep.srgb_of(np.divide(colours, planes.peak, dtype=np.float32), icc, channels)
        return np.rint(in_srgb.clip(0, 1) * np.float32(planes.peak)).astype(dtype_of(planes.bit_depth))

    pixels = planes.pixels
    if planes.colour == "grey":  # by a table of all values
        values = np.arange(planes.peak + 1, dtype=np.uint16)[None]
        converted = convert(values if space == "GRAY" else np.dstack((values, values, values)))
        table = converted[0, :, GREEN]  # all are alike
        return pixels if _is_same(values, table, planes.peak) else table[pixels]
    cube = _cube(planes.peak)
    if _is_same(cube, convert(cube), planes.peak):
        return pixels
    result = np.empty_like(pixels)
    for top in range(0, len(pixels), BAND):  # no copy of the whole in floats
        result[top : top + BAND] = convert(pixels[top : top + BAND])
    return result


def _cube(peak: int) -> Samples:
    """Colours all over the space, [1, CUBE^3, 3]."""
    values = np.linspace(0, peak, CUBE).round().astype(np.uint16)
    return np.stack(np.meshgrid(values, values, values), axis=-1).reshape(1, -1, 3)


def _apply(profile: ImageCms.ImageCmsProfile, space: str, image: Image.Image) -> Image.Image:
    """Raises _Unfit where the profile is for other colours than the image has."""
    has_alpha = image.mode in ("RGBA", "LA")
    colours = image.convert(image.mode[:-1]) if has_alpha else image
    mode = MODES.get(space)
    if colours.mode == "L" and mode in ("L", "RGB"):  # the latter, too, is in files of grey pictures
        result = _convert_grey(profile, mode, colours)
    elif colours.mode == mode:
        result = _convert_colours(profile, colours)
    else:
        raise _Unfit(f"its ICC profile is for {space}, and the picture is {colours.mode}")
    if has_alpha:
        result.putalpha(image.getchannel("A"))
    return result


def _convert_grey(profile: ImageCms.ImageCmsProfile, mode: str, grey: Image.Image) -> Image.Image:
    """By a table of all 256 values, each computed: littleCMS by itself would interpolate between a few."""
    values = np.arange(256, dtype=np.uint8)
    transform = _transform(profile, mode, ImageCms.Flags.NOOPTIMIZE)
    table = np.asarray(_applied(transform, Image.fromarray(values[None]).convert(mode)))[0, :, GREEN]  # all are alike
    return grey.copy() if _is_same(values, table) else grey.point(table.tolist())


def _convert_colours(profile: ImageCms.ImageCmsProfile, image: Image.Image) -> Image.Image:
    transform = _transform(profile, image.mode, ImageCms.Flags.HIGHRESPRECALC)
    if image.mode == "RGB":
        cube = _cube(255).astype(np.uint8)
        if _is_same(cube, np.asarray(_applied(transform, Image.fromarray(cube)))):
            return image.copy()
    return _applied(transform, image)


def _is_same(before: Samples, after: Samples, peak: int = 255) -> bool:
    """Whether the profile is that of sRGB, up to rounding to 8 bits. Then the pixels stay what they are."""
    return bool(abs(before.astype(int) - after).max() <= peak / 255)


def _transform(profile: ImageCms.ImageCmsProfile, mode: str, precision: ImageCms.Flags) -> ImageCms.ImageCmsTransform:
    """From a profile to 8-bit sRGB."""
    intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION | precision
    return ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB", intent, flags)


def _applied(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    result = ImageCms.applyTransform(image, transform)
    assert result is not None  # it isn't in place
    result.info = {}  # where Pillow puts the new profile
    return result


def _as_srgb(metadata: AnyMetadata) -> AnyMetadata:
    """Without what describes colours; EXIF and XMP name no other colour space."""
    block, packet = metadata.exif, metadata.xmp
    if block:
        with suppress(ExifError):  # that it is damaged is noted where it is read or written
            block = exif.mark_srgb(block)
    described = ("icc", "cicp", "gamma", "chromaticities", "mastering", "light")
    packet = xmp.without_colours(packet) if packet else None
    return replace(metadata, **dict.fromkeys(described), exif=block, xmp=packet)
