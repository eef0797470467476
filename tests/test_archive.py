"""Archives: what comes of folders, shards, Parquet and buckets, with and without Ray; the kill test is beside."""

import contextlib
import io
import json
import os
import random
import re
import shlex
import socket
import tarfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import hpcm
from archives import RAYS_WARNINGS, compress, pa, pq, ray, rows_of, work_in_this_process
from hpcm import archive, cli
from hpcm.archive import plan, run, shards, store, worker
from hpcm.archive.dataset import Pictures
from hpcm.archive.store import Store
from hpcm.errors import UsageError
from hpcm.util.metrics import EQUAL
from pictures import exif
from profiles import rgb_profile

pytestmark = RAYS_WARNINGS
PHOTO = Image.open(Path(__file__).parent / "data" / "kodim23.png")
COUNT = 6


def photo(index: int) -> Image.Image:
    return PHOTO.crop((20 * index, 10 * index, 20 * index + 96, 10 * index + 64))


def png(index: int) -> bytes:
    file = io.BytesIO()
    photo(index).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    (folder / "inner").mkdir(parents=True)
    for index in range(COUNT):
        (folder / ("inner" if index % 2 else "") / f"{index}.png").write_bytes(png(index))
    return folder


@pytest.fixture(autouse=True)
def without_ray(request, monkeypatch) -> None:
    """But for the tests that are named `..._ray_...`."""
    if "_ray_" not in request.node.name:
        work_in_this_process(monkeypatch)


def outputs(folder: Path) -> dict[str, bytes]:
    """The files of an archive but for those that say how it was made."""
    found = [path for path in folder.rglob("*") if path.is_file() and "_hpcm" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as opened:
        return {member.name: opened.extractfile(member).read() for member in opened}


def tarred(path: Path, contents: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as made:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            made.addfile(member, io.BytesIO(data))
    return path


# ---- there and back -------------------------------------------------------------------------------------------------


def test_a_folder_and_its_manifest(photos, tmp_path):
    done = compress(photos, tmp_path / "small", verify=True)
    assert (done.inputs, done.done, done.pictures, done.errors, done.failed) == (COUNT, COUNT, COUNT, 0, 0)
    codec = hpcm.load("nano", threads=1)
    made = outputs(tmp_path / "small")
    assert set(made) == {f"{'inner/' * (i % 2)}{i}.hpcm" for i in range(COUNT)}
    for row in rows_of(tmp_path / "small"):
        data = made[row["output"]]
        assert data == codec.compress(photos / row["input"], quality=30)
        container = hpcm.format.container.unpack(data)
        assert row["bytes"] == len(data)
        assert row["source_bytes"] == (photos / row["input"]).stat().st_size
        assert row["bpp"] == 8 * len(data) / (96 * 64)
        assert row["symbols"] == f"{container.tiles[0][-1].checksum:08x}"
        decoded, original = (np.asarray(p, float) for p in (hpcm.decompress(data), Image.open(photos / row["input"])))
        assert row["psnr"] == pytest.approx(10 * np.log10(255**2 / np.mean((decoded - original) ** 2)), abs=1e-4)
        assert row["verified"]
        assert row["error"] is None


@pytest.mark.parametrize("to", ["loose", "tar", "parquet"])
def test_every_kind_and_back(to, photos, tmp_path):
    """The pictures come back as the codec gives them, and in their order."""
    compress(photos, tmp_path / "small", to=to, shard_size=4)
    archive.restore(tmp_path / "small", tmp_path / "back", format="png", to="tar", shard_size=100)
    back = {}
    for path in sorted((tmp_path / "back").glob("*.tar")):
        back |= members(path)
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    assert list(back) == names
    for name, data in back.items():
        expected = hpcm.decompress(hpcm.compress(photos / name, model="nano", quality=30))
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), np.asarray(expected)), name


def test_strip_and_icc(tmp_path):
    """Both ways; the PSNR is measured in the colours that were encoded."""
    (tmp_path / "photos").mkdir()
    block = exif([(271, 2, b"Maker\0")], gps=[(29, 2, b"2026:11:30\0")])
    photo(0).save(tmp_path / "photos" / "0.png", icc_profile=rgb_profile(), exif=block)
    compress(tmp_path / "photos", tmp_path / "kept", verify=True)
    compress(tmp_path / "photos", tmp_path / "small", verify=True, strip="gps", icc="srgb")
    (kept,), (small,) = outputs(tmp_path / "kept").values(), outputs(tmp_path / "small").values()
    assert b"2026:11:30" in kept
    assert b"2026:11:30" not in small
    assert b"Maker" in small
    assert rgb_profile() not in small
    (before,), (after,) = rows_of(tmp_path / "kept"), rows_of(tmp_path / "small")
    assert abs(before["psnr"] - after["psnr"]) < 2
    archive.restore(tmp_path / "kept", tmp_path / "back", strip="all", icc="srgb")
    with Image.open(tmp_path / "back" / "0.png") as image:
        assert not {"exif", "icc_profile"} & {*image.info}
        expected = hpcm.decompress(kept, icc="srgb")
        assert np.array_equal(np.asarray(image), np.asarray(expected))
    with pytest.raises(UsageError, match="was begun with icc srgb, not None"):
        compress(tmp_path / "photos", tmp_path / "small", strip="gps")
    with pytest.raises(UsageError, match="strip is 'some'"):
        compress(tmp_path / "photos", tmp_path / "other", strip="some")


def test_a_tar_keeps_its_order_and_what_else_is_in_it(tmp_path):
    contents = {"b.png": png(1), "b.txt": b"a caption", "a.png": png(0), "a.cls": b"7", "x.y.png": png(2)}
    tarred(tmp_path / "set" / "deep" / "00.tar", contents)
    compress(tmp_path / "set", tmp_path / "small")
    found = members(tmp_path / "small" / "deep" / "00.tar")
    assert list(found) == ["b.hpcm", "b.txt", "a.hpcm", "a.cls", "x.y.hpcm"]
    assert (found["b.txt"], found["a.cls"]) == (b"a caption", b"7")
    for row in rows_of(tmp_path / "small"):  # the manifest finds every picture without reading the tar
        shard = (tmp_path / "small" / row["output"]).read_bytes()
        assert shard[row["offset"] :][: row["bytes"]] == found[row["name"].replace(".png", ".hpcm")]


def test_parquet_keeps_its_columns(tmp_path):
    """Bytes in a struct, as data sets of Hugging Face have them, with an empty row and one that is no picture."""
    rows = [{"image": {"bytes": png(i), "path": f"{i}.png"}, "label": i, "when": None} for i in range(40)]
    rows[3]["image"], rows[5]["image"]["bytes"] = None, b"no picture"
    schema = pa.schema({"label": pa.int8(), "image": pa.struct({"bytes": pa.binary(), "path": pa.string()})})
    schema = schema.append(pa.field("when", pa.timestamp("ms")))
    (tmp_path / "set").mkdir()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "set" / "a.parquet", row_group_size=7)
    done = compress(tmp_path / "set", tmp_path / "small")
    assert (done.pictures, done.errors) == (38, 2)
    table = pq.read_table(tmp_path / "small" / "a.parquet")
    assert table.schema.equals(schema)
    assert table["label"].to_pylist() == list(range(40))
    images = table["image"].to_pylist()
    assert [i for i, image in enumerate(images) if image is None or image["bytes"] is None] == [3, 5]
    assert images[7] == {"bytes": hpcm.compress(png(7), model="nano", quality=30), "path": "7.png"}


def test_several_columns_of_bytes_need_a_name(tmp_path):
    (tmp_path / "set").mkdir()
    pq.write_table(pa.table({"a": [png(0)], "b": [png(1)]}), tmp_path / "set" / "x.parquet")
    pq.write_table(pa.table({"n": [1]}), tmp_path / "set" / "y.parquet")
    done = compress(tmp_path / "set", tmp_path / "small")
    assert done.failed == 0
    errors = [row["error"] for row in rows_of(tmp_path / "small")]
    assert errors == ["several of its columns hold bytes: a, b; --column names one", "it has no column of bytes"]
    compress(tmp_path / "set", tmp_path / "other", column="b")
    assert pq.read_table(tmp_path / "other" / "x.parquet")["a"].to_pylist() == [png(0)]


# ---- what is wrong --------------------------------------------------------------------------------------------------


def test_wrong_inputs_have_rows(photos, tmp_path):
    (photos / "0.jpg").write_bytes(png(0))  # becomes 0.hpcm as well
    (photos / "bad.png").write_bytes(png(0)[:3000])
    (photos / "none.gif").write_bytes(b"")
    (photos / "folder.png").mkdir()
    (photos / "loop.png").symlink_to("loop.png")
    (photos / "inner" / "up").symlink_to("..")  # a loop of folders
    (photos / ".hidden.png").write_bytes(b"")
    (photos / "read.me").write_bytes(b"")
    done = compress(photos, tmp_path / "small")
    assert (done.pictures, done.errors) == (COUNT, 5)
    found = {row["input"]: row["error"] for row in rows_of(tmp_path / "small") if row["error"]}
    assert set(found) == {"0.png", "bad.png", "none.gif", "folder.png", "loop.png"}
    assert found["0.png"] == "0.jpg becomes 0.hpcm already"
    assert found["folder.png"] == "it is a folder"
    assert "symbolic" in found["loop.png"]
    assert "damaged" in found["bad.png"]


def test_the_report_escapes_names(photos, tmp_path):
    (photos / "<b>.png").write_bytes(b"")
    compress(photos, tmp_path / "small")
    report = (tmp_path / "small" / "_hpcm" / "report.html").read_text()
    assert "&lt;b&gt;.png" in report
    assert "<b>" not in report
    assert "PSNR was not measured" in report


def test_a_picture_that_cant_be_read_is_tried_again(photos, tmp_path, monkeypatch):
    read = Store.read

    def failing(self, key):
        if key == "0.png":
            raise OSError(5, "Input/output error")
        return read(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "read", failing)
        compress(photos, tmp_path / "small")
    (row,) = (row for row in rows_of(tmp_path / "small") if row["error"])
    assert row["error"] == "it can't be read: Input/output error"
    done = compress(photos, tmp_path / "small")
    assert (done.inputs, done.done, done.pictures) == (COUNT, COUNT, 1)
    assert not any(row["error"] for row in rows_of(tmp_path / "small"))


@pytest.mark.parametrize("cut", [100, 512, 5000, -1024, -2000])
def test_a_cut_tar(cut, tmp_path):
    """Whatever is missing of it: what is there is done, and a row says so."""
    path = tarred(tmp_path / "set" / "a.tar", {f"{i}.png": png(i) for i in range(3)})
    with tarfile.open(path) as whole:
        whole.getmembers()
        end = whole.offset
    path.write_bytes(path.read_bytes()[: cut if cut > 0 else end + 1024 + cut])
    done = compress(tmp_path / "set", tmp_path / "small")
    assert done.errors == 1
    assert done.pictures == {100: 0, 512: 0, 5000: 0, -1024: 3, -2000: 2}[cut]
    assert rows_of(tmp_path / "small")[-1]["error"].startswith("the tar is damaged")


@pytest.mark.parametrize("to", ["loose", "tar"])
def test_names_dont_lead_out_of_the_folder(to, tmp_path):
    names = ["../up.png", "/root.png", "a/../../b.png", "sound.png", "sound.jpg"]
    tarred(tmp_path / "set" / "a.tar", {name: png(0) for name in names})
    done = compress(tmp_path / "set", tmp_path / "target" / "small", to=to)
    assert (done.pictures, done.errors) == (1, 4)
    assert not list(tmp_path.rglob("up*")) + list(tmp_path.rglob("b.*"))
    assert sum("leads out of the folder" in str(row["error"]) for row in rows_of(tmp_path / "target" / "small")) == 3


def test_what_stops_a_run_is_one_line(photos, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"")
    compress(photos, tmp_path / "begun")
    cases = [
        ([tmp_path / "none", tmp_path / "x"], "there is no such file or folder"),
        ([tmp_path / "empty", tmp_path / "x"], "no file ends in .apng"),
        ([photos, photos / "x"], "one lies in the other"),
        ([photos / "inner", photos], "one lies in the other"),
        ([photos, photos], "one lies in the other"),
        ([photos, tmp_path / "file" / "x"], "can't be written: Not a directory"),
        ([photos, tmp_path / "begun", "--quality", "31"], "was begun with quality 30, not 31"),
        ([photos, "abc://x/y"], "Protocol not known: abc"),
        ([photos, ""], "the name of a folder is empty"),
        ([photos, tmp_path / "x", "--model", "nothing"], "nothing"),
    ]
    for arguments, message in cases:
        arguments = ["archive", "--model", "nano", "--quality", "30", *map(str, arguments)]
        assert cli.main(arguments) == 1, arguments
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        assert message in error, error


def test_the_extra_is_named(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli.archive, "find_spec", lambda name: None if name == "ray" else name)
    assert cli.main(["archive", str(photos), str(tmp_path / "x")]) == 1
    assert capsys.readouterr().err == "hpcm: error: this needs Ray, pyarrow and Jinja: pip install 'hpcm-codec[ray]'\n"


# ---- on a GPU -------------------------------------------------------------------------------------------------------


@pytest.fixture
def gpu(monkeypatch) -> list[str]:
    """Makes every device the CPU. The devices that were asked for."""
    devices = []

    def on_cpu(real):
        return lambda model, device, **how: devices.append(device) or real(model, **how)

    for name in ("load", "codec_for"):
        monkeypatch.setattr(f"hpcm.codec.api.{name}", on_cpu(getattr(hpcm.codec.api, name)))
    return devices


@pytest.mark.parametrize("to", ["loose", "tar", "parquet"])
def test_records_side_by_side(to, tmp_path, gpu, monkeypatch):
    """Three at once, and what comes is as one after the other: names, rows, errors, and what is copied."""
    contents = {"b.png": png(1), "b.txt": b"a caption", "bad.png": b"none", "../c.png": png(2), "b.jpg": png(3)}
    tarred(tmp_path / "set" / "a.tar", contents | {f"x{i}.png": png(i) for i in range(COUNT)})
    compress(tmp_path / "set", tmp_path / "one", to=to)
    archive.restore(tmp_path / "one", tmp_path / "one-back", to="loose", shard_size=100)
    wait, calls = threading.Barrier(3, timeout=60), iter(range(3))

    def together(real):
        def convert(*given):
            if next(calls, None) is not None:
                wait.wait()
            return real(*given)

        return convert

    monkeypatch.setattr(worker.Worker, "compress", together(worker.Worker.compress))
    compress(tmp_path / "set", tmp_path / "many", to=to, device="cuda")
    calls = iter(range(3))
    monkeypatch.setattr(worker.Worker, "restore", together(worker.Worker.restore))
    archive.restore(tmp_path / "many", tmp_path / "many-back", to="loose", shard_size=100, device="cuda")
    for one, many in (("one", "many"), ("one-back", "many-back")):
        assert outputs(tmp_path / many) == outputs(tmp_path / one) != {}
        before, after = (list(map(lasting, rows_of(tmp_path / name))) for name in (one, many))
        assert after == before
    assert gpu[0] == "cpu"
    assert gpu[-1] == "cuda"


def lasting(row: dict) -> dict:
    """A row but for where and when it was made."""
    return {name: value for name, value in row.items() if name not in ("root", "input_modified", "finished")}


def test_a_part_that_fails_ends_what_is_converted(photos, tmp_path, gpu, monkeypatch):
    """The disk is full when the first picture comes; the others would take for ever."""
    begun = threading.Barrier(3, timeout=60)

    def endless(self, data, on_note, check):
        begun.wait()
        until = time.monotonic() + 60
        while data != png(0) and time.monotonic() < until:
            check()
        return data, {}

    def full(self, record):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(worker.Worker, "compress", endless)
    monkeypatch.setattr(shards.TarSink, "put", full)
    for name in ("1", "3", "5"):
        (photos / "inner" / f"{name}.png").unlink()
    before = threading.active_count()
    done = compress(photos, tmp_path / "small", to="tar", device="cuda")
    assert done.failed == 1
    assert "No space left on device" in done.failure
    assert threading.active_count() == before


def test_gpus_are_shared_out(monkeypatch):
    machines = [{"CPU": 8.0}, {"CPU": 16.0, "GPU": 2.0}]
    nodes = [{"Alive": True, "Resources": machine} for machine in machines]
    nodes.append({"Alive": False, "Resources": {"CPU": 99.0, "GPU": 9.0}})
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 24.0, "GPU": 2.0})
    assert [run._workers(threads, gpus) for threads, gpus in ((1, 0), (5, 0), (16, 0))] == [24, 4, 1]
    assert [run._workers(threads, gpus) for threads, gpus in ((1, 1), (12, 1), (16, 1))] == [2, 2, 1]
    with pytest.raises(UsageError, match="threads is 17: no machine of the cluster has so many cores"):
        run._workers(17, 0)
    del nodes[1]
    with pytest.raises(UsageError, match="device is cuda: Ray finds no GPU on any machine"):
        run._workers(1, 1)


@pytest.mark.slow
def test_on_ray_each_worker_has_a_gpu(photos, tmp_path, monkeypatch, capfd):
    class OnCpu(worker.Worker):  # made in a function, so that actors get it without this file
        def __init__(self, job):
            assert len(ray.get_gpu_ids()) == 1
            super().__init__(replace(job, device="cpu"))

    line = ["archive", str(photos), str(tmp_path / "none"), "--model", "nano", "--device", "cuda"]
    if not torch.cuda.is_available():
        assert cli.main(line) == 1
        said = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("[")]
        assert said == ["hpcm: error: device is cuda: Ray finds no GPU on any machine of the cluster"]
    monkeypatch.setattr(run, "Worker", OnCpu)
    monkeypatch.setitem(run.LOCAL_CLUSTER, "num_gpus", 1)
    done = compress(photos, tmp_path / "small", device="cuda")
    assert (done.pictures, done.failed) == (COUNT, 0)


# ---- nothing twice --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["loose", "tar"])
def test_a_rerun_does_what_is_missing(to, photos, tmp_path, monkeypatch):
    compress(photos, tmp_path / "small", to=to, shard_size=4)
    first = outputs(tmp_path / "small")
    done = compress(photos, tmp_path / "small", to=to, shard_size=4)
    assert (done.inputs, done.done, done.pictures) == (COUNT, COUNT, 0)
    assert outputs(tmp_path / "small") == first
    (photos / "0.png").write_bytes(png(50 % COUNT + 7))  # changed
    (photos / "00.png").write_bytes(png(8))  # new, and first
    done = compress(photos, tmp_path / "small", to=to, shard_size=4)
    assert (done.inputs, done.done, done.pictures) == (COUNT + 1, COUNT + 1, 2)
    assert len(rows_of(tmp_path / "small")) == COUNT + 1
    read = Pictures(str(tmp_path / "small"))
    assert len(read) == COUNT + 1
    if to == "loose":
        expected = hpcm.compress(photos / "0.png", model="nano", quality=30)
        assert (tmp_path / "small" / "0.hpcm").read_bytes() == expected


def test_a_part_that_fails_is_done_by_the_next_run(photos, tmp_path, monkeypatch, capsys):
    """As if the disk were full once."""
    write, count = Store.write, iter(range(100))

    def full(self, key, data, check=False):
        if key.endswith(".tar") and next(count) == 0:
            raise OSError(28, "No space left on device")
        write(self, key, data, check)

    monkeypatch.setattr(Store, "write", full)
    line = ["archive", "--model", "nano", "--to", "tar", "--shard-size", "2", str(photos), str(tmp_path / "small")]
    assert cli.main(line) == 1
    printed = capsys.readouterr()
    assert "1 parts failed" in printed.err
    assert "No space left on device" in printed.err
    assert f"{COUNT - 2} of {COUNT} inputs done" in printed.out
    assert cli.main(line) == 0
    assert "6 of 6 inputs done, 2 pictures in this run" in capsys.readouterr().out
    compress(photos, tmp_path / "at once", quality=50, to="tar", shard_size=2)
    assert outputs(tmp_path / "small") == outputs(tmp_path / "at once")


def test_verify_reads_back(photos, tmp_path, monkeypatch):
    """A disk that changes what is written: the part isn't done."""
    write = Store._write

    def rotten(self, key, source):
        data = source.getvalue() if key.endswith(".hpcm") else None
        write(self, key, source if data is None else io.BytesIO(data[:-1] + b"?"))

    monkeypatch.setattr(Store, "_write", rotten)
    done = compress(photos, tmp_path / "small", verify=True)
    assert done.done == 0
    assert done.failed == COUNT
    assert "isn't what was written there" in done.failure


def test_leftovers_go(photos, tmp_path):
    (tmp_path / "small" / "inner" / ".hpcm-abc").mkdir(parents=True)
    (tmp_path / "small" / "inner" / ".hpcm-abc" / "1.hpcm").write_bytes(b"half a file")
    compress(photos, tmp_path / "small")
    assert not list((tmp_path / "small").rglob(".hpcm-*"))
    assert not list((tmp_path / "small" / "_hpcm" / "parts").iterdir())


# ---- bounded memory -------------------------------------------------------------------------------------------------


def test_reading_waits_for_the_codec():
    """Backpressure: however slow the codec, no more than so many pictures are read ahead of it."""
    read, coded, most = 0, 0, 0

    def source():
        nonlocal read
        for index in range(50):
            read += 1
            yield shards.Record(str(index), b"")

    for record in worker.prefetch(source(), worker.PREFETCH):
        time.sleep(0.002)
        most = max(most, read - coded)
        assert record.name == str(coded)
        coded += 1
    assert coded == 50
    assert 1 < most <= worker.PREFETCH + 2  # the one that is coded, and one that the generator holds


def test_what_fails_while_reading_ahead_is_raised():
    def source():
        yield shards.Record("a", b"")
        raise OSError("the network is down")

    found = worker.prefetch(source(), 3)
    assert next(found).name == "a"
    with pytest.raises(OSError, match="the network is down"):
        next(found)


def test_a_shard_is_read_picture_by_picture(tmp_path, monkeypatch):
    """Of a tar with 60 pictures of a megabyte each, few are in memory at once."""
    import tracemalloc

    noise = random.Random(0).randbytes(1 << 20)
    tarred(tmp_path / "set" / "a.tar", {f"{i:02d}.png": noise for i in range(60)})
    monkeypatch.setattr(worker.Worker, "compress", lambda self, data, *_: (data, {"width": 1, "height": 1}))
    tracemalloc.start()
    done = compress(tmp_path / "set", tmp_path / "small")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert done.pictures == 60
    assert peak < 30 << 20


# ---- with Ray -------------------------------------------------------------------------------------------------------


def test_on_ray_by_the_command_line(photos, tmp_path, capfd):
    """Two actors, as the documents have it; what comes is what one process makes."""
    (photos / "bad.png").write_bytes(b"none")
    line = ["archive", str(photos), str(tmp_path / "small"), "--to", "tar", "--shard-size", "2", "--verify"]
    assert cli.main([*line, "--model", "nano", "--quality", "30"]) == 0
    printed = capfd.readouterr()
    assert f"{COUNT + 1} of {COUNT + 1} inputs done, {COUNT} pictures in this run" in printed.out
    ours = [line for line in printed.err.splitlines() if not line.startswith("[")]  # Ray's own logging of C++
    assert ours == ["hpcm: note: errors in the manifest: 1 (files that can't be read or are damaged)"]
    job = plan.Job(str(tmp_path / "alone"), to="tar", model="nano", codec_options={"quality": 30}, verify=True)
    for part in plan.plan([str(photos)], job, shard_size=2).parts:
        worker.Worker(job).attempt(part)
    assert outputs(tmp_path / "small") == outputs(tmp_path / "alone") != {}
    page = (tmp_path / "small" / "_hpcm" / "report.html").read_text()
    assert page.count("<img") == 2 * COUNT  # each beside its source
    assert "it is no picture that Pillow can read" in page
    assert json.loads((tmp_path / "small" / "_hpcm" / "settings.json").read_text())["quality"] == 30


def test_lossless(photos, tmp_path):
    (photos / "print.tif").write_bytes(cmyk())
    (photos / "drawn.png").write_bytes(drawn())
    target = tmp_path / "small"
    done = archive.compress(photos, target, model="nano", lossless=True, verify=True)
    assert (done.pictures, done.errors, done.failed) == (COUNT + 1, 1, 0)
    rows = {row["input"]: row for row in rows_of(target)}
    assert "mode CMYK was converted to RGB" in rows["print.tif"]["error"]
    assert rows.pop("print.tif")["retry"] is False
    assert {(row["max_error"], row["psnr"], row["verified"]) for row in rows.values()} == {(0, EQUAL, True)}
    assert [name for name, row in rows.items() if row["symbols"] is None] == ["drawn.png"]
    assert "max_error 0" in (target / "_hpcm" / "report.html").read_text()
    back = tmp_path / "back"
    archive.restore(target, back)
    for index in range(COUNT):
        inner = "inner" if index % 2 else ""
        assert np.array_equal(Image.open(back / inner / f"{index}.png"), photo(index))
    again = archive.compress(photos, target, model="nano", max_error=0, verify=True)  # the same settings
    assert again.pictures == 0
    with pytest.raises(UsageError, match="was begun with max_error 0, not 1"):
        archive.compress(photos, target, model="nano", max_error=1)


def cmyk() -> bytes:
    file = io.BytesIO()
    photo(0).convert("CMYK").save(file, "TIFF")
    return file.getvalue()


def drawn() -> bytes:
    """As a table on a screen: it is coded without a lossy picture."""
    rows, columns = np.indices((120, 200))
    image = Image.fromarray(np.where((rows % 12 == 0) | (columns % 40 == 0), 40, 240).astype(np.uint8))
    file = io.BytesIO()
    image.convert("RGB").save(file, "PNG")
    return file.getvalue()


def test_what_is_no_lossless_archive(photos, tmp_path):
    golden = Path(__file__).parent / "golden"
    for how, words in (
        ({"lossless": True, "bpp": 1.0}, "exclude bpp and psnr"),
        ({"lossless": True, "quality": 90}, "at most 80"),
        ({"max_error": 1, "model": golden / "tiny-base.safetensors"}, "tiny-base can't make lossless files"),
    ):
        with pytest.raises(UsageError, match=words):
            archive.compress(photos, tmp_path / "small", **{"model": "nano", **how})
    assert not (tmp_path / "small").exists()


@pytest.mark.slow
def test_on_ray_a_picture_that_kills_its_actor_does_not_end_the_run(photos, tmp_path, monkeypatch):
    class Fragile(worker.Worker):  # made in a function, so that actors get it without this file
        def attempt(self, part):
            if part.inputs[0].key == "2.png":
                os.kill(os.getpid(), 9)
            return super().attempt(part)

    monkeypatch.setattr(run, "Worker", Fragile)
    monkeypatch.setattr(run, "RETRIES", 1)
    done = compress(photos, tmp_path / "small", shard_size=1)
    assert (done.done, done.pictures, done.failed) == (COUNT - 1, COUNT - 1, 1)
    assert "died" in done.failure


@pytest.mark.parametrize("stores", [store.OBJECT_STORES, ()])
def test_what_fsspec_opens(stores, photos, tmp_path, monkeypatch):
    """Its memory as a bucket, and as a remote disk where a file has to be renamed to appear whole."""
    pytest.importorskip("fsspec", reason="URLs that pyarrow doesn't open need fsspec")
    monkeypatch.setattr(store, "OBJECT_STORES", stores)
    target = f"memory://small-{len(stores)}"
    compress(photos, target, to="tar", shard_size=4, verify=True)
    compress(photos, tmp_path / "local", to="tar", shard_size=4)
    assert {f.key: Store(target).read(f.key) for f in Store(target).files()} == outputs(tmp_path / "local")
    assert not Store(target).exists("_hpcm/temporary")
    assert archive.restore(target, tmp_path / "back").pictures == COUNT


# ---- S3 -------------------------------------------------------------------------------------------------------------


class Flaky:
    """A proxy in front of a port that breaks connections in the middle, of every `often` one."""

    def __init__(self, port: int, often: int) -> None:
        self.port, self.often, self.dropped, self.chance = port, often, 0, random.Random(0)
        self.listening = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listening.accept()
                server = socket.create_connection(("127.0.0.1", self.port))
                budget = self.chance.randrange(20_000) if self.chance.randrange(self.often) == 0 else None
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self.pump, args=(*pair, budget), daemon=True).start()

    def pump(self, source: socket.socket, target: socket.socket, budget: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 14):
                if budget is not None and (budget := budget - len(data)) < 0:
                    self.dropped += 1
                    break
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def s3():
    """moto's server with a bucket: its port, and what makes URLs for a port."""
    server = pytest.importorskip("moto.server", reason="a local S3 server needs moto: pip install 'moto[server,s3]'")
    import logging

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in keys.items():
            patch.setenv(name, value)
        running = server.ThreadedMotoServer("127.0.0.1", 0)
        running.start()
        _, port = running.get_host_and_port()
        store.filesystem_of(f"s3://bucket{options(port)}&allow_bucket_creation=true")[0].create_dir("bucket")
        yield port
        running.stop()


def options(port: int) -> str:
    return f"?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"


def test_a_bucket_and_back(s3, photos, tmp_path):
    tarred(photos / "set.tar", {"a.png": png(7), "b.png": png(8)})
    pq.write_table(pa.table({"image": [png(9)]}), photos / "set.parquet")
    source, target = (f"s3://bucket/there/{name}{options(s3)}" for name in ("photos", "small"))
    for path in photos.rglob("*.*"):
        Store(source).write(path.relative_to(photos).as_posix(), path.read_bytes())
    done = compress(source, target, verify=True)
    assert (done.inputs, done.done, done.pictures, done.errors) == (COUNT + 2, COUNT + 2, COUNT + 3, 0)
    assert compress(source, target, verify=True).pictures == 0
    local = tmp_path / "local"
    compress(photos, local)
    assert {f.key: Store(target).read(f.key) for f in Store(target).files()} == outputs(local)
    assert len(Pictures(target)) == COUNT + 3
    assert "127.0.0.1" not in str(rows_of(target))  # credentials and options of URLs stay out
    assert archive.restore(target, tmp_path / "back").pictures == COUNT + 3
    assert compress(f"s3://bucket/there/photos/set.tar{options(s3)}", tmp_path / "one").pictures == 2


def test_a_network_that_breaks(s3, photos, tmp_path, monkeypatch):
    """Every third connection breaks at some byte; all arrives, as if none had."""
    monkeypatch.setattr(store, "RETRY_DELAYS", (0.01,) * 20)
    tarred(photos / "set.tar", {f"{i}.png": png(i) for i in range(COUNT)})
    proxy = Flaky(s3, often=3)
    source, target = (f"s3://bucket/flaky/{name}{options(proxy.listening.getsockname()[1])}" for name in ("in", "out"))
    for path in photos.rglob("*.*"):
        Store(source).write(path.relative_to(photos).as_posix(), path.read_bytes())
    done = compress(source, target, verify=True)
    assert (done.done, done.pictures, done.failed, done.errors) == (COUNT + 1, 2 * COUNT, 0, 0)
    compress(photos, tmp_path / "local")
    assert {f.key: Store(target).read(f.key) for f in Store(target).files()} == outputs(tmp_path / "local")
    assert proxy.dropped > 3
    proxy.listening.close()


@pytest.mark.parametrize("reads", [0, 1, 5])
def test_an_upload_that_fails_leaves_no_object(reads, s3, monkeypatch):
    """The spool's disk fails in the middle: neither does half a shard appear, nor does the one before go."""
    import gc

    class Breaking(io.BytesIO):
        left = 0

        def read(self, size=-1):
            if self.left == 0:
                raise OSError(5, "Input/output error")
            self.left -= 1
            return bytes(4 << 20)

    monkeypatch.setattr(store, "RETRY_DELAYS", ())
    bucket = Store(f"s3://bucket/breaking-{reads}{options(s3)}")
    bucket.write("old.tar", b"sound")
    for name in ("old.tar", "new.tar"):
        source = Breaking()
        source.left = reads
        with pytest.raises(OSError, match="Input/output error"):
            bucket.write(name, source)
    gc.collect()  # a stream that is freed would complete its upload
    assert [found.key for found in bucket.files()] == ["old.tar"]
    assert bucket.read("old.tar") == b"sound"


def test_what_a_bucket_refuses_is_one_line(s3, photos, capsys):
    for arguments in (
        [f"s3://nothing/photos{options(s3)}", f"s3://bucket/x{options(s3)}"],
        [str(photos), f"s3://nothing/x{options(s3)}"],
    ):
        assert cli.main(["archive", "--model", "nano", *arguments]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "s3://nothing/" in error
        assert "endpoint" not in error


def test_the_documents_examples_run(s3, photos, tmp_path, monkeypatch):
    """docs/archives.md as it is written: on a folder, on tar shards, on a bucket."""
    text = (Path(__file__).parents[1] / "docs" / "archives.md").read_text()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for line in re.search(r"```sh\n(.*?)```", text, re.DOTALL)[1].splitlines():
        assert cli.main(shlex.split(line, comments=True)[1:]) == 0, line
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        exec(compile(example, "archives.md", "exec"), {})
    assert len(list(Path("back").rglob("*.png"))) == COUNT
    assert sum(pq.read_metadata(path).num_rows for path in Path("back-2").glob("*.parquet")) == COUNT
    assert len(list(Path("from-the-bucket").glob("*.tar"))) == 1


# ---- for learning ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["loose", "tar", "parquet"])
def test_pictures_are_a_data_set(to, photos, tmp_path, monkeypatch):
    target = tmp_path / "small"
    compress(photos, target, to=to, shard_size=4)
    codec = hpcm.load("nano", threads=1)
    expected = {
        np.asarray(codec.decompress(codec.compress(path, quality=30))).transpose(2, 0, 1).tobytes()
        for path in photos.rglob("*.png")
    }
    pictures = Pictures(str(target))
    assert len(pictures) == COUNT
    assert pictures[0].shape == (3, 64, 96)
    assert pictures[0].dtype == torch.uint8
    assert {picture.numpy().tobytes() for picture in DataLoader(pictures, batch_size=None)} == expected
    for workers in (0, 2):
        loader = DataLoader(pictures.stream(), batch_size=None, num_workers=workers)
        found = [picture.numpy().tobytes() for picture in loader]
        assert len(found) == COUNT
        assert set(found) == expected
    ordered = [picture.numpy().tobytes() for picture in pictures.stream(shuffle=False)]
    assert ordered == [picture.numpy().tobytes() for picture in pictures]
    with pytest.raises(IndexError):
        pictures[COUNT]


def test_a_crop_is_a_region_of_the_picture(tmp_path):
    (tmp_path / "photos").mkdir()
    PHOTO.save(tmp_path / "photos" / "large.png")
    photo(0).save(tmp_path / "photos" / "too-small.png")
    compress(tmp_path / "photos", tmp_path / "small")
    whole = Pictures(str(tmp_path / "small"))[0].int()
    cropped = Pictures(str(tmp_path / "small"), crop=(65, 97))
    assert len(cropped) == 1
    torch.manual_seed(0)
    first, second = cropped[0], cropped[0]
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    left, top, right, bottom = cropped._draw_box(whole.shape[2], whole.shape[1])
    assert (first.int() - whole[:, top:bottom, left:right]).abs().max() <= 1


def test_transforms_and_epochs(photos, tmp_path):
    compress(photos, tmp_path / "small", to="tar", shard_size=1)
    pictures = Pictures(str(tmp_path / "small"), transform=lambda image: image.getpixel((0, 0)))
    stream = pictures.stream(seed=3)
    orders = []
    for epoch in (0, 1, 0):
        stream.set_epoch(epoch)
        orders.append(list(stream))
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_a_folder_that_is_no_archive(tmp_path):
    with pytest.raises(UsageError, match="is no archive"):
        Pictures(str(tmp_path))


def test_room_is_left_for_others():
    """`import hpcm` and the command line know neither Ray nor pyarrow."""
    import subprocess
    import sys

    code = "import sys, hpcm.cli; hpcm.cli.parser(); print({'ray', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, timeout=60)
    assert done.stdout.strip() == "set()", done.stderr
