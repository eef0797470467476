"""Photographs for training: what is found, what is skipped, which crops are cut, and the same ones again."""

import gzip
import io
import os
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from hpcm.errors import PictureError, UsageError
from hpcm.train import data, index
from hpcm.train.data import Photographs, middles
from hpcm.train.index import scan

needs_links = pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
SIZES = [(80 + 3 * k, 70 + 2 * k) for k in range(24)]  # width, height


def png(size, seed):
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve pictures in a folder and its folder, twelve in an archive, and four files that are of no use."""
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "more").mkdir()
    blobs = [png(size, k) for k, size in enumerate(SIZES)]
    for k, blob in enumerate(blobs[:12]):
        (folder / ("more" if k % 2 else "") / f"{k:02}.png").write_bytes(blob)
    with tarfile.open(folder / "x.tar", "w") as archive:
        for k, blob in [*enumerate(blobs[12:], 12), (90, b"no picture"), (91, blobs[0][:3000])]:
            member = tarfile.TarInfo(f"{k}.png")
            member.size = len(blob)
            archive.addfile(member, io.BytesIO(blob))
        archive.addfile(tarfile.TarInfo("notes.txt"))
    (folder / "small.png").write_bytes(png((200, 63), 0))
    (folder / "wrong.jpg").write_text("no picture")
    (folder / "notes.txt").write_text("not meant as a picture")
    return folder


def reasons(index):
    """What was skipped and why, by the names of files."""
    return {file.replace(os.sep, "/").rpartition("/")[2]: why for file, why in index.skipped}


def test_scan(folder):
    found = scan([folder], 64)
    assert sorted((entry.width, entry.height) for entry in found.entries) == sorted([*SIZES, SIZES[0]])
    assert reasons(found) == {
        "small.png": "200 x 63 pixels: smaller than 64 x 64",
        "wrong.jpg": "it is no picture that Pillow can read",
        "x.tar: 90.png": "it is no picture that Pillow can read",
    }
    assert found.others == {".txt": 2}
    size = (folder / "00.png").stat().st_size
    first, second = scan([folder / "00.png", folder / "x.tar"], 64).entries[:2]
    assert first == (folder / "00.png", 0, size, 70, 80, 0, "")
    assert (second.source, second.member, second.name) == (1, "12.png", f"{folder / 'x.tar'}: 12.png")


def test_bad_files_are_named(folder):
    photographs = Photographs([folder], 64)
    assert len(photographs.pool(0).starts) == len(SIZES)
    assert len(photographs.skipped) == 4  # one was found when it was decoded
    assert photographs.skipped[-1].file.endswith("x.tar: 91.png")
    assert "truncated" in photographs.skipped[-1].why
    message = r"no picture of at least 999 x 999 pixels found in .*; skipped 28 files: .*00\.png: 80 x 70 pixels: "
    message += r"smaller than 999 x 999; .*; \.\.\.; no pictures by their names: 2 \.txt$"
    with pytest.raises(PictureError, match=message):
        Photographs([folder], 999)
    with pytest.raises(FileNotFoundError):
        Photographs([folder / "nothing"], 64)


@needs_links
def test_links_are_followed(tmp_path):
    """Each real file counts once, a loop ends, and a link that leads nowhere is named."""
    for name in ("real/deep", "elsewhere", "data"):
        (tmp_path / name).mkdir(parents=True)
    for k, name in enumerate(("real/a.png", "real/deep/b.png", "elsewhere/c.png", "data/d.png")):
        (tmp_path / name).write_bytes(png((80, 70 + k), k))
    links = {
        "data/folder": "real",
        "data/again": "real/deep",
        "data/picture.png": "elsewhere/c.png",
        "data/twice.png": "elsewhere/c.png",
        "data/loop": "data",
        "data/none.png": "nowhere",
        "only-links": "data",
    }
    for link, target in links.items():
        (tmp_path / link).symlink_to(tmp_path / target)
    os.link(tmp_path / "data" / "d.png", tmp_path / "data" / "hard.png")
    found = scan([tmp_path / "data"], 64)
    assert sorted(entry.height for entry in found.entries) == [70, 71, 72, 73]
    assert reasons(found) == {
        "hard.png": f"it is the same file as {tmp_path / 'data' / 'd.png'}",
        "twice.png": f"it is the same file as {tmp_path / 'data' / 'picture.png'}",
        "none.png": f"it is a link to {tmp_path / 'nowhere'}, which doesn't exist",
    }
    assert len(scan([tmp_path / "only-links"], 64).entries) == 4
    assert len(scan([[tmp_path / "data", tmp_path / "real"]], 64).entries) == 4
    assert len(scan([tmp_path / "data", tmp_path / "real"], 64).entries) == 6  # two sources, which may have shares


def test_lists_of_files(folder, tmp_path):
    (tmp_path / "mine.png").write_bytes(png((90, 90), 0))
    (tmp_path / "größe.jpg").write_bytes(png((91, 91), 0))
    lines = ["mine.png", "", "größe.jpg", str(folder / "00.png"), str(folder / "more"), str(folder / "x.tar")]
    lines += ["missing.png", "list.txt", "packed.zip"]
    (tmp_path / "packed.zip").write_bytes(b"PK")
    for encoding, end in (("utf-8", "\n"), ("utf-8-sig", "\r\n")):
        (tmp_path / "list.txt").write_bytes(end.join(lines).encode(encoding))
        found = scan([tmp_path / "list.txt"], 64)
        assert len(found.entries) == 3 + 6 + 13
        assert [entry.width for entry in found.entries[:2]] == [90, 91]
        assert reasons(found) == {
            "missing.png": os.strerror(2),
            "list.txt": "it is no picture that Pillow can read",
            "packed.zip": index.UNPACK,
            "x.tar: 90.png": "it is no picture that Pillow can read",
        }
    (tmp_path / "list.txt").write_bytes(b"gr\xf6\xdfe.jpg\n")
    with pytest.raises(UsageError, match=r"list\.txt is no list of files, a path a line in UTF-8"):
        scan([tmp_path / "list.txt"], 64)


@pytest.mark.parametrize("name", ["photos.tar.gz", "photos.TGZ", "photos.tar.xz", "photos.zip", "photos.tar.zst"])
def test_compressed_archives(tmp_path, name):
    """A named one is refused; in a folder, beside what was unpacked from it, it is skipped."""
    (tmp_path / name).write_bytes(b"compressed")
    (tmp_path / "a.png").write_bytes(png((80, 70), 0))
    with pytest.raises(UsageError, match=f"{name} is compressed.*: unpack it"):
        scan([tmp_path / name], 64)
    found = scan([tmp_path], 64)
    assert len(found.entries) == 1
    assert reasons(found) == {name: index.UNPACK}


def test_a_truncated_archive_gives_what_it_has(folder, tmp_path):
    (tmp_path / "half.tar").write_bytes((folder / "x.tar").read_bytes()[:250_000])
    photographs = Photographs([tmp_path / "half.tar"], 64)
    assert 2 < len(photographs.pool(0).starts) < 12
    assert any(file.startswith(str(tmp_path / "half.tar")) for file, _ in photographs.skipped)


@pytest.mark.parametrize("content", [b"", b"nonsense" * 1000, gzip.compress(b"nonsense")])
def test_what_is_no_archive_is_named(folder, content):
    (folder / "broken.tar").write_bytes(content)
    (folder / "a folder.png").mkdir()
    try:
        photographs = Photographs([folder], 64)
    finally:
        (folder / "broken.tar").unlink()
        (folder / "a folder.png").rmdir()
    assert len(photographs.entries) == len(SIZES) + 1
    skipped = {file.rpartition(os.sep)[2]: why for file, why in photographs.skipped}
    assert len(skipped) == 4
    assert skipped["broken.tar"] == "it is no tar archive, or a compressed one"


def test_16_bit_grey(tmp_path):
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    (entry,) = Photographs([tmp_path], 64).entries
    assert np.abs(entry.decode() - ramp[..., None] / 257).max() <= 0.5


@pytest.mark.parametrize("values", [np.float32([0, 1]), np.int32([0, 2**20]), np.int32([-1, 9])])
def test_grey_whose_white_is_not_known(tmp_path, values):
    """Floating-point samples would all be black or white, silently."""
    Image.fromarray(np.resize(values, (64, 64))).save(tmp_path / "deep.tiff")
    (tmp_path / "sound.png").write_bytes(png((64, 64), 0))
    photographs = Photographs([tmp_path], 64)
    photographs.pool(0)
    ((_, why),) = photographs.skipped
    assert why.startswith(("pictures of mode F can't be coded", "the picture has grey values below 0 or above 65,535"))


def test_crops_are_those_of_slicing(folder):
    """Against a plain twin: a crop is a slice of its picture."""
    photographs = Photographs([folder], 64, seed=3)
    pictures = [entry.decode() for entry in photographs.entries if entry not in photographs.bad and sound(entry)]
    draw = photographs.draw(step=5, count=40, crop=64)
    crops = draw.cut()
    assert crops.shape == (40, 3, 64, 64)
    assert crops.is_contiguous(memory_format=torch.channels_last)
    held = draw.pool
    for crop, first, width, mirrored in zip(crops, draw.first, draw.width, draw.mirrored, strict=True):
        k = int(np.searchsorted(held.starts, first, side="right")) - 1
        top, left = divmod(int(first - held.starts[k]), int(width))
        expected = pictures[k][top : top + 64, left : left + 64]
        expected = expected[:, ::-1] if mirrored else expected
        assert np.array_equal((crop.permute(1, 2, 0) * 255).round().byte().numpy(), expected)
    assert 0 < draw.mirrored.sum() < 40
    assert torch.equal(draw.cut(slice(8, 16)), crops[8:16])


def sound(entry):
    try:
        entry.decode()
    except Exception:
        return False
    return True


def test_downscaled_crops(folder):
    photographs = Photographs([folder], 64)
    sides = set()
    for step in range(20):
        draw = photographs.draw(step, 4, 64, downscale=0.5)
        sides.add(draw.side)
        crops = draw.cut()
        assert crops.shape == (4, 3, 64, 64)
        assert crops.min() >= 0
        assert crops.max() <= 1
    assert min(sides) >= 64
    assert max(sides) <= min(map(max, SIZES)) + 60
    assert len(sides) > 5


def test_a_set_larger_than_memory(folder):
    whole = Photographs([folder], 64, memory=1e9)
    assert whole.chapters == 1
    parts = Photographs([folder], 64, memory=whole.bytes / 3)
    assert parts.chapters == 6
    assert all(parts.pool(chapter).pixels.numel() <= whole.bytes / 3 for chapter in range(6))
    first_epoch = sorted(int(width) for chapter in range(6) for width in parts._load(chapter, 6).widths)
    assert first_epoch == sorted(width for width, _ in SIZES)
    steps = [0, 3, 7, 8, 20, 40]
    crops = [parts.draw(step, 16, 64).cut() for step in steps]
    assert len(parts.pools) <= 2
    again = Photographs([folder], 64, memory=whole.bytes / 3)  # begins elsewhere, as a resumed run does
    assert torch.equal(again.draw(20, 16, 64).cut(), crops[4])
    for photographs in (whole, parts, again):
        photographs.close()


def shares(draw, folder_of):
    """The share of crops by source, found by where in the pool they begin."""
    picture = np.searchsorted(draw.pool.starts, draw.first, side="right") - 1
    return np.bincount(folder_of[picture], minlength=2) / len(picture)


def test_a_mix_of_sources(folder, tmp_path):
    """A source's share of the crops is what is asked for, whatever its area, and within it goes by area."""
    (tmp_path / "one.png").write_bytes(png((300, 300), 1))
    (tmp_path / "two.png").write_bytes(png((100, 100), 2))
    sources = [[folder / "00.png", folder / "more"], tmp_path]
    photographs = Photographs(sources, 64, mix=(3, 1))
    kinds = np.array([entry.source for entry in photographs.entries])
    draws = [photographs.draw(step, 500, 64) for step in range(8)]
    assert np.mean([shares(draw, kinds) for draw in draws], axis=0) == pytest.approx([0.75, 0.25], abs=0.03)
    wide = np.concatenate([draw.width[np.isin(draw.width, (300, 100))] for draw in draws])
    assert (wide == 300).mean() == pytest.approx(0.9, abs=0.03)
    by_area = Photographs(sources, 64)
    areas = np.array([entry.height * entry.width for entry in by_area.entries])
    expected = np.bincount(kinds, areas) / areas.sum()
    assert shares(by_area.draw(0, 4000, 64), kinds) == pytest.approx(expected, abs=0.03)
    assert not np.allclose(expected, [0.75, 0.25], atol=0.1)


def test_a_mix_in_a_set_larger_than_memory(folder, tmp_path):
    """Every part has pictures of every source, and all pictures of the larger one are in some part."""
    (tmp_path / "one.png").write_bytes(png((99, 99), 1))
    whole = Photographs([folder / "more", tmp_path], 64, mix=(1, 1))
    parts = Photographs([folder / "more", tmp_path], 64, mix=(1, 1), memory=whole.bytes / 2)
    count = parts.chapters
    assert count > 2
    pools = [parts._load(chapter, count) for chapter in range(count)]
    assert all((pool.widths == 99).sum() == 1 for pool in pools)
    assert sum(len(pool.widths) - 1 for pool in pools) == len(whole.entries) - 1
    assert all(pool.chances[pool.widths == 99].sum() == pytest.approx(pool.chances.sum() / 2) for pool in pools)
    for photographs in (whole, parts):
        photographs.close()


def test_a_mix_that_does_not_fit(folder, tmp_path):
    with pytest.raises(UsageError, match="--mix has 3 shares, but there are 2 sources of pictures"):
        Photographs([folder, folder], 64, mix=(1, 1, 1))
    with pytest.raises(PictureError, match=f"no picture of at least 64 x 64 pixels found in {tmp_path}"):
        Photographs([folder, tmp_path], 64, mix=(1, 1))
    (tmp_path / "more").mkdir()
    with pytest.raises(PictureError, match=f"pixels found in {tmp_path}, {tmp_path / 'more'}$"):
        Photographs([folder, [tmp_path, tmp_path / "more"]], 64, mix=(1, 1))


def test_held_out_pictures_are_not_trained_on(folder):
    photographs = Photographs([folder], 64)
    before = list(photographs.entries)
    taken = photographs.hold_out(5)
    assert 4 <= len(taken) <= 5  # one of the files is damaged
    assert len(photographs.entries) == len(before) - 5
    assert Photographs([folder], 64).hold_out(7) == []  # too few to spare
    assert [picture.shape[0] for picture in middles(before[:2])[0]] == [entry.height for entry in before[:2]]


def test_middles_are_of_moderate_size(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(png((100, 70), 0))
    monkeypatch.setattr(data, "LARGEST_HELD_OUT", 50)
    entries = scan([tmp_path], 1).entries
    assert np.array_equal(middles(entries)[0][0], entries[0].decode()[10:60, 25:75])


def test_a_picture_that_becomes_another(tmp_path, monkeypatch):
    """It is refused before it is decoded: memory was reckoned with what the scan has read."""
    (tmp_path / "a.png").write_bytes(png((80, 70), 0))
    (entry,) = scan([tmp_path], 64).entries
    (tmp_path / "a.png").write_bytes(png((8000, 70), 0)[: entry.length])
    monkeypatch.setattr(index, "rgb_of", lambda image: pytest.fail("it is decoded"))
    with pytest.raises(PictureError, match="isn't what its header says"):
        entry.decode()


def looked(photographs):
    """Looks for new pictures, and waits for it."""
    photographs.look_again()
    if photographs.looking is not None:
        photographs.looking.result()
    return photographs.draw(0, 2000, 64)


def arrive(folder, name, data):
    """A file comes complete."""
    (folder / f".{name}").write_bytes(data)
    os.replace(folder / f".{name}", folder / name)


def test_pictures_that_arrive(tmp_path):
    """Crops come from them, too; those from before stay what they are, and each picture counts once."""
    (tmp_path / "0.png").write_bytes(png((100, 90), 0))
    photographs = Photographs([tmp_path], 64)
    assert set(photographs.draw(0, 50, 64).width) == {100}
    assert set(looked(photographs).width) == {100}  # nothing has come
    arrive(tmp_path, "1.png", png((120, 110), 1))
    arrive(tmp_path, "small.png", png((30, 300), 2))
    draw = looked(photographs)
    assert (draw.width == 120).mean() == pytest.approx(132 / 222, abs=0.05)
    assert sorted(entry.width for entry in photographs.entries) == [100, 120]
    assert [skipped.why for skipped in photographs.skipped] == ["30 x 300 pixels: smaller than 64 x 64"]
    for width, seed in ((100, 0), (120, 1)):  # every crop is a piece of its picture
        whole = torch.from_numpy(np.array(Image.open(io.BytesIO(png((width, width - 10), seed))))).permute(2, 0, 1)
        which = int(np.flatnonzero((draw.width == width) & ~draw.mirrored)[0])
        crop = (draw.cut(slice(which, which + 1))[0] * 255).round().byte()
        pool = photographs.pool(0)
        first = draw.first[which] - pool.starts[pool.widths == width][0]
        top, left = divmod(int(first), width)
        assert torch.equal(crop, whole[:, top : top + 64, left : left + 64])
    again = looked(photographs)
    assert len(photographs.entries) == 2
    assert np.array_equal(again.first, draw.first)
    photographs.close()


def test_a_mix_with_pictures_that_arrive(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(png((100, 90), 0))
    photographs = Photographs([tmp_path / "a", tmp_path / "b"], 64, mix=(3, 1))
    photographs.draw(0, 1, 64)
    with tarfile.open(tmp_path / "more.tar", "w") as archive:
        for k in range(3):
            member = tarfile.TarInfo(f"{k}.png")
            blob = png((120, 110), k)
            member.size = len(blob)
            archive.addfile(member, io.BytesIO(blob))
    os.replace(tmp_path / "more.tar", tmp_path / "b" / "more.tar")
    draw = looked(photographs)
    pool = photographs.pool(0)
    assert (draw.first >= pool.starts[1]).mean() == pytest.approx(0.25, abs=0.04)
    assert (draw.width == 120).mean() == pytest.approx(0.25 * 3 * 132 / (3 * 132 + 90), abs=0.04)
    photographs.close()


def test_pictures_that_arrive_and_are_damaged(tmp_path):
    (tmp_path / "0.png").write_bytes(png((100, 90), 0))
    photographs = Photographs([tmp_path], 64)
    photographs.draw(0, 1, 64)
    arrive(tmp_path, "1.png", png((120, 110), 1)[:3000])
    assert set(looked(photographs).width) == {100}
    arrive(tmp_path, "2.png", png((130, 110), 2))
    assert set(looked(photographs).width) == {100, 130}
    photographs.close()


def test_a_picture_arrives_under_the_number_of_a_file_that_is_gone(tmp_path):
    """As file systems give it again; here the file is overwritten, which is the same to them."""
    for k in range(2):
        (tmp_path / f"{k}.png").write_bytes(png((100 + k, 90), k))
    photographs = Photographs([tmp_path], 64)
    photographs.draw(0, 1, 64)
    (tmp_path / "1.png").write_bytes(png((130, 110), 2))
    os.rename(tmp_path / "1.png", tmp_path / "2.png")
    assert set(looked(photographs).width) == {100, 101, 130}
    photographs.close()


def test_a_picture_that_is_written_slowly(tmp_path):
    (tmp_path / "0.png").write_bytes(png((100, 90), 0))
    (tmp_path / "1.png").write_bytes(png((101, 90), 0))
    photographs = Photographs([tmp_path], 64)
    photographs.draw(0, 1, 64)
    whole = png((130, 110), 2)
    for length in (2000, 4000, len(whole)):
        (tmp_path / "2.png").write_bytes(whole[:length])
        arrive(tmp_path, f"{length}.png", png((120, 110), length))
        draw = looked(photographs)
    assert set(draw.width) == {100, 101, 120, 130}
    assert len(photographs.entries) == 6
    photographs.close()


def test_pictures_that_arrive_and_do_not_fit_into_memory(tmp_path):
    (tmp_path / "0.png").write_bytes(png((100, 90), 0))
    photographs = Photographs([tmp_path], 64, memory=2 * 3 * 100 * 90)
    assert photographs.chapters == 1
    photographs.draw(0, 1, 64)
    for k in range(4):
        arrive(tmp_path, f"{k + 1}.png", png((110 + k, 90), k))
    looked(photographs)
    assert photographs.chapters > 1
    widths = {int(width) for step in range(60) for width in photographs.draw(step, 2, 64).width}
    assert widths == {100, 110, 111, 112, 113}
    photographs.close()


def test_held_out_pictures_stay_apart_when_others_arrive(tmp_path):
    for k in range(8):
        (tmp_path / f"{k}.png").write_bytes(png((100 + k, 90), k))
    photographs = Photographs([tmp_path], 64)
    photographs.hold_out(2)
    before = {entry.width for entry in photographs.entries}
    photographs.draw(0, 1, 64)
    arrive(tmp_path, "new.png", png((120, 110), 1))
    looked(photographs)
    assert {entry.width for entry in photographs.entries} == before | {120}
    photographs.close()


def test_files_that_are_never_trained_on_may_arrive(tmp_path):
    (tmp_path / "0.png").write_bytes(png((100, 90), 0))
    (tmp_path / "apart").mkdir()
    (tmp_path / "apart" / "1.png").write_bytes(png((120, 110), 1))
    (tmp_path / "in").mkdir()
    photographs = Photographs([tmp_path / "0.png", tmp_path / "in"], 64)
    photographs.apart = scan([tmp_path / "apart"], 1).identities()
    photographs.draw(0, 1, 64)
    os.link(tmp_path / "apart" / "1.png", tmp_path / "in" / "1.png")
    assert set(looked(photographs).width) == {100}
    photographs.close()


def test_pictures_arrive_in_a_folder_of_a_list(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0.png").write_bytes(png((100, 90), 0))
    (tmp_path / "list.txt").write_text("in\n\nlist.txt\n")
    photographs = Photographs([tmp_path / "list.txt"], 64)
    photographs.draw(0, 1, 64)
    arrive(tmp_path / "in", "1.png", png((120, 110), 1))
    assert set(looked(photographs).width) == {100, 120}
    (tmp_path / "list.txt").write_bytes(b"\xff")
    assert set(looked(photographs).width) == {100, 120}
    photographs.close()


def test_a_source_that_is_gone_for_a_while(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").write_bytes(png((100, 90), 0))
    photographs = Photographs([tmp_path / "a" / "0.png"], 64)
    photographs.draw(0, 1, 64)
    os.rename(tmp_path / "a", tmp_path / "b")
    assert set(looked(photographs).width) == {100}
    photographs.close()
