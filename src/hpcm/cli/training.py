"""`hpcm train`: a run from its options, or the curves of one."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .convert import keep_pages

if TYPE_CHECKING:
    from ..train.options import Options


def train(options: argparse.Namespace) -> None:
    if options.plot:
        from ..train.watch import plot

        print(f"{options.plot} -> {plot(Path(options.plot))}")
        return
    if not options.data or not options.out:
        raise UsageError("hpcm train needs --data DIR|TAR... and --out RUN")
    keep_pages()
    import torch

    from ..train.loop import train as run

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    budget = {"minutes": options.minutes, "steps": options.steps}
    wanted = chosen(options)
    data = options.data if wanted.mix else [path for paths in options.data for path in paths]
    run(wanted, data, options.out, **budget, resume=options.resume, force=options.force)


def chosen(options: argparse.Namespace) -> Options:
    """What is given, and for the rest what the run was trained with before, or the model's defaults."""
    from ..coding.config import MODELS
    from ..train.options import Options, config_at, defaults, remembered

    given: dict[str, Any] = {field.name: getattr(options, field.name, None) for field in fields(Options)}
    given = {name: tuple(value) if name == "mix" else value for name, value in given.items() if value is not None}
    before = remembered(Path(options.out)) if options.resume else None
    if before is None and "init" in given:
        before = defaults(config_at(given["init"]), fine_tuning=True)
    return replace(before or defaults(MODELS[given.get("config", Options.config)]), **given)
