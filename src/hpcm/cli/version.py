"""`hpcm --version`: hpcm, what computes, and the installed models."""

from __future__ import annotations

import argparse
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .. import __version__
from ..model.find import available

ENGINES = ("onnxruntime", "torch")  # packages


class Version(argparse.Action):
    """Prints it and ends; it is looked up only then."""

    def __init__(self, option_strings: list[str], dest: str, **kwargs: Any) -> None:
        super().__init__(
            option_strings, argparse.SUPPRESS, nargs=0, help="show the version, the engines and the installed models"
        )

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print("\n".join(lines()))
        parser.exit()


def lines() -> list[str]:
    models = [weights.name for weights in available()]
    engines = ", ".join(map(installed, ENGINES))
    return [
        f"hpcm {__version__}",
        f"  computes with  {engines}, Python {platform.python_version()}",
        f"  models         {', '.join(models) or 'none'}",
    ]


def installed(package: str) -> str:
    """A package and its version; it isn't imported."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"no {package}"
