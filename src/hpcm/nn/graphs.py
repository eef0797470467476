"""Work on a GPU as CUDA graphs.

A model of few multiplications is some hundreds of short kernels for each picture, which Python starts more slowly than
a GPU computes them. A graph holds many: it is recorded once for each size, and replayed with other numbers.

Decoding needs the host in between: the symbols of a step come from the entropy decoder, which has to know the step's
scales. So there is a graph for all that lies between two of its answers, and one small copy each way:

    graph of z -- ask --> host -- symbols --> graph of step 0 -- ask --> host -- symbols --> graph of step 1 ...

What is recorded is an ordinary function of tensors. It is given `ask`, a function as well, and where it calls that a
graph ends and the next begins. So the coding loop knows no graphs.
"""

from __future__ import annotations

import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .kept import holding

LOG = logging.getLogger(__name__)

KEPT = 32  # functions of one size each; the one that wasn't used for longest is given up
MOST_LATENTS = 1 << 15  # places of y, from which on computing takes longer than starting kernels

Ask = Callable[[Tensor], Tensor]  # on the device -> an answer of the same shape, int32, on the device
Answer = Callable[[Tensor], Tensor]  # the same on the host
Begin = Callable[[], Answer]  # what the host says, from the first question on
Function = Callable[[Ask, Sequence[Tensor]], Sequence[Tensor]]  # (ask, inputs) -> outputs


class Exchange(NamedTuple):
    """Where a function asks the host: what it asks and what it is answered, on the device and in pinned memory."""

    question: Tensor
    answer: Tensor
    host_question: Tensor
    host_answer: Tensor


class Recorded:
    """A function as graphs, for inputs of the shapes and types of these."""

    def __init__(self, function: Function, inputs: Sequence[Tensor], pool: Any = None) -> None:
        """`pool` is the memory that it works in. Raises RuntimeError where something can't be recorded."""
        self.pool = pool
        self.inputs = [x.clone() for x in inputs]
        self.graphs: list[torch.cuda.CUDAGraph] = []
        self.exchanges: list[Exchange] = []
        with _aside(inputs[0].device):
            function(_zeros, self.inputs)  # kernels are chosen, masks and workspaces made: none of it may be recorded
            with self._recording(), holding() as self.held:
                self.outputs = function(self._exchange, self.inputs)

    def __call__(self, answer: Answer, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """The function's outputs, which hold until the next call."""
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given, non_blocking=True)
        *before, last = self.graphs
        for graph, exchange in zip(before, self.exchanges, strict=True):
            graph.replay()
            exchange.host_question.copy_(exchange.question)  # waits until it is there
            exchange.host_answer.copy_(answer(exchange.host_question))
            exchange.answer.copy_(exchange.host_answer, non_blocking=True)
        last.replay()
        return self.outputs

    @contextlib.contextmanager
    def _recording(self) -> Iterator[None]:
        self._begin()
        try:
            yield
        except BaseException:
            with contextlib.suppress(RuntimeError):  # a recording that failed may have ended already
                self.graphs[-1].capture_end()
            raise
        self.graphs[-1].capture_end()

    def _begin(self) -> None:
        """Begins the next graph."""
        graph = new_graph()
        graph.capture_begin(self.pool, capture_error_mode="thread_local")  # other threads' calls are not bound by it
        self.graphs.append(graph)

    def _exchange(self, question: Tensor) -> Tensor:
        """What the function is given as `ask` while it is recorded."""
        self.graphs[-1].capture_end()
        answer = torch.zeros_like(question, dtype=torch.int32)
        self.exchanges.append(Exchange(question, answer, _pinned_like(question), _pinned_like(answer)))
        self._begin()
        return answer


def new_graph() -> torch.cuda.CUDAGraph:
    return torch.cuda.CUDAGraph()


@contextlib.contextmanager
def _aside(device: torch.device) -> Iterator[None]:
    """On a stream of its own, as CUDA asks of recordings and torch of what comes before one."""
    torch.cuda.synchronize(device)
    aside = torch.cuda.Stream(device)
    with torch.cuda.stream(aside):  # on its device, too
        yield
    aside.synchronize()


def _zeros(question: Tensor) -> Tensor:
    return torch.zeros_like(question, dtype=torch.int32)


def _pinned_like(tensor: Tensor) -> Tensor:
    """On the host, from where the GPU can copy by itself."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)


def silent() -> Answer:
    """Of functions that ask nothing."""
    return _zeros


class Runner:
    """Runs functions on a device, on a CUDA device from the second time on as graphs.

    The first time is as quick without, and many sizes come once. Large ones are never recorded: starting kernels is
    then little of the work, and a graph keeps all its memory. Used by one thread at a time.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.records = device.type == "cuda"
        # All functions work in the same memory: one runs at a time, and begins with its inputs, which lie elsewhere.
        self._pool = torch.cuda.graph_pool_handle() if self.records else None
        self._kept: OrderedDict[Hashable, Recorded | None] = OrderedDict()  # None: has run once

    def __call__(
        self,
        key: Hashable,
        function: Function,
        inputs: Sequence[Tensor],
        latents: int,
        begin: Begin = silent,
    ) -> Sequence[Tensor]:
        """The function's outputs, on the device, which hold until the next call.

        Args:
            key: of the function; with the inputs' shapes it decides what is recorded.
            inputs: on the host.
            latents: places of y that the function works on, of all pictures.
            begin: gives what the host says where the function asks. It is called again if the function has to begin
                anew, for lack of memory.
        """
        try:
            recorded = None
            if self.records and latents <= MOST_LATENTS:
                recorded = self._recorded((key, *((x.shape, x.dtype) for x in inputs)), function, inputs)
            if recorded is not None:
                return recorded(begin(), inputs)
            return self._run(function, inputs, begin())
        except torch.cuda.OutOfMemoryError:
            if not self._kept:
                raise
            self._kept.clear()
            torch.cuda.empty_cache()
        return self._run(function, inputs, begin())

    def _run(self, function: Function, inputs: Sequence[Tensor], answer: Answer) -> Sequence[Tensor]:
        return function(lambda question: answer(question.cpu()).to(self.device), self._moved(inputs))

    def _recorded(self, key: Hashable, function: Function, inputs: Sequence[Tensor]) -> Recorded | None:
        """The function as graphs; None the first time, and where it can't be recorded."""
        if key not in self._kept:
            self._kept[key] = None
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return None
        self._kept.move_to_end(key)
        recorded = self._kept[key]
        if recorded is None:
            recorded = self._kept[key] = self._record(function, inputs)
        return recorded

    def _record(self, function: Function, inputs: Sequence[Tensor]) -> Recorded | None:
        try:
            return Recorded(function, self._moved(inputs), self._pool)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self.records = False
            LOG.warning("%s can't record CUDA graphs, works on without: %s", self.device, str(error).partition("\n")[0])
            return None

    def _moved(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        return [x.to(self.device) for x in inputs]
