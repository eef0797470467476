"""hpcm: a learned image codec.

    import hpcm
    from PIL import Image

    data = hpcm.compress(Image.open("photo.jpg"), quality=50)  # bytes of a .hpcm file
    image = hpcm.decompress(data)  # a PIL.Image.Image
    codec = hpcm.load("nano")  # a model to keep: codec.compress(...), codec.decompress(...)

Importing hpcm is cheap: the names below are looked up when they are first used, and only then torch is imported.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .codec.api import compress, decompress, decompress_array, latents, load, preview
    from .codec.codec import Codec
    from .convert import official
    from .convert.models import load_model, save_exact, save_model
    from .errors import HPCMError
    from .model.config import Config
    from .model.file import WeightsFile
    from .nn.hpcm import HPCM

__version__ = "0.2.0"
__all__ = [
    "compress",
    "decompress",
    "decompress_array",
    "preview",
    "load",
    "models",
    "latents",
    "load_model",
    "save_model",
    "save_exact",
    "Codec",
    "HPCM",
    "Config",
    "HPCMError",
    "official",
    "__version__",
]

_MODULES = {  # public name: the module that it is found in
    **dict.fromkeys(["compress", "decompress", "decompress_array", "preview", "latents", "load"], "codec.api"),
    **dict.fromkeys(["load_model", "save_model", "save_exact"], "convert.models"),
    "Codec": "codec.codec",
    "HPCM": "nn.hpcm",
    "Config": "model.config",
    "HPCMError": "errors",
}
_ROOMS = {"official": "convert.official", "archive": "archive"}


def models() -> "list[WeightsFile]":
    """The installed models: the bundled ones and those of the user's weights folder. Loads none."""
    from .model.find import available

    return list(available())


def __getattr__(name: str) -> Any:
    """Looks up a public name when it is first used (PEP 562)."""
    if name in _ROOMS:
        return import_module(f".{_ROOMS[name]}", __name__)
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
