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

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ...convert.official import official_names
from ...errors import UsageError
from ...model.config import MODELS, Config
from ...nn.hpcm import HPCM
from .checkouts import module_of
from .learned import KNOWN
from .runners import TensorCodec

MODULES = {"base": "HPCM_Base", "large": "HPCM_Large", "base-phi": "HPCM_Base_PhiContext"}
SCALES, SMALLEST, LARGEST = 60, 0.12, 64.0  # its scale table
MULTIPLE = 256  # pixels: its attention windows


def check(checkout: Path, config: Config) -> None:
    """Raises UsageError where a folder has no code for a model of ours."""
    if not (checkout / "src" / "models").is_dir():
        known = ", ".join(["LIC-HPCM", *KNOWN])
        raise UsageError(f"{checkout} is no checkout of any of {known}: it has no src/models")
    module = MODULES[architecture(config)]
    if not (checkout / "src" / "models" / f"{module}.py").is_file():
        raise UsageError(f"{checkout} is no checkout of LIC-HPCM: it has no src/models/{module}.py")


def load(checkout: Path, model: HPCM, device: str) -> TensorCodec:
    """The authors' network with the weights of a model of ours in floating point. Raises UsageError."""
    check(checkout, model.config)
    module = MODULES[architecture(model.config)]
    try:
        with CudaIs(device):
            net = module_of(checkout, f"src.models.{module}", keep=True).HPCM()  # it imports its coder when it runs
    except ImportError as error:
        raise UsageError(f"the authors' code can't be imported: {error}; see its README") from error
    theirs, ours = net.state_dict(), model.state_dict()
    names = official_names(model)
    if missing := set(names.values()) - theirs.keys():
        raise UsageError(f"the authors' code at {checkout} has no parameter {min(missing)}")
    weights = {their: ours[own].reshape(theirs[their].shape) for own, their in names.items()}
    net.load_state_dict(weights, strict=False)  # what else it has are buffers of its coder
    net.eval().requires_grad_(False)
    net.update(torch.exp(torch.linspace(math.log(SMALLEST), math.log(LARGEST), SCALES)))
    return TensorCodec(net.to(device), MULTIPLE, device)


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
