"""The checkpoint of a run: one file, or pieces of a given size for machines that move only small files.

Either appears in one instant, complete, whenever the process may die: a file under a temporary name is renamed, and
pieces count only once the list of them, `checkpoint.json`, names them.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ..errors import TrainingError
from ..model.config import MODELS, Config

FILE, LIST, PART = "checkpoint.pt", "checkpoint.json", "checkpoint.part"
MEGABYTE = 1_000_000
BLOCK = 1 << 20  # bytes copied at a time

State = dict[str, Any]  # what a checkpoint holds: see Run.state


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def write(state: State, folder: Path, shard_size: float | None = None) -> None:
    """Writes a checkpoint, in pieces of at most `shard_size` MB if that is given; the one before is gone after it."""
    temporary = folder / PART
    with temporary.open("wb") as file:
        torch.save(state, file)
        _flush(file)
    old = [path for path in folder.glob(f"{Path(FILE).stem}-*") if path.is_file()]
    if shard_size is None:
        os.replace(temporary, folder / FILE)
        (folder / LIST).unlink(missing_ok=True)
    else:
        step = state["position"]["step"]
        generation = 1 + max((int(path.name.split("-")[1]) for path in old), default=0)
        pieces = _split(temporary, f"{Path(FILE).stem}-{generation}", int(shard_size * MEGABYTE))
        listing = folder / f"{LIST}.part"
        listing.write_text(json.dumps({"step": step, "bytes": temporary.stat().st_size, "pieces": pieces}))
        os.replace(listing, folder / LIST)
        (folder / FILE).unlink(missing_ok=True)
        temporary.unlink()
    for path in old:
        path.unlink(missing_ok=True)


def _split(whole: Path, stem: str, size: int) -> list[str]:
    """Copies a file into files of at most `size` bytes beside it; their names."""
    names: list[str] = []
    with whole.open("rb") as source:
        while block := source.read(min(size, BLOCK)):
            names.append(f"{stem}-{len(names):04}")
            with whole.with_name(names[-1]).open("wb") as target:
                target.write(block)
                while (left := size - target.tell()) and (block := source.read(min(left, BLOCK))):
                    target.write(block)
                _flush(target)
    return names


def exists(folder: Path) -> bool:
    return (folder / FILE).exists() or (folder / LIST).exists()


def read(folder: Path) -> State:
    """The newer of the checkpoint's file and its pieces. Raises TrainingError."""
    found = [path for name in (FILE, LIST) if (path := folder / name).exists()]
    newest = max(found, key=lambda path: path.stat().st_mtime_ns)
    whole = newest
    try:
        if newest.name == LIST:
            whole = _join(newest)
        state: State = torch.load(whole, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TrainingError(f"a piece of the checkpoint is missing: {error.filename}") from error
    except (pickle.UnpicklingError, RuntimeError, ValueError, KeyError, EOFError) as error:
        raise TrainingError(f"{newest} is no checkpoint, or a damaged one") from error
    finally:
        if whole.name == PART:
            whole.unlink()
    return state


def config_in(state: State) -> Config:
    """The model that a checkpoint is of."""
    return Config.from_dict(state["config"]) if "config" in state else MODELS[state["options"]["config"]]


def _join(listing: Path) -> Path:
    """Puts the pieces together in a temporary file."""
    told = json.loads(listing.read_text())
    whole = listing.with_name(PART)
    with whole.open("wb") as target:
        for name in told["pieces"]:
            with listing.with_name(Path(name).name).open("rb") as piece:
                shutil.copyfileobj(piece, target, BLOCK)
    if whole.stat().st_size != told["bytes"]:
        raise ValueError(f"its pieces have {whole.stat().st_size} bytes together, not {told['bytes']}")
    return whole
