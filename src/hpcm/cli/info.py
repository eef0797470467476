"""`hpcm info`: the header of a .hpcm file, without decoding it, or what a model is."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..codec.info import file_info
from ..defaults import MAX_QUALITY
from ..errors import ModelNotFoundError
from ..format.container import unpack_left
from ..format.fields import Container
from ..image.metadata.record import NAMES
from ..model.file import SUFFIX as WEIGHTS_SUFFIX
from ..model.file import WeightsFile
from ..model.find import find, find_all, find_hash
from . import models
from .jobs import Job
from .messages import attempt, printable
from .parsing import Commands, add_command
from .streams import is_standard_input

EXTRAS = {"alpha": "alpha", **NAMES, "comments": "comments"}  # data besides pixels: field -> name


def add(commands: Commands) -> None:
    text = "show the header of a .hpcm file, without decoding it, or what a model is"
    command = add_command(commands, "info", info, text)
    text = "a .hpcm file, - for stdin, or a model: its weights file, training run or name"
    command.add_argument("file", metavar="FILE|MODEL", help=text)
    command.add_argument("--json", action="store_true", help="print JSON")


def info(options: argparse.Namespace) -> bool:
    if is_model(options.file):
        return attempt(lambda: show_model(options.file, options.json), options.file)
    job = Job(None if is_standard_input(options.file) else Path(options.file), None)
    return attempt(lambda: show(job, options.json), job.name)


def is_model(text: str) -> bool:
    """Whether a run or a weights file is meant, or an installed model, where there is no file of this name."""
    path = Path(text)
    if path.is_dir() or path.suffix == WEIGHTS_SUFFIX:
        return True
    try:
        return not is_standard_input(text) and not path.exists() and bool(find_all(text))
    except ModelNotFoundError:
        return False


def show_model(text: str, as_json: bool) -> None:
    model = models.describe(find(Path(text) if Path(text).exists() else text))
    print(json.dumps(model, indent=2) if as_json else "\n".join(map(printable, models.model_lines(model))))


def show(job: Job, as_json: bool) -> None:
    data = job.read()
    container = unpack_left(data)
    weights = installed(container)
    fields = file_info(container, len(data), weights)
    path = None if weights is None else str(weights.path)
    if as_json:
        print(json.dumps({"file": job.name, **fields, "model_path": path}, indent=2))
    else:
        print("\n".join([printable(job.name), *lines(fields, path)]))


def installed(container: Container) -> WeightsFile | None:
    """The model that the file was made with, None if it isn't installed."""
    try:
        return find_hash(container.model, container.model_hash)
    except ModelNotFoundError:
        return None


def lines(fields: dict[str, Any], model_path: str | None) -> list[str]:
    """The header as lines of text."""
    sizes = {name: fields[f"{field}_bytes"] for field, name in EXTRAS.items()}
    if gain_map := fields["gain_map_size"]:
        sizes[f"{EXTRAS['gain_map']} of {gain_map[0]} x {gain_map[1]} pixels"] = sizes.pop(EXTRAS["gain_map"])
    extras = [f"{name} {size:,} bytes" for name, size in sizes.items() if size is not None]
    amount = f"{fields['bpp']:.3f} bpp"
    if fields["progress"] < 1:
        amount = f"cut short: {int(100 * fields['progress'])}% can be decoded"
    tiles = f"{fields['tiles']} of at most {fields['tile_side']} x {fields['tile_side']} pixels"
    if fields["progressive"]:
        tiles += ", progressive"
    status = f"installed: {model_path}" if model_path else "not installed"
    return [
        f"  size     {fields['bytes']:,} bytes, {amount}",
        f"  picture  {fields['width']} x {fields['height']} pixels, {fields['colour']}, {fields['bit_depth']} bits",
        f"  extras   {', '.join(extras) or 'none'}",
        f"  tiles    {tiles}",
        f"  quality  {quality_line(fields)}",
        f"  model    {fields['model']}, hash {fields['model_hash']}, {status}",
    ]


def quality_line(fields: dict[str, Any]) -> str:
    """What the residual layer promises, then quality and level of the lossy picture."""
    residual = fields["residual"]
    if residual is None:
        return lossy_quality(fields)
    if residual["max_error"] is None:
        return f"{lossy_quality(fields)}, with a residual layer"
    promise = "lossless" if residual["lossless"] else f"no sample off by more than {residual['max_error']}"
    if residual["beside"] == "grey":
        return f"{promise}, without a lossy picture"
    return f"{promise}, with a lossy picture ({lossy_quality(fields)})"


def lossy_quality(fields: dict[str, Any]) -> str:
    """Quality and level; the level alone if the model, which has the number of levels, isn't installed."""
    if fields["levels"] is None:
        return f"level {fields['level']}"
    if fields["levels"] == 1:
        return "the only one of its model"
    quality = "" if fields["quality"] is None else f"{fields['quality']} of 1 to {MAX_QUALITY}, "
    return f"{quality}level {fields['level']} of 0 to {fields['levels'] - 1}"
