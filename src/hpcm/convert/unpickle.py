"""Reading a checkpoint's file without running what it says: only tensors and plain containers come out of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from safetensors import SafetensorError, safe_open

from ..errors import WeightsError
from ..model.file import SUFFIX
from .state_dicts import holds_tensors

REFUSED = re.compile(
    r"GLOBAL ([\w.]{1,100})"
)  # in the messages of torch.load: a class or a function that it won't call
BLOCKED = "is blocked"  # there: it belongs to a module that no checkpoint needs, such as os
TENSORS_ALONE = (
    "; where you trust the file, save its tensors alone: c = torch.load(FILE, weights_only=False); "
    "torch.save(c['state_dict'], NEW), with the key that it has, or c.state_dict() if it is a whole model"
)


def unpickled(path: Path) -> Any:
    """What is in a checkpoint: tensors in dictionaries and lists, beside numbers and words. Raises WeightsError."""
    content = _safetensors(path) if path.suffix == SUFFIX else _torch(path)
    if not holds_tensors(content):
        raise WeightsError(f"{path} holds no state dict: parameter names and tensors are expected")
    return content


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        with safe_open(path, "pt") as file:
            if "hpcm" in (file.metadata() or {}):
                raise WeightsError(f"{path} is a weights file of hpcm already: --model takes it as it is")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dictionary
    except OSError as error:
        raise WeightsError(f"{path} can't be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise WeightsError(f"{path} is damaged: {error}") from error


def _torch(path: Path) -> Any:
    """What torch saved. Code in it is never run."""
    try:
        _refuse_web_page(path)
        zipped = is_zipfile(path)  # as torch writes since 1.6
        if zipped:
            _check_crcs(path)
        # Memory is mapped where that is possible: the 1B models' 4 GB needn't be copied.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except OSError as error:
        raise WeightsError(f"{path} can't be read: {error.strerror or error}") from error
    except WeightsError:
        raise
    except Exception as error:  # torch.load raises whatever a damaged or hostile file makes it stumble over
        if refused := REFUSED.search(str(error)):
            advice = "" if BLOCKED in str(error) else TENSORS_ALONE
            raise WeightsError(
                f"{path} holds more than tensors, {refused[1]}, which is never loaded{advice}"
            ) from error
        raise WeightsError(f"{path} is damaged, or holds more than tensors, which is never loaded") from error


def _refuse_web_page(path: Path) -> None:
    """Drive shows a page before large files, which some save as the file."""
    with path.open("rb") as file:
        start = file.read(64).lstrip()
    if start.startswith(b"<"):
        raise WeightsError(f"{path} is a web page instead of a checkpoint: open its link in a browser")


def _check_crcs(path: Path) -> None:
    """Of all records of a zip archive: torch.load checks none."""
    with ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged:
        raise WeightsError(f"{path} is damaged: {damaged} in it has a wrong CRC")
