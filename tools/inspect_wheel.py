"""Says what is wrong with a wheel: its native library, its tags, its RECORD. `make release` asks it of every wheel.

    python tools/inspect_wheel.py dist/*.whl

Nothing is run, so every machine can inspect the wheels of all platforms. A library must load wherever the tag says,
with nothing but the system's own libraries, show the functions of core/hpcm.h alone, and say nothing of its builder.
"""

import hashlib
import re
import runpy
import struct
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import lief
from installer.sources import WheelFile
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).resolve().parents[1]
NAME = "hpcm-codec"
SYMBOLS = runpy.run_path(str(ROOT / "core" / "check_symbols.py"))
FUNCTIONS: set[str] = SYMBOLS["declared"](ROOT / "core" / "hpcm.h")

NATIVE = (".so", ".dylib", ".dll", ".pyd", ".exe")
PATHS = re.compile(rb"(?:/[\w.+~@-]{3,}){2,}|[A-Za-z]:[\\/][\w.~-]{5,}")  # so long that code isn't taken for one
PATHS_OF_SYSTEMS = {b"/usr/lib/dyld", b"/usr/lib/libSystem.B.dylib"}
WRITABLE_CODE = "it has memory that is writable and executable"
OLDEST_GLIBC = (2, 17)
OLDEST_MACOS = [11, 0, 0]
# zig's linker shows these in every library for macOS; they stand for the library itself
OF_THE_LINKER = {"_mh_dylib_header", "__dso_handle"}
# of a signature of macOS (cs_blobs.h)
SUPER_BLOB, CODE_DIRECTORY, AD_HOC, SHA_256 = 0xFADE0CC0, 0, 2, 2

lief.logging.disable()  # it tells of parts that only its paid version reads


# ---- a wheel --------------------------------------------------------------------------------------------------------


def wheel_faults(wheel: Path, functions: set[str] = FUNCTIONS) -> Iterator[str]:
    """What is wrong with a wheel whose library shows these functions, a line each.

    Raises zipfile.BadZipFile and ValueError where it is none, or for no platform of ours.
    """
    name, _, _, tags = parse_wheel_filename(wheel.name)
    (tag, *others) = tags
    if name != canonicalize_name(NAME) or (tag.interpreter, tag.abi) != ("py3", "none") or others:
        yield f"it should be a wheel of {NAME} for every Python 3 on one platform, by its name"
    yield from record_faults(wheel)
    with zipfile.ZipFile(wheel) as archive:
        files = {member: archive.read(member) for member in archive.namelist()}
    yield from metadata_faults(files, str(tag))
    yield from file_faults(files, tag.platform, functions)


def file_faults(files: dict[str, bytes], platform: str, functions: set[str]) -> Iterator[str]:
    library = f"hpcm/core/{system_of(platform).file}"
    if others := {member for member in files if member.endswith(NATIVE)} - {library}:
        yield f"it has other native files: {', '.join(sorted(others))}"
    if library in files:
        yield from library_faults(files[library], platform, functions)
    else:
        yield f"it lacks {library}"
    for member, data in files.items():
        if str(ROOT).encode() in data:
            yield f"{member} has the path {ROOT}"


def record_faults(wheel: Path) -> Iterator[str]:
    """Whether RECORD names every file, with its hash and its size."""
    with WheelFile.open(wheel) as source:
        try:
            source.validate_record()
        except source.validation_error as error:
            yield f"RECORD: {error}"


def metadata_faults(files: dict[str, bytes], tag: str) -> Iterator[str]:
    """Whether WHEEL says what the name of the file says."""
    (described,) = (data.decode() for member, data in files.items() if member.endswith(".dist-info/WHEEL"))
    lines = described.splitlines()
    if "Root-Is-Purelib: false" not in lines:
        yield "WHEEL lacks `Root-Is-Purelib: false`, but a native library isn't for every platform"
    tags = [line.removeprefix("Tag: ") for line in lines if line.startswith("Tag: ")]
    if tags != [tag]:
        yield f"WHEEL has the tag {', '.join(tags) or 'of nothing'}, the file's name {tag}"


# ---- its library ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Library:
    """What is asked of a library in each of the three formats."""

    machine: str  # as the tags of the system call it
    exports: set[str]
    needs: list[str]  # other libraries, by name
    faults: list[str]  # of its format


def library_faults(data: bytes, platform: str, functions: set[str] = FUNCTIONS) -> Iterator[str]:
    """What is wrong with a library that shows these functions, for a platform by its tag: win_amd64. A line each."""
    system = system_of(platform)
    parsed = lief.parse(data)
    if not isinstance(parsed, system.format):
        yield f"the library of {platform} has another format, or none"
        return
    library = system.look(parsed, data)
    if not platform.endswith(f"_{library.machine.lower()}"):
        yield f"it is compiled for {library.machine}"
    if missing := functions - library.exports:
        yield f"it lacks {', '.join(sorted(missing))}"
    if superfluous := library.exports - functions:
        yield f"it shows more than core/hpcm.h: {', '.join(sorted(superfluous))}"
    for needed in library.needs:
        if not re.fullmatch(system.libraries, needed):
            yield f"it needs {needed}, which isn't the system's"
    yield from library.faults
    yield from builder_faults(data)


def builder_faults(data: bytes) -> Iterator[str]:
    """Paths and names of the machine that built a library."""
    for path in sorted({*PATHS.findall(data)} - PATHS_OF_SYSTEMS):
        yield f"it has the path {path.decode()}"
    for private in sorted({str(ROOT), str(Path.home()), gettempdir(), getuser()}):
        if re.search(rb"(?<!\w)" + re.escape(private.encode()) + rb"(?!\w)", data):
            yield f"it has the builder's {private}"


# ---- Linux ----------------------------------------------------------------------------------------------------------


def look_at_elf(parsed: lief.ELF.Binary, data: bytes) -> Library:
    exports = {function.name for function in parsed.exported_functions}
    faults = [*elf_faults(parsed), *elf_memory_faults(parsed), *elf_version_faults(parsed)]
    return Library(parsed.header.machine_type.name, exports, list(parsed.libraries), faults)


def elf_faults(parsed: lief.ELF.Binary) -> Iterator[str]:
    tags = lief.ELF.DynamicEntry.TAG
    if parsed.header.file_type != lief.ELF.Header.FILE_TYPE.DYN:
        yield "it is no shared library"
    if (soname := parsed.get(tags.SONAME)) is None or soname.name != "libhpcm.so":
        yield "its name (SONAME) isn't libhpcm.so"
    if parsed.has(tags.RPATH) or parsed.has(tags.RUNPATH):
        yield "it says where libraries should be looked for (RPATH, RUNPATH)"
    if parsed.has(tags.TEXTREL) or "TEXTREL" in str(parsed.get(tags.FLAGS)):
        yield "its code is changed when it is loaded (TEXTREL)"


def elf_memory_faults(parsed: lief.ELF.Binary) -> Iterator[str]:
    flags = lief.ELF.Segment.FLAGS
    stack = parsed.get(lief.ELF.Segment.TYPE.GNU_STACK)
    if stack is None or stack.has(flags.X):
        yield "it asks for an executable stack"
    if any(segment.has(flags.W) and segment.has(flags.X) for segment in parsed.segments):
        yield WRITABLE_CODE


def elf_version_faults(parsed: lief.ELF.Binary) -> Iterator[str]:
    """Versions of glibc's symbols; musl has none."""
    for needed in parsed.symbols_version_requirement:
        for version in needed.get_auxiliary_symbols():
            if not old_enough(version.name):
                yield f"it needs {version.name} of {needed.name}"


def old_enough(version: str) -> bool:
    """Whether a version of symbols is one of the oldest glibc that a wheel is for."""
    found = re.fullmatch(r"GLIBC_(\d+)\.(\d+)(\.\d+)?", version)
    return found is not None and (int(found[1]), int(found[2])) <= OLDEST_GLIBC


# ---- macOS ----------------------------------------------------------------------------------------------------------


def look_at_macho(parsed: lief.MachO.Binary, data: bytes) -> Library:
    exports = {entry.symbol.name.removeprefix("_") for entry in parsed.dyld_info.exports} - OF_THE_LINKER
    own, *needs = [library.name for library in parsed.libraries]
    faults = [*macho_faults(parsed, own), *signature_faults(parsed, data)]
    return Library(parsed.header.cpu_type.name, exports, needs, faults)


def macho_faults(parsed: lief.MachO.Binary, own_name: str) -> Iterator[str]:
    if parsed.header.file_type != lief.MachO.Header.FILE_TYPE.DYLIB:
        yield "it is no shared library"
    if own_name != "@rpath/libhpcm.dylib":
        yield f"its name (LC_ID_DYLIB) is {own_name}"
    if parsed.has_rpath:
        yield "it says where libraries should be looked for (LC_RPATH)"
    version = parsed.build_version
    if version is None or version.platform != lief.MachO.BuildVersion.PLATFORMS.MACOS or version.minos != OLDEST_MACOS:
        yield f"it isn't for macOS {OLDEST_MACOS[0]} and later (LC_BUILD_VERSION)"
    if any(segment.init_protection & 6 == 6 for segment in parsed.segments):  # VM_PROT_WRITE, VM_PROT_EXECUTE
        yield WRITABLE_CODE


def signature_faults(parsed: lief.MachO.Binary, data: bytes) -> Iterator[str]:
    """Whether the hashes that macOS checks, page by page, are those of the bytes as they are.

    The layout is that of xnu's osfmk/kern/cs_blobs.h, big-endian: a CS_SuperBlob (magic, length, count, and as many
    times type, offset), and in it a CS_CodeDirectory.
    """
    if not parsed.has_code_signature:
        if parsed.header.cpu_type == lief.MachO.Header.CPU_TYPE.ARM64:
            yield "it isn't signed, so that macOS wouldn't load it"
        return
    begin = parsed.code_signature.data_offset
    blobs = data[begin : begin + parsed.code_signature.data_size]
    magic, _, blob_count = struct.unpack_from(">3I", blobs)
    directories = [
        offset for kind, offset in struct.iter_unpack(">2I", blobs[12 : 12 + 8 * blob_count]) if kind == CODE_DIRECTORY
    ]
    if magic != SUPER_BLOB or len(directories) != 1:
        yield "its signature isn't one directory of hashes"
        return
    yield from hash_faults(blobs[directories[0] :], data[:begin])


def hash_faults(directory: bytes, signed: bytes) -> Iterator[str]:
    """Compares a CS_CodeDirectory with the bytes that it signs, which are all before the signature."""
    _, _, _, flags, hashes, _, _, pages, limit = struct.unpack_from(">9I", directory)
    hash_bytes, hash_type, _, page_bits = struct.unpack_from(">4B", directory, 36)
    if not flags & AD_HOC or hash_type != SHA_256 or hash_bytes != 32:
        yield "its signature isn't ad hoc, by SHA-256"
        return
    page = 1 << page_bits
    parts = [signed[at : at + page] for at in range(0, len(signed), page)]
    if limit != len(signed) or pages != len(parts):
        yield f"its signature covers {limit} bytes in {pages} pages instead of {len(signed)} in {len(parts)}"
        return
    for number, part in enumerate(parts):
        if directory[hashes + 32 * number :][:32] != hashlib.sha256(part).digest():
            yield f"its signature is of other bytes than those of page {number} (from {number * page:#x})"


# ---- Windows --------------------------------------------------------------------------------------------------------


def look_at_pe(parsed: lief.PE.Binary, data: bytes) -> Library:
    shown = parsed.get_export()
    exports = {entry.name for entry in shown.entries} if shown else set()
    return Library(parsed.header.machine.name, exports, list(parsed.libraries), list(pe_faults(parsed)))


def pe_faults(parsed: lief.PE.Binary) -> Iterator[str]:
    flags = lief.PE.OptionalHeader.DLL_CHARACTERISTICS
    if not parsed.header.has_characteristic(lief.PE.Header.CHARACTERISTICS.DLL):
        yield "it is no DLL"
    if not parsed.has_exports or parsed.get_export().name != "hpcm.dll":
        yield "its name (in the table of exports) isn't hpcm.dll"
    for flag in (flags.DYNAMIC_BASE, flags.HIGH_ENTROPY_VA, flags.NX_COMPAT):
        if not parsed.optional_header.has(flag):
            yield f"it lacks the flag {flag.name}"
    if parsed.has_delay_imports:
        yield "it loads libraries later on"
    if not parsed.is_reproducible_build:
        yield "it has the time at which it was built"
    if any(map(is_writable_code, parsed.sections)):
        yield WRITABLE_CODE


def is_writable_code(section: lief.PE.Section) -> bool:
    memory = lief.PE.Section.CHARACTERISTICS
    return section.has_characteristic(memory.MEM_WRITE) and section.has_characteristic(memory.MEM_EXECUTE)


# ---- which is which -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class System:
    format: type
    look: Callable[[Any, bytes], Library]
    file: str
    libraries: str  # of the system's own that a library may need, as a regular expression


SYSTEMS = {  # by the beginning of a tag
    "manylinux": System(
        lief.ELF.Binary,
        look_at_elf,
        "libhpcm.so",
        r"lib(c|m)\.so\.6|libpthread\.so\.0|ld-linux-(x86-64\.so\.2|aarch64\.so\.1)",
    ),
    "musllinux": System(lief.ELF.Binary, look_at_elf, "libhpcm.so", r"libc\.so"),
    "macosx": System(lief.MachO.Binary, look_at_macho, "libhpcm.dylib", r"/usr/lib/libSystem\.B\.dylib"),
    # api-ms-win-crt-*: the C runtime, a part of Windows since Windows 10
    "win": System(lief.PE.Binary, look_at_pe, "hpcm.dll", r"(?i)kernel32\.dll|api-ms-win-crt-[a-z]+-l1-1-0\.dll"),
}


def system_of(platform: str) -> System:
    """By the tag of a wheel. Raises ValueError for others than ours."""
    for name, system in SYSTEMS.items():
        if platform.startswith(f"{name}_"):
            return system
    raise ValueError(f"hpcm has no wheels for {platform}")


def main(wheels: Iterable[Path]) -> None:
    """Prints a line for each wheel, and ends the program where one has faults."""
    found = False
    for wheel in wheels:
        faults = list(wheel_faults(wheel))
        print(f"{wheel.name}: {'; '.join(faults) or 'as it should be'}")
        found |= bool(faults)
    if found:
        sys.exit("there is something wrong with these wheels")


if __name__ == "__main__":
    main(map(Path, sys.argv[1:]))
