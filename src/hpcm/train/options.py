"""What a run is trained with: its numbers, where the defaults come from, and the learning rate over time."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..defaults import LOSSES, PUBLISHED_LAMBDAS
from ..errors import UsageError, WeightsError
from ..model.config import MS_SSIM_WEIGHT, NANO, Config
from ..model.find import find, own_name
from ..model.variants import described, read, same_network, trainable
from ..util import atomic
from ..util.metrics import SMALLEST
from .grow import can_grow
from .own_loss import is_own

FILE, CONFIG = "options.json", "model.json"  # in a run's folder; the second for --config of other runs
PUBLISHED_RATES = ((2950 / 3000, 0.01), (2850 / 3000, 0.1), (2750 / 3000, 0.3))  # share of the run, factor of the rate
OPTIMIZERS = ("adam", "muon")
MAX_SEED = 2**63 - 1  # that torch takes
SCHEDULES = ("decay", "cosine", "published")
# Of each loss with lambda: how it is written, and the lambdas that are taken; others are those of another loss.
FORMULAS = {
    "mse": "lambda * 255^2 * MSE + bits per pixel",
    "ms-ssim": "lambda * (1 - MS-SSIM) + bits per pixel",
    "mixed": "lambda * (0.25 * 255^2 * MSE + 0.75 * 1280 * (1 - MS-SSIM)) + bits per pixel",
    "ssimulacra2": "lambda * (0.25 * 255^2 * MSE + 0.75 * 4 * the error of SSIMULACRA 2) + bits per pixel",
}
OWN_FORMULA = "lambda * {} + bits per pixel"
LAMBDAS = dict.fromkeys(("mse", "mixed", "ssimulacra2"), (0.0001, 1.0))
LAMBDAS["ms-ssim"] = (1e-4 * MS_SSIM_WEIGHT, MS_SSIM_WEIGHT)


@dataclass(frozen=True)
class Options:
    """How a run trains. A field that isn't given is as it stands here; `defaults` has the values that suit a model."""

    config: Config = NANO
    init: str | None = None  # weights to start from: a model's name, a weights file or a run
    loss: str = "mse"  # or another of LOSSES, or the name of one's own: own_loss.py
    train: tuple[str, ...] = ()  # parts.py: the parts that are trained; by default all
    freeze: tuple[str, ...] = ()  # or the parts that aren't
    lmbda: float | None = None  # weight of the distortion; only for models of one quality level
    balance: float = 0.0  # a level's loss is multiplied by lambda^-balance; only for models of several levels
    crop: int = 128
    batch: int = 8  # crops that go through the network together, in each process
    accumulate: int = 1  # batches per step
    mix: tuple[float, ...] = ()  # share of the crops of each source of pictures; by default by area
    downscale: float = 1.0  # crops are shrunk by random factors down to this one
    optimizer: str = "adam"  # or "muon": for matrices; Adam for the rest
    rate: float = 1e-3  # after the warm-up
    warmup: int = 200  # steps
    schedule: str = "decay"
    decay: float = 0.3  # schedule "decay": the last part of the budget, in which the rate falls to zero
    clip: float = 1.0  # norm of the gradient
    average: float = 0.999  # decay of the weights' moving average
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"  # "bf16" autocast (the rate stays in float32), "float32", or the faster of them
    graph: bool = False  # the step is recorded and replayed as a CUDA graph
    compile: bool = False
    recompute: bool = False  # activations of the blocks are computed again instead of kept
    fsdp: bool = False  # the model's state is shared out among the processes; without effect where there is only one
    memory: float | None = None  # GB for decoded pictures; by default half of what is free
    rescan: float = 0.0  # seconds between looks for pictures that have come to the sources; 0: never
    held_out: str | None = None  # folder of pictures for evaluation; by default some of the data
    evaluate: float = 60.0  # minutes between evaluations; 0: never
    save: float = 3.0  # minutes between checkpoints
    tensorboard: bool = False


def defaults(config: Config, *, fine_tuning: bool = False) -> Options:
    """The published values for models of one quality level, for the others those that did best (docs/log.md)."""
    if config.levels == 1:
        return Options(config=config, crop=256, batch=32, rate=1e-4, warmup=1, schedule="published")
    ours = Options(config=config, balance=0.5)
    return replace(ours, rate=5e-4) if fine_tuning else replace(ours, optimizer="muon", rate=2e-3)


def config_at(name_or_path: str) -> Config:
    """The configuration of a weights file, as it is trained further.

    Raises ModelNotFoundError, WeightsError.
    """
    file = find(name_or_path)
    try:
        return trainable(Config.from_dict(file.config))
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{file.path} has a configuration that this hpcm doesn't know: {error}") from error


def config_of(options: Options, before: Config | None = None) -> Config:
    """The model that is trained: that of the options, or of the run that goes on, `before`, which must be the same.

    A model of one quality level has the lambda of the options, or by default its configuration's.

    Raises UsageError where the options don't fit it.
    """
    config = options.config
    if before is not None:
        refuse_another(config, before)
        config = before
    elif options.init is not None:
        _refuse_to_start(options.init, config)
    _check(options, config)
    if config.levels > 1:
        return config
    if is_own(options.loss):
        if options.lmbda is None:
            raise UsageError(f"the loss {options.loss} has a unit of its own: give --lambda X, its weight")
        return replace(config, lambda_min=options.lmbda)
    lmbda = options.lmbda or _own_lambda(config, options.loss)
    _check_lambda(lmbda, options.loss)
    return replace(config, lambda_min=lmbda)


def refuse_another(config: Config, before: Config) -> None:
    """Raises UsageError unless a run of `before` can go on as one of `config`."""
    if same_network(config, before) and config.name == before.name:
        return
    this, other = (f"{one.name} ({described(one)})" for one in (before, config))
    raise UsageError(f"the run trains {this}, not {other}: leave out --config and --set, or choose another --out")


def _refuse_to_start(init: str, config: Config) -> None:
    """Raises UsageError unless a model can start as the one called `init`."""
    given = config_at(init)
    if not same_network(given, config) and not can_grow(given, config):
        which = "" if described(given) == init else f", which is {described(given)}"
        raise UsageError(f"{described(config)} can't start as {init}{which}: leave out --config and --set")


def _check(options: Options, config: Config) -> None:
    """Raises UsageError for values that aren't allowed, or not for this model."""
    needs_levels = f"{config.name} has {config.levels} quality levels and draws its lambda: leave out --lambda"
    wrong = (
        (
            config != trainable(config),
            f"carrier is {config.carrier}: models are trained in floating point; `hpcm exact` comes after training",
        ),
        (not 0 <= options.seed <= MAX_SEED, f"seed is {options.seed}: a whole number from 0 to {MAX_SEED}"),
        (options.optimizer not in OPTIMIZERS, f"optimizer is one of {', '.join(OPTIMIZERS)}"),
        (options.loss not in LOSSES and not is_own(options.loss), f"loss is one of {', '.join(LOSSES)}, or your own"),
        (options.schedule not in SCHEDULES, f"schedule is one of {', '.join(SCHEDULES)}"),
        (
            options.crop % config.multiple != 0,
            f"crops of {options.crop} pixels: {config.name} needs a multiple of {config.multiple}",
        ),
        (
            options.loss in ("ms-ssim", "mixed") and options.crop <= SMALLEST,
            f"MS-SSIM needs crops of more than {SMALLEST} pixels: try --crop 192 or 256",
        ),
        (
            not 0 < options.downscale <= 1,
            f"downscale is {options.downscale}: the smallest factor, over 0 and at most 1",
        ),
        (config.levels > 1 and options.lmbda is not None, needs_levels),
        (
            config.levels > 1 and config.lambda_min > config.lambda_max,
            f"lambda_min is {config.lambda_min:g}, over lambda_max, {config.lambda_max:g}: "
            "the lowest quality has the lowest lambda",
        ),
        (
            bool(options.train or options.freeze) and options.init is None,
            "--train and --freeze need --init: no part of a new model has learned anything",
        ),
    )
    for refused, message in wrong:
        if refused:
            raise UsageError(message)
    own_name(config.name, "name yours with --set name=mine")


def _own_lambda(config: Config, loss: str) -> float:
    """The lambda of a configuration in units of the loss. Under 1 it is taken for one of MSE."""
    is_of_mse = config.lambda_min < 1
    return config.lambda_min * MS_SSIM_WEIGHT if loss == "ms-ssim" and is_of_mse else config.lambda_min


def _check_lambda(lmbda: float, loss: str) -> None:
    """Raises UsageError for a lambda that must be meant for another loss."""
    least, most = LAMBDAS[loss]
    if not least <= lmbda <= most:
        published = ", ".join(map(str, PUBLISHED_LAMBDAS["ms-ssim" if loss == "ms-ssim" else "mse"]))
        raise UsageError(
            f"lambda is {lmbda:g}: the loss {loss} is {FORMULAS[loss]}, with lambda from {least:g} to {most:g}; "
            f"give --lambda X (published: {published})"
        )


def learning_rate(options: Options, step: int, progress: float) -> float:
    """The rate at a step, when `progress` (0 to 1) of the budget is used up; every schedule begins with the warm-up.

    "decay": constant, then straight down to zero over the last `decay` of the budget. "cosine": half a cosine down to
    zero. "published": the rate, then 0.3, 0.1 and 0.01 of it, from 2750/3000, 2850/3000 and 2950/3000 of the budget on.
    """
    rise = min(1.0, (step + 1) / max(options.warmup, 1))
    if options.schedule == "cosine":
        fall = (1 + math.cos(math.pi * min(progress, 1.0))) / 2
    elif options.schedule == "published":
        fall = next((factor for share, factor in PUBLISHED_RATES if progress >= share), 1.0)
    else:
        fall = min(1.0, (1 - progress) / options.decay) if options.decay else 1.0
    return options.rate * rise * max(fall, 0.0)


def remember(options: Options, folder: Path) -> None:
    """Writes options and configuration into a run's folder, for people and for --resume."""
    saved = asdict(options)
    _write(folder / CONFIG, saved.pop("config"))
    _write(folder / FILE, saved)


def _write(path: Path, values: dict[str, Any]) -> None:
    atomic.write(path, (json.dumps(values, indent=2) + "\n").encode())


def remembered(folder: Path) -> Options | None:
    """The options that a run was last trained with; None if it has none. Raises UsageError."""
    try:
        saved = json.loads((folder / FILE).read_text(encoding="utf-8"))
        names = {field.name for field in fields(Options)} - {"config"}
        known: dict[str, Any] = {name: value for name, value in saved.items() if name in names}
        known |= {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
        return Options(read(folder / CONFIG), **known)
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError) as error:
        raise UsageError(f"{folder / FILE} can't be read: {error}") from error
