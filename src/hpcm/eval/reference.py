"""The authors' released code, timed on the same weights and the same picture; for `hpcm bench --against PATH`.

PATH is a checkout of LIC-HPCM. Nothing of it is part of this package, so this is all that is expected of it:

    src/models/HPCM_Base.py, HPCM_Large.py or HPCM_Base_PhiContext.py   a class HPCM without arguments, a nn.Module
    HPCM.state_dict()                                   parameters under the names that convert/official.py knows
    HPCM.update(scale_table)                            a tensor of SCALES scales
    HPCM.compress(x) -> {"strings", "shape"}            x [1, 3, H, W] in 0..1, sides multiples of MULTIPLE
    HPCM.decompress(strings, shape) -> {"x_hat"}

Its entropy coder must be compiled first, as its README says. Its constructors ask for CUDA; on a machine without, they
are given the CPU instead. It is imported into this process, under the name `src`: only use a checkout that you trust.
"""

from __future__ import annotations

import importlib
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.overrides import TorchFunctionMode

from ..convert.official import official_names
from ..errors import UsageError
from ..model.config import MODELS, Config
from ..nn.hpcm import HPCM
from .learned import KNOWN, Timed, speed

MODULES = {"base": "HPCM_Base", "large": "HPCM_Large", "base-phi": "HPCM_Base_PhiContext"}
SCALES, SMALLEST, LARGEST = 60, 0.12, 64.0  # its scale table
MULTIPLE = 256  # pixels: its attention windows


class ReferenceCode:
    """The authors' network with the weights of a model of ours. Raises UsageError."""

    def __init__(self, checkout: Path, model: HPCM, device: str) -> None:
        self._device = device
        if not (checkout / "src" / "models").is_dir():
            raise UsageError(f"{checkout} is no checkout of LIC-HPCM, {' or '.join(KNOWN)}: it has no src/models")
        module = MODULES[architecture(model.config)]
        if not (checkout / "src" / "models" / f"{module}.py").is_file():
            raise UsageError(f"{checkout} is no checkout of LIC-HPCM: it has no src/models/{module}.py")
        sys.path.insert(0, str(checkout))
        try:
            with CudaIs(device):
                self._net = importlib.import_module(f"src.models.{module}").HPCM()
        except ImportError as error:
            raise UsageError(f"the authors' code can't be imported: {error}; see its README") from error
        finally:
            sys.path.remove(str(checkout))
        theirs, ours = self._net.state_dict(), model.state_dict()
        names = official_names(model)
        if missing := set(names.values()) - theirs.keys():
            raise UsageError(f"the authors' code at {checkout} has no parameter {min(missing)}")
        weights = {their: ours[own].reshape(theirs[their].shape) for own, their in names.items()}
        self._net.load_state_dict(weights, strict=False)  # what else it has are buffers of its coder
        self._net.eval().requires_grad_(False)
        self._net.update(torch.exp(torch.linspace(math.log(SMALLEST), math.log(LARGEST), SCALES)))
        self._net.to(device)

    def speed(self, image: Image.Image, repeats: int, timed: Timed) -> dict[str, float]:
        """Medians in seconds of a picture's compress and decompress, after one run of each."""
        return speed(self._net, image, MULTIPLE, self._device, repeats, timed)[0]


def architecture(config: Config) -> str:
    """Which of MODULES a model is. Raises UsageError."""
    free = ("name", "hyper_placement", "likelihood", "carrier", "transforms", "levels", "lambda_min", "lambda_max")
    own = {name: getattr(config, name) for name in free}
    for name in MODULES:
        if replace(MODELS[name], **own) == config:
            return name
    raise UsageError(f"the authors' code has no model like {config.name}: --against is for {', '.join(MODULES)}")


class CudaIs(TorchFunctionMode):
    """Where tensors are made with device="cuda", they are made on this device instead."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if options.get("device") == "cuda":
            options["device"] = self._device
        return function(*args, **options)
