"""`hpcm train`: the training loop, readable top to bottom.

A run is a folder:

    checkpoint.pt       model, average, optimizer and position
    model.safetensors   the averaged weights, for `hpcm compress --model RUN`
    options.json        what it was last trained with
    log.jsonl           a line every 100 steps;  evaluations.jsonl  a line per evaluation
    pictures.png        held-out pictures and what became of them at the last evaluation

Both weights and checkpoint are written every few minutes, at the end, and when the process is asked to stop (Ctrl-C or
SIGTERM). Killed at any moment, it loses what came after the last checkpoint; with --resume it takes the same steps
again, on the CPU to the bit. (With --minutes or --until the learning rate follows the clock, and so does not repeat.)
Without --resume, a folder that holds a run is refused; with -f, a new run takes its place.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import HPCMError, UsageError
from ..util.hardware import available_memory
from . import checkpoint
from .checkpoint import State
from .data import Photographs, middles
from .evaluation import evaluate
from .folder import clear, refusal, tidy
from .index import Source, scan
from .options import Options, config_of, learning_rate, remember
from .own_loss import OwnLoss, is_own
from .run import Deadline, Run
from .team import Team, join
from .watch import Watch

HELD_OUT, HELD_OUT_SHARE = 16, 1 / 20  # photographs kept from training for evaluation, at most
CHECK_EVERY = 10  # steps after which a run looks for non-finite steps
MEMORY_SHARE = 0.5  # of what is free, for decoded pictures
GIGABYTE = 1e9
LEAST_MEMORY = 0.001  # GB, for decoded pictures where nothing seems to be free


def train(
    options: Options,
    data: Sequence[Source],
    folder: str | Path,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    until: float | None = None,
    resume: bool = False,
    force: bool = False,
    say: Callable[[str], None] | None = None,
    own_loss: OwnLoss | None = None,
) -> Run:
    """Trains until the budget (minutes of this call, or steps in all) is used up; see the module's docstring.

    `until` is a deadline instead, in seconds since 1970. A run that is resumed with the same deadline goes on with the
    learning rate as if it had never been interrupted.

    `data` are sources of pictures: each a folder, an archive or a file, or several of them. `options.mix` is the share
    of crops of each.

    With `resume`, goes on from the folder's checkpoint if there is one; the model is then the checkpoint's. Otherwise
    starts anew, with `force` in the place of a run that is there. Without `say`, progress is a live line on a terminal
    and printed lines elsewhere. `own_loss` takes the place of `options.loss`; a run that was trained with one needs it
    again, since no code is loaded from a folder.

    Raises UsageError for a folder that holds files of a run and isn't to go on, or a deadline that is past, and
    KeyboardInterrupt after saving when the process is asked to stop.
    """
    folder = Path(folder)
    if until is not None and until <= time.time():
        raise UsageError(f"the time to train until, {in_words(until)}, is past")
    if own_loss is not None:
        options = replace(options, loss=own_loss.name)
    elif is_own(options.loss):
        raise UsageError(
            f"the loss {options.loss} is code of your own, which isn't loaded from a run's folder: give it again, "
            f"--loss {options.loss}"
        )
    with join(options.device) as team, interruptions() as signals:
        run, held_out = _begin(options, data, _state(folder, resume, force, team), team, own_loss)
        if until is not None and (run.deadline is None or run.deadline.until != until):
            run.deadline = Deadline(time.time(), until)
        clock = Clock(options, minutes, steps, run.deadline if until is not None else None)
        with Watch(run, folder, say if team.first else _silent) as watch:
            _prepare(folder, run)
            watch.introduce(held_out=len(held_out), resume=resume)
            with closing(run.photographs):
                stop = _learn(run, clock, watch, folder, held_out, signals)
                kept = _save(run, watch, folder)
            if options.evaluate and kept and not stop:
                _evaluate(run, watch, folder, held_out)
            watch.conclude()
    if not (kept or stop):
        raise run.broken(f"the gradient isn't finite after step {run.step}")
    if stop:
        raise KeyboardInterrupt(stop)  # the signal: the command line makes its exit code of it
    return run


def _learn(
    run: Run, clock: Clock, watch: Watch, folder: Path, held_out: Sequence[np.ndarray], signals: Sequence[int]
) -> int:
    """Takes steps until the budget is used up, or until a signal asks to stop: its number, else 0.

    The first process decides for the whole team when it is time to stop, to save and to evaluate.
    """
    team, before = run.team, run.seconds
    while True:
        progress, stop = team.agree(clock.progress(run.step), signals[0] if signals else 0)
        if progress >= 1 or stop:
            return int(stop)
        run.learn(learning_rate(run.options, run.step, progress))
        run.seconds = before + clock.seconds
        watch.step(progress)
        if run.failing or run.step % CHECK_EVERY == 0:
            run.check()
        if clock.due("rescan"):
            run.photographs.look_again()
        save, test = team.agree(clock.due("save"), clock.due("evaluate"))
        if (save or test) and _save(run, watch, folder) and test:
            _evaluate(run, watch, folder, held_out)


def _save(run: Run, watch: Watch, folder: Path) -> bool:
    """Writes weights and checkpoint and returns True, unless the weights are broken: then those from before stay."""
    (sound,) = run.team.agree(run.is_sound())
    if sound:
        run.save(folder)
    else:
        watch.say(f"the gradient isn't finite after step {run.step}, which is not saved")
    return bool(sound)


def _state(folder: Path, resume: bool, force: bool, team: Team) -> State | None:
    """The checkpoint to go on from; None to start. Raises UsageError where files would be overwritten unasked."""
    why = refusal(folder, resume=resume, force=force)
    (refused,) = team.agree(why is not None)  # by the first process, which may write before the others have looked
    if refused:
        raise UsageError(why or f"the first process must not write into {folder}")
    return checkpoint.read(folder) if resume and checkpoint.exists(folder) else None


def _begin(
    options: Options, data: Sequence[Source], state: State | None, team: Team, own_loss: OwnLoss | None
) -> tuple[Run, list[np.ndarray]]:
    """The run, from its checkpoint if there is one, and the pictures for evaluation."""
    config = config_of(options, checkpoint.config_in(state) if state else None)
    options = replace(options, config=config, lmbda=config.lambda_min if config.levels == 1 else None)
    (memory,) = team.agree(options.memory or max(round(MEMORY_SHARE * available_memory() / GIGABYTE, 3), LEAST_MEMORY))
    photographs = Photographs(
        data, options.crop, mix=options.mix, seed=options.seed, memory=memory * GIGABYTE, device=team.device
    )
    if photographs.chapters > 1:  # which depend on it, and so do the crops
        options = replace(options, memory=memory)
    held_out = _held_out(options, photographs)  # before the run, which may read pictures to start from
    return Run(options, config, photographs, team, state, own_loss), held_out


def _held_out(options: Options, photographs: Photographs) -> list[np.ndarray]:
    """The pictures for evaluation: some of the data, which are then not trained on, or those of a folder.

    Raises PictureError where that has none, and UsageError where some of them are trained on.
    """
    if options.held_out is None:
        return photographs.hold_out(min(HELD_OUT, int(HELD_OUT_SHARE * len(photographs.entries))))
    index = scan([options.held_out], 1)
    both = [entry for (_, identity), entry in index.places.items() if identity in photographs.files]
    if both:
        raise UsageError(
            f"{len(both)} of {len(index.entries)} pictures of --held-out are in --data, too, such as {both[0].name}: "
            f"what was trained on tells nothing about other pictures"
        )
    photographs.apart = index.identities()
    pictures, damaged = middles(index.entries)
    index.skipped += damaged
    photographs.unusable += index.skipped
    if not pictures:
        raise index.without_pictures(1, [options.held_out])
    return pictures


def _prepare(folder: Path, run: Run) -> None:
    """Makes the folder ready for a run that can begin; one that starts takes the place of what is there."""
    run.team.wait()  # until all have read what is there
    if run.team.first:
        folder.mkdir(parents=True, exist_ok=True)
        tidy(folder)
        if not run.resumed:
            clear(folder)
        remember(run.options, folder)


def _evaluate(run: Run, watch: Watch, folder: Path, pictures: Sequence[np.ndarray]) -> None:
    """Compresses the held-out pictures with the weights that were just saved, in the first process."""
    if not (run.team.first and pictures) or watch.evaluated == run.step:
        return
    begin = time.monotonic()
    try:
        watch.evaluation(*evaluate(folder, pictures, str(run.team.device)))
    except HPCMError as error:  # no reason to stop training
        watch.say(f"the evaluation failed: {error}")
    watch.away(time.monotonic() - begin)


def in_words(moment: float) -> str:
    """Seconds since 1970 as a local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


class Clock:
    """How much of the budget (minutes from now on, steps in all, or the time to a deadline) is used up; what is due."""

    def __init__(
        self, options: Options, minutes: float | None, steps: int | None, deadline: Deadline | None = None
    ) -> None:
        self.minutes, self.steps, self.deadline = minutes, steps, deadline
        self.begin = time.monotonic()
        self.intervals = {"save": 60 * options.save, "evaluate": 60 * options.evaluate, "rescan": options.rescan}
        self.last = dict.fromkeys(self.intervals, self.begin)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begin

    def progress(self, step: int) -> float:
        by_time = self.seconds / (60 * self.minutes) if self.minutes else 0.0
        by_steps = step / self.steps if self.steps else 0.0
        by_deadline = self.deadline.progress(time.time()) if self.deadline else 0.0
        return max(by_time, by_steps, by_deadline)

    def due(self, what: str) -> bool:
        """Whether the interval of "save", "evaluate" or "rescan" is over; it then begins anew. One of zero never is."""
        over = 0 < self.intervals[what] <= time.monotonic() - self.last[what]
        if over:
            self.last[what] = time.monotonic()
        return over


@contextmanager
def interruptions() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM fill a list, so that a step isn't left half done; a second Ctrl-C stops at once."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    names = (signal.SIGINT, signal.SIGTERM)
    before = {name: signal.getsignal(name) for name in names}

    def receive(number: int, _: Any) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    for name in names:
        signal.signal(name, receive)
    try:
        yield received
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _silent(_: str) -> None:
    """For all but the first process."""
