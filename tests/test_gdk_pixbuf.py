"""gdk-pixbuf's loader of .hpcm files, built against the installed library: its pixels are those of Python.

gdk-pixbuf is loaded into this process by ctypes, as a viewer uses it: a GdkPixbufLoader gets the bytes piece by piece.
"""

from __future__ import annotations

import base64
import configparser
import ctypes
import io
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import hpcm
import installed
from hpcm.codec.api import codec_for
from hpcm.defaults import MIME_TYPE
from hpcm.format.container import pack, unpack
from hpcm.image.planes import Samples, with_depth

ROOT = Path(__file__).parents[1]
PLUGINS = ROOT / "plugins"
GOLDEN = ROOT / "tests" / "golden"
PHOTO = ROOT / "tests" / "data" / "kodim23.png"
MODULE = "libpixbufloader-hpcm.so"
PATIENCE = 0.1  # seconds before the loader shows a part, as in io-hpcm.c
CORRUPT_IMAGE, INSUFFICIENT_MEMORY, UNKNOWN_TYPE, FAILED = 0, 1, 3, 5  # GdkPixbufError
package = partial(installed.pkg_config, "gdk-pixbuf-2.0")

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="modules of other systems have other names"),
    pytest.mark.skipif(package("--exists") is None, reason="needs pkg-config and gdk-pixbuf's headers"),
    pytest.mark.skipif(not (shutil.which("make") and shutil.which("cc")), reason="needs make and a C compiler"),
    pytest.mark.skipif(not shutil.which("update-mime-database"), reason="needs shared-mime-info"),
]


# ---- gdk-pixbuf ------------------------------------------------------------------------------------------------------


class Error(ctypes.Structure):
    _fields_ = [("domain", ctypes.c_uint32), ("code", ctypes.c_int), ("message", ctypes.c_char_p)]


class LoadError(Exception):
    def __init__(self, error: Error) -> None:
        super().__init__(error.message.decode())
        self.code = error.code


@dataclass
class Loaded:
    """What a loader has said.

    shown: the pixels at each area-updated, [H, W, 3 or 4].
    """

    events: list[str] = field(default_factory=list)
    shown: list[Samples] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)

    @property
    def pixels(self) -> Samples:
        return self.shown[-1]


SIZE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
PREPARED = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
UPDATED = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int] * 4, ctypes.c_void_p)
CALLBACKS = {"size-prepared": SIZE, "area-prepared": PREPARED, "area-updated": UPDATED}


class GdkPixbuf:
    """The functions of gdk-pixbuf and GObject that are called here."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL("libgdk_pixbuf-2.0.so.0")
        self.objects = ctypes.CDLL("libgobject-2.0.so.0")
        for name in ("loader_new", "loader_new_with_type", "loader_get_pixbuf", "get_pixels", "get_file_info"):
            self.function(name).restype = ctypes.c_void_p
        self.function("get_pixels").argtypes = [ctypes.c_void_p]

    def function(self, name: str) -> Any:
        return getattr(self.library, f"gdk_pixbuf_{name}")

    def pixels(self, pixbuf: int) -> Samples:
        names = ("get_height", "get_width", "get_n_channels", "get_rowstride")
        height, width, channels, stride = (self.function(name)(ctypes.c_void_p(pixbuf)) for name in names)
        row = width * channels
        rows = (ctypes.string_at(self.function("get_pixels")(pixbuf) + y * stride, row) for y in range(height))
        return np.frombuffer(b"".join(rows), np.uint8).reshape(height, width, channels)

    def options(self, pixbuf: int) -> dict[str, str]:
        get = self.function("get_option")
        get.restype = ctypes.c_char_p
        names = ("icc-profile", "x-dpi", "y-dpi", "tEXt::Comment", "orientation")
        found = {name: get(ctypes.c_void_p(pixbuf), name.encode()) for name in names}
        return {name: text.decode() for name, text in found.items() if text is not None}

    def load(
        self,
        pieces: Iterable[bytes],
        resize: Callable[[int, int], tuple[int, int]] | None = None,
        kind: bytes | None = None,
    ) -> Loaded:
        """What a GdkPixbufLoader makes of a file, of which it gets the pieces one by one. Raises LoadError.

        Args:
            resize: the size that is wanted, of the picture's width and height.
            kind: the name of the format; without it, nothing is decoded before 4,096 bytes or the end are there.
        """
        loader = self.function("loader_new_with_type")(kind, None) if kind else self.function("loader_new")()
        loaded = Loaded()

        def sized(_loader: int, width: int, height: int, _user: int) -> None:
            loaded.events.append("size-prepared")
            if resize:
                self.function("loader_set_size")(ctypes.c_void_p(loader), *resize(width, height))

        def prepared(_loader: int, _user: int) -> None:
            loaded.events.append("area-prepared")

        def updated(_loader: int, *_area: int) -> None:
            loaded.events.append("area-updated")
            pixbuf = self.function("loader_get_pixbuf")(ctypes.c_void_p(loader))
            loaded.shown.append(self.pixels(pixbuf))
            loaded.options = self.options(pixbuf)

        handlers = [kind(handler) for kind, handler in zip(CALLBACKS.values(), (sized, prepared, updated), strict=True)]
        for name, handler in zip(CALLBACKS, handlers, strict=True):
            self.objects.g_signal_connect_data(ctypes.c_void_p(loader), name.encode(), handler, None, None, 0)
        error = ctypes.POINTER(Error)()
        try:
            for piece in pieces:
                size = ctypes.c_size_t(len(piece))
                if not self.function("loader_write")(ctypes.c_void_p(loader), piece, size, ctypes.byref(error)):
                    raise LoadError(error.contents)
            if not self.function("loader_close")(ctypes.c_void_p(loader), ctypes.byref(error)):
                raise LoadError(error.contents)
        finally:
            self.function("loader_close")(ctypes.c_void_p(loader), None)
            self.objects.g_object_unref(ctypes.c_void_p(loader))
        return loaded

    def size_of(self, path: Path) -> tuple[int, int] | None:
        """Width and height by gdk_pixbuf_get_file_info."""
        width, height = ctypes.c_int(), ctypes.c_int()
        found = self.function("get_file_info")(os.fsencode(path), ctypes.byref(width), ctypes.byref(height))
        return (width.value, height.value) if found else None


@pytest.fixture(scope="module")
def prefix() -> Path:
    """Where the library is installed."""
    return installed.prefix()


@pytest.fixture(scope="module")
def module(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The loader, compiled against the library in `prefix`."""
    folder = tmp_path_factory.mktemp("gdk-pixbuf")
    run_make("gdk-pixbuf", f"OUT={folder}", "CFLAGS=-O2 -Werror", f"LDFLAGS=-Wl,-rpath,{prefix / 'lib'}", prefix=prefix)
    return folder / MODULE


@pytest.fixture(scope="module")
def gdk(module: Path, prefix: Path) -> Iterator[GdkPixbuf]:
    """gdk-pixbuf with this loader and no other module, and the MIME type, by which it recognises files."""
    cache = module.with_name("loaders.cache")
    query = package("--variable=gdk_pixbuf_query_loaders")
    cache.write_bytes(subprocess.run([str(query), str(module)], stdout=subprocess.PIPE, check=True).stdout)
    run_make("install-mime", f"PREFIX={module.parent}", prefix=prefix)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(module.with_name("share")))
        patch.setenv("GDK_PIXBUF_MODULE_FILE", str(cache))
        patch.setenv("HPCM_WEIGHTS", str(module.parent))  # none: they are in the prefix
        yield GdkPixbuf()


def run_make(*arguments: str, prefix: Path) -> None:
    environment = os.environ | {"PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig")}
    subprocess.run(["make", "-s", "-C", str(PLUGINS), *arguments], check=True, env=environment)


def test_the_library_may_lie_in_a_folder_with_spaces(prefix: Path, tmp_path: Path) -> None:
    folder, description = tmp_path / "for me", tmp_path / "lib" / "pkgconfig" / "hpcm.pc"
    folder.symlink_to(prefix)
    description.parent.mkdir(parents=True)
    original = (prefix / "lib" / "pkgconfig" / "hpcm.pc").read_text("utf-8")
    description.write_text(original.replace(str(prefix), str(folder)), "utf-8")
    run_make("gdk-pixbuf", f"OUT={tmp_path}", prefix=tmp_path)
    assert (tmp_path / "libpixbufloader-hpcm.so").exists()


# ---- pixels ----------------------------------------------------------------------------------------------------------


def expected(data: bytes, size: tuple[int, int] | None = None) -> Samples:
    """What Python decodes of a file or its beginning, as [H, W, 3 or 4] of 8 bits.

    Args:
        size: the picture is reduced, but not below this width and height.
    """
    container = unpack(data, partial=True)
    planes = with_depth(codec_for(container).decompress_picture(container, partial=True, draft=size), 8)
    colours = planes.pixels if planes.pixels.ndim == 3 else np.repeat(planes.pixels[..., None], 3, axis=2)
    return colours if planes.alpha is None else np.dstack([colours, planes.alpha])


def in_pieces(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def slowly(data: bytes, ends: Sequence[int]) -> Iterator[bytes]:
    """Pieces that end at these bytes, with so much time between them that the loader shows what it has."""
    for start, end in pairwise([0, *ends]):
        began = time.monotonic()
        yield data[start:end]
        decoding = time.monotonic() - began
        time.sleep(decoding + 2 * PATIENCE)


@pytest.mark.parametrize(
    "path", sorted(set(GOLDEN.glob("*.hpcm")) - set(GOLDEN.glob("tiny*"))), ids=lambda path: path.stem
)
def test_pixels_are_those_of_python(gdk: GdkPixbuf, path: Path) -> None:
    """Of colour, grey, alpha, 8 and 16 bits, and each kind of residual layer."""
    data = path.read_bytes()
    loaded = gdk.load([data])
    assert loaded.events == ["size-prepared", "area-prepared", "area-updated"]
    assert np.array_equal(loaded.pixels, expected(data))


@pytest.mark.parametrize("size", [1, 100])
def test_pieces(gdk: GdkPixbuf, size: int) -> None:
    data = (GOLDEN / "progressive.hpcm").read_bytes()
    loaded = gdk.load(in_pieces(data, size), kind=b"hpcm")
    assert loaded.events[:3] == ["size-prepared", "area-prepared", "area-updated"]
    assert np.array_equal(loaded.pixels, expected(data))


def test_bytes_that_come_slowly(gdk: GdkPixbuf) -> None:
    """Each pass over the tiles is shown; its end is in docs/format.md."""
    data = (GOLDEN / "progressive.hpcm").read_bytes()
    loaded = gdk.load(slowly(data, [400, 506, 507, 1000, 1322, len(data)]), kind=b"hpcm")
    assert loaded.events == ["size-prepared", "area-prepared", *["area-updated"] * 3]
    for shown, end in zip(loaded.shown, (506, 1322, len(data)), strict=True):
        assert np.array_equal(shown, expected(data[:end]))


def test_tiles_that_come_slowly(gdk: GdkPixbuf) -> None:
    data = hpcm.compress(Image.open(PHOTO).crop((0, 0, 600, 200)), model="nano", quality=20, tile=256)
    first = len(data) - sum(len(part.payload) + 4 for tile in unpack(data).tiles[1:] for part in tile)
    loaded = gdk.load(slowly(data, [first - 1, first + 1, len(data)]), kind=b"hpcm")
    for shown, end in zip(loaded.shown, (first, len(data)), strict=True):
        assert np.array_equal(shown, expected(data[:end]))


@pytest.mark.parametrize("how", [{"quality": 50}, {"quality": 90}, {"lossless": True}], ids=str)
@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_smaller_pictures(gdk: GdkPixbuf, mode: str, how: dict[str, Any]) -> None:
    """They are decoded smaller, and not scaled afterwards where that gives the size that is wanted."""
    image = Image.open(PHOTO).crop((300, 100, 460, 196)).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    data = hpcm.compress(image, model="nano", **how)
    for size in ((160, 96), (80, 48), (20, 12)):
        loaded = gdk.load([data], resize=lambda width, height, size=size: size)
        assert loaded.pixels.shape[:2] == size[::-1]
        assert np.array_equal(loaded.pixels, expected(data, size))


@pytest.mark.parametrize("size", [(75, 50), (200, 10), (1, 1), (400, 300)])
def test_other_sizes(gdk: GdkPixbuf, size: tuple[int, int]) -> None:
    """gdk-pixbuf scales what it gets."""
    data = (GOLDEN / "nano-1.hpcm").read_bytes()
    assert gdk.load([data], resize=lambda width, height: size).pixels.shape[:2] == size[::-1]


def test_options(gdk: GdkPixbuf) -> None:
    options = gdk.load([(GOLDEN / "format.hpcm").read_bytes()]).options
    profile = base64.b64decode(options.pop("icc-profile"))
    assert profile == b"a profile"
    assert options == {"x-dpi": "300", "y-dpi": "300", "tEXt::Comment": "made for the tests"}
    assert gdk.load([(GOLDEN / "nano-1.hpcm").read_bytes()]).options == {}


def test_comments_of_any_bytes(gdk: GdkPixbuf) -> None:
    container = unpack((GOLDEN / "nano-1.hpcm").read_bytes())
    for comments in (b"", b"\0", b"Comment", b"Comment\0\xff", b"a\0b\0Comment", b"x\0y\0" * 10_000 + b"Comment\0z"):
        data = pack(replace(container, ancillary=(("t", comments),)))
        found = gdk.load([data]).options.get("tEXt::Comment")
        assert found == ("\N{REPLACEMENT CHARACTER}" if comments.endswith(b"\xff") else None)


# ---- files that are cut short, damaged or not for this machine -----------------------------------------------------


@pytest.mark.parametrize("end", [428, 506, 600, 1322, 2000, 4025])
def test_files_that_are_cut_short(gdk: GdkPixbuf, end: int) -> None:
    beginning = (GOLDEN / "progressive.hpcm").read_bytes()[:end]
    assert np.array_equal(gdk.load([beginning]).pixels, expected(beginning))


@pytest.mark.parametrize("end", [4, 5, 30, 54, 427])
def test_beginnings_that_show_nothing(gdk: GdkPixbuf, end: int) -> None:
    beginning = (GOLDEN / "progressive.hpcm").read_bytes()[:end]
    with pytest.raises(LoadError) as found:
        gdk.load([beginning])
    assert found.value.code == CORRUPT_IMAGE


def changed(data: bytes, at: int, byte: int) -> bytes:
    return data[:at] + bytes([byte]) + data[at + 1 :]


NANO = (GOLDEN / "nano-1.hpcm").read_bytes()
CONTAINER = unpack(NANO)
UNKNOWN = pack(replace(CONTAINER, model="unknown-1", model_hash=bytes(8)))


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (changed(NANO, -1 % len(NANO), NANO[-1] ^ 1), CORRUPT_IMAGE, "CRC"),
        (NANO + b"0", CORRUPT_IMAGE, "end"),
        (changed(NANO, 4, 3), CORRUPT_IMAGE, "version 3"),
        (pack(replace(CONTAINER, width=1 << 15, height=1 << 14, tile_side=1 << 16)), INSUFFICIENT_MEMORY, "pixels"),
        (UNKNOWN, FAILED, "unknown-1"),
        (b"no picture", UNKNOWN_TYPE, "Unrecognized"),
    ],
    ids=["damaged", "too long", "newer", "too large", "no model", "no picture"],
)
def test_errors(gdk: GdkPixbuf, data: bytes, code: int, message: str) -> None:
    with pytest.raises(LoadError, match=message) as found:
        gdk.load([data])
    assert found.value.code == code


def test_the_size_needs_no_weights(gdk: GdkPixbuf, tmp_path: Path) -> None:
    path = tmp_path / "unknown.hpcm"
    path.write_bytes(UNKNOWN)
    assert gdk.size_of(path) == (CONTAINER.width, CONTAINER.height)


# ---- what is installed -----------------------------------------------------------------------------------------------


def thumbnailer() -> dict[str, str]:
    entry = configparser.RawConfigParser()
    entry.optionxform = str  # type: ignore[assignment,method-assign]
    entry.read(PLUGINS / "gdk-pixbuf" / "hpcm-gdk-pixbuf.thumbnailer")
    return dict(entry["Thumbnailer Entry"])


@pytest.mark.skipif(not shutil.which("gdk-pixbuf-thumbnailer"), reason="needs gdk-pixbuf-thumbnailer")
def test_the_thumbnailer(gdk: GdkPixbuf, tmp_path: Path) -> None:
    """Its line is run as file managers do, with %s, %u and %o filled in."""
    path = tmp_path / "a photo.hpcm"
    shutil.copy(GOLDEN / "lite-1.hpcm", path)
    filled = {"%s": "64", "%u": path.as_uri(), "%o": str(tmp_path / "out.png")}
    command = [filled.get(word, word) for word in shlex.split(thumbnailer()["Exec"])]
    subprocess.run(command, check=True, timeout=60)
    small = Image.open(io.BytesIO((tmp_path / "out.png").read_bytes()))
    assert (small.size, small.mode) == ((64, 42), "RGB")


def test_the_type(gdk: GdkPixbuf, module: Path) -> None:
    """It is the same in the loader, in the thumbnailer's entry and for `hpcm desktop`."""
    assert thumbnailer()["MimeType"] == f"{MIME_TYPE};"
    assert f'"{MIME_TYPE}" ""\n"hpcm" ""\n"\\211HPC" "" 100' in module.with_name("loaders.cache").read_text()


def test_installed_files(module: Path, prefix: Path, tmp_path: Path) -> None:
    destination = tmp_path / "a folder"
    arguments = [f"OUT={module.parent}", f"DESTDIR={destination}", "PREFIX=/usr"]
    run_make("install-gdk-pixbuf", *arguments, prefix=prefix)
    files = {path for path in destination.rglob("*") if path.is_file()}
    folder = Path(str(package("--variable=gdk_pixbuf_moduledir")))
    assert {f"/{path.relative_to(destination)}" for path in files} == {
        str(folder / MODULE),
        "/usr/share/mime/packages/hpcm.xml",
        "/usr/share/thumbnailers/hpcm-gdk-pixbuf.thumbnailer",
    }
    assert {path.stat().st_mode & 0o777 for path in files} == {0o644}
    run_make("uninstall-gdk-pixbuf", *arguments, prefix=prefix)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
