"""The library that C programs use, as `make core-install` makes it, for tests; and its reader of files, by ctypes.

    with installed.File.open(path, weights=GOLDEN) as file:
        samples = file.read(reduction=2)

HPCM_TEST_READER names another build of the library (`core/build.py --files`), as `make check-sanitized` does.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import runpy
import shutil
import subprocess
import sys
from ctypes import POINTER, byref, c_char, c_char_p, c_int, c_int32, c_size_t, c_uint8, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from headers import Header
from hpcm.core.library import Check

ROOT = Path(__file__).resolve().parents[1]
PREFIX = ROOT / "build" / "installed"
HEADER = Header("status.h", "file/decode.h", types={"hpcm_check": Check})
STATUSES = [name.removeprefix("HPCM_") for name in HEADER.enumeration("hpcm_status")]  # OK, STOPPED, ...
LOSSY, REFINED, NEAR_LOSSLESS, LOSSLESS = range(4)  # hpcm_loss
core = SimpleNamespace(**runpy.run_path(str(ROOT / "core" / "build.py")))


# ---- the installation -----------------------------------------------------------------------------------------------


@cache
def prefix() -> Path:
    """Where the library is installed, anew if what it is made of has changed. Skips where it can't be."""
    if sys.platform == "win32":
        pytest.skip("the library is installed on Unixes")
    try:
        core.find_compiler()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    note, made_of = PREFIX / "made-of", _fingerprint()
    if not note.exists() or note.read_text() != made_of:
        core.Installation(PREFIX).install()
        note.write_text(made_of)
    return PREFIX


def _fingerprint() -> str:
    """Of all that the installed files depend on."""
    digest = hashlib.sha256(f"{os.environ.get('CC')} {sys.executable}".encode())
    for file in [*core._sources(files=True), *core.CORE.rglob("*.h"), *core.CORE.glob("*.py"), core.SYMBOLS]:
        digest.update(file.read_bytes())
    digest.update((ROOT / "src" / "hpcm" / "__init__.py").read_bytes())
    for weights in core.WEIGHTS.iterdir():  # large, and they never change
        digest.update(f"{weights.name} {weights.stat().st_size}".encode())
    return digest.hexdigest()


@cache
def pkg_config(package: str, *options: str) -> str | None:
    """What pkg-config says of a package; None if it isn't there."""
    if not shutil.which("pkg-config"):
        return None
    done = subprocess.run(["pkg-config", *options, package], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


@cache
def library() -> ctypes.CDLL:
    """The library with the reader of files. Skips where there is none."""
    name = core.library_name(core.this_platform())
    loaded = ctypes.CDLL(os.environ.get("HPCM_TEST_READER") or str(prefix() / "lib" / name))
    for function, (result, arguments) in FUNCTIONS.items():
        bound = getattr(loaded, function)
        bound.restype, bound.argtypes = result, arguments
    return loaded


# ---- the binding ----------------------------------------------------------------------------------------------------


class Settings(ctypes.Structure):
    """hpcm_settings."""

    _fields_ = [("size", c_size_t), ("weights", c_char_p), ("threads", c_int32), ("max_pixels", c_uint64)]


class Info(ctypes.Structure):
    """hpcm_info."""

    _fields_ = [
        ("size", c_size_t),
        ("width", c_int32),
        ("height", c_int32),
        ("channels", c_int32),
        ("bit_depth", c_int32),
        ("is_progressive", c_int32),
        ("loss", c_int32),
        ("max_error", c_int32),
        ("level", c_int32),
        ("tile_side", c_int32),
        ("tiles", c_int32),
        ("model", c_char * 33),
        ("model_hash", c_uint8 * 8),
        ("parts", c_int32),
        ("parts_there", c_int32),
        ("scales_there", c_int32),
    ]


class Request(ctypes.Structure):
    """hpcm_request."""

    _fields_ = [
        ("size", c_size_t),
        ("left", c_int32),
        ("top", c_int32),
        ("right", c_int32),
        ("bottom", c_int32),
        ("reduction", c_int32),
        ("scale", c_int32),
        ("partial", c_int32),
        ("bit_depth", c_int32),
        ("channels", c_int32),
        ("check", Check),
        ("user", c_void_p),
    ]


STRUCTS = {"hpcm_settings": Settings, "hpcm_info": Info, "hpcm_request": Request}
_file, _opened = c_void_p, POINTER(c_void_p)
FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "hpcm_is_file": (c_int, [c_char_p, c_size_t]),
    "hpcm_version": (c_char_p, []),
    "hpcm_open": (c_int, [c_char_p, POINTER(Settings), _opened]),
    "hpcm_open_memory": (c_int, [c_char_p, c_size_t, POINTER(Settings), _opened]),
    "hpcm_open_stream": (c_int, [POINTER(Settings), _opened]),
    "hpcm_append": (c_int, [_file, c_char_p, c_size_t]),
    "hpcm_close": (None, [_file]),
    "hpcm_message": (c_char_p, [_file]),
    "hpcm_get_info": (c_int, [_file, POINTER(Info)]),
    "hpcm_get_metadata": (c_void_p, [_file, c_char, POINTER(c_size_t)]),
    "hpcm_get_size": (c_int, [_file, POINTER(Request), POINTER(c_int32), POINTER(c_int32)]),
    "hpcm_read": (c_int, [_file, POINTER(Request), c_void_p, c_size_t]),
    "hpcm_reduction_for": (c_int32, [_file, c_int32, c_int32]),
}


class Failure(Exception):
    """A call that didn't give HPCM_OK. `status`: such as "CORRUPT"; `message`: the library's."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.message = status, message


class File:
    """An hpcm_file. `status` is that of opening it, such as "OK" or "TRUNCATED"; the methods raise Failure.

    weights: a folder that is looked into first, or a weights file. threads: 0 is one for each core.
    """

    def __init__(self, opener: str, *source: Any, weights: Path | None, threads: int, max_pixels: int) -> None:
        self._library = library()
        self._handle = c_void_p()
        path = os.fsencode(weights) if weights else None
        settings = Settings(ctypes.sizeof(Settings), path, threads, max_pixels)
        status = getattr(self._library, opener)(*source, byref(settings), byref(self._handle))
        self.status = STATUSES[status]

    @classmethod
    def open(cls, path: Path, *, weights: Path | None = None, threads: int = 1, max_pixels: int = 0) -> File:
        return cls("hpcm_open", os.fsencode(path), weights=weights, threads=threads, max_pixels=max_pixels)

    @classmethod
    def open_memory(cls, data: bytes, *, weights: Path | None = None, threads: int = 1, max_pixels: int = 0) -> File:
        return cls("hpcm_open_memory", data, len(data), weights=weights, threads=threads, max_pixels=max_pixels)

    @classmethod
    def open_stream(cls, *, weights: Path | None = None, threads: int = 1, max_pixels: int = 0) -> File:
        return cls("hpcm_open_stream", weights=weights, threads=threads, max_pixels=max_pixels)

    def close(self) -> None:
        self._library.hpcm_close(self._handle)
        self._handle = c_void_p()

    def __enter__(self) -> File:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def message(self) -> str:
        return self._library.hpcm_message(self._handle).decode()

    def append(self, data: bytes) -> None:
        self._check(self._library.hpcm_append(self._handle, data, len(data)))

    def info(self) -> Info:
        info = Info(ctypes.sizeof(Info))
        self._check(self._library.hpcm_get_info(self._handle, byref(info)))
        return info

    def metadata(self, kind: str) -> bytes | None:
        """The data of a chunk by its type; None if there is none."""
        size = c_size_t(1)
        data = self._library.hpcm_get_metadata(self._handle, kind.encode(), byref(size))
        assert data or not size.value
        return ctypes.string_at(data, size.value) if data else None

    def size(self, **request: Any) -> tuple[int, int]:
        """Columns and rows of what is asked for, by the fields of hpcm_request."""
        columns, rows = c_int32(), c_int32()
        asked = byref(_request(request))
        self._check(self._library.hpcm_get_size(self._handle, asked, byref(columns), byref(rows)))
        return columns.value, rows.value

    def read(self, *, gap: int = 0, **request: Any) -> np.ndarray:
        """Samples [rows][columns][channels] of what is asked for, by the fields of hpcm_request.

        gap: bytes between rows, an even number. They must stay as they are.
        """
        columns, rows = self.size(**request)
        info = self.info()
        depth = request.get("bit_depth") or info.bit_depth
        channels = request.get("channels") or info.channels
        kind = np.dtype(np.uint8 if depth == 8 else np.uint16)
        row_bytes = columns * channels * kind.itemsize
        memory = np.full((rows, row_bytes + gap), 0xA5, np.uint8)
        asked = byref(_request(request))
        self._check(self._library.hpcm_read(self._handle, asked, memory.ctypes.data, memory.strides[0]))
        assert (memory[:, row_bytes:] == 0xA5).all(), "the gaps between rows were written to"
        return np.ascontiguousarray(memory[:, :row_bytes]).view(kind).reshape(rows, columns, channels)

    def reduction_for(self, columns: int, rows: int) -> int:
        return self._library.hpcm_reduction_for(self._handle, columns, rows)

    def _check(self, status: int) -> None:
        if status:
            raise Failure(STATUSES[status], self.message)


def _request(fields: dict[str, Any]) -> Request:
    return Request(size=ctypes.sizeof(Request), **fields)
