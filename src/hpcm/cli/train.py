"""`hpcm train`: trains a model, or plots the curves of a run."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..defaults import DEVICES, PUBLISHED_LAMBDAS
from ..errors import UsageError
from ..model.config import MODELS, NANO
from ..model.variants import changed, configuration
from ..util.hardware import keep_pages
from . import types
from .parsing import Commands, add_command

if TYPE_CHECKING:
    from ..train.options import Options


def add(commands: Commands) -> None:
    command = add_command(commands, "train", train, "train a model on photographs")
    command.set_defaults(usage_error=command.error)
    text = f"configuration of the network: {', '.join(MODELS)}, or a JSON file of its fields; by default nano, or that "
    text += "of --init or of the run"
    command.add_argument("--config", metavar="NAME|FILE.json", help=text)
    text = "change fields of the configuration: steps=2,3,12 fusion=none prior_coarse.before=2 name=mine"
    command.add_argument("--set", nargs="+", action="extend", dest="changes", metavar="FIELD=VALUE", help=text)
    text = (
        "folders, tar archives or files of photographs, or lists of them (.txt, a path a line, relative to the list); "
    )
    text += "may be repeated, then each is a source for --mix"
    command.add_argument("--data", nargs="+", action="append", metavar="DIR|TAR", help=text)
    text = "folder for checkpoint, log and weights; `hpcm compress --model RUN` uses them"
    command.add_argument("--out", metavar="RUN", help=text)
    text = "resume from the run's checkpoint, with its options unless others are given"
    command.add_argument("--resume", action="store_true", help=text)
    text = "start a new run in a folder that holds one, whose files are removed"
    command.add_argument("-f", "--force", action="store_true", help=text)
    budget = command.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=types.positive, help="minutes to train in this call")
    budget.add_argument("--steps", type=types.whole, help="train until this step")
    text = "train until this time, such as 2030-01-31T18:30, local unless it names a zone (+00:00); a run that is "
    text += "resumed with the same time goes on as if it hadn't been interrupted"
    budget.add_argument("--until", type=types.moment, metavar="TIME", help=text)
    budget.add_argument("--plot", metavar="RUN", help="don't train: draw the run's curves into RUN/curves.png")
    # Below: fields of train.options.Options, where the defaults are.
    _learning(command.add_argument_group("what is learned, and how"))
    _place(command.add_argument_group("where, and how fast"))
    _files(command.add_argument_group("what is read and written"))


def _learning(group: Any) -> None:
    text = "start from a model: its name, weights file or run (fine-tuning)"
    group.add_argument("--init", metavar="NAME|PATH", help=text)
    text = "the distortion: mse (default), ms-ssim, mixed, or your own function, FILE.py:FUNCTION or MODULE:FUNCTION"
    group.add_argument("--loss", type=types.loss, metavar="LOSS", help=text)
    parts = group.add_mutually_exclusive_group()
    text = (
        "with --init, train only these parts: analysis, synthesis, hyper_analysis, hyper_synthesis, context, encoder, "
    )
    text += "entropy_model, or modules by name, such as g_s"
    parts.add_argument("--train", nargs="+", metavar="PART", help=text)
    text = "with --init, train all but these parts"
    parts.add_argument("--freeze", nargs="+", metavar="PART", help=text)
    mse, ms_ssim = (PUBLISHED_LAMBDAS[loss] for loss in ("mse", "ms-ssim"))
    text = "weight of the distortion, for models of one quality level (the others draw it); published are "
    text += f"{mse[0]} to {mse[-1]} for mse (of 255^2 * MSE) and mixed, {ms_ssim[0]} to {ms_ssim[-1]} for ms-ssim; "
    text += "your own loss needs it"
    group.add_argument("--lambda", dest="lmbda", type=types.positive, metavar="X", help=text)
    text = "multiply the loss of a quality level by lambda^-X; 0.5, the default, gives all levels about equal shares"
    group.add_argument("--balance", type=types.not_negative, metavar="X", help=text)
    group.add_argument("--crop", type=types.whole, metavar="N", help="side of the crops in pixels")
    group.add_argument("--batch", type=types.whole, metavar="N", help="crops at a time, in each process")
    group.add_argument("--accumulate", type=types.whole, metavar="N", help="batches per step, by default 1")
    text = "share of the crops of each --data, in their order: 0.85 0.15; by default by area"
    group.add_argument("--mix", type=types.positive, nargs="+", metavar="X", help=text)
    text = "shrink crops by random factors down to X, 0 to 1; by default 1"
    group.add_argument("--downscale", type=types.share, metavar="X", help=text)
    text = "muon (Adam for all but matrices) is the default for nano and lite; adam for others and with --init"
    group.add_argument("--optimizer", choices=("adam", "muon"), help=text)
    group.add_argument("--rate", type=types.positive, metavar="X", help="learning rate after the warm-up")
    group.add_argument("--warmup", type=types.whole, metavar="N", help="steps of the warm-up")
    text = "schedule of the learning rate: constant with a decay at the end, a cosine, or the paper's steps"
    group.add_argument("--schedule", choices=("decay", "cosine", "published"), help=text)
    text = "share of the budget, 0 to 1, at its end, in which the learning rate falls to zero"
    group.add_argument("--decay", type=types.share, metavar="X", help=text)
    text = "largest norm of the gradient; larger gradients are clipped"
    group.add_argument("--clip", type=types.positive, metavar="X", help=text)
    text = "decay per step of the weights' moving average"
    group.add_argument("--average", type=types.share, metavar="X", help=text)
    group.add_argument("--seed", type=int, metavar="N", help="seed of all random numbers")


def _place(group: Any) -> None:
    text = "where to compute; auto, the default: a GPU if any"
    group.add_argument("--device", choices=("auto", *DEVICES), help=text)
    text = "bf16: autocast to bfloat16; auto, the default: the faster one, which is measured"
    group.add_argument("--precision", choices=("auto", "bf16", "float32"), help=text)
    text = "record a step as a CUDA graph and replay it: faster on a fast GPU"
    group.add_argument("--graph", action=argparse.BooleanOptionalAction, help=text)
    group.add_argument("--compile", action=argparse.BooleanOptionalAction, help="use torch.compile")
    text = "compute the activations of blocks again instead of storing them: less memory, more time"
    group.add_argument("--recompute", action=argparse.BooleanOptionalAction, help=text)
    text = "divide weights, gradients, Adam's moments and the average among torchrun's processes: less memory in each"
    group.add_argument("--fsdp", action=argparse.BooleanOptionalAction, help=text)
    group.add_argument("--threads", type=types.whole, metavar="N", help="CPU threads of torch")
    text = "memory for decoded pictures in each process, by default its share of half of the free memory"
    group.add_argument("--memory", type=types.positive, metavar="GB", help=text)


def _files(group: Any) -> None:
    text = (
        "pictures for evaluation that aren't in --data; by default up to 16 of the data, which aren't trained on then"
    )
    group.add_argument("--held-out", metavar="DIR", help=text)
    text = "minutes between evaluations on real files, by default 60; 0: never"
    group.add_argument("--evaluate", type=types.not_negative, metavar="MINUTES", help=text)
    text = "minutes between checkpoints, by default 3"
    group.add_argument("--save", type=types.positive, metavar="MINUTES", help=text)
    text = "seconds between looks for pictures that have come to --data meanwhile; by default 0: never"
    group.add_argument("--rescan", type=types.not_negative, metavar="SECONDS", help=text)
    group.add_argument("--tensorboard", action=argparse.BooleanOptionalAction, help="also write RUN/tensorboard")


def train(options: argparse.Namespace) -> None:
    if options.plot:
        from ..train.watch import plot

        print(f"{options.plot} -> {plot(Path(options.plot))}")
        return
    if missing := ["--data DIR|TAR..."] * (not options.data) + ["--out RUN"] * (not options.out):
        options.usage_error(f"training needs {' and '.join(missing)}")
    keep_pages()
    import torch

    from ..train import own_loss
    from ..train.loop import train as run

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    budget = {"minutes": options.minutes, "steps": options.steps, "until": options.until}
    wanted = training_options(options)
    data = options.data if wanted.mix else [[path for paths in options.data for path in paths]]
    own = own_loss.load(options.loss) if options.loss and own_loss.is_own(options.loss) else None
    run(wanted, data, options.out, **budget, resume=options.resume, force=options.force, own_loss=own)


def training_options(options: argparse.Namespace) -> Options:
    """The options that are given, and for the others those of the run that is resumed, or the model's defaults.

    Raises UsageError for options that contradict one another or the run.
    """
    from ..train.options import Options, config_at, defaults, refuse_another, remembered

    names = [field.name for field in fields(Options) if field.name != "config"]
    given: dict[str, Any] = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    given |= {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    before = remembered(Path(options.out)) if options.resume else None
    if before is not None:
        config = before.config
    else:
        config = config_at(given["init"]) if "init" in given else NANO
    wanted = changed(configuration(options.config) if options.config else config, options.changes or ())
    if before is not None:
        refuse_another(wanted, config)
    result = replace(before or defaults(wanted, fine_tuning="init" in given), **given)
    _refuse_ignored(given, result, before)
    return result


def _refuse_ignored(given: dict[str, Any], options: Options, before: Options | None) -> None:
    """Raises UsageError for options on the command line that would have no effect."""
    ignored = (
        ("decay", options.schedule != "decay", f"the schedule {options.schedule} has none"),
        ("balance", options.config.levels == 1, f"{options.config.name} has one quality level"),
        ("held_out", options.evaluate == 0, "nothing is evaluated with --evaluate 0"),
        ("init", before is not None and before.init != options.init, "the run that is resumed has weights already"),
    )
    for name, without_effect, why in ignored:
        if name in given and without_effect:
            raise UsageError(f"--{name.replace('_', '-')} has no effect, as {why}: leave it out")
