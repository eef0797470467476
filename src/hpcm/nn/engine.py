"""The engine in torch: any model on any device, behind the boundary that codec/engine.py describes.

Shapes: outside numpy's arrays, channels last and without a batch; inside tensors [1, C, h, w], in channels-last memory,
so that neither way copies on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.ans import SymbolDecoder, SymbolEncoder, checksum
from ..core.coded import Decoded, Encoded, Latent
from ..model.order import pass_ends
from ..model.tables import Tables
from .drivers import Checking, Driver, Filling, Keeping, Observing, Pop, Recording, Replaying, StepSymbols
from .hpcm import HPCM, hyper_size, undisturbed

Size = tuple[int, int]  # rows and columns


class Observed(NamedTuple):
    """What was decoded of a latent, float32 [h, w, C]; symbols, means and scales in units of the quantisation step."""

    decoded: Latent
    symbols: Latent
    means: Latent
    scales: Latent


class TorchEngine:
    """Computes a model's transforms and codes its latents; see `codec.engine.Engine` for the methods.

    Args:
        model: in evaluation mode.
        check: is called before each network runs; what it raises ends the work.
    """

    def __init__(self, model: HPCM, tables: Tables, check: Callable[[], None] = lambda: None) -> None:
        self.model, self.tables, self.check = model, tables, check
        self.config = model.config

    def stoppable(self, check: Callable[[], None]) -> TorchEngine:
        return TorchEngine(self.model, self.tables, check)

    # ---- pictures and latents ---------------------------------------------------------------------------------------

    def analyse(self, pixels: NDArray[Any], peak: int, size: Size) -> Latent:
        self.check()
        with undisturbed(self.model.device):
            return array_of(self.model.analyse(picture_tensor(pixels, peak, size, self.model.device)))

    def synthesise(
        self, y_hat: Latent, bit_depth: int, grey: bool, crop: tuple[int, int, int, int]
    ) -> NDArray[np.uint8] | NDArray[np.uint16]:
        self.check()
        left, top, right, bottom = crop
        with undisturbed(self.model.device):
            x_hat = self.model.synthesise(self._tensor(y_hat))[0, :, top:bottom, left:right]
            values = whole_numbers(x_hat, bit_depth, grey).int().cpu().numpy()
        return values.astype(np.uint8) if bit_depth == 8 else values.astype(np.uint16)

    # ---- latents and bytes ------------------------------------------------------------------------------------------

    def encode(self, y: Latent, level: int, inside: Size | None = None, z: Latent | None = None) -> Encoded:
        symbols, y_hat = self.record(y, level, inside, z)
        encoder, total = SymbolEncoder(self.tables), 0
        ends, checksums = pass_ends(self.config), []
        for step, (values, scales) in enumerate(symbols, 1):
            encoder.push(values, self.tables.index(scales))
            total = checksum(values, total)
            if step in ends:
                checksums.append(total)
                if step != ends[-1]:
                    encoder.cut()
        return Encoded(encoder.finish(), checksums, y_hat)

    def decode(self, payload: bytes, steps: int, size: Size, level: int, inside: Size | None = None) -> Decoded:
        source = _Source(self.tables, payload, steps)
        y_hat = self.replay(source.pop, size, level, inside)
        return Decoded(y_hat, source.checksum, source.decoder.words_left)

    def decode_known(
        self, payload: bytes, steps: int, size: Size, level: int, inside: Size | None = None
    ) -> tuple[list[Latent], int]:
        source = _Source(self.tables, payload, steps)
        with undisturbed(self.model.device):
            places = self.model.places(size, inside)
            known_z = Keeping(Replaying(source.pop, places.hyper), places.hyper)
            known_y = Keeping(Replaying(source.pop, places.latent), places.latent)
            self._code(known_z, known_y, size, level, steps - 1)  # without the hyper latent's step
            known = [*known_z.latents.values(), *known_y.latents.values()]
            return list(map(array_of, known)), source.checksum

    def unknown(self, size: Size) -> list[Latent]:
        lattices = self.model.plan(size).sizes
        shapes = [(*hyper_size(size), self.config.N), *((*lattice, self.config.M) for lattice in lattices)]
        return [np.full(shape, np.nan, np.float32) for shape in shapes]

    def fill(self, known: Sequence[Latent], level: int) -> Latent:
        with undisturbed(self.model.device):
            z, *scales = map(self._tensor, known)
            size = (scales[-1].shape[2], scales[-1].shape[3])
            places = self.model.places(size)
            fill_z, fill_y = Filling({0: z}, places.hyper), Filling(dict(enumerate(scales)), places.latent)
            return array_of(self._code(fill_z, fill_y, size, level))

    # ---- latents and symbols ----------------------------------------------------------------------------------------

    def record(
        self, y: Latent, level: int, inside: Size | None = None, z: Latent | None = None
    ) -> tuple[list[StepSymbols], Latent]:
        """The symbols of a latent, in the order in which the decoder asks for them, and y_hat; as for `encode`."""
        self.check()
        with undisturbed(self.model.device):
            model, levels, latent = self.model, self._levels(level), self._tensor(y)
            hyper = model.hyper_analyse(latent) if z is None else self._tensor(z)
            size = (latent.shape[2], latent.shape[3])
            places, plan = model.places(size, inside), model.plan(size)
            record_z = Recording([model.gains_of("z", levels)[0] * hyper], places.hyper)
            record_y = Recording(plan.pyramid(model.gains_of("y", levels)[0] * latent), places.latent)
            y_hat = self._code(record_z, record_y, size, level)
            return record_z.symbols + record_y.symbols, array_of(y_hat)

    def replay(self, pop: Pop, size: Size, level: int, inside: Size | None = None) -> Latent:
        """y_hat from a source of symbols that is asked step by step; as for `decode`."""
        with undisturbed(self.model.device):
            places = self.model.places(size, inside)
            return array_of(self._code(Replaying(pop, places.hyper), Replaying(pop, places.latent), size, level))

    def observe(
        self, payload: bytes, steps: int, size: Size, level: int, inside: Size | None = None
    ) -> tuple[Observed, Observed, int]:
        """z and y with what they were decoded from, and the checksum of the symbols; as for `decode`."""
        source = _Source(self.tables, payload, steps)
        with undisturbed(self.model.device):
            places, inverse_z = self.model.places(size, inside), self.model.gains_of("z", self._levels(level))[1]
            see_z = Observing(Replaying(source.pop, places.hyper), places.hyper)
            see_y = Observing(Replaying(source.pop, places.latent), places.latent, self.model.plan(size))
            y_hat = self._code(see_z, see_y, size, level)
            symbols, means, _ = see_z.collected.values
            z_hat = (symbols + means) * inverse_z
            z = Observed(*map(array_of, (z_hat, *see_z.collected.values)))
            y = Observed(*map(array_of, (y_hat, *see_y.collected.values)))
        return z, y, source.checksum

    def _code(self, drive_z: Driver, drive_y: Driver, size: Size, level: int, steps: int | None = None) -> Tensor:
        drive_z, drive_y = Checking(drive_z, self.check), Checking(drive_y, self.check)
        return self.model.code(drive_z, drive_y, size, self._levels(level), steps)

    def _levels(self, level: int) -> Tensor:
        return torch.tensor([level], device=self.model.device)

    def _tensor(self, latent: Latent) -> Tensor:
        return tensor_of(latent, self.model.device)


class _Source:
    """The symbols of so many steps, from a payload; then zeros."""

    def __init__(self, tables: Tables, payload: bytes, steps: int) -> None:
        self.tables, self.steps = tables, steps
        self.decoder = SymbolDecoder(tables, payload)
        self.checksum = 0

    def pop(self, scales: NDArray[np.float32]) -> NDArray[np.int32]:
        if not self.steps:
            return np.zeros(len(scales), np.int32)
        self.steps -= 1
        values = self.decoder.pop(self.tables.index(scales))
        self.checksum = checksum(values, self.checksum)
        return values


def picture_tensor(pixels: NDArray[Any], peak: int, size: Size, device: torch.device) -> Tensor:
    """Pixels [h, w, 3 or 1] -> x [1, 3, H, W] in 0..1, repeating the last row and column up to `size`."""
    x = pixels.astype(np.float32, order="C")
    x /= peak
    beyond = ((0, size[0] - len(x)), (0, size[1] - x.shape[1]), (0, 0))
    return tensor_of(np.broadcast_to(np.pad(x, beyond, mode="edge"), (*size, 3)), device)


def whole_numbers(x_hat: Tensor, bit_depth: int, grey: bool) -> Tensor:
    """x_hat [3, h, w] in 0..1 as samples, [h, w, 3] or [h, w]. What isn't a number, as a forged file may give, is 0."""
    peak = 2**bit_depth - 1
    red, green, blue = x_hat
    colours = (red + green + blue) / 3 if grey else x_hat.permute(1, 2, 0)
    return (colours * peak).round().clamp(0, peak).nan_to_num(0)


def tensor_of(latent: NDArray[np.float32], device: torch.device) -> Tensor:
    """[h, w, C] -> [1, C, h, w]: the same numbers in channels-last memory. On the CPU it may share the memory."""
    tensor = torch.from_numpy(np.require(latent, np.float32, ["C", "W"])).permute(2, 0, 1)[None]
    return tensor.contiguous(memory_format=torch.channels_last).to(device)


def array_of(tensor: Tensor) -> NDArray[np.float32]:
    """[1, C, h, w] -> [h, w, C]."""
    return tensor[0].permute(1, 2, 0).contiguous().cpu().numpy()
