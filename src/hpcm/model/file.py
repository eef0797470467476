"""A weights file: what it says of itself, and its bytes.

A weights file is a safetensors file that describes itself. Its tensors are the parameters (under their names in
`HPCM`) and the integer tables of the entropy coder (`tables.scales`, `tables.radius`, `tables.frequencies`); storage.py
says how numbers are stored. Its metadata holds, as JSON, the configuration, the model's name where that isn't the
configuration's, where the weights come from (`provenance`), and of an exact model how its convolutions move over their
inputs (`layers`; see layers.py). The SHA-256 of the whole file is the model's hash; a
.hpcm file names its model by the first 8 bytes of it.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import WeightsError
from ..format.fields import MODEL_HASH_BYTES, MODEL_NAME

FORMAT = "1"
SUFFIX = ".safetensors"
MAX_HEADER = 16 << 20  # bytes of a safetensors header
SYNTHESIS_OF = "synthesis of"  # in the provenance: name and hash of the model that all but g_s is of, to the bit


@dataclass(frozen=True)
class WeightsFile:
    """A weights file on disk: its description, read without loading the tensors."""

    path: Path
    name: str
    config: dict[str, Any]
    provenance: dict[str, Any]
    layers: dict[str, Any] = field(default_factory=dict)
    known_digest: bytes | None = None  # of the bytes that `read` gave; else the file is hashed where it lies

    @property
    def digest(self) -> bytes:
        """SHA-256 of the file, 32 bytes."""
        return self.known_digest or _file_digest(self.path, *_version(self.path))

    @property
    def hash(self) -> bytes:
        """The 8 bytes that name the model in a .hpcm file."""
        return self.digest[:MODEL_HASH_BYTES]

    def reads(self, short_hash: bytes) -> bool:
        """Whether it decodes the files of the model with this hash: its own, or one whose synthesis alone differs.

        What a weights file claims is checked where it matters: by the checksums of a .hpcm file's symbols.
        """
        if self.hash == short_hash:
            return True
        name_and_hash = str(self.provenance.get(SYNTHESIS_OF, ""))
        return bool(self.config.get("carrier")) and name_and_hash.rpartition(" ")[2] == short_hash.hex()

    @property
    def lmbda(self) -> float | None:
        """The lambda of a model of one quality level, which can be one of a family; None for others."""
        value = self.config.get("lambda_min") if self.config.get("levels") == 1 else None
        return float(value) if isinstance(value, float | int) and 0 < value <= sys.float_info.max else None


def describe(path: Path) -> WeightsFile:
    """Reads a weights file's description. Raises WeightsError."""
    try:
        return _described(path, *_version(path))
    except OSError as error:
        raise WeightsError(f"{path} can't be read as a weights file: {error}") from error


def _version(path: Path) -> tuple[int, int, int]:
    """Changes when a file is written anew. Raises OSError."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


@lru_cache(maxsize=64)
def _described(path: Path, *version: int) -> WeightsFile:
    with path.open("rb") as file:
        return _describe(path, file)


@lru_cache(maxsize=64)
def _file_digest(path: Path, *version: int) -> bytes:
    with path.open("rb") as file:
        return sha256(file)


def _describe(path: Path, file: BinaryIO) -> WeightsFile:
    """From an open file, at its beginning. Raises WeightsError."""
    try:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER:
            raise WeightsError(f"{path} is no weights file: its header claims {length} bytes")
        metadata = json.loads(file.read(length)).get("__metadata__", {})
        if metadata.get("hpcm") != FORMAT:
            raise WeightsError(f"{path} is no hpcm weights file of format {FORMAT}; `hpcm import` reads the authors'")
        config, provenance = json.loads(metadata["config"]), json.loads(metadata["provenance"])
        layers = json.loads(metadata.get("layers", "{}"))
        for what, value in (("config", config), ("provenance", provenance), ("layers", layers)):
            if not isinstance(value, dict):
                raise TypeError(f"{what} is {value!r} instead of names and values")
        name = str(metadata.get("name") or config["name"])
        if not MODEL_NAME.fullmatch(name):
            raise ValueError(f"the model's name is {name!r}, which .hpcm files can't hold")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path} can't be read as a weights file: {error}") from error
    return WeightsFile(path, name, config, provenance, layers)


def read(weights: WeightsFile) -> tuple[WeightsFile, bytes]:
    """The bytes of a weights file, and its description made of the very same. Raises WeightsError."""
    try:
        data = weights.path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{weights.path} can't be read as a weights file: {error}") from error
    weights = _describe(weights.path, io.BytesIO(data))
    return replace(weights, known_digest=hashlib.sha256(data).digest()), data


def sha256(file: BinaryIO) -> bytes:
    """The SHA-256 of an open file, 32 bytes."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.digest()
