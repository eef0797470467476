"""The models of a server: which compress, which decode, which the page can use; codecs that are loaded once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..codec import Codec
from ..coding.config import Config
from ..engine.choice import load
from ..engine.onnx import bundled_graphs, unsuited
from ..errors import ModelNotFoundError, UsageError
from ..fields import Container
from ..storage import GRAPH, unpack_graphs
from ..weights import DEFAULT_MODEL, GRAPHS, WeightsFile, alias_of, available, find

PAGE_MODEL = "nano"  # the page's default: a browser downloads and runs it quickly
IN_THE_FILE = ""  # where a weights file has its own graphs


class Offer:
    """All models at hand decode; those that are named compress, the first of them by default.

    Args:
        named: names or paths; by default every model that isn't retired.
        threads: of each codec.

    Raises ModelNotFoundError, WeightsError, and UsageError for a retired model.
    """

    def __init__(self, named: Sequence[str | Path] = (), threads: int = 1) -> None:
        self.threads = threads
        self.default = find(named[0] if named else DEFAULT_MODEL)
        encoders = [find(name) for name in named] or [self.default, *available()]
        for weights in encoders:
            weights.check_encodes()
        self.encoders = _first_of_each_name(encoders)
        self.decoders = {weights.hash: weights for weights in (*available(retired=True), *encoders)}
        self.aliases = {name: alias for name, weights in self.encoders.items() if (alias := alias_of(weights))}
        self._page_default = self.default.name if named else PAGE_MODEL
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
        if found := self.decoders.get(container.model_hash):
            return found
        made_with = f"{container.model!r} of hash {container.model_hash.hex()}"
        raise ModelNotFoundError(f"the file was made with model {made_with}, which this server doesn't have")

    def codec(self, weights: WeightsFile) -> Codec:
        """Loaded when it is first asked for, and kept."""
        if found := self._codecs.get(weights.hash):
            return found
        with self._loading:
            if weights.hash not in self._codecs:
                self._codecs[weights.hash] = Codec(load(weights, threads=self.threads))
            return self._codecs[weights.hash]

    def listed(self) -> list[dict[str, Any]]:
        """What `GET /models` tells."""
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

    def in_browsers(self) -> Iterator[tuple[WeightsFile, str]]:
        """The models that the page can run, the newest first, and where each one's graphs are: see `graphs_of`."""
        every = _first_of_each_name([*self.encoders.values(), *self.decoders.values()])
        for weights in every.values():
            where = graphs_of(weights)
            if where is not None:
                yield weights, where

    def page_default(self) -> str | None:
        """The name of the model that the page takes unless another is chosen."""
        able = [weights for weights, _ in self.in_browsers() if not weights.decodes_only]
        wanted = [weights for weights in able if self._page_default in (weights.name, alias_of(weights))]
        return next((weights.name for weights in (*wanted, *able)), None)


def graphs_of(weights: WeightsFile) -> str | None:
    """The name of the bundled file that has a model's graphs, IN_THE_FILE, or None where a browser can't run it."""
    try:
        config = Config.from_dict(weights.config)
        if unsuited(config):
            return None
        with safe_open(weights.path, "np") as file:
            if any(name.startswith(GRAPH) for name in file.keys()):  # noqa: SIM118 (it is no mapping)
                return IN_THE_FILE
    except (TypeError, ValueError, OSError, SafetensorError):
        return None
    graphs = bundled_graphs(config, GRAPHS)
    for path in sorted(GRAPHS.glob("*.safetensors")) if graphs else ():
        if unpack_graphs(path.read_bytes(), str(path)) == graphs:
            return path.name
    return None


def _first_of_each_name(models: Sequence[WeightsFile]) -> dict[str, WeightsFile]:
    found: dict[str, WeightsFile] = {}
    for weights in models:
        found.setdefault(weights.name, weights)
    return found
