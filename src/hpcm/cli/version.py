"""`hpcm --version`: hpcm, what computes, and the installed models."""

from __future__ import annotations

import argparse
import platform
from importlib.util import find_spec
from typing import Any

from .. import __version__
from ..errors import UsageError
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
    return [
        f"hpcm {__version__}",
        f"  computes with  {native_library()}, {installed('torch')}, Python {platform.python_version()}",
        f"  models         {', '.join(models) or 'none'}",
    ]


def native_library() -> str:
    """Whether it can be used here, and with which of its kernels."""
    from ..core.library import library

    try:
        best, *_ = library().hpcm_kernels().decode().split()
    except UsageError:
        return "no native library"
    return f"the native library ({best})"


def installed(package: str) -> str:
    """A package and its version; it isn't imported."""
    if not find_spec(package):
        return f"no {package}"
    from importlib.metadata import PackageNotFoundError, version  # here, because importing it takes a while

    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"no {package}"
