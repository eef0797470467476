"""`hpcm models`, `hpcm import`, `hpcm train`: weights files, listed and made."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..weights import DEFAULT_MODEL, WeightsFile, available, user_folder
from .convert import keep_pages
from .files import replacing


def models(options: argparse.Namespace) -> None:
    found = list(available())
    names = [weights.name for weights in found]
    rows = [row(weights, k == names.index(weights.name)) for k, weights in enumerate(found)]
    if options.json:
        print(json.dumps(rows, indent=2))
    elif not rows:
        print(f"no models are at hand; weights files belong into {user_folder()}")
    for told in [] if options.json else rows:
        print(f"{told['name']}{'  (default)' if told['default'] else ''}  {told['path']}")
        print(f"  hash {told['hash']}, {told['levels']} quality levels, {told['M']} latent channels")
        if told["provenance"]:
            print("  " + ", ".join(f"{key} {value}" for key, value in told["provenance"].items()))


def row(weights: WeightsFile, first: bool) -> dict[str, Any]:
    """What is told about a model; `first`: of its name."""
    return {
        "name": weights.name,
        "default": first and weights.name == DEFAULT_MODEL,
        "hash": weights.hash.hex(),
        "levels": weights.config.get("levels"),
        "M": weights.config.get("M"),
        "provenance": weights.provenance,
        "path": str(weights.path),
    }


def import_(options: argparse.Namespace) -> None:
    from ..official import import_checkpoint

    with replacing(Path(options.output), options.force) as temporary:
        import_checkpoint(Path(options.file), options.arch, temporary)
    print(f"{options.file} -> {options.output}")


def train(options: argparse.Namespace) -> None:
    keep_pages()
    import torch

    from ..train.loop import Options
    from ..train.loop import train as run

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    given = {field.name: getattr(options, field.name, None) for field in fields(Options)}
    chosen = Options(**{name: value for name, value in given.items() if value is not None})
    run(chosen, options.data, options.out, minutes=options.minutes, steps=options.steps, resume=options.resume)
