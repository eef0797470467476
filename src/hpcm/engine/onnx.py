"""The engine without torch: ONNX Runtime on the CPU, for exact models without attention.

A *graph* is a network as ONNX, exported by `engine.export`, without its weights: what it needs of them it names, and is
given from the weights file, so that weights are stored once. A model has these graphs, for any batch and size:

    g_a, h_a, h_s, g_s      x -> out
    adaptor-SCALE           context, y_hat -> adapted; the same graph for all steps of a scale, with each one's weights
    prior-INDEX             adapted, gain, context -> psi
    context-INDEX           x -> out, a 1x1 convolution between scales, where a model has them
    layer-SHAPE             the bare sums of a kind of exact convolution, for the probe

They are in the weights file, where `hpcm exact` writes them.

**Exactness.** ONNX Runtime may fuse operations and choose layouts. A convolution's sums stay exact in any order; what
must not happen is that something inexact is added into them before they are complete. ONNX Runtime does fuse a residual
addition into the convolution before it where it may: in its blocked layout if both operands have it, which rounding,
the beginning of every exact convolution, prevents; and in the plain layout (seen in 1.32) if it knows when it loads a
graph that both have the same shape. So the graphs must keep their sides open, as `DYNAMIC` in export.py has them: with
fixed shapes the sums would not be exact, and the probe, whose graphs hold no additions, would not notice.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from ..errors import UsageError, WeightsError
from ..model import storage
from ..model.config import HYPER_STRIDE, LATENT_STRIDE, PICTURE_CHANNELS, Config
from ..model.exact_layers import EXPONENT, Layer
from ..nn.arrays import Array, Arrays, NumpyArrays
from ..nn.exact.bound import check
from ..nn.exact.probe import Case, cases, compare
from ..nn.gains import KNOTS, between
from ..nn.loop import Loop
from ..nn.schedule import Step
from ..util.hardware import available_memory, cores

OPSET = 17
PREFIX = "net."  # of weights' names in a graph; behind it the name in the module
LEAST_POOL = 2 << 30  # bytes
OLDEST = "1.20"  # ONNX Runtime that is known to do
OUT_OF_MEMORY = ("Available memory", "Failed to allocate")  # ONNX Runtime's words


def unsuited(config: Config) -> str | None:
    """Why a model can't be run by this engine; None if it can."""
    if not config.carrier:
        return "it isn't exact (`hpcm exact` makes it so)"
    if config.fusion == "attention":
        return "it has attention"
    if config.carrier != "float32":
        return f"its sums are of the kind {config.carrier}, which only PyTorch computes"
    return None


_NETWORKS: weakref.WeakSet[OnnxNetworks] = weakref.WeakSet()  # of this process


def _after_fork() -> None:
    for networks in _NETWORKS:
        networks.forget_sessions()


if hasattr(os, "register_at_fork"):  # not on Windows, which doesn't fork
    os.register_at_fork(after_in_child=_after_fork)


def layer_graph(layer: Layer) -> str:
    return "layer-" + "x".join(map(str, layer.weight.shape))


class OnnxNetworks(Loop):
    """The networks of an exact model. Sessions are made when they are first used; several threads may use one."""

    arrays: Arrays = NumpyArrays()

    def __init__(
        self,
        config: Config,
        parameters: Mapping[str, np.ndarray],
        graphs: Mapping[str, bytes],
        threads: int | None = None,
        what: str = "the model",
    ) -> None:
        """Raises WeightsError where bounds don't hold, MismatchError where this machine's sums aren't exact."""
        self.config, self.what = config, what
        self.threads = threads or cores()
        self._parameters, self._graphs = parameters, graphs
        self._sessions: dict[str, Any] = {}
        self._lock = threading.Lock()
        _NETWORKS.add(self)
        try:
            found = check(parameters, config)
        except KeyError as error:
            raise WeightsError(f"{what}: the weights don't fit their configuration: no {error}") from error
        except (IndexError, TypeError, ValueError) as error:
            raise WeightsError(f"{what}: the weights don't fit their configuration: {error}") from error
        self._probe(cases(found, config.carrier))

    def analyse(self, x: Array) -> Array:
        return self._run("g_a", "g_a", (self.config.M, 1 / LATENT_STRIDE), x=x)

    def hyper_analyse(self, y: Array) -> Array:
        return self._run("h_a", "h_a", (self.config.N, LATENT_STRIDE / HYPER_STRIDE), x=y)

    def hyper_synthesise(self, z_hat: Array) -> Array:
        return self._run("h_s", "h_s", (2 * self.config.M, HYPER_STRIDE / LATENT_STRIDE), x=z_hat)

    def parameters_of(self, step: Step, context: Array, y_hat: Array, level: Array) -> Array:
        later = step.index - 1
        made = (self.config.prior_width, 1)
        adapted = self._run(f"adaptor-{step.scale}", f"adaptors.{later}", made, context=context, y_hat=y_hat)
        gain = between(self.numbers(f"gains.{later}"), level, self.config.levels)
        index = 1 if step.scale == 2 and self.config.prior_fine else 0
        feeds = {"context": context} if self.config.refine else {}
        made = (2 * self.config.M, 1)
        return self._run(f"prior-{index}", f"priors.{index}", made, adapted=adapted, gain=gain, **feeds)

    def between_scales(self, scale: int, context: Array) -> Array:
        return self._run(f"context-{scale - 1}", f"context_nets.{scale - 1}", (2 * self.config.M, 1), x=context)

    def fuse(self, step: Step, psi: Array, context: Array) -> Array:
        raise NotImplementedError("models with attention are run by torch")

    def synthesise(self, y_hat: Array) -> Array:
        return self._run("g_s", "g_s", (PICTURE_CHANNELS, LATENT_STRIDE), x=y_hat)

    def numbers(self, name: str) -> Array:
        config = self.config
        channels = config.N if name.startswith("z_") else config.M if name.startswith("y_") else config.prior_width
        rows = KNOTS if config.levels > 1 else 1
        shape = (1, channels, 1, 1) if name in ("z_means", "z_scales") else (rows, channels)
        found = self._number(name if name in self._parameters else f"{name}.knots")
        if found.shape != shape:
            raise WeightsError(f"{self.what}: {name} has the shape {found.shape} instead of {shape}")
        return found

    # ---- sessions ---------------------------------------------------------------------------------------------------

    def forget_sessions(self) -> None:
        """After a fork, whose child has none of a session's threads. Without them it may wait for ever.

        When it is freed, it surely does: so it never is.
        """
        self._lock = threading.Lock()  # another thread of the parent may have held it
        if self.threads > 1:
            for session in self._sessions.values():
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))
            self._sessions = {}

    def _number(self, name: str) -> np.ndarray:
        try:
            return storage.floats(self._parameters, name)
        except KeyError as error:
            raise WeightsError(f"{self.what}: the weights don't fit their configuration: no {error}") from error

    def _run(self, graph: str, module: str, made: tuple[int, float], **feeds: Array) -> Array:
        """What a graph makes of [B, C, h, w]: `made[0]` channels, with `made[1]` times the rows and columns."""
        session = self._sessions.get(module)
        if session is None:
            with self._lock:
                session = self._sessions.get(module) or self._session(graph, f"{module}.")
                self._sessions[module] = session
        try:
            (out,) = session.run(None, feeds)
        except Exception as error:  # ONNX Runtime's own, of several kinds
            raise self._unfit(graph, error) from error
        batch, _, *sides = next(iter(feeds.values())).shape
        shape = (batch, made[0], *(int(side * made[1]) for side in sides))
        if out.dtype != np.float32 or out.shape != shape:
            raise WeightsError(f"{self.what}: graph {graph} gives {out.dtype} {out.shape} instead of float32 {shape}")
        return out

    def _session(self, graph: str, prefix: str, only: Sequence[str] | None = None) -> Any:
        """A graph with the weights of a module, all or `only` some. Raises WeightsError where they don't fit."""
        names = [name for name in self._parameters if name.startswith(prefix) and not name.endswith(EXPONENT)]
        names = names if only is None else [prefix + name for name in only]
        weights = {PREFIX + name.removeprefix(prefix): self._number(name) for name in names}
        if graph not in self._graphs:
            raise WeightsError(f"{self.what} has no graph {graph}: make it exact again")
        try:
            return session(self._graphs[graph], weights, self.threads)
        except UsageError:
            raise
        except Exception as error:  # ONNX Runtime's own, of several kinds
            raise self._unfit(graph, error) from error

    def _unfit(self, graph: str, error: Exception) -> Exception:
        reason = " ".join(str(error).split())
        if any(words in reason for words in OUT_OF_MEMORY):
            return MemoryError(reason)
        return WeightsError(f"{self.what}: graph {graph} doesn't fit its weights: {reason}")

    def _probe(self, these: Iterable[Case]) -> None:
        def run(case: Case) -> np.ndarray:
            prober = self._session(layer_graph(case.layer), f"{case.layer.name}.", ("weight", "bias"))
            try:
                (sums,) = prober.run(None, {"x": case.m.astype(np.float32)})
                return sums[:, case.channels].astype(np.float64)
            except Exception as error:  # ONNX Runtime's own, of several kinds, and numpy's about other shapes
                raise self._unfit(layer_graph(case.layer), error) from error

        compare(these, run, "ONNX Runtime")


def runtime() -> Any:
    """ONNX Runtime. Nothing else imports it, because its telemetry has to be off before.

    Since 1.32 it otherwise writes an identifier of the device below the user's home and sends events to its maker. Who
    wants that can set ORT_DISABLE_TELEMETRY=0.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def session(graph: bytes, weights: Mapping[str, np.ndarray], threads: int, **settings: Any) -> Any:
    """An ONNX Runtime session on the CPU; `settings` are attributes of its options. Raises UsageError, and its own."""
    onnxruntime = runtime()
    options = onnxruntime.SessionOptions()
    if not hasattr(options, "add_external_initializers"):
        raise UsageError(f"onnxruntime {onnxruntime.__version__} is too old: {OLDEST} or later is needed")
    options.intra_op_num_threads = threads
    _share_memory()
    options.add_session_config_entry("session.use_env_allocators", "1")
    # A forged graph may want weights that aren't given; ONNX Runtime would look for them in the working directory.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    options.log_severity_level = 4  # what goes wrong is told by an exception
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # others share the machine
    for name, value in settings.items():
        setattr(options, name, value)
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
    options.add_external_initializers(list(weights), values)
    made = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    made.weights = values  # which it doesn't copy
    return made


@cache
def _share_memory() -> None:
    """One pool of memory for all sessions, instead of one for each: half the peak (docs/log.md).

    It holds no more than the machine has free now, or LEAST_POOL where little is: a forged graph that asks for more is
    an error, not the process's end.
    """
    onnxruntime = runtime()
    arena = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    where = onnxruntime.OrtMemoryInfo("Cpu", arena, 0, onnxruntime.OrtMemType.DEFAULT)
    most = onnxruntime.OrtArenaCfg({"max_mem": max(available_memory(), LEAST_POOL)})
    onnxruntime.create_and_register_allocator(where, most)
