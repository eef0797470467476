"""A run's folder: which files are the trainer's, when they may be overwritten, and what a killed process leaves."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from ..model import find as weights
from ..util import atomic
from . import checkpoint, options, watch

# Beside the checkpoint. They are removed in this order, so that what is left of a killed process is recognised:
WRITTEN = (
    weights.RUN_WEIGHTS,
    watch.PICTURES,
    watch.LOG,
    watch.EVALUATIONS,
    watch.SKIPPED,
    options.CONFIG,
    options.FILE,
)
BEGUN = {
    watch.LOG,
    watch.EVALUATIONS,
    watch.SKIPPED,
    options.CONFIG,
    options.FILE,
}  # what a run has before its first checkpoint
TEMPORARY = re.compile(re.escape(atomic.TEMPORARY) + r"(.+\.\d+\.)?[a-z0-9_]{8}")  # as atomic and tempfile name folders


def refusal(folder: Path, *, resume: bool, force: bool) -> str | None:
    """Why a run must not write into a folder; None if it may.

    With `resume` it may go on from a checkpoint, or start again where a run was killed before its first one. Otherwise
    it overwrites nothing without `force`.
    """
    if force:
        return None
    if checkpoint.exists(folder):
        advice = "go on with --resume, start anew with -f, or choose another --out"
        return None if resume else f"{folder} has a checkpoint: {advice}"
    return _refusal_without_checkpoint(folder, resume)


def _refusal_without_checkpoint(folder: Path, resume: bool) -> str | None:
    files = [name for name in WRITTEN if (folder / name).exists()]
    begun = options.FILE in files and BEGUN.issuperset(files)
    if not files or (resume and begun):
        return None
    others = f" and {len(files) - 1} more files of a run" if len(files) > 1 else ""
    advice = "start anew with -f, or choose another --out"
    if begun:
        advice = "--resume begins this run again with its options, -f begins a new one"
    return f"{folder} has {files[0]}{others}, but no checkpoint: {advice}"


def clear(folder: Path) -> None:
    """Removes a run; what else lies in its folder stays."""
    checkpoint.remove(folder)
    for name in (*WRITTEN, watch.CURVES):
        (folder / name).unlink(missing_ok=True)
    if (folder / watch.BOARD).is_dir():
        shutil.rmtree(folder / watch.BOARD)


def tidy(folder: Path) -> None:
    """Removes the temporary folders of killed processes; nobody else may be writing here."""
    for path in folder.glob(f"{atomic.TEMPORARY}*"):
        if TEMPORARY.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
