"""Regions of interest: where a quality map says that less is wanted, latents are rounded to cheaper symbols.

Decoders stay as they are: files have no map. At each place of y, of which 16 x 16 pixels have M, the symbol is chosen
that costs least among the nearest one and those nearer to the mean:

    w * SLOPE * (y - mean - symbol)^2 + (1 - w) * bits(symbol)         w: the map there

So w = 1 rounds as usual, and w = 0 takes the symbol that is likeliest. SLOPE is what an error is worth at the quality
of the file: at high rates a latent's error is 1 / 12 of the squared step, and the rate falls by 1 / ln 2 bits when the
logarithm of the step grows by one, which balance at 6 / ln 2 bits for the square of a step.

The coding loop itself does this, in torch: each step's means follow from the symbols that were chosen before it. What
becomes of it is a y that the engine rounds to the same symbols.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from numpy.typing import NDArray
from torch import Tensor

from ..format.fields import Box
from ..model.order import Step
from ..nn.arrays import array_of, tensor_of
from ..nn.drivers import Observing, Places, Recording
from ..nn.hpcm import HPCM, undisturbed
from ..nn.rate import likelihood
from ..util.parallel import Check
from .encoder import Encoding, Latents
from .search import device_of, model_of
from .tiles import latents_inside, slices_of

SLOPE = 6 / math.log(2)  # bits for the square of a quantisation step
NEARER = 2  # symbols nearer to the mean that are tried, beside 0


class Weighing:
    """The driver that chooses symbols by a map, [1, M, h, w] on the lattice of each scale."""

    def __init__(self, pyramid: Sequence[Tensor], places: Sequence[Places], maps: Sequence[Tensor]) -> None:
        self.pyramid, self.places, self.maps = pyramid, places, maps

    def __call__(self, step: Step, means: Tensor, scales: Tensor) -> Tensor:
        places = self.places[step.index]
        y, mean, scale, wanted = (
            places.pick(x) for x in (self.pyramid[step.scale], means, scales, self.maps[step.scale])
        )
        return places.decoded(chosen(y - mean, scale, wanted), means)


def chosen(residual: Tensor, scales: Tensor, wanted: Tensor) -> Tensor:
    """The symbols [n] of residuals in quantisation steps, with the scales and the map at their places."""
    nearest = residual.round()
    symbols = [nearest]
    symbols += [nearest.sign() * (nearest.abs() - nearer).clamp(min=0) for nearer in range(1, NEARER + 1)]
    symbols.append(torch.zeros_like(nearest))
    candidates = torch.stack(symbols)
    bits = -torch.log2(likelihood(candidates, scales.expand_as(candidates)))
    costs = wanted * SLOPE * (residual - candidates).square() + (1 - wanted) * bits
    return candidates.gather(0, costs.argmin(0, keepdim=True))[0]  # of equal costs the nearest


def rounded(job: Encoding, level: int, quality_map: NDArray, check: Check | None = None) -> dict[Box, Latents]:
    """The latents of a picture's tiles at a level, rounded by a map [H/16, W/16] of the whole picture."""
    result = {}
    with undisturbed(device_of(job)):
        model = model_of(job)
        for box in job.tiling:
            if check is not None:
                check()
            result[box] = _rounded(model, job, box, level, quality_map)
    return result


def _rounded(model: HPCM, job: Encoding, box: Box, level: int, quality_map: NDArray) -> Latents:
    device, latents, levels = model.device, job.latents(box), torch.tensor([level], device=model.device)
    y = tensor_of(latents.y, device)
    z = model.hyper_analyse(y) if latents.z is None else tensor_of(latents.z, device)
    size = (y.shape[2], y.shape[3])
    places, plan = model.places(size, latents_inside(box)), model.plan(size)
    wanted = torch.ones(size, device=device)  # 1 in the padding, which isn't coded
    own = torch.from_numpy(quality_map[slices_of(job.tiling.cells(box), (0, 0, 0, 0))]).to(device)
    wanted[: own.shape[0], : own.shape[1]] = own
    maps = plan.pyramid(wanted.expand(1, model.config.M, *size))
    (gain_y, _), (gain_z, _) = model.gains_of("y", levels), model.gains_of("z", levels)
    drive_z = Recording([gain_z * z], places.hyper)
    drive_y = Observing(Weighing(plan.pyramid(gain_y * y), places.latent, maps), places.latent, plan)
    model.code(drive_z, drive_y, size, levels)
    symbols, means, _ = drive_y.collected.values
    return Latents(array_of((symbols + means) / gain_y), array_of(z))
