"""What a picture has besides its pixels -> what a .hpcm file keeps of it, and notes of the rest.

The list of what there is comes from the picture's file (scan.py). If there is no file, it is what Pillow kept of it.
All that is on the list and not in the result is named in one note.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from ...format.fields import MAX_METADATA
from ...util.notes import OnNote, ignore_note
from . import boxes, exif, tiff, ultra_hdr, xmp
from .exif import QUARTER_TURNS, ExifError
from .gain_map import INFO_KEY, NOT_KEPT, GainMapError, StoredGainMap
from .pieces import DAMAGED_ICC, EXIF, ICC, IPTC, IPTC_RESOURCE, MORE_PICTURES, PHOTOSHOP, XMP, Piece
from .record import (
    BLOCKS,
    COMMENT,
    INFO_KEYS,
    NAMES,
    Metadata,
    fixed_length_fields,
    has_right_length,
    pack_comments,
    texts_of,
)
from .scan import RAW_PROFILE, TIFF_SIGNATURES, pieces, raw_profile
from .strip import concerns_look, stripped
from .xmp import GAIN_MAP_NAME

NAMED = {
    field: name for field, name in NAMES.items() if field != "gain_map"
}  # which has many pieces, and is read apart
FIELDS = {name: field for field, name in NAMED.items()}
NO_OTHER_METADATA = ("HPCM", "QOI", "PCX", "XBM", "MSP", "SGI")  # formats without other metadata than Pillow reads
FILE_ATTRIBUTE = "file_of_hpcm"  # of an image
XMP_KEYWORD = "XML:com.adobe.xmp"  # of a PNG's text


@dataclass(frozen=True)
class ImageInfo:
    """What Pillow knows of an image besides its pixels, and its file."""

    info: Mapping[Any, Any]
    texts: Mapping[str, Any] = field(default_factory=dict)  # of a PNG
    format: str | None = None  # Pillow's name, None for a picture that has no file
    file: bytes | None = None
    directory: int | None = None  # of a TIFF file: the offset of that of the current page
    frames: int = 1
    size: tuple[int, int] = (0, 0)  # height, width as decoded
    lost: tuple[str, ...] = ()  # names of what else it had

    @property
    def tiff_file(self) -> bytes | None:
        """The file, if it is a TIFF."""
        return self.file if self.file is not None and self.file.startswith(TIFF_SIGNATURES) else None

    @property
    def removed(self) -> set[str]:
        """Names of what the caller set to None in `info`, whatever the file has."""
        keys = {field: INFO_KEYS[field] for field in BLOCKS}
        return {NAMES[field] for field, key in keys.items() if key in self.info and self.info[key] is None}


@dataclass(frozen=True)
class ImageMetadata:
    """The result of `gather`."""

    metadata: Metadata
    orientation: int  # 1 to 8, still to be applied to the pixels
    notes: list[str]  # a line each
    gain_map: StoredGainMap | None = None  # of the file
    has_gain_map: bool = False  # also one that isn't kept, of which a note tells


def attach(image: Any, file: bytes) -> None:
    """Lets an image know the file that it was opened from."""
    setattr(image, FILE_ATTRIBUTE, file)


def attached_file(image: Any) -> bytes | None:
    """What was attached to an image, or the file that Pillow still has open, which it closes once it has decoded it."""
    try:
        if (attached := getattr(image, FILE_ATTRIBUTE, None)) is not None:
            return bytes(attached)
        stream = getattr(image, "fp", None) or getattr(image, "_fp", None)
        if stream is None:
            return None
        at = stream.tell()
        stream.seek(0)
        data = stream.read()
        stream.seek(at)
    except (AttributeError, OSError, ValueError):  # it is closed, or no file
        return None
    return bytes(data)


def gather(image: ImageInfo, *, foreign_profile: bool = False, strip: str | None = None) -> ImageMetadata:
    """The metadata of an image that a .hpcm file keeps, with notes of what it doesn't.

    Args:
        foreign_profile: the ICC profile is of the colours that the pixels are converted from, so it isn't kept.
        strip: what is left out; see strip.py. Of "all" notes tell only where the picture looks different for it.
    """
    gain_map, gain_map_notes = _gain_map(image)
    notes = [*gain_map_notes]
    if gain_map is not None:
        image = replace(image, file=gain_map.rest)
    note_loss = ignore_note if strip == "all" else notes.append
    inventory = _Inventory(image)
    profile = inventory.block("icc")
    block, tiff_names = _exif_block(inventory, note_loss)
    packet = xmp.to_utf8(inventory.block("xmp") or b"")
    orientation = _orientation(image, block, packet)
    to_apply = 1 if image.tiff_file is not None else orientation  # Pillow turns a TIFF when it decodes
    clean_xmp = xmp.remove_outdated(packet, orientation)
    metadata = Metadata(
        icc=None if foreign_profile else profile,
        exif=_upright_exif(block, orientation, exif.upright_size(image.size, to_apply), note_loss),
        xmp=clean_xmp.data or None,
        comments=_comments(inventory),
        **_fixed_length_fields(inventory, orientation),
    )
    for note in clean_xmp.notes:
        note_loss(note)
    everything = metadata.present
    metadata = stripped(metadata, strip, notes.append)
    left_out = {NAMES[field] for field in everything if field not in metadata.present}
    metadata, too_large = _drop_too_large(metadata, notes.append)

    names = [*inventory.names, *tiff_names, *clean_xmp.lost]
    if foreign_profile and profile:
        names.append(ICC)
    with_own_note = {EXIF, *too_large, *left_out, *image.removed}  # if they need one
    if gain_map is not None or gain_map_notes or INFO_KEY in image.info:
        with_own_note.add(GAIN_MAP_NAME)
    if packet and not clean_xmp.data:  # it told of nothing else
        with_own_note.add(XMP)
    names = [name for name in names if name not in with_own_note]
    notes += _loss_notes(inventory, metadata, names, only_look=strip == "all")
    has_gain_map = gain_map is not None or bool(gain_map_notes)
    return ImageMetadata(metadata, to_apply, notes, gain_map, has_gain_map)


# ---- what there is --------------------------------------------------------------------------------------------------


class _Inventory:
    """The pieces of an image's file or, without it, of what Pillow kept of it."""

    def __init__(self, image: ImageInfo) -> None:
        self.image = image
        from_file = None if image.file is None else pieces(image.file, image.format)
        self.is_from_file = from_file is not None
        self.pieces = _pieces_of_info(image) if from_file is None else from_file

    @cached_property
    def first(self) -> dict[str, bytes]:
        """Name: the data of the first piece that has it."""
        return {piece.name: piece.data for piece in reversed(self.pieces)}

    @property
    def names(self) -> list[str]:
        return [piece.name for piece in self.pieces]

    @property
    def is_incomplete(self) -> bool:
        """Whether the file is of a format that isn't scanned and may have more than Pillow reads."""
        image = self.image
        return image.file is not None and not self.is_from_file and image.format not in (*NO_OTHER_METADATA, None)

    def block(self, field: str) -> bytes | None:
        """The ICC profile, EXIF or XMP: what `info` has under its key, even None; else what the file has."""
        key = INFO_KEYS[field]
        data = _to_bytes(self.image.info[key]) if key in self.image.info else self.first.get(NAMES[field])
        is_damaged = field == "icc" and data == self.first.get(DAMAGED_ICC)  # Pillow gives the part that it could read
        return None if is_damaged else data or None


def _pieces_of_info(image: ImageInfo) -> list[Piece]:
    info, result = image.info, []
    resources = info.get("photoshop")
    if isinstance(resources, dict):
        names = dict.fromkeys(IPTC if number == IPTC_RESOURCE else PHOTOSHOP for number in resources)
        result += [Piece(name) for name in names]
    if "flashpix" in info:
        result.append(Piece("FlashPix"))
    for key, text in {**info, **image.texts}.items():
        if str(key).startswith(RAW_PROFILE):
            data = text if isinstance(text, bytes) else str(text).encode("latin-1", "replace")
            result.append(raw_profile(str(key).removeprefix(RAW_PROFILE), data))
    if isinstance(packet := info.get(XMP_KEYWORD), str):
        result.append(Piece(XMP, packet.encode("utf-8", "replace")))
    return result


def _to_bytes(value: object) -> bytes | None:
    """Of what Pillow may have in `info`: bytes, a text, or an Exif object."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    if hasattr(value, "tobytes") and not isinstance(value, memoryview):
        return bytes(value.tobytes())
    return bytes(value) if isinstance(value, (bytes, bytearray, memoryview)) else None


# ---- what is kept ---------------------------------------------------------------------------------------------------


def _gain_map(image: ImageInfo) -> tuple[StoredGainMap | None, list[str]]:
    """That of the file, and a note if there is one that isn't kept."""
    file = image.file or b""
    try:
        if file.startswith(ultra_hdr.SOI_BYTES):
            return ultra_hdr.find(file), []
        if boxes.is_heif(file):
            return boxes.find_gain_map(file), []
    except GainMapError as error:
        return None, [NOT_KEPT.format(error)]
    return None, []


def _exif_block(inventory: _Inventory, on_note: OnNote) -> tuple[bytes | None, list[str]]:
    """EXIF as it is in the file, and the names of what a TIFF has besides."""
    image, block = inventory.image, inventory.block("exif")
    if image.tiff_file is not None:
        try:
            file_block, names = tiff.read_block(image.tiff_file, image.directory)
        except ExifError as error:
            on_note(_damaged_exif(error))
            return block, []
        return (block if "exif" in image.info else file_block), names
    file_block = inventory.first.get(EXIF)
    if file_block:
        is_rewritten = image.format == "AVIF"  # by Pillow, where the file turns the picture
        is_joined = block is not None and block.startswith(file_block)  # Pillow joins all the blocks of a JPEG
        block = file_block if is_rewritten or is_joined else block
    return block, [*image.lost]


def _damaged_exif(error: ExifError) -> str:
    return f"the picture's EXIF is damaged and not kept: {error}"


def _orientation(image: ImageInfo, block: bytes | None, packet: bytes) -> int:
    """That of the pixels in the file, 1 to 8, by EXIF or else by XMP."""
    if image.format == "AVIF" and isinstance(image.info.get("exif"), bytes):
        block = image.info["exif"]  # Pillow's has what the file does with its pixels, which overrides its EXIF
    try:
        orientation = exif.orientation_of(block) if block else None
    except ExifError:
        orientation = None
    return orientation or xmp.orientation_of(packet) or 1


def _upright_exif(block: bytes | None, orientation: int, size: tuple[int, int], on_note: OnNote) -> bytes | None:
    """EXIF of the picture after its orientation was applied. `size`: (height, width) then."""
    if not block or not exif.strip_prefix(block):
        return None
    try:
        return exif.make_upright(block, orientation, size)
    except ExifError as error:
        on_note(_damaged_exif(error))
        return None


def _comments(inventory: _Inventory) -> bytes | None:
    """A PNG's texts under their keywords, other formats' comments under COMMENT."""
    image = inventory.image
    texts = texts_of(image.info)
    if inventory.is_from_file:
        comments = [piece for piece in inventory.pieces if piece.name == NAMES["comments"]]
        texts += [(piece.keyword or COMMENT, _decode(piece.data)) for piece in comments]
    else:
        others = (XMP_KEYWORD, RAW_PROFILE)
        texts += [(key, str(text)) for key, text in image.texts.items() if not key.startswith(others)]
        if comment := image.info.get("comment"):
            texts.append((COMMENT, _decode(comment) if isinstance(comment, bytes) else str(comment)))
    return pack_comments(list(dict.fromkeys(texts)))


def _decode(data: bytes) -> str:
    """As UTF-8 or, if it isn't, as Latin-1, in which any bytes are a text."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _fixed_length_fields(inventory: _Inventory, orientation: int) -> dict[str, bytes]:
    """From `info`, and those that Pillow doesn't read from the file."""
    image = inventory.image
    values = fixed_length_fields(image.info)
    if image.format in ("JPEG", "MPO") and "jfif_density" not in image.info:
        values.pop("density", None)  # which Pillow took from EXIF, or made up
    for name, data in inventory.first.items():
        key = FIELDS.get(name)
        if key and key not in (*values, *BLOCKS, "comments") and has_right_length(key, data):
            values[key] = data
    if orientation in QUARTER_TURNS and (density := values.get("density")):
        x, y, unit = density[:4], density[4:8], density[8:]
        values["density"] = y + x + unit
    return values


def _drop_too_large(metadata: Metadata, on_note: OnNote) -> tuple[Metadata, list[str]]:
    """Without what a .hpcm file has no room for; the names of that."""
    too_large = {key: len(data) for key, data in metadata.present.items() if len(data) > MAX_METADATA}
    for key, size in too_large.items():
        on_note(f"the picture's {NAMES[key]} of {size:,} bytes is not kept: {MAX_METADATA:,} are allowed")
    return replace(metadata, **dict.fromkeys(too_large)), [NAMES[key] for key in too_large]


# ---- what isn't kept ------------------------------------------------------------------------------------------------


def _loss_notes(inventory: _Inventory, metadata: Metadata, names: list[str], *, only_look: bool = False) -> list[str]:
    """A note of those names that aren't kept or are repeated, and one if there may be more than is known."""
    image, notes = inventory.image, []
    lost = _lost_names(names, metadata, image.frames)
    lost += [f"second {name}" for name in _repeated_names(inventory.pieces) if name not in image.removed]
    lost = [name for name in lost if concerns_look(name) or not only_look]
    if lost:
        notes.append(f"the picture's {listing(lost)} {'is' if len(lost) == 1 else 'are'} not kept")
    if inventory.is_incomplete:
        notes.append(f"of a picture in the format {image.format} only what Pillow reads is kept")
    return notes


def _lost_names(names: list[str], metadata: Metadata, frames: int) -> list[str]:
    """The names of what there is and what isn't kept, each once, in the order of the file."""
    unique = dict.fromkeys(names)
    if frames > 1 or GAIN_MAP_NAME in unique:  # these are the further pictures, and are noted
        unique.pop(MORE_PICTURES, None)
    kept = {NAMES[key] for key in metadata.present}
    return [name for name in unique if name not in kept]


def _repeated_names(pieces: list[Piece]) -> list[str]:
    """Names of what the file has several of and a .hpcm file one, unless they are the same."""
    single = [name for name, key in FIELDS.items() if key != "comments"]
    different = {(piece.name, exif.strip_prefix(piece.data)) for piece in pieces if piece.name in single}
    counts = Counter(name for name, _ in different)
    return [name for name in single if counts[name] > 1]


def listing(names: list[str]) -> str:
    """a, b and c"""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
