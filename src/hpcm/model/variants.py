"""Configurations beside the named ones: named models with some fields changed, and those of JSON files.

    base and ["steps=2,3,12", "fusion=none"]                         --changed-->  base-steps-2.3.12-fusion-none
    {"base": "nano", "hierarchy": false, "prior_coarse.before": 2}   --read---->   nano-hierarchy-false-prior_...

A setting is FIELD=VALUE. FIELD is one of `Config`, or one of a `Prior` in it (`prior_coarse.before`); VALUE is JSON,
a list without its brackets (2,3,12), or a word.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .config import MODELS, NANO, Config, Prior

BASE = "base"  # in a JSON file: the named model that the other fields are changes of
LONGEST_NAME = 32  # of a model: format.fields.MODEL_NAME
LAMBDAS = ("lambda_min", "lambda_max")


def configuration(name_or_path: str) -> Config:
    """A named configuration, or that of a JSON file. Raises UsageError."""
    if name_or_path in MODELS:
        return MODELS[name_or_path]
    if name_or_path.endswith(".json") or os.sep in name_or_path:
        return read(Path(name_or_path))
    guess = _suggestion(name_or_path, MODELS)
    raise UsageError(f"there is no configuration {name_or_path!r}{guess}; there are {', '.join(MODELS)}, or FILE.json")


def read(path: Path) -> Config:
    """The configuration of a JSON file: all fields of `Config`, or some and the `base` of the others.

    Raises UsageError.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} can't be read as a configuration: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f'{path} is no configuration, which is an object of fields, such as {{"base": "nano"}}')
    if BASE in values:
        base = values.pop(BASE)
        if base not in list(MODELS):
            raise UsageError(f"{path}: base is {base!r}; it must be one of {', '.join(MODELS)}")
        return _with(MODELS[base], values, f"{path}: ")
    missing = [name for name in _names(Config) if name not in values]
    if missing:
        raise UsageError(f'{path} lacks {", ".join(missing)}: give all fields, or "base" for the others')
    return _with(NANO, values, f"{path}: ")


def changed(base: Config, settings: Iterable[str]) -> Config:
    """A configuration with some fields changed by settings FIELD=VALUE. Raises UsageError."""
    values: dict[str, Any] = {}
    for setting in settings:
        field, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting}: write FIELD=VALUE, such as steps=2,3,12")
        if field in values:
            raise UsageError(f"--set gives {field} twice")
        values[field] = _value(text)
    return _with(base, values, "--set: ")


def _value(text: str) -> Any:
    """JSON, a list without its brackets, or a word."""
    for candidate in (text, f"[{text}]" if "," in text else text):
        try:
            return json.loads(candidate)
        except ValueError:
            continue
    return text


def _with(base: Config, values: dict[str, Any], place: str) -> Config:
    """`base` with other values of some fields, and a name of its own if it differs. Raises UsageError.

    Args:
        place: where the values come from, for the message.
    """
    result = base.to_dict()
    # Whole fields come before parts of them, whatever the order in which they are given.
    for field, value in sorted(values.items(), key=lambda pair: "." in pair[0]):
        _put(result, field, value, base, place)
    try:
        config = Config.from_dict(result)
    except ValueError as error:
        raise UsageError(f"{place}{error}") from error
    return config if "name" in values else replace(config, name=_name(base, config))


def _put(result: dict[str, Any], field: str, value: Any, base: Config, place: str) -> None:
    """Sets a field, or a part of one, in a configuration as `to_dict` gives it. Raises UsageError."""
    name, dot, part = field.partition(".")
    known = _names(Config)
    if name not in known:
        raise UsageError(f"{place}there is no field {name}{_suggestion(name, known)}; there are {', '.join(known)}")
    parts = _names(Prior)
    if name in ("prior_coarse", "prior_fine") and isinstance(value, dict):
        unknown = [key for key in value if key not in parts]
        if unknown or not {"before", "after"} <= value.keys():
            raise UsageError(f"{place}{name} has {', '.join(value) or 'nothing'}; it must have {', '.join(parts)}")
    if not dot:
        result[name] = value
        return
    if not isinstance(result[name], dict):
        hint = f'; set it whole, {name}={{"before": 1, "after": 1}}' if name == "prior_fine" else ""
        raise UsageError(f"{place}{name} of {base.name} has no parts{hint}")
    if part not in parts:
        raise UsageError(f"{place}{name} has no {part}{_suggestion(part, parts)}; it has {', '.join(parts)}")
    result[name][part] = value


def _names(kind: type) -> list[str]:
    return [field.name for field in fields(kind)]


def _suggestion(word: str, known: Iterable[str]) -> str:
    alike = get_close_matches(word, list(known), n=1)
    return f": did you mean {alike[0]}?" if alike else ""


# ---- what differs ----------------------------------------------------------------------------------------------------


def trainable(config: Config) -> Config:
    """A model as it is trained: in plain floating point. `hpcm exact` comes after training."""
    return replace(config, carrier="", transforms="float")


def same_network(one: Config, other: Config) -> bool:
    """Whether weights of one are weights of the other: names, lambdas and exact arithmetic may differ."""
    return not changes(one, other)


def changes(base: Config, config: Config) -> list[str]:
    """The settings that make `config` of `base`: ["steps=2,3,12", "prior_coarse.before=2"].

    Names, what makes a model exact, and the lambda of a model of one quality level are no changes.
    """
    base, config = trainable(base), trainable(config)
    free = {"name", *(LAMBDAS if base.levels == config.levels == 1 else ())}
    settings = []
    for name in _names(Config):
        before, after = getattr(base, name), getattr(config, name)
        if name in free or before == after:
            continue
        if isinstance(before, Prior) and isinstance(after, Prior):
            parts = ((f"{name}.{part}", getattr(before, part), getattr(after, part)) for part in _names(Prior))
            settings += [f"{part}={_text(new)}" for part, old, new in parts if old != new]
        else:
            settings.append(f"{name}={_text(after)}")
    return settings


def _text(value: Any) -> str:
    """A value as it stands in a setting."""
    if isinstance(value, str):
        return value
    if isinstance(value, Prior):
        value = asdict(value)
    text = json.dumps(value, separators=(",", ":"))
    flat = isinstance(value, tuple) and not any(isinstance(item, tuple) for item in value)
    return text[1:-1] if flat else text


def nearest(config: Config) -> tuple[str, list[str]]:
    """The named model that a configuration has the fewest changes of, and these."""
    found = [(name, changes(model, config)) for name, model in MODELS.items()]
    return min(found, key=lambda pair: len(pair[1]))


def described(config: Config) -> str:
    """A configuration in words: `nano`, or `nano with steps=2,3,12 fusion=none`."""
    name, settings = nearest(config)
    return f"{name} with {' '.join(settings)}" if settings else name


def _name(base: Config, config: Config) -> str:
    """The name of a changed configuration: its base and its changes, or a hash of them where that gets too long."""
    settings = changes(base, config)
    if not settings:
        return base.name
    name = "-".join([base.name, *map(_word, settings)])
    if len(name) <= LONGEST_NAME:
        return name
    # The x keeps it from looking like a version of the base: nano-12345678.
    digest = "x" + hashlib.sha256("\n".join(settings).encode()).hexdigest()[:8]
    return f"{base.name[: LONGEST_NAME - len(digest) - 1]}-{digest}"


def _word(setting: str) -> str:
    """A setting in the letters that names have: steps=2,3,12 -> steps-2.3.12."""
    return re.sub(r"[^a-z0-9._-]", "", setting.lower().replace("=", "-").replace(",", "."))
