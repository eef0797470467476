"""`hpcm eval`: rate and quality of models and other codecs, as a report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..defaults import DEFAULT_MODEL, DEVICES, ENGINES
from ..model.find import default
from ..util.hardware import keep_pages
from . import types
from .messages import say
from .parsing import Commands, add_command

if TYPE_CHECKING:
    from ..eval.evaluate import Watcher


def add(commands: Commands) -> None:
    command = add_command(
        commands, "eval", evaluate, "measure rate and quality of models and other codecs, as a report"
    )
    text = "lossless pictures, and folders of them"
    command.add_argument("pictures", nargs="+", metavar="PICTURE", help=text)
    text = "names or weights files of models; without a name, none; by default the bundled one"
    command.add_argument("--model", nargs="*", metavar="NAME|PATH", help=text)
    text = "by default %(default)s; also available: mozjpeg, avif-slow, avif-420, avif-ssim, avif-iq, heic, vvenc"
    command.add_argument("--codecs", default="jpeg,webp,avif,jxl", metavar="A,B,...", help=text)
    text = "folder for report.html, results.json, plots, and a cache with which a stopped run continues"
    command.add_argument("-o", "--output", required=True, metavar="REPORT", help=text)
    text = "quality levels of the models, 1 to 100"
    command.add_argument("--qualities", type=types.settings, default=(), metavar="Q,Q,...", help=text)
    text = "efforts of the models, 0 to 9, by default 0; each gets its own curve"
    command.add_argument("--effort", type=types.efforts, default=(0,), metavar="E,E,...", help=text)
    text = "settings of a conventional codec, in its own units; may be repeated"
    command.add_argument(
        "--settings", type=types.codec_settings, action="append", default=[], metavar="CODEC=S,S,...", help=text
    )
    text = "number of parallel processes; times are most reliable with 1"
    command.add_argument("--jobs", type=types.whole, default=1, metavar="N", help=text)
    command.add_argument("--limit", type=types.whole, metavar="N", help="only the first N pictures")
    text = "number of pictures shown side by side, by default 3"
    command.add_argument("--show", type=int, default=3, metavar="N", help=text)
    command.add_argument("--lpips", action="store_true", help="also measure LPIPS; needs the package lpips")
    text = "also measure SSIMULACRA 2; a second or more per megapixel"
    command.add_argument("--ssimulacra2", action="store_true", help=text)
    text = "also measure Butteraugli; needs libjxl's butteraugli_main"
    command.add_argument("--butteraugli", action="store_true", help=text)
    text = "published curves to draw and to compare with, such as vtm or kodak/vtm; without a name, none; by default"
    text += " the usual ones of Kodak, CLIC or Tecnick if the pictures are those"
    command.add_argument("--anchors", nargs="*", metavar="NAME", help=text)
    text = "the codec or published curve that the table's BD-rates are against; by default AVIF or JPEG"
    command.add_argument("--anchor", metavar="NAME", help=text)
    command.add_argument("--device", choices=DEVICES, default="cpu", help="where models compute, by default cpu")
    text = "what computes the models; auto, the default: the native library (core) if possible, else torch"
    command.add_argument("--engine", choices=ENGINES, default="auto", help=text)
    text = "CPU threads of each codec, by default 1, so that their times can be compared"
    command.add_argument("--threads", type=types.whole, default=1, metavar="N", help=text)


def evaluate(options: argparse.Namespace) -> None:
    prepare()
    from ..eval import evaluate as eval_
    from ..eval.bdrate import LEAST_OVERLAP
    from ..eval.metrics import EXTRA
    from ..eval.report import against, markdown, notes, summary

    pictures = eval_.find_pictures(options.pictures)[: options.limit]
    eval_options = eval_.Options(
        models=default_models() if options.model is None else options.model,
        codecs=[name for name in options.codecs.split(",") if name],
        settings=dict(options.settings),
        qualities=options.qualities,
        efforts=options.effort,
        device=options.device,
        engine=options.engine,
        threads=options.threads,
        jobs=options.jobs,
        side_by_side=options.show,
        extra=tuple(name for name in EXTRA if getattr(options, name)),
        anchors=options.anchors,
        anchor=options.anchor,
    )
    folder = Path(options.output)
    with progress() as watcher:
        results = eval_.evaluate(pictures, folder, eval_options, watcher=watcher, prepare=prepare)
    print(markdown(*summary(results)))
    for text in notes(results):
        print(text)
    if results.anchor in results.bd_rate.get("psnr", {}):
        print(f"\n{markdown(*against(results, 'psnr'))}\n")
    for text in results.warnings:
        say("note", text)
    if partial := len(results.partial):
        rates = "1 BD-rate covers" if partial == 1 else f"{partial} BD-rates cover"
        say("note", f"{rates} less than {LEAST_OVERLAP:.0%} of the qualities; the report lists them")
    print(f"{folder / 'report.html'}  {folder / 'results.json'}")


def prepare() -> None:
    """Prepares a process that measures."""
    from ..image.read import lift_pillows_bounds

    lift_pillows_bounds()
    keep_pages()


def default_models() -> list[str]:
    """The default model, if it is installed."""
    return [DEFAULT_MODEL] if default() else []


@contextmanager
def progress() -> Iterator[Watcher]:
    """A watcher that draws a bar on stderr, if that is a terminal."""
    from ..eval.evaluate import Watcher

    if not sys.stderr.isatty():
        yield Watcher()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("measuring", total=None)
        yield Watcher(
            begin=lambda steps: bar.update(task, total=steps),
            step=lambda what: bar.update(task, advance=1, description=what),
        )
