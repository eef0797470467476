"""`hpcm info`: what a .hpcm file says, without decoding it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..errors import ModelNotFoundError
from ..format.container import unpack_left
from ..format.fields import ANCILLARY, Container
from ..image.metadata.kept import NAMES
from ..model.file import WeightsFile
from ..model.find import find_hash
from .files import STREAM, Job
from .messages import attempt
from .values import MAX_QUALITY

BESIDES = {"alpha": "alpha", **NAMES, "comments": "comments"}


def info(options: argparse.Namespace) -> bool:
    job = Job(None if options.file == STREAM else Path(options.file), None)
    return attempt(lambda: show(job, options.json), job.name)


def show(job: Job, as_json: bool) -> None:
    data = job.read()
    container = unpack_left(data)
    weights = at_hand(container)
    if as_json:
        print(json.dumps({"file": job.name, **fields(container, len(data), weights)}, indent=2))
    else:
        print("\n".join([job.name, *lines(container, len(data), weights)]))


def at_hand(container: Container) -> WeightsFile | None:
    """The model that the file was made with, if it is on this machine."""
    try:
        return find_hash(container.model, container.model_hash)
    except ModelNotFoundError:
        return None


def fields(container: Container, size: int, weights: WeightsFile | None) -> dict[str, Any]:
    """What `--json` prints; sizes in bytes, None for what there isn't; `progress` is 1 unless the file was cut."""
    levels = None if weights is None else weights.config.get("levels", 1)
    levels = levels if isinstance(levels, int) and levels > 0 else None  # a weights file may say anything
    sizes = {name: getattr(container, name) for name in ("alpha", "icc", "exif")}
    sizes |= {name: dict(container.ancillary).get(kind) for kind, name in ANCILLARY.items()}
    return {
        "bytes": size,
        "bpp": 8 * size / (container.width * container.height),
        "width": container.width,
        "height": container.height,
        "colour": container.colour,
        "bit_depth": container.bit_depth,
        "model": container.model,
        "model_hash": container.model_hash.hex(),
        "model_path": None if weights is None else str(weights.path),
        "level": container.level,
        "levels": levels,
        "quality": None if levels is None else quality_of(container.level, levels),
        "tile_side": container.tile_side,
        "tiles": container.tile_count,
        "progressive": container.passes > 1,
        "progress": container.progress,
        **{f"{name}_bytes": None if chunk is None else len(chunk) for name, chunk in sizes.items()},
    }


def quality_of(level: int, levels: int) -> int | None:
    """The quality 1..100 that gives a level, the middle one of several (`Codec.level_of` is the way back).

    None for a model of one level, which every quality gives, and for a level that no quality gives.
    """
    if levels == 1:
        return None
    quality = 1 + round(level / (levels - 1) * (MAX_QUALITY - 1))
    back = round((quality - 1) / (MAX_QUALITY - 1) * (levels - 1))
    return quality if quality <= MAX_QUALITY and back == level else None


def quality_line(told: dict[str, Any]) -> str:
    """Quality and level, or the level alone where the model, which says how many there are, isn't at hand."""
    if told["levels"] is None:
        return f"level {told['level']}"
    if told["levels"] == 1:
        return "the only one of its model"
    quality = "" if told["quality"] is None else f"{told['quality']} of 1 to {MAX_QUALITY}, "
    return f"{quality}level {told['level']} of 0 to {told['levels'] - 1}"


def lines(container: Container, size: int, weights: WeightsFile | None) -> list[str]:
    """The same for a reader."""
    told = fields(container, size, weights)
    extras = ", ".join(
        f"{name} {told[f'{field}_bytes']:,} bytes"
        for field, name in BESIDES.items()
        if told[f"{field}_bytes"] is not None
    )
    where = "not at hand" if weights is None else f"at hand: {weights.path}"
    whole = container.progress == 1
    amount = f"{told['bpp']:.3f} bpp" if whole else f"cut short: {int(100 * container.progress)}% can be decoded"
    return [
        f"  size     {size:,} bytes, {amount}",
        f"  picture  {container.width} x {container.height} pixels, {container.colour}, {container.bit_depth} bits",
        f"  extras   {extras or 'none'}",
        f"  tiles    {told['tiles']} of at most {container.tile_side} x {container.tile_side} pixels"
        + ", progressive" * told["progressive"],
        f"  quality  {quality_line(told)}",
        f"  model    {container.model}, hash {told['model_hash']}, {where}",
    ]
