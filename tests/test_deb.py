"""tools/deb.py: what Debian's own tools say of the packages that it makes, of small stand-ins for models and wheels."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hpcm.core import library
from hpcm.defaults import MIME_TYPE

if missing := [tool for tool in ("dpkg-deb", "dpkg-shlibdeps", "make") if not shutil.which(tool)]:
    pytest.skip(f"needs Debian's dpkg-dev and make: there is no {missing[0]}", allow_module_level=True)

ROOT = Path(__file__).parents[1]
COMMIT = 1_790_000_000  # seconds since 1970
specification = importlib.util.spec_from_file_location("deb", ROOT / "tools" / "deb.py")
assert specification
assert specification.loader
deb = importlib.util.module_from_spec(specification)
specification.loader.exec_module(deb)


@pytest.fixture(autouse=True)
def _small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of a few bytes, and what pip would install: a package of two modules, ours with the native library."""
    assets = tmp_path / "assets"
    deb.write(assets / "tiny-1.safetensors", "weights")
    monkeypatch.setattr(deb, "ASSETS", assets)
    monkeypatch.setattr(deb, "install_wheels", install_wheels)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(COMMIT))


def install_wheels(site: Path) -> None:
    deb.write(site / "hpcm/__init__.py", "")
    deb.write(site / "hpcm/model/assets/tiny-1.safetensors", "weights")
    deb.write(site / "hpcm_codec-1.0.dist-info/METADATA", "Name: hpcm-codec\nVersion: 1.0\n")
    deb.write(site / "hpcm_codec-1.0.dist-info/direct_url.json", '{"url": "file:///home/me"}')
    deb.copy(library.PATH, site / "hpcm/core/libhpcm.so")
    deb.write(site / "numpy/_core/tests/test_sums.py", "")
    deb.write(site / "numpy/_core/sums.py", "")
    deb.write(site / "numpy-2.9.dist-info/METADATA", "Name: numpy\nVersion: 2.9\nLicense-Expression: BSD-3-Clause\n")
    deb.write(site / "numpy-2.9.dist-info/RECORD", "bin/f2py\n")
    deb.write(site / "bin/f2py", "")
    for name in ("man/man1/hpcm.1", "bash-completion/completions/hpcm", "zsh/site-functions/_hpcm"):
        deb.write(site / "share" / name, name)


def package(name: str, folder: Path) -> Path:
    """Builds one in a folder."""
    deb.stage(deb.PACKAGES[name], folder / name)
    deb.pack(folder / name, folder)
    (built,) = folder.glob("*.deb")
    return built


def field(built: Path, name: str) -> str:
    return deb.output_of("dpkg-deb", "--field", str(built), name)


def listing(built: Path) -> dict[str, list[str]]:
    """A file's or link's name in a package: its mode, and the owner."""
    lines = deb.output_of("dpkg-deb", "--contents", str(built)).splitlines()
    split = [line.split(maxsplit=5) for line in lines]
    return {words[5].removeprefix("./"): words[:2] for words in split if not words[5].endswith("/")}


def test_models(tmp_path: Path) -> None:
    built = package("hpcm-models", tmp_path)
    assert built.name == f"hpcm-models_{deb.version()}_all.deb"
    assert field(built, "Depends") == ""
    assert listing(built) == {
        name: ["-rw-r--r--", "root/root"]
        for name in (
            "usr/share/doc/hpcm-models/MODEL_CARD.md.gz",
            "usr/share/doc/hpcm-models/changelog.gz",
            "usr/share/doc/hpcm-models/copyright",
            "usr/share/hpcm/tiny-1.safetensors",
            "usr/share/mime/packages/hpcm.xml",
        )
    }


def test_command(tmp_path: Path) -> None:
    built = package("hpcm", tmp_path)
    names = listing(built)
    assert names["usr/bin/hpcm"] == ["-rwxr-xr-x", "root/root"]
    assert names["usr/lib/hpcm/hpcm/core/libhpcm.so"] == ["-rw-r--r--", "root/root"]
    assert "usr/share/man/man1/hpcm.1.gz" in names
    assert "usr/share/zsh/vendor-completions/_hpcm" in names
    assert not [name for name in names if "tests" in name or "f2py" in name or name.endswith(("RECORD", "url.json"))]
    depends = field(built, "Depends").split(", ")
    assert f"hpcm-models (= {deb.version()})" in depends
    assert [one for one in depends if one.startswith("libc6 ")]  # which the native library is linked with


def test_library_and_what_programs_are_compiled_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "installed/usr/lib/any-linux-gnu"
    deb.copy(library.PATH, folder / "libhpcm.so.0.9.1")
    for link in ("libhpcm.so.0", "libhpcm.so"):
        (folder / link).symlink_to("libhpcm.so.0.9.1")
    deb.write(folder / "pkgconfig/hpcm.pc", "")
    deb.write(tmp_path / "installed/usr/include/hpcm/decode.h", "")
    deb.write(tmp_path / "installed/usr/share/hpcm/tiny-1.safetensors", "in another package")
    monkeypatch.setattr(deb, "core_install", lambda work: tmp_path / "installed")
    names = {}
    for name in ("libhpcm0", "libhpcm-dev"):
        (tmp_path / name).mkdir()
        built = package(name, tmp_path / name)
        documents = f"usr/share/doc/{name}/"
        names[name] = {file.partition(" -> ")[0] for file in listing(built) if not file.startswith(documents)}
        assert field(built, "Multi-Arch") == "same"
    libraries = "usr/lib/any-linux-gnu/"
    assert names["libhpcm0"] == {f"{libraries}libhpcm.so.0", f"{libraries}libhpcm.so.0.9.1"}
    assert names["libhpcm-dev"] == {
        f"{libraries}libhpcm.so",
        f"{libraries}pkgconfig/hpcm.pc",
        "usr/include/hpcm/decode.h",
    }
    control = tmp_path / "libhpcm0/libhpcm0/DEBIAN"
    assert (control / "triggers").read_text() == "activate-noawait ldconfig\n"
    assert (control / "shlibs").read_text() == f"libhpcm 0 libhpcm0 (>= {deb.version()})\n"


def test_models_of_the_command_are_those_of_the_other_package(tmp_path: Path) -> None:
    for name in ("hpcm", "hpcm-models"):
        (tmp_path / name).mkdir()
        subprocess.run(["dpkg-deb", "--extract", package(name, tmp_path / name), tmp_path / "system"], check=True)
    link = tmp_path / "system/usr/lib/hpcm/hpcm/model/assets/tiny-1.safetensors"
    assert link.is_symlink()
    assert link.read_text() == "weights"


def test_packages_of_others_are_named_with_their_licences(tmp_path: Path) -> None:
    deb.stage(deb.PACKAGES["hpcm"], tmp_path / "hpcm")
    text = (tmp_path / "hpcm/usr/share/doc/hpcm/copyright").read_text()
    assert "\n numpy 2.9: BSD-3-Clause\n" in text
    assert "hpcm-codec" not in text
    assert "\n .\n THE SOFTWARE IS PROVIDED" in text


def test_sums_are_those_of_the_files(tmp_path: Path) -> None:
    deb.stage(deb.PACKAGES["hpcm"], tmp_path / "hpcm")
    subprocess.run(["md5sum", "--check", "--strict", "--quiet", "DEBIAN/md5sums"], cwd=tmp_path / "hpcm", check=True)
    summed = (tmp_path / "hpcm/DEBIAN/md5sums").read_text().splitlines()
    assert len(summed) == len(deb.files(tmp_path / "hpcm"))


@pytest.mark.parametrize("name", ["hpcm-models", "hpcm"])
def test_bytes_are_the_same_wherever_it_is_built(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = os.umask(0o022)
    try:
        (tmp_path / "here").mkdir()
        here = package(name, tmp_path / "here")
        os.umask(0o077)
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        elsewhere = package(name, tmp_path / "elsewhere")
    finally:
        os.umask(usual)
    assert here.read_bytes() == elsewhere.read_bytes()


def test_thumbnailer_is_of_our_type() -> None:
    assert f"\nMimeType={MIME_TYPE};\n" in deb.THUMBNAILER


@pytest.mark.parametrize(
    ("python", "debian"), [("1.2.3", "1.2.3"), ("1.0rc1", "1.0~rc1"), ("1.0.dev2", "1.0~dev2"), ("1.0b3", "1.0~b3")]
)
def test_version(python: str, debian: str) -> None:
    assert deb.debian_version(python) == debian


def test_a_version_before_a_release_is_older_for_debian() -> None:
    subprocess.run(["dpkg", "--compare-versions", deb.debian_version("1.0rc1"), "lt", "1.0"], check=True)


def test_size_counts_files_in_kibibytes(tmp_path: Path) -> None:
    root = tmp_path / "root"
    deb.write(root / "DEBIAN/control", "not counted")
    deb.write(root / "usr/one", "x" * 1025)
    (root / "usr/two").symlink_to("one")
    assert deb.installed_size(root) == 2 + 1 + 1  # the file, its folder, the link


def test_every_package_has_what_debian_asks_for() -> None:
    for package in deb.PACKAGES.values():
        assert len(package.title) < 80
        assert not package.title[0].isupper()
        assert package.about.endswith(".")
