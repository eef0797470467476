"""Parameters and multiplications of a model, split by the parts of its network; no weights are needed."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..model.config import Config
from ..nn.hpcm import HPCM

SIDE = 256  # pixels, of the picture that published costs refer to
NETWORKS = {  # attribute of HPCM -> what it is called here
    **{name: name for name in ("g_a", "h_a", "h_s", "g_s")},
    "adaptors": "adaptors",
    "priors": "parameter networks",
    "fusions": "context fusion",
    "context_nets": "context between scales",
}
ENCODING = frozenset(NETWORKS.values()) - {"g_s"}
DECODING = frozenset(NETWORKS.values()) - {"g_a", "h_a"}


def kmacs(config: Config) -> dict[str, float]:
    """kMACs per pixel of a forward pass, by group, in the order of NETWORKS; groups without any are left out.

    Multiplications with addition in convolutions and matrix products are counted, by torch on the meta device.
    """
    model = _on_meta(config)
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, SIDE, SIDE, device="meta"))
    groups = dict.fromkeys(NETWORKS.values(), 0.0)
    counts = {name: sum(flops.values()) for name, flops in counter.get_flop_counts().items()}
    for name, group in NETWORKS.items():
        part = getattr(model, name)  # a list of networks isn't called itself: its members are
        called = [f"{name}.{k}" for k in range(len(part))] if isinstance(part, nn.ModuleList) else [name]
        groups[group] = per_pixel(sum(counts.get(f"HPCM.{key}", 0) for key in called))
    return {group: value for group, value in groups.items() if value}


def parameters(config: Config) -> int:
    """How many a model has."""
    return sum(parameter.numel() for parameter in _on_meta(config).parameters())


def per_pixel(flops: int) -> float:
    """kMACs per pixel, of what FlopCounterMode counts for a picture of SIDE x SIDE: two for each multiplication."""
    return flops / 2 / SIDE**2 / 1000


def _on_meta(config: Config) -> HPCM:
    """The model without weights. An exact one convolves as often as one in floating point."""
    plain = replace(config, carrier="", transforms="float")
    with torch.device("meta"):
        return HPCM(plain).eval().requires_grad_(False)
