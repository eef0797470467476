"""What the command line accepts: argparse's parser, with a function to run for each command in `options.run`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from ..weights import DEFAULT_MODEL
from . import values
from .archiving import archive
from .archiving import options as archive_options
from .completion import SHELLS, completion
from .convert import compress, decompress
from .desktop import desktop, thumbnail
from .evaluate import bench, evaluate
from .info import info
from .models import exact, import_, models
from .models import options as model_options
from .serving import options as serve_options
from .serving import serve
from .training import options as train_options
from .training import train
from .version import Version

DEFAULT_QUALITY, MAX_DECODED = 50, 1 << 28  # as in codec.py
EFFORTS = range(10)  # as in codec.py
ENGINES = ("auto", "onnx", "torch")  # as in engine/choice.py
ARCHITECTURES = ("base", "large", "1b", "base-phi")  # as in official.py
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
    result.add_argument("--version", action=Version)
    commands = result.add_subparsers(metavar="COMMAND", required=True)
    for add in (_compress, _decompress, _info, _import, _exact, _eval, _bench, _thumbnail, _desktop, _completion):
        add(commands)
    model_options(_command(commands, "models", models, "the models at hand, and the authors', fetched"))
    train_options(_command(commands, "train", train, "a model on photographs"))
    serve_options(_command(commands, "serve", serve, "a page that codes in the browser, and an HTTP API"))
    text = "millions of pictures, in folders, buckets, tar shards or Parquet, on Ray"
    archive_options(_command(commands, "archive", archive, text))
    return result


def _command(commands: Commands, name: str, run: Callable[[argparse.Namespace], Any], text: str) -> Any:
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(run=run)
    return command


def _compress(commands: Commands) -> None:
    command = _command(commands, "compress", compress, "pictures to .hpcm files")
    _files(command, "picture", ".hpcm file")
    target = command.add_mutually_exclusive_group()
    text = f"1 (smallest) to {values.MAX_QUALITY} (best), by default {DEFAULT_QUALITY}"
    target.add_argument("--quality", type=values.quality, metavar="Q", help=text)
    target.add_argument("--bpp", type=values.positive, help="the best quality with at most so many bits per pixel")
    target.add_argument("--psnr", type=values.positive, help="the smallest file with at least so many dB")
    text = "side of the tiles in pixels, 256 to 4096, by default 1024; smaller: regions open faster, files are larger"
    command.add_argument("--tile", type=values.tile, default=1024, metavar="N", help=text)
    text = "whether the beginning of a file shows the whole picture, by default where that costs little"
    command.add_argument("--progressive", action=argparse.BooleanOptionalAction, help=text)
    text = "0, the default, to 9: a search for the smallest file, of minutes at 9; needs PyTorch"
    command.add_argument("--effort", type=int, choices=EFFORTS, default=0, metavar="E", help=text)
    text = f"model name, weights file or training run, by default {DEFAULT_MODEL}"
    command.add_argument("--model", metavar="NAME|PATH", default=DEFAULT_MODEL, help=text)


def _decompress(commands: Commands) -> None:
    command = _command(commands, "decompress", decompress, ".hpcm files to pictures")
    _files(command, ".hpcm file", "picture, whose suffix decides its format")
    text = "of pictures whose name isn't given, by default png; also webp, tif, ppm, jpg"
    command.add_argument("--format", type=values.suffix, default="png", help=text)
    part = command.add_mutually_exclusive_group()
    text = "only this part of the picture, X and Y pixels from the top left"
    part.add_argument("--crop", type=values.crop, metavar="WxH+X+Y", help=text)
    part.add_argument(
        "--max-size", type=values.whole, metavar="N", help="reduced, so that no side has more than N pixels"
    )
    part = command.add_mutually_exclusive_group()
    text = "a coarse picture, from the first one or two of three scales"
    part.add_argument("--preview", type=int, choices=(1, 2), help=text)
    text = "also files that were cut short: the picture as far as it goes"
    part.add_argument("--partial", action="store_true", help=text)
    text = "instead of the model that the file names"
    command.add_argument("--model", metavar="NAME|PATH", help=text)
    text = "refuse files that claim more pixels, by default %(default)s"
    command.add_argument("--max-pixels", type=values.whole, default=MAX_DECODED, metavar="N", help=text)


def _files(command: Any, source: str, target: str) -> None:
    command.add_argument("inputs", nargs="+", metavar="INPUT", help=f"a {source}, a folder of them, or - for stdin")
    text = f"the {target}, a folder, or - for stdout; by default beside the input"
    command.add_argument("-o", "--output", metavar="OUT", help=text)
    command.add_argument("-f", "--force", action="store_true", help="overwrite existing files")
    command.add_argument("-n", "--dry-run", action="store_true", help="say which files would be made, and make none")
    command.add_argument("--keep-times", action="store_true", help="give the outputs the times of their inputs")
    text = "processes, each with a file at a time and its share of the cores; by default 1"
    command.add_argument("-j", "--jobs", type=values.whole, default=1, metavar="N", help=text)
    amount = command.add_mutually_exclusive_group()
    amount.add_argument("-q", "--quiet", action="store_true", help="say only what fails")
    amount.add_argument("-v", "--verbose", action="store_true", help="also say what is loaded and tried")
    _where(command)


def _where(command: Any) -> None:
    command.add_argument("--device", choices=values.DEVICES, default="cpu", help="where to compute, by default cpu")
    _engine(command)


def _engine(command: Any) -> None:
    text = "what computes; auto, the default: ONNX Runtime where it can, else torch"
    command.add_argument("--engine", choices=ENGINES, default="auto", help=text)
    command.add_argument("--threads", type=values.whole, metavar="N", help="CPU threads, by default one for each core")


def _info(commands: Commands) -> None:
    command = _command(commands, "info", info, "what a .hpcm file says, without decoding it")
    command.add_argument("file", metavar="FILE", help="a .hpcm file, or - for stdin")
    command.add_argument("--json", action="store_true", help="for programs")


def _import(commands: Commands) -> None:
    command = _command(commands, "import", import_, "a checkpoint of the authors to a weights file")
    command.add_argument("file", metavar="FILE", help="the checkpoint, .pth.tar or .pth")
    command.add_argument("--arch", choices=ARCHITECTURES, required=True, help="which of their models it is")
    text = "what it was trained with; models of one name and several lambdas are a ladder (base-0130, base-0250)"
    command.add_argument("--lambda", dest="lmbda", type=values.positive, metavar="X", help=text)
    command.add_argument("-o", "--output", metavar="OUT", required=True, help="NAME.safetensors; it names the model")
    command.add_argument("-f", "--force", action="store_true", help="overwrite an existing file")


def _exact(commands: Commands) -> None:
    command = _command(commands, "exact", exact, "a trained or imported model to one whose files decode everywhere")
    command.add_argument("model", metavar="MODEL", help="model name, weights file or training run")
    text = "photographs to calibrate on, a dozen will do"
    command.add_argument("pictures", nargs="+", metavar="PICTURE", help=text)
    text = "what carries the sums; by default float32, or split for wide models and those with attention"
    command.add_argument("--carrier", choices=("float32", "split", "float64"), help=text)
    text = "of the model, as .hpcm files tell it; by default as before"
    command.add_argument("--name", help=text)
    command.add_argument("-o", "--output", metavar="OUT", required=True, help="FILE.safetensors")
    command.add_argument("-f", "--force", action="store_true", help="overwrite an existing file")


def _eval(commands: Commands) -> None:
    command = _command(commands, "eval", evaluate, "rate and quality of models beside other codecs, as a report")
    text = "pictures without losses, and folders of them"
    command.add_argument("pictures", nargs="+", metavar="PICTURE", help=text)
    text = "weights files and names of models, none for conventional codecs only; by default the bundled one"
    command.add_argument("--model", nargs="*", metavar="NAME|PATH", help=text)
    text = "by default %(default)s; there are also mozjpeg, avif-slow, avif-420, avif-ssim, avif-iq, heic, vvenc"
    command.add_argument("--codecs", default="jpeg,webp,avif,jxl", metavar="A,B,...", help=text)
    text = "folder for report.html, results.json, plots, and a cache from which it can go on"
    command.add_argument("-o", "--output", required=True, metavar="REPORT", help=text)
    command.add_argument(
        "--qualities", type=values.settings, default=(), metavar="Q,Q,...", help="of the models, 1 to 100"
    )
    text = "of the models, 0 to 9, by default 0; each is a curve of its own"
    command.add_argument("--effort", type=values.efforts, default=(0,), metavar="E,E,...", help=text)
    text = "of a conventional codec, in its own units; may be repeated"
    command.add_argument(
        "--settings", type=values.codec_settings, action="append", default=[], metavar="CODEC=S,S,...", help=text
    )
    command.add_argument(
        "--jobs", type=values.whole, default=1, metavar="N", help="processes; times are best taken with 1"
    )
    command.add_argument("--limit", type=values.whole, metavar="N", help="only the first N pictures")
    command.add_argument("--show", type=int, default=3, metavar="N", help="pictures side by side, by default 3")
    command.add_argument("--lpips", action="store_true", help="LPIPS as well; needs the package lpips")
    command.add_argument("--ssimulacra2", action="store_true", help="and SSIMULACRA 2; a second or more per megapixel")
    text = "compare with published curves though the pictures aren't Kodak's"
    command.add_argument("--published", action="store_true", help=text)
    command.add_argument("--device", choices=values.DEVICES, default="cpu", help="where models compute, by default cpu")


def _bench(commands: Commands) -> None:
    command = _command(commands, "bench", bench, "size, multiplications and speed of models on this machine")
    text = "weights files, names of models, or architectures with random weights; by default the bundled model"
    command.add_argument("models", nargs="*", metavar="MODEL", help=text)
    text = "of the picture, by default 768x512; may be repeated"
    command.add_argument("--size", type=values.size, action="append", metavar="WxH", help=text)
    command.add_argument("--repeats", type=values.whole, default=5, metavar="N", help="of which the median is taken")
    command.add_argument("--device", choices=values.DEVICES, help="where to compute, by default everywhere")
    _engine(command)
    text = "time the encoder with these efforts, too"
    command.add_argument("--effort", type=values.efforts, default=(), metavar="E,E,...", help=text)
    text = (
        "a checkout of the authors' code, to run on the same weights and picture, or of DCAE or LALIC; may be repeated"
    )
    command.add_argument("--against", action="append", default=[], metavar="PATH", help=text)
    command.add_argument("--json", metavar="FILE", help="write the numbers there too")


def _thumbnail(commands: Commands) -> None:
    command = _command(commands, "thumbnail", thumbnail, "a small PNG of a .hpcm file, as file managers ask for it")
    command.add_argument("file", metavar="IN", help="a .hpcm file, which may be cut short")
    command.add_argument("output", metavar="OUT", help="the PNG, which is overwritten")
    command.add_argument("side", type=values.whole, metavar="SIZE", help="pixels of the longer side, at most")


def _desktop(commands: Commands) -> None:
    text = "makes file managers know .hpcm files, for this user (freedesktop: Linux and BSD)"
    command = _command(commands, "desktop", desktop, text)
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--install", action="store_true", help="the type image/x-hpcm and its thumbnails")
    what.add_argument("--uninstall", action="store_true", help="removes them")


def _completion(commands: Commands) -> None:
    text = "a script that makes a shell complete hpcm's commands, options and files"
    command = _command(commands, "completion", completion, text)
    command.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
