"""The engine in torch: any model on any device, behind the boundary that codec/engine.py describes.

Outside are numpy's arrays, of one tile. Inside are tensors [B, ...]: on the CPU B is 1, on another device the calls of
several threads become one batch (nn/batches.py), and CUDA devices replay graphs (nn/graphs.py).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.ans import SymbolDecoder, SymbolEncoder, checksum
from ..core.coded import Decoded, Encoded, Latent
from ..defaults import GPU_AT_ONCE
from ..model.config import LATENT_STRIDE
from ..model.order import pass_ends
from ..model.tables import Tables
from ..util.parallel import Check
from .arrays import array_of, first_channels, last_channels, pictures, stacked, tensor_of, whole_numbers
from .batches import Batches, one_by_one
from .drivers import Checking, Filling, Keeping, Observing, Recording, Replaying
from .graphs import Answer, Ask, Begin, Function, Runner, silent
from .hpcm import HPCM, AllPlaces, hyper_size, undisturbed

Size = tuple[int, int]  # rows and columns
Pop = Callable[[NDArray[np.float32]], NDArray[np.int32]]  # scales [n] -> symbols [n], from a bitstream


class StepSymbols(NamedTuple):
    """The symbols of one step, int32 [n], and the scales they are coded with, float32 [n]."""

    values: NDArray[np.int32]
    scales: NDArray[np.float32]


class Observed(NamedTuple):
    """What was decoded of a latent, float32 [h, w, C]; symbols, means and scales in units of the quantisation step."""

    decoded: Latent
    symbols: Latent
    means: Latent
    scales: Latent


class _Shared(NamedTuple):
    """What all engines of a model share."""

    run: Runner
    batches: Callable[..., Any]  # Batches, or one_by_one
    threads: ThreadPoolExecutor  # of the entropy decoders of a batch


class TorchEngine:
    """Computes a model's transforms and codes its latents; see `codec.engine.Engine` for the methods.

    Args:
        model: in evaluation mode.
        check: is called before each network runs, where a GPU replays graphs before each answer of the entropy decoder;
            what it raises ends the work.
        at_once: tiles in a batch; by default GPU_AT_ONCE, but 1 on the CPU, where more aren't faster, and for a model
            that isn't exact, whose sums depend on what else is in the batch.
    """

    def __init__(self, model: HPCM, tables: Tables, check: Check = lambda: None, at_once: int | None = None) -> None:
        self.model, self.tables, self.check = model, tables, check
        self.config = model.config
        on_cpu = model.device.type == "cpu"
        self.at_once = at_once or (GPU_AT_ONCE if model.config.carrier and not on_cpu else 1)
        batches = one_by_one if on_cpu and self.at_once == 1 else Batches(self.at_once)
        self._shared = _Shared(Runner(model.device), batches, ThreadPoolExecutor(self.at_once))
        self._boundaries = torch.from_numpy(tables.scales[:-1].copy()).to(model.device)

    def stoppable(self, check: Check) -> TorchEngine:
        engine = copy(self)  # of the same model, batches and graphs
        engine.check = check
        return engine

    # ---- pictures and latents ---------------------------------------------------------------------------------------

    def analyse(self, pixels: NDArray[Any], peak: int, size: Size) -> Latent:
        self.check()
        key = ("analyse", peak, size)

        def function(_: Ask, inputs: Sequence[Tensor]) -> list[Tensor]:
            return [last_channels(self.model.analyse(pictures(inputs[0], peak, size)))]

        def work(given: Sequence[NDArray[Any]]) -> Iterable[Latent]:
            latents = (size[0] // LATENT_STRIDE, size[1] // LATENT_STRIDE)
            (y,) = self._run(key, function, [given], latents)
            return y

        return self._shared.batches((*key, pixels.shape, pixels.dtype), pixels, work)

    def synthesise(
        self, y_hat: Latent, bit_depth: int, grey: bool, crop: tuple[int, int, int, int]
    ) -> NDArray[np.uint8] | NDArray[np.uint16]:
        self.check()
        left, top, right, bottom = crop
        key = ("synthesise", bit_depth, grey, crop)

        def function(_: Ask, inputs: Sequence[Tensor]) -> list[Tensor]:
            x_hat = self.model.synthesise(first_channels(inputs[0]))
            return [whole_numbers(x_hat[..., top:bottom, left:right], bit_depth, grey)]

        def work(given: Sequence[Latent]) -> Iterable[NDArray[Any]]:
            (values,) = self._run(key, function, [given], y_hat.shape[:2])
            return values

        values: NDArray[Any] = self._shared.batches((*key, y_hat.shape), y_hat, work)
        return values if bit_depth == 8 else values.astype(np.uint16)

    # ---- latents and bytes ------------------------------------------------------------------------------------------

    def encode(self, y: Latent, level: int, inside: Size | None = None, z: Latent | None = None) -> Encoded:
        self.check()
        size = (y.shape[0], y.shape[1])
        key = ("encode", size, inside)

        def function(_: Ask, inputs: Sequence[Tensor]) -> list[Tensor]:
            levels, *latents = inputs
            steps, y_hat = self._record(levels, size, inside, *map(first_channels, latents))
            symbols, scales = (torch.cat(values, 1) for values in zip(*steps, strict=True))
            return [symbols, self._indexes(scales), last_channels(y_hat)]

        def work(given: Sequence[Sequence[NDArray[Any]]]) -> Iterable[tuple[NDArray[Any], ...]]:
            return zip(*self._run(key, function, list(zip(*given, strict=True)), size), strict=True)

        given = (_whole(level), y) if z is None else (_whole(level), y, z)
        symbols, indexes, y_hat = self._shared.batches((*key, len(given)), given, work)
        return Encoded(*self._coded(symbols, indexes, self.model.places(size, inside)), y_hat)

    def _coded(
        self, symbols: NDArray[np.int32], indexes: NDArray[np.uint8], places: AllPlaces
    ) -> tuple[list[bytes], list[int]]:
        """The parts of the symbols of all steps, and their checksums up to the end of each part."""
        encoder, total, checksums = SymbolEncoder(self.tables), 0, []
        part_ends, begin = pass_ends(self.config), 0
        for step, end in enumerate(accumulate(each.count for each in (*places.hyper, *places.latent)), 1):
            encoder.push(symbols[begin:end], indexes[begin:end])
            total, begin = checksum(symbols[begin:end], total), end
            if step in part_ends:
                checksums.append(total)
                if step != part_ends[-1]:
                    encoder.cut()
        return encoder.finish(), checksums

    def decode(self, payload: bytes, steps: int, size: Size, level: int, inside: Size | None = None) -> Decoded:
        key = ("decode", size, inside)

        def function(ask: Ask, inputs: Sequence[Tensor]) -> list[Tensor]:
            (levels,) = inputs
            return [last_channels(self._replay(lambda scales: ask(self._indexes(scales)), levels, size, inside))]

        def work(given: Sequence[tuple[NDArray[Any], _Payload]]) -> list[Decoded]:
            levels, payloads = zip(*given, strict=True)
            sources: list[_Source] = []

            def begin() -> Answer:
                sources[:] = [_Source(self.tables, payload) for payload in payloads]
                return partial(self._answer, sources)

            (y_hats,) = self._run(key, function, [levels], size, begin)
            found = zip(y_hats, sources, strict=True)
            return [Decoded(y_hat, source.checksum, source.decoder.words_left) for y_hat, source in found]

        return self._shared.batches(key, (_whole(level), _Payload(payload, steps, self.check)), work)

    def decode_known(
        self, payload: bytes, steps: int, size: Size, level: int, inside: Size | None = None
    ) -> tuple[list[Latent], int]:
        source = _Source(self.tables, _Payload(payload, steps, self.check))
        with undisturbed(self.model.device):
            places, ask = self.model.places(size, inside), self._asking(source)
            known_z = Keeping(Replaying(ask, places.hyper), places.hyper)
            known_y = Keeping(Replaying(ask, places.latent), places.latent)
            self.model.code(known_z, known_y, size, self._levels(level), steps - 1)  # without the hyper latent's step
            known = [*known_z.latents.values(), *known_y.latents.values()]
            return list(map(array_of, known)), source.checksum

    def unknown(self, size: Size) -> list[Latent]:
        lattices = self.model.plan(size).sizes
        shapes = [(*hyper_size(size), self.config.N), *((*lattice, self.config.M) for lattice in lattices)]
        return [np.full(shape, np.nan, np.float32) for shape in shapes]

    def fill(self, known: Sequence[Latent], level: int) -> Latent:
        with undisturbed(self.model.device):
            z, *scales = (tensor_of(latent, self.model.device) for latent in known)
            size = (scales[-1].shape[2], scales[-1].shape[3])
            places = self.model.places(size)
            fill_z = Checking(Filling({0: z}, places.hyper), self.check)
            fill_y = Checking(Filling(dict(enumerate(scales)), places.latent), self.check)
            return array_of(self.model.code(fill_z, fill_y, size, self._levels(level)))

    # ---- latents and symbols ----------------------------------------------------------------------------------------

    def record(
        self, y: Latent, level: int, inside: Size | None = None, z: Latent | None = None
    ) -> tuple[list[StepSymbols], Latent]:
        """The symbols of a latent, in the order in which the decoder asks for them, and y_hat; as for `encode`."""
        self.check()
        with undisturbed(self.model.device):
            latents = [tensor_of(latent, self.model.device) for latent in (y, z) if latent is not None]
            steps, y_hat = self._record(self._levels(level), (y.shape[0], y.shape[1]), inside, *latents)
            return [StepSymbols(*(values[0].cpu().numpy() for values in step)) for step in steps], array_of(y_hat)

    def replay(self, pop: Pop, size: Size, level: int, inside: Size | None = None) -> Latent:
        """y_hat from a source of symbols that is asked step by step; as for `decode`."""

        def ask(scales: Tensor) -> Tensor:
            return torch.from_numpy(pop(scales[0].cpu().numpy()))[None].to(self.model.device)

        with undisturbed(self.model.device):
            return array_of(self._replay(ask, self._levels(level), size, inside))

    def observe(
        self, payload: bytes, steps: int, size: Size, level: int, inside: Size | None = None
    ) -> tuple[Observed, Observed, int]:
        """z and y with what they were decoded from, and the checksum of the symbols; as for `decode`."""
        source, levels = _Source(self.tables, _Payload(payload, steps, self.check)), self._levels(level)
        with undisturbed(self.model.device):
            places, inverse_z = self.model.places(size, inside), self.model.gains_of("z", levels)[1]
            ask = self._asking(source)
            see_z = Observing(Replaying(ask, places.hyper), places.hyper)
            see_y = Observing(Replaying(ask, places.latent), places.latent, self.model.plan(size))
            y_hat = self.model.code(see_z, see_y, size, levels)
            symbols, means, _ = see_z.collected.values
            z_hat = (symbols + means) * inverse_z
            z = Observed(*map(array_of, (z_hat, *see_z.collected.values)))
            y = Observed(*map(array_of, (y_hat, *see_y.collected.values)))
        return z, y, source.checksum

    # ---- on the device ----------------------------------------------------------------------------------------------

    def _run(
        self,
        key: Hashable,
        function: Function,
        given: Sequence[Sequence[NDArray[Any]]],
        size: Size,
        begin: Begin = silent,
    ) -> list[NDArray[Any]]:
        """What a function gives for several of the same shapes, on the host: arrays [B, ...].

        Args:
            given: for each input of the function one array for each of the several.
            size: of their y.
        """
        count = len(given[0])
        # Graphs are for one B each: so that there are few, it is a power of two, and the last is computed again.
        batch = 1 << (count - 1).bit_length() if self._shared.run.records else count
        inputs = [stacked([*arrays, *[arrays[-1]] * (batch - count)]) for arrays in given]
        with undisturbed(self.model.device):
            latents = batch * size[0] * size[1]
            outputs = self._shared.run(key, function, inputs, latents, begin)
            return [output.cpu().numpy()[:count] for output in outputs]

    def _record(
        self, levels: Tensor, size: Size, inside: Size | None, y: Tensor, z: Tensor | None = None
    ) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """The symbols and scales of each step, [B, n], and y_hat."""
        model = self.model
        hyper = model.hyper_analyse(y) if z is None else z
        places, plan = model.places(size, inside), model.plan(size)
        record_z = Recording([model.gains_of("z", levels)[0] * hyper], places.hyper)
        record_y = Recording(plan.pyramid(model.gains_of("y", levels)[0] * y), places.latent)
        y_hat = model.code(Checking(record_z, self.check), Checking(record_y, self.check), size, levels)
        return record_z.steps + record_y.steps, y_hat

    def _replay(self, ask: Ask, levels: Tensor, size: Size, inside: Size | None) -> Tensor:
        """y_hat; `ask` gives the symbols of scales."""
        places = self.model.places(size, inside)
        return self.model.code(Replaying(ask, places.hyper), Replaying(ask, places.latent), size, levels)

    def _levels(self, level: int) -> Tensor:
        return torch.tensor([level], device=self.model.device)

    def _indexes(self, scales: Tensor) -> Tensor:
        """The numbers of the tables of scales, as `Tables.index`, uint8."""
        return torch.bucketize(scales, self._boundaries, out_int32=True).to(torch.uint8)

    def _asking(self, source: _Source) -> Ask:
        return lambda scales: self._answer([source], self._indexes(scales).cpu()).to(self.model.device)

    def _answer(self, sources: Sequence[_Source], indexes: Tensor) -> Tensor:
        """The symbols [B, n] that the tables [B, n] of these sources give; 0 in rows that are no source's."""
        symbols = np.zeros(indexes.shape, np.int32)
        rows = indexes.numpy()[: len(sources)]
        popped = self._shared.threads.map(_Source.pop, sources, rows) if len(sources) > 1 else [sources[0].pop(rows[0])]
        for row, values in enumerate(popped):
            symbols[row] = values
        return torch.from_numpy(symbols)


class _Payload(NamedTuple):
    """A payload, of which so many steps are read."""

    data: bytes
    steps: int
    check: Check


class _Source:
    """The symbols of a payload's steps; then zeros."""

    def __init__(self, tables: Tables, payload: _Payload) -> None:
        self.steps, self.check = payload.steps, payload.check
        self.decoder = SymbolDecoder(tables, payload.data)
        self.checksum = 0

    def pop(self, indexes: NDArray[np.uint8]) -> NDArray[np.int32]:
        self.check()
        if not self.steps:
            return np.zeros(len(indexes), np.int32)
        self.steps -= 1
        values = self.decoder.pop(indexes)
        self.checksum = checksum(values, self.checksum)
        return values


def _whole(number: int) -> NDArray[np.int64]:
    return np.array(number, np.int64)
