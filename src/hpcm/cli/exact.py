"""`hpcm exact`: a trained model to one whose files decode everywhere; see docs/exactness.md."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..defaults import CARRIERS
from ..model.config import Config
from ..model.file import SUFFIX, describe
from ..model.find import find, own_name
from ..util.atomic import replacing
from .messages import printable
from .outputs import refuse_misnamed
from .parsing import Commands, add_command


def add(commands: Commands) -> None:
    text = "make a trained or imported model exact, so that its files decode everywhere"
    command = add_command(commands, "exact", exact, text)
    command.add_argument("model", metavar="MODEL", help="model name, weights file or training run")
    text = "photographs to calibrate on; a dozen are enough"
    command.add_argument("pictures", nargs="+", metavar="PICTURE", help=text)
    text = "number format of the sums; by default float32, or split for wide models and models with attention"
    command.add_argument("--carrier", choices=CARRIERS, help=text)
    text = "the exact model that MODEL has trained the synthesis of, whose files it then decodes, too; by default the "
    text += "one that a run with `--train synthesis` began with"
    command.add_argument("--synthesis-of", metavar="NAME|PATH", help=text)
    text = "new name of the model, which .hpcm files state; by default unchanged"
    command.add_argument("--name", help=text)
    command.add_argument("-o", "--output", metavar="OUT", required=True, help="FILE.safetensors")
    command.add_argument("-f", "--force", action="store_true", help="overwrite an existing file")


def exact(options: argparse.Namespace) -> None:
    refuse_misnamed(Path(options.output), SUFFIX)
    from ..codec.engine import unsuited
    from ..convert.models import exact_origin, write_exact
    from ..nn.weights import load_model

    weights = find(options.model)
    name = own_name(options.name or weights.name, "name yours with --name mine-1")
    model = load_model(weights).model
    origin = find(options.synthesis_of) if options.synthesis_of else exact_origin(weights)
    with replacing(Path(options.output), options.force) as temporary:
        write_exact(model, temporary, options.pictures, name, options.carrier, weights.provenance, origin)
    why = unsuited(Config.from_dict(describe(Path(options.output)).config))
    engine = f"torch, because {why}" if why else "core"
    engine += f"; it reads the files of {origin.name}" if origin else ""
    print(printable(f"{options.model} -> {options.output}  (engine on the CPU: {engine})"))
