"""What numbers were measured on, and with which versions."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .. import __version__
from ..util.hardware import cores, processor
from .baselines import program_version

PACKAGES = (
    *("torch", "numpy", "pillow"),
    *("bjontegaard", "imagecodecs", "pillow_heif", "lpips", "ssimulacra2"),
)
PACKAGE = Path(__file__).resolve().parents[1]
FRONTENDS = ("cli", "eval", "train", "serve", "selftest")  # parts of the package that no coded byte depends on


@dataclass(frozen=True)
class Machine:
    """The computer that numbers were measured on."""

    cpu: str
    cores: int
    system: str  # the operating system
    python: str


@dataclass(frozen=True)
class Gpu:
    """The GPU that numbers were measured on."""

    name: str
    memory: int  # bytes
    torch: str  # versions, None where the system doesn't say
    cuda: str | None
    driver: str | None


@cache
def versions() -> dict[str, str | None]:
    """Of everything that a measured number may depend on; None for what isn't there."""
    from PIL import features

    installed: dict[str, str | None] = {"hpcm": __version__}
    for package in PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            installed[package] = None
    installed |= {name: features.version(name) for name in ("libjpeg_turbo", "webp", "avif")}
    installed["mozjpeg"], installed["vvenc"] = program_version("cjpeg") or None, program_version("vvencapp") or None
    if installed["imagecodecs"]:
        import imagecodecs

        installed["jpegxl"] = imagecodecs.jpegxl_version()
    if installed["pillow_heif"]:
        import pillow_heif

        installed["libheif"] = pillow_heif.libheif_version()
    return installed


@cache
def code_digest() -> str:
    """Names the code and the native library, the frontends left out: a cached number holds until it changes."""
    digest = hashlib.sha256()
    for path in sorted([*PACKAGE.rglob("*.py"), *PACKAGE.glob("core/*hpcm.*")]):  # libhpcm.so, libhpcm.dylib, hpcm.dll
        if path.relative_to(PACKAGE).parts[0] not in FRONTENDS:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def machine() -> Machine:
    """This computer."""
    return Machine(processor(), cores(), platform.platform(), platform.python_version())


def gpu(device: str) -> Gpu | None:
    """The GPU of one of torch's devices; None for a device that is none of CUDA's."""
    if not device.startswith("cuda"):
        return None
    import torch

    properties = torch.cuda.get_device_properties(device)
    return Gpu(properties.name, properties.total_memory, torch.__version__, torch.version.cuda, driver_version())


def driver_version() -> str | None:
    """That of NVIDIA's driver, which torch doesn't know: as its own tool prints it, a line for each GPU."""
    lines = printed("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").splitlines()
    return lines[0].strip() if lines else None


def printed(*command: str) -> str:
    """What a program prints; nothing where it isn't installed or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def commit() -> str | None:
    """The git commit of the code, with a + if it was changed since; None outside of git."""
    try:
        git = ["git", "-C", str(PACKAGE)]
        name = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run([*git, "status", "--porcelain", "."], capture_output=True, text=True)
    except OSError:
        return None
    inside = name.returncode == 0 and changed.returncode == 0
    return name.stdout.strip() + "+" * bool(changed.stdout.strip()) if inside else None


def peak_memory() -> float:
    """The most memory that this process has taken so far, in MiB."""
    if sys.platform == "linux":  # ru_maxrss would include the parent's, from before exec
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
