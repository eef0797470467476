"""Effort: one picture's latents refined before they are coded. Decoders stay as they are, files get smaller.

g_a and h_a are trained for all pictures at once and miss what is best for the one at hand. Here y and z themselves
descend the gradient of the loss, lambda * distortion + bits, through the whole coding loop and g_s. Rounding has no
gradient, so that it is replaced by stochastic Gumbel annealing: each latent is a random mixture of the two whole
numbers around it, at first of any, then more and more surely of the nearer one (Yang, Bamler and Mandt, "Improving
inference for neural image compression", NeurIPS 2020). Other than in the paper only the choice gets colder, not the
mixture.

The gradient is that of the model in floating point. The symbols, and the decision whether a tile has gained anything,
are the model's own, so that no file has a larger loss than without effort.

Large pictures are refined tile by tile. What a tile's latents change are the pixels of the tile and of a halo around
it; for these g_s also sees the neighbours' latents: those above and on the left are refined already, the others aren't.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from ..engine.torch import load_model
from ..errors import WeightsError
from ..format.fields import Box
from ..model.config import LATENT_STRIDE
from ..model.find import find
from ..nn.arrays import Array
from ..nn.distortion import distortion
from ..nn.drivers import Places, latent_places
from ..nn.exact.make_exact import make_floating
from ..nn.hpcm import HPCM
from ..nn.rate import bits, likelihood
from ..nn.schedule import Step
from ..nn.stoppable import unwrapped
from ..util.metrics import SMALLEST
from .encoder import Encoding, Latents
from .tiles import cropped, latents_inside

EDGE = 1e-5  # a latent is at least so far from a whole number, where atanh ends
Told = Callable[[float], None]  # is told which share of the work is done, 0 to 1


@dataclass(frozen=True)
class Search:
    """How one tile is searched. Learning rate and temperature fall exponentially."""

    iterations: int
    fast: float = 0.03  # Adam's learning rate at the beginning, in quantisation steps
    slow: float = 0.006  # and at the end
    hot: float = 0.6  # temperature of the choice between two numbers at the beginning
    cold: float = 0.1  # and at the end

    def at(self, iteration: int) -> tuple[float, float]:
        """Learning rate and temperature of an iteration."""
        share = iteration / max(self.iterations - 1, 1)
        return self.fast * (self.slow / self.fast) ** share, self.hot * (self.cold / self.hot) ** share


EFFORTS = (
    Search(0),
    *(Search(iterations, 0.02, 0.01) for iterations in (8, 10, 13, 17, 22, 29)),
    *(Search(iterations) for iterations in (38, 49, 64)),
)


class Annealing:
    """The driver that searches: rounds at random, the more surely the colder it is, and adds up bits."""

    def __init__(
        self, pyramid: Sequence[Tensor], places: Sequence[Places], temperature: float, random: torch.Generator
    ) -> None:
        self.pyramid, self.places, self.temperature, self.random = pyramid, places, temperature, random
        self.bits = pyramid[0].new_zeros(())

    def __call__(self, step: Step, means: Tensor, scales: Tensor) -> Tensor:
        places = self.places[step.index]
        values = self.mixed(places.pick(self.pyramid[step.scale]) - places.pick(means))
        self.bits = self.bits + bits(likelihood(values, places.pick(scales)))
        return cast(Tensor, places.decoded(values, means))

    def mixed(self, x: Tensor) -> Tensor:
        """x [n] -> between floor(x) and floor(x) + 1, by the difference of two Gumbel variables (a logistic one)."""
        low = x.detach().floor()
        share = (x - low).clamp(EDGE, 1 - EDGE)
        chance = torch.rand(share.shape, generator=self.random, dtype=x.dtype, device=x.device).clamp_(1e-6, 1 - 1e-6)
        odds = (torch.atanh(share) - torch.atanh(1 - share)) / self.temperature  # of the upper number
        return low + torch.sigmoid(odds + torch.logit(chance))


def refined(job: Encoding, level: int, *, effort: int, told: Told | None = None) -> dict[Box, Latents]:
    """The latents of a picture's tiles, refined for a level.

    Args:
        effort: 1 to 9, the place in EFFORTS.
        told: is called after every iteration.
    """
    boxes, result = list(job.tiling), dict[Box, Latents]()
    with torch.inference_mode(False), torch.no_grad():
        refiner = _Refiner(job, level, EFFORTS[effort])
        for box in boxes:
            result[box] = refiner.tile(box, lambda share: told((len(result) + share) / len(boxes)) if told else None)
    return result


@lru_cache(maxsize=2)
def _floating(path: Path, digest: bytes) -> HPCM:
    """The weights of a file, for gradients, in the version of a digest. Raises WeightsError for another one."""
    model, _, weights = load_model(find(path))
    if weights.digest != digest:
        raise WeightsError(f"{path} was written anew since the model was loaded: load it again")
    return make_floating(model)


@dataclass(frozen=True)
class _Window:
    """A tile among its neighbours: what g_s sees, and what its pixels are compared with.

    latents: [1, M, h, w], y_hat of the tiles around; the tile's own begin at `place`, (row, column).
    pixels: [1, 3 or 1, H, W] in 0..1, the original where the tile has influence, beginning at `corner` of g_s's result.
    """

    latents: Tensor
    place: tuple[int, int]
    pixels: Tensor
    corner: tuple[int, int]

    def put(self, y_hat: Tensor) -> Tensor:
        """The latents with a tile's own in their place."""
        (top, left), (rows, columns) = self.place, y_hat.shape[2:]
        latents = self.latents.clone()
        latents[:, :, top : top + rows, left : left + columns] = y_hat
        return latents

    def cut(self, x_hat: Tensor) -> Tensor:
        """What of x_hat [1, 3, 16h, 16w] is compared, as it will be decoded: [1, 3 or 1, H, W]."""
        (top, left), (channels, rows, columns) = self.corner, self.pixels.shape[1:]
        x_hat = x_hat[:, :, top : top + rows, left : left + columns]
        return (x_hat if channels > 1 else x_hat.mean(1, keepdim=True)).clamp(0, 1)


class _Refiner:
    """Refines a picture's tiles, one after the other."""

    def __init__(self, job: Encoding, level: int, search: Search) -> None:
        self.job, self.level, self.search = job, level, search
        self.device = getattr(job.networks.arrays, "device", torch.device("cpu"))
        file, networks = job.weights, unwrapped(job.networks)
        self.model = make_floating(networks) if isinstance(networks, HPCM) else _floating(file.path, file.digest)
        self.levels = torch.tensor([level], device=self.device)
        self.gain_y, self.gain_z = (self.model.gains_of(latent, self.levels)[0] for latent in "yz")
        self.loss = str(job.weights.provenance.get("loss", "mse"))
        self.weight = float(self.model.config.weight_of(level, self.loss))
        self.decoded: dict[Box, Tensor] = {}  # y_hat of tiles as it is at the moment

    def tile(self, box: Box, told: Told) -> Latents:
        """The latents of the tile, refined if that makes the loss smaller."""
        window, latents = self._window(box), self.job.latents(box)
        if self.loss == "mse" or min(window.pixels.shape[2:]) > SMALLEST:
            found = self._found(latents.y, window, latents_inside(box), told)
            before, after = (self._measured(box, each, window) for each in (latents, found))
            if after[0] < before[0]:
                latents, self.decoded[box] = found, after[1]
        above = box[1] - 2 * self.job.tiling.halo * LATENT_STRIDE  # what begins further up is not seen again
        self.decoded = {other: y_hat for other, y_hat in self.decoded.items() if other[3] > above}
        return latents

    def _found(self, start: Array, window: _Window, inside: tuple[int, int], told: Told) -> Latents:
        """The search: start is g_a's y [1, M, h, w]."""
        search, random = self.search, torch.Generator(self.device).manual_seed(0)
        y = self._tensor(start)
        y, z = self.gain_y * y, self.gain_z * self.model.hyper_analyse(y)
        y, z = y.clone().requires_grad_(), z.clone().requires_grad_()
        adam = torch.optim.Adam((y, z))
        for i in range(search.iterations):
            adam.param_groups[0]["lr"], temperature = search.at(i)
            with torch.enable_grad():
                y_hat, rate = self._mixed(y, z, inside, temperature, random)
                loss = rate + self._distortion(window, y_hat)
                y.grad, z.grad = torch.autograd.grad(loss, (y, z))
            adam.step()
            told((i + 1) / search.iterations)
        y, z = (y / self.gain_y).detach(), (z / self.gain_z).detach()
        return Latents(*(self.job.networks.arrays.put(latent.cpu().numpy()) for latent in (y, z)))

    def _mixed(
        self, y: Tensor, z: Tensor, inside: tuple[int, int], temperature: float, random: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """y_hat of one throw of the dice, and its bits."""
        model, size, hyper_size = self.model, (y.shape[2], y.shape[3]), (z.shape[2], z.shape[3])
        drive_z = Annealing([z], model.hyper_places(size, inside), temperature, random)
        hyper = model.hyper_decode(drive_z, hyper_size, self.levels)
        plan = model.plan(size)
        drive_y = Annealing(plan.pyramid(y), latent_places(plan, inside), temperature, random)
        y_hat = model.code_latent(hyper, drive_y, self.levels)
        return y_hat, drive_y.bits + drive_z.bits

    def _distortion(self, window: _Window, y_hat: Tensor) -> Tensor:
        """lambda times the distortion, in bits: what it is worth over all of the window's pixels."""
        x, x_hat = window.pixels, window.cut(self.model.synthesise(window.put(y_hat)))
        return self.weight * distortion(x, x_hat, self.loss)[0] * (x.shape[2] * x.shape[3])

    # ---- what counts in the end ---------------------------------------------------------------------------------

    def _measured(self, box: Box, latents: Latents, window: _Window) -> tuple[float, Tensor]:
        """The loss in bits, with the symbols that will be coded, and y_hat."""
        tile, y_hat = self.job.coded(box, self.level, latents)
        y_hat = self._tensor(y_hat)
        return 8 * sum(len(part.payload) for part in tile) + float(self._distortion(window, y_hat)), y_hat

    def _window(self, box: Box) -> _Window:
        tiling, picture = self.job.tiling, self.job.picture
        own = tiling.cells(box)
        near = tiling.with_halo(own)
        left, top, right, bottom = outer = tiling.with_halo(near)
        shape = (1, self.model.config.M, bottom - top, right - left)
        latents = torch.zeros(shape, dtype=torch.float32, device=self.device)
        for other in tiling.touching(outer):
            y_hat = self._decoded(other)
            x, y = other[0] // LATENT_STRIDE - left, other[1] // LATENT_STRIDE - top
            part = latents[:, :, max(y, 0) : y + y_hat.shape[2], max(x, 0) : x + y_hat.shape[3]]
            part.copy_(y_hat[:, :, max(-y, 0) :, max(-x, 0) :][:, :, : part.shape[2], : part.shape[3]])
        height, width = picture.size
        area = [side * LATENT_STRIDE for side in near]
        area[2:] = min(area[2], width), min(area[3], height)
        pixels = torch.from_numpy(cropped(picture, (area[0], area[1], area[2], area[3])).copy()).to(self.device)
        pixels = pixels[:, :1] if picture.colour == "grey" else pixels
        corner = (near[1] - top) * LATENT_STRIDE, (near[0] - left) * LATENT_STRIDE
        return _Window(latents, (own[1] - top, own[0] - left), pixels, corner)

    def _decoded(self, box: Box) -> Tensor:
        """y_hat of a tile as it is at the moment."""
        if box not in self.decoded:
            self.decoded[box] = self._tensor(self.job.coded(box, self.level, self.job.latents(box))[1])
        return self.decoded[box]

    def _tensor(self, array: Array) -> Tensor:
        """An engine's array as the floating model takes it."""
        return torch.from_numpy(np.array(self.job.networks.arrays.get(array))).to(self.device)
