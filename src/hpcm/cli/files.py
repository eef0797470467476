"""Files of the command line: which output belongs to which input, safe writing.

A `Job` is one file to convert. `plan` turns arguments into jobs by these rules:

    input            -o                          output
    photo.jpg        none                        photo.hpcm beside it
    photo.jpg        a file                      that file
    photo.jpg        a folder, or ends in /      photo.hpcm in it
    several inputs   a folder                    each in it
    a folder         none                        every picture in it, recursively, each beside the picture; none that is
                                                 hidden, whose name or folder begins with a dot
    a folder         a folder                    the same tree there
    - (stdin)        none or -                   standard output
"""

from __future__ import annotations

import errno
import os
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import atomic
from ..atomic import refuse_existing
from ..errors import UsageError

STREAM = "-"
SUFFIX = ".hpcm"
PICTURES = frozenset(
    [".jpg", ".jpeg", ".png", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm", ".jp2"]
)  # suffixes that are looked for in folders; a file that is named may have any
PASSED_OVER = frozenset(
    [".heic", ".heif", ".jfif", ".jpe", ".jxl", ".j2k", ".psd", ".tga", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf"]
)  # suffixes of pictures that are not looked for, which is told


@dataclass(frozen=True)
class Job:
    """One file to convert."""

    source: Path | None  # None: standard input
    target: Path | None  # None: standard output
    rival: Path | None = None  # an earlier source with the same target

    @property
    def name(self) -> str:
        """What messages call the input."""
        return "standard input" if self.source is None else str(self.source)

    def suffix(self, format: str) -> str:
        """The target's suffix, or that of `format` where it has none."""
        return (self.target.suffix if self.target else "") or f".{format}"

    def check(self, force: bool) -> None:
        """What can be known to fail before any work is done. Raises OSError or UsageError."""
        if self.source is not None and not self.source.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.source))
        if self.rival is not None:
            raise UsageError(
                f"{self.rival} already has the output {self.target}; rename one, or give one alone with -o FILE"
            )
        if self.target is not None:
            if self.source is not None and self.target.exists() and self.target.samefile(self.source):
                raise UsageError("input and output are the same file; name another output with -o")
            refuse_existing(self.target, force)
        elif sys.stdout is None or sys.stdout.isatty():
            raise UsageError("standard output is closed or a terminal; name an output with -o")

    def read(self) -> bytes:
        if self.source is not None:
            return self.source.read_bytes()
        if sys.stdin is None:
            raise UsageError("it is closed")
        return sys.stdin.buffer.read()

    def write(self, data: bytes, force: bool, keep_times: bool = False) -> None:
        """To the target, all or nothing; `keep_times`: with the source's times. Raises OSError or UsageError."""
        if self.target is not None:
            write(self.target, data, force)
            if keep_times and self.source is not None:
                status = self.source.stat()
                os.utime(self.target, ns=(status.st_atime_ns, status.st_mtime_ns))
        else:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


def plan(inputs: Sequence[str], output: str | None, suffix: str, wanted: Collection[str]) -> list[Job]:
    """The jobs of a command line; see the module's docstring. Raises UsageError.

    Args:
        suffix: of the outputs whose name isn't given.
        wanted: suffixes, in lower case, of the files to convert in folders.
    """
    if "" in (*inputs, output):  # which Path takes for the working directory
        raise UsageError("the name of an input or output is empty")
    folders = [name for name in inputs if name != STREAM and Path(name).is_dir()]
    into = None if output in (None, STREAM) else _folder(output, many=len(inputs) > 1 or bool(folders))
    jobs: list[Job] = []
    for name in inputs:
        path = Path(name)
        if name in folders:
            found = _inside(path, wanted)
            if not found:
                raise UsageError(f"{name}: no file in this folder ends in {', '.join(sorted(wanted))}")
            jobs += [Job(p, (into / p.relative_to(path) if into else p).with_suffix(suffix)) for p in found]
        elif into and name != STREAM:
            jobs.append(Job(path, (into / path.name).with_suffix(suffix)))
        elif output is not None or name == STREAM:
            target = None if output in (None, STREAM) else Path(output)
            jobs.append(Job(None if name == STREAM else path, target))
        else:
            jobs.append(Job(path, path.with_suffix(suffix)))
    if (into or len(jobs) > 1) and any(job.source is None or job.target is None for job in jobs):
        raise UsageError("standard input or output (-) is for one file: give one input and, with -o, one file")
    return _with_rivals(jobs)


def passed_over(inputs: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The folders among the inputs that hold pictures which aren't looked for, and a line for each."""
    for name in filter(os.path.isdir, inputs):
        counts = Counter(path.suffix.lower() for path in _inside(Path(name), PASSED_OVER))
        if total := counts.total():
            files = f"{total} files" if total > 1 else "1 file"
            yield name, f"skipped {files} with other suffixes: {', '.join(sorted(counts))}"


def _inside(folder: Path, wanted: Collection[str]) -> list[Path]:
    """The files with these suffixes in a folder, recursively, without hidden ones such as macOS' `._photo.jpg`."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in wanted)
    shown = (path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    return sorted(path for path in shown if path.is_file())


def _folder(output: str, many: bool) -> Path | None:
    """The folder of the outputs, if `output` is one; with `many` it must be. Raises UsageError."""
    path = Path(output)
    is_folder = output.endswith(tuple(filter(None, (os.sep, os.altsep)))) or path.is_dir()
    if many and path.exists() and not path.is_dir():
        raise UsageError(f"{output} is a file: several inputs need a folder")
    if many and not is_folder and path.suffix.lower() in {SUFFIX, *PICTURES}:
        raise UsageError(f"{output} looks like a file: several inputs need a folder; write {output}{os.sep} for one")
    return path if many or is_folder else None


def _with_rivals(jobs: Sequence[Job]) -> list[Job]:
    """The jobs without repetitions, and with the earlier source of a target that two jobs have."""
    first: dict[Path | None, Job] = {}
    result = []
    for job in dict.fromkeys(jobs):
        earlier = first.setdefault(job.target, job)
        result.append(job if earlier is job else Job(job.source, job.target, earlier.source))
    return result


# ---- pictures -------------------------------------------------------------------------------------------------------


def lift_pillows_bound() -> None:
    """Makes Pillow open what `fields.MAX_ENCODED` allows; its own bound, 2^28 / 3, stops at large photographs."""
    from PIL import Image

    from ..fields import MAX_ENCODED

    Image.MAX_IMAGE_PIXELS = MAX_ENCODED


# ---- writing --------------------------------------------------------------------------------------------------------


def write(path: Path, data: bytes, force: bool) -> None:
    """Writes a file, all or nothing, and its folders. Raises OSError or UsageError."""
    if path.exists() and not path.is_file() and not path.is_dir():  # a device or a pipe: it can't be replaced
        with atomic.blamed_on(path), path.open("wb") as device:
            device.write(data)
        return
    atomic.write(path, data, force)
