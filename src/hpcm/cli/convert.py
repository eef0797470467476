"""`hpcm compress` and `hpcm decompress`: one process and one model for any number of files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..errors import TruncatedError, UsageError
from ..format.container import unpack
from ..format.fields import PASSES
from . import files
from .files import Job
from .folders import in_words
from .messages import attempt, complain, log_to_stderr, noting, say
from .processes import Done, Work, spread

if TYPE_CHECKING:
    from ..codec.codec import Codec

Told = Callable[[float], None]
WHY_SKIPPED = "in a folder, only files with the usual suffixes of pictures are compressed"
TOP_PAD = 256 << 20  # bytes by which the heap grows at least


def compress(options: argparse.Namespace) -> bool:
    jobs, skipped = files.plan(options.inputs, options.output, files.SUFFIX, files.PICTURES)
    for job in jobs:
        files.refuse_misnamed(job.target, files.SUFFIX)
    for folder, kinds in () if options.quiet else skipped.items():
        del kinds[files.SUFFIX]  # made of pictures already
        if kinds:
            say("note", f"skipped {in_words(kinds)}: {WHY_SKIPPED}", folder)
    return each(jobs, compressor, options)


def compressor(options: argparse.Namespace, told: Told | None = None) -> Work:
    """Loads the model; what compresses a file, and calls `told` with how far a search is. Raises HPCMError."""
    files.lift_pillows_bound()
    codec = load(options.model, where(options))
    if options.effort and options.threads and find_spec("torch"):
        import torch

        torch.set_num_threads(options.threads)
    how = {name: getattr(options, name) for name in ("quality", "bpp", "psnr", "tile", "progressive", "effort")}
    return partial(compress_one, codec, how={**how, "on_progress": told}, options=options)


def compress_one(codec: Codec, job: Job, *, how: dict[str, Any], options: argparse.Namespace) -> None:
    from ..image.read import open_picture

    data, on_note = job.read(), noting(job.name, quiet=options.quiet)
    image = open_picture(data, on_note=on_note)
    compressed = codec.compress(image, **how, on_note=on_note)
    bpp = 8 * len(compressed) / (image.width * image.height)
    keep(job, compressed, options, f"{len(data):,} -> {len(compressed):,} bytes ({bpp:.2f} bpp)")


def decompress(options: argparse.Namespace) -> bool:
    from ..image.write import options_of

    jobs, _ = files.plan(options.inputs, options.output, f".{options.format}", {files.SUFFIX})
    for job in jobs:
        if job.suffix(options.format).lower() == files.SUFFIX:
            raise UsageError("the output is a picture; name it so, such as .png, .webp, .tif, .ppm or .jpg")
        options_of(job.suffix(options.format), options.quality)
    return each(jobs, decompressor, options)


def decompressor(options: argparse.Namespace, told: Told | None = None) -> Work:
    """Loads the model, if one is named; what decompresses a file. Raises HPCMError."""
    files.lift_pillows_bound()
    keep_pages()
    codec = load(options.model, where(options)) if options.model else None
    return partial(decompress_one, codec, options=options)


def decompress_one(codec: Codec | None, job: Job, *, options: argparse.Namespace) -> None:
    from ..codec.api import codec_for
    from ..image.write import draft_of, fitted, save_picture

    data, on_note = job.read(), noting(job.name, quiet=options.quiet)
    try:
        container = unpack(data, partial=options.partial)
    except TruncatedError as error:
        raise error if options.partial else TruncatedError(f"{error}, or take --partial for what is there") from None
    codec = codec or codec_for(container, **where(options))
    part: dict[str, Any] = {"max_pixels": options.max_pixels, "box": options.crop}
    part["draft"] = draft_of(container, options.max_size)
    if options.partial:
        image = codec.preview(container, **part)
    else:
        image = codec.decompress(container, scale=options.preview or PASSES, **part, on_note=on_note)
    image = fitted(image, options.max_size)
    picture = save_picture(image, job.suffix(options.format), options.quality, on_note=on_note)
    told = f"{image.width} x {image.height} pixels"
    told += f", {container.progress:.0%} of the file" if container.progress < 1 else ""
    keep(job, picture, options, f"{len(data):,} -> {len(picture):,} bytes ({told})")


def keep(job: Job, data: bytes, options: argparse.Namespace, text: str) -> None:
    """Writes what a job has made, and says so."""
    job.write(data, options.force, options.keep_times)
    if job.target is not None and not options.quiet:
        print(f"{job.name} -> {job.target}  {text}")


# ---- many files -----------------------------------------------------------------------------------------------------


def each(jobs: Sequence[Job], make: Callable[..., Work], options: argparse.Namespace) -> bool:
    """Does every job, also after one that failed. Whether all went well.

    A job of which something is known that will make it fail is complained about before any other is begun.
    """
    log_to_stderr(verbose=options.verbose)
    made = {job for job in jobs if options.skip_existing and job.is_made()}
    left = [job for job in jobs if job not in made]
    check = {"skip_existing": options.skip_existing, "decodes": make is decompressor}
    sound = [job for job in left if attempt(partial(job.check, options.force, **check), job.name)]
    if options.dry_run:
        for job in sound:
            print(f"{job.name} -> {job.target or 'standard output'}")
        return sound == left
    written = carry_out(sound, make, options) if sound else 0
    failed = len(left) - written
    if len(jobs) > 1 and (failed or not options.quiet):
        skipped = f"{len(made):,} skipped, " if made else ""
        complain(f"hpcm: {written:,} written, {skipped}{failed:,} failed\n")
    return not failed


def carry_out(jobs: Sequence[Job], make: Callable[..., Work], options: argparse.Namespace) -> int:
    """Does the jobs; how many went well. Raises HPCMError if the model can't be loaded."""
    side_by_side = options.jobs > 1 and len(jobs) > 1
    search = not side_by_side and bool(getattr(options, "effort", 0))
    with progress(jobs, search=search, shown=not options.quiet) as (remaining, told):
        work = make(options, told)  # side by side too: a model that can't be loaded is told once, before any job
        if side_by_side:
            with closing(spread(jobs, make, options)) as results:
                return sum(tell(result) for _, result in zip(remaining, results, strict=True))
        return sum(attempt(partial(work, job), job.name) for job in remaining)


def tell(done: Done) -> bool:
    """Says what a job of another process said."""
    print(done.out, end="")
    complain(done.err)
    return done.well


@contextmanager
def progress(jobs: Sequence[Job], *, search: bool, shown: bool) -> Iterator[tuple[Iterable[Job], Told | None]]:
    """The jobs and, with `search`, what is to be told how far the one at hand is, 0 to 1.

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
        task = bar.add_task("Searching...", total=1) if search else None

        def told(share: float) -> None:
            if task is not None and share < bar.tasks[task].completed:  # another file
                bar.reset(task)
            if task is not None:
                bar.update(task, completed=share)

        yield remaining, told if search else None


# ---- the process ----------------------------------------------------------------------------------------------------


def where(options: argparse.Namespace) -> dict[str, Any]:
    """What computes, from the command line."""
    return {"device": options.device, "engine": options.engine, "threads": options.threads}


def load(model: str, where: dict[str, Any]) -> Codec:
    """A codec of the model, or of the models, that a name or path stands for. Raises HPCMError."""
    from ..model.find import rungs

    models = rungs(model)  # cheap, and most likely to fail
    keep_pages()
    from ..codec.codec import Codec

    return Codec(models, **where)


def keep_pages() -> None:
    """Makes glibc's malloc keep the memory of freed tensors for the next ones: convolutions run 1.3 times as fast.

    By default every large tensor is mapped anew, and the kernel clears its pages each time. This is no part of
    `import hpcm` because it changes the whole process, which belongs to whoever imports it. Other systems: nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        for parameter, value in ((-4, 0), (-1, 2**31 - 1), (-2, TOP_PAD)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
            libc.mallopt(parameter, value)
