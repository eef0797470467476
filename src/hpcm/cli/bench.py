"""`hpcm bench`: size, multiplications and speed of models on this machine."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from itertools import product
from pathlib import Path

from ..defaults import DEVICES
from ..errors import UsageError
from ..util.hardware import keep_pages
from . import types
from .eval import default_models
from .options import add_engine
from .outputs import write
from .parsing import Commands, add_command


def add(commands: Commands) -> None:
    command = add_command(commands, "bench", bench, "measure size, multiplications and speed of models on this machine")
    text = "weights files, names of models, or architectures with random weights; by default lite"
    command.add_argument("models", nargs="*", metavar="MODEL", help=text)
    text = "size of the pictures, by default 768x512; may be repeated"
    command.add_argument("--size", type=types.size, action="append", metavar="WxH", help=text)
    text = "number of pictures that are coded at once, by default 1; may be repeated"
    command.add_argument("--batch", type=types.whole, action="append", metavar="N", help=text)
    text = "number of runs, whose median is printed; by default 5"
    command.add_argument("--repeats", type=types.whole, default=5, metavar="N", help=text)
    text = "where to compute, by default on the CPU and, if there is one, the GPU"
    command.add_argument("--device", choices=DEVICES, help=text)
    add_engine(command)
    text = "also time the encoder with these efforts"
    command.add_argument("--effort", type=types.efforts, default=(), metavar="E,E,...", help=text)
    text = (
        "a checkout of the authors' code, which runs with the same weights, or of DCAE, LALIC or DCVC; the model is "
        "then timed exact and in floating point; repeatable"
    )
    command.add_argument("--against", action="append", default=[], metavar="PATH", help=text)
    command.add_argument("--json", metavar="FILE", help="also write the numbers to FILE")


def bench(options: argparse.Namespace) -> None:
    keep_pages()
    import torch

    from ..eval.bench import bench as measuring
    from ..eval.bench.forms import heading
    from ..eval.bench.text import text
    from ..eval.machine import commit, machine, versions

    devices = [options.device] if options.device else ["cpu", *["cuda"] * torch.cuda.is_available()]
    models = options.models or default_models()
    if not models:
        raise UsageError("no model is installed: name a weights file, or an architecture such as base")
    how = {"batches": options.batch, "engine": options.engine, "threads": options.threads, "efforts": options.effort}
    results = []
    for model, device in product(models, devices):
        print(heading(model), flush=True)
        benched = measuring.bench(model, options.size, device, options.repeats, options.against, **how)
        print(text(benched), flush=True)
        results.append(asdict(benched))
    if options.json:
        report = {"machine": asdict(machine()), "commit": commit(), "versions": versions(), "models": results}
        write(Path(options.json), (json.dumps(report, indent=1) + "\n").encode(), force=True)
