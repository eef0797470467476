"""Deterministic stand-in weights and pictures for parity tests against the official HPCM code.

The official checkpoints cannot be downloaded on a test machine, so parity is tested on weights that anyone can
regenerate: every tensor is drawn from its own PCG64 stream, keyed by (seed, official parameter name), and scaled so
that latents, scales and rates stay in a realistic range. Names and shapes come from manifest_*.json.

    weights = reference_weights(json.load(open("manifest_base.json")), seed=1)   # {official name: float32 array}
    picture = reference_image(256, 256, seed=7)                                  # uint8, (H, W, 3)

Only NumPy is needed.
"""

from __future__ import annotations

import hashlib
import math
import re

import numpy as np

_PRIOR_HEAD = re.compile(r"y_spatial_prior_s\w+\.branch_2\.\d+\.weight")


def _stream(name: str, seed: int) -> np.random.Generator:
    key = int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "little")
    return np.random.Generator(np.random.PCG64(key))


def _gain(name: str) -> float:
    if name.endswith("branch.3.weight"):  # the last 1x1 convolution of a residual block
        return 0.3
    if name in ("g_a.branch.0.weight", "g_a.g_a_down1.weight"):  # spread the latents over several symbols
        return 6.0
    if _PRIOR_HEAD.fullmatch(name):
        return 0.2
    if name.startswith("attn_"):
        return 0.5
    return 1.0


def reference_weights(manifest: dict[str, list[int]], seed: int) -> dict[str, np.ndarray]:
    """Draws one float32 array per entry of `manifest` (official parameter name -> shape)."""
    lifted = set()  # biases whose first half (the scales) is lifted, so that predicted scales stay positive
    for prefix in ("h_s.", "y_spatial_prior_s1_s2.branch_2.", "y_spatial_prior_s3.branch_2."):
        lifted.add([n for n in manifest if n.startswith(prefix) and n.endswith(".bias")][-1])
    weights = {}
    for name, shape in manifest.items():
        draw = _stream(name, seed).standard_normal(tuple(shape), dtype=np.float32)
        if name.endswith(".bias"):
            value = (0.1 * draw).astype(np.float32)
            if name in lifted:
                value[: value.shape[0] // 2] += np.float32(1.5)
        elif name == "scales_hyper":
            value = np.exp(0.5 * draw)
        elif name == "means_hyper":
            value = 0.5 * draw
        elif name.startswith("adaptive_params_list."):
            value = 1 + 0.1 * draw
        else:
            fan_in = int(np.prod(shape[1:]))
            value = draw / np.float32(math.sqrt(fan_in)) * np.float32(_gain(name))
        weights[name] = np.ascontiguousarray(value, dtype=np.float32)
    return weights


def reference_image(height: int, width: int, seed: int) -> np.ndarray:
    """A picture of summed sinusoids and noise: uint8, (height, width, 3)."""
    rng = np.random.Generator(np.random.PCG64(seed))
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    picture = np.zeros((height, width, 3))
    for channel in range(3):
        for _ in range(12):
            frequency = rng.uniform(0.002, 0.12, 2)
            phase = rng.uniform(0, 6.28)
            amplitude = rng.uniform(5, 30)
            picture[..., channel] += amplitude * np.sin(6.28 * (frequency[0] * rows + frequency[1] * columns) + phase)
    picture += 128 + rng.normal(0, 4, picture.shape)
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)
