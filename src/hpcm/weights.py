"""Weights files: a name or a path -> a model.

A weights file is a safetensors file that describes itself. Its tensors are the parameters (under their names in
`HPCM`) and the integer tables of the entropy coder (`tables.scales`, `tables.radius`, `tables.frequencies`). Its
metadata holds, as JSON, the configuration and where the weights come from (`provenance`). The SHA-256 of the whole
file is the model's hash; a .hpcm file names its model by the first 8 bytes of it.

Models are looked for among the bundled ones, then in the user's weights folder ($HPCM_WEIGHTS, by default
~/.local/share/hpcm). Importing this module doesn't import torch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ModelNotFoundError, WeightsError

if TYPE_CHECKING:
    from .entropy.tables import Tables
    from .model.hpcm import HPCM

FORMAT = "1"
SUFFIX = ".safetensors"
ASSETS = Path(__file__).parent / "assets"
DEFAULT_MODEL = "nano"
RUN_WEIGHTS = f"model{SUFFIX}"  # what a training run's folder holds
HASH_BYTES = 8  # of the SHA-256, in a .hpcm file
MAX_HEADER = 16 << 20  # bytes of a safetensors header


@dataclass(frozen=True)
class WeightsFile:
    """A weights file on disk: its description, read without loading the tensors."""

    path: Path
    config: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.config["name"])

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the file, 32 bytes."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest() if hasattr(hashlib, "file_digest") else _sha256(file)

    @property
    def hash(self) -> bytes:
        """The 8 bytes that name the model in a .hpcm file."""
        return self.digest[:HASH_BYTES]


def _sha256(file: Any) -> bytes:  # Python 3.10
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.digest()


def describe(path: Path) -> WeightsFile:
    """Reads a weights file's description. Raises WeightsError."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > MAX_HEADER:
                raise WeightsError(f"{path} is no weights file: its header claims {length} bytes")
            metadata = json.loads(file.read(length)).get("__metadata__", {})
        if metadata.get("hpcm") != FORMAT:
            raise WeightsError(f"{path} is no hpcm weights file of format {FORMAT}; `hpcm import` reads the authors'")
        config, provenance = json.loads(metadata["config"]), json.loads(metadata["provenance"])
        str(config["name"])
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path} can't be read as a weights file: {error}") from error
    return WeightsFile(path, config, provenance)


def user_folder() -> Path:
    """Where a user keeps weights files: $HPCM_WEIGHTS, or hpcm in the user's data folder."""
    if chosen := os.environ.get("HPCM_WEIGHTS"):
        return Path(chosen)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "hpcm"


def available() -> Iterator[WeightsFile]:
    """The bundled models, then the user's; files that can't be read are passed over."""
    for folder in (ASSETS, user_folder()):
        for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []:
            try:
                yield describe(path)
            except WeightsError:
                continue


def find(name_or_path: str | Path) -> WeightsFile:
    """A bundled or user's model by name, a weights file by path, or a training run by its folder.

    Raises ModelNotFoundError, WeightsError.
    """
    path = Path(name_or_path)
    if path.is_dir() and (path / RUN_WEIGHTS).exists():
        return describe(path / RUN_WEIGHTS)
    if path.is_file():
        return describe(path)
    for weights in available():
        if str(name_or_path) in (weights.name, weights.path.stem):
            return weights
    known = ", ".join(w.name for w in available()) or "none"
    raise ModelNotFoundError(f"no model {str(name_or_path)!r}: it is no file, and the models at hand are {known}")


def find_hash(name: str, short_hash: bytes) -> WeightsFile:
    """The model that a .hpcm file names. Raises ModelNotFoundError, which names it and says where to put it."""
    candidates = sorted(available(), key=lambda w: w.name != name)  # the likely ones first: hashing reads the file
    for weights in candidates:
        if weights.hash == short_hash:
            return weights
    raise ModelNotFoundError(
        f"the file was made with model {name!r} of hash {short_hash.hex()}, which is not at hand: "
        f"put its weights file into {user_folder()} or name it with --model PATH"
    )


def save(model: HPCM, path: Path, provenance: dict[str, Any], *, half: bool = True) -> None:
    """Writes a weights file under a temporary name first; 16-bit parameters if `half`, else float32.

    What leads to means and scales in an exact model stays as it is: 16-bit only where nothing is lost.
    """
    import numpy as np
    import torch
    from safetensors.torch import save_file

    from .entropy.tables import make_tables
    from .model.grid import PARTS

    tensors = {}
    for name, value in model.state_dict().items():
        value = value.detach().cpu().contiguous().float()
        short = value.half()
        exact = bool(model.config.carrier) and name.startswith(PARTS)
        tensors[name] = short if half and (not exact or torch.equal(short.float(), value)) else value
    tables = make_tables()
    for name in ("scales", "radius", "frequencies"):
        tensors[f"tables.{name}"] = torch.from_numpy(np.array(getattr(tables, name)))
    metadata = {"hpcm": FORMAT, "config": json.dumps(model.config.to_dict()), "provenance": json.dumps(provenance)}
    temporary = path.with_name(path.name + ".part")
    save_file(tensors, temporary, metadata)
    temporary.chmod(0o644)  # safetensors makes files that only their owner reads
    os.replace(temporary, path)


def load_model(weights: WeightsFile, device: str = "cpu") -> tuple[HPCM, Tables]:
    """The network in evaluation mode, float32 and channels-last, and its entropy coder's tables.

    Raises WeightsError where the file doesn't hold what its configuration asks for, or where an exact model's bounds
    don't hold, and MismatchError where this machine's arithmetic isn't exact.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from .entropy.tables import Tables
    from .model import grid
    from .model.config import Config
    from .model.hpcm import HPCM

    try:
        tensors = load_file(weights.path)
        tables = Tables(*(tensors.pop(f"tables.{name}").numpy() for name in ("scales", "radius", "frequencies")))
        tables.check()
        with torch.device("meta"):
            model = HPCM(Config.from_dict(weights.config))
        model.load_state_dict({name: value.float() for name, value in tensors.items()}, assign=True)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise WeightsError(f"{weights.path}: the weights don't fit their configuration: {error}") from error
    if model.config.carrier:
        grid.check(model)
        grid.probe(torch.device(device))
    model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval().requires_grad_(False), tables
