"""Compiles libhpcm into the package: python core/build.py

    --output FILE     instead of src/hpcm/core/libhpcm.so (libhpcm.dylib, hpcm.dll)
    --sanitize        with the address and undefined-behaviour sanitizers, for tests
    --program FILE.c  a program of core/test with the library's sources, instead of the library

The compiler is the one that CC names, else clang, else that of the package `ziglang` (clang, too), else the system's.
gcc 12 keeps fewer sums in registers, and its AVX2 kernels take 1.5 times as long.
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
from pathlib import Path

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
OLDEST_GLIBC = "2.17"  # that the library runs with


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
    sources = [*sorted(CORE.glob("*.c")), *sorted(CORE.glob("kernels/*.c")), *([program] if program else [])]
    # The sanitizers' runtime comes with gcc; a sanitized library is for tests, and needn't be fast.
    line = [*(["gcc"] if sanitize else compiler()), *FLAGS]
    line += SANITIZE if sanitize else []
    line += [] if program else ["-shared"]
    line += [f"-I{CORE}", *map(str, sources), "-lm"]
    line += [] if sys.platform == "win32" else ["-lpthread"]
    temporary = output.with_name(f".{output.name}.{os.getpid()}")  # another process may be reading the library
    try:
        subprocess.run([*line, "-o", str(temporary)], check=True)
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)


def compiler() -> list[str]:
    """The compiler's command line. Raises FileNotFoundError."""
    if named := os.environ.get("CC"):
        return shlex.split(named)
    if clang := shutil.which("clang"):
        return [clang]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc", "-target", target(), "-fno-sanitize=all"]
    if system := shutil.which("cc") or shutil.which("gcc"):
        return [system]
    raise FileNotFoundError("there is no C compiler: `pip install ziglang` brings one")


def target() -> str:
    """Zig's name of this machine. Without one, it would compile for this very processor."""
    machine = {"AMD64": "x86_64", "arm64": "aarch64", "ARM64": "aarch64"}.get(platform.machine(), platform.machine())
    if sys.platform == "darwin":
        return f"{machine}-macos"
    if sys.platform == "win32":
        return f"{machine}-windows-gnu"
    glibc = platform.libc_ver()[0] == "glibc"
    return f"{machine}-linux-gnu.{OLDEST_GLIBC}" if glibc else f"{machine}-linux-musl"


if __name__ == "__main__":
    main()
