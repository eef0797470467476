"""What the command line accepts: argparse's parser, with a function to run for each command in `options.run`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

from ..model.find import DEFAULT_MODEL
from . import values
from .archiving import archive
from .archiving import options as archive_options
from .completion import SHELLS, completion
from .convert import compress, decompress
from .desktop import desktop, thumbnail
from .evaluate import bench, evaluate
from .helping import first, help_
from .info import info
from .models import exact, import_, models
from .models import options as model_options
from .parsing import Parser
from .serving import options as serve_options
from .serving import serve
from .training import options as train_options
from .training import train
from .version import Version

DEFAULT_QUALITY, MAX_DECODED = 50, 1 << 28  # as in codec/codec.py
EFFORTS = range(10)  # as in codec/codec.py
ENGINES = ("auto", "onnx", "torch")  # as in engine/choice.py
ARCHITECTURES = ("base", "large", "1b", "base-phi")  # as in convert/official.py
FORMATS = "png, webp, tif, jpg, avif, jp2, ppm, bmp or gif"  # that decompress writes, of Pillow's
EXAMPLES = """examples:
  hpcm compress photo.jpg                   writes photo.hpcm
  hpcm compress photos -o small --bpp 0.5   every picture in a folder
  hpcm decompress photo.hpcm -o photo.webp
  hpcm info photo.hpcm
"""

Commands = Any  # argparse keeps the type of add_subparsers()'s result to itself


def parser() -> argparse.ArgumentParser:
    result = Parser(
        prog="hpcm",
        description="A learned image codec.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--version", action=Version)
    result.set_defaults(run=partial(first, parser))
    commands = result.add_subparsers(metavar="COMMAND")
    for add in (_compress, _decompress, _info, _import, _exact, _eval, _bench, _thumbnail, _desktop, _completion):
        add(commands)
    model_options(_command(commands, "models", models, "list the installed models, or fetch the authors'"))
    train_options(_command(commands, "train", train, "train a model on photographs"))
    serve_options(_command(commands, "serve", serve, "serve a page that encodes in the browser, and an HTTP API"))
    text = "compress millions of pictures, in folders, buckets, tar shards or Parquet, on Ray"
    archive_options(_command(commands, "archive", archive, text))
    _help(commands)
    return result


def _command(commands: Commands, name: str, run: Callable[[argparse.Namespace], Any], text: str) -> Any:
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(run=run)
    return command


def _compress(commands: Commands) -> None:
    command = _command(commands, "compress", compress, "encode pictures to .hpcm files")
    _files(command, "picture", ".hpcm file")
    target = command.add_mutually_exclusive_group()
    text = f"1 (smallest) to {values.MAX_QUALITY} (best), by default {DEFAULT_QUALITY}"
    target.add_argument("--quality", type=values.quality, metavar="Q", help=text)
    target.add_argument("--bpp", type=values.positive, help="the best quality with at most BPP bits per pixel")
    target.add_argument("--psnr", type=values.positive, help="the smallest file with at least PSNR dB")
    text = "side of the tiles in pixels, 256 to 4096, by default 1024; smaller tiles: faster regions, larger files"
    command.add_argument("--tile", type=values.tile, default=1024, metavar="N", help=text)
    text = "make the beginning of the file show the whole picture; by default if that costs little"
    command.add_argument("--progressive", action=argparse.BooleanOptionalAction, help=text)
    text = "0 (default) to 9: search for a smaller file, which takes minutes at 9; needs PyTorch"
    command.add_argument("--effort", type=int, choices=EFFORTS, default=0, metavar="E", help=text)
    text = "lite (default, for how pictures look), lite-mse (for PSNR), nano (fast), or another model, file or run"
    command.add_argument("--model", metavar="NAME|PATH", default=DEFAULT_MODEL, help=text)


def _decompress(commands: Commands) -> None:
    command = _command(commands, "decompress", decompress, "decode .hpcm files to pictures")
    _files(command, ".hpcm file", f"picture, whose suffix sets its format ({FORMATS})")
    text = f"format of pictures whose names aren't given, by default png: {FORMATS}"
    command.add_argument("--format", type=values.suffix, default="png", help=text)
    text = f"1 to {values.MAX_QUALITY}, of jpg, webp and avif, for a smaller picture; by default they are the best"
    command.add_argument("--quality", type=values.quality, metavar="Q", help=text)
    part = command.add_mutually_exclusive_group()
    text = "decode only this part of the picture; X and Y are pixels from the left and the top"
    part.add_argument("--crop", type=values.crop, metavar="WxH+X+Y", help=text)
    text = "reduce the picture to at most N pixels a side"
    part.add_argument("--max-size", type=values.whole, metavar="N", help=text)
    part = command.add_mutually_exclusive_group()
    text = "decode a coarse picture, from the first one or two of three scales"
    part.add_argument("--preview", type=int, choices=(1, 2), help=text)
    text = "decode files that were cut short as far as they go"
    part.add_argument("--partial", action="store_true", help=text)
    text = "use this model instead of the one that the file names"
    command.add_argument("--model", metavar="NAME|PATH", help=text)
    text = "refuse files with more pixels, by default %(default)s"
    command.add_argument("--max-pixels", type=values.whole, default=MAX_DECODED, metavar="N", help=text)


def _files(command: Any, source: str, target: str) -> None:
    command.add_argument("inputs", nargs="+", metavar="INPUT", help=f"a {source}, a folder of them, or - for stdin")
    text = f"the {target}, a folder, or - for stdout; by default next to the input"
    command.add_argument("-o", "--output", metavar="OUT", help=text)
    command.add_argument("-f", "--force", action="store_true", help="overwrite existing files")
    text = "skip inputs whose output exists and isn't older, instead of an error for each"
    command.add_argument("--skip-existing", action="store_true", help=text)
    text = "list the files that would be written, and write none"
    command.add_argument("-n", "--dry-run", action="store_true", help=text)
    command.add_argument("--keep-times", action="store_true", help="copy the times of the inputs to the outputs")
    text = "number of parallel processes, which share the cores; by default 1"
    command.add_argument("-j", "--jobs", type=values.whole, default=1, metavar="N", help=text)
    amount = command.add_mutually_exclusive_group()
    amount.add_argument("-q", "--quiet", action="store_true", help="print only errors")
    amount.add_argument("-v", "--verbose", action="store_true", help="also print what is loaded and tried")
    _where(command)


def _where(command: Any) -> None:
    command.add_argument("--device", choices=values.DEVICES, default="cpu", help="where to compute, by default cpu")
    _engine(command)


def _engine(command: Any) -> None:
    text = "what runs the networks; auto, the default: ONNX Runtime if possible, else torch"
    command.add_argument("--engine", choices=ENGINES, default="auto", help=text)
    command.add_argument("--threads", type=values.whole, metavar="N", help="CPU threads, by default one for each core")


def _info(commands: Commands) -> None:
    command = _command(commands, "info", info, "show the header of a .hpcm file, without decoding it")
    command.add_argument("file", metavar="FILE", help="a .hpcm file, or - for stdin")
    command.add_argument("--json", action="store_true", help="print JSON")


def _import(commands: Commands) -> None:
    command = _command(commands, "import", import_, "convert a checkpoint of the authors to a weights file")
    command.add_argument("file", metavar="FILE", help="the checkpoint, .pth.tar or .pth")
    command.add_argument("--arch", choices=ARCHITECTURES, required=True, help="architecture of the checkpoint")
    text = "lambda of its training; models with one name and several lambdas form a ladder (base-0130, base-0250)"
    command.add_argument("--lambda", dest="lmbda", type=values.positive, metavar="X", help=text)
    text = "NAME.safetensors; NAME becomes the model's name"
    command.add_argument("-o", "--output", metavar="OUT", required=True, help=text)
    command.add_argument("-f", "--force", action="store_true", help="overwrite an existing file")


def _exact(commands: Commands) -> None:
    command = _command(
        commands, "exact", exact, "make a trained or imported model exact, so that its files decode everywhere"
    )
    command.add_argument("model", metavar="MODEL", help="model name, weights file or training run")
    text = "photographs to calibrate on; a dozen are enough"
    command.add_argument("pictures", nargs="+", metavar="PICTURE", help=text)
    text = "number format of the sums; by default float32, or split for wide models and models with attention"
    command.add_argument("--carrier", choices=("float32", "split", "float64"), help=text)
    text = "new name of the model, which .hpcm files state; by default unchanged"
    command.add_argument("--name", help=text)
    command.add_argument("-o", "--output", metavar="OUT", required=True, help="FILE.safetensors")
    command.add_argument("-f", "--force", action="store_true", help="overwrite an existing file")


def _eval(commands: Commands) -> None:
    command = _command(commands, "eval", evaluate, "measure rate and quality of models and other codecs, as a report")
    text = "lossless pictures, and folders of them"
    command.add_argument("pictures", nargs="+", metavar="PICTURE", help=text)
    text = "names or weights files of models; without a name, none; by default the bundled one"
    command.add_argument("--model", nargs="*", metavar="NAME|PATH", help=text)
    text = "by default %(default)s; also available: mozjpeg, avif-slow, avif-420, avif-ssim, avif-iq, heic, vvenc"
    command.add_argument("--codecs", default="jpeg,webp,avif,jxl", metavar="A,B,...", help=text)
    text = "folder for report.html, results.json, plots, and a cache with which a stopped run continues"
    command.add_argument("-o", "--output", required=True, metavar="REPORT", help=text)
    text = "quality levels of the models, 1 to 100"
    command.add_argument("--qualities", type=values.settings, default=(), metavar="Q,Q,...", help=text)
    text = "efforts of the models, 0 to 9, by default 0; each gets its own curve"
    command.add_argument("--effort", type=values.efforts, default=(0,), metavar="E,E,...", help=text)
    text = "settings of a conventional codec, in its own units; may be repeated"
    command.add_argument(
        "--settings", type=values.codec_settings, action="append", default=[], metavar="CODEC=S,S,...", help=text
    )
    text = "number of parallel processes; times are most reliable with 1"
    command.add_argument("--jobs", type=values.whole, default=1, metavar="N", help=text)
    command.add_argument("--limit", type=values.whole, metavar="N", help="only the first N pictures")
    text = "number of pictures shown side by side, by default 3"
    command.add_argument("--show", type=int, default=3, metavar="N", help=text)
    command.add_argument("--lpips", action="store_true", help="also measure LPIPS; needs the package lpips")
    text = "also measure SSIMULACRA 2; a second or more per megapixel"
    command.add_argument("--ssimulacra2", action="store_true", help=text)
    text = "compare with published curves even if the pictures aren't Kodak's"
    command.add_argument("--published", action="store_true", help=text)
    command.add_argument("--device", choices=values.DEVICES, default="cpu", help="where models compute, by default cpu")
    text = "what runs the models' networks; auto, the default: ONNX Runtime if possible, else torch"
    command.add_argument("--engine", choices=ENGINES, default="auto", help=text)
    text = "CPU threads of each codec, by default 1, so that their times can be compared"
    command.add_argument("--threads", type=values.whole, default=1, metavar="N", help=text)


def _bench(commands: Commands) -> None:
    command = _command(commands, "bench", bench, "measure size, multiplications and speed of models on this machine")
    text = "weights files, names of models, or architectures with random weights; by default lite"
    command.add_argument("models", nargs="*", metavar="MODEL", help=text)
    text = "size of the picture, by default 768x512; may be repeated"
    command.add_argument("--size", type=values.size, action="append", metavar="WxH", help=text)
    text = "number of runs, whose median is printed; by default 5"
    command.add_argument("--repeats", type=values.whole, default=5, metavar="N", help=text)
    text = "where to compute, by default on the CPU and, if there is one, the GPU"
    command.add_argument("--device", choices=values.DEVICES, help=text)
    _engine(command)
    text = "also time the encoder with these efforts"
    command.add_argument("--effort", type=values.efforts, default=(), metavar="E,E,...", help=text)
    text = (
        "a checkout of the authors' code, which runs with the same weights and picture, or of DCAE or LALIC; repeatable"
    )
    command.add_argument("--against", action="append", default=[], metavar="PATH", help=text)
    command.add_argument("--json", metavar="FILE", help="also write the numbers to FILE")


def _thumbnail(commands: Commands) -> None:
    command = _command(
        commands, "thumbnail", thumbnail, "make a small PNG of a .hpcm file, as file managers ask for it"
    )
    command.add_argument("file", metavar="IN", help="a .hpcm file; it may be cut short")
    command.add_argument("output", metavar="OUT", help="the PNG; it is overwritten")
    command.add_argument("side", type=values.whole, metavar="SIZE", help="largest side of the PNG in pixels")


def _desktop(commands: Commands) -> None:
    text = "make file managers recognise .hpcm files, for this user (freedesktop: Linux and BSD)"
    command = _command(commands, "desktop", desktop, text)
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--install", action="store_true", help="install the type image/x-hpcm and its thumbnailer")
    what.add_argument("--uninstall", action="store_true", help="remove both")


def _help(commands: Commands) -> None:
    command = _command(commands, "help", partial(help_, parser), "explain a command, or list them all")
    command.add_argument("command", nargs="?", choices=[*commands.choices], metavar="COMMAND", help="its name")


def _completion(commands: Commands) -> None:
    text = "print a script that makes a shell complete hpcm's commands, options and files"
    command = _command(commands, "completion", completion, text)
    command.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
