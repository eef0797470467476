"""Compiles libhpcm into the package: python core/build.py

    --output FILE     instead of src/hpcm/core/libhpcm.so (libhpcm.dylib, hpcm.dll)
    --sanitize        with the address and undefined-behaviour sanitizers, for tests
    --program FILE.c  a program of core/test with the library's sources, instead of the library

The compiler is the one that CC names, else clang, else that of the package `ziglang` (clang, too), else the system's.
CC=ziglang stands for that package. gcc 12 keeps fewer sums in registers, and its AVX2 kernels take 1.5 times as long.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory

CORE = Path(__file__).resolve().parent
NAMES = {"darwin": "libhpcm.dylib", "win32": "hpcm.dll"}
LIBRARY = CORE.parent / "src" / "hpcm" / "core" / NAMES.get(sys.platform, "libhpcm.so")
FLAGS = [
    "-std=gnu11",
    "-O3",
    "-g0",
    "-Wall",
    "-Wextra",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-math-errno",
    "-ffp-contract=off",  # a product and a sum are two operations, each rounded
    f"-ffile-prefix-map={CORE.parent}=.",  # no path of the builder's
    "-DHPCM_BUILD",
]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-O1", "-g"]
OLDEST_GLIBC = "2.17"  # that a library of zig's runs with; other compilers take this machine's
OLDEST_MACOS = "11.0"  # the first for both processors
ZIG = "ziglang"  # the package
ZIG_CACHE = CORE.parent / "build" / "zig"  # by default it is in the home folder, where zig hangs if it can't write
PROCESSORS = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}  # as zig names them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--sanitize", action="store_true")
    parser.add_argument("--program", type=Path)
    options = parser.parse_args()
    output = options.output or (options.program.with_suffix("") if options.program else LIBRARY)
    build(output, sanitize=options.sanitize, program=options.program)


def build(output: Path = LIBRARY, *, sanitize: bool = False, program: Path | None = None) -> None:
    """Raises CalledProcessError where it can't be compiled, FileNotFoundError without a compiler."""
    output = output.resolve()
    sources = [*sorted(CORE.glob("*.c")), *sorted(CORE.glob("kernels/*.c")), *([program.resolve()] if program else [])]
    # The sanitizers' runtime comes with gcc; a sanitized library is for tests, and needn't be fast.
    line = [*(["gcc"] if sanitize else compiler()), *FLAGS]
    line += SANITIZE if sanitize else []
    line += [] if program else ["-shared"]
    line += [f"-I{CORE}", *map(str, sources), *system_flags(sanitize)]
    # In a folder of its own: another process may be reading the library, and linkers leave more beside it on Windows.
    # From within it, because macOS's linker writes the path of the output into the library.
    environment = {"ZIG_GLOBAL_CACHE_DIR": str(ZIG_CACHE), **os.environ}
    with TemporaryDirectory(dir=output.parent, prefix=".build-") as folder:
        subprocess.run([*line, "-o", output.name], cwd=folder, env=environment, check=True)
        Path(folder, output.name).replace(output)


def system_flags(debug: bool = False) -> list[str]:
    """Libraries, and what goes into the file, on this system."""
    if sys.platform == "darwin":
        return [f"-mmacosx-version-min={OLDEST_MACOS}"]
    strip = [] if debug else ["-Wl,-s"]
    return strip if sys.platform == "win32" else [*strip, "-lm", "-lpthread"]


def compiler() -> list[str]:
    """The compiler's command line. Raises FileNotFoundError."""
    if own := own_compiler():
        return own
    if importlib.util.find_spec(ZIG):
        return [sys.executable, "-m", ZIG, "cc", *zig_target(), "-fno-sanitize=all"]
    if system := shutil.which("cc") or shutil.which("gcc"):
        return [system]
    raise FileNotFoundError(f"there is no C compiler: `pip install {ZIG}` brings one")


def own_compiler() -> list[str] | None:
    """The compiler that CC names, or clang; None where it should be zig's."""
    named = os.environ.get("CC")
    if named:
        return None if named == ZIG else shlex.split(named)
    clang = shutil.which("clang")
    if not clang or sys.platform == "win32":  # there, clang has no POSIX threads
        return None
    works = subprocess.run([clang, "--version"], capture_output=True).returncode == 0  # macOS has an empty one
    return [clang] if works else None


def zig_target() -> list[str]:
    """For zig, which would compile for this very machine."""
    processor = PROCESSORS.get(machine())
    if not processor:
        return ["-mcpu=baseline"]
    if sys.platform == "darwin":
        return ["-target", f"{processor}-macos.{OLDEST_MACOS}"]
    if sys.platform == "win32":
        return ["-target", f"{processor}-windows-gnu"]
    return ["-target", f"{processor}-linux-gnu.{OLDEST_GLIBC}" if has_glibc() else f"{processor}-linux-musl"]


def machine() -> str:
    """The processor that this Python runs on, such as x86_64 or arm64."""
    # On macOS sysconfig may say universal2, elsewhere `platform` may mean the processor below an emulation.
    return platform.machine() if sys.platform == "darwin" else sysconfig.get_platform().rpartition("-")[2]


def has_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"


def wheel_platform() -> str:
    """What a wheel with the library runs on, in the words of its file name."""
    name = sysconfig.get_platform()
    if sys.platform == "darwin":
        name = f"macosx_{OLDEST_MACOS}_{machine()}"
    elif sys.platform == "linux" and has_glibc() and ZIG in compiler() and machine() in PROCESSORS:
        name = f"manylinux_{OLDEST_GLIBC}_{machine()}"
    return name.replace("-", "_").replace(".", "_")


if __name__ == "__main__":
    main()
