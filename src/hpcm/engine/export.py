"""From a torch model to graphs that ONNX Runtime runs; see engine/onnx.py for what they are."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any, NamedTuple

import onnx
import torch
from torch import Tensor, nn

from ..errors import WeightsError
from ..model.exact_layers import layers
from ..nn.hpcm import HPCM
from .graph import check
from .onnx import OPSET, PREFIX, layer_graph, unsuited

SIDE = 8  # of the latent that is traced; graphs take any
DYNAMIC = {0: "batch", 2: "height", 3: "width"}


class _Adaptor(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, context: Tensor, y_hat: Tensor) -> Tensor:
        return self.net(torch.cat((context, y_hat), 1))


class _Prior(nn.Module):
    def __init__(self, net: nn.Module, refine: bool) -> None:
        super().__init__()
        self.net, self.refine = net, refine

    def forward(self, adapted: Tensor, gain: Tensor, context: Tensor) -> Tensor:
        psi = self.net(adapted, gain)
        return context + psi if self.refine else psi


class _Plain(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class _Layer(nn.Module):
    """The sums of an exact convolution without the rounding of its inputs, for the probe."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net.convolve(x)


class _Network(NamedTuple):
    """What is exported: a graph's name, a module, and its inputs."""

    graph: str
    module: nn.Module
    inputs: Mapping[str, tuple[int, ...]]


def graphs(model: HPCM) -> dict[str, bytes]:
    """The graphs of an exact model without attention, by name. Raises WeightsError for others."""
    if why := unsuited(model.config):
        raise WeightsError(f"{model.config.name} has no graphs for ONNX Runtime: {why}")
    return {network.graph: _graph(network) for network in _networks(model)}


def _networks(model: HPCM) -> Iterator[_Network]:
    config, h = model.config, SIDE
    shapes = {
        "g_a": (3, 16 * h, 16 * h),
        "h_a": (config.M, h, h),
        "h_s": (config.N, h // 4, h // 4),
        "g_s": (config.M, h, h),
    }
    for name, shape in shapes.items():
        yield _Network(name, _Plain(getattr(model, name)), {"x": (1, *shape)})
    context, y_hat = (1, 2 * config.M, h, h), (1, config.M, h, h)
    scales = [scale for scale, count in enumerate(config.steps) for _ in range(count)][1:]
    for scale in sorted(set(scales)):
        adaptor = _Adaptor(model.adaptors[scales.index(scale)])
        yield _Network(f"adaptor-{scale}", adaptor, {"context": context, "y_hat": y_hat})
    adapted = {"adapted": (1, config.prior_width, h, h), "gain": (1, config.prior_width, 1, 1), "context": context}
    for index, prior in enumerate(model.priors):
        yield _Network(f"prior-{index}", _Prior(prior, config.refine), adapted)
    for index, net in enumerate(model.context_nets):
        yield _Network(f"context-{index}", _Plain(net), {"x": context})
    for graph, layer in {layer_graph(layer): layer for layer in layers(model.arrays_by_name(), config.carrier)}.items():
        yield _Network(graph, _Layer(model.get_submodule(layer.name)), {"x": (1, layer.inputs, h, h)})


def _graph(network: _Network) -> bytes:
    module = deepcopy(network.module).eval()
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data = torch.rand(tensor.shape)  # the exporter merges weights that are equal
    inputs = {name: torch.rand(shape) for name, shape in network.inputs.items()}
    traced = io.BytesIO()
    export: Callable[..., Any] = torch.onnx.export
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is deprecated; the other one needs another package
        export(
            module,
            tuple(inputs.values()),
            traced,
            opset_version=OPSET,
            dynamo=False,
            do_constant_folding=False,
            input_names=list(inputs),
            output_names=["out"],
            dynamic_axes={name: DYNAMIC if name != "gain" else {0: "batch"} for name in ("out", *inputs)},
        )
    return _skeleton(onnx.load_from_string(traced.getvalue()))


def _skeleton(model: onnx.ModelProto) -> bytes:
    """The graph without its weights, whose places are kept by name."""
    for node in model.graph.node:
        node.ClearField("doc_string")
    for tensor in model.graph.initializer:
        if tensor.name.startswith(PREFIX):
            for field in ("raw_data", "float_data"):
                tensor.ClearField(field)
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="weights")
    made: bytes = model.SerializeToString(deterministic=True)
    check(made)  # as every reader will
    return made
