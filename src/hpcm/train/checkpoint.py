"""The checkpoint of a run: one file, which takes its name only when all of it is on the disk."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from ..errors import TrainingError
from ..model.config import Config
from ..util import atomic

FILE = "checkpoint.pt"

State = dict[str, Any]  # what a checkpoint holds: see Run.state


def write(state: State, folder: Path) -> None:
    """Writes a checkpoint in the place of the one before."""
    with atomic.replacing(folder / FILE) as temporary, temporary.open("xb") as file:
        torch.save(state, file)


def exists(folder: Path) -> bool:
    return (folder / FILE).exists()


def remove(folder: Path) -> None:
    (folder / FILE).unlink(missing_ok=True)


def read(folder: Path) -> State:
    """What a checkpoint holds, in the CPU's memory; writes nothing. Raises TrainingError."""
    path = folder / FILE
    try:
        state: State = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, KeyError, TypeError, EOFError) as error:
        raise TrainingError(f"{path} is no checkpoint, or a damaged one") from error
    return state


def config_in(state: State) -> Config:
    """The model that a checkpoint is of. Raises TrainingError."""
    try:
        return Config.from_dict(state["config"])
    except (TypeError, ValueError, KeyError) as error:
        raise TrainingError(f"the checkpoint's model is unknown to this hpcm: {error}") from error
