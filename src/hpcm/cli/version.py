"""`hpcm --version`: hpcm, what computes, and the installed models."""

from __future__ import annotations

import argparse
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from .. import __version__
from ..model.find import available


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
    core = "the native library" if find_spec("hpcm.core.engine") else "no native library"
    return [
        f"hpcm {__version__}",
        f"  computes with  {core}, {installed('torch')}, Python {platform.python_version()}",
        f"  models         {', '.join(models) or 'none'}",
    ]


def installed(package: str) -> str:
    """A package and its version; it isn't imported."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"no {package}"
