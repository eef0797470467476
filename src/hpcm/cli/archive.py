"""`hpcm archive`: any number of pictures, in folders, buckets, tar shards and Parquet, on a Ray cluster."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..archive.names import KINDS
from ..defaults import DEFAULT_MODEL, DEVICES
from ..errors import UsageError
from ..util.folders import describe
from . import types
from .messages import say
from .options import EFFORTS, add_appearance, add_target, appearance, target
from .parsing import Commands, add_command

if TYPE_CHECKING:
    from ..archive import Summary

EXTRA = ("ray", "pyarrow", "jinja2")  # packages of the extra `ray`
MEGA = 1e6


def add(commands: Commands) -> None:
    text = "compress millions of pictures, in folders, buckets, tar shards or Parquet, on Ray"
    command = add_command(commands, "archive", archive, text)
    command.add_argument("sources", nargs="+", metavar="SRC", help="a folder, file or URL (s3://, gs://, ...)")
    command.add_argument("target", metavar="DST", help="a folder or URL; finished parts in it are not done again")
    command.add_argument("--restore", action="store_true", help="decode: .hpcm files to pictures")
    add_target(command)
    add_appearance(command)
    text = f"model name or weights file, by default {DEFAULT_MODEL}, or with --restore the one that each file names"
    command.add_argument("--model", metavar="NAME|PATH", help=text)
    text = "0 (default) to 9: search for a smaller file; needs PyTorch"
    command.add_argument("--effort", type=int, choices=EFFORTS, default=0, metavar="E", help=text)
    text = "format of restored pictures: png (default), webp, tif, ppm or jpg"
    command.add_argument("--format", type=types.suffix, default="png", help=text)
    text = "kind of output: loose files, tar or parquet; by default as in SRC"
    command.add_argument("--to", choices=KINDS, help=text)
    command.add_argument("--column", metavar="NAME", help="column of Parquet to read, if several hold bytes")
    text = "loose pictures in one shard, by default 1000; if they stay loose, pictures in one part of the work"
    command.add_argument("--shard-size", type=types.whole, metavar="N", help=text)
    text = "decode each picture, measure its PSNR and read back what was written before it counts as done"
    command.add_argument("--verify", action="store_true", help=text)
    text = "address of a Ray cluster, HOST:PORT or auto; by default $RAY_ADDRESS, or this machine"
    command.add_argument("--address", metavar="ADDR", help=text)
    text = "where to compute, by default cpu; cuda: a worker for each GPU"
    command.add_argument("--device", choices=DEVICES, default="cpu", help=text)
    text = "CPU threads of each worker, by default 1; the workers use all cores"
    command.add_argument("--threads", type=types.whole, default=1, metavar="N", help=text)


def archive(options: argparse.Namespace) -> bool:
    if not all(map(find_spec, EXTRA)):
        raise UsageError("this needs Ray, pyarrow and Jinja: pip install 'hpcm-codec[ray]'")
    from .. import archive

    names = ("to", "column", "shard_size", "verify", "address", "device", "threads")
    shared = {**{name: getattr(options, name) for name in names}, **appearance(options)}
    with progress() as on_progress:
        shared["on_progress"] = on_progress
        if options.restore:
            what = {"format": options.format, "model": options.model}
            done = archive.restore(options.sources, options.target, **what, **shared)
        else:
            what = {**target(options), "effort": options.effort, "model": options.model or DEFAULT_MODEL}
            done = archive.compress(options.sources, options.target, **what, **shared)
    print(summary(done, options.target))
    if done.skipped:
        say("note", f"skipped {describe(done.skipped)}")
    if done.errors:
        say("note", f"errors in the manifest: {done.errors:,} (files that can't be read or are damaged)")
    if done.failed:
        say("error", f"{done.failed} parts failed, and a rerun will try them again: {done.failure}")
    return not done.failed


def summary(done: Summary, target: str) -> str:
    """The lines that a run prints at its end."""
    rate = f"{rates(done)}; " if done.pictures else ""
    size = f"{done.bytes_in:,} -> {done.bytes_out:,} bytes"
    share = f" ({done.bytes_out / done.bytes_in:.1%})" if done.bytes_in else ""
    errors = f", errors: {done.errors:,}" if done.errors else ""
    return (
        f"{target}  {done.done:,} of {done.inputs:,} inputs done, {done.pictures:,} pictures in this run{errors}\n"
        f"  {size}{share}\n"
        f"  {rate}{done.seconds:.0f} s in all; details: _hpcm/manifest.parquet, _hpcm/report.html"
    )


def rates(done: Summary) -> str:
    seconds = max(done.seconds - done.startup, 1e-9)
    return f"{done.pictures / seconds:.1f} pictures/s, {done.pixels / MEGA / seconds:.2f} megapixels/s"


@contextmanager
def progress() -> Iterator[Any]:
    """A callback for the progress of a run, which draws a bar on stderr; None if that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting Ray")

        def on_progress(done: Summary) -> None:
            text = "waiting for the first part"
            if done.pictures or done.errors:
                text = f"{rates(done)}, {done.bytes_in / MEGA:,.0f} -> {done.bytes_out / MEGA:,.1f} MB"
                text += f", {done.errors:,} errors" * bool(done.errors)
            bar.update(task, total=done.inputs, completed=done.done, description=text)

        yield on_progress
