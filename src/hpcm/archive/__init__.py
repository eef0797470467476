"""Archives: any number of pictures to .hpcm and back, on a Ray cluster.

    from hpcm import archive

    archive.compress("s3://bucket/photos", "s3://bucket/small", quality=50)
    archive.restore("s3://bucket/small", "/disk/photos")
    archive.Pictures("s3://bucket/small")  # a PyTorch data set

Needs the extra `ray` (pip install 'hpcm-codec[ray]'). The data set needs only pyarrow and PyTorch, so each module is
imported when one of its names is first used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    from .dataset import Pictures
    from .run import RunOptions, Summary, compress, restore

__all__ = ["compress", "restore", "RunOptions", "Summary", "Pictures"]

_NEEDS = {"run": ("ray", "pyarrow", "jinja2"), "dataset": ("torch", "pyarrow")}  # module: packages
_MODULES = {**dict.fromkeys(("compress", "restore", "RunOptions", "Summary"), "run"), "Pictures": "dataset"}


def __getattr__(name: str) -> Any:
    """Looks up a public name when it is first used (PEP 562). Raises UsageError where a package is missing."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _MODULES[name]
    if missing := [package for package in _NEEDS[module] if not find_spec(package)]:
        extra = "torch" if missing == ["torch"] else "ray"
        raise UsageError(f"{__name__}.{name} needs {' and '.join(missing)}: pip install 'hpcm-codec[{extra}]'")
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value
