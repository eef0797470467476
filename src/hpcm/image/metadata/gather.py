"""What a picture has besides its pixels -> what a .hpcm file keeps of it, and lines that tell the rest.

The list of what there is comes from the file itself (scan.py) where it is at hand, and else from what Pillow kept of
it. All that is on the list and not in the result is told in one line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...format.fields import MAX_METADATA
from . import exif, tiff, xmp
from .exif import PREFIX, QUARTER_TURNS, ExifError
from .kept import COMMENT, NAMES, Metadata, comments_from, fits, numbers_of
from .pieces import DAMAGED_ICC, EXIF, ICC, IPTC, IPTC_RESOURCE, MORE_PICTURES, PHOTOSHOP, XMP, Piece
from .scan import RAW_PROFILE, TIFF, pieces, raw_profile
from .xmp import GAIN_MAP_NAME

FIELDS = {name: key for key, name in NAMES.items()}
LOST_KEYS = {"flashpix": "FlashPix"}  # of `info`, where there is no file
KEYS = {"icc": "icc_profile", "exif": "exif", "xmp": "xmp"}  # of `info`
WITHOUT = ("HPCM", "QOI", "PCX", "XBM", "MSP", "SGI")  # formats that have no other metadata than Pillow reads
ATTRIBUTE = "file_of_hpcm"  # of an image
NO_COMMENTS = ("XML:com.adobe.xmp", RAW_PROFILE)  # texts of a PNG that are other metadata


@dataclass(frozen=True)
class Source:
    """A picture as Pillow has it, and its file where it is at hand."""

    info: Mapping[Any, Any]
    texts: Mapping[str, Any] = field(default_factory=dict)  # of a PNG
    format: str | None = None  # Pillow's name, None for a picture that has no file
    file: bytes | None = None
    directory: int | None = None  # of a TIFF file: the offset of that of the current page
    frames: int = 1
    size: tuple[int, int] = (0, 0)  # height, width as decoded
    lost: tuple[str, ...] = ()  # names of what else it had


def attach(image: Any, file: bytes) -> None:
    """Lets an image know the file that it was opened from."""
    setattr(image, ATTRIBUTE, file)


def attached_file(image: Any) -> bytes | None:
    """What was attached to an image, or what Pillow has open still, which it hasn't once it has decoded."""
    try:
        if (attached := getattr(image, ATTRIBUTE, None)) is not None:
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


@dataclass(frozen=True)
class Gathered:
    metadata: Metadata
    orientation: int  # 1 to 8, still to be applied to the pixels
    notes: list[str]  # a line each


def gather(source: Source, *, foreign_profile: bool = False) -> Gathered:
    """Args: foreign_profile: the ICC profile is of colours that the picture is converted from."""
    listed = pieces(source.file, source.format) if source.file is not None else None
    found = _of_info(source) if listed is None else listed
    first: dict[str, bytes] = {}
    for piece in found:
        first.setdefault(piece.name, piece.data)
    block, lost, notes = _exif(source, first)
    packet = xmp.utf8(_given(source.info, "xmp", first) or b"")
    orientation, stored = _orientation(source, block, packet)
    upright = source.size[::-1] if orientation in QUARTER_TURNS else source.size
    mended = xmp.mended(packet, stored)
    metadata = Metadata(
        icc=None if foreign_profile else _given(source.info, "icc", first),
        exif=_upright(block, stored, upright, notes),
        xmp=mended.data or None,
        comments=_comments(source, found, listed is not None),
        **_numbers(source, first, stored),
    )
    metadata, large = bounded(metadata)
    removed = {NAMES[key] for key, name in KEYS.items() if name in source.info and source.info[name] is None}
    noted = {EXIF, *large, *removed}  # what has a line of its own, if it needs one
    names = [*(piece.name for piece in found), *lost, *mended.lost]
    names += [ICC] if foreign_profile and _given(source.info, "icc", first) else []
    lost = _lost(names, metadata, noted, source.frames)
    lost += [f"second {name}" for name in _repeated(found) if name not in removed]
    notes += [*mended.notes, *large.values()]
    notes += [f"the picture's {listing(lost)} {'is' if len(lost) == 1 else 'are'} not kept"] if lost else []
    if source.file is not None and listed is None and source.format not in (*WITHOUT, None):
        notes.append(f"of a picture in the format {source.format} only what Pillow reads is kept")
    return Gathered(metadata, orientation, notes)


def _given(info: Mapping[Any, Any], key: str, first: dict[str, bytes]) -> bytes | None:
    """What `info` says, if only that there is none; else what the file has."""
    given = _bytes(info[KEYS[key]]) if KEYS[key] in info else first.get(NAMES[key])
    damaged = key == "icc" and given == first.get(DAMAGED_ICC)  # of which Pillow has the beginning
    return None if damaged else given or None


def _of_info(source: Source) -> list[Piece]:
    """The same list from what Pillow kept."""
    info, found = source.info, []
    resources = info.get("photoshop")
    if isinstance(resources, dict):
        kinds = dict.fromkeys(IPTC if number == IPTC_RESOURCE else PHOTOSHOP for number in resources)
        found += [Piece(kind) for kind in kinds]
    found += [Piece(name) for key, name in LOST_KEYS.items() if key in info]
    for key, text in {**info, **source.texts}.items():
        if str(key).startswith(RAW_PROFILE):
            text = text if isinstance(text, bytes) else str(text).encode("latin-1", "replace")
            found.append(raw_profile(str(key).removeprefix(RAW_PROFILE), text))
    if isinstance(packet := info.get("XML:com.adobe.xmp"), str):
        found.append(Piece(XMP, packet.encode("utf-8", "replace")))
    return found


def _exif(source: Source, first: dict[str, bytes]) -> tuple[bytes | None, list[str], list[str]]:
    """The block as it is in the file, the names of what a TIFF has besides, and notes."""
    block = _given(source.info, "exif", first)
    if source.file is not None and source.file.startswith(TIFF):
        try:
            own, names = tiff.block(source.file, source.directory)
        except ExifError as error:
            return block, [], [f"the picture's EXIF is damaged and not kept: {error}"]
        return (block if "exif" in source.info else own), names, []
    if block and block.startswith(first.get(EXIF) or PREFIX):  # Pillow joins all the blocks of a JPEG
        block = first.get(EXIF) or block
    if source.format == "AVIF":  # whose EXIF Pillow writes anew where the file turns the picture
        block = first.get(EXIF) or block
    return block, [*source.lost], []


def _orientation(source: Source, block: bytes | None, packet: bytes) -> tuple[int, int]:
    """What is to be applied to the pixels, and what was true of those in the file; both 1 to 8."""
    seen = block
    if source.format == "AVIF" and isinstance(source.info.get("exif"), bytes):
        seen = source.info["exif"]  # Pillow's: what the file does with its pixels is what counts
    try:
        found = exif.orientation_of(seen) if seen else None
    except ExifError:
        found = None
    found = found or xmp.orientation_of(packet) or 1
    turned = source.file is not None and source.file.startswith(TIFF)  # by Pillow, when it decoded
    return 1 if turned else found, found


def _upright(block: bytes | None, orientation: int, size: tuple[int, int], notes: list[str]) -> bytes | None:
    if not block or not exif.block_of(block):
        return None
    try:
        return exif.upright(block, orientation, size)
    except ExifError as error:
        notes.append(f"the picture's EXIF is damaged and not kept: {error}")
        return None


def _comments(source: Source, found: list[Piece], listed: bool) -> bytes | None:
    """A PNG's texts under their keywords, other formats' comments under COMMENT."""
    given = source.info.get("comments")
    texts = [(str(key), str(text)) for key, text in given.items()] if isinstance(given, dict) else []
    if listed:
        comments = [piece for piece in found if piece.name == NAMES["comments"]]
        texts += [(piece.keyword or COMMENT, _text(piece.data)) for piece in comments]
    else:
        texts += [(key, str(text)) for key, text in source.texts.items() if not key.startswith(NO_COMMENTS)]
        if comment := source.info.get("comment"):
            texts.append((COMMENT, _text(comment) if isinstance(comment, bytes) else str(comment)))
    return comments_from(list(dict.fromkeys(texts)))


def _text(data: bytes) -> str:
    """UTF-8, or what nobody can get wrong."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _numbers(source: Source, first: dict[str, bytes], orientation: int) -> dict[str, bytes]:
    """The fields of fixed length: from `info`, and those that Pillow passes over from the file."""
    found = numbers_of(source.info)
    if source.format in ("JPEG", "MPO") and "jfif_density" not in source.info:
        found.pop("density", None)  # which Pillow took from EXIF, or made up
    for name, key in FIELDS.items():
        if key not in found and key not in ("icc", "exif", "xmp", "comments") and name in first:
            found |= {key: first[name]} if fits(key, first[name]) else {}
    if orientation in QUARTER_TURNS and (density := found.get("density")):
        found["density"] = density[4:8] + density[:4] + density[8:]
    return found


def bounded(metadata: Metadata) -> tuple[Metadata, dict[str, str]]:
    """Without what a .hpcm file has no room for; the name of each and a line that says so."""
    large = {key: len(data) for key, data in metadata.present.items() if len(data) > MAX_METADATA}
    notes = {
        NAMES[key]: f"the picture's {NAMES[key]} of {size:,} bytes is not kept: {MAX_METADATA:,} are allowed"
        for key, size in large.items()
    }
    return replace(metadata, **dict.fromkeys(large)), notes


def _lost(names: list[str], metadata: Metadata, noted: set[str], frames: int) -> list[str]:
    """The names of what there is and what isn't kept, each once, in the order in which it lies in the file."""
    lost = []
    for name in dict.fromkeys(names):
        kept = name in FIELDS and getattr(metadata, FIELDS[name]) is not None
        twice = name == MORE_PICTURES and (frames > 1 or GAIN_MAP_NAME in names)  # which tell the same
        if not (kept or twice or name in noted):
            lost.append(name)
    return lost


def _repeated(found: list[Piece]) -> list[str]:
    """Of what is kept once, the names of those that the file has several of, unless they are the same."""
    single = [name for name, field in FIELDS.items() if field != "comments"]
    different = {(piece.name, exif.block_of(piece.data)) for piece in found if piece.name in single}
    counts = Counter(name for name, _ in different)
    return [name for name in single if counts[name] > 1]


def listing(names: list[str]) -> str:
    """a, b and c"""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _bytes(value: object) -> bytes | None:
    """Of what Pillow may hold: bytes, a text, or an Exif object."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    if hasattr(value, "tobytes") and not isinstance(value, memoryview):
        return bytes(value.tobytes())
    return bytes(value) if isinstance(value, (bytes, bytearray, memoryview)) else None
