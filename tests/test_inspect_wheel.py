"""What tools/inspect_wheel.py finds in wheels, on small libraries for three systems and what can be wrong with them."""

import base64
import hashlib
import os
import runpy
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpcm.core import library

lief = pytest.importorskip("lief", reason="needs lief: pip install 'hpcm-codec[release]'")
pytest.importorskip("installer", reason="needs installer: pip install 'hpcm-codec[release]'")
pytest.importorskip("ziglang", reason="needs a compiler for every platform: pip install ziglang")

ROOT = Path(__file__).parents[1]
core = SimpleNamespace(**runpy.run_path(str(ROOT / "core" / "build.py")))
inspect = SimpleNamespace(**runpy.run_path(str(ROOT / "tools" / "inspect_wheel.py")))

LINUX, MACOS, WINDOWS = "manylinux_2_17_x86_64", "macosx_11_0_arm64", "win_arm64"
SOURCE = """
#include <stddef.h>
#if defined(_WIN32)
#define API __declspec(dllexport)
__declspec(dllimport) unsigned GetTickCount(void);
int DllMainCRTStartup(void *module, unsigned reason, void *reserved);
int DllMainCRTStartup(void *module, unsigned reason, void *reserved) { return module != reserved && reason < 4; }
API int hpcm_one(void) { return (int)GetTickCount(); }
#else
#include <time.h>
#define API __attribute__((visibility("default")))
API int hpcm_one(void) { struct timespec now; return clock_gettime(CLOCK_MONOTONIC, &now); }
#endif
int hidden(int x);
int hidden(int x) { return x * x; }
API int hpcm_two(int x) { return hidden(x) + 2; }
"""
SHOWN = {"hpcm_one", "hpcm_two"}


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A library without faults for each system. zig keeps what it needs for that in the checkout."""
    folder = tmp_path_factory.mktemp("libraries")
    (folder / "small.c").write_text(SOURCE)
    made = {}
    for target in (LINUX, MACOS, WINDOWS):
        name = core.library_name(target)
        linking = [*core._naming(target), *(["-nostdlib", "-lkernel32"] if target == WINDOWS else [])]
        line = [
            *core.zig(target),
            "-O3",
            "-g0",
            "-fvisibility=hidden",
            "-shared",
            "-s",
            "small.c",
            "-o",
            name,
            *linking,
        ]
        cache = {"ZIG_GLOBAL_CACHE_DIR": str(core.BUILD / "zig"), "SOURCE_DATE_EPOCH": "0"}
        subprocess.run(line, cwd=folder, env={**cache, **os.environ}, check=True)
        made[target] = (folder / name).read_bytes()
    return made


def faults(data: bytes, platform: str, functions: set[str] = SHOWN) -> list[str]:
    return list(inspect.library_faults(data, platform, functions))


def edited(change: Callable) -> Callable[[bytes], bytes]:
    """A change of bytes that lief makes."""

    def of(data: bytes) -> bytes:
        parsed = lief.parse(data)
        change(parsed)
        return bytes(parsed.write_to_bytes())

    return of


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def of(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new)

    return of


def flipped(where: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :]


def executable_stack(elf) -> None:
    elf.get(lief.ELF.Segment.TYPE.GNU_STACK).add(lief.ELF.Segment.FLAGS.X)


def later_macos(macho) -> None:
    macho.build_version.minos = [12, 0, 0]


def without_nx(pe) -> None:
    pe.optional_header.remove(lief.PE.OptionalHeader.DLL_CHARACTERISTICS.NX_COMPAT)


def test_the_functions_are_those_of_the_binding() -> None:
    assert set(library.FUNCTIONS) == inspect.FUNCTIONS


def test_every_platform_is_known() -> None:
    for target in core.TARGETS:
        assert inspect.system_of(target).file == core.library_name(target)
    with pytest.raises(ValueError, match="linux_riscv64"):
        inspect.system_of("linux_riscv64")


@pytest.mark.parametrize("platform", [LINUX, MACOS, WINDOWS])
def test_a_library_without_faults(libraries: dict[str, bytes], platform: str) -> None:
    assert faults(libraries[platform], platform) == []


@pytest.mark.parametrize(
    ("platform", "change", "fault"),
    [
        (LINUX, replaced(b"GLIBC_2.17\0", b"GLIBC_2.18\0"), "it needs GLIBC_2.18 of libc.so.6"),
        (LINUX, replaced(b"libhpcm.so\0", b"libelse.so\0"), "its name (SONAME) isn't libhpcm.so"),
        (LINUX, edited(lambda elf: elf.add_library("libgomp.so.1")), "it needs libgomp.so.1"),
        (LINUX, edited(lambda elf: elf.add(lief.ELF.DynamicEntryRunPath("/opt"))), "it says where libraries"),
        (LINUX, edited(executable_stack), "it asks for an executable stack"),
        (LINUX, lambda data: data + b"/home/somebody/core/ans.c\0", "it has the path /home/somebody/core/ans.c"),
        (LINUX, lambda data: data[1:], "has another format, or none"),
        (MACOS, flipped(0x1000), "its signature is of other bytes than those of page 0 (from 0x0)"),
        (MACOS, flipped(0x4100), "its signature is of other bytes than those of page 1 (from 0x4000)"),
        (MACOS, edited(lambda macho: macho.remove_signature()), "it isn't signed"),
        (MACOS, edited(lambda macho: macho.add_library("/opt/lib/libomp.dylib")), "it needs /opt/lib/libomp.dylib"),
        (MACOS, edited(later_macos), "it isn't for macOS 11 and later"),
        (MACOS, replaced(b"@rpath/libhpcm", b"@rpath/libelse"), "its name (LC_ID_DYLIB) is @rpath/libelse.dylib"),
        (WINDOWS, replaced(b"KERNEL32.dll\0", b"pthreads.dll\0"), "it needs pthreads.dll"),
        (WINDOWS, edited(without_nx), "it lacks the flag NX_COMPAT"),
        (WINDOWS, replaced(b"hpcm.dll\0", b"else.dll\0"), "its name (in the table of exports) isn't hpcm.dll"),
        (WINDOWS, lambda data: data + b"C:\\Users\\somebody\0", "it has the path C:\\Users"),
    ],
)
def test_a_fault_is_found(libraries: dict[str, bytes], platform: str, change: Callable, fault: str) -> None:
    found = faults(change(libraries[platform]), platform)
    assert any(line.startswith(fault) or fault in line for line in found), found


@pytest.mark.parametrize(
    ("built", "platform", "fault"),
    [
        (LINUX, "manylinux_2_17_aarch64", "it is compiled for X86_64"),
        (LINUX, "musllinux_1_2_x86_64", "it needs libc.so.6, which isn't the system's"),
        (MACOS, "macosx_11_0_x86_64", "it is compiled for ARM64"),
        (WINDOWS, "win_amd64", "it is compiled for ARM64"),
        (WINDOWS, LINUX, "has another format, or none"),
    ],
)
def test_a_library_for_another_platform(libraries: dict[str, bytes], built: str, platform: str, fault: str) -> None:
    assert fault in "\n".join(faults(libraries[built], platform))


@pytest.mark.parametrize("platform", [LINUX, MACOS, WINDOWS])
def test_functions_that_lack_and_that_are_too_many(libraries: dict[str, bytes], platform: str) -> None:
    assert faults(libraries[platform], platform, SHOWN | {"hpcm_three"}) == ["it lacks hpcm_three"]
    assert faults(libraries[platform], platform, {"hpcm_one"}) == ["it shows more than core/hpcm.h: hpcm_two"]


def test_a_signature_of_too_few_bytes(libraries: dict[str, bytes]) -> None:
    parsed = lief.parse(libraries[MACOS])
    begin = parsed.code_signature.data_offset
    limit = begin.to_bytes(4, "big")
    head, signature = libraries[MACOS][:begin], libraries[MACOS][begin:]
    assert limit in signature
    shorter = signature.replace(limit, (begin - 1).to_bytes(4, "big"), 1)
    assert any(f"its signature covers {begin - 1} bytes" in line for line in faults(head + shorter, MACOS))


def make_wheel(folder: Path, files: dict[str, bytes], tag: str = LINUX, wheel: str | None = None) -> Path:
    """A wheel with these files, a RECORD of them, and the lines `wheel` as its WHEEL."""
    info = "hpcm_codec-1.0.dist-info"
    lines = wheel or f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-{tag}\n"
    files = files | {f"{info}/WHEEL": lines.encode(), f"{info}/METADATA": b"Name: hpcm-codec\n"}
    record = f"{info}/RECORD,,\n"
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        record += f"{name},sha256={digest},{len(data)}\n"
    made = folder / f"hpcm_codec-1.0-py3-none-{tag}.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in {**files, f"{info}/RECORD": record.encode()}.items():
            archive.writestr(name, data)
    return made


@pytest.fixture
def small(libraries: dict[str, bytes]) -> dict[str, bytes]:
    """The files of a wheel without faults, whose library has two functions."""
    return {"hpcm/core/libhpcm.so": libraries[LINUX]}


def of_wheel(path: Path) -> str:
    return "\n".join(inspect.wheel_faults(path, SHOWN))


def test_a_wheel_without_faults(tmp_path: Path, small: dict[str, bytes]) -> None:
    assert of_wheel(make_wheel(tmp_path, small)) == ""


def test_the_command_fails_where_there_are_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel = make_wheel(tmp_path, {})
    with pytest.raises(SystemExit, match="wrong"):
        inspect.main([wheel])
    assert capsys.readouterr().out == f"{wheel.name}: it lacks hpcm/core/libhpcm.so\n"
    inspect.main([])


@pytest.mark.parametrize(
    ("wheel", "fault"),
    [
        (f"Root-Is-Purelib: true\nTag: py3-none-{LINUX}\n", "WHEEL lacks `Root-Is-Purelib: false`"),
        (
            "Root-Is-Purelib: false\nTag: py3-none-any\n",
            f"WHEEL has the tag py3-none-any, the file's name py3-none-{LINUX}",
        ),
    ],
)
def test_what_the_metadata_say(tmp_path: Path, small: dict[str, bytes], wheel: str, fault: str) -> None:
    assert fault in of_wheel(make_wheel(tmp_path, small, wheel=wheel))


def test_a_record_of_other_bytes(tmp_path: Path, small: dict[str, bytes]) -> None:
    wheel = make_wheel(tmp_path, small | {"hpcm/errors.py": b"# first"})
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in (files | {"hpcm/errors.py": b"# other"}).items():
            archive.writestr(name, data)
    assert "RECORD: " in of_wheel(wheel)
    assert "hpcm/errors.py" in of_wheel(wheel)


def test_a_wheel_of_other_files(tmp_path: Path, small: dict[str, bytes]) -> None:
    assert of_wheel(make_wheel(tmp_path, {})) == "it lacks hpcm/core/libhpcm.so"
    more = make_wheel(tmp_path, small | {"hpcm/core/hpcm.dll": b"of Windows"})
    assert of_wheel(more) == "it has other native files: hpcm/core/hpcm.dll"
    path = make_wheel(tmp_path, small | {"hpcm/path.py": f"HERE = '{ROOT}'".encode()})
    assert of_wheel(path) == f"hpcm/path.py has the path {ROOT}"
