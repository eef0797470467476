"""The server, over real connections: what it answers, what it refuses, and that it stays up."""

import gzip
import hashlib
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import webbrowser
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

import hpcm
from hpcm import cli
from hpcm.codec import search as effort
from hpcm.codec.info import file_info
from hpcm.core.engine import CoreEngine
from hpcm.errors import UsageError
from hpcm.format.container import pack, unpack
from hpcm.format.fields import Part
from hpcm.image.picture import from_image
from hpcm.model import storage
from hpcm.model.find import find
from hpcm.serve import server as serving
from hpcm.serve import site, work
from hpcm.serve.hosts import AllowedHosts
from hpcm.serve.limits import Limits
from hpcm.serve.models import Models
from hpcm.serve.pool import Pool
from hpcm.serve.site import KEEP
from pictures import exif
from profiles import rgb_profile, srgb_of_rgb

HERE = Path(__file__).parent
KODIM = Image.open(HERE / "data" / "kodim23.png")
PATIENT = 60.0  # seconds, for what should take none
CLIENTS = 32
NOT_HPCM = b"GIF89a but no picture"


@dataclass
class Running:
    url: str
    port: int
    pool: Pool
    client: httpx.Client

    def post(self, path: str, body=b"", **options) -> httpx.Response:
        return self.client.post(path, content=body, **options)

    def get(self, path: str, **options) -> httpx.Response:
        return self.client.get(path, **options)

    def idle(self) -> bool:
        """Whether the server is up and, soon, has no request left."""
        until = time.monotonic() + PATIENT
        while time.monotonic() < until:
            if self.get("health").json()["requests"] == 0:
                return True
            time.sleep(0.02)
        return False


@contextmanager
def running(models: Models, **limits) -> Iterator[Running]:
    """A server in a thread, on a port that is free."""
    server, pool = serving.server(models, Limits(**{"workers": 2, **limits}))
    with serving.listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        url, port = serving.url_of(listening), listening.getsockname()[1]
        try:
            with httpx.Client(base_url=url, timeout=PATIENT, trust_env=False, verify=False) as client:
                yield Running(url, port, pool, client)
        finally:
            server.should_exit = True
            thread.join(PATIENT)
            pool.close()
            assert not thread.is_alive()


@pytest.fixture(scope="module", autouse=True)
def pillows_bound() -> Iterator[None]:
    """The server lifts it."""
    before = Image.MAX_IMAGE_PIXELS
    yield
    Image.MAX_IMAGE_PIXELS = before


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "page"
    for name in ("index.html", "app.mjs", "style.css", "hpcm.wasm", "samples/a.hpcm", "models/index.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"<p>" + name.encode())
    (folder.parent / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")
    return folder


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(["nano"])


@pytest.fixture(scope="module")
def served(models, page) -> Iterator[Running]:
    before = serving.assets
    serving.assets = lambda models: site.assets(models, page)
    try:
        with running(models, queue=CLIENTS, max_bytes=1 << 20, max_pixels=1 << 20) as server:
            yield server
    finally:
        serving.assets = before


@pytest.fixture(scope="module")
def small(served) -> bytes:
    """A small .hpcm file."""
    answer = served.post("compress?quality=30", png(crop(0)))
    assert answer.status_code == 200
    return answer.content


def crop(index: int, width: int = 96) -> Image.Image:
    left, top = 37 * index % 600, 29 * index % 400
    return KODIM.crop((left, top, left + width, top + 64))


def png(image: Image.Image, format: str = "png", **how) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **how)
    return out.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), int)


def problem(answer: httpx.Response) -> str:
    """The one line of a refusal."""
    told = answer.json()
    assert list(told) == ["error"]
    assert "\n" not in told["error"]
    return told["error"]


# ---- what is answered ------------------------------------------------------------------------------------------------


def test_there_and_back(served):
    photo = png(crop(3))
    answer = served.post("compress?quality=60", photo)
    expected = hpcm.compress(photo, model="nano", quality=60)
    assert answer.content == expected
    assert answer.headers["content-type"] == "image/x-hpcm"
    assert answer.headers["x-hpcm-model"] == "nano-1"
    assert float(answer.headers["x-hpcm-bpp"]) == pytest.approx(8 * len(expected) / (96 * 64), abs=1e-4)
    assert "x-hpcm-notice" not in answer.headers
    back = served.post("decompress", answer.content)
    assert back.headers["content-type"] == "image/png"
    assert np.abs(pixels(back.content) - np.asarray(hpcm.decompress(expected), int)).max() <= 1


def test_targets(served):
    photo = png(crop(5))
    for name, value in (("bpp", 2.0), ("psnr", 30.0)):
        answer = served.post(f"compress?{name}={value}", photo)
        assert answer.content == hpcm.compress(photo, model="nano", **{name: value})


def test_lossless_files(served):
    photo = png(crop(5))
    for query, bound in (("lossless=true", 0), ("max-error=0", 0), ("max-error=2&quality=30", 2)):
        answer = served.post(f"compress?{query}", photo)
        assert np.abs(pixels(served.post("decompress", answer.content).content) - pixels(photo)).max() == bound
        assert served.post("info", answer.content).json()["residual"]["max_error"] == bound
    assert answer.content == hpcm.compress(photo, model="nano", max_error=2, quality=30)
    lossy = served.post("decompress?scale=3", answer.content)
    plain = served.post("compress?quality=30", photo)
    assert np.array_equal(pixels(lossy.content), pixels(served.post("decompress", plain.content).content))
    assert "x-hpcm-notice" not in lossy.headers
    part = served.post("decompress?box=10,20,50,60", answer.content)
    assert np.abs(pixels(part.content) - pixels(photo)[20:60, 10:50]).max() == 2


def test_what_is_no_lossless_file(served):
    for query, status, words in (
        ("lossless=perhaps", 422, "lossless: 'perhaps' was given; allowed is true or false"),
        ("lossless=true&bpp=1", 422, "lossless and max_error exclude bpp and psnr"),
        ("lossless=true&quality=81", 422, "in a lossless file is at most 80"),
        ("max-error=-1", 422, "max-error: '-1' was given; allowed is 0 or more"),
        ("max-error=1.5", 422, "max-error: '1.5' was given; allowed is one whole number"),
        ("max-error=128", 422, "for samples of 8 bits it must be 0 to 127"),
        ("max-error=70000", 422, "max-error: '70000' was given; allowed is less than 32768"),
    ):
        answer = served.post(f"compress?{query}", png(crop(0)))
        assert (answer.status_code, words in problem(answer)) == (status, True), problem(answer)
    answer = served.post("compress?lossless=1", png(crop(0).convert("CMYK"), "tiff"))
    assert answer.status_code == 400
    assert problem(answer).endswith("the picture's mode CMYK was converted to RGB")


def test_a_residual_of_another_picture_is_the_clients_error(served):
    container = unpack(hpcm.compress(png(crop(5)), model="nano", lossless=True))
    (tile,) = container.tiles
    changed = (*tile[:-1], Part(tile[-1].payload, tile[-1].checksum ^ 1))
    answer = served.post("decompress", pack(replace(container, tiles=(changed,))))
    assert answer.status_code == 400
    assert "isn't the one that its residual was made for" in problem(answer)


def test_notices_come_in_a_header(served):
    told = served.post("compress", png(crop(0).convert("P"), "gif")).headers["x-hpcm-notice"]
    assert told == "the picture's mode P was converted to RGB"
    assert "bits per pixel" in served.post("compress?bpp=0.001", png(crop(0))).headers["x-hpcm-notice"]


def test_pictures_of_other_kinds_and_parts(served, small):
    whole = pixels(served.post("decompress", small).content)
    webp = served.post("decompress?format=webp", small)
    assert webp.headers["content-type"] == "image/webp"
    assert np.array_equal(pixels(webp.content), whole)
    jpeg = served.post("decompress?format=jpeg", small)
    assert np.abs(pixels(jpeg.content) - whole).mean() < 3
    box = served.post("decompress?box=10,20,50,60", small)
    assert np.abs(pixels(box.content) - whole[20:60, 10:50]).max() <= 1
    assert pixels(served.post("decompress?max-size=24", small).content).shape == (16, 24, 3)
    assert pixels(served.post("decompress?max-size=1000", small).content).shape == whole.shape


def test_a_coarse_scale_and_metadata(served):
    icc = b"a profile"
    file = hpcm.load("nano").compress(png(crop(1), icc_profile=icc), progressive=True)
    coarse, whole = (served.post(f"decompress?scale={scale}", file).content for scale in (1, 3))
    assert not np.array_equal(pixels(coarse), pixels(whole))
    assert Image.open(io.BytesIO(whole)).info["icc_profile"] == icc


def test_facts(served, small):
    told = served.post("info", small).json()
    assert (told["width"], told["height"], told["model"], told["decodes_here"]) == (96, 64, "nano-1", True)
    assert (told["bytes"], told["progress"]) == (len(small), 1)
    assert served.post("info", small[:-1]).json() == told | {
        "bytes": len(small) - 1,
        "bpp": 8 * (len(small) - 1) / (96 * 64),
        "progress": 0,
    }
    assert told == file_info(unpack(small), len(small), find("nano")) | {"decodes_here": True}  # as `hpcm info --json`
    assert not any(isinstance(value, str) and "/" in value for value in told.values())  # no paths
    assert served.get("health").json() == {"status": "ok", "requests": 0, "places": CLIENTS + 2, "working": 0}
    models = served.get("models").json()
    assert models["default"] == "nano-1"
    assert [model["name"] for model in models["models"] if model["compresses"]] == ["nano-1"]


def test_the_api_is_described(served):
    schema = served.get("openapi.json").json()
    assert {*schema["paths"]} == {"/compress", "/decompress", "/info", "/health", "/models"}
    parameters = {each["name"] for each in schema["paths"]["/decompress"]["post"]["parameters"]}
    assert parameters == {"format", "scale", "box", "max-size", "strip", "icc"}
    assert "413" in schema["paths"]["/compress"]["post"]["responses"]
    assert served.get("docs").status_code == 404


def test_strip_and_icc(served):
    """Both ways: metadata are left out, and colours converted by their profile."""
    out = io.BytesIO()
    block = exif([(271, 2, b"Maker\0")], gps=[(29, 2, b"2026:11:30\0")])
    Image.new("RGB", (64, 64), (200, 90, 60)).save(out, "PNG", icc_profile=rgb_profile(), exif=block)

    def post(operation: str, data: bytes, **parameters: str) -> bytes:
        answer = served.post(operation, data, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.content

    kept = post("compress", out.getvalue())
    assert all(text in kept for text in (b"Maker", b"2026:11:30", rgb_profile()))
    for file in (post("compress", out.getvalue(), strip="gps"), post("decompress", kept, strip="gps", format="webp")):
        assert b"Maker" in file
        assert b"2026:11:30" not in file
    for file in (post("compress", out.getvalue(), strip="all"), post("decompress", kept, strip="all", format="webp")):
        assert b"Maker" not in file
        assert rgb_profile() in file
    assert rgb_profile() not in post("compress", out.getvalue(), icc="srgb")
    with Image.open(io.BytesIO(post("decompress", kept, icc="srgb"))) as image:
        assert "icc_profile" not in image.info
        right = srgb_of_rgb(np.array([200, 90, 60]))
        assert abs(np.asarray(image)[32, 32] - right).max() < 12  # the codec changes colours a little
    answer = served.post("compress", out.getvalue(), params={"strip": "some"})
    assert (answer.status_code, "strip: 'some' was given; allowed is 'all' or 'gps'" in answer.text) == (422, True)


def test_many_clients_at_once(served):
    photos = [png(crop(index, width=64 - index)) for index in range(CLIENTS)]
    alone = hpcm.load("nano", threads=1)
    expected = [alone.compress(photo, quality=20 + index) for index, photo in enumerate(photos)]
    ready = threading.Barrier(CLIENTS)

    def client(index: int) -> tuple[bytes, bytes]:
        ready.wait(PATIENT)
        file = served.post(f"compress?quality={20 + index}", photos[index]).content
        return file, served.post("decompress", file).content

    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = list(clients.map(client, range(CLIENTS)))
    assert [file for file, _ in answers] == expected
    for photo, (_, picture) in zip(photos, answers, strict=True):
        assert np.square(pixels(picture) - pixels(photo)).mean() < 400  # it is that one, and above 22 dB
    assert served.idle()


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("compress?quality=0", 422, "quality: '0' was given; allowed is 1 or more"),
        ("compress?quality=many", 422, "quality: 'many' was given; allowed is one whole number"),
        ("compress?bpp=nan", 422, "bpp: 'nan' was given; allowed is one finite number"),
        ("compress?bpp=0", 422, "bpp: '0' was given; allowed is more than 0"),
        ("compress?quality=5&psnr=30", 422, "exclude one another"),
        (
            "compress?qualty=5",
            422,
            "qualty: there is no such parameter; there are quality, bpp, psnr, lossless, max-error",
        ),
        ("compress?effort=10", 422, "effort: '10' was given; allowed is 9 or less"),
        ("compress?model=lite", 422, "there is no 'lite' here"),
        ("compress?model=lite-1", 422, "there is no 'lite-1' here"),
        ("compress?model=/etc/passwd", 422, "there is no '/etc/passwd' here"),
        ("decompress?format=exe", 422, "format: 'exe' was given; allowed is 'png', 'webp' or 'jpeg'"),
        ("decompress?scale=4", 422, "scale: '4' was given; allowed is 3 or less"),
        ("decompress?box=1,2,3", 422, "box: '1,2,3' was given; allowed is LEFT,TOP,RIGHT,BOTTOM"),
        ("decompress?crop=5", 422, "there is no such parameter; there are format, scale, box, max-size"),
        ("decompress?box=0,0,97,64", 422, "inside the picture of 96 x 64"),
        ("decompress?box=5,5,5,9", 422, "inside the picture"),
        ("decompress?max-size=0", 422, "max-size: '0' was given; allowed is 1 or more"),
        ("decompress?box=0,0,9,9&max-size=5", 422, "exclude one another"),
        ("nothing", 404, "there is nothing at /nothing"),
    ],
)
def test_wrong_parameters(served, small, path, status, words):
    answer = served.post(path, small if path.startswith("decompress") else png(crop(0)))
    assert answer.status_code == status
    assert words in problem(answer)
    assert served.idle()


def test_damaged_and_foreign_bodies(served, small):
    photo, golden = png(crop(0)), (HERE / "golden" / "lite-1.hpcm").read_bytes()
    stranger = pack(replace(unpack(small), model="nano-9", model_hash=bytes(8)))
    forged = pack(replace(unpack(golden), model_hash=unpack(small).model_hash))
    bodies = [
        ("compress", b"", "the body is empty"),
        ("compress", NOT_HPCM, "picture"),
        ("compress", b"no picture at all", "it is no picture in an accepted format: PNG, JPEG"),
        ("compress", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is no picture in an accepted format"),
        ("compress", photo[: len(photo) // 2], "damaged"),
        ("compress", small, "it is a .hpcm file already"),
        ("decompress", photo, ""),
        ("decompress", small[:-9], ""),
        ("decompress", small[:60] + bytes(1) + small[61:], ""),
        ("decompress", stranger, "which this server doesn't have"),
        ("decompress", forged, ""),
        ("info", photo, ""),
        ("info", small[:9], ""),
    ]
    for path, body, words in bodies:
        answer = served.post(path, body)
        assert answer.status_code == 400, (path, body[:20], answer.text)
        assert words in problem(answer)
    assert served.idle()


def test_forms_and_compressed_bodies(served, small):
    answer = served.client.post("info", files={"file": small})
    assert answer.status_code == 415
    assert "--data-binary" in problem(answer)
    kind = {"content-type": "Multipart/Form-Data; boundary=x"}  # upper case is the same to HTTP
    assert "--data-binary" in problem(served.post("info", small, headers=kind))
    for encoding in ("gzip", "GZIP", "identity, gzip"):
        assert served.post("info", small, headers={"content-encoding": encoding}).status_code == 415
    for encoding in ("identity", "Identity", ""):
        assert served.post("info", small, headers={"content-encoding": encoding}).status_code == 200
    assert served.idle()


def test_a_format_that_cannot_take_the_picture(served):
    clear = crop(0).convert("RGBA")
    clear.putalpha(100)
    file = served.post("compress", png(clear)).content
    answer = served.post("decompress?format=jpeg", file)
    assert answer.status_code == 422
    assert problem(answer) == "format: the picture is transparent, and JPEG has no room for that; take png"


def test_too_many_bytes(served):
    """Refused from Content-Length before any of it has come, and at the bound where there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=PATIENT)
    connection.putrequest("POST", "/compress")
    connection.putheader("Content-Length", str(10**12))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert "over 1,048,576" in json.loads(answer.read())["error"]
    connection.close()
    for body in (bytes(8 << 20), (bytes(1 << 16) for _ in range(100))):
        answer = served.post("compress", body)  # it gets the answer, although it sends on
        assert answer.status_code == 413
        assert answer.headers["connection"] == "close"
    assert served.idle()


def test_too_many_pixels(served, small):
    """Both are refused from the header: the pixels aren't there."""
    answer = served.post("compress", claiming(20_000))
    assert (answer.status_code, problem(answer)) == (413, "the picture has 20000 x 20000 pixels, over 1,048,576")
    assert served.post("compress", claiming(60_000)).status_code == 413  # Pillow itself refuses so many
    one = unpack(small)
    huge = pack(replace(one, width=8 * 1024, height=8 * 1024, tiles=64 * one.tiles))
    answer = served.post("decompress", huge)
    assert answer.status_code == 413
    assert "8192 x 8192 pixels" in problem(answer)
    answer = served.post("decompress?box=1000,1000,1040,1040", huge)  # on the corner of four tiles
    assert (answer.status_code, "2048 x 2048" in problem(answer)) == (413, True)
    assert served.idle()


def claiming(side: int) -> bytes:
    """A PNG of a few pixels whose header tells of side x side."""
    file = bytearray(png(Image.new("L", (4, 4))))
    file[16:24] = side.to_bytes(4, "big") * 2
    file[29:33] = zlib.crc32(file[12:29]).to_bytes(4, "big")
    return bytes(file)


class Wide(ImageFile.ImageFile):
    """Another reading of a TIFF's bytes, as a file may be of two formats: 2048 x 2048 pixels."""

    format = "WIDE"

    def _open(self):
        self._size, self._mode = (2048, 2048), "L"
        self.tile = [("raw", (0, 0, *self._size), 0, ("L", 0, 1))]


def test_a_picture_of_two_formats(models, monkeypatch):
    """What is judged is what is coded: the bytes are opened once, as a format that is accepted."""
    file = png(crop(0), "tiff") + bytes(2048 * 2048)
    Image.init()
    monkeypatch.setattr(Image, "ID", [Wide.format, *Image.ID])  # in this order they are tried
    monkeypatch.setitem(Image.OPEN, Wide.format, (Wide, lambda prefix: prefix.startswith(b"II*\0")))
    assert Image.open(io.BytesIO(file)).size == (2048, 2048)
    opened, real = [], Image.open
    monkeypatch.setattr(Image, "open", lambda *args, **how: opened.append(how) or real(*args, **how))
    with running(models, max_bytes=8 << 20, max_pixels=1 << 20) as server:
        answer = server.post("compress", file)
    assert (answer.status_code, len(opened)) == (200, 1)
    coded = unpack(answer.content)
    assert (coded.width, coded.height) == (96, 64)


def test_a_picture_that_grows_when_it_is_decoded(served, monkeypatch):
    """Some formats tell of their size only then."""

    def grow(self):
        pixels = load(self)
        self._size = 2000, 2000
        return pixels

    load = TiffImageFile.load
    monkeypatch.setattr(TiffImageFile, "load", grow)
    answer = served.post("compress", png(Image.new("L", (2000, 20)), "tiff"))
    assert (answer.status_code, problem(answer)) == (413, "the picture has 2000 x 2000 pixels, over 1,048,576")


STRANGE_HOSTS = ("rebound.example", "127.0.0.1.example.org", "localhost.example:80", "192.0.2.1", "[::2]", "a b", "")


@pytest.mark.parametrize("path", ["compress", "decompress", "info", "health", "models", "docs", "", "nothing"])
def test_other_names_of_this_machine(served, small, path):
    """A page's own name that was made to lead here (DNS rebinding): nothing is done or told."""
    for host in STRANGE_HOSTS:
        for method in ("GET", "POST"):
            body = small if method == "POST" else None
            answer = served.client.request(method, path, content=body, headers={"host": host})
            assert answer.status_code == 403, (host, method)
            assert "this server doesn't go by the name" in problem(answer)
    assert served.idle()


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.:1", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:99"])
def test_own_names_of_this_machine(served, small, host):
    assert served.post("info", small, headers={"host": host}).status_code == 200
    for origin in ("http://localhost", "https://127.0.0.1:5000", "http://[::1]:1"):
        assert served.post("info", small, headers={"host": host, "origin": origin}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"origin": "https://rebound.example"},
        {"origin": "http://192.0.2.1:8000"},
        {"origin": "http://localhost.example"},
        {"origin": "http://localhost@evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "file://"},
    ],
)
def test_other_sites_pages(served, small, headers):
    for path in ("info", "compress", "decompress"):
        answer = served.post(path, small, headers=headers)
        assert answer.status_code == 403
        assert "may not use this server" in problem(answer)
    assert served.get("health", headers=headers).status_code == 200
    assert served.post("info", small, headers={"sec-fetch-site": "same-origin"}).status_code == 200


def allows(hosts: AllowedHosts, host: str, origin: str | None = None) -> bool:
    headers = {b"host": host, b"origin": origin}
    return hosts.refusal("POST", [(key, text.encode()) for key, text in headers.items() if text is not None]) is None


def test_who_may_ask_depends_on_where_it_listens():
    alone, everywhere = AllowedHosts(), AllowedHosts("0.0.0.0")
    lan, named = AllowedHosts("192.0.2.7"), AllowedHosts("::", ["Pictures.Example.org.", "2001:db8::7"])
    assert not allows(alone, "192.0.2.7")
    assert allows(lan, "192.0.2.7:8000", "http://192.0.2.7:8000")
    assert not allows(lan, "192.0.2.8")
    for hosts in (everywhere, named):  # an address can't be made to lead elsewhere
        assert allows(hosts, "192.0.2.8:8000", "http://192.0.2.8:8000")
        assert allows(hosts, "[2001:DB8::8]", "http://[2001:db8:0::8]:8000")
        assert not allows(hosts, "192.0.2.8:8000", "http://192.0.2.9:8000")
        assert not allows(hosts, "rebound.example", "http://rebound.example")
    assert allows(named, "pictures.example.org:443", "https://pictures.example.org")
    assert allows(named, "127.0.0.1:8000", "https://pictures.example.org")  # behind a proxy
    assert not allows(everywhere, "pictures.example.org")
    assert AllowedHosts().refusal("POST", []) is None  # HTTP/1.0, which no browser speaks


@pytest.mark.parametrize(
    ("paths", "allow"),
    [
        (("compress", "decompress", "info"), "POST"),
        (("", "health", "models", "openapi.json", "models/index.json", "app.mjs"), "GET, HEAD"),
        (("nothing", "docs", "compress/", "models/"), None),
    ],
)
def test_methods(served, paths, allow):
    """Each URL says which it takes."""
    for path in paths:
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "BREW"):
            answer = served.client.request(method, path)
            if allow is None:
                assert answer.status_code == 404
            elif method in allow.split(", "):
                assert answer.status_code == (400 if method == "POST" else 200)  # 400: the body is empty
            else:
                assert (answer.status_code, answer.headers["allow"]) == (405, allow)
                assert method == "HEAD" or f"{method} is not for /{path}, which takes {allow}" in problem(answer)
        asked = served.client.options(path)
        assert (asked.status_code, asked.headers.get("allow"), allow) in ((204, allow, allow), (404, None, None))
        whole, head = served.get(path), served.client.head(path)
        assert (head.content, head.headers["content-length"]) == (b"", whole.headers["content-length"])
    assert served.idle()


def test_requests_that_are_no_http(served):
    for line in (b"nonsense\r\n\r\n", b"POST /info HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", served.port), PATIENT) as connection:
            connection.sendall(line)
            assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert served.idle()


# ---- slow, crowded, broken -------------------------------------------------------------------------------------------


def test_slow_uploads(models):
    with running(models, timeout=0.4) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENT)
        connection.putrequest("POST", "/compress")
        connection.putheader("Content-Length", "1000")
        connection.endheaders()
        connection.send(b"a")
        answer = connection.getresponse()
        assert answer.status == 408
        assert json.loads(answer.read()) == {"error": "the body didn't arrive within 0.4 s"}
        connection.close()
        assert server.idle()


def test_clients_that_hang_up(served, small, monkeypatch):
    """Neither in the middle of a body nor while they wait do they keep a place."""
    head = b"POST /info HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port), PATIENT) as connection:
        connection.sendall(head % 1000 + b"a")
    assert served.idle()
    gate = held(monkeypatch)
    with ThreadPoolExecutor(2) as clients:
        first = [clients.submit(served.post, "info", small) for _ in range(2)]
        until(lambda: served.pool.working == 2)
        with socket.create_connection(("127.0.0.1", served.port), PATIENT) as connection:
            connection.sendall(head % len(small) + small)
            until(lambda: served.pool.taken == 3)
        until(lambda: served.pool.taken == 2)
        gate.set()
        assert [one.result().status_code for one in first] == [200, 200]
    assert served.idle()


def test_a_crowd_and_work_that_takes_too_long(models, small, monkeypatch):
    gate = held(monkeypatch)
    with running(models, workers=1, queue=1, timeout=1.0) as server, ThreadPoolExecutor(2) as clients:
        slow = clients.submit(server.post, "info", small)
        until(lambda: server.pool.working == 1)
        waiting = clients.submit(server.post, "info", small)
        until(lambda: server.pool.taken == 2)
        crowded = server.post("info", small)
        assert (crowded.status_code, crowded.headers["retry-after"]) == (503, "2")
        assert "2 requests are being served" in problem(crowded)
        assert slow.result().status_code == 504
        assert "longer than 1 s" in problem(slow.result())
        assert waiting.result().status_code == 503
        assert "no worker was free" in problem(waiting.result())
        assert server.get("health").json()["requests"] == 1  # its thread still works
        gate.set()
        assert server.idle()
        assert server.post("info", small).status_code == 200


@dataclass
class Watched:
    """Work whose first network waits at a gate; `runs` counts them, `stop` is that of the request."""

    begun: threading.Event
    gate: threading.Event
    runs: list[str]
    stops: list[threading.Event]


@pytest.fixture
def watched(models, monkeypatch) -> Watched:
    found = Watched(threading.Event(), threading.Event(), [], [])

    call = CoreEngine._call

    def watched_call(self, name, *args):
        found.runs.append(name)
        found.begun.set()
        assert found.gate.wait(PATIENT)
        return call(self, name, *args)

    monkeypatch.setattr(CoreEngine, "_call", watched_call)
    checking = work.checking
    monkeypatch.setattr(work, "checking", lambda stop: found.stops.append(stop) or checking(stop))
    return found


def forged(small: bytes) -> bytes:
    """A file of many tiles, as short as one of one tile."""
    one = unpack(small)
    return pack(replace(one, width=8 * 96, height=8 * 64, tile_side=256, tiles=tuple(6 * one.tiles)))


@pytest.mark.parametrize(
    "path", ["compress", "compress?bpp=1", "compress?psnr=30", "decompress", "decompress?box=0,0,9,9"]
)
def test_work_ends_with_its_client(served, small, watched, path):
    """The call of the native library that runs ends early; no other begins."""
    body = png(KODIM) if path.startswith("compress") else forged(small)
    with socket.create_connection(("127.0.0.1", served.port), PATIENT) as connection:
        head = b"POST /%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(head % (path.encode(), len(body)) + body)
        assert watched.begun.wait(PATIENT)
    until(lambda: watched.stops[0].is_set())
    assert served.pool.working == 1
    watched.gate.set()
    assert served.idle()
    assert len(watched.runs) == 1


def test_work_ends_when_it_takes_too_long(models, small, watched):
    with running(models, timeout=0.5) as server:
        assert server.post("compress", png(KODIM)).status_code == 504
        watched.gate.set()
        assert server.idle()
        assert len(watched.runs) == 1


def test_a_search_ends_with_its_client(served, watched, monkeypatch):
    """That of an effort, which runs networks of its own."""
    threads, iterations = [], []
    begun, gate = threading.Event(), threading.Event()

    def search(self, start, around, inside, on_progress):
        begun.set()
        for _ in range(1000):
            iterations.append(gate.wait(PATIENT))
            on_progress(0.5)

    monkeypatch.setattr(work, "bound_torch", threads.append)
    monkeypatch.setattr(effort._Refiner, "_refined", search)
    watched.gate.set()
    photo = png(crop(0))
    with socket.create_connection(("127.0.0.1", served.port), PATIENT) as connection:
        head = b"POST /compress?effort=9 HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(head % len(photo) + photo)
        assert begun.wait(PATIENT)
    until(lambda: watched.stops[0].is_set())
    gate.set()
    assert served.idle()
    assert (threads, len(iterations)) == ([1], 1)


def test_writing_a_picture_ends_with_its_client():
    """PNG, whose pieces Pillow writes one after the other."""
    pieces = []

    def check():
        pieces.append(1)
        if len(pieces) == 9:
            raise work.Stopped

    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), np.uint8))
    with pytest.raises(hpcm.HPCMError):
        work.written(from_image(noise), "png", check, pytest.fail)
    assert len(pieces) < 20


def test_slow_readers(models, small, monkeypatch):
    monkeypatch.setattr(work.Worker, "decompress", lambda *_, **__: work.Answer(bytes(32 << 20), "image/png"))
    with running(models, timeout=0.5) as server, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(b"POST /decompress HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\na")
        until(lambda: server.pool.taken == 1)
        assert server.idle()


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("a bug, in /home/me"), 500), (MemoryError(), 503), (hpcm.HPCMError("x"), 500)]
)
def test_failures_of_the_server(served, small, monkeypatch, capfd, error, status):
    def fails(*_):
        raise error

    monkeypatch.setattr(work.Worker, "info", fails)
    answer = served.post("info", small)
    assert answer.status_code == status
    assert "/home" not in problem(answer)
    assert served.idle()
    assert ("a bug" in capfd.readouterr().err) == isinstance(error, RuntimeError)


def held(monkeypatch) -> threading.Event:
    """Work on /info waits until this is set."""
    gate, info = threading.Event(), work.Worker.info
    monkeypatch.setattr(work.Worker, "info", lambda self, *rest: gate.wait(PATIENT) and info(self, *rest))
    return gate


def until(condition) -> None:
    end = time.monotonic() + PATIENT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind", "cache"),
    [
        ("", "text/html; charset=utf-8", "no-cache"),
        ("app.mjs", "text/javascript; charset=utf-8", "no-cache"),
        ("hpcm.wasm", "application/wasm", "no-cache"),
        ("samples/a.hpcm", "image/x-hpcm", "no-cache"),
        ("models/index.json", "application/json", "no-cache"),
        ("models/nano-1.safetensors.gz", "application/octet-stream", KEEP),
    ],
)
def test_files(served, path, kind, cache):
    answer = served.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == kind
    assert answer.headers["cache-control"] == cache
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
    again = served.get(path, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["cross-origin-embedder-policy"] == "require-corp"
    head = served.client.head(path)
    assert head.headers["content-length"] == str(len(answer.content))


def test_the_index_names_what_is_there(served):
    index = served.get("models/index.json").json()
    assert index["default"] == index["models"][0]["name"] == "nano-1"
    assert {"lite-1", "lite-mse-1", "nano-1"} <= {model["name"] for model in index["models"]}
    for model in index["models"]:
        weights = gzip.decompress(served.get(f"models/{model['file']}").content)
        assert len(weights) == model["bytes"]
        assert {*model} == {"name", "hash", "sha256", "file", "bytes"}
        assert hashlib.sha256(weights).hexdigest() == model["sha256"]
        assert model["sha256"].startswith(model["hash"])
        assert storage.unpack(weights, model["name"]).parameters["g_s.0.bias"].dtype == np.int32
    assert index["models"][0]["hash"] == hpcm.load("nano").weights.hash.hex()


def test_models_that_browsers_cannot_run_are_not_offered(tmp_path):
    def names(models: Models) -> list[str]:
        return [model["name"] for model in json.loads(site.assets(models)["models/index.json"].read())["models"]]

    attention = HERE / "golden" / "tiny-base.safetensors"  # decoders of Base need torch
    assert names(Models(["nano", attention])) == ["nano-1", "lite-1", "lite-mse-1"]
    assert names(Models([HERE / "golden" / "tiny.safetensors"]))[0] == "tiny"


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        "/..%5csecret.txt",
        "/samples/../../secret.txt",
        "/models/../../secret.txt",
        "/models/%2e%2e/%2e%2e/secret.txt",
        "//etc/passwd",
        "/%2fetc%2fpasswd",
        "/link.txt",
        "/models/",
        "/index.html%00.txt",
        "/%ff%fe",
    ],
)
def test_no_path_leads_out(served, path):
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=PATIENT)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 404
    assert list(json.loads(answer.read())) == ["error"]
    connection.close()


def test_without_a_page(models, tmp_path):
    said = site.assets(models, tmp_path / "none")["index.html"].read()
    assert said.count(b"make page") == 1
    assert b"with <code>pip install '.[serve]'</code>" in said
    assert b'href="openapi.json"' in said
    assert not site.is_built(tmp_path / "none")


# ---- the command -----------------------------------------------------------------------------------------------------


def test_export(page, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hpcm.serve.export.is_built", lambda _: True)
    monkeypatch.setattr("hpcm.serve.export.assets", lambda models, _: site.assets(models, page))
    folder = tmp_path / "deep" / "public"
    line = ["serve", "--export", str(folder), "--model", "nano"]
    assert cli.main(line) == 0
    assert re.fullmatch(rf"{re.escape(str(folder))}  \d+ files, [\d,]+ bytes\n", capsys.readouterr().out)
    expected = site.assets(Models(["nano"]), page)
    written = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    assert {*written} == {*expected}
    assert all(path.read_bytes() == expected[name].read() for name, path in written.items())
    assert json.loads(written["models/index.json"].read_text())["default"] == "nano-1"

    (folder / "mine.txt").write_text("mine")
    written["index.html"].write_text("old")
    assert cli.main(line) == 1
    assert capsys.readouterr().err == f"hpcm: error: {folder} exists and is not empty; -f writes into it\n"
    assert cli.main([*line, "-f"]) == 0
    assert written["index.html"].read_bytes() == expected["index.html"].read()
    assert (folder / "mine.txt").read_text() == "mine"
    assert {path.name for path in folder.parent.iterdir()} == {"public"}  # no leftovers


def test_export_refuses(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hpcm.serve.export.is_built", lambda _: False)
    assert cli.main(["serve", "--export", str(tmp_path / "a"), "--model", "nano"]) == 1
    assert (
        "there is no page to export: `make page` in a checkout, then `pip install .` there again"
        in capsys.readouterr().err
    )
    assert cli.main(["serve", "--export", "", "--model", "nano"]) == 1
    assert not any(tmp_path.iterdir())


def test_the_command_and_its_end(capsys):
    """It says where it is, does what it should, refuses a port that is taken, and Ctrl-C ends it without a word."""
    line = [sys.executable, "-m", "hpcm", "serve", "--port", "0", "--model", "nano", "--workers", "1"]
    listen = {"preexec_fn": partial(signal.signal, signal.SIGINT, signal.SIG_DFL)} if os.name == "posix" else {}
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **listen) as process:
        try:
            assert process.stdout is not None
            url = re.fullmatch(r"(http://127\.0\.0\.1:(\d+)/)  \(Ctrl-C ends it\)\n", process.stdout.readline())
            assert url
            assert httpx.get(url[1] + "health", timeout=PATIENT).json()["places"] == 33
            assert cli.main(["serve", "--port", url[2], "--model", "nano"]) == 1
            assert capsys.readouterr().err == f"hpcm: error: port {url[2]} is in use: name another with --port\n"
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=PATIENT) == ("", "")
            assert process.returncode == 130
        finally:
            process.kill()


@pytest.mark.parametrize("package", ["fastapi", "uvicorn"])
def test_without_the_extra(package, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    assert cli.main(["serve", "--port", "0"]) == 1
    assert capsys.readouterr() == ("", "hpcm: error: this needs FastAPI and uvicorn: pip install 'hpcm-codec[serve]'\n")


def test_others_are_let_in_with_a_warning(monkeypatch, capsys):
    monkeypatch.setattr(
        serving, "serve", lambda models, limits, host, port, opened, names: opened("http://localhost:1/")
    )
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert cli.main(["serve", "--model", "nano", "--host", "0.0.0.0", "--open"]) == 0
    out, err = capsys.readouterr()
    assert (out, opened) == ("http://localhost:1/  (Ctrl-C ends it)\n", ["http://localhost:1/"])
    assert err.startswith("hpcm: note: whoever reaches 0.0.0.0 can use it")
    assert err.count("\n") == 1
    assert cli.main(["serve", "--model", "nano", "--host", "::1"]) == 0
    assert capsys.readouterr().err == ""


def test_defaults_are_those_of_the_server(monkeypatch):
    seen = []
    monkeypatch.setattr(serving, "serve", lambda models, limits, *_: seen.append((models, limits)))
    assert cli.main(["serve"]) == 0
    ((models, limits),) = seen
    assert limits == Limits()
    assert models.default.name.startswith("lite-")
    assert {models.encoder(name).name for name in ("lite", "lite-mse", "nano", "lite-1", "nano-1")} == {
        "lite-1",
        "lite-mse-1",
        "nano-1",
    }


def test_addresses_that_are_none():
    with pytest.raises(UsageError, match="can't be listened on"):
        serving.listen("192.0.2.1", 0)  # an address for documentation, nobody's
