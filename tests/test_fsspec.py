"""Pictures and .hpcm files that lie anywhere: what fsspec opens is an open file like any other."""

import functools
import http.server
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import hpcm

fsspec = pytest.importorskip("fsspec", reason="files that aren't on a disk are opened with fsspec")

PHOTO, GOLDEN = Path(__file__).parent / "data" / "kodim23.png", Path(__file__).parent / "golden"


@pytest.fixture(params=["memory", "file", "zip"])
def put(request, tmp_path) -> Callable[[bytes], str]:
    """Makes a file of bytes, and tells its URL."""

    def put(data: bytes) -> str:
        if request.param == "zip":
            with zipfile.ZipFile(tmp_path / "photos.zip", "w") as file:
                file.writestr("photo.hpcm", data)
            return f"zip://photo.hpcm::{(tmp_path / 'photos.zip').as_uri()}"
        url = {"memory": "memory://bucket/photo.hpcm", "file": (tmp_path / "photo.hpcm").as_uri()}[request.param]
        with fsspec.open(url, "wb") as file:
            file.write(data)
        return url

    return put


def test_a_file_there_and_back(put):
    data = hpcm.compress(PHOTO, model="nano")
    with fsspec.open(put(PHOTO.read_bytes())) as file:
        assert hpcm.compress(file, model="nano") == data
    url = put(data)
    with fsspec.open(url) as file:
        assert hpcm.decompress(file).tobytes() == hpcm.decompress(data).tobytes()
    with fsspec.open(url) as file:
        assert np.array_equal(hpcm.decompress_array(file), hpcm.decompress_array(data))


def test_urls(put):
    """Wherever a path is taken; each is opened by itself."""
    data = hpcm.compress(PHOTO, model="nano")
    assert hpcm.compress(put(PHOTO.read_bytes()), model="nano") == data
    url = put(data)
    assert hpcm.decompress(url).tobytes() == hpcm.decompress(data).tobytes()
    assert hpcm.preview(url).tobytes() == hpcm.preview(data).tobytes()
    assert hpcm.load("nano").decompress(url).tobytes() == hpcm.decompress(data).tobytes()


@pytest.mark.parametrize("url", ["nothing://here", "memory://nowhere/photo.hpcm"])
def test_urls_that_lead_nowhere(url):
    with pytest.raises((hpcm.HPCMError, FileNotFoundError), match=r"nothing|nowhere"):
        hpcm.decompress(url)


def test_without_fsspec(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(hpcm.HPCMError, match=r"memory://a/b\.hpcm can't be opened: .*fsspec"):
        hpcm.decompress("memory://a/b.hpcm")


def test_the_beginning_of_a_file(put):
    data = (GOLDEN / "progressive.hpcm").read_bytes()
    with fsspec.open(put(data)) as file:
        assert hpcm.preview(file.read(600)).tobytes() == hpcm.preview(data[:600]).tobytes()


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a server of the golden files."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=GOLDEN)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_file_on_a_server(server):
    pytest.importorskip("aiohttp", reason="fsspec opens http:// and https:// with aiohttp")
    with fsspec.open(f"{server}/nano-1.hpcm") as file:
        assert hpcm.decompress(file).tobytes() == hpcm.decompress(GOLDEN / "nano-1.hpcm").tobytes()
