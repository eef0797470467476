"""Makes ARCH-256x256.npz: what the released code computes from the weights and the picture of recipe.py.

    python tests/parity/make.py CHECKOUT large base-phi 1b      (CHECKOUT: LIC-HPCM at c271cfe; 1b takes 9 GB)

Nothing of the released code is in this project; it needs einops and scipy. Its entropy coder isn't needed here and
needn't be compiled; its constructors ask for CUDA and get the CPU. Of the tensors every 16th channel and every 4th
pixel are kept.

    y_symbols [1, M, h, w], z_symbols [1, N, h/4, w/4]    integers, all of them
    y_hat, scales, hyper_params, x_hat                    float32, by CHANNELS or PIXELS
    meta                                                  JSON: seeds, sizes, bits of y and of z, the strides
"""

import importlib
import json
import runpy
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import numpy as np
import torch

HERE = Path(__file__).parent
MODULES = {"large": "HPCM_Large", "base-phi": "HPCM_Base_PhiContext", "1b": "HPCM_1B"}
SEEDS, SIDE, CHANNELS, PIXELS = {"weight_seed": 1, "image_seed": 7}, 256, 16, 4


def network(arch: str) -> torch.nn.Module:
    """The released network with the recipe's weights."""
    coder = ModuleType("src.entropy_models._CXX")
    coder.pmf_to_quantized_cdf = None
    other = ModuleType("src.entropy_models.unbounded_ans")
    other.ubransEncoder = other.ubransDecoder = None
    sys.modules |= {coder.__name__: coder, other.__name__: other}
    ones = torch.ones
    with patch.object(torch, "ones", lambda *size, **options: ones(*size, **{**options, "device": "cpu"})):
        net = importlib.import_module(f"src.models.{MODULES[arch]}").HPCM()
    manifest = json.loads((HERE / f"manifest_{arch}.json").read_text())
    drawn = runpy.run_path(str(HERE / "recipe.py"))["reference_weights"](manifest, SEEDS["weight_seed"])
    weights = {name: torch.from_numpy(value) for name, value in drawn.items()}
    left = torch.nn.Module.load_state_dict(net, weights, strict=False, assign=True)
    assert not left.unexpected_keys
    return net.eval().requires_grad_(False)


def make(arch: str) -> None:
    net, seen = network(arch), {}
    net.h_a.register_forward_hook(lambda *call: seen.update(z=call[-1]))
    net.h_s.register_forward_hook(lambda *call: seen.update(hyper_params=call[-1]))
    coded = net.forward_hpcm

    def forward_hpcm(*given: object, **options: object) -> object:
        _, seen["y_symbols"], seen["y_hat"], seen["scales"] = result = coded(*given, **options)
        return result

    net.forward_hpcm = forward_hpcm
    picture = runpy.run_path(str(HERE / "recipe.py"))["reference_image"](SIDE, SIDE, SEEDS["image_seed"])
    with torch.no_grad():
        out = net(torch.from_numpy(picture).permute(2, 0, 1)[None] / 255)
    bits = {f"bits_{name}": float(-p.double().log2().sum()) for name, p in out["likelihoods"].items()}
    meta = {"model": arch, **SEEDS, "height": SIDE, "width": SIDE, "channels": CHANNELS, "pixels": PIXELS, **bits}
    arrays = {name: seen[name][:, ::CHANNELS].numpy() for name in ("y_hat", "scales", "hyper_params")}
    arrays["x_hat"] = out["x_hat"][:, :, ::PIXELS, ::PIXELS].numpy()
    arrays["y_symbols"] = seen["y_symbols"].numpy().astype(np.int16)
    arrays["z_symbols"] = (seen["z"] - net.means_hyper).round().numpy().astype(np.int16)
    np.savez_compressed(HERE / f"{arch}-{SIDE}x{SIDE}.npz", meta=json.dumps(meta), **arrays)
    print(meta)


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    for arch in sys.argv[2:]:
        make(arch)
