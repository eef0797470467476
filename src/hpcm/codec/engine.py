"""Engines: what computes a model's networks and codes its latents, behind one boundary.

    "core"     the native library, on the CPU: exact models, but for those that `unsuited` names        core/engine.py
    "torch"    any model on any device                                                                  nn/engine.py
    "auto"     the first where it can, else the second

Files are the same: either opens the other's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from ..core.coded import Decoded, Encoded, Latent
from ..core.engine import CoreEngine
from ..defaults import ENGINES, GPU_AT_ONCE
from ..errors import UsageError, WeightsError
from ..image.planes import Samples
from ..model import layers, storage, structure
from ..model.config import Config
from ..model.file import WeightsFile, read
from ..util.hardware import cores
from ..util.parallel import Check

LOG = logging.getLogger(__name__)

Size = tuple[int, int]  # rows and columns


class Engine(Protocol):
    """Transforms pictures and codes latents, of one tile at a time. Several threads may use one at once.

    Shapes: pictures [h, w, 3 or 1]; y, y_hat [h, w, M], of which one stands for 16 x 16 pixels; z [h/4, w/4, N]. All
    are numpy's, latents float32; h and w of y are multiples of `config.multiple` / 16.
    """

    @property
    def config(self) -> Config: ...

    @property
    def at_once(self) -> int:
        """How many tiles it likes to be given at once, from as many threads; 1 where that brings nothing."""
        ...

    def analyse(self, pixels: NDArray[Any], peak: int, size: Size) -> Latent:
        """y of a picture.

        Args:
            pixels: [H0, W0, 3 or 1], uint8, uint16 or float32; one channel stands for three that are alike.
            peak: the value of white; networks see float32(pixel) / float32(peak).
            size: (H, W), at least (H0, W0), to which the last row and column are repeated; multiples of
                `config.multiple`.
        """
        ...

    def encode(self, y: Latent, level: int, inside: Size | None = None, z: Latent | None = None) -> Encoded:
        """A latent as bytes.

        Args:
            level: the quality level.
            inside: rows and columns of y that touch the picture. What lies outside is padding: it costs nothing and
                takes its mean on both sides. By default all of y.
            z: by default what h_a makes of y.
        """
        ...

    def decode(self, payload: bytes, steps: int, size: Size, level: int, inside: Size | None = None) -> Decoded:
        """y_hat from all or the first of the parts that `encode` gave, joined.

        Args:
            steps: how many are read from the payload, the hyper latent's among them; in the others every symbol is 0.
            size: (h, w) of y; `level` and `inside` as for `encode`.

        Raises CorruptError where the payload can't be decoded.
        """
        ...

    def decode_known(
        self, payload: bytes, steps: int, size: Size, level: int, inside: Size | None = None
    ) -> tuple[list[Latent], int]:
        """What the first steps decode to, for `fill`, and the checksum of their symbols; as for `decode`.

        The first are z [h/4, w/4, N] and y on the lattice of each scale that was begun, coarse to fine, in units of the
        quantisation step; what isn't known is not a number.
        """
        ...

    def unknown(self, size: Size) -> list[Latent]:
        """What `decode_known` gives for y of (h, w) where nothing is known: z and all three scales."""
        ...

    def fill(self, known: Sequence[Latent], level: int) -> Latent:
        """y_hat from z and all three scales of y: what isn't known takes its mean, given all that is."""
        ...

    def synthesise(self, y_hat: Latent, bit_depth: int, grey: bool, crop: tuple[int, int, int, int]) -> Samples:
        """The samples of a latent, [h, w, 3] or, for grey, [h, w].

        Args:
            bit_depth: 8 or 16, of which uint8 or uint16 come.
            crop: (left, top, right, bottom) in pixels of what is synthesised.
        """
        ...

    def stoppable(self, check: Check) -> Engine:
        """The same engine; its work ends when `check`, which is called several times a tile, raises."""
        ...


def stoppable(engine: Engine, check: Check | None) -> Engine:
    """The engine, whose work ends when `check` raises."""
    return engine if check is None else engine.stoppable(check)


def workers_for(at_once: int) -> int:
    """Threads for many pictures: one for each core, and at least two for each tile that an engine takes at once.

    So the next pictures are read while some are computed.
    """
    return max(cores(), 2 * at_once)


def files_at_once(device: str, effort: int = 0) -> int:
    """How many files a process converts at once by default, on as many threads, where its codec is on a device.

    One on the CPU, whose cores are shared out among processes, and one with an effort, whose search needs much of a
    GPU's memory.
    """
    return 1 if device == "cpu" or effort else workers_for(GPU_AT_ONCE)


class LoadedEngine(NamedTuple):
    """A model that is ready to use; `weights` describes the very bytes that it was made of."""

    engine: Engine
    weights: WeightsFile


def load_engine(
    weights: WeightsFile,
    engine: str = "auto",
    device: str = "cpu",
    threads: int | None = None,
    wrap: Callable[[Engine], Engine] | None = None,
    kernels: str | None = None,
) -> LoadedEngine:
    """A model, ready to use.

    Args:
        engine: "core", "torch", or "auto": the native library where it can, else torch.
        device: "cpu", or one of torch's.
        threads: of the CPU; by default one for each core. Torch's are the whole process's.
        wrap: gives what is used in place of the engine, such as one that is timed.
        kernels: of the native library, as for CoreEngine.

    The file is read once: what is hashed is what is loaded, also while a training run writes it anew. Raises
    UsageError where the engine or device can't be used, WeightsError where the file doesn't hold what its configuration
    asks for or an exact model's bounds don't hold, and MismatchError where this machine's arithmetic isn't exact.
    """
    if engine not in ENGINES:
        raise UsageError(f"engine is {engine!r}: it must be one of {', '.join(ENGINES)}")
    weights, data = read(weights)
    stored, config = storage.unpack(data, str(weights.path)), _config(weights)
    against_core = _not_here(device) or unsuited(config)
    if engine == "core" and against_core:
        raise UsageError(f"the native library can't run {weights.name}: {against_core}")
    made: Engine
    if engine == "torch" or against_core:
        made = _torch_engine(weights, stored, device, threads, against_core)
    else:
        made = _core_engine(weights, stored, config, threads, kernels)
    LOG.debug("%s from %s, computed by %s on %s", weights.name, weights.path, type(made).__name__, device)
    return LoadedEngine(wrap(made) if wrap else made, weights)


def _config(weights: WeightsFile) -> Config:
    """Raises WeightsError."""
    try:
        return Config.from_dict(weights.config)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{weights.path}: the weights don't fit their configuration: {error}") from error


def _torch_engine(
    weights: WeightsFile, stored: storage.Stored, device: str, threads: int | None, against_core: str | None
) -> Engine:
    """Raises UsageError without torch; as `load_engine`."""
    if not find_spec("torch"):
        why = f" ({against_core})" if against_core else ""
        raise UsageError(f"{weights.name} needs PyTorch here{why}: pip install 'hpcm-codec[torch]'")
    from ..nn.engine import TorchEngine
    from ..nn.weights import build

    return TorchEngine(build(weights, stored.parameters, device, threads), stored.tables)


def _core_engine(
    weights: WeightsFile, stored: storage.Stored, config: Config, threads: int | None, kernels: str | None
) -> Engine:
    """Raises as `load_engine`."""
    layers.check_description(weights.layers, structure.geometries(config))
    return CoreEngine(config, stored.parameters, stored.tables, threads, str(weights.path), kernels)


def unsuited(config: Config) -> str | None:
    """Why the native library can't run a model, wherever it is; None if it can."""
    if not config.carrier:
        return "it isn't exact (`hpcm exact` makes it so)"
    if config.fusion == "attention":
        return "it has attention"
    if config.carrier != "float32":
        return f"its sums are of the kind {config.carrier}, which only torch computes"
    if config.transforms != "int32":
        return "its transforms are in floating point (`hpcm exact` makes them integers)"
    return None


def _not_here(device: str) -> str | None:
    """What speaks against the native library on this machine and device, if anything does."""
    return None if device == "cpu" else f"it computes on the CPU, not on {device}"
