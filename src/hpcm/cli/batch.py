"""Many files, for `hpcm compress` and `hpcm decompress`: one process and one model, or several of both with -j."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from ..util.hardware import keep_pages
from .jobs import Job
from .messages import attempt, complain, log_to_stderr, printable
from .processes import Done, Work, spread

if TYPE_CHECKING:
    from ..codec.codec import Codec

Report = Callable[[float], None]  # is called with how far a search is, 0 to 1


def load(model: str, where: dict[str, Any]) -> Codec:
    """A codec of the model, or of the models, that a name or path stands for. Raises HPCMError."""
    from ..model.find import find_all

    models = find_all(model)  # cheap, and most likely to fail
    keep_pages()
    from ..codec.codec import Codec

    return Codec(models, **where)


def run_jobs(
    jobs: Sequence[Job], make: Callable[..., Work], options: argparse.Namespace, *, decodes: bool = False
) -> bool:
    """Does every job, also after one that failed. Whether all went well.

    A job that is known to fail is complained about before any other is begun.

    Args:
        make: loads what is needed once, and gives what does a job.
        decodes: the inputs are .hpcm files.
    """
    log_to_stderr(verbose=options.verbose)
    to_do = [job for job in jobs if not (options.skip_existing and job.is_made())]
    check = partial(_is_sound, options=options, decodes=decodes)
    sound = [job for job in to_do if check(job)]
    if options.dry_run:
        _list_outputs(sound)
        return sound == to_do
    written = _carry_out(sound, make, options) if sound else 0
    failed = len(to_do) - written
    if len(jobs) > 1 and (failed or not options.quiet):
        _sum_up(written, len(jobs) - len(to_do), failed)
    return not failed


def _list_outputs(jobs: Sequence[Job]) -> None:
    for job in jobs:
        print(printable(f"{job.name} -> {job.target or 'standard output'}"))


def _sum_up(written: int, skipped: int, failed: int) -> None:
    """The line after many files, on stderr."""
    text = f"{skipped:,} skipped, " if skipped else ""
    complain(f"hpcm: {written:,} written, {text}{failed:,} failed\n")


def _is_sound(job: Job, *, options: argparse.Namespace, decodes: bool) -> bool:
    """Whether nothing is known that will make a job fail; otherwise that is complained about."""
    check = partial(job.check, options.force, skip_existing=options.skip_existing, decodes=decodes)
    return attempt(check, job.name)


def _carry_out(jobs: Sequence[Job], make: Callable[..., Work], options: argparse.Namespace) -> int:
    """Does the jobs; how many went well. Raises HPCMError if the model can't be loaded."""
    side_by_side = options.jobs > 1 and len(jobs) > 1
    search = not side_by_side and bool(getattr(options, "effort", 0))
    with progress(jobs, search=search, shown=not options.quiet) as (remaining, report):
        work = make(options, report)  # side by side too: a model that can't be loaded is reported once, before any job
        if side_by_side:
            with closing(spread(jobs, make, options)) as results:
                return sum(_repeat(result) for _, result in zip(remaining, results, strict=True))
        return sum(attempt(partial(work, job), job.name) for job in remaining)


def _repeat(done: Done) -> bool:
    """Prints what another process has printed for its job; whether the job went well."""
    print(done.out, end="")
    complain(done.err)
    return done.well


@contextmanager
def progress(jobs: Sequence[Job], *, search: bool, shown: bool) -> Iterator[tuple[Iterable[Job], Report | None]]:
    """The jobs and, with `search`, what to call with how far the search for the current one is, 0 to 1.

    On a stderr that is a terminal going through several draws a bar, and the search one of its own, with the time left.
    """
    if not shown or not sys.stderr.isatty() or (len(jobs) < 2 and not search):
        yield jobs, None
        return
    from rich.console import Console
    from rich.progress import Progress

    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    # Lines printed meanwhile appear above the bar, unless they go into a file or a pipe.
    with Progress(console=Console(stderr=True), redirect_stdout=on_terminal, transient=True) as bar:
        remaining = bar.track(jobs) if len(jobs) > 1 else jobs
        if not search:
            yield remaining, None
            return
        task = bar.add_task("Searching...", total=1)

        def report(share: float) -> None:
            if share < bar.tasks[task].completed:  # another file
                bar.reset(task)
            bar.update(task, completed=share)

        yield remaining, report


def keep(job: Job, data: bytes, options: argparse.Namespace, text: str) -> None:
    """Writes what a job has made, and prints its line with `text`."""
    job.write(data, options.force, options.keep_times)
    if job.target is not None and not options.quiet:
        print(printable(f"{job.name} -> {job.target}  {text}"))
