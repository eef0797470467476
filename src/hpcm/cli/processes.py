"""Files side by side: `-j N` processes, each with a model of its own.

A process has one job at a time, which comes through its own pipe. So it is known which job a process had that died:
that one is an error, and another process takes its place. (concurrent.futures gives up all jobs then.) There are no
queues and no semaphores, of which something would be left when this process is killed.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Lock
from typing import Any, NamedTuple

from ..util.hardware import cores, end_with_parent
from .jobs import Job
from .messages import attempt, line, log_to_stderr

Work = Callable[[Job], None]
Make = Callable[[argparse.Namespace], Work]
HELD = {getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)}


class Done(NamedTuple):
    """What came of a job, and what it printed."""

    well: bool
    out: str
    err: str


def spread(jobs: Sequence[Job], make: Make, options: argparse.Namespace) -> Generator[Done]:
    """What comes of the jobs, in their order; `make` gives each process what does a job.

    An exception in the caller, such as an interruption, ends the processes; so does the end of this process.
    """
    processes = min(options.jobs, len(jobs))
    threads = options.threads or max(1, cores() // processes)
    crew = Crew(processes, make, argparse.Namespace(**{**vars(options), "threads": threads}))
    if hasattr(signal, "pthread_sigmask"):
        resource_tracker.ensure_running()  # now, because it lets the held signals through in the thread that starts it
    try:
        with ThreadPoolExecutor(processes, initializer=hold_signals) as pool:  # a thread waits for each process
            try:
                yield from pool.map(crew.do, jobs)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                crew.stop()
                raise
    finally:
        crew.dismiss()


def hold_signals() -> None:
    """The signals that end a command don't reach a process that this thread starts, until it is ready for them."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD)


class Crew:
    """Processes that do jobs; each is started when there is something to do for it."""

    def __init__(self, size: int, make: Make, options: argparse.Namespace) -> None:
        self.make, self.options = make, options
        self.idle: SimpleQueue[Worker | None] = SimpleQueue()  # None: one that isn't started
        self.workers: list[Worker] = []
        self.stopping = False
        self.lock = Lock()  # while a process is started or stopped
        for _ in range(size):
            self.idle.put(None)

    def do(self, job: Job) -> Done:
        """What comes of a job, in a process that is idle."""
        worker = self.idle.get()
        try:
            worker = worker or self.start()
            return worker.do(job)
        except (EOFError, OSError) as error:  # of its pipe, or of starting it
            why = self.death_of(worker) if worker else f"no process could be started for it: {error}"
            worker = None
            return Done(False, "", line("error", why, job.name))
        finally:
            self.idle.put(worker)

    def start(self) -> Worker:
        with self.lock:
            if self.stopping:
                raise EOFError
            worker = Worker(self.make, self.options)
            self.workers.append(worker)
            return worker

    def death_of(self, worker: Worker) -> str:
        """How a process ended."""
        with self.lock:  # to start a process is also to look which ones have ended
            worker.process.join()
        code = worker.process.exitcode
        if code == -getattr(signal, "SIGKILL", 9):
            return "its process was killed, most likely because memory ran out: take fewer with -j"
        if code is not None and code < 0:
            return f"its process crashed: {signal.strsignal(-code) or f'signal {-code}'}"
        return f"its process ended with exit code {code}"

    def stop(self) -> None:
        """Ends all processes, whatever they do; what is half written is cleared away."""
        with self.lock:
            self.stopping = True
            for worker in self.workers:
                worker.process.terminate()

    def dismiss(self) -> None:
        """Lets all processes end, which have nothing to do."""
        for worker in self.workers:
            worker.pipe.close()
        for worker in self.workers:
            worker.process.join()


class Worker:
    """A process with a pipe."""

    def __init__(self, make: Make, options: argparse.Namespace) -> None:
        context = get_context("spawn")  # forked threads of torch would not run
        self.pipe, end = context.Pipe()
        self.process = context.Process(target=_run, args=(end, make, options), daemon=True)
        self.process.start()
        end.close()  # the process has its own: when it ends, the pipe does

    def do(self, job: Job) -> Done:
        """Raises EOFError or OSError if the process dies; RuntimeError with its traceback for a bug."""
        self.pipe.send(job)
        answer = self.pipe.recv()
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer


# ---- in a process ---------------------------------------------------------------------------------------------------


def _run(pipe: Connection, make: Make, options: argparse.Namespace) -> None:
    """Takes jobs and sends what came of them, until the other end is closed. It ends without a word."""
    for number in HELD - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C is the parent's, which then ends this process
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # half a file may have to be cleared away
    code: Any = 1
    try:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
        end_with_parent()
        _serve(pipe, make, options)
    except EOFError:
        code = 0
    except SystemExit as stop:
        code = stop.code
    finally:
        os._exit(code if isinstance(code, int) else 1)  # at once: the end of the interpreter could say something


def _serve(pipe: Connection, make: Make, options: argparse.Namespace) -> None:
    work: Work | None = None

    def do(job: Job) -> None:
        nonlocal work
        if work is None:
            work = make(options)
            log_to_stderr(verbose=options.verbose)
        work(job)

    while True:
        job = pipe.recv()
        try:
            with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
                well = attempt(partial(do, job), job.name)
        except Exception:
            pipe.send(f"in a process of its own, {job.name} raised\n{traceback.format_exc()}")
        else:
            pipe.send(Done(well, out.getvalue(), err.getvalue()))
