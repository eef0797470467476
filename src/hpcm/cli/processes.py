"""Parallel processes for `-j N`, each with a model of its own.

A process gets one job at a time through its own pipe. So the job of a process that dies is known: it is an error, and
another process is started. (concurrent.futures would give up all jobs.) There are no queues and no semaphores, which
would remain in the system if this process were killed.
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
from .signals import STOPS

Convert = Callable[[Job], None]  # converts a file and writes the output
MakeConvert = Callable[[argparse.Namespace], Convert]


class Result(NamedTuple):
    """Of a job: whether it succeeded, and what it printed."""

    succeeded: bool
    out: str
    err: str


def run_parallel(jobs: Sequence[Job], make_convert: MakeConvert, options: argparse.Namespace) -> Generator[Result]:
    """The results of the jobs, in their order.

    Args:
        make_convert: is called in each process once and returns the function that does a job.

    An exception in the caller, such as an interruption, ends the processes; so does the end of this process.
    """
    processes = min(options.jobs, len(jobs))
    threads = options.threads or max(1, cores() // processes)
    pool = Pool(processes, make_convert, argparse.Namespace(**{**vars(options), "threads": threads}))
    if hasattr(signal, "pthread_sigmask"):
        resource_tracker.ensure_running()  # now, for it unblocks signals in the thread that starts it
    try:
        with ThreadPoolExecutor(processes, initializer=block_signals) as executor:  # a thread waits for each process
            try:
                yield from executor.map(pool.do, jobs)
            except BaseException:
                executor.shutdown(wait=False, cancel_futures=True)
                pool.terminate()
                raise
    finally:
        pool.close()


def block_signals() -> None:
    """Blocks STOPS in this thread and in the processes that it starts, until they unblock them."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)


class Pool:
    """Processes that do jobs; each is started when a job needs it."""

    def __init__(self, size: int, make_convert: MakeConvert, options: argparse.Namespace) -> None:
        self.make_convert, self.options = make_convert, options
        self.idle: SimpleQueue[Worker | None] = SimpleQueue()  # None: not started
        self.workers: list[Worker] = []
        self.stopping = False
        self.lock = Lock()  # while a process is started or stopped
        for _ in range(size):
            self.idle.put(None)

    def do(self, job: Job) -> Result:
        """Does a job in an idle process."""
        worker = self.idle.get()
        try:
            worker = worker or self.start()
            return worker.do(job)
        except (EOFError, OSError) as error:  # of its pipe, or of starting it
            reason = self.exit_reason(worker) if worker else f"no process could be started for it: {error}"
            worker = None
            return Result(False, "", line("error", reason, job.name))
        finally:
            self.idle.put(worker)

    def start(self) -> Worker:
        with self.lock:
            if self.stopping:
                raise EOFError
            worker = Worker(self.make_convert, self.options)
            self.workers.append(worker)
            return worker

    def exit_reason(self, worker: Worker) -> str:
        """How a process ended."""
        with self.lock:  # starting a process also joins those that have ended
            worker.process.join()
        code = worker.process.exitcode
        if code == -getattr(signal, "SIGKILL", 9):
            return "its process was killed, most likely because memory ran out: take fewer with -j"
        if code is not None and code < 0:
            return f"its process crashed: {signal.strsignal(-code) or f'signal {-code}'}"
        return f"its process ended with exit code {code}"

    def terminate(self) -> None:
        """Ends all processes, also busy ones; they remove half-written files."""
        with self.lock:
            self.stopping = True
            for worker in self.workers:
                worker.process.terminate()

    def close(self) -> None:
        """Ends all processes, which are idle."""
        for worker in self.workers:
            worker.pipe.close()
        for worker in self.workers:
            worker.process.join()


class Worker:
    """A process with a pipe."""

    def __init__(self, make_convert: MakeConvert, options: argparse.Namespace) -> None:
        context = get_context("spawn")  # forked threads of torch would not run
        self.pipe, end = context.Pipe()
        self.process = context.Process(target=_run, args=(end, make_convert, options), daemon=True)
        self.process.start()
        end.close()  # the process has its own copy: so the pipe is closed when it ends

    def do(self, job: Job) -> Result:
        """Raises EOFError or OSError if the process dies; RuntimeError with its traceback for a bug."""
        self.pipe.send(job)
        answer = self.pipe.recv()
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer


# ---- in a process ---------------------------------------------------------------------------------------------------


def _run(pipe: Connection, make_convert: MakeConvert, options: argparse.Namespace) -> None:
    """Receives jobs and sends their results until the pipe is closed. It ends without printing anything."""
    for number in set(STOPS) - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)  # the parent handles Ctrl-C and then terminates this process
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that half-written files are removed
    code: Any = 1
    try:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        end_with_parent()
        _serve(pipe, make_convert, options)
    except EOFError:
        code = 0
    except SystemExit as stop:
        code = stop.code
    finally:
        os._exit(code if isinstance(code, int) else 1)  # at once: the interpreter could print something as it ends


def _serve(pipe: Connection, make_convert: MakeConvert, options: argparse.Namespace) -> None:
    convert: Convert | None = None

    def do(job: Job) -> None:
        nonlocal convert
        if convert is None:
            convert = make_convert(options)
            log_to_stderr(verbose=options.verbose)
        convert(job)

    while True:
        job = pipe.recv()
        try:
            with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
                succeeded = attempt(partial(do, job), job.name)
        except Exception:
            pipe.send(f"in a process of its own, {job.name} raised\n{traceback.format_exc()}")
        else:
            pipe.send(Result(succeeded, out.getvalue(), err.getvalue()))
