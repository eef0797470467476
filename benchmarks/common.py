"""What the benchmarks share: the first line of their output, and how they read a folder of pictures."""

from datetime import date
from pathlib import Path

from PIL import Image

from hpcm.eval.machine import machine, versions
from hpcm.eval.measure import read_pixels
from hpcm.eval.report import counted


def heading(threads: int | None = None, *packages: str) -> str:
    """Date, processor, cores; the threads that were used, and the versions of packages."""
    computer = machine()
    parts = [str(date.today()), computer.cpu, counted(computer.cores, "core")]
    parts += [counted(threads, "thread")] if threads else []
    return ", ".join(parts + [f"{package} {versions().get(package)}" for package in packages])


def pictures_of(folder: Path, limit: int | None = None) -> list[Image.Image]:
    """The PNG files of a folder in the order of their names."""
    return [Image.fromarray(read_pixels(path)) for path in sorted(folder.glob("*.png"))[:limit]]
