"""DCVC-UF-Intra, the intra codec of Microsoft's DCVC-UF (arXiv 2606.04410), from a checkout of microsoft/DCVC.

Nothing of it is part of this package, so this is all that is expected of the checkout:

    src/models/image_model.py      a class DMCI without arguments, a nn.Module
    DMCI.forward_one_frame(x, qp, recon_only=True)      x [1, 3, 256, 256], qp [1]: counted, on the CPU
    DMCI.update(skip_thres)                             makes the tables of its coder
    DMCI.get_padding_size(height, width, multiple) -> right, bottom
    DMCI.compress(x, qp, bottom, right) -> {"bit_stream", "ec_parallel", ...}      x [1, 3, H, W], float16
    DMCI.decompress(bit_stream, {"height", "width"}, qp, ec_parallel) -> {"x_hat"}
    src/utils/transforms.py        rgb2ycbcr(x), to what the network takes
    src/utils/common.py            get_state_dict(path), of WEIGHTS

Its compress and decompress run on NVIDIA's GPUs alone, by two packages that are compiled from the checkout, EXTENSIONS.
On a CPU its parameters and multiplications are counted. It takes one picture at a time. Pictures go in as float16 in
Y'CbCr, on the GPU, and come back so: that is what its authors time. Their settings are taken, too: the threshold below
which scales are skipped, and a CUDA stream of its own, because CUDA graphs can't be captured on the default one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ...errors import UsageError
from ..cost import SIDE
from .checkouts import OtherCodec, counted, module_of
from .runners import tensor_of

NAME = "DCVC-UF-Intra"
MARK = "src/layers/extensions/inference/dmci_proxy.h"  # its predecessors, which are in the same repository, have none
WEIGHTS = "checkpoints/cvpr2026_image.pth.tar"  # where its README puts them
EXTENSIONS = ("MLCodec_extensions_cpp", "inference_extensions_cuda")
QP = 32  # of 64
MULTIPLE = 16  # pixels to which its own test pads
SKIP_THRESHOLD = 0.15  # of scales, in its own measurement of speed


def open_checkout(checkout: Path, device: str = "cpu") -> OtherCodec:
    """The codec of a checkout. Raises UsageError where it can't be used."""
    on_gpu = torch.device(device).type == "cuda"
    missing = [package for package in EXTENSIONS if find_spec(package) is None]
    if on_gpu and missing:
        raise UsageError(
            f"{NAME} needs {' and '.join(missing)}: in {checkout}, with CUTLASS 4.4.1 in third_party/cutlass, run "
            "`bash install.sh` in src/cpp and in src/layers/extensions/inference"
        )
    torch.manual_seed(0)
    try:
        code: Any = module_of(checkout, "src.models.image_model")
        colours: Any = module_of(checkout, "src.utils.transforms")
        net = code.DMCI().eval().requires_grad_(False)
        weights = "random weights"
        if (checkout / WEIGHTS).is_file():
            common: Any = module_of(checkout, "src.utils.common")
            net.load_state_dict(common.get_state_dict(str(checkout / WEIGHTS)))
            weights = f"the weights in {WEIGHTS}"
    except (ImportError, RuntimeError) as error:  # the latter: weights of another network
        raise UsageError(f"the code of {NAME} can't be used: {str(error).partition(chr(10))[0]}") from error
    x, qp = torch.rand(1, 3, SIDE, SIDE) - 0.5, torch.tensor([QP])
    kmacs = counted(lambda: net.forward_one_frame(x, qp, recon_only=True))
    untimed = "" if on_gpu else "its kernels need CUDA"
    count = sum(map(torch.numel, net.parameters()))
    return OtherCodec(NAME, count, kmacs, weights, lambda: DcvcCodec(net, colours.rgb2ycbcr, device), untimed)


class DcvcCodec:
    """Its network on a GPU, as a `runners.Runner`."""

    products = "float16"

    def __init__(self, net: Any, to_ycbcr: Any, device: str) -> None:
        net.update(SKIP_THRESHOLD)
        self._net = net.half().to(device).to(memory_format=torch.channels_last)
        self._to_ycbcr, self._device = to_ycbcr, device
        self._stream = torch.cuda.Stream(device)

    def load(self, pictures: Sequence[Image.Image]) -> list[Tensor]:
        """x [1, 3, H, W] of each, in -0.5..0.5."""
        with self._running():
            xs = [self._to_ycbcr(tensor_of(picture, self._device)).half() - 0.5 for picture in pictures]
            return [x.to(memory_format=torch.channels_last) for x in xs]

    def encode(self, loaded: Sequence[Tensor]) -> list[tuple[dict[str, Any], dict[str, int]]]:
        """Of each picture what its compress gives, and its size."""
        with self._running():
            return [self._encoded(x) for x in loaded]

    def decode(self, coded: Sequence[tuple[dict[str, Any], dict[str, int]]]) -> list[Any]:
        with self._running():
            return [
                self._net.decompress(one["bit_stream"], size, QP, one["ec_parallel"])["x_hat"] for one, size in coded
            ]

    def size(self, coded: Sequence[tuple[dict[str, Any], dict[str, int]]]) -> int:
        return sum(len(one["bit_stream"]) for one, _ in coded)

    def _encoded(self, x: Tensor) -> tuple[dict[str, Any], dict[str, int]]:
        height, width = x.shape[2:]
        right, bottom = self._net.get_padding_size(height, width, MULTIPLE)
        return self._net.compress(x, QP, bottom, right), {"height": height, "width": width}

    @contextmanager
    def _running(self) -> Iterator[None]:
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            yield
