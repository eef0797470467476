"""THE loop over coding steps. Whatever computes the networks, a latent is coded by these lines.

    x --g_a--> y --h_a--> z --(code)--> z_hat --h_s--> hyper --(code_latent: step by step)--> y_hat --g_s--> x_hat

What y is at each step the loop asks a driver: `Recording` rounds the y at hand and keeps the symbols, `Replaying` takes
them from a bitstream, `Estimating` (in training) adds up bits. The networks are those of an engine: `HPCM` in torch, or
ONNX Runtime's; an engine is a subclass of `Loop`.

Shapes: x [B, 3, H, W] in 0..1 with H, W multiples of `config.multiple`; y [B, M, H/16, W/16]; z [B, N, H/64, W/64];
hyper, context, psi [B, 2M, ...] (scales first, then means); level [B].

Units: with several quality levels the networks see y in the same units at every level. Only for rounding it is
multiplied by the level's gain; the rounded values are multiplied by a learned inverse of the gain right away.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from ..model.config import HYPER_STRIDE, LATENT_STRIDE, Config
from . import drivers, gains
from .arrays import Array, Arrays, namespace
from .drivers import Driver, Filling, Keeping, Places, Pop, Recording, Replaying, StepSymbols, latent_places
from .schedule import Plan, Step, plan_for

HYPER_STEP = Step(index=0, scale=0, turn=0)
LATENTS_PER_HYPER = HYPER_STRIDE // LATENT_STRIDE


class Loop(ABC):
    """Codes latents with the networks that a subclass has."""

    config: Config

    # ---- what an engine gives ---------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def arrays(self) -> Arrays:
        """Where its arrays live."""

    @abstractmethod
    def analyse(self, x: Array) -> Array:
        """g_a: x [B, 3, 16h, 16w] in 0..1 -> y [B, M, h, w], float32."""

    @abstractmethod
    def hyper_analyse(self, y: Array) -> Array:
        """h_a: y [B, M, h, w] -> z [B, N, h/4, w/4], float32."""

    @abstractmethod
    def hyper_synthesise(self, z_hat: Array) -> Array:
        """h_s: z_hat [B, N, h/4, w/4] -> hyper [B, 2M, h, w], float32."""

    @abstractmethod
    def parameters_of(self, step: Step, context: Array, y_hat: Array, level: Array) -> Array:
        """psi [B, 2M, ...] of a step after the first, from the context and what is decoded so far."""

    @abstractmethod
    def between_scales(self, scale: int, context: Array) -> Array:
        """The context that was brought to `scale`, 1 or 2, on its way into the next step."""

    @abstractmethod
    def fuse(self, step: Step, psi: Array, context: Array) -> Array:
        """Attention: the context of the next step."""

    @abstractmethod
    def synthesise(self, y_hat: Array) -> Array:
        """g_s: y_hat [B, M, h, w] -> x_hat [B, 3, 16h, 16w], float32, not clamped."""

    @abstractmethod
    def numbers(self, name: str) -> Array:
        """A parameter: z_means, z_scales [1, N, 1, 1], or the knots of y_gain, y_inverse, z_gain, z_inverse."""

    def exactly(self) -> contextlib.AbstractContextManager[None]:
        """What has to hold while parameters are computed, so that their bits are the same everywhere."""
        return contextlib.nullcontext()

    def undisturbed(self) -> contextlib.AbstractContextManager[None]:
        """Pictures are coded in here, whatever the caller has set up in his process."""
        return contextlib.nullcontext()

    # ---- latents and symbols ----------------------------------------------------------------------------------------

    def encode(
        self, y: Array, level: int, inside: tuple[int, int] | None = None, z: Array | None = None
    ) -> tuple[list[StepSymbols], Array]:
        """The symbols of one picture's latent, in the order in which the decoder asks for them, and y_hat.

        Args:
            y: [1, M, h, w] as `analyse` gives it; h and w multiples of `config.multiple` / 16.
            level: the quality level.
            inside: rows and columns of y that touch the picture. What lies outside is padding: it costs nothing and
                takes its mean on both sides. By default all of y.
            z: [1, N, h/4, w/4]; by default what `hyper_analyse` makes of y.
        """
        levels = self.arrays.put(np.array([level]))
        z = self.gains_of("z", levels)[0] * (self.hyper_analyse(y) if z is None else z)
        record_z = Recording([z], self.hyper_places(_size(y), inside))
        hyper = self.hyper_decode(record_z, _size(z), levels)
        plan = self.plan(_size(y))
        record_y = Recording(plan.pyramid(self.gains_of("y", levels)[0] * y), latent_places(plan, inside))
        y_hat = self.code_latent(hyper, record_y, levels)
        return record_z.symbols + record_y.symbols, y_hat

    def decode(self, pop: Pop, size: tuple[int, int], level: int, inside: tuple[int, int] | None = None) -> Array:
        """y_hat [1, M, h, w] from a source of symbols that is asked step by step.

        Args:
            pop: scales float32 [n] -> symbols int32 [n].
            size: (h, w) of y; `level` and `inside` as for `encode`.
        """
        levels = self.arrays.put(np.array([level]))
        hyper_size = (size[0] // LATENTS_PER_HYPER, size[1] // LATENTS_PER_HYPER)
        hyper = self.hyper_decode(Replaying(pop, self.hyper_places(size, inside)), hyper_size, levels)
        return self.code_latent(hyper, Replaying(pop, latent_places(self.plan(size), inside)), levels)

    def decode_known(
        self,
        pop: Pop,
        size: tuple[int, int],
        level: int,
        inside: tuple[int, int] | None = None,
        steps: int | None = None,
    ) -> list[Array]:
        """What the first `steps` steps after the hyper latent's decode to, for `fill`; arguments as for `decode`.

        Returns z [1, N, h/4, w/4] and y on the lattice of each scale that was begun, coarse to fine, both in units of
        the quantisation step; what isn't known is not a number.
        """
        levels = self.arrays.put(np.array([level]))
        hyper_size = (size[0] // LATENTS_PER_HYPER, size[1] // LATENTS_PER_HYPER)
        hyper_places, places = self.hyper_places(size, inside), latent_places(self.plan(size), inside)
        known_z = Keeping(Replaying(pop, hyper_places), hyper_places)
        known_y = Keeping(Replaying(pop, places), places)
        self.code_latent(self.hyper_decode(known_z, hyper_size, levels), known_y, levels, steps)
        return [*known_z.latents.values(), *known_y.latents.values()]

    def unknown(self, size: tuple[int, int]) -> list[Array]:
        """As `decode_known` gives it for y of `size` where nothing is known: z and all three scales."""
        hyper_size = (size[0] // LATENTS_PER_HYPER, size[1] // LATENTS_PER_HYPER)
        shapes = [(self.config.N, *hyper_size), *((self.config.M, *lattice) for lattice in self.plan(size).sizes)]
        return [self.arrays.put(np.full((1, *shape), np.nan, np.float32)) for shape in shapes]

    def fill(self, known: Sequence[Array], level: int) -> Array:
        """y_hat [1, M, h, w] from z and all three scales of y: what isn't known takes its mean, given all that is."""
        levels = self.arrays.put(np.array([level]))
        z, *scales = known
        hyper_size = _size(z)
        size = (hyper_size[0] * LATENTS_PER_HYPER, hyper_size[1] * LATENTS_PER_HYPER)
        hyper = self.hyper_decode(Filling({0: z}, self.hyper_places(size, None)), hyper_size, levels)
        places = latent_places(self.plan(size), None)
        return self.code_latent(hyper, Filling(dict(enumerate(scales)), places), levels)

    def hyper_decode(self, drive: Driver, size: tuple[int, int], level: Array) -> Array:
        """Codes z of `size` in one step and gives the hyper parameters, [B, 2M, h, w]."""
        gain, inverse = self.gains_of("z", level)
        shape = (level.shape[0], self.config.N, *size)
        xp = namespace(level)
        means, scales = (xp.broadcast_to(self.numbers(f"z_{key}") * gain, shape) for key in ("means", "scales"))
        with self.exactly():
            return self.hyper_synthesise(drive(HYPER_STEP, means, scales) * inverse)

    # ---- the loop ---------------------------------------------------------------------------------------------------

    def code_latent(self, hyper: Array, drive: Driver, level: Array, steps: int | None = None) -> Array:
        """Goes through the coding steps, coarse to fine, and returns y_hat (paper, section 3.2 and figure 3).

        Args:
            hyper: [B, 2M, h, w], scales and means.
            drive: gives the latent at each step, in units of the quantisation step.
            level: [B].
            steps: how many are gone through, by default all. After fewer, y_hat is on the lattice of the last one.
        """
        with self.exactly():
            return self._code_latent(self.plan(_size(hyper)), hyper, drive, level, steps)

    def _code_latent(self, plan: Plan, hyper: Array, drive: Driver, level: Array, steps: int | None) -> Array:
        xp, M = namespace(hyper), self.config.M
        hypers = plan.hyper_pyramid(hyper)
        gain, inverse = self.gains_of("y", level)
        context = hypers[0]
        y_hat = xp.zeros_like(context[:, :M])
        for step in plan.steps[:steps]:
            if step.turn == 0 and step.scale > 0:
                y_hat = plan.scatter(y_hat, xp.zeros_like(hypers[step.scale][:, :M]), step.scale)
                context = plan.scatter(context, hypers[step.scale], step.scale)
                if self.config.context_net:
                    context = self.between_scales(step.scale, context)
            psi = self.parameters_of(step, context, y_hat, level) if step.index else context
            scales, means = psi[:, :M], psi[:, M:]
            y_hat = y_hat + drive(step, means * gain, scales * gain) * inverse
            if step.index and step is not plan.steps[-1]:
                context = self._fused(step, psi, context)
        return y_hat

    def _fused(self, step: Step, psi: Array, context: Array) -> Array:
        """Progressive context fusion: the context of the next step."""
        if self.config.fusion == "attention":
            return self.fuse(step, psi, context)
        return psi if self.config.fusion == "psi" else context

    # ---- helpers ----------------------------------------------------------------------------------------------------

    def plan(self, size: tuple[int, int]) -> Plan:
        """The coding schedule for latents of (h, w)."""
        return plan_for(self.config, *size, self.arrays)

    def hyper_places(self, size: tuple[int, int], inside: tuple[int, int] | None) -> list[Places]:
        """The places of z for y of `size`, of which `inside` rows and columns touch the picture."""
        cells = None if inside is None else (-(-inside[0] // LATENTS_PER_HYPER), -(-inside[1] // LATENTS_PER_HYPER))
        hyper_size = (size[0] // LATENTS_PER_HYPER, size[1] // LATENTS_PER_HYPER)
        return drivers.hyper_places(self.config.N, hyper_size, cells, self.arrays)

    def gains_of(self, latent: str, level: Array) -> tuple[Array | float, Array | float]:
        """The gain of y or z at `level`, and its learned inverse."""
        if self.config.levels == 1:
            return 1.0, 1.0
        gain, inverse = self.numbers(f"{latent}_gain"), self.numbers(f"{latent}_inverse")
        return gains.pair(gain, inverse, level, self.config.levels, self.config.interpolation)


def _size(x: Array) -> tuple[int, int]:
    return x.shape[2], x.shape[3]
