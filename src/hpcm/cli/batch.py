"""The loop over files of `hpcm compress` and `hpcm decompress`.

What converts several files at once depends on where the model computes:

    on the CPU   with -j several processes, each with a model of its own; by default one file follows the other
    on a GPU     threads of this process, which share the model: its networks compute their tiles together
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from ..util.hardware import keep_pages
from ..util.notes import ignore_note
from ..util.parallel import Check, side_by_side
from .jobs import Job, Output, Work
from .messages import attempt, log_to_stderr, note_printer, noting, printable, say, warnings_as_notes, write_stderr

if TYPE_CHECKING:
    from ..codec.codec import Codec

OnProgress = Callable[[float], None]  # is called with the share of a search that is done, 0 to 1
MakeWork = Callable[..., Work]  # of options and OnProgress; loads the model


def load(model: str, engine_options: dict[str, Any]) -> Codec:
    """A codec of the model or models that a name or path stands for. Raises HPCMError.

    Args:
        engine_options: device, engine and threads.
    """
    from ..model.find import find_all

    models = find_all(model)  # first, because it is cheap and most likely to fail
    keep_pages()
    from ..codec.codec import Codec

    return Codec(models, **engine_options)


def run_jobs(jobs: Sequence[Job], make_work: MakeWork, options: argparse.Namespace, *, decodes: bool = False) -> bool:
    """Does all jobs, also after one that failed. Returns whether all succeeded.

    Errors that can be known before are printed before the first job begins.

    Args:
        make_work: loads the model and returns the function that converts a file.
        decodes: whether the inputs are .hpcm files.
    """
    log_to_stderr(verbose=options.verbose)
    to_do = [job for job in jobs if not (options.skip_existing and job.is_up_to_date())]
    check = partial(_is_valid, options=options, decodes=decodes)
    valid = [job for job in to_do if check(job)]
    if options.dry_run:
        _list_outputs(valid)
        return valid == to_do
    written = _convert(valid, make_work, options)
    failed = len(to_do) - len(written)
    if len(jobs) > 1 and (failed or not options.quiet):
        larger = 0 if decodes else sum(job.has_grown() for job in written)
        _print_summary(len(written), larger, len(jobs) - len(to_do), failed)
    return not failed


def _list_outputs(jobs: Sequence[Job]) -> None:
    for job in jobs:
        print(printable(f"{job.name} -> {job.target or 'standard output'}"))


def _print_summary(written: int, larger: int, skipped: int, failed: int) -> None:
    """The line after many files, on stderr. `larger`: of those that were written, than their inputs."""
    text = f" ({larger:,} of them larger than the input)" if larger else ""
    text += f", {skipped:,} skipped" if skipped else ""
    write_stderr(f"hpcm: {written:,} written{text}, {failed:,} failed\n")


def _is_valid(job: Job, *, options: argparse.Namespace, decodes: bool) -> bool:
    """Whether a job may succeed; if not, the reason is printed."""
    check = partial(job.check, options.force, skip_existing=options.skip_existing, decodes=decodes)
    return attempt(check, job.name)


def _convert(jobs: Sequence[Job], make_work: MakeWork, options: argparse.Namespace) -> list[Job]:
    """Does the jobs. Returns those that succeeded. Raises HPCMError if the model can't be loaded."""
    if not jobs:
        return []
    from ..codec.engine import files_at_once

    effort = getattr(options, "effort", 0)
    at_once = min(options.jobs or files_at_once(options.device, effort), len(jobs))
    search = at_once == 1 and bool(effort)
    with progress(jobs, search=search, shown=not options.quiet) as (remaining, on_progress):
        work = make_work(options, on_progress)  # also for processes: so a model that can't be loaded is one error
        if at_once == 1:
            convert = _converter(work, options)
            return [job for job in remaining if attempt(partial(convert, job), job.name)]
        several = _on_threads(jobs, work, options, at_once)
        if options.device == "cpu":
            several = _in_processes(jobs, make_work, options)
        with closing(several) as succeeded:
            return [job for job, success in zip(remaining, succeeded, strict=True) if success]


def make_converter(make_work: MakeWork, options: argparse.Namespace) -> Callable[[Job], None]:
    """Loads the model. Returns the function that converts a file and writes the output."""
    return _converter(make_work(options), options)


def _converter(work: Work, options: argparse.Namespace) -> Callable[[Job], None]:
    def convert(job: Job) -> None:
        save(job, work(job, note_printer(job.name, quiet=options.quiet), None), options)

    return convert


def _in_processes(jobs: Sequence[Job], make_work: MakeWork, options: argparse.Namespace) -> Generator[bool]:
    """Whether each job succeeded, in their order; prints what its process has printed."""
    from .processes import run_parallel  # here, because importing multiprocessing takes a while

    with closing(run_parallel(jobs, partial(make_converter, make_work), options)) as results:
        for result in results:
            print(result.out, end="")
            write_stderr(result.err)
            yield result.succeeded


def _on_threads(jobs: Sequence[Job], work: Work, options: argparse.Namespace, threads: int) -> Generator[bool]:
    """Whether each job succeeded, in their order. Threads read and convert; this one writes and prints."""

    def convert(job: Job, check: Check | None) -> tuple[list[str], Future[Output]]:
        notes: list[str] = []
        done: Future[Output] = Future()
        with noting(notes.append):
            try:
                done.set_result(work(job, ignore_note if options.quiet else notes.append, check))
            except Exception as error:  # raised where it is printed
                done.set_exception(error)
        return notes, done

    def finish(job: Job, notes: list[str], done: Future[Output]) -> None:
        for note in notes:
            say("note", note, job.name)
        save(job, done.result(), options)

    with warnings_as_notes(), closing(side_by_side(convert, jobs, threads)) as converted:
        for job, (notes, done) in zip(jobs, converted, strict=True):
            yield attempt(partial(finish, job, notes, done), job.name)


@contextmanager
def progress(jobs: Sequence[Job], *, search: bool, shown: bool) -> Iterator[tuple[Iterable[Job], OnProgress | None]]:
    """The jobs and, with `search`, a callback for the progress of the current one.

    If stderr is a terminal, iterating over several jobs draws a bar, and the callback one of its own.
    """
    if not shown or not sys.stderr.isatty() or (len(jobs) < 2 and not search):
        yield jobs, None
        return
    from rich.console import Console
    from rich.progress import Progress

    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    # Lines that are printed during it appear above the bar, unless they go into a file or a pipe.
    with Progress(console=Console(stderr=True), redirect_stdout=on_terminal, transient=True) as bar:
        remaining = bar.track(jobs) if len(jobs) > 1 else jobs
        if not search:
            yield remaining, None
            return
        task = bar.add_task("Searching...", total=1)

        def on_progress(share: float) -> None:
            if share < bar.tasks[task].completed:  # another file
                bar.reset(task)
            bar.update(task, completed=share)

        yield remaining, on_progress


def save(job: Job, output: Output, options: argparse.Namespace) -> None:
    """Writes the output of a job and prints its line."""
    job.write(output.data, options.force, options.keep_times)
    if job.target is not None and not options.quiet:
        print(printable(f"{job.name} -> {job.target}  {output.text}"))
