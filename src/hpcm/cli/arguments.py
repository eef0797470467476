"""What the command line accepts: argparse's parser, with a function to run for each command in `options.run`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

from .. import __version__
from ..model.config import MODELS
from ..weights import DEFAULT_MODEL
from .convert import compress, decompress
from .info import info
from .models import import_, models, train

DEFAULT_QUALITY, MAX_QUALITY = 50, 100  # as in codec.py
ARCHITECTURES = ("base", "large", "1b", "base-phi")  # as in official.py
DEVICES = ("cpu", "cuda")
EXAMPLES = """examples:
  hpcm compress photo.jpg                   photo.hpcm, beside it
  hpcm compress photos -o small --bpp 0.5   every picture of a folder
  hpcm decompress photo.hpcm -o photo.webp
  hpcm info photo.hpcm
"""

Commands = Any  # argparse keeps the type of add_subparsers()'s result to itself


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="hpcm",
        description="A learned image codec.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--version", action="version", version=f"hpcm {__version__}")
    commands = result.add_subparsers(metavar="COMMAND", required=True)
    for add in (_compress, _decompress, _info, _models, _import, _train):
        add(commands)
    return result


def _command(commands: Commands, name: str, run: Callable[[argparse.Namespace], Any], text: str) -> Any:
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(run=run)
    return command


def _compress(commands: Commands) -> None:
    command = _command(commands, "compress", compress, "pictures to .hpcm files")
    _files(command, "picture", ".hpcm file")
    target = command.add_mutually_exclusive_group()
    text = f"1 (smallest) to {MAX_QUALITY} (best), by default {DEFAULT_QUALITY}"
    target.add_argument("--quality", type=_quality, metavar="Q", help=text)
    target.add_argument("--bpp", type=_positive, help="the best quality with at most so many bits per pixel")
    target.add_argument("--psnr", type=_positive, help="the smallest file with at least so many dB")
    text = f"model name, weights file or training run, by default {DEFAULT_MODEL}"
    command.add_argument("--model", metavar="NAME|PATH", default=DEFAULT_MODEL, help=text)


def _decompress(commands: Commands) -> None:
    command = _command(commands, "decompress", decompress, ".hpcm files to pictures")
    _files(command, ".hpcm file", "picture, whose suffix decides its format")
    text = "of pictures whose name isn't given, by default png; also webp, tif, ppm, jpg"
    command.add_argument("--format", type=_format, default="png", help=text)
    text = "instead of the model that the file names"
    command.add_argument("--model", metavar="NAME|PATH", help=text)


def _files(command: Any, source: str, target: str) -> None:
    command.add_argument("inputs", nargs="+", metavar="INPUT", help=f"a {source}, a folder of them, or - for stdin")
    text = f"the {target}, a folder, or - for stdout; by default beside the input"
    command.add_argument("-o", "--output", metavar="OUT", help=text)
    command.add_argument("-f", "--force", action="store_true", help="overwrite existing files")
    command.add_argument("--device", choices=DEVICES, default="cpu", help="where to compute, by default cpu")


def _info(commands: Commands) -> None:
    command = _command(commands, "info", info, "what a .hpcm file says, without decoding it")
    command.add_argument("file", metavar="FILE", help="a .hpcm file, or - for stdin")
    command.add_argument("--json", action="store_true", help="for programs")


def _models(commands: Commands) -> None:
    command = _command(commands, "models", models, "the models at hand")
    command.add_argument("--json", action="store_true", help="for programs")


def _import(commands: Commands) -> None:
    command = _command(commands, "import", import_, "a checkpoint of the authors to a weights file")
    command.add_argument("file", metavar="FILE", help="the checkpoint, .pth.tar or .pth")
    command.add_argument("--arch", choices=ARCHITECTURES, required=True, help="which of their models it is")
    command.add_argument("-o", "--output", metavar="OUT", required=True, help="NAME.safetensors; it names the model")
    command.add_argument("-f", "--force", action="store_true", help="overwrite an existing file")


def _train(commands: Commands) -> None:
    command = _command(commands, "train", train, "a model on photographs")
    text = f"by default {DEFAULT_MODEL}"
    command.add_argument("--config", choices=list(MODELS), default=DEFAULT_MODEL, help=text)
    text = "folders, tar archives or files of photographs"
    command.add_argument("--data", nargs="+", required=True, metavar="DIR|TAR", help=text)
    text = "folder for checkpoint, log and weights; `hpcm compress --model RUN` uses them"
    command.add_argument("--out", required=True, metavar="RUN", help=text)
    command.add_argument("--resume", action="store_true", help="go on from the run's checkpoint")
    budget = command.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=_positive, help="train so long, in this call")
    budget.add_argument("--steps", type=_whole, help="train up to this step")
    # Fields of train.loop.Options, where the defaults are.
    command.add_argument("--crop", type=_whole, metavar="N", help="side of the crops in pixels")
    command.add_argument("--batch", type=_whole, metavar="N", help="crops per step")
    command.add_argument("--rate", type=_positive, metavar="X", help="learning rate after the warm-up")
    command.add_argument("--warmup", type=_whole, metavar="N", help="steps of the warm-up")
    text = "last part of the budget, 0 to 1, in which the learning rate falls to zero"
    command.add_argument("--decay", type=_share, metavar="X", help=text)
    command.add_argument("--clip", type=_positive, metavar="X", help="norm of the gradient at which it is clipped")
    command.add_argument("--average", type=_share, metavar="X", help="decay of the weights' moving average")
    command.add_argument("--seed", type=int, metavar="N", help="of all random numbers")
    command.add_argument("--bf16", action="store_true", default=None, help="autocast to bfloat16")
    command.add_argument("--threads", type=_whole, metavar="N", help="CPU threads of torch")


# ---- types of arguments ---------------------------------------------------------------------------------------------


def _quality(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_QUALITY:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {MAX_QUALITY}")
    return int(text)


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return value


def _share(text: str) -> float:
    value = 0.0 if text == "0" else _positive(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not within 0 to 1")
    return value


def _format(text: str) -> str:
    return text.lower().removeprefix(".")
