"""A distortion of one's own: `hpcm train --loss FILE.py:FUNCTION`, or `train(..., own_loss=OwnLoss(function))`.

The function takes x_hat and x, float32 [B, 3, H, W], of which x is in 0..1 and x_hat isn't clamped. It gives one number
for each picture, [B] (or [B, 1, 1, 1]), or one for the batch. It is minimised, so it has a gradient with respect to
x_hat.

A run's folder holds the function's name, never its code, and no code is loaded because a file names it: who resumes a
run gives the function again.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from ..errors import UsageError

Function = Callable[[Tensor, Tensor], Tensor]  # (x_hat, x) -> [B] or a scalar

TRIAL_NOISE = 0.1  # deviation of what the pictures of a trial differ by


def is_own(loss: str) -> bool:
    """Whether a loss is none of hpcm's: its name then says where the function is."""
    return ":" in loss


class OwnLoss:
    """A distortion as `rate_distortion` calls it.

    Args:
        function: see the module's docstring. A torch module is brought to the device of the run and isn't trained.
        name: what a run's files state, such as "mine.py:sharpness"; by default where the function is defined.
    """

    def __init__(self, function: Function, name: str | None = None) -> None:
        described = function if hasattr(function, "__qualname__") else type(function)
        self.name = name or f"{described.__module__}:{described.__qualname__}"
        self.function = function
        self.one_by_one = False  # whether it is called for each picture of a batch

    def __call__(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """[B]; the same number for all pictures where the function gives one for the batch."""
        if self.one_by_one:
            pairs = zip(x_hat.split(1), x.split(1), strict=True)
            return torch.stack([self._values(a, b).reshape(()) for a, b in pairs])
        value = self._values(x_hat, x)
        return value.reshape(len(x)) if value.numel() == len(x) else value.reshape(()).expand(len(x))

    def prepare(self, crop: int, device: torch.device, levels: int) -> None:
        """Tries the function on two pictures of `crop` pixels a side, before a run begins.

        Where the model has several quality levels, each picture has a lambda of its own. So a function that gives one
        number for a batch is then called for each picture. Raises UsageError for what isn't a loss.
        """
        self._refuse_uncallable()
        if isinstance(self.function, nn.Module):
            self.function = self.function.to(device).eval().requires_grad_(False)
        random = torch.Generator().manual_seed(0)
        x = torch.rand((2, 3, crop, crop), generator=random)
        noisy = (x + TRIAL_NOISE * torch.randn(x.shape, generator=random)).to(device).requires_grad_()
        with torch.enable_grad():
            # A network's picture is no leaf either: a function may change it in place.
            value = self._values(noisy.clone(), x.to(device))
        if not torch.isfinite(value).all():
            raise UsageError(f"--loss {self.name} gives {value.tolist()} for pictures with noise: it must be finite")
        gradient = torch.autograd.grad(value.sum(), noisy, allow_unused=True)[0] if value.requires_grad else None
        if gradient is None:
            raise UsageError(f"--loss {self.name} has no gradient: nothing that it gives depends on x_hat in torch")
        if not torch.isfinite(gradient).all():
            raise UsageError(f"--loss {self.name} has a gradient that isn't finite, for pictures with noise")
        if not gradient.any():
            raise UsageError(f"--loss {self.name} has a gradient of zero: rounding has none, for example")
        self.one_by_one = value.numel() == 1 and levels > 1

    def _values(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """What the function gives: one number, or one for each picture. Raises UsageError for anything else."""
        value = self.function(x_hat, x)
        if not isinstance(value, Tensor):
            found = f"a {type(value).__name__}"
        elif value.is_complex():
            found = "complex numbers"
        elif value.numel() not in (1, len(x)):
            found = f"a tensor {list(value.shape)}"
        else:
            return value
        raise UsageError(f"--loss {self.name} gives {found} for {len(x)} pictures: it must be [{len(x)}], or a scalar")

    def _refuse_uncallable(self) -> None:
        """Raises UsageError for what can't be called with two pictures. Errors inside of it keep their traceback."""
        if isinstance(self.function, type):
            raise UsageError(f"--loss {self.name} is a class: name a function, or an object that was made of the class")
        try:
            inspect.signature(self.function).bind("x_hat", "x")
        except TypeError as error:
            raise UsageError(f"--loss {self.name} must take x_hat and x: {error}") from error
        except ValueError:
            return  # a function in C, which doesn't say what it takes


def load(name: str) -> OwnLoss:
    """The function that MODULE:FUNCTION or FILE.py:FUNCTION names, whose code is run. Raises UsageError."""
    where, _, attribute = name.rpartition(":")
    module = _file(where) if where.endswith(".py") else _module(where)
    function = getattr(module, attribute, None)
    if not callable(function):
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UsageError(f"--loss {name}: {where} has no function {attribute!r}; it has {', '.join(public) or 'none'}")
    return OwnLoss(function, name)


def _file(path: str) -> ModuleType:
    if not Path(path).is_file():
        raise UsageError(f"--loss: there is no file {path}")
    spec = importlib.util.spec_from_file_location(path, path)  # no name that an import could mean
    assert spec is not None  # for a name that ends in .py there is one
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path] = module  # where dataclasses look for it
    sys.path.append(str(Path(path).parent.resolve()))  # last: the file's neighbours hide nothing that is installed
    spec.loader.exec_module(module)
    return module


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ModuleNotFoundError, ValueError) as error:
        if isinstance(error, ModuleNotFoundError) and not name.startswith(str(error.name)):
            raise  # the module is there and imports another one that isn't
        hint = f"for a file write {name}.py" if Path(f"{name}.py").exists() else "it must be installed, or a FILE.py"
        raise UsageError(f"--loss: there is no module {name!r}: {hint}") from error
