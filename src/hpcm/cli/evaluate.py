"""`hpcm eval` and `hpcm bench`: what codecs and models are worth."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..model.find import DEFAULT_MODEL, default
from .convert import keep_pages
from .files import lift_pillows_bound, write
from .messages import say

if TYPE_CHECKING:
    from ..eval.evaluate import Watcher


def evaluate(options: argparse.Namespace) -> None:
    prepare()
    from ..eval import evaluate as eval_
    from ..eval.bdrate import LEAST_OVERLAP
    from ..eval.metrics import EXTRA
    from ..eval.report import markdown, summary, summary_note

    pictures = eval_.find_pictures(options.pictures)[: options.limit]
    given = eval_.Options(
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
        published=True if options.published else None,
    )
    folder = Path(options.output)
    with watching() as watcher:
        results = eval_.evaluate(pictures, folder, given, watcher=watcher, prepare=prepare)
    print(markdown(*summary(results)))
    print(summary_note(results))
    for text in results.warnings:
        say("note", text)
    if partial := len(results.partial):
        rates = "1 BD-rate covers" if partial == 1 else f"{partial} BD-rates cover"
        say("note", f"{rates} less than {LEAST_OVERLAP:.0%} of the qualities; the report lists them")
    print(f"{folder / 'report.html'}  {folder / 'results.json'}")


def prepare() -> None:
    """What every process that measures does first."""
    lift_pillows_bound()
    keep_pages()


def default_models() -> list[str]:
    """The default model, if it is at hand."""
    return [DEFAULT_MODEL] if default() else []


@contextmanager
def watching() -> Iterator[Watcher]:
    """Draws a bar on stderr if that is a terminal."""
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


def bench(options: argparse.Namespace) -> None:
    keep_pages()
    import torch

    from ..eval import bench as bench_
    from ..eval.machine import commit, machine, versions

    devices = [options.device] if options.device else ["cpu", *["cuda"] * torch.cuda.is_available()]
    models = options.models or default_models()
    if not models:
        raise UsageError("no model is installed: name a weights file, or an architecture such as base")
    found = []
    for model, device in product(models, devices):
        print(bench_.heading(model))
        where = {"engine": options.engine, "threads": options.threads, "efforts": options.effort}
        benched = bench_.bench(model, options.size, device, options.repeats, options.against, **where)
        print(benched.text())
        found.append(asdict(benched))
    if options.json:
        report = {"machine": asdict(machine()), "commit": commit(), "versions": versions(), "models": found}
        write(Path(options.json), (json.dumps(report, indent=1) + "\n").encode(), force=True)
