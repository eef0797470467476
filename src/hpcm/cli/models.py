"""`hpcm models`: lists the installed models, and fetches the authors'."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..model.config import Config
from ..model.file import WeightsFile
from ..model.find import alias_of, available, default, family_of, find_all, user_folder
from ..model.variants import described
from ..util.hardware import keep_pages
from .messages import attempt, say
from .parsing import Commands, add_command

EXACT = {True: "exact: files decode everywhere", False: "floating point: files decode where they were made"}


def add(commands: Commands) -> None:
    command = add_command(commands, "models", models, "list the installed models, or fetch the authors'")
    command.set_defaults(usage_error=command.error)
    command.add_argument("--json", action="store_true", help="print JSON")
    text = "fetch the authors' models and make them exact: base, large, 1b, base-phi, base-ssim, large-ssim, or one, "
    text += "base-0130; needs hpcm-codec[torch], and hpcm-codec[get] to download"
    command.add_argument("--get", metavar="NAME", help=text)
    text = "take the checkpoints from here instead of downloading them; their names must contain their lambdas"
    command.add_argument("--from", dest="source", metavar="FOLDER|FILE", help=text)
    text = "photographs to calibrate on, by default those of the package"
    command.add_argument("--photos", metavar="FOLDER", help=text)
    command.add_argument("-f", "--force", action="store_true", help="make existing models again")


def models(options: argparse.Namespace) -> bool | None:
    if options.get is not None:
        return get(options)
    if options.source or options.photos or options.force:
        options.usage_error("--from, --photos and -f go with --get NAME")
    installed = [describe(weights) for weights in available()]
    if options.json:
        print(json.dumps(installed, indent=2))
    elif installed:
        print("\n".join(lines(installed)))
    else:
        print(f"no models are installed; put weights files into {user_folder()}")
    return None


def describe(weights: WeightsFile) -> dict[str, Any]:
    """What `--json` prints about a model."""
    default_model = default()
    return {
        "name": weights.name,
        "alias": alias_of(weights),
        "family": family_of(weights),
        "default": default_model is not None and weights.path == default_model.path,
        "hash": weights.hash.hex(),
        "levels": weights.config.get("levels"),
        "lambda": weights.lmbda,
        "M": weights.config.get("M"),
        "config": config_in_words(weights),
        "exact": bool(weights.config.get("carrier")),
        "provenance": weights.provenance,
        "path": str(weights.path),
    }


def config_in_words(weights: WeightsFile) -> str:
    """A named configuration, and what differs from it: nano with steps=2,3,12."""
    try:
        return described(Config.from_dict(weights.config))
    except (TypeError, ValueError):
        return "a configuration that this hpcm doesn't know"


def lines(models: Sequence[dict[str, Any]]) -> list[str]:
    """The families and the models for a reader."""
    families = dict.fromkeys(model["family"] for model in models if model["family"])
    result = [family_line(name) for name in families]
    for model in models:
        result += model_lines(model)
    return result


def family_line(name: str) -> str:
    models = find_all(name)
    lambdas = f"lambda {models[0].lmbda:g} to {models[-1].lmbda:g}"
    return f"{name}  a family of {len(models)} models, {lambdas}: {', '.join(model.name for model in models)}"


def model_lines(model: dict[str, Any]) -> list[str]:
    remarks = [model["alias"]] if model["alias"] else []
    if model["default"]:
        remarks.append("default")
    title = f"{model['name']}  ({', '.join(remarks)})" if remarks else model["name"]
    levels = f"lambda {model['lambda']:g}" if model["lambda"] else f"{model['levels']} quality levels"
    result = [
        f"{title}  {model['path']}",
        f"  hash {model['hash']}, {levels}, {model['M']} latent channels",
        f"  configuration: {model['config']}",
        f"  {EXACT[model['exact']]}",
    ]
    if model["provenance"]:
        result.append("  " + ", ".join(f"{key} {value}" for key, value in model["provenance"].items()))
    return result


def get(options: argparse.Namespace) -> bool:
    """Makes models of the authors' checkpoints; see docs/released.md."""
    from ..convert.catalogue import LICENCE, chosen
    from ..convert.checkpoints import checkpoints_in
    from ..convert.install import doubts, install, photos_of

    wanted = chosen(options.get)
    photos = photos_of(options.photos)
    given = checkpoints_in(Path(options.source), wanted) if options.source else {}
    for missing in [one for one in wanted if options.source and one not in given]:
        say("note", f"no checkpoint of it in {options.source}: the family lacks it", missing.name)
    keep_pages()
    report = partial(print, flush=True)
    done = [
        attempt(partial(install, one, given.get(one), photos, force=options.force, report=report), one.name)
        for one in (given or wanted)
    ]
    if any(done):
        for doubt in doubts(find_all(wanted[0].family)):
            say("note", doubt)
        print(f"licence: {LICENCE}\nuse: hpcm compress --model {options.get} PICTURE")
    return all(done)
