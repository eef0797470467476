"""Files side by side: `-j N` processes, each with a model of its own."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from multiprocessing import active_children, get_context
from typing import NamedTuple

from ..errors import HPCMError
from ..hardware import cores, end_with_parent
from .files import Job
from .messages import attempt, be_verbose

Work = Callable[[Job], None]
_work: Work  # these two of a process that `spread` started
_notes: bool


class Done(NamedTuple):
    """What came of a job, and what it said."""

    well: bool
    out: str
    err: str


def spread(
    jobs: Sequence[Job], make: Callable[[argparse.Namespace], Work], options: argparse.Namespace
) -> Generator[Done]:
    """What comes of the jobs, in their order; `make` gives each process what does a job.

    An exception in the caller, such as an interruption, ends the processes; so does the end of this process. Raises
    HPCMError if a process is killed.
    """
    processes = min(options.jobs, len(jobs))
    threads = options.threads or max(1, cores() // processes)
    given = argparse.Namespace(**{**vars(options), "threads": threads})
    context = get_context("spawn")  # forked threads of torch and ONNX Runtime would not run
    with ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(make, given)) as pool:
        try:
            yield from pool.map(_do, jobs)
        except BrokenProcessPool:
            message = "a process was killed, most likely because memory ran out: take fewer with -j"
            raise HPCMError(message) from None
        finally:
            for child in active_children():
                child.terminate()
            pool.shutdown(cancel_futures=True)


# ---- in a process ---------------------------------------------------------------------------------------------------


def _begin(make: Callable[[argparse.Namespace], Work], options: argparse.Namespace) -> None:
    global _work, _notes
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which then ends this process
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))  # without a word
    end_with_parent()
    be_verbose(options.verbose)
    _work, _notes = make(options), not options.quiet
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # from here on, half a file may have to be cleared away


def _do(job: Job) -> Done:
    try:
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            well = attempt(partial(_work, job), job.name, notes=_notes)
    except SystemExit:  # half a file is cleared away by now; the pool would go on with the next job
        os._exit(1)
    return Done(well, out.getvalue(), err.getvalue())
