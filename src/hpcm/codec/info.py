"""What a .hpcm file says of itself, without decoding it, for `hpcm info` and the server's /info."""

from __future__ import annotations

from typing import Any

from ..errors import FormatError
from ..format.container import unpack_head
from ..format.fields import ANCILLARY, Container, Residual
from ..image.metadata.gain_map import GainMapError, unpack_chunk
from ..model.file import WeightsFile
from .quality import quality_of


def file_info(container: Container, size: int, weights: WeightsFile | None) -> dict[str, Any]:
    """The file's header as names and values that JSON can hold.

    Args:
        size: of the file in bytes.
        weights: the model that the file was made with. None if it isn't installed: then the quality is unknown.

    Sizes are in bytes, None for what there isn't. `progress` is the share that can be decoded: 1 unless the file was
    cut short. `quality` is what `Codec.compress` takes, of a lossless file that of its lossy picture; None where no
    quality gives it.
    """
    levels = None if weights is None else weights.config.get("levels", 1)
    if not isinstance(levels, int) or levels < 1:  # a weights file may say anything
        levels = None
    chunks = {name: getattr(container, name) for name in ("alpha", "icc", "exif")}
    chunks |= {chunk.name: dict(container.ancillary).get(kind) for kind, chunk in ANCILLARY.items()}
    return {
        "bytes": size,
        "bpp": 8 * size / (container.width * container.height),
        "width": container.width,
        "height": container.height,
        "colour": container.colour,
        "bit_depth": container.bit_depth,
        "model": container.model,
        "model_hash": container.model_hash.hex(),
        "level": container.level,
        "levels": levels,
        "quality": None if levels is None else quality_of(container.level, levels, container.residual),
        "tile_side": container.tile_side,
        "tiles": container.tile_count,
        "progressive": container.passes > 1,
        "residual": residual_info(container.residual),
        "progress": container.progress,
        **{f"{name}_bytes": None if chunk is None else len(chunk) for name, chunk in chunks.items()},
        "gain_map_size": gain_map_size(chunks["gain_map"]),
    }


def residual_info(residual: Residual | None) -> dict[str, Any] | None:
    """The residual layer: what it is coded beside, and the largest error of a sample: 0 for lossless, None for any."""
    if residual is None:
        return None
    beside = "grey" if residual.is_beside_grey else "lossy picture"
    return {"beside": beside, "max_error": residual.max_error, "lossless": residual.max_error == 0}


def gain_map_size(chunk: bytes | None) -> tuple[int, int] | None:
    """Width and height of a gain map; None if there is none, or a damaged one."""
    try:
        _, file = unpack_chunk(chunk or b"")
        head = unpack_head(file)
    except (GainMapError, FormatError):
        return None
    return head.width, head.height
