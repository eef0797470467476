"""Names of models: a name or a path -> weights files.

Released models never change: each has a name with a version, `nano-1`. `nano` stands for the newest of them. Models of
one quality level each, which differ in their lambda, form a *family*: `base` stands for all of `base-0018` to
`base-0483` (see codec/codec.py). Of those with the same lambda the newest counts.

Models are looked for among the bundled ones, then in the user's weights folder ($HPCM_WEIGHTS, by default
~/.local/share/hpcm), then in those of the system, where the installed C library looks, too: hpcm in each folder of
$XDG_DATA_DIRS, by default /usr/local/share and /usr/share.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..defaults import DEFAULT_MODEL
from ..errors import ModelNotFoundError, UsageError, WeightsError
from ..format.fields import MODEL_NAME, MODEL_NAME_IN_WORDS
from .file import SUFFIX, WeightsFile, describe

ASSETS = Path(__file__).parent / "assets"
SYSTEM_DATA = ("/usr/local/share", "/usr/share")  # unless $XDG_DATA_DIRS says otherwise
RUN_WEIGHTS = f"model{SUFFIX}"  # what a training run's folder holds


def data_folder() -> Path:
    """The user's data folder, as freedesktop.org specifies it."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")


def user_folder() -> Path:
    """Where a user keeps weights files: $HPCM_WEIGHTS, or hpcm in the user's data folder."""
    if chosen := os.environ.get("HPCM_WEIGHTS"):
        return Path(chosen)
    return data_folder() / "hpcm"


def shared_data_folders() -> list[Path]:
    """The system's data folders, as freedesktop.org specifies them: relative paths don't count."""
    shared = os.environ.get("XDG_DATA_DIRS") or os.pathsep.join(SYSTEM_DATA)
    return [Path(folder) for folder in shared.split(os.pathsep) if Path(folder).is_absolute()]


def system_folders() -> list[Path]:
    """Where a system keeps weights files."""
    return [folder / "hpcm" for folder in shared_data_folders()]


def folders() -> list[Path]:
    """Where models are looked for, in this order."""
    return list(dict.fromkeys([ASSETS, user_folder(), *system_folders()]))


def available() -> Iterator[WeightsFile]:
    """The installed models, of all folders. Unreadable files and copies of models before them are passed over."""
    by_name: dict[str, list[WeightsFile]] = {}
    for weights in _everywhere():
        before = by_name.setdefault(weights.name, [])
        if all(weights.hash != other.hash for other in before):  # which hashes no model whose name is its own alone
            before.append(weights)
            yield weights


def _everywhere() -> Iterator[WeightsFile]:
    """The models of all folders, each file once: a package's bundled ones may be links to the system's."""
    seen: set[Path] = set()
    for folder in folders():
        for weights in _in(folder):
            real = weights.path.resolve()
            if real not in seen:
                seen.add(real)
                yield weights


def _in(folder: Path) -> Iterator[WeightsFile]:
    for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []:
        try:
            yield describe(path)
        except WeightsError:
            continue


def find(name_or_path: str | Path) -> WeightsFile:
    """One model by name, a weights file by path, or a training run by its folder; see `find_all`.

    Raises ModelNotFoundError, WeightsError, and UsageError for a name that stands for several.
    """
    models = find_all(name_or_path)
    if len(models) > 1:
        names = ", ".join(weights.name for weights in models)
        raise UsageError(f"{name_or_path} stands for {len(models)} models: name one of {names}")
    return models[0]


def find_all(name_or_path: str | Path) -> list[WeightsFile]:
    """The models that a name or path stands for: as a rule one; those of a family, from the lowest lambda on.

    Raises ModelNotFoundError, WeightsError.
    """
    if _is_path(name_or_path):
        return [_at(Path(name_or_path))]
    name = str(name_or_path)
    for folder in folders():
        models = list(_in(folder))
        if matching := _of_name(models, name) or _of_base_name(models, name):
            return matching
    raise _not_found(name)


def _is_path(name_or_path: str | Path) -> bool:
    """A string without a separator and the suffix .safetensors is a name, whatever lies in the working directory."""
    if isinstance(name_or_path, Path) or name_or_path.endswith(SUFFIX):
        return True
    return os.sep in name_or_path or (os.altsep is not None and os.altsep in name_or_path)


def _at(path: Path) -> WeightsFile:
    """A weights file, or that of a training run's folder. Raises ModelNotFoundError, WeightsError."""
    if path.is_dir():
        path = path / RUN_WEIGHTS
    if not path.is_file():
        raise ModelNotFoundError(f"no model at {path}: there is no such file")
    return describe(path)


def _of_name(models: list[WeightsFile], name: str) -> list[WeightsFile]:
    """A list of the model that has this name, or whose file has it; empty if there is none."""
    return [weights for weights in models if name in (weights.name, weights.path.stem)][:1]


def _of_base_name(models: list[WeightsFile], base_name: str) -> list[WeightsFile]:
    """What a name without a version stands for: the newest version, or a family if that has a lambda of its own."""
    versions = [weights for weights in models if version_of(weights, base_name)]
    versions.sort(key=lambda weights: version_of(weights, base_name))
    if not versions or versions[-1].lmbda is None:
        return versions[-1:]
    newest = {weights.lmbda: weights for weights in versions if weights.lmbda is not None}  # of each lambda
    return [newest[lmbda] for lmbda in sorted(newest)]


def _not_found(name: str) -> ModelNotFoundError:
    installed = ", ".join(weights.name for weights in available()) or "none"
    hint = f"; for a file or folder write {os.path.join('.', name)}" if name and Path(name).exists() else ""
    return ModelNotFoundError(f"no model {name!r}: the installed models are {installed}{hint}")


def bundled(weights: WeightsFile) -> bool:
    """Whether it lies in this package, and so is no stranger's."""
    return weights.path.parent == ASSETS


def released(name: str) -> bool:
    """Whether it is the name of a released model, with its version."""
    return (ASSETS / f"{name}{SUFFIX}").is_file()


def own_name(name: str, advice: str = "name yours mine-1, for example") -> str:
    """A name that a model of one's own may have. `advice` says how to give another. Raises UsageError."""
    if not MODEL_NAME.fullmatch(name):
        raise UsageError(f"a model's name is {MODEL_NAME_IN_WORDS}, not {name!r}: {advice}")
    if released(name):
        raise UsageError(f"{name} is a released model, which never changes: {advice}")
    return name


def default() -> WeightsFile | None:
    """The model that is used unless another is named; None where it isn't installed."""
    try:
        return find(DEFAULT_MODEL)
    except ModelNotFoundError:
        return None


def alias_of(weights: WeightsFile) -> str | None:
    """The name without a version, if it stands for this model alone."""
    base_name = _base_name(weights)
    return base_name if base_name and [model.path for model in find_all(base_name)] == [weights.path] else None


def family_of(weights: WeightsFile) -> str | None:
    """The name of the family that a model belongs to, with others."""
    base_name = _base_name(weights)
    models = find_all(base_name) if base_name else []
    return base_name if len(models) > 1 and weights.path in [model.path for model in models] else None


def _base_name(weights: WeightsFile) -> str | None:
    """A model's name without its version; None for a name that has none."""
    base_name = weights.name.rpartition("-")[0]
    return base_name if base_name and version_of(weights, base_name) else None


def version_of(weights: WeightsFile, base_name: str) -> int:
    """The version of a model called FAMILY-VERSION; 0 for other names."""
    version = weights.name.removeprefix(f"{base_name}-")
    return int(version) if version != weights.name and version.isdecimal() else 0


def find_hash(name: str, short_hash: bytes) -> WeightsFile:
    """The model that a .hpcm file names. Raises ModelNotFoundError, which names it and says where to put it."""
    likeliest_first = sorted(_everywhere(), key=lambda weights: weights.name != name)  # hashing takes time
    for weights in likeliest_first:
        if weights.hash == short_hash:
            return weights
    raise ModelNotFoundError(
        f"the file was made with model {name!r} of hash {short_hash.hex()}, which isn't installed: "
        f"it is in none of {', '.join(map(str, folders()))}; "
        f"put its weights file into {user_folder()} or name it with --model PATH"
    )
