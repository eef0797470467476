"""What the command line accepts: argparse's parser, with a function to run for each command in `options.run`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from .. import __version__
from ..coding.config import MODELS
from ..weights import DEFAULT_MODEL
from . import values
from .archiving import archive
from .archiving import options as archive_options
from .convert import compress, decompress
from .desktop import desktop, thumbnail
from .evaluate import bench, evaluate
from .info import info
from .models import exact, import_, models
from .serving import options as serve_options
from .serving import serve
from .training import train

DEFAULT_QUALITY, MAX_DECODED = 50, 1 << 28  # as in codec.py
EFFORTS = range(10)  # as in codec.py
ENGINES = ("auto", "onnx", "torch")  # as in engine/choice.py
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
    for add in (_compress, _decompress, _info, _models, _import, _exact, _train, _eval, _bench, _thumbnail, _desktop):
        add(commands)
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
    _where(command)


def _where(command: Any) -> None:
    command.add_argument("--device", choices=DEVICES, default="cpu", help="where to compute, by default cpu")
    _engine(command)


def _engine(command: Any) -> None:
    text = "what computes; auto, the default: ONNX Runtime where it can, else torch"
    command.add_argument("--engine", choices=ENGINES, default="auto", help=text)
    command.add_argument("--threads", type=values.whole, metavar="N", help="CPU threads, by default one for each core")


def _info(commands: Commands) -> None:
    command = _command(commands, "info", info, "what a .hpcm file says, without decoding it")
    command.add_argument("file", metavar="FILE", help="a .hpcm file, or - for stdin")
    command.add_argument("--json", action="store_true", help="for programs")


def _models(commands: Commands) -> None:
    command = _command(commands, "models", models, "the models at hand")
    command.add_argument("--all", action="store_true", help="those that are retired too, which only decode")
    command.add_argument("--json", action="store_true", help="for programs")


def _import(commands: Commands) -> None:
    command = _command(commands, "import", import_, "a checkpoint of the authors to a weights file")
    command.add_argument("file", metavar="FILE", help="the checkpoint, .pth.tar or .pth")
    command.add_argument("--arch", choices=ARCHITECTURES, required=True, help="which of their models it is")
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


def _train(commands: Commands) -> None:
    command = _command(commands, "train", train, "a model on photographs")
    text = "by default nano, or that of --init or of the run"
    command.add_argument("--config", choices=list(MODELS), help=text)
    text = "folders, tar archives or files of photographs; repeated, each is a source of its own for --mix"
    command.add_argument("--data", nargs="+", action="append", metavar="DIR|TAR", help=text)
    text = "folder for checkpoint, log and weights; `hpcm compress --model RUN` uses them"
    command.add_argument("--out", metavar="RUN", help=text)
    text = "go on from the run's checkpoint, with its options where none are given"
    command.add_argument("--resume", action="store_true", help=text)
    text = "start anew in a folder that holds a run, which is lost"
    command.add_argument("-f", "--force", action="store_true", help=text)
    budget = command.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=values.positive, help="train so long, in this call")
    budget.add_argument("--steps", type=values.whole, help="train up to this step")
    budget.add_argument("--plot", metavar="RUN", help="don't train: draw the run's curves into RUN/curves.png")
    # Below: fields of train.options.Options, where the defaults are.
    _train_learning(command.add_argument_group("what is learned, and how"))
    _train_place(command.add_argument_group("where, and how fast"))
    _train_files(command.add_argument_group("what is read and written"))


def _train_learning(group: Any) -> None:
    text = "start from a model: its name, weights file or run (fine-tuning)"
    group.add_argument("--init", metavar="NAME|PATH", help=text)
    group.add_argument("--loss", choices=("mse", "ms-ssim"), help="the distortion, by default mse")
    text = "weight of the distortion, for models of one quality level (the others draw it)"
    group.add_argument("--lambda", dest="lmbda", type=values.positive, metavar="X", help=text)
    text = "multiply the loss of a quality level by lambda^-X; 0.5, the default, gives all levels about equal shares"
    group.add_argument("--balance", type=values.not_negative, metavar="X", help=text)
    group.add_argument("--crop", type=values.whole, metavar="N", help="side of the crops in pixels")
    group.add_argument("--batch", type=values.whole, metavar="N", help="crops at a time, in each process")
    group.add_argument("--accumulate", type=values.whole, metavar="N", help="batches per step, by default 1")
    text = "share of the crops of each --data, in their order: 0.85 0.15; by default by area"
    group.add_argument("--mix", type=values.positive, nargs="+", metavar="X", help=text)
    text = "shrink crops by random factors down to X, 0 to 1; by default 1"
    group.add_argument("--downscale", type=values.share, metavar="X", help=text)
    text = "muon (for matrices; Adam for the rest) is the default for nano and lite, adam for others and with --init"
    group.add_argument("--optimizer", choices=("adam", "muon"), help=text)
    group.add_argument("--rate", type=values.positive, metavar="X", help="learning rate after the warm-up")
    group.add_argument("--warmup", type=values.whole, metavar="N", help="steps of the warm-up")
    text = "of the learning rate: constant with a decay at the end, a cosine, or the paper's steps"
    group.add_argument("--schedule", choices=("decay", "cosine", "published"), help=text)
    text = "last part of the budget, 0 to 1, in which the learning rate falls to zero"
    group.add_argument("--decay", type=values.share, metavar="X", help=text)
    group.add_argument(
        "--clip", type=values.positive, metavar="X", help="largest norm of the gradient; larger ones are cut"
    )
    group.add_argument(
        "--average", type=values.share, metavar="X", help="decay per step of the weights' moving average"
    )
    group.add_argument("--seed", type=int, metavar="N", help="of all random numbers")


def _train_place(group: Any) -> None:
    group.add_argument("--device", choices=("auto", *DEVICES), help="where to compute; auto, the default: a GPU if any")
    text = "bf16: autocast to bfloat16; auto, the default: the faster of both, by a measurement"
    group.add_argument("--precision", choices=("auto", "bf16", "float32"), help=text)
    group.add_argument("--compile", action="store_true", default=None, help="use torch.compile")
    text = "compute the activations of blocks again instead of keeping them: less memory, more time"
    group.add_argument("--recompute", action="store_true", default=None, help=text)
    text = (
        "share weights, gradients, Adam's moments and the average out among torchrun's processes: less memory in each"
    )
    group.add_argument("--fsdp", action=argparse.BooleanOptionalAction, help=text)
    group.add_argument("--threads", type=values.whole, metavar="N", help="CPU threads of torch")
    text = "for decoded pictures, in each process; by default its share of half of what is free; more is read in parts"
    group.add_argument("--memory", type=values.positive, metavar="GB", help=text)


def _train_files(group: Any) -> None:
    text = "pictures for evaluation; by default 16 of the data, which are then not trained on"
    group.add_argument("--held-out", metavar="DIR", help=text)
    text = "time between evaluations on real files, by default 60; 0: never"
    group.add_argument("--evaluate", type=values.not_negative, metavar="MINUTES", help=text)
    group.add_argument("--save", type=values.positive, metavar="MINUTES", help="between checkpoints, by default 3")
    group.add_argument(
        "--shard-size", type=values.positive, metavar="MB", help="write checkpoints in pieces of this size"
    )
    group.add_argument("--tensorboard", action="store_true", default=None, help="write RUN/tensorboard too")


def _eval(commands: Commands) -> None:
    command = _command(commands, "eval", evaluate, "rate and quality of models beside other codecs, as a report")
    text = "pictures without losses, and folders of them"
    command.add_argument("pictures", nargs="+", metavar="PICTURE", help=text)
    text = "weights files and names of models, none for conventional codecs only; by default the bundled one"
    command.add_argument("--model", nargs="*", metavar="NAME|PATH", help=text)
    text = "by default %(default)s; there are also mozjpeg, avif-slow, avif-420, avif-iq, heic, vvenc"
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
    command.add_argument("--device", choices=DEVICES, default="cpu", help="where models compute, by default cpu")


def _bench(commands: Commands) -> None:
    command = _command(commands, "bench", bench, "size, multiplications and speed of models on this machine")
    text = "weights files, names of models, or architectures with random weights; by default the bundled model"
    command.add_argument("models", nargs="*", metavar="MODEL", help=text)
    text = "of the picture, by default 768x512; may be repeated"
    command.add_argument("--size", type=values.size, action="append", metavar="WxH", help=text)
    command.add_argument("--repeats", type=values.whole, default=5, metavar="N", help="of which the median is taken")
    command.add_argument("--device", choices=DEVICES, help="where to compute, by default everywhere")
    _engine(command)
    text = "time the encoder with these efforts, too"
    command.add_argument("--effort", type=values.efforts, default=(), metavar="E,E,...", help=text)
    text = "a checkout of the authors' code, to run on the same weights and picture"
    command.add_argument("--against", metavar="PATH", help=text)
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
