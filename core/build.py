"""Compiles libhpcm into the package: python core/build.py

    --target TAG      for another platform, by the tag of its wheels (win_amd64); needs the package `ziglang`
    --output FILE     instead of src/hpcm/core/libhpcm.so (libhpcm.dylib, hpcm.dll)
    --wasm            hpcm.wasm and hpcm-threads.wasm, for browsers, into build/wasm; needs the package `ziglang`
    --sanitize [KIND] with sanitizers, for tests: of addresses and undefined behaviour, or of `thread`
    --program FILE.c  a program of core/test with the library's sources, instead of the library, into build/
    --alone           a program without them, which loads a library
    --reader          a program with the reader of files (core/file), too
    --fuzz NAME       core/test/fuzz_NAME.c with the sanitizers, and libFuzzer if the compiler has it, into build/
    --files OUTPUT    the library with the reader of files, with all functions visible, for tests
    --install PREFIX  the library that C programs use: libhpcm with the reader of files, its headers, the bundled
                      weights, and what pkg-config tells of it
    --uninstall PREFIX  removes what --install has put there
    --destdir FOLDER  where PREFIX is put meanwhile, for packages
    --libdir FOLDER   of the library, in PREFIX: lib, by default

The compiler is the one that CC names, else clang, else that of the package `ziglang` (clang, too), else the system's.
With gcc 12 the AVX2 kernels take 1.4 times as long, and the generic ones 4.5 times (core/test/bench.c).

The library runs on every processor of its kind: it has kernels for several and chooses among them. Its bytes depend on
the sources and the compiler, not on the folder and the time.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

CORE = Path(__file__).resolve().parent
PACKAGE = CORE.parent / "src" / "hpcm" / "core"
BUILD = CORE.parent / "build"
READER = CORE / "file"  # of .hpcm files, for C programs: Python and browsers have their own
SYMBOLS = READER / "symbols.txt"  # what the installed library shows
HEADERS = (READER / "decode.h", CORE / "status.h")  # of the installed library
WEIGHTS = CORE.parent / "src" / "hpcm" / "model" / "assets"
TARGETS = {  # the tag of a wheel: zig's name of the platform. They are the oldest systems that the library runs on
    "manylinux_2_17_x86_64": "x86_64-linux-gnu.2.17",
    "manylinux_2_17_aarch64": "aarch64-linux-gnu.2.17",
    "musllinux_1_2_x86_64": "x86_64-linux-musl",
    "musllinux_1_2_aarch64": "aarch64-linux-musl",
    "macosx_11_0_x86_64": "x86_64-macos.11.0",
    "macosx_11_0_arm64": "aarch64-macos.11.0",
    "win_amd64": "x86_64-windows-gnu",
    "win_arm64": "aarch64-windows-gnu",
}
OTHERS = {"wasm32": "wasm32-wasi"}  # platforms without wheels
WASM = {  # files for browsers: the processor's further features, and what the linker is told besides
    "hpcm.wasm": ("", ()),
    "hpcm-threads.wasm": ("+atomics", ("--shared-memory", "--import-memory", "--export=__stack_pointer")),
}
WASM_FEATURES = "generic+simd128+bulk_memory+mutable_globals+sign_ext+nontrapping_fptoint"
WASM_LINKING = (
    "--no-entry",
    "--export-dynamic",
    "-z",
    "stack-size=1048576",
    "--max-memory=2147483648",  # JavaScript has places as int32
)
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
    "-DHPCM_BUILD",
]
FOR_TESTS = ["-O1", "-g", "-fno-omit-frame-pointer"]
SANITIZE = [*FOR_TESTS, "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
SANITIZERS = {"address": SANITIZE, "thread": [*FOR_TESTS, "-fsanitize=thread"]}
# Comparisons aren't traced: inputs are choices and numbers, and one takes four times as long with that.
FUZZER = ["-fsanitize=fuzzer", "-fno-sanitize-coverage=trace-cmp"]
FAILING = [f"-Wl,--wrap={name}" for name in ("malloc", "calloc", "realloc")]  # core/test/failing.h
BLIND = [f"-Wl,--wrap={name}" for name in ("hpcm_crc32", "hpcm_checksum")]  # core/test/blind.h
FUZZERS = ("ans", "payload", "model", "residual", "dct")
FUZZERS_OF_FILES = ("file", "parts")  # of core/file
ZIG = "ziglang==0.17.1"  # one version, so that everybody's library is the same
ZIG_IS_MISSING = f"`pip install {ZIG}` brings a compiler"
# Paths are quoted for those with spaces.
PKG_CONFIG = """\
prefix={prefix}
libdir={folder}
includedir=${{prefix}}/include

Name: hpcm
Description: reads .hpcm files, the pictures of a learned codec
Version: {version}
Libs: -L"${{libdir}}" -lhpcm
Libs.private: -lm -pthread
Cflags: -I"${{includedir}}"
"""
PROBE = "#include <math.h>\n#include <stdatomic.h>\nint %s(void) { return 0; }\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=TARGETS)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--wasm", action="store_true")
    parser.add_argument("--sanitize", nargs="?", choices=SANITIZERS, const="address")
    parser.add_argument("--program", type=Path)
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--reader", action="store_true")
    parser.add_argument("--fuzz", choices=FUZZERS + FUZZERS_OF_FILES)
    parser.add_argument("--files", type=Path)
    parser.add_argument("--install", type=Path)
    parser.add_argument("--uninstall", type=Path)
    parser.add_argument("--destdir", default="")
    parser.add_argument("--libdir", type=Path, default=Path("lib"))
    options = parser.parse_args()
    flags = SANITIZERS[options.sanitize] if options.sanitize else []
    try:
        if options.wasm:
            build_wasm(options.output or BUILD / "wasm")
        elif options.fuzz:
            build_fuzzer(options.fuzz, options.output or BUILD / f"fuzz_{options.fuzz}")
        elif options.files:
            build_files(options.files, options.target, flags=flags)
        elif options.install:
            installation = Installation(options.install, options.libdir, options.target)
            os.umask(0o022)  # whoever installs, everybody reads
            installation.install(options.destdir)
        elif options.uninstall:
            installation = Installation(options.uninstall, options.libdir, options.target)
            installation.uninstall(options.destdir)
        elif options.program:
            output = options.output or BUILD / options.program.stem
            program = [options.program]
            build(output, options.target, program=program, alone=options.alone, files=options.reader, flags=flags)
        else:
            output = options.output or PACKAGE / library_name(options.target or this_platform())
            build(output, options.target, flags=flags)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(f"the compiler failed (status {error.returncode})")


def library_name(target: str) -> str:
    if target.startswith("win"):
        return "hpcm.dll"
    return "libhpcm.dylib" if target.startswith("macosx") else "libhpcm.so"


def this_platform() -> str:
    """The tag of a wheel for this machine; TARGETS may lack it."""
    machine = platform.machine()  # x86_64 or aarch64, on macOS arm64, on Windows AMD64 or ARM64
    if sys.platform == "win32":
        return f"win_{machine.lower()}"
    if sys.platform == "darwin":
        return f"macosx_11_0_{machine}"
    return f"manylinux_2_17_{machine}" if platform.libc_ver()[0] == "glibc" else f"musllinux_1_2_{machine}"


def needs_zig(target: str | None = None) -> bool:
    """Whether a build should get the package `ziglang`: for another platform, and where CC and clang are missing."""
    if target:
        return True
    return not os.environ.get("CC") and this_platform() in TARGETS and not _works(["clang"])


def build(
    output: Path,
    target: str | None = None,
    *,
    program: Sequence[Path] = (),
    alone: bool = False,
    files: bool = False,
    flags: Sequence[str] = (),
    linking: Sequence[str] = (),
) -> None:
    """Compiles the library for a target, or for this machine, or a program of these files and the library's sources.

    alone: a program of these files only, which loads a library where it runs.
    files: with the reader of files, too.
    flags: of the compiler and of the linker; `linking`: of the linker alone, which for a library tell its name.

    Raises FileNotFoundError without a compiler, CalledProcessError where it fails.
    """
    compiler = zig(target) if target else find_compiler(flags)
    made_for = target or this_platform()
    library = [] if alone else _sources(files)
    if files:
        flags = [*flags, f'-DHPCM_VERSION="{release()}"']
    sources = [*library, *(file.resolve() for file in program)]
    if program:
        linking = [*linking, *(_loading(made_for) if alone else [])]
    else:
        linking = ["-shared", *(linking or _naming(made_for))]
    if "-g" not in flags and not made_for.startswith("macosx"):
        linking.append("-s")  # keeps names and paths of the builder's machine out
    output = output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output.parent, prefix=".build-") as folder:

        def compiled(source: Path) -> str:
            made = Path(folder, f"{source.stem}.o")
            # Names relative to the folder of the sources: the compiler may write them into what it makes.
            _run([*compiler, *FLAGS, *flags, "-I.", "-c", os.path.relpath(source, CORE), "-o", str(made)])
            return str(made)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compiled, sources))
        linked = Path(folder, output.name)
        # -O3: when it first links, zig compiles a runtime of its own, which takes twice as long without optimisation.
        _run([*compiler, "-O3", *flags, *linking, *objects, "-o", str(linked), *_libraries(made_for)])
        linked.replace(output)  # as a whole: another process may have the old one open


def build_files(output: Path, target: str | None = None, *, flags: Sequence[str] = ()) -> None:
    """The library with the reader of files, for tests: it shows all functions, and no weights are installed with it.

    Raises as `build`.
    """
    for_tests = ["-fvisibility=default", '-DHPCM_DATA_FOLDER="/nowhere/hpcm"']
    build(output, target, files=True, flags=[*for_tests, *flags])


def build_wasm(folder: Path, *, flags: Sequence[str] = ()) -> None:
    """The files of WASM, for browsers, into a folder. Raises as `build`."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    sources = [os.path.relpath(source, CORE) for source in _sources()]
    flags = [flag for flag in (*FLAGS, *flags) if flag != "-fPIC"]

    def made(name: str) -> None:
        features, linking = WASM[name]
        target = [*zig("wasm32"), f"-mcpu={WASM_FEATURES}{features}", "-mexec-model=reactor", "-s"]
        told = ",".join(("-Wl", *WASM_LINKING, *linking))
        with TemporaryDirectory(dir=folder, prefix=".build-") as building:
            linked = Path(building, name)
            _run([*target, told, *flags, "-I.", *sources, "-o", str(linked)])
            linked.replace(folder / name)  # as a whole: a server may have the old one open

    with ThreadPoolExecutor() as pool:
        list(pool.map(made, WASM))


def build_fuzzer(name: str, output: Path) -> None:
    """A fuzz target, driven by libFuzzer, or where there is none by core/test/fuzz_loop.c. Raises as `build`."""
    files = name in FUZZERS_OF_FILES
    program, loop = CORE / "test" / f"fuzz_{name}.c", CORE / "test" / "fuzz_loop.c"
    linking = FAILING + BLIND if files else FAILING
    try:
        build(output, program=[program], files=files, flags=[*SANITIZE, *FUZZER], linking=linking)
    except FileNotFoundError:
        build(output, program=[program, loop], files=files, flags=SANITIZE, linking=linking)


def _sources(files: bool = False) -> list[Path]:
    reader = sorted(READER.glob("*.c")) if files else []
    return [*sorted(CORE.glob("*.c")), *sorted(CORE.glob("kernels/*.c")), *reader]


def release() -> str:
    """The version of the package, "1.2.3"; further letters, as in "1.2.3.dev1", aren't the library's."""
    package = (PACKAGE.parent / "__init__.py").read_text("utf-8")
    (version,) = re.findall(r'^__version__ = "(\d+\.\d+\.\d+)', package, re.MULTILINE)
    return version


class Installation:
    """The library that C programs use, and all that belongs to it, in a prefix such as /usr/local.

    There is no static library: its objects would show the functions of hpcm.h to whoever links with it, and those
    change from release to release.

    prefix: where it is used. Paths in the library and in what pkg-config tells begin with it.
    libdir: of the library, in the prefix, such as lib/x86_64-linux-gnu; an absolute one may be anywhere.
    destdir (of the methods): the prefix is put into this folder, from where a packager takes it.

    Raises ValueError for a prefix that can't stand in such files, and for Windows.
    """

    def __init__(self, prefix: Path, libdir: Path = Path("lib"), target: str | None = None) -> None:
        self.prefix = Path(os.path.abspath(prefix))
        self.folder = self.prefix / libdir
        self.weights = self.prefix / "share" / "hpcm"
        self.headers = self.prefix / "include" / "hpcm"
        self.description = self.folder / "pkgconfig" / "hpcm.pc"
        self.target = target
        self.platform = target or this_platform()
        version = release()
        major = version.partition(".")[0]
        if self.platform.startswith("win"):
            raise ValueError("the library is installed on Linux, macOS and other Unixes, not on Windows")
        if re.search(r'["\\$\n]', str(self.folder)):
            raise ValueError(f"a folder of the library can't have such a name: {self.folder}")
        # The library; what compiled programs look for; what the linker looks for.
        if self.platform.startswith("macosx"):
            self.names = (f"libhpcm.{version}.dylib", f"libhpcm.{major}.dylib", "libhpcm.dylib")
        else:
            self.names = (f"libhpcm.so.{version}", f"libhpcm.so.{major}", "libhpcm.so")

    def install(self, destdir: str = "") -> None:
        """Compiles the library, and puts everything where it belongs. Raises as `build`, and OSError.

        Each file appears as a whole: programs may have the one before it open.
        """
        file, *links = self.names
        with TemporaryDirectory() as folder:
            library = Path(folder, file)
            self._build(library)
            if shutil.which("nm") and not self.target:
                check = subprocess.run([sys.executable, str(CORE / "check_symbols.py"), str(library)])
                if check.returncode:
                    raise ValueError("the library isn't installed: it shows what it shouldn't, or lacks something")
            _put(library.read_bytes(), _within(destdir, self.folder / file))
        for link in links:
            _put_link(file, _within(destdir, self.folder / link))
        for source, place in self._copies():
            _put(source.read_bytes(), _within(destdir, place))
        description = PKG_CONFIG.format(prefix=self.prefix, folder=self.folder, version=release())
        _put(description.encode(), _within(destdir, self.description))

    def uninstall(self, destdir: str = "") -> None:
        """Removes what `install` has put there, and folders that are its own. Raises OSError."""
        copies = [place for _, place in self._copies()]
        for place in [*copies, self.description, *(self.folder / name for name in self.names)]:
            _within(destdir, place).unlink(missing_ok=True)
        for folder in (self.headers, self.weights):
            own = _within(destdir, folder)
            if own.is_dir() and not any(own.iterdir()):
                own.rmdir()

    def _copies(self) -> Iterator[tuple[Path, Path]]:
        """Files of the checkout, and where they are put."""
        for header in HEADERS:
            yield header, self.headers / header.name
        for weights in sorted(WEIGHTS.glob("*.safetensors")):
            yield weights, self.weights / weights.name

    def _build(self, library: Path) -> None:
        symbols = SYMBOLS.read_text("utf-8").split()
        shown = Path(library.parent, "shown")
        _, soname, _ = self.names
        if self.platform.startswith("macosx"):
            # Xcode's clang, which comes first, follows this list; zig's linker passes over it.
            shown.write_text("".join(f"_{name}\n" for name in symbols))
            told = ["-install_name", str(self.folder / soname), "-exported_symbols_list", str(shown)]
        else:
            # The node has the number of the soname: a program says which it was linked with.
            node = f"HPCM_{soname.rpartition('.')[2]}"
            shown.write_text(f"{node} {{ global: {'; '.join(symbols)}; local: *; }};\n")
            # Threads of the library may still sleep when a program gives it up (dlclose): its code has to stay.
            told = ["-soname", soname, f"--version-script={shown}", "-z", "nodelete"]
        flags = [f'-DHPCM_DATA_FOLDER="{self.weights}"']
        linking = [word for option in told for word in ("-Xlinker", option)]  # unlike -Wl it takes paths with commas
        build(library, self.target, files=True, flags=flags, linking=linking)


def _within(destdir: str, place: Path) -> Path:
    return Path(destdir, place.relative_to(place.anchor)) if destdir else place


def _put(data: bytes, place: Path) -> None:
    """A file that everybody may read, as a whole."""
    place.parent.mkdir(parents=True, exist_ok=True)
    new = place.with_name(f".{place.name}.new")
    new.write_bytes(data)
    new.chmod(0o644)
    new.replace(place)


def _put_link(to: str, place: Path) -> None:
    new = place.with_name(f".{place.name}.new")
    new.unlink(missing_ok=True)  # of an installation that was interrupted
    new.symlink_to(to)
    new.replace(place)


def find_compiler(flags: Sequence[str] = ()) -> list[str]:
    """The command line of a compiler for this machine that knows these flags. Raises FileNotFoundError."""
    if named := os.environ.get("CC"):
        candidates = [shlex.split(named)]
    else:
        candidates = [["clang"], ["cc"], ["gcc"]]
        sanitizes = any(flag.startswith("-fsanitize") for flag in flags)  # zig has no runtime for that
        if importlib.util.find_spec("ziglang") and this_platform() in TARGETS and not sanitizes:
            candidates.insert(1, zig(this_platform()))
    for compiler in candidates:
        line = [*compiler, *_apple_flags(compiler)]
        if "ziglang" in compiler or _works(line, flags):  # zig brings all that it needs, and takes long to try
            return line
    tried = ", ".join(compiler[0] for compiler in candidates)
    raise FileNotFoundError(f"no C compiler works ({tried} tried): name one as in CC=gcc, or {ZIG_IS_MISSING}")


def zig(target: str) -> list[str]:
    """Zig's clang. Unless it is given a target it would compile for this very processor. Raises FileNotFoundError."""
    if not importlib.util.find_spec("ziglang"):
        raise FileNotFoundError(ZIG_IS_MISSING)
    return [sys.executable, "-m", "ziglang", "cc", "-target", (TARGETS | OTHERS)[target], "-fno-sanitize=all"]


def _works(compiler: Sequence[str], flags: Sequence[str] = ()) -> bool:
    """Whether it makes a program: macOS has a clang that only says how to get one, and headers may lack."""
    if not shutil.which(compiler[0]):
        return False
    with TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text(PROBE % ("LLVMFuzzerTestOneInput" if FUZZER[0] in flags else "main"))
        line = [*compiler, *flags, str(source), "-o", str(Path(folder, "probe")), *_libraries(this_platform())]
        return subprocess.run(line, env=_environment(), capture_output=True).returncode == 0


def _apple_flags(compiler: Sequence[str]) -> list[str]:
    """For the architecture that Python runs as, and the oldest macOS."""
    if sys.platform != "darwin" or "ziglang" in compiler:
        return []
    return ["-arch", platform.machine(), "-mmacosx-version-min=11.0"]


def _libraries(target: str) -> list[str]:
    return [] if target.startswith("win") else ["-pthread", "-lm"]


def _loading(target: str) -> list[str]:
    """For programs that load libraries: with musl, zig makes static ones by default, which can't."""
    if target.startswith("win"):
        return []
    return ["-dynamic", "-ldl"] if target.startswith("musllinux") else ["-ldl"]


def _naming(target: str) -> list[str]:
    """What programs that are linked with the library will look for: not the file that the builder wrote."""
    if target.startswith("macosx"):
        return [f"-Wl,-install_name,@rpath/{library_name(target)}"]
    return [] if target.startswith("win") else [f"-Wl,-soname,{library_name(target)}"]


def _run(line: Sequence[str]) -> None:
    subprocess.run(line, cwd=CORE, env=_environment(), check=True)


def _environment() -> dict[str, str]:
    return {
        "ZIG_GLOBAL_CACHE_DIR": str(BUILD / "zig"),  # by default in the home folder, where zig hangs if it can't write
        **os.environ,
        "SOURCE_DATE_EPOCH": "0",  # otherwise libraries for Windows contain the time
    }


if __name__ == "__main__":
    main()
