"""Work that can be stopped: networks that ask, before each of their runs, whether to go on.

A thread can't be ended from outside. But all of the codec's time is spent in the networks (and in the search of an
effort), several runs for each tile and coding step. So whoever wraps them here can end the work between any two runs,
wherever it is: encoding, decoding, a search for a size or a quality, a preview.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from .arrays import Array, Arrays
from .loop import Loop
from .schedule import Step

Check = Callable[[], None]  # raises to end the work


class Stoppable(Loop):
    """The networks of another engine; `check` is called before each of them runs, and what it raises is passed on."""

    def __init__(self, networks: Loop, check: Check) -> None:
        self.networks, self.check, self.config = networks, check, networks.config

    @property
    def arrays(self) -> Arrays:
        return self.networks.arrays

    def analyse(self, x: Array) -> Array:
        self.check()
        return self.networks.analyse(x)

    def hyper_analyse(self, y: Array) -> Array:
        self.check()
        return self.networks.hyper_analyse(y)

    def hyper_synthesise(self, z_hat: Array) -> Array:
        self.check()
        return self.networks.hyper_synthesise(z_hat)

    def parameters_of(self, step: Step, context: Array, y_hat: Array, level: Array) -> Array:
        self.check()
        return self.networks.parameters_of(step, context, y_hat, level)

    def between_scales(self, scale: int, context: Array) -> Array:
        self.check()
        return self.networks.between_scales(scale, context)

    def fuse(self, step: Step, psi: Array, context: Array) -> Array:
        self.check()
        return self.networks.fuse(step, psi, context)

    def synthesise(self, y_hat: Array) -> Array:
        self.check()
        return self.networks.synthesise(y_hat)

    def numbers(self, name: str) -> Array:
        return self.networks.numbers(name)

    def exactly(self) -> contextlib.AbstractContextManager[None]:
        return self.networks.exactly()

    def undisturbed(self) -> contextlib.AbstractContextManager[None]:
        return self.networks.undisturbed()


def unwrapped(networks: Loop) -> Loop:
    """The engine's own networks."""
    return networks.networks if isinstance(networks, Stoppable) else networks
