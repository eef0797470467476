"""Archives lose no picture: each has its row, with a place where its own pixels are, or the reason why there is none.

The pictures are plain, each of its own colour, so that one that was written over by another is noticed.
"""

import io
import os
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

import hpcm
from archives import RAYS_WARNINGS, compress, pa, pq, rows_of, work_in_this_process
from hpcm import archive
from hpcm.archive import manifest, run, store, worker
from hpcm.archive.names import Claims, checked_name
from hpcm.archive.shards import read_pictures
from hpcm.archive.store import FileEntry, Store
from hpcm.cli import main
from hpcm.errors import FormatError
from hpcm.util import atomic

pytestmark = RAYS_WARNINGS
COLOURS = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255), "white": (255, 255, 255), "black": (0, 0, 0)}


@pytest.fixture(autouse=True)
def without_ray(monkeypatch) -> None:
    work_in_this_process(monkeypatch)


def picture(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(file, "PNG")
    return file.getvalue()


def put(path: Path, colour: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(colour))
    return path


def tarred(path: Path, *members: tuple[str, str]) -> Path:
    """A tar of members, each a name and a colour, or `-> NAME` for a symbolic and `=> NAME` for a hard link."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as made:
        for name, content in members:
            member = tarfile.TarInfo(name)
            data = b"" if content[1:2] == ">" else picture(content)
            if not data:
                member.type = tarfile.SYMTYPE if content[0] == "-" else tarfile.LNKTYPE
                member.linkname = content[3:]
            member.size = len(data)
            made.addfile(member, io.BytesIO(data))
    return path


def table(path: Path, *rows: tuple[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": picture(colour), "path": name} for name, colour in rows]
    pq.write_table(pa.table({"image": images}), path)
    return path


def colour_of(image: Image.Image) -> str:
    pixel = image.convert("RGB").getpixel((16, 16))
    return min(COLOURS, key=lambda name: sum((a - b) ** 2 for a, b in zip(pixel, COLOURS[name], strict=True)))


def kept(target) -> dict[tuple[str, str, str], str]:
    """By the last part of the root, input and name: the colour of the picture where its row says that it is."""
    rows = rows_of(target)
    assert max(Counter((row["root"], row["input"], row["position"]) for row in rows).values()) == 1
    found = {}
    for row in rows:
        assert (row["output"] is None) != (row["error"] is None), row
        if row["error"] is None:
            location = row["offset"], row["bytes"]
            data = next(read_pictures(Store(str(target)), row["output"], [location]))
            found[row["root"].rpartition("/")[2], row["input"], row["name"]] = colour_of(hpcm.decompress(data))
    return found


def errors(target) -> dict[str, str]:
    return {row["name"] or row["input"]: row["error"] for row in rows_of(target) if row["error"]}


# ---- several sources ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", [None, "loose", "tar", "parquet"])
def test_equal_names_in_several_sources(to, tmp_path):
    """Each picture is there once, whichever order the sources come in, and a rerun does nothing."""
    first, second = tmp_path / "2023", tmp_path / "2024"
    expected = {}
    for folder, colours in ((first, ("red", "green", "blue")), (second, ("white", "black", "red"))):
        put(folder / "a.png", colours[0])
        tarred(folder / "x.tar", ("m.png", colours[1]))
        table(folder / "y.parquet", ("r.png", colours[2]))
        names = (("a.png", "a.png"), ("x.tar", "m.png"), ("y.parquet", "r.png"))
        expected |= {(folder.name, *name): colour for name, colour in zip(names, colours, strict=True)}
    done = compress([first, second], tmp_path / "small", to=to)
    assert (done.inputs, done.done, done.pictures, done.errors, done.failed) == (6, 6, 6, 0, 0)
    assert kept(tmp_path / "small") == expected
    files = sorted(path for path in (tmp_path / "small").rglob("*") if path.is_file() and "_hpcm" not in path.parts)
    before = [(path, path.stat().st_mtime_ns) for path in files]
    for sources in ([first, second], [second, first], [second], [f"{second}/", first]):
        done = compress(sources, tmp_path / "small", to=to)
        assert (done.pictures, done.done) == (0, done.inputs)
    assert [(path, path.stat().st_mtime_ns) for path in files] == before
    assert kept(tmp_path / "small") == expected
    assert archive.restore(tmp_path / "small", tmp_path / "back", to="loose").errors == 0
    assert Counter(colour_of(Image.open(path)) for path in (tmp_path / "back").rglob("*.png")) == Counter(
        expected.values()
    )


def test_each_source_keeps_its_folder(tmp_path):
    """The first one, alone, has the archive itself; those that come later have one each, also of equal names."""
    roots = [tmp_path / "1" / "photos", tmp_path / "2" / "photos", tmp_path / "3" / "photos", tmp_path / ".x.tar"]
    for root, colour in zip(roots, COLOURS, strict=False):
        put(root / "a.png", colour)
    put(roots[0] / "photos" / "a.png", "black")  # whose folder the second source doesn't get
    small = tmp_path / "small"
    compress(roots[0], small)
    compress(roots[1], small)
    compress(roots[:1:-1], small)
    compress(list(reversed(roots)), small)
    found = {row["output"]: row["root"] for row in rows_of(small)}
    assert found == {
        "a.hpcm": str(roots[0]),
        "photos/a.hpcm": str(roots[0]),
        "photos-2/a.hpcm": str(roots[1]),
        "x-tar/a.hpcm": str(roots[3]),
        "photos-3/a.hpcm": str(roots[2]),
    }
    put(roots[1] / "b.png", "white")
    assert compress(roots[1], small).pictures == 1
    assert (small / "photos-2" / "b.hpcm").exists()


def test_single_files_of_several_folders(tmp_path):
    paths = [put(tmp_path / name / "a.png", colour) for name, colour in (("x", "red"), ("y", "blue"))]
    done = compress([*paths, tmp_path / "y"], tmp_path / "small")
    assert (done.inputs, done.pictures, done.errors) == (2, 2, 0)
    assert kept(tmp_path / "small") == {("x", "a.png", "a.png"): "red", ("y", "a.png", "a.png"): "blue"}


# ---- one name for several pictures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["loose", "tar", "parquet"])
def test_who_comes_later_takes_no_name(to, tmp_path):
    """What was archived stays, though an earlier one in the order of names wants its name; gone sources' too."""
    source, small = tmp_path / "photos", tmp_path / "small"
    put(source / "a.png", "red")
    compress(source, small, to=to)
    put(source / "a.jpg", "blue")
    for _ in range(2):
        done = compress(source, small, to=to)
        assert (done.inputs, done.done, done.pictures, done.errors) == (2, 1, 0, 1)
        assert kept(small) == {("photos", "a.png", "a.png"): "red"}
        assert errors(small) == {"a.jpg": "a.png becomes a.hpcm already"}
    (source / "a.png").unlink()
    compress(source, small, to=to)
    assert kept(small) == {("photos", "a.png", "a.png"): "red"}


@pytest.mark.parametrize(
    ("first", "second", "case_insensitive", "free"),
    [
        ("a", "a", False, False),
        ("a", "A", False, True),
        ("a", "A", True, False),
        ("\u00e4", "a\u0308", True, False),
        ("a", "a/b", False, False),
        ("a/b", "a", False, False),
        ("a/b/c", "a", False, False),
        ("a/b/c", "A/B", True, False),
        ("a/b", "a/c", False, True),
        ("a/b", "ab", False, True),
    ],
)
def test_names_that_collide(first, second, case_insensitive, free):
    claims = Claims(case_insensitive)
    assert claims.take(first, 1) is None
    assert claims.take(second, 2) == (None if free else 1)
    assert claims.take(first, 1) is None  # one's own


def test_a_folder_of_several_owners_is_nobodys():
    claims = Claims()
    for owner, name in enumerate(("a/x", "a/y", "a/z")):
        assert claims.take(name, owner) is None
    for owner in range(3):
        assert claims.take("a", owner) is not None


@pytest.mark.parametrize("name", ["", ".", "..", "/", "/a.png", "../a.png", "a/../b.png", "a/..", "a\0.png"])
def test_names_of_no_file(name):
    with pytest.raises(FormatError, match="its name"):
        checked_name(name)


def test_a_target_that_doesnt_tell_case(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "_is_case_insensitive", lambda store: True)
    source = tmp_path / "photos"
    put(source / "A.png", "red")
    put(source / "a.png", "blue")
    tarred(source / "x.tar", ("m.png", "green"), ("M.png", "white"), ("n/o.png", "black"), ("N.png/x", "red"))
    compress(source, tmp_path / "small", to="loose")
    assert errors(tmp_path / "small") == {
        "a.png": "A.png becomes a.hpcm already",
        "M.png": "another picture becomes M.hpcm already",
    }
    assert set(kept(tmp_path / "small").values()) == {"red", "green", "black"}


def test_shards_and_folders_of_one_name(tmp_path):
    source = tmp_path / "photos"
    put(source / "x" / "m.png", "red")
    tarred(source / "x.tar", ("m.png", "blue"))
    table(source / "x.parquet", ("m.png", "green"))
    put(source / "y.hpcm" / "b.png", "white")  # y.hpcm can't be a folder and a file
    put(source / "y.png", "black")
    compress(source, tmp_path / "small", to="loose")
    found = kept(tmp_path / "small")
    wrong = errors(tmp_path / "small")
    assert len(found) + len(wrong) == 5
    assert len({row["output"] for row in rows_of(tmp_path / "small")} - {None}) == len(found)
    assert found["photos", "x.parquet", "m.png"] == "green"
    assert wrong["x.tar"] == "x.parquet becomes x already"
    assert wrong["x/m.png"] == "x.parquet becomes x/m.hpcm already"
    assert "already" in wrong["y.png"]


@pytest.mark.parametrize("to", ["loose", "tar"])
@pytest.mark.parametrize("kind", [tarred, table])
def test_equal_names_in_a_shard(kind, to, tmp_path):
    suffix = ".tar" if kind is tarred else ".parquet"
    names = ("a.png", "a.png", "a.jpg", "./a.png", "A.png")
    kind(tmp_path / "set" / f"s{suffix}", *zip(names, COLOURS, strict=True))
    done = compress(tmp_path / "set", tmp_path / "small", to=to)
    assert (done.pictures, done.errors) == (2, 3)
    assert [row["error"] is None for row in rows_of(tmp_path / "small")] == [True, False, False, False, True]
    assert sorted(kept(tmp_path / "small").values()) == ["black", "red"]


def test_dots_in_names_that_are_no_suffix(tmp_path):
    table(tmp_path / "set" / "s.parquet", ("img_0.5", "red"), ("img_0.7", "blue"))
    assert compress(tmp_path / "set", tmp_path / "small", to="tar").errors == 0
    assert [row["output"] for row in rows_of(tmp_path / "small")] == ["s.tar", "s.tar"]
    assert sorted(kept(tmp_path / "small").values()) == ["blue", "red"]


# ---- what fails is tried again, and nothing else fails with it ------------------------------------------------------


@pytest.mark.parametrize("to", ["loose", "tar", "parquet"])
@pytest.mark.parametrize("kind", [tarred, table])
def test_a_picture_that_fails_once_in_a_shard(kind, to, tmp_path, monkeypatch):
    suffix = ".tar" if kind is tarred else ".parquet"
    kind(tmp_path / "set" / f"s{suffix}", ("a.png", "red"), ("b.png", "green"), ("c.png", "blue"))
    sound = worker.Worker.compress

    def short(self, data, on_note, check):
        if data == picture("green"):
            raise MemoryError("for a moment")
        return sound(self, data, on_note, check)

    with monkeypatch.context() as patch:
        patch.setattr(worker.Worker, "compress", short)
        done = compress(tmp_path / "set", tmp_path / "small", to=to)
    assert (done.inputs, done.done, done.pictures, done.errors, done.failed) == (1, 0, 2, 1, 1)
    assert done.failure == f"s{suffix} b.png: MemoryError: for a moment"
    done = compress(tmp_path / "set", tmp_path / "small", to=to)
    assert (done.inputs, done.done, done.pictures, done.errors, done.failed) == (1, 1, 3, 0, 0)
    assert sorted(kept(tmp_path / "small").values()) == ["blue", "green", "red"]
    assert compress(tmp_path / "set", tmp_path / "small", to=to).pictures == 0


def test_what_is_wrong_for_ever_is_an_error_of_every_run(tmp_path):
    put(tmp_path / "set" / "a.png", "red")
    (tmp_path / "set" / "b.png").write_bytes(b"no picture")
    for pictures in (1, 0):
        done = compress(tmp_path / "set", tmp_path / "small")
        assert (done.inputs, done.done, done.pictures, done.errors, done.failed) == (2, 2, pictures, 1, 0)


NAMES = {
    "too long": "x" * 251 + ".png",
    "not UTF-8": os.fsdecode(b"caf\xe9.png"),
    "with a backslash": "a\\b.png",
    "of a camera": "_DSC0001.png",
    "in a folder": "_best/a.png",
    "with a question mark": "a?b.png",
    "with a new line": "a\nb.png",
}


def test_odd_names_of_files(tmp_path):
    """All in one part of the work: each is archived or has its row, and a second run does nothing."""
    source, small = tmp_path / "what?", tmp_path / "small?"
    for name in NAMES.values():
        put(source / name, "red")
    for pictures in (len(NAMES) - 1, 0):
        done = compress(source, small, shard_size=100)
        counts = (done.inputs, done.done, done.pictures, done.errors, done.failed)
        assert counts == (len(NAMES), len(NAMES), pictures, 1, 0)
    assert errors(small) == {NAMES["too long"]: "it can't be written: File name too long"}
    assert len(kept(small)) == len(NAMES) - 1
    found = {path.name for path in small.rglob("*.hpcm")}
    assert {"caf\\udce9.hpcm", "_DSC0001.hpcm"} <= found
    assert archive.restore(small, tmp_path / "back").pictures == len(found)


def test_two_names_that_look_the_same(tmp_path):
    """A file whose name says in letters what another's can't say in UTF-8."""
    put(tmp_path / "set" / NAMES["not UTF-8"], "red")
    put(tmp_path / "set" / "caf\\udce9.png", "blue")
    for pictures in (1, 0):
        done = compress(tmp_path / "set", tmp_path / "small")
        assert (done.inputs, done.pictures, done.errors) == (2, pictures, 1)
    assert set(kept(tmp_path / "small").values()) == {"blue"}
    (message,) = errors(tmp_path / "small").values()
    assert "becomes caf\\udce9.hpcm already" in message


PATHS = [".", "..", "a/../b.png", "/root.png", "", "a\0b.png", "x" * 300 + ".png", "sound.png", "./also sound.png"]


@pytest.mark.parametrize("to", ["loose", "tar", "parquet"])
def test_odd_paths_in_parquet(to, tmp_path):
    table(tmp_path / "set" / "s.parquet", *((path, "red") for path in PATHS))
    done = compress(tmp_path / "set", tmp_path / "target" / "small", to=to)
    wrong = {"loose": 6, "tar": 5, "parquet": 0}[to]
    assert (done.done, done.pictures, done.errors, done.failed) == (1, len(PATHS) - wrong, wrong, 0)
    assert len(kept(tmp_path / "target" / "small")) == len(PATHS) - wrong
    assert compress(tmp_path / "set", tmp_path / "target" / "small", to=to).pictures == 0
    assert {path.name for path in (tmp_path / "target").iterdir()} == {"small"}


def test_odd_names_in_a_tar(tmp_path):
    tarred(tmp_path / "set" / "s.tar", (os.fsdecode(b"caf\xe9.png"), "red"), ("a/./b.png", "green"), ("..png", "blue"))
    for to in ("loose", "tar", "parquet"):
        done = compress(tmp_path / "set", tmp_path / to, to=to)
        assert (done.pictures, done.errors, done.failed) == (3, 0, 0)
        assert sorted(kept(tmp_path / to).values()) == ["blue", "green", "red"]


def test_every_column_of_parquet_stays(tmp_path):
    """Whatever its type, also those that Python's own types don't hold."""
    count = 20
    columns = {
        "nanoseconds": pa.array([1700000000123456789 + i for i in range(count)], pa.timestamp("ns")),
        "zone": pa.array([1700000000123456789] * count, pa.timestamp("ns", "Europe/Paris")),
        "far": pa.array([2**60] * count, pa.timestamp("us")),
        "duration": pa.array(range(count), pa.duration("ns")),
        "decimal": pa.array([None, *range(1, count)], pa.int64()).cast(pa.decimal128(30, 3)),
        "words": pa.array(["a", "b"] * (count // 2)).dictionary_encode(),
        "map": pa.array([[("a", 1), ("a", 2)]] * count, pa.map_(pa.string(), pa.int8())),
        "nested": pa.array([{"a": [{"b": i}]} for i in range(count)]),
        "half": pa.array([float("nan")] * count, pa.float16()),
        "none": pa.nulls(count),
    }
    images = [{"path": f"{i}.png", "bytes": picture("red"), "more": i} if i else None for i in range(count)]
    kind = pa.struct({"path": pa.string(), "bytes": pa.large_binary(), "more": pa.int16()})
    (tmp_path / "set").mkdir()
    made = pa.table({**columns, "image": pa.array(images, kind)}).replace_schema_metadata({"key": "value"})
    pq.write_table(made, tmp_path / "set" / "s.parquet", row_group_size=7)
    done = compress(tmp_path / "set", tmp_path / "small")
    assert (done.done, done.pictures, done.errors, done.failed) == (1, count - 1, 1, 0)
    before = pq.read_table(tmp_path / "set" / "s.parquet")
    after = pq.read_table(tmp_path / "small" / "s.parquet")
    assert after.schema.equals(before.schema, check_metadata=True)
    for name in columns:
        assert after[name].combine_chunks().to_string() == before[name].combine_chunks().to_string(), name
    found = after["image"].to_pylist()
    assert found[0] is None
    assert [(row["path"], row["more"]) for row in found[1:]] == [(f"{i}.png", i) for i in range(1, count)]


def test_columns_of_one_name(tmp_path):
    (tmp_path / "set").mkdir()
    data = pa.array([picture("red")])
    pq.write_table(pa.Table.from_arrays([data, pa.array([1])], ["x", "x"]), tmp_path / "set" / "a.parquet")
    twice = pa.Table.from_arrays([data, pa.array([1]), pa.array([2])], ["image", "n", "n"])
    pq.write_table(twice, tmp_path / "set" / "b.parquet")
    done = compress(tmp_path / "set", tmp_path / "small")
    assert (done.done, done.pictures, done.errors, done.failed) == (2, 1, 1, 0)
    assert pq.ParquetFile(tmp_path / "small" / "b.parquet").read().column(2).to_pylist() == [2]


def test_a_damaged_parquet_file_is_a_row(tmp_path):
    """pyarrow says so with an OSError, as a network does."""
    data = table(tmp_path / "set" / "s.parquet", *((f"{i}.png", "red") for i in range(9))).read_bytes()
    for begin in range(4, len(data) - 8, 397):
        (tmp_path / "set" / "s.parquet").write_bytes(data[:begin] + bytes(40) + data[begin + 40 :])
        done = compress(tmp_path / "set", tmp_path / f"small {begin}")
        assert (done.done, done.failed) == (1, 0), done.failure


def test_a_date_that_64_bits_dont_hold(tmp_path):
    put(tmp_path / "set" / "a.png", "red")
    os.utime(tmp_path / "set" / "a.png", (10**10, 10**10))  # the year 2286
    for pictures in (1, 0):
        done = compress(tmp_path / "set", tmp_path / "small")
        assert (done.done, done.pictures, done.failed) == (1, pictures, 0)


def test_one_file_that_cant_be_written(tmp_path, monkeypatch):
    """The others of its part are, and its own row says why not."""
    for name, colour in (("a", "red"), ("b", "green"), ("c", "blue")):
        put(tmp_path / "set" / f"{name}.png", colour)
    tarred(tmp_path / "set" / "t.tar", ("m.png", "red"), ("b.hpcm.txt", "green"))
    write = Store.write

    def full(self, key, data, check=False):
        if "b.hpcm" in key:
            raise OSError(28, "No space left on device")
        write(self, key, data, check)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", full)
        done = compress(tmp_path / "set", tmp_path / "small", to="loose", shard_size=10)
    assert (done.inputs, done.done, done.pictures, done.errors, done.failed) == (4, 2, 3, 2, 2)
    reason = "it can't be written: No space left on device"
    assert errors(tmp_path / "small") == {"b.png": reason, "b.hpcm.txt": reason}
    done = compress(tmp_path / "set", tmp_path / "small", to="loose", shard_size=10)
    assert (done.done, done.errors, done.failed) == (4, 0, 0)
    assert sorted(kept(tmp_path / "small").values()) == ["blue", "green", "red", "red"]


def test_a_part_that_fails_has_rows(tmp_path, monkeypatch):
    """Each input is in the manifest, also if its shard could not be written, and what was there before stays."""
    tarred(tmp_path / "set" / "a.tar", ("m.png", "red"))
    compress(tmp_path / "set", tmp_path / "small")
    tarred(tmp_path / "set" / "b.tar", ("m.png", "blue"))
    tarred(tmp_path / "set" / "a.tar", ("m.png", "red"), ("n.png", "green"))
    write = Store.write

    def full(self, key, data, check=False):
        if key.endswith(".tar"):
            raise OSError(28, "No space left on device")
        write(self, key, data, check)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", full)
        done = compress(tmp_path / "set", tmp_path / "small")
    assert (done.done, done.errors, done.failed) == (0, 1, 2)
    assert "No space left on device" in errors(tmp_path / "small")["b.tar"]
    assert kept(tmp_path / "small") == {("set", "a.tar", "m.png"): "red"}
    assert compress(tmp_path / "set", tmp_path / "small").done == 2
    assert sorted(kept(tmp_path / "small").values()) == ["blue", "green", "red"]


def test_a_shard_whose_name_is_too_long(tmp_path):
    tarred(tmp_path / "set" / ("x" * 251 + ".tar"), ("m.png", "red"))
    for _ in range(2):
        done = compress(tmp_path / "set", tmp_path / "small", to="parquet")
        assert (done.done, done.errors, done.failed) == (1, 1, 0)
    assert errors(tmp_path / "small") == {"m.png": "it can't be written: File name too long"}


def test_a_folder_that_cant_be_listed(tmp_path, monkeypatch):
    put(tmp_path / "set" / "a.png", "red")
    put(tmp_path / "set" / "closed" / "b.png", "blue")
    listing = os.scandir

    def refusing(path):
        if str(path).endswith("/closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refusing)
        done = compress(tmp_path / "set", tmp_path / "small")
        assert (done.inputs, done.done, done.errors) == (2, 1, 1)
        assert errors(tmp_path / "small") == {"closed/": "the folder can't be listed: Permission denied"}


def test_what_is_skipped_is_counted(tmp_path, capsys):
    """Other kinds of files, hidden ones, and links to folders around, on a disk and elsewhere."""
    put(tmp_path / "set" / "a.png", "red")
    for name in ("b.jxl", "sub/c.JXL", "d.orf", "notes", ".hidden.png", ".git/e.png", "old.hpcm"):
        put(tmp_path / "set" / name, "blue")
    put(tmp_path / "private.png", "blue")
    for up in ("", "sub/"):
        (tmp_path / "set" / up / "up").symlink_to(tmp_path)
    (tmp_path / "set" / "called.jpg").mkdir()
    assert not main(["archive", str(tmp_path / "set"), str(tmp_path / "small"), "--model", "nano"])
    line = "hpcm: note: skipped 2 .jxl, 2 hidden, 1 .orf, 1 link to a folder around it, 1 without a suffix\n"
    assert line in capsys.readouterr().err
    assert [row["name"] for row in rows_of(tmp_path / "small") if not row["error"]] == ["a.png"]
    bucket = Store("memory://bucket/photos")
    for name in ("a.png", "b.jxl", ".hidden.png", ".git/e.png"):
        bucket.write(name, picture("red"))
    assert compress("memory://bucket/photos", tmp_path / "other").skipped == {".jxl": 1, "hidden": 2}


# ---- links ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["loose", "tar", "parquet"])
def test_links_in_a_tar(to, tmp_path):
    """Those to members have their data; of the others a row says where they lead."""
    members = [
        ("a.png", "red"),
        ("d/hard.png", "=> a.png"),
        ("d/soft.png", "-> ../a.png"),
        ("chain.png", "-> d/soft.png"),
        ("later.png", "-> z.png"),
        ("caption.txt", "-> a.png"),
        ("nowhere.png", "-> none.png"),
        ("outside.png", "-> /etc/passwd"),
        ("up.png", "-> ../../a.png"),
        ("ring.png", "-> gnir.png"),
        ("gnir.png", "-> ring.png"),
        ("before.png", "=> z.png"),
        ("z.png", "blue"),
    ]
    tarred(tmp_path / "set" / "s.tar", *members)
    done = compress(tmp_path / "set", tmp_path / "small", to=to)
    assert (done.done, done.pictures, done.errors, done.failed) == (1, 6, 6, 0)
    colours = {name: colour for (_, _, name), colour in kept(tmp_path / "small").items()}
    blue = {"later.png": "blue", "z.png": "blue"}
    assert colours == {**dict.fromkeys(["a.png", "d/hard.png", "d/soft.png", "chain.png"], "red"), **blue}
    wrong = errors(tmp_path / "small")
    assert set(wrong) == {"nowhere.png", "outside.png", "up.png", "ring.png", "gnir.png", "before.png"}
    assert wrong["outside.png"] == "it is a link to /etc/passwd, which isn't in the tar"
    if to == "tar":
        with tarfile.open(tmp_path / "small" / "s.tar") as made:
            assert made.extractfile("caption.txt").read() == picture("red")


def test_a_member_that_claims_too_much(tmp_path):
    """Its memory isn't asked for."""
    with tarfile.open(tarred(tmp_path / "set" / "s.tar", ("a.png", "red")), "a") as made:
        member = tarfile.TarInfo("b.png")
        member.size = 1 << 60
        made.fileobj.write(member.tobuf(tarfile.GNU_FORMAT))
    done = compress(tmp_path / "set", tmp_path / "small")
    assert (done.done, done.pictures, done.errors, done.failed) == (1, 1, 1, 0)


def test_restored_shards_are_no_folders_called_tar(tmp_path):
    put(tmp_path / "set" / "a.png", "red")
    compress(tmp_path / "set", tmp_path / "small", to="tar")
    archive.restore(tmp_path / "small", tmp_path / "back", to="loose")
    assert [path.name for path in (tmp_path / "back").rglob("*.png")] == ["a.png"]
    assert not [path for path in (tmp_path / "back").rglob("*") if path.is_dir() and path.suffix]


# ---- several drivers, and deaths ------------------------------------------------------------------------------------


def row(name: str, **values) -> dict:
    return manifest.row("root", FileEntry(name, 1, 1), 0, name, **{"retry": False, **values})


def inputs(folder: Path) -> list[str]:
    return sorted(manifest.read_all(Store(str(folder)))["input"].to_pylist())


class Killed(BaseException):
    pass


def test_a_death_between_merging_and_deleting(tmp_path, monkeypatch):
    put(tmp_path / "set" / "a.png", "red")
    put(tmp_path / "set" / "b.png", "blue")

    def die(self, key):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Store, "delete", die)
        with pytest.raises(Killed):
            compress(tmp_path / "set", tmp_path / "small")
    assert inputs(tmp_path / "small") == ["a.png", "b.png"]
    assert compress(tmp_path / "set", tmp_path / "small").pictures == 0
    assert sorted(kept(tmp_path / "small").values()) == ["blue", "red"]


@pytest.mark.parametrize("part", ["same", "other"])
@pytest.mark.parametrize("moment", ["read", "write", "delete"])
def test_rows_that_come_during_a_merge(moment, part, tmp_path, monkeypatch):
    """At each step of it another driver writes rows, also of a part of the same name: they are there afterwards."""
    target = Store(str(tmp_path / "small"))
    manifest.write(target, "same", [row("one.png")])
    step = getattr(Store, moment if moment != "read" else "open")
    came = []

    def meanwhile(self, *arguments, **options):
        if not came and "_hpcm" in str(arguments):
            came.append(True)
            manifest.write(target, part, [row("two.png")])
        return step(self, *arguments, **options)

    monkeypatch.setattr(Store, moment if moment != "read" else "open", meanwhile)
    manifest.merge(target)
    assert came
    assert inputs(tmp_path / "small") == ["one.png", "two.png"]
    manifest.merge(target)
    assert inputs(tmp_path / "small") == ["one.png", "two.png"]
    assert not list((tmp_path / "small" / "_hpcm" / "parts").iterdir())


def test_two_merges_at_once(tmp_path, monkeypatch):
    """A driver that merges while another one has read: the rows that only the first has seen aren't lost."""
    target = Store(str(tmp_path / "small"))
    manifest.write(target, "a", [row("one.png")])
    manifest.merge(target)
    reading = manifest._read_all
    came = []

    def slow(store):
        found = reading(store)
        if not came:
            came.append(True)
            manifest.write(target, "b", [row("two.png")])
            manifest.merge(target)
        return found

    monkeypatch.setattr(manifest, "_read_all", slow)
    manifest.merge(target)
    monkeypatch.undo()
    assert inputs(tmp_path / "small") == ["one.png", "two.png"]


def test_temporary_folders_of_the_living_stay(tmp_path):
    """Those of this process, and of another machine as far as one knows; those of the dead go."""
    small = tmp_path / "small"
    small.mkdir()
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    names = {"dead": f"{os.uname().nodename}.{dead.stdout.strip()}.x", "other": "other.1.x", "old": "other.1.y"}
    folders = {what: small / f"{atomic.TEMPORARY}{name}" for what, name in names.items()}
    for folder in folders.values():
        folder.mkdir()
        (folder / "a.tar").write_bytes(b"half")
    for path in (folders["old"] / "a.tar", folders["old"]):
        os.utime(path, (0, 0))
    with atomic.replacing(small / "whole.tar") as temporary:
        temporary.write_bytes(b"whole")
        Store(str(small)).remove_abandoned()
        assert {what for what, folder in folders.items() if folder.exists()} == {"other"}
    assert (small / "whole.tar").read_bytes() == b"whole"


class Breaking(io.BytesIO):
    """A spool that is read so many times before its disk fails."""

    def __init__(self, reads: int) -> None:
        super().__init__()
        self.left = reads

    def read(self, size: int | None = -1) -> bytes:
        if not self.left:
            raise OSError(5, "Input/output error")
        self.left -= 1
        return b"x" * 1000


@pytest.mark.parametrize("reads", [0, 1, 3])
@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_write_that_fails_leaves_what_was_there(kind, reads, tmp_path, monkeypatch):
    pytest.importorskip("fsspec", reason="URLs that pyarrow doesn't open need fsspec")
    monkeypatch.setattr(store, "RETRY_DELAYS", ())
    target = Store(f"memory://fails-{reads}" if kind == "memory" else str(tmp_path))
    target.write("old.tar", b"sound")
    for name in ("old.tar", "new.tar"):
        with pytest.raises(OSError, match="Input/output error"):
            target.write(name, Breaking(reads))
    assert [found.key for found in target.files()] == ["old.tar"]
    assert target.read("old.tar") == b"sound"
    assert target.subfolder("_hpcm/temporary").files() == [] if kind == "memory" else len(list(tmp_path.iterdir())) == 1
