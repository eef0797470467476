"""Writes graphs.json: the networks of the bundled models as ONNX graphs, which the page's ONNX Runtime runs.

    python web/graphs.py        # once, whenever a bundled model's structure changes; needs torch and onnx

A graph holds no weights. It names them as in the weights file, and the page fills them in from there (src/onnx.js), so
models of the same structure share their graphs, whatever their weights. A model of this structure has these graphs, for
any batch and size:

    g_a, h_a, h_s, g_s      x -> out
    adaptor-SCALE           context, y_hat -> adapted; the same graph for all steps of a scale, with each one's weights
    prior-INDEX             adapted, gain, context -> psi
    context-INDEX           x -> out, a 1x1 convolution between scales, where a model has them

graphs.json is a list with an entry for each structure:

    structure    fields of the configuration
    sizes        {name: bytes of a graph}
    graphs       ONNX files in this order, one after the other, compressed by zlib together, in base64

**Exactness.** All sums are float32. Those of the entropy path need no more than 24 bits, so they are exact in any
order, as long as nothing inexact is added into them before they are complete. ONNX Runtime may fuse a residual addition
into the convolution before it: where it knows, when it loads a graph, that both have the same shape. So the graphs keep
their sides open (DYNAMIC). The sums of g_a, h_a and g_s may need 31 bits, so that here they round: pixels may differ by
one level, and the encoder may choose another symbol. What is decoded to y_hat is the same.
"""

from __future__ import annotations

import base64
import io
import json
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import torch
from torch import Tensor, nn

from hpcm.model.config import Config
from hpcm.model.file import SUFFIX, describe
from hpcm.model.find import ASSETS
from hpcm.nn.hpcm import HPCM

OUT = Path(__file__).parent / "graphs.json"
OPSET = 17
PREFIX = "net."  # of weights' names in a graph; behind it the name in the module
SIDE = 8  # of the latent that is traced; graphs take any
DYNAMIC = {0: "batch", 2: "height", 3: "width"}
NOT_STRUCTURE = ("name", "levels", "lambda_min", "lambda_max", "interpolation", "likelihood")


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


class _Network(NamedTuple):
    """What is exported: a graph's name, a module, and the shapes of its inputs."""

    graph: str
    module: nn.Module
    inputs: dict[str, tuple[int, ...]]


def main() -> None:
    configs = [describe(path).config for path in sorted(ASSETS.glob(f"*{SUFFIX}"))]
    structures: list[dict[str, Any]] = []
    for config in configs:
        structure = {field: value for field, value in config.items() if field not in NOT_STRUCTURE}
        if structure not in structures:
            structures.append(structure)
    entries = ",\n".join(json.dumps(_entry(structure)) for structure in structures)  # one a line
    OUT.write_text(f"[\n{entries}\n]\n")


def _entry(structure: dict[str, Any]) -> dict[str, Any]:
    model = HPCM(Config.from_dict({"name": "structure", **structure}))
    graphs = {network.graph: _graph(network) for network in _networks(model)}
    sizes = {name: len(graph) for name, graph in graphs.items()}
    packed = zlib.compress(b"".join(graphs.values()), zlib.Z_BEST_COMPRESSION)
    return {"structure": structure, "sizes": sizes, "graphs": base64.b64encode(packed).decode()}


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


def _graph(network: _Network) -> bytes:
    module = network.module.eval()
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data = torch.rand(tensor.shape)  # the exporter merges weights that are equal
    for layer in module.modules():
        if hasattr(layer, "carrier"):
            layer.carrier = "float32"  # torch's transforms sum in float64, which ONNX Runtime's WebAssembly hasn't
    inputs = {name: torch.rand(shape) for name, shape in network.inputs.items()}
    traced = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is deprecated; the other one needs another package
        torch.onnx.export(
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
    return _without_weights(onnx.load_from_string(traced.getvalue()))


def _without_weights(model: onnx.ModelProto) -> bytes:
    """The graph without its weights, whose places are kept by name."""
    for node in model.graph.node:
        node.ClearField("doc_string")
    for tensor in model.graph.initializer:
        if tensor.name.startswith(PREFIX):
            for field in ("raw_data", "float_data"):
                tensor.ClearField(field)
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="weights")
    return model.SerializeToString(deterministic=True)


if __name__ == "__main__":
    main()
