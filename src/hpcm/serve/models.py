"""The models of a server: which compress, which decode, which the page can use; codecs that are loaded once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..codec.codec import Codec
from ..codec.engine import unsuited
from ..defaults import DEFAULT_MODEL
from ..errors import ModelNotFoundError, UsageError
from ..format.fields import Container
from ..model.config import Config
from ..model.file import WeightsFile
from ..model.find import alias_of, available, find


class Models:
    """All installed models decode; those that are named compress, the first of them by default.

    Args:
        named: names or paths; by default every installed model.
        threads: of each codec.

    Raises ModelNotFoundError, WeightsError.
    """

    def __init__(self, named: Sequence[str | Path] = (), threads: int = 1) -> None:
        self.threads = threads
        self.default = find(named[0] if named else DEFAULT_MODEL)
        encoders = [find(name) for name in named] or [self.default, *available()]
        self.encoders = _first_of_each_name(encoders)
        self.decoders = {weights.hash: weights for weights in (*available(), *encoders)}
        self.aliases = {name: alias for name, weights in self.encoders.items() if (alias := alias_of(weights))}
        self._codecs: dict[bytes, Codec] = {}
        self._loading = threading.Lock()

    def encoder(self, name: str | None) -> WeightsFile:
        """A model that compresses, by its name or alias, never by a path. Raises UsageError."""
        if name is None:
            return self.default
        for weights in self.encoders.values():
            if name in (weights.name, self.aliases.get(weights.name)):
                return weights
        raise UsageError(f"model: there is no {name!r} here; there are {', '.join(self.encoders)}")

    def decoder(self, container: Container) -> WeightsFile:
        """The model that a file names. Raises ModelNotFoundError."""
        if weights := self.decoders.get(container.model_hash):
            return weights
        made_with = f"{container.model!r} of hash {container.model_hash.hex()}"
        raise ModelNotFoundError(f"the file was made with model {made_with}, which this server doesn't have")

    def codec(self, weights: WeightsFile) -> Codec:
        """Loaded when it is first asked for, and kept."""
        if codec := self._codecs.get(weights.hash):
            return codec
        with self._loading:
            if weights.hash not in self._codecs:
                self._codecs[weights.hash] = Codec([weights], threads=self.threads)
            return self._codecs[weights.hash]

    def listed(self) -> list[dict[str, Any]]:
        """The answer to `GET /models`."""
        every = {**self.decoders, **{weights.hash: weights for weights in self.encoders.values()}}
        return [
            {
                "name": weights.name,
                "alias": self.aliases.get(weights.name),
                "hash": weights.hash.hex(),
                "levels": weights.config.get("levels"),
                "compresses": weights in self.encoders.values(),
                "default": weights.hash == self.default.hash,
            }
            for weights in every.values()
        ]

    def in_browsers(self) -> list[WeightsFile]:
        """The models that the page can run. Those that compress come first, and the first is the page's default."""
        every = _first_of_each_name([*self.encoders.values(), *self.decoders.values()])
        return [weights for weights in every.values() if _runs_in_browsers(weights)]


def _runs_in_browsers(weights: WeightsFile) -> bool:
    try:
        return unsuited(Config.from_dict(weights.config)) is None
    except (TypeError, ValueError):
        return False


def _first_of_each_name(models: Sequence[WeightsFile]) -> dict[str, WeightsFile]:
    result: dict[str, WeightsFile] = {}
    for weights in models:
        result.setdefault(weights.name, weights)
    return result
