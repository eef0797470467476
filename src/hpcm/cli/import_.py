"""`hpcm import`: a checkpoint of the authors to a weights file."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..defaults import ARCHITECTURES
from ..model.file import SUFFIX
from ..util.atomic import replacing
from . import types
from .messages import printable
from .outputs import refuse_misnamed
from .parsing import Commands, add_command


def add(commands: Commands) -> None:
    command = add_command(commands, "import", import_, "convert a checkpoint of the authors to a weights file")
    text = "the checkpoint: .pth.tar, .pth, .pt or .safetensors"
    command.add_argument("file", metavar="FILE", help=text)
    command.add_argument("--arch", choices=ARCHITECTURES, required=True, help="architecture of the checkpoint")
    text = "lambda of its training; models with one name and several lambdas form a family (base-0130, base-0250)"
    command.add_argument("--lambda", dest="lmbda", type=types.positive, metavar="X", help=text)
    text = "take the averaged weights (EMA) of a checkpoint that holds them beside others"
    command.add_argument("--ema", action="store_true", help=text)
    text = "NAME.safetensors; NAME becomes the model's name"
    command.add_argument("-o", "--output", metavar="OUT", required=True, help=text)
    command.add_argument("-f", "--force", action="store_true", help="overwrite an existing file")


def import_(options: argparse.Namespace) -> None:
    refuse_misnamed(Path(options.output), SUFFIX)
    from ..convert.official import import_checkpoint

    with replacing(Path(options.output), options.force) as temporary:
        import_checkpoint(Path(options.file), options.arch, temporary, options.lmbda, ema=options.ema)
    print(printable(f"{options.file} -> {options.output}"))
