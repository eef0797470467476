"""The engine in C: exact models without attention, on the CPU. See `codec.engine.Engine` for the methods."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from ctypes import byref, c_int32, c_void_p, create_string_buffer, string_at
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..defaults import MAX_THREADS
from ..errors import WeightsError
from ..model import order
from ..model.config import LATENT_STRIDE, LATENTS_PER_Z, Config
from ..model.tables import Tables
from ..util.hardware import cores
from . import library as c
from .coded import Decoded, Encoded, Latent

Size = tuple[int, int]  # rows and columns
STEM_NUMBERS = {"conv4": 0, "conv2": 1, "unshuffle8": 2}  # hpcm_stem
COARSENING = (4, 2, 1)  # of y on scales 1, 2, 3


class CoreEngine:
    """Computes a model's transforms and codes its latents."""

    at_once = 1  # its own threads share one tile

    def __init__(
        self,
        config: Config,
        parameters: Mapping[str, np.ndarray],
        tables: Tables,
        threads: int | None = None,
        what: str = "the model",
        kernels: str | None = None,
    ) -> None:
        """`parameters` as a weights file stores them; `what` it is, for messages.

        `kernels` is one of the names that the library's `hpcm_kernels` gives. By default the environment's HPCM_KERNELS
        chooses, or the best ones are taken.

        Raises WeightsError where parameters don't fit the configuration or break a bound, UsageError where the library
        can't be used, or kernels that aren't there or compute wrongly on this machine.
        """
        self.config = config
        self._check: Callable[[], None] | None = None
        self._model = _Model(config, parameters, tables, threads or min(cores(), MAX_THREADS), what, kernels)

    @property
    def kernels(self) -> str:
        """The name of the set of kernels that the model uses: a file of core/kernels."""
        return str(c.library().hpcm_model_kernels(self._model.handle).decode())

    def stoppable(self, check: Callable[[], None]) -> CoreEngine:
        engine = copy(self)  # of the same model
        engine._check = check
        return engine

    def analyse(self, pixels: NDArray[Any], peak: int, size: Size) -> Latent:
        pixels = _rows_of(pixels)
        rows, columns, channels = pixels.shape
        h, w = size[0] // LATENT_STRIDE, size[1] // LATENT_STRIDE
        y = np.empty((h, w, self.config.M), np.float32)
        data = c.Pixels(c.pointer(pixels), pixels.strides[0], pixels.itemsize, rows, columns, channels, peak)
        self._call("hpcm_analyse", byref(data), h, w, c.pointer(y))
        return y

    def synthesise(
        self, y_hat: Latent, bit_depth: int, grey: bool, crop: tuple[int, int, int, int]
    ) -> NDArray[np.uint8] | NDArray[np.uint16]:
        y_hat = _latent(y_hat, self.config.M)
        h, w, _ = y_hat.shape
        left, top, right, bottom = crop
        channels = 1 if grey else 3
        dtype = np.uint8 if bit_depth == 8 else np.uint16
        pixels = np.empty((bottom - top, right - left, channels), dtype)
        box = (c_int32 * 4)(*crop)
        self._call("hpcm_synthesise", c.pointer(y_hat), h, w, box, pixels.itemsize, channels, c.pointer(pixels))
        return pixels[..., 0] if grey else pixels

    def encode(self, y: Latent, level: int, inside: Size | None = None, z: Latent | None = None) -> Encoded:
        y = _latent(y, self.config.M)
        h, w, _ = y.shape
        z = None if z is None else _latent(z, self.config.N, (h // LATENTS_PER_Z, w // LATENTS_PER_Z))
        y_hat, payload = np.empty_like(y), c.Payload()
        self._call(
            "hpcm_encode",
            c.pointer(y),
            None if z is None else c.pointer(z),
            *(h, w, level, *(inside or (h, w))),
            c.pointer(y_hat),
            byref(payload),
        )
        data = string_at(payload.bytes, sum(payload.sizes))
        c.library().hpcm_payload_free(byref(payload))
        parts = [data[begin:end] for begin, end in pairwise(accumulate(payload.sizes, initial=0))]
        return Encoded(parts, list(payload.checksums), y_hat)

    def decode(self, payload: bytes, steps: int, size: Size, level: int, inside: Size | None = None) -> Decoded:
        y_hat, decoded = np.empty((*size, self.config.M), np.float32), c.Decoded()
        coding = (bytes(payload), len(payload), steps, *size, level, *(inside or size))
        self._call("hpcm_decode", *coding, c.pointer(y_hat), byref(decoded))
        return Decoded(y_hat, decoded.checksum, decoded.words_left)

    def decode_known(
        self, payload: bytes, steps: int, size: Size, level: int, inside: Size | None = None
    ) -> tuple[list[Latent], int]:
        z, *scales = self.unknown(size)
        begun = {step.scale for step in order.steps_of(self.config)[: steps - 1]}
        pointers = (c_void_p * 3)(*map(c.pointer, scales))
        coding, decoded = (bytes(payload), len(payload), steps, *size, level, *(inside or size)), c.Decoded()
        self._call("hpcm_decode_known", *coding, c.pointer(z), pointers, byref(decoded))
        return [z, *(y for scale, y in enumerate(scales) if scale in begun)], decoded.checksum

    def unknown(self, size: Size) -> list[Latent]:
        return [np.full(shape, np.nan, np.float32) for shape in self._known_shapes(size)]

    def _known_shapes(self, size: Size) -> list[tuple[int, int, int]]:
        """Of z and of y on the lattices of all scales."""
        h, w = size
        coarsening = COARSENING if self.config.hierarchy else (1, 1, 1)
        lattices = [(h // times, w // times, self.config.M) for times in coarsening]
        return [(h // LATENTS_PER_Z, w // LATENTS_PER_Z, self.config.N), *lattices]

    def fill(self, known: Sequence[Latent], level: int) -> Latent:
        h, w, _ = known[-1].shape
        shapes = self._known_shapes((h, w))
        z, *scales = (_latent(each, shape[2], shape[:2]) for each, shape in zip(known, shapes, strict=True))
        y_hat = np.empty((h, w, self.config.M), np.float32)
        self._call("hpcm_fill", c.pointer(z), (c_void_p * 3)(*map(c.pointer, scales)), h, w, level, c.pointer(y_hat))
        return y_hat

    def _call(self, name: str, *arguments: Any) -> None:
        c.call_checked(name, (self._model.handle, *arguments), self._check)


class _Model:
    """A model in the library's memory, freed with this object."""

    def __init__(
        self,
        config: Config,
        parameters: Mapping[str, np.ndarray],
        tables: Tables,
        threads: int,
        what: str,
        kernels: str | None,
    ) -> None:
        arrays = {name: np.require(value, requirements=["C", "ALIGNED"]) for name, value in parameters.items()}
        arrays |= {f"tables.{key}": getattr(tables, key) for key in ("scales", "radius", "frequencies")}
        described = (c.Array * len(arrays))(*(_described(name, array) for name, array in arrays.items()))
        message, self.handle = create_string_buffer(c.MESSAGE_BYTES), c_void_p()
        name = kernels and kernels.encode()
        status = c.library().hpcm_model_create(
            byref(_config_of(config)), described, len(arrays), threads, name, byref(self.handle), message
        )
        reason = message.value.decode()
        if status == c.BAD_MODEL:
            raise WeightsError(f"{what}: the weights don't fit their configuration: {reason}")
        c.check_status(status, reason)
        # Not when the process ends: a thread may still be computing.
        weakref.finalize(self, c.library().hpcm_model_free, self.handle).atexit = False


def _described(name: str, array: np.ndarray) -> c.Array:
    if "\0" in name:
        raise WeightsError(f"a tensor is called {name!r}, which no weights file holds")
    if array.dtype.name not in c.TYPES or array.ndim > 4:
        raise WeightsError(f"{name} is {array.dtype} with {array.ndim} dimensions, which no weights file holds")
    return c.Array(name.encode(), c.pointer(array), tuple(array.shape), array.ndim, c.TYPES.index(array.dtype.name))


def _config_of(config: Config) -> c.Config:
    """The library's form of a configuration."""
    made = c.Config(
        M=config.M,
        N=config.N,
        stem=STEM_NUMBERS[config.stem],
        partial=config.partial,
        ratio=config.ratio,
        prior_width=config.prior_width,
        prior_coarse=_blocks(config.prior_coarse),
        prior_fine=_blocks(config.prior_fine),
        has_prior_fine=config.prior_fine is not None,
        adaptor_blocks=config.adaptor_blocks,
        steps=config.steps,
        hierarchy=config.hierarchy,
        psi_is_context=config.fusion == "psi",
        context_net=config.context_net,
        refine=config.refine,
        released_placement=config.hyper_placement == "released",
        paired_gains=config.interpolation == "paired",
        levels=config.levels,
    )
    transforms = (config.analysis, config.synthesis, config.hyper_analysis, config.hyper_synthesis)
    for transform, stages in enumerate(transforms):
        made.stages[transform] = len(stages)
        for stage, (blocks, width) in enumerate(stages):
            made.blocks[transform][stage], made.widths[transform][stage] = blocks, width
    return made


def _blocks(prior: Any) -> tuple[int, int, int]:
    return (0, 0, 0) if prior is None else (prior.before, prior.after, prior.tail)


def _rows_of(pixels: NDArray[Any]) -> NDArray[Any]:
    """Pixels [h, w, c] whose rows have no gaps inside; copied only if they have."""
    packed = pixels.strides[1:] == (pixels.shape[2] * pixels.itemsize, pixels.itemsize) and pixels.strides[0] > 0
    return pixels if packed else np.ascontiguousarray(pixels)


def _latent(latent: Latent, channels: int, size: Size | None = None) -> Latent:
    """A latent [h, w, channels] as the library reads it. Raises ValueError for another shape."""
    if latent.ndim != 3 or latent.shape[2] != channels or (size and latent.shape[:2] != size):
        rows, columns = size or ("h", "w")
        raise ValueError(f"a latent has the shape {latent.shape} instead of ({rows}, {columns}, {channels})")
    return np.require(latent, np.float32, ["C", "ALIGNED"])
