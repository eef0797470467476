"""The search for smaller files (`effort`): one picture's latents are refined before they are coded.

g_a and h_a are trained for all pictures at once and miss what is best for a single one. Here y and z themselves
descend the gradient of the loss, lambda * distortion + bits, through the whole coding loop and g_s. Rounding has no
gradient, so that it is replaced by stochastic Gumbel annealing: each latent is a random mixture of the two whole
numbers around it, at first of any, then more and more surely of the nearer one (Yang, Bamler and Mandt, "Improving
inference for neural image compression", NeurIPS 2020). Other than in the paper only the choice gets colder, not the
mixture.

Decoders stay as they are. The gradient is that of the model in floating point. The symbols, and the decision whether a
tile has gained anything, are the model's own, so that no file has a larger loss than without effort.

Large pictures are refined tile by tile. What a tile's latents change are the pixels of the tile and of a halo around
it; for these g_s also sees the neighbours' latents: those above and on the left are refined already, the others aren't.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import EllipsisType

import torch
from torch import Tensor

from ..core.coded import Latent
from ..defaults import LOSSES
from ..errors import UsageError, WeightsError
from ..format.fields import Box
from ..model.config import LATENT_STRIDE
from ..model.find import find
from ..model.order import Step
from ..nn.arrays import array_of, picture_tensor, tensor_of
from ..nn.distortion import distortion
from ..nn.drivers import Places
from ..nn.engine import TorchEngine
from ..nn.exact.make_exact import make_floating
from ..nn.hpcm import HPCM, undisturbed
from ..nn.rate import bits, likelihood
from ..nn.weights import load_model
from ..util.metrics import SMALLEST
from .encoder import Encoding, Latents
from .pixels import cropped
from .tiles import Tiling, extent, latents_inside, overlap, pixels_of, slices_of

EDGE = 1e-5  # a latent is at least so far from a whole number, where atanh ends
OnProgress = Callable[[float], None]  # is called with the share of the work that is done, 0 to 1


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
        return places.decoded(values, means)

    def mixed(self, x: Tensor) -> Tensor:
        """x [n] -> between floor(x) and floor(x) + 1, by the difference of two Gumbel variables (a logistic one)."""
        low = x.detach().floor()
        share = (x - low).clamp(EDGE, 1 - EDGE)
        chance = torch.rand(share.shape, generator=self.random, dtype=x.dtype, device=x.device).clamp_(1e-6, 1 - 1e-6)
        odds = (torch.atanh(share) - torch.atanh(1 - share)) / self.temperature  # of the upper number
        return low + torch.sigmoid(odds + torch.logit(chance))


def refined(job: Encoding, level: int, *, effort: int, on_progress: OnProgress) -> dict[Box, Latents]:
    """The latents of a picture's tiles, refined for a level.

    Args:
        effort: 1 to 9, the place in EFFORTS.
        on_progress: is called after every iteration.
    """
    boxes = list(job.tiling)
    result: dict[Box, Latents] = {}

    def of_tile(share: float) -> None:
        on_progress((len(result) + share) / len(boxes))

    with undisturbed(device_of(job)):
        refiner = _Refiner(job, level, EFFORTS[effort])
        for box in boxes:
            result[box] = refiner.tile(box, of_tile)
    return result


def device_of(job: Encoding) -> torch.device:
    """Where the search computes: where the engine does, if that is torch."""
    return job.engine.model.device if isinstance(job.engine, TorchEngine) else torch.device("cpu")


@lru_cache(maxsize=2)
def _in_torch(path: Path, digest: bytes) -> HPCM:
    """The model of a weights file, in the version of a digest. Raises WeightsError for another one."""
    model, _, weights = load_model(find(path))
    if weights.digest != digest:
        raise WeightsError(f"{path} was written anew since the model was loaded: load it again")
    return model


def model_of(job: Encoding) -> HPCM:
    """The picture's model in torch, where `device_of` says; raises as `_in_torch`."""
    if isinstance(job.engine, TorchEngine):
        return job.engine.model
    return _in_torch(job.weights.path, job.weights.digest)


class _Window:
    """Where a tile lies among its neighbours: what g_s sees of them, and which pixels the tile changes.

    +---------------------------+  seen: what these pixels depend on, one halo more; g_s is given this
    | +-----------------------+ |  changed: the pixels that the tile's latents have an influence on,
    | |   +---------------+   | |           its own and a halo; they are compared with the original
    | |   |   own: tile   |   | |
    | |   +---------------+   | |  all in latents; `area` is `changed` in pixels, as far as there are pixels
    | +-----------------------+ |
    +---------------------------+
    """

    def __init__(self, tiling: Tiling, tile: Box) -> None:
        self.own = tiling.cells(tile)
        self.changed = tiling.with_halo(self.own)
        self.seen = tiling.with_halo(self.changed)
        self.neighbours = tiling.touching(self.seen)  # the tile itself among them
        self.area = overlap(pixels_of(self.changed), tiling.whole)

    def with_tile(self, seen: Tensor, y_hat: Tensor) -> Tensor:
        """The latents that g_s sees [1, M, h, w], with the tile's own in their place."""
        latents = seen.clone()
        latents[_slices_of(self.own, self.seen)] = y_hat
        return latents

    def compared(self, x_hat: Tensor) -> Tensor:
        """The pixels [1, 3, H, W] of g_s's result [1, 3, 16h, 16w] that are compared with the original."""
        return x_hat[_slices_of(self.area, pixels_of(self.seen))]


@dataclass(frozen=True)
class _Surroundings:
    """What a tile's latents are judged by.

    seen: [1, M, h, w], y_hat of the tiles around, as they are at the moment.
    pixels: [1, 3 or 1, H, W] in 0..1, the original in `window.area`.
    """

    window: _Window
    seen: Tensor
    pixels: Tensor


class _Refiner:
    """Refines a picture's tiles, one after the other."""

    def __init__(self, job: Encoding, level: int, search: Search) -> None:
        self.job, self.level, self.search = job, level, search
        self.model = make_floating(model_of(job))  # for gradients
        self.device = device_of(job)
        self.levels = torch.tensor([level], device=self.device)
        self.gain_y, self.gain_z = (self.model.gains_of(latent, self.levels)[0] for latent in "yz")
        self.loss = str(job.weights.provenance.get("loss", "mse"))
        if self.loss not in LOSSES:
            trained = f"{job.weights.name} was trained for {self.loss}, which isn't in its file"
            raise UsageError(f"{trained}: effort searches for {', '.join(LOSSES)}")
        self.weight = float(self.model.config.weight_of(level, self.loss))
        self.decoded: dict[Box, Tensor] = {}  # y_hat of tiles as it is at the moment

    def tile(self, box: Box, on_progress: OnProgress) -> Latents:
        """The latents of the tile, refined if that makes the loss smaller."""
        around, latents = self._surroundings(box), self.job.latents(box)
        if self.loss == "mse" or min(around.pixels.shape[2:]) > SMALLEST:
            refined = self._refined(latents.y, around, latents_inside(box), on_progress)
            before, _ = self._measured(box, latents, around)
            after, y_hat = self._measured(box, refined, around)
            if after < before:
                latents, self.decoded[box] = refined, y_hat
        above = box[1] - 2 * self.job.tiling.halo * LATENT_STRIDE  # what begins further up is not seen again
        self.decoded = {other: y_hat for other, y_hat in self.decoded.items() if other[3] > above}
        return latents

    def _refined(
        self, start: Latent, around: _Surroundings, inside: tuple[int, int], on_progress: OnProgress
    ) -> Latents:
        """The search: start is g_a's y."""
        search, random = self.search, torch.Generator(self.device).manual_seed(0)
        y = self._tensor(start)
        z = self.gain_z * self.model.hyper_analyse(y)
        y = self.gain_y * y
        y, z = y.clone().requires_grad_(), z.clone().requires_grad_()
        adam = torch.optim.Adam((y, z))
        for i in range(search.iterations):
            adam.param_groups[0]["lr"], temperature = search.at(i)
            with torch.enable_grad():
                y_hat, rate = self._mixed(y, z, inside, temperature, random)
                loss = rate + self._distortion(around, y_hat)
                y.grad, z.grad = torch.autograd.grad(loss, (y, z))
            adam.step()
            on_progress((i + 1) / search.iterations)
        y, z = (y / self.gain_y).detach(), (z / self.gain_z).detach()
        return Latents(array_of(y), array_of(z))

    def _mixed(
        self, y: Tensor, z: Tensor, inside: tuple[int, int], temperature: float, random: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """y_hat of one throw of the dice, and its bits."""
        model, size = self.model, (y.shape[2], y.shape[3])
        places, plan = model.places(size, inside), model.plan(size)
        drive_z = Annealing([z], places.hyper, temperature, random)
        drive_y = Annealing(plan.pyramid(y), places.latent, temperature, random)
        y_hat = model.code(drive_z, drive_y, size, self.levels)
        return y_hat, drive_y.bits + drive_z.bits

    def _distortion(self, around: _Surroundings, y_hat: Tensor) -> Tensor:
        """lambda times the distortion, in bits: what it is worth over all of the window's pixels."""
        x, x_hat = around.pixels, self._decoded_pixels(around, y_hat)
        return self.weight * distortion(x, x_hat, self.loss)[0] * (x.shape[2] * x.shape[3])

    def _decoded_pixels(self, around: _Surroundings, y_hat: Tensor) -> Tensor:
        """What is compared with `around.pixels`, as it will be decoded: [1, 3 or 1, H, W]."""
        window = around.window
        x_hat = window.compared(self.model.synthesise(window.with_tile(around.seen, y_hat)))
        grey = around.pixels.shape[1] == 1
        return (x_hat.mean(1, keepdim=True) if grey else x_hat).clamp(0, 1)

    # ---- what counts in the end ---------------------------------------------------------------------------------

    def _measured(self, box: Box, latents: Latents, around: _Surroundings) -> tuple[float, Tensor]:
        """The loss in bits, with the symbols that will be coded, and y_hat."""
        tile, decoded = self.job.coded(box, self.level, latents)
        y_hat = self._tensor(decoded)
        return 8 * sum(len(part.payload) for part in tile) + float(self._distortion(around, y_hat)), y_hat

    def _surroundings(self, box: Box) -> _Surroundings:
        """The surroundings of a tile, with its neighbours as they are at the moment."""
        picture, tiling = self.job.picture, self.job.tiling
        window = _Window(tiling, box)
        rows, columns = extent(window.seen)
        seen = torch.zeros((1, self.model.config.M, rows, columns), dtype=torch.float32, device=self.device)
        for other in window.neighbours:
            cells = tiling.cells(other)
            common = overlap(cells, window.seen)
            seen[_slices_of(common, window.seen)] = self._y_hat(other)[_slices_of(common, cells)]
        pixels = picture_tensor(cropped(picture, window.area), picture.peak, extent(window.area), self.device)
        return _Surroundings(window, seen, pixels[:, :1] if picture.colour == "grey" else pixels)

    def _y_hat(self, box: Box) -> Tensor:
        """y_hat of a tile as it is at the moment."""
        if box not in self.decoded:
            self.decoded[box] = self._tensor(self.job.coded(box, self.level, self.job.latents(box))[1])
        return self.decoded[box]

    def _tensor(self, latent: Latent) -> Tensor:
        """An engine's latent as the floating model takes it."""
        return tensor_of(latent, self.device)


def _slices_of(box: Box, inside: Box) -> tuple[EllipsisType, slice, slice]:
    """The rows and columns of a box in a tensor [1, C, h, w] of another one."""
    return ..., *slices_of(box, inside)
