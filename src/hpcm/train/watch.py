"""What a person sees of a run: a live line or printed ones, logs, TensorBoard, and curves."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..errors import UsageError
from ..model.config import MODELS
from ..model.variants import described
from ..util import atomic
from ..util.folders import describe as describe_kinds
from ..util.metrics import psnr_of_mse
from .device import flops_per_crop, matrix_peak
from .evaluation import Row, png
from .options import FORMULAS, OWN_FORMULA, learning_rate
from .run import Run

LOG_EVERY = 100  # steps
END = "end"  # marks the line of the log that a run ended with between two others
LOG, EVALUATIONS, PICTURES, CURVES = "log.jsonl", "evaluations.jsonl", "pictures.png", "curves.png"
SKIPPED = "skipped.jsonl"
BOARD = "tensorboard"  # a folder
REFRESH = 1.0  # seconds, of the live line
EVALUATIONS_SHOWN = 4  # the last ones, among the curves


class Watch:
    """Watches a run, and is called after each step. In a team only the first process writes or speaks."""

    def __init__(self, run: Run, folder: Path, say: Callable[[str], None] | None) -> None:
        self.run, self.folder, self.first = run, folder, run.team.first
        self.live = _live() if say is None else None
        self.say = say or (self.live.console.print if self.live else print)
        self.begin = self.last_time = self.refreshed = time.monotonic()
        self.first_step = self.last_step = run.step
        self.evaluated = -1  # step of the last evaluation
        self.known_skipped = 0  # files, when the user was last told of them
        self.known_pictures = len(run.photographs.entries)
        self.first_crop = run.crops
        self.start: float | None = None  # progress at the first step
        self.progress = 1.0  # before the last step
        self.board: Any = _board(folder, run.step) if run.options.tensorboard and self.first else None

    def __enter__(self) -> Watch:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self.live:
            self.live.stop()
        if self.board:
            self.board.close()

    def introduce(self, held_out: int, resume: bool) -> None:
        """Says what is trained on what; of logs, drops what came after the checkpoint that a run goes on from."""
        run, photographs = self.run, self.run.photographs
        if run.step:
            self.say(f"resumed at step {run.step}")
        elif resume and not run.resumed:
            self.say(f"{self.folder} has no checkpoint: a new run begins")
        if self.first:
            for name in (LOG, EVALUATIONS):
                _forget(self.folder / name, run.step)
        count = len(photographs.entries)
        size = f"{photographs.bytes / 1e9:.2f} GB" + (f", in {photographs.chapters} parts" * (photographs.chapters > 1))
        self.say(f"{count} pictures ({size}), {held_out} held out, {self._skipped()}")
        if photographs.others:
            self.say(f"no pictures by their names: {describe_kinds(photographs.others)}")
        sharing = " that share its state" * run.sharded
        processes = f"{run.team.size} processes{sharing}, each on " if run.team.size > 1 else ""
        every = [(parameter.numel(), parameter.requires_grad) for parameter in run.model.parameters()]
        count, learning = sum(number for number, _ in every), sum(number for number, is_trained in every if is_trained)
        part = f"; {learning:,} of {count:,} parameters are trained" if learning < count else ""
        self.say(f"{run.config.name} on {processes}{run.team.device.type}; {run.precision}{part}")
        if run.options.fsdp and not run.sharded:
            self.say("--fsdp has no effect on a single process")
        if run.config.name not in MODELS:
            self.say(f"{run.config.name} is {described(run.config)}")
        lmbda = f", lambda {run.config.lambda_min:g}" if run.config.levels == 1 else ""
        loss = run.options.loss
        self.say(f"loss: {FORMULAS.get(loss, OWN_FORMULA.format(loss))}{lmbda}")
        if run.loss_before not in (None, loss):
            self.say(f"{run.options.init} was trained with --loss {run.loss_before}")

    def _skipped(self) -> str:
        """Writes which files were skipped and why, and says how many; some turn out damaged only in training."""
        skipped = self.run.photographs.skipped
        path = self.folder / SKIPPED
        if self.first and skipped:
            atomic.write(path, "".join(json.dumps(one._asdict()) + "\n" for one in skipped).encode())
        elif self.first:
            path.unlink(missing_ok=True)
        self.known_skipped = len(skipped)
        return f"{len(skipped)} files skipped" + f" ({path} says why)" * bool(skipped)

    # ---- after each step --------------------------------------------------------------------------------------------

    def step(self, progress: float) -> None:
        """To be called after each step; `progress` is what it was before it."""
        self.progress = progress
        self.start = progress if self.start is None else self.start
        now = time.monotonic()
        if self.run.step % LOG_EVERY == 0:
            self._log(progress, now)
        elif self.live and now - self.refreshed > REFRESH:
            self.live.update(self._line(self._means(), progress, now))
            self.refreshed = now

    def _means(self) -> dict[str, float]:
        """Of the steps since the last line of the log; NaN where none of them was finite."""
        loss, bpp, mse, count = self.run.totals.tolist()
        loss, bpp, mse = (value / count if count else math.nan for value in (loss, bpp, mse))
        psnr = psnr_of_mse(mse) if mse > 0 else math.nan
        return {"loss": loss, "bpp": bpp, "mse": mse, "psnr": psnr}

    def _line(self, means: dict[str, float], progress: float, now: float) -> str:
        spent = progress - (self.start or 0)
        left = (now - self.begin) * (1 - progress) / spent if spent > 0 else math.nan
        speed = (self.run.step - self.last_step) / max(now - self.last_time, 1e-9)
        skipped = f"  {int(self.run.skipped)} skipped" if self.run.skipped else ""
        return (
            f"step {self.run.step}  loss {means['loss']:.4f}  {means['bpp']:.4f} bpp  {means['psnr']:.2f} dB  "
            f"{speed:.2f} steps/s  {_time(left)} left{skipped}"
        )

    def _log(self, progress: float, now: float) -> None:
        run, means = self.run, self._means()
        run.totals.zero_()
        if not self.first:
            return
        row = self._row(means, progress, now)
        _append(self.folder / LOG, row)
        self.say(self._line(means, progress, now))
        if len(run.photographs.skipped) > self.known_skipped:
            self.say(self._skipped())
        if arrived := len(run.photographs.entries) - self.known_pictures:
            self.known_pictures += arrived
            self.say(f"{arrived} pictures have come: {self.known_pictures} now")
        self.last_time, self.last_step = now, run.step
        for name in ("loss", "bpp", "psnr", "rate") if self.board else ():
            self.board.add_scalar(name, row[name], run.step)

    def _row(self, means: dict[str, float], progress: float, now: float) -> dict[str, float]:
        """A line of the log."""
        run = self.run
        row = {"step": run.step, "seconds": round(run.seconds, 1), **means, "progress": progress}
        row |= {"rate": learning_rate(run.options, run.step, progress), "skipped": int(run.skipped)}
        return row | {"steps_per_second": round((run.step - self.last_step) / max(now - self.last_time, 1e-9), 3)}

    # ---- now and then -----------------------------------------------------------------------------------------------

    def evaluation(self, rows: list[Row], grid: np.ndarray) -> None:
        """Tells of an evaluation: rate and quality on real files, and a grid of pictures."""
        self.evaluated = self.run.step
        _append(self.folder / EVALUATIONS, {"step": self.run.step, "evaluation": rows})
        atomic.write(self.folder / PICTURES, png(grid))
        self.say("held out: " + "   ".join(f"{row['bpp']:.3f} bpp {row['psnr']:.2f} dB" for row in rows))
        if self.board:
            self.board.add_image("pictures", grid, self.run.step, dataformats="HWC")
            for row in rows:
                self.board.add_scalars(
                    f"quality {row['quality']:.0f}", {k: row[k] for k in ("bpp", "psnr")}, self.run.step
                )

    def away(self, seconds: float) -> None:
        """Takes time that wasn't spent on steps out of the speed and of the time that is left."""
        self.begin += seconds
        self.last_time += seconds

    def conclude(self) -> None:
        """Logs the last steps, and says how fast they were, as a share of what the device can multiply."""
        run, now = self.run, time.monotonic()
        if not self.first:
            return
        if run.step % LOG_EVERY:
            # When the run goes on, this line is dropped and `totals` are still there: as if it hadn't been interrupted.
            means = self._means()
            _append(self.folder / LOG, self._row(means, self.progress, now) | {END: True})
            self.say(self._line(means, 1.0, now))
        if len(run.photographs.skipped) > self.known_skipped:
            self.say(self._skipped())
        if run.step == self.first_step:
            self.say(f"no step was taken: the run is at step {run.step}")
            return
        crops = (run.crops - self.first_crop) / (now - self.begin)
        peak = matrix_peak(run.team.device, run.bf16) * run.team.size
        needed = crops * flops_per_crop(run.config, run.options.crop)
        share = f"{needed / 1e9:.0f} GFLOP/s, {100 * needed / peak:.0f}% of what its matrix products reach"
        self.say(f"step {run.step}, {crops:.1f} crops/s: {share}")


def _live() -> Any:
    """A line that changes in place, on a terminal."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    from rich.console import Console

    return Console(highlight=False, markup=False).status("starting")


def _board(folder: Path, step: int) -> Any:
    """TensorBoard's writer; it hides what was written there after `step`. Raises UsageError."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError("--tensorboard needs a package: pip install tensorboard") from error
    return SummaryWriter(str(folder / BOARD), purge_step=step + 1)


def _time(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "?"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"


# ---- logs and curves ------------------------------------------------------------------------------------------------


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as log:
        log.write(json.dumps(row) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a log; a last line that was cut off is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def _forget(path: Path, step: int) -> None:
    """Drops the rows of a log that came after a step, and that of an end."""
    if path.exists():
        rows = [row for row in read_log(path) if row["step"] <= step and END not in row]
        atomic.write(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def plot(folder: Path) -> Path:
    """Draws the run's curves into curves.png and returns its path. Raises UsageError."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("--plot needs a package: pip install matplotlib") from error
    rows, evaluations = read_log(folder / LOG), read_log(folder / EVALUATIONS)
    if not rows:
        raise UsageError(
            f"{folder} has no {LOG}, or nothing in it yet: a line is written every {LOG_EVERY} steps and at the end"
        )
    figure = Figure(figsize=(12, 8), layout="constrained")
    *of_training, of_evaluation = figure.subplots(2, 2).ravel()
    _plot_training(of_training, rows)
    _plot_evaluations(of_evaluation, evaluations[-EVALUATIONS_SHOWN:])
    path = folder / CURVES
    with atomic.replacing(path) as temporary:
        figure.savefig(temporary)
    return path


def _plot_training(axes: Sequence[Any], rows: Sequence[dict[str, Any]]) -> None:
    """Loss, rate and PSNR over the steps, an axis each."""
    steps = [row["step"] for row in rows]
    curves = {
        "loss": [row["loss"] for row in rows],
        "bits per pixel": [row["bpp"] for row in rows],
        "PSNR in dB": [psnr_of_mse(row["mse"]) for row in rows],
    }
    for axis, (name, values) in zip(axes, curves.items(), strict=True):
        axis.plot(steps, values)
        axis.set(title="training crops", xlabel="step", ylabel=name)
        axis.grid(alpha=0.3)


def _plot_evaluations(axis: Any, evaluations: Sequence[dict[str, Any]]) -> None:
    """A curve of rate and PSNR for each evaluation."""
    for row in evaluations:
        points = row["evaluation"]
        rates, decibels = [point["bpp"] for point in points], [point["psnr"] for point in points]
        axis.plot(rates, decibels, "o-", label=f"step {row['step']}")
    axis.set(title="held-out pictures, real files", xlabel="bits per pixel", ylabel="PSNR in dB")
    axis.grid(alpha=0.3)
    if evaluations:
        axis.legend()
