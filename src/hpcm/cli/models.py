"""`hpcm models`, `hpcm import`, `hpcm exact`: weights files, listed and made."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..atomic import replacing
from ..weights import WeightsFile, alias_of, available, default, user_folder

CALIBRATION_SIDE = 512  # pixels of the crops that an exact model is calibrated on, at most
CALIBRATION_LEVELS = 4  # quality levels of each crop
EXACT = {True: "exact: files decode everywhere", False: "floating point: files decode where they were made"}


def models(options: argparse.Namespace) -> None:
    found = list(available(retired=options.all))
    rows = [row(weights) for weights in found]
    if options.json:
        print(json.dumps(rows, indent=2))
    elif not rows:
        print(f"no models are at hand; weights files belong into {user_folder()}")
    for told in [] if options.json else rows:
        what = [told["alias"], "default" * told["default"], "retired: decodes only" * told["decodes_only"]]
        said = ", ".join(filter(None, what))
        print(f"{told['name']}{f'  ({said})' if said else ''}  {told['path']}")
        print(f"  hash {told['hash']}, {told['levels']} quality levels, {told['M']} latent channels")
        print(f"  {EXACT[told['exact']]}")
        if told["provenance"]:
            print("  " + ", ".join(f"{key} {value}" for key, value in told["provenance"].items()))


def row(weights: WeightsFile) -> dict[str, Any]:
    """What is told about a model."""
    chosen = default()
    return {
        "name": weights.name,
        "alias": alias_of(weights),
        "default": chosen is not None and weights.path == chosen.path,
        "decodes_only": weights.decodes_only,
        "hash": weights.hash.hex(),
        "levels": weights.config.get("levels"),
        "M": weights.config.get("M"),
        "exact": bool(weights.config.get("carrier")),
        "provenance": weights.provenance,
        "path": str(weights.path),
    }


def import_(options: argparse.Namespace) -> None:
    from ..official import import_checkpoint

    with replacing(Path(options.output), options.force) as temporary:
        import_checkpoint(Path(options.file), options.arch, temporary)
    print(f"{options.file} -> {options.output}")


def exact(options: argparse.Namespace) -> None:
    """Quantises a model after training so that its files decode everywhere; see docs/exactness.md."""
    import torch

    from ..engine.export import graphs
    from ..engine.onnx import unsuited
    from ..engine.torch import load_model, save
    from ..errors import PictureError, UsageError
    from ..fields import MODEL_NAME
    from ..model.exact import carrier_for, make_exact
    from ..picture import from_image
    from ..sources import open_picture
    from ..tiles import cropped
    from ..weights import find

    if options.name and not MODEL_NAME.fullmatch(options.name):
        raise UsageError(f"--name {options.name!r}: a model's name is 1 to 32 of a-z 0-9 ._- and no ._- in front")
    model, _, weights = load_model(find(options.model))
    config = model.config
    carrier = options.carrier or carrier_for(config)
    levels = torch.linspace(0, config.levels - 1, CALIBRATION_LEVELS if config.levels > 1 else 1)
    batches = []
    for name in options.pictures:
        picture = from_image(open_picture(Path(name).read_bytes()))
        sides = [min(side, CALIBRATION_SIDE) // config.multiple * config.multiple for side in picture.size]
        if min(sides) == 0:
            raise PictureError(f"{name} is smaller than {config.multiple} pixels, too small to calibrate on")
        top, left = ((whole - side) // 2 for whole, side in zip(picture.size, sides, strict=True))
        x = model.arrays.put(cropped(picture, (left, top, left + sides[1], top + sides[0])))
        batches += [(x, level[None]) for level in levels]
    with replacing(Path(options.output), options.force) as temporary:
        pictures = f"{len(options.pictures)} pictures"
        provenance = {**weights.provenance, "exact": carrier, "calibrated on": pictures}
        exact = make_exact(model, batches, carrier)
        found = {} if unsuited(exact.config) else graphs(exact)
        save(exact, temporary, provenance, name=options.name or weights.name, graphs=found)
    print(f"{options.model} -> {options.output}")
