"""Torch's tensors on a device as the coding loop's arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class TorchArrays:
    """Pictures and latents are channels-last, which convolutions like."""

    device: torch.device

    def put(self, array: np.ndarray) -> Tensor:
        with torch.inference_mode(False):  # what is cached must be of use to training too
            tensor = torch.from_numpy(np.require(array, requirements=["C", "W"])).to(self.device)
            return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor

    def get(self, array: Tensor) -> np.ndarray:
        return array.cpu().numpy()

    def sum_cells(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2, divisor_override=1)

    def repeat_cells(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="nearest")
