"""Jobs of the command line: one file to convert each, with its input and its output.

`plan` makes jobs of the arguments by these rules:

    input            -o                          output
    photo.jpg        none                        photo.hpcm beside it
    photo.jpg        a file                      that file
    photo.jpg        a folder, or ends in /      photo.hpcm in it
    several inputs   a folder                    each in it
    a folder         none                        every picture in it (folders.py), recursively, each beside the picture
    a folder         a folder                    the same tree there
    - (stdin)        none or -                   standard output
    photo.jpg        /dev/stdout, or the same    standard output
"""

from __future__ import annotations

import os
import stat
import sys
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ..defaults import PICTURE_SUFFIXES, SUFFIX
from ..errors import UsageError
from ..format.container import LONGEST_START, is_hpcm, no_hpcm
from ..util.atomic import refuse_existing
from ..util.folders import contents
from ..util.notes import OnNote
from ..util.parallel import Check
from .outputs import write
from .streams import STREAM, is_standard_input, is_standard_output

MICROSECOND = 1000  # nanoseconds; file systems round times, also those that --keep-times copies


@dataclass(frozen=True)
class Job:
    """One file to convert."""

    source: Path | None  # None: standard input
    target: Path | None  # None: standard output
    conflict: Path | None = None  # an earlier source with the same target
    error: Exception | None = None  # why the source can't be read

    @property
    def name(self) -> str:
        """The input's name in messages."""
        return "standard input" if self.source is None else str(self.source)

    def suffix(self, format: str) -> str:
        """The target's suffix, or that of `format` where it has none."""
        return (self.target.suffix if self.target else "") or f".{format}"

    def is_up_to_date(self) -> bool:
        """Whether the target exists and isn't older than the source."""
        if self.source is None or self.target is None or self.conflict or self.error:
            return False
        try:
            source, target = self.source.stat(), self.target.stat()
        except OSError:
            return False
        is_file = stat.S_ISREG(target.st_mode) and not os.path.samestat(source, target)
        return is_file and target.st_mtime_ns // MICROSECOND >= source.st_mtime_ns // MICROSECOND

    def check(self, force: bool, *, skip_existing: bool = False, decodes: bool = False) -> None:
        """Raises the OSError or UsageError with which the job would fail, as far as that can be known before.

        Args:
            skip_existing: whether jobs that are up to date are skipped, which this one isn't.
            decodes: whether the input should be a .hpcm file.
        """
        if self.error is not None:
            raise self.error
        if self.source is not None:
            self.source.stat()  # raises OSError if it can't be read
        if self.conflict is not None:
            raise UsageError(
                f"{self.conflict} already has the output {self.target}; rename one, or give one alone with -o FILE"
            )
        if self.target is not None:
            self._check_target(self.target, force, skip_existing, decodes)
        elif sys.stdout is None or sys.stdout.isatty():
            raise UsageError("standard output is closed or a terminal; name an output with -o")

    def _check_target(self, target: Path, force: bool, skip_existing: bool, decodes: bool) -> None:
        """Raises OSError or UsageError if the target may not be written."""
        if self.source is not None and target.exists():
            if target.samefile(self.source):
                raise UsageError(self._same_file_error(decodes))
            if skip_existing and not force and target.is_file():
                raise UsageError(f"{target} is older than the input; -f overwrites it")
        refuse_existing(target, force)

    def _same_file_error(self, decodes: bool) -> str:
        """The message if input and output are the same file: most likely the other command is meant."""
        head = self.read()[:LONGEST_START]
        if is_hpcm(head) and not decodes:
            return "it is a .hpcm file already; `hpcm decompress` makes a picture of it"
        if decodes and not is_hpcm(head):
            return no_hpcm(head)
        return "input and output are the same file; name another output with -o"

    def has_grown(self) -> bool:
        """Whether the target, which was written, is larger than the source."""
        if self.source is None or self.target is None or not self.target.is_file():
            return False
        return self.target.stat().st_size > self.source.stat().st_size

    def read(self) -> bytes:
        if self.source is not None:
            return self.source.read_bytes()
        if sys.stdin is None:
            raise UsageError("it is closed")
        return sys.stdin.buffer.read()

    def write(self, data: bytes, force: bool, keep_times: bool = False) -> None:
        """Writes the target, all or nothing.

        Args:
            keep_times: whether the target gets the source's times.

        Raises OSError or UsageError.
        """
        if self.target is not None:
            write(self.target, data, force)
            if keep_times and self.source is not None and self.target.is_file():
                status = self.source.stat()
                os.utime(self.target, ns=(status.st_atime_ns, status.st_mtime_ns))
        else:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


class Plan(NamedTuple):
    jobs: list[Job]
    skipped: dict[str, Counter[str]]  # folder -> numbers of files that aren't converted, by kind


class Output(NamedTuple):
    """What becomes of a job's input, and the end of the line that says so."""

    data: bytes
    text: str


Work = Callable[[Job, OnNote, Check | None], Output]  # reads a job's input and converts it


def plan(inputs: Sequence[str], output: str | None, suffix: str, wanted: Collection[str]) -> Plan:
    """The jobs of the arguments, in order and without repetitions.

    Args:
        suffix: of outputs whose names aren't given.
        wanted: suffixes of the files in folders that are inputs.

    What can't be read is a job with an error. Raises UsageError.
    """
    inputs, output = _with_streams(inputs, output)
    several = len(inputs) > 1 or any(map(_is_folder, inputs))
    into = None if output in (None, STREAM) else _output_folder(output, several)
    result = Plan([], {})
    for name in inputs:
        if _is_folder(name):
            _add_folder(result, Path(name), into, suffix, wanted)
        else:
            result.jobs.append(_job(name, output, into, suffix))
    if into or len(result.jobs) > 1:
        _refuse_streams(result.jobs)
    return result._replace(jobs=_with_conflicts(result.jobs))


def _with_streams(inputs: Sequence[str], output: str | None) -> tuple[list[str], str | None]:
    """The arguments with STREAM for every name of a standard stream. Raises UsageError for an empty name."""
    if "" in (*inputs, output):  # Path("") is the working directory
        raise UsageError("the name of an input or output is empty")
    if output is not None and is_standard_output(output):
        output = STREAM
    return [STREAM if is_standard_input(name) else name for name in inputs], output


def _is_folder(name: str) -> bool:
    return name != STREAM and os.path.isdir(name)


def _job(name: str, output: str | None, into: Path | None, suffix: str) -> Job:
    """The job of an input that is no folder; `into`: the folder that `output` names, if it names one."""
    if name == STREAM:
        return Job(None, None if output in (None, STREAM) else Path(output))
    path = Path(name)
    if output is None:
        return Job(path, path.with_suffix(suffix))
    if output == STREAM:
        return Job(path, None)
    return Job(path, (into / path.name).with_suffix(suffix) if into else Path(output))


def _refuse_streams(jobs: Sequence[Job]) -> None:
    """Raises UsageError if one of several jobs reads standard input or writes standard output."""
    if any(job.source is None or job.target is None for job in jobs if not job.error):
        raise UsageError("standard input or output (-) is for one file: give one input and, with -o, one file")


def _add_folder(result: Plan, folder: Path, into: Path | None, suffix: str, wanted: Collection[str]) -> None:
    """Adds the files of a folder to a plan."""
    inside = contents(folder, wanted)
    result.jobs.extend(Job(path, None, error=error) for path, error in inside.unreadable)
    for path in inside.files:
        result.jobs.append(Job(path, (into / path.relative_to(folder) if into else path).with_suffix(suffix)))
    if not inside.files and not inside.unreadable:
        error = UsageError(f"no file in this folder ends in {', '.join(sorted(wanted))}")
        result.jobs.append(Job(folder, None, error=error))
    result.skipped[str(folder)] = inside.skipped


def _output_folder(output: str, several: bool) -> Path | None:
    """The folder of the outputs, None if `output` is a file. For several outputs a file raises UsageError."""
    path = Path(output)
    is_folder = output.endswith(tuple(filter(None, (os.sep, os.altsep)))) or path.is_dir()
    if several and path.exists() and not path.is_dir():
        raise UsageError(f"{output} is a file: several inputs need a folder")
    if several and not is_folder and path.suffix.lower() in {SUFFIX, *PICTURE_SUFFIXES}:
        raise UsageError(f"{output} looks like a file: several inputs need a folder; write {output}{os.sep} for one")
    return path if several or is_folder else None


def _with_conflicts(jobs: Sequence[Job]) -> list[Job]:
    """The jobs without repetitions. A later job with the same target has the earlier source as its conflict.

    Files are compared by their real paths: links may give one folder two names.
    """
    first: dict[str, Job] = {}
    result = []
    for job in jobs:
        if job.target is None:
            result.append(job)
            continue
        earlier = first.setdefault(os.path.realpath(job.target), job)
        if earlier is job:
            result.append(job)
        elif os.path.realpath(str(job.source)) != os.path.realpath(str(earlier.source)):
            result.append(replace(job, conflict=earlier.source))
    return result
