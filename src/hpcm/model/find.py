"""Weights files: a name or a path -> what the file says of itself, and its bytes.

A weights file is a safetensors file that describes itself. Its tensors are the parameters (under their names in
`HPCM`) and the integer tables of the entropy coder (`tables.scales`, `tables.radius`, `tables.frequencies`); storage.py
says how numbers are stored. Its metadata holds, as JSON, the configuration, the model's name where that isn't the
configuration's, and where the weights come from (`provenance`). The SHA-256 of the whole file is the model's hash; a
.hpcm file names its model by the first 8 bytes of it.

**Names.** Released models never change: each has a name with a version, `nano-1`. `nano` stands for the newest of them.
Models of one quality level are the rungs of a ladder: `base` stands for all of `base-0018` to `base-0483`, each with a
lambda of its own (see codec/codec.py). Of rungs with the same lambda the newest counts.

Models are looked for among the bundled ones, then in the user's weights folder ($HPCM_WEIGHTS, by default
~/.local/share/hpcm).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import ModelNotFoundError, UsageError, WeightsError
from ..format.fields import MODEL_HASH_BYTES, MODEL_NAME

FORMAT = "1"
SUFFIX = ".safetensors"
ASSETS = Path(__file__).parent / "assets"
DEFAULT_MODEL = "lite"
RUN_WEIGHTS = f"model{SUFFIX}"  # what a training run's folder holds
MAX_HEADER = 16 << 20  # bytes of a safetensors header


@dataclass(frozen=True)
class WeightsFile:
    """A weights file on disk: its description, read without loading the tensors."""

    path: Path
    name: str
    config: dict[str, Any]
    provenance: dict[str, Any]
    known_digest: bytes | None = None  # of the bytes that `read` gave; else the file is hashed where it lies

    @property
    def digest(self) -> bytes:
        """SHA-256 of the file, 32 bytes."""
        return self.known_digest or _file_digest(self.path, *_version(self.path))

    @property
    def hash(self) -> bytes:
        """The 8 bytes that name the model in a .hpcm file."""
        return self.digest[:MODEL_HASH_BYTES]

    @property
    def lmbda(self) -> float | None:
        """The lambda of a model of one quality level, which can be a rung; None for the others."""
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
        for what, value in (("config", config), ("provenance", provenance)):
            if not isinstance(value, dict):
                raise TypeError(f"{what} is {value!r} instead of names and values")
        name = str(metadata.get("name") or config["name"])
        if not MODEL_NAME.fullmatch(name):
            raise ValueError(f"the model's name is {name!r}, which .hpcm files can't hold")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path} can't be read as a weights file: {error}") from error
    return WeightsFile(path, name, config, provenance)


def sha256(file: BinaryIO) -> bytes:
    """Of an open file, 32 bytes."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.digest()


# ---- finding ---------------------------------------------------------------------------------------------------------


def user_folder() -> Path:
    """Where a user keeps weights files: $HPCM_WEIGHTS, or hpcm in the user's data folder."""
    if chosen := os.environ.get("HPCM_WEIGHTS"):
        return Path(chosen)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "hpcm"


def folders() -> list[Path]:
    """Where models are looked for, in this order."""
    return [ASSETS, user_folder()]


def available() -> Iterator[WeightsFile]:
    """The models at hand in all folders. Unreadable files are passed over."""
    for folder in folders():
        yield from _in(folder)


def _in(folder: Path) -> Iterator[WeightsFile]:
    for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []:
        try:
            yield describe(path)
        except WeightsError:
            continue


def find(name_or_path: str | Path) -> WeightsFile:
    """One model by name, a weights file by path, or a training run by its folder; see `rungs`.

    Raises ModelNotFoundError, WeightsError, and UsageError for a name that stands for several.
    """
    models = rungs(name_or_path)
    if len(models) > 1:
        names = ", ".join(weights.name for weights in models)
        raise UsageError(f"{name_or_path} stands for {len(models)} models: name one of {names}")
    return models[0]


def rungs(name_or_path: str | Path) -> list[WeightsFile]:
    """The models that a name or path stands for: as a rule one; those of a ladder, from the lowest lambda on.

    A string without a separator and without the suffix .safetensors is a name, whatever lies in the working directory.
    Raises ModelNotFoundError, WeightsError.
    """
    separators = tuple(filter(None, (os.sep, os.altsep)))
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(SUFFIX) or any(separator in text for separator in separators):
        return [_at(Path(name_or_path))]
    for folder in folders():
        at_hand = list(_in(folder))
        if exact := [weights for weights in at_hand if text in (weights.name, weights.path.stem)]:
            return exact[:1]
        versions = [weights for weights in at_hand if version_of(weights, text)]
        if versions:
            versions.sort(key=lambda weights: version_of(weights, text))
            ladder = {weights.lmbda: weights for weights in versions if weights.lmbda is not None}
            return versions[-1:] if versions[-1].lmbda is None else [ladder[lmbda] for lmbda in sorted(ladder)]
    known = ", ".join(weights.name for weights in available()) or "none"
    hint = f"; for a file or folder write {os.path.join('.', text)}" if text and Path(text).exists() else ""
    raise ModelNotFoundError(f"no model {text!r}: the models at hand are {known}{hint}")


def bundled(weights: WeightsFile) -> bool:
    """Whether it lies in this package, and so is no stranger's."""
    return weights.path.parent == ASSETS


def released(name: str) -> bool:
    """Whether it is the name of a released model, with its version."""
    return (ASSETS / f"{name}{SUFFIX}").is_file()


def default() -> WeightsFile | None:
    """The model that is used unless another is named; None where it isn't at hand."""
    try:
        return find(DEFAULT_MODEL)
    except ModelNotFoundError:
        return None


def alias_of(weights: WeightsFile) -> str | None:
    """The name without a version, if it stands for this model alone."""
    family = _family(weights)
    return family if family and [model.path for model in rungs(family)] == [weights.path] else None


def ladder_of(weights: WeightsFile) -> str | None:
    """The name of the ladder that a model is a rung of, with others."""
    family = _family(weights)
    models = rungs(family) if family else []
    return family if len(models) > 1 and weights.path in [model.path for model in models] else None


def _family(weights: WeightsFile) -> str | None:
    """A model's name without its version; None for a name that has none."""
    family = weights.name.rpartition("-")[0]
    return family if family and version_of(weights, family) else None


def version_of(weights: WeightsFile, family: str) -> int:
    """The version of a model called FAMILY-VERSION; 0 for other names."""
    version = weights.name.removeprefix(f"{family}-")
    return int(version) if version != weights.name and version.isdecimal() else 0


def _at(path: Path) -> WeightsFile:
    if path.is_dir():
        path = path / RUN_WEIGHTS
    if not path.is_file():
        raise ModelNotFoundError(f"no model at {path}: there is no such file")
    return describe(path)


def find_hash(name: str, short_hash: bytes) -> WeightsFile:
    """The model that a .hpcm file names. Raises ModelNotFoundError, which names it and says where to put it."""
    at_hand = sorted(available(), key=lambda weights: weights.name != name)  # hashing takes time
    for weights in at_hand:
        if weights.hash == short_hash:
            return weights
    raise ModelNotFoundError(
        f"the file was made with model {name!r} of hash {short_hash.hex()}, which is not at hand: "
        f"put its weights file into {user_folder()} or name it with --model PATH"
    )


def read(weights: WeightsFile) -> tuple[WeightsFile, bytes]:
    """The bytes of a weights file, and its description made of the very same. Raises WeightsError."""
    try:
        data = weights.path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{weights.path} can't be read as a weights file: {error}") from error
    weights = _describe(weights.path, io.BytesIO(data))
    return replace(weights, known_digest=hashlib.sha256(data).digest()), data
