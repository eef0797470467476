"""`hpcm models`, `hpcm import`, `hpcm exact`: weights files, listed, fetched and made."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..model.file import SUFFIX, WeightsFile
from ..model.find import alias_of, available, default, find, find_all, ladder_of, released, user_folder
from ..util.atomic import replacing
from .convert import keep_pages
from .files import refuse_misnamed
from .messages import attempt, say

EXACT = {True: "exact: files decode everywhere", False: "floating point: files decode where they were made"}


def options(command: argparse.ArgumentParser) -> None:
    """What `hpcm models` takes."""
    command.set_defaults(misused=command.error)
    command.add_argument("--json", action="store_true", help="print JSON")
    text = "fetch the authors' models and make them exact: base, large, 1b, base-phi, base-ssim, large-ssim, or one, "
    command.add_argument(
        "--get", metavar="NAME", help=text + "base-0130; needs hpcm-codec[torch], and hpcm-codec[get] to download"
    )
    text = "take the checkpoints from here instead of downloading them; their names must contain their lambdas"
    command.add_argument("--from", dest="source", metavar="FOLDER|FILE", help=text)
    text = "photographs to calibrate on, by default those of the package"
    command.add_argument("--photos", metavar="FOLDER", help=text)
    command.add_argument("-f", "--force", action="store_true", help="make existing models again")


def models(options: argparse.Namespace) -> bool | None:
    if options.get is not None:
        return get(options)
    if options.source or options.photos or options.force:
        options.misused("--from, --photos and -f go with --get NAME")
    found = list(available())
    rows = [row(weights) for weights in found]
    ladders = dict.fromkeys(told["ladder"] for told in rows if told["ladder"])
    if options.json:
        print(json.dumps(rows, indent=2))
    elif not rows:
        print(f"no models are installed; put weights files into {user_folder()}")
    for name in [] if options.json else ladders:
        models = find_all(name)
        lambdas = f"lambda {models[0].lmbda:g} to {models[-1].lmbda:g}"
        print(f"{name}  a ladder of {len(models)} models, {lambdas}: {', '.join(model.name for model in models)}")
    for told in [] if options.json else rows:
        said = ", ".join(filter(None, [told["alias"], "default" * told["default"]]))
        print(f"{told['name']}{f'  ({said})' if said else ''}  {told['path']}")
        levels = f"lambda {told['lambda']:g}" if told["lambda"] else f"{told['levels']} quality levels"
        print(f"  hash {told['hash']}, {levels}, {told['M']} latent channels")
        print(f"  {EXACT[told['exact']]}")
        if told["provenance"]:
            print("  " + ", ".join(f"{key} {value}" for key, value in told["provenance"].items()))
    return None


def get(options: argparse.Namespace) -> bool:
    """Makes models of the authors' checkpoints; see docs/released.md."""
    from ..convert.catalogue import LICENCE, chosen
    from ..convert.checkpoints import checkpoints_in
    from ..convert.install import doubts, install, photos_of

    wanted = chosen(options.get)
    photos = photos_of(options.photos)
    given = checkpoints_in(Path(options.source), wanted) if options.source else {}
    for missing in [one for one in wanted if options.source and one not in given]:
        say("note", f"no checkpoint of it in {options.source}: the ladder lacks it", missing.name)
    keep_pages()
    tell = partial(print, flush=True)
    done = [
        attempt(partial(install, one, given.get(one), photos, force=options.force, report=tell), one.name)
        for one in (given or wanted)
    ]
    if any(done):
        for doubt in doubts(find_all(wanted[0].family)):
            say("note", doubt)
        print(f"licence: {LICENCE}\nuse: hpcm compress --model {options.get} PICTURE")
    return all(done)


def row(weights: WeightsFile) -> dict[str, Any]:
    """What is told about a model."""
    chosen = default()
    return {
        "name": weights.name,
        "alias": alias_of(weights),
        "ladder": ladder_of(weights),
        "default": chosen is not None and weights.path == chosen.path,
        "hash": weights.hash.hex(),
        "levels": weights.config.get("levels"),
        "lambda": weights.lmbda,
        "M": weights.config.get("M"),
        "exact": bool(weights.config.get("carrier")),
        "provenance": weights.provenance,
        "path": str(weights.path),
    }


def import_(options: argparse.Namespace) -> None:
    refuse_misnamed(Path(options.output), SUFFIX)
    from ..convert.official import import_checkpoint

    with replacing(Path(options.output), options.force) as temporary:
        import_checkpoint(Path(options.file), options.arch, temporary, options.lmbda)
    print(f"{options.file} -> {options.output}")


def exact(options: argparse.Namespace) -> None:
    """Quantises a model after training so that its files decode everywhere; see docs/exactness.md."""
    refuse_misnamed(Path(options.output), SUFFIX)
    from ..convert.calibrate import batches_of, exact_of, save_exact
    from ..engine.torch import load_model
    from ..format.fields import MODEL_NAME

    if options.name and not MODEL_NAME.fullmatch(options.name):
        raise UsageError(f"--name {options.name!r}: a model's name is 1 to 32 of a-z 0-9 ._- and no ._- in front")
    model, _, weights = load_model(find(options.model))
    name = options.name or weights.name
    if released(name):
        raise UsageError(f"{name} is a released model, which never changes: name yours with --name mine-1")
    batches = batches_of(model, options.pictures)
    with replacing(Path(options.output), options.force) as temporary:
        exact = exact_of(model, batches, options.carrier)
        save_exact(exact, temporary, weights.provenance, len(options.pictures), name)
    print(f"{options.model} -> {options.output}")
