"""Builds Debian packages into build/deb, for Debian 12 and this machine's processor: what `make deb` runs.

    python tools/deb.py                      all packages of PACKAGES below
    python tools/deb.py hpcm-models hpcm     these

Each package is staged as a folder, which dpkg-deb packs. debhelper isn't used: it wants a folder debian/ beside the
sources and a build system that it knows, and most of it would have to be told not to do what it does. All else of
dpkg-dev that is needed is dpkg-shlibdeps, which finds out what libraries depend on.

The same commit and the same wheels give packages of the same bytes: times are those of the commit (SOURCE_DATE_EPOCH,
as reproducible-builds.org specifies it), files are sorted, and owners and modes aren't the builder's.
"""

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import format_datetime
from importlib.metadata import Distribution, distributions
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "build" / "deb"
ASSETS = ROOT / "src" / "hpcm" / "model" / "assets"

PYTHON = "3.11"  # of Debian 12
NEXT_PYTHON = "3.12"
GLIBC = 36  # of Debian 12: 2.36
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}  # Debian's name of a processor: that of wheels
OLDEST_GLIBC = 17  # which wheels ask for
SHLIBS = "libhpcm 0 libhpcm0 (>= {version})\n"  # what who links with it depends on
NO_ADDRESS = "nobody@hpcm.invalid"  # a name that never leads anywhere (RFC 2606), where Debian wants an address

# Isolated from the environment (-I), and from other packages of Python (-S): numpy and Pillow may be there in versions
# that are too old. Processes that it starts import it again, so it runs nothing then.
LAUNCHER = """\
#!/usr/bin/python3 -IS
import sys

sys.path.insert(0, "/usr/lib/hpcm")
from hpcm.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
"""
# As `hpcm desktop --install` writes it, but for all users, and so that sandboxes that see /usr alone can run it.
THUMBNAILER = """\
[Thumbnailer Entry]
TryExec=/usr/bin/hpcm
Exec=/usr/bin/hpcm thumbnail %i %o %s
MimeType=image/x-hpcm;
"""
COMPILE = """\
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    py3compile -p hpcm /usr/lib/hpcm
fi
"""
CLEAN = """\
#!/bin/sh
set -e
py3clean -p hpcm
"""


@dataclass(frozen=True)
class Package:
    """A binary package.

    about: its description, a sentence or two.
    stage: puts its files into a folder, as they will lie in /.
    depends: besides the libraries that its programs are linked with; {version} is the packages' own.
    everywhere: it is the same for all processors.
    scripts: what dpkg runs, and other files of its control folder.
    """

    name: str
    section: str
    title: str
    about: str
    stage: Callable[[Path], None]
    depends: tuple[str, ...] = ()
    everywhere: bool = False
    multi_arch: str = "foreign"
    scripts: dict[str, str] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help=f"by default all: {', '.join(PACKAGES)}")
    names = parser.parse_args().packages or list(PACKAGES)
    if unknown := set(names) - set(PACKAGES):
        sys.exit(f"no such package: {', '.join(sorted(unknown))}; there are {', '.join(PACKAGES)}")
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        for name in names:
            root = Path(folder, name)
            stage(PACKAGES[name], root)
            for before in OUTPUT.glob(f"{name}_*.deb"):
                before.unlink()
            pack(root, OUTPUT)


def stage(package: Package, root: Path) -> None:
    """Makes the folder that dpkg-deb packs: the package's files, its documents, and the control folder DEBIAN."""
    control = root / "DEBIAN"
    control.mkdir(parents=True)
    package.stage(root)
    write_documents(package, root)
    for name, text in package.scripts.items():
        write(control / name, text.format(version=version()))
    write(control / "md5sums", "".join(md5sums(root)))
    write(control / "control", control_file(package, root))
    settle(root)


def pack(root: Path, output: Path) -> None:
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch())}
    line = ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(root), str(output)]
    subprocess.run(line, env=environment, check=True)


# ---- what each package has ------------------------------------------------------------------------------------------


def stage_models(root: Path) -> None:
    for weights in sorted(ASSETS.glob("*.safetensors")):
        copy(weights, root / "usr/share/hpcm" / weights.name)
    make_plugins("install-mime", root)
    write_gzip(root / "usr/share/doc/hpcm-models/MODEL_CARD.md.gz", (ROOT / "MODEL_CARD.md").read_bytes())


def stage_command(root: Path) -> None:
    site = root / "usr/lib/hpcm"
    install_wheels(site)
    arrange(root, site)


def install_wheels(site: Path) -> None:
    """The package's wheel and all that it needs for the command and the server, as Debian's Python takes them."""
    machine = MACHINES[architecture()]
    glibc = [f"manylinux_2_{minor}_{machine}" for minor in range(OLDEST_GLIBC, GLIBC + 1)]
    platforms = [word for tag in [*glibc, f"manylinux2014_{machine}"] for word in ("--platform", tag)]
    abis = [word for abi in (f"cp{PYTHON.replace('.', '')}", "abi3", "none") for word in ("--abi", abi)]
    python = ["--python-version", PYTHON, "--implementation", "cp", *abis, *platforms]
    with TemporaryDirectory() as folder:
        build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder, str(ROOT)]
        subprocess.run(build, env=os.environ | {"HPCM_TARGET": glibc[0]}, check=True)
        (wheel,) = Path(folder).iterdir()
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-compile"]
        versions = ["-c", str(ROOT / "constraints.txt"), "--only-binary", ":all:", *python]
        subprocess.run([*pip, *versions, "--target", str(site), f"{wheel}[serve]"], check=True)


def arrange(root: Path, site: Path) -> None:
    """Puts what pip has installed where Debian has it, and leaves out what nobody needs."""
    for weights in sorted(site.glob("hpcm/model/assets/*.safetensors")):
        weights.unlink()
        weights.symlink_to(os.path.relpath(root / "usr/share/hpcm" / weights.name, weights.parent))
    share = root / "usr/share"
    shutil.move(site / "share", share)
    shutil.move(share / "zsh/site-functions", share / "zsh/vendor-completions")
    manual = share / "man/man1/hpcm.1"
    write_gzip(manual.with_name("hpcm.1.gz"), manual.read_bytes())
    manual.unlink()
    shutil.rmtree(site / "bin")
    for tests in list(site.glob("numpy/**/tests")):
        shutil.rmtree(tests)
    for record in [*site.glob("*.dist-info/RECORD"), *site.glob("*.dist-info/direct_url.json")]:
        record.unlink()  # they tell pip what it may remove, and where it found a wheel
    write(root / "usr/bin/hpcm", LAUNCHER)
    write(share / "thumbnailers/hpcm.thumbnailer", THUMBNAILER)
    write_gzip(share / "doc/hpcm/CHANGELOG.md.gz", (ROOT / "CHANGELOG.md").read_bytes())


def stage_library(root: Path) -> None:
    take(root, "usr/lib/*/libhpcm.so.*")


def stage_development(root: Path) -> None:
    take(root, "usr/lib/*/libhpcm.so", "usr/lib/*/pkgconfig/hpcm.pc", "usr/include/hpcm/*.h")


def take(root: Path, *patterns: str) -> None:
    """Of what `make core-install` installs, the files of these names."""
    installed = core_install(root.parent)
    for path in (path for pattern in patterns for path in installed.glob(pattern)):
        copy(path, root / path.relative_to(installed))


def core_install(work: Path) -> Path:
    """The folder that the C library is installed into, once for all packages."""
    installed = work / "installed"
    if not installed.is_dir():
        folders = ["--install", "/usr", "--destdir", str(installed), "--libdir", f"lib/{multiarch()}"]
        # By the compiler of the wheels, so that it is the same wherever it is built.
        target = f"manylinux_2_{OLDEST_GLIBC}_{MACHINES[architecture()]}"
        subprocess.run([sys.executable, str(ROOT / "core/build.py"), *folders, "--target", target], check=True)
        write(installed / "DEBIAN/shlibs", SHLIBS.format(version=version()))
    return installed


def stage_gdk_pixbuf(root: Path) -> None:
    make_plugins("install-gdk-pixbuf", root, core_install(root.parent))
    shutil.rmtree(root / "usr/share/mime")  # hpcm-models has it


def stage_vips(root: Path) -> None:
    make_plugins("install-vips", root, core_install(root.parent))


def make_plugins(target: str, root: Path, library: Path | None = None) -> None:
    """Installs by plugins/Makefile, and compiles with Debian's flags against a library that isn't installed yet."""
    options = [f"DESTDIR={root}", "PREFIX=/usr", f"OUT={root.parent}/plugins"]
    environment = dict(os.environ)
    if library:
        flags = {name: output_of("dpkg-buildflags", "--get", name) for name in ("CPPFLAGS", "CFLAGS", "LDFLAGS")}
        folder = library / "usr/lib" / multiarch()
        options += [
            f"CPPFLAGS={flags['CPPFLAGS']} -I{library}/usr/include",
            f"CFLAGS={flags['CFLAGS']}",
            f"LDFLAGS={flags['LDFLAGS']} -s -L{folder}",
        ]
        environment["PKG_CONFIG_PATH"] = str(folder / "pkgconfig")
    subprocess.run(["make", "-s", "-C", str(ROOT / "plugins"), target, *options], env=environment, check=True)


PACKAGES = {
    package.name: package
    for package in (
        Package(
            name="hpcm-models",
            section="graphics",
            title="weights of the learned image codec hpcm",
            about="The bundled models, by which .hpcm files are encoded and decoded, and the media type of the files.",
            stage=stage_models,
            everywhere=True,
        ),
        Package(
            name="hpcm",
            section="graphics",
            title="learned image codec",
            about="The command hpcm compresses pictures into .hpcm files, opens and serves them. Packages of Python "
            "that it needs are inside, because Debian's are older.",
            stage=stage_command,
            depends=("hpcm-models (= {version})", f"python3 (>= {PYTHON})", f"python3 (<< {NEXT_PYTHON})"),
            scripts={"postinst": COMPILE, "prerm": CLEAN},
        ),
        Package(
            name="libhpcm0",
            section="libs",
            title="library that reads .hpcm files",
            about="It decodes pictures of the learned image codec hpcm, to the same pixels on every processor.",
            stage=stage_library,
            depends=("hpcm-models (>= {version})",),
            multi_arch="same",
            scripts={"shlibs": SHLIBS, "triggers": "activate-noawait ldconfig\n"},
        ),
        Package(
            name="libhpcm-dev",
            section="libdevel",
            title="library that reads .hpcm files: headers",
            about="Headers of libhpcm, and what pkg-config tells of it.",
            stage=stage_development,
            depends=("libhpcm0 (= {version})",),
            multi_arch="same",
        ),
        Package(
            name="libhpcm-gdk-pixbuf",
            section="libs",
            title="loader of .hpcm files for gdk-pixbuf",
            about="Viewers and file managers of GNOME, and other programs that open pictures with gdk-pixbuf, show "
            ".hpcm files and thumbnails of them.",
            stage=stage_gdk_pixbuf,
            multi_arch="same",
        ),
        Package(
            name="libhpcm-vips",
            section="libs",
            title="loader of .hpcm files for libvips",
            about="vips, vipsthumbnail and programs that open pictures with libvips read .hpcm files.",
            stage=stage_vips,
            multi_arch="same",
        ),
    )
}


# ---- what all packages have -----------------------------------------------------------------------------------------


def control_file(package: Package, root: Path) -> str:
    depends = [*(one.format(version=version()) for one in package.depends), *libraries(root)]
    lines = {
        "Package": package.name,
        "Version": version(),
        "Architecture": "all" if package.everywhere else architecture(),
        "Maintainer": maintainer(),
        "Installed-Size": str(installed_size(root)),
        "Depends": ", ".join(depends),
        "Section": package.section,
        "Priority": "optional",
        "Multi-Arch": package.multi_arch,
        "Description": "\n ".join([package.title, *textwrap.wrap(package.about, 78)]),
    }
    return "".join(f"{name}: {value}\n" for name, value in lines.items() if value)


def write_documents(package: Package, root: Path) -> None:
    """What Debian's policy asks for: the licence, and a changelog, which here is of one line."""
    documents = root / "usr/share/doc" / package.name
    write(documents / "copyright", copyright_file(root))
    entry = f"hpcm ({version()}) bookworm; urgency=medium\n\n  * CHANGELOG.md says what changed, version by version.\n"
    date = format_datetime(datetime.fromtimestamp(epoch(), timezone.utc))
    write_gzip(documents / "changelog.gz", f"{entry}\n -- {maintainer()}  {date}\n".encode())


def copyright_file(root: Path) -> str:
    """In Debian's machine-readable form."""
    text = (ROOT / "LICENSE").read_text("utf-8")
    (holder,) = re.findall(r"^Copyright \(c\) (.*)$", text, re.MULTILINE)
    licence = text.partition(holder)[2].strip()
    lines = "".join(f" {line or '.'}\n" for line in licence.splitlines())
    others = "".join(f" {line}\n" for line in carried(root / "usr/lib/hpcm"))
    return (
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
        "Upstream-Name: hpcm\n"
        + (f"Comment:\n{others}" if others else "")
        + f"\nFiles: *\nCopyright: {holder}\nLicense: MIT\n\nLicense: MIT\n{lines}"
    )


def carried(site: Path) -> Iterator[str]:
    """A line for each package of others in a folder: its version and licence."""
    others = sorted(distributions(path=[str(site)]), key=lambda other: other.name.lower())
    if others:
        yield "/usr/lib/hpcm has packages of others. Their licences lie in the folders NAME-VERSION.dist-info there."
    for other in others:
        if other.name != "hpcm-codec":
            yield f"{other.name} {other.version}: {licence_of(other)}"


def licence_of(other: Distribution) -> str:
    named = other.metadata["License-Expression"] or other.metadata["License"]
    classifiers = other.metadata.get_all("Classifier", [])
    classified = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License ::")]
    return named or ", ".join(classified)


def libraries(root: Path) -> list[str]:
    """The packages with the libraries that a package's own programs and libraries are linked with."""
    binaries = [str(path) for path in files(root) if path.read_bytes()[:4] == b"\x7fELF"]
    if not binaries:
        return []
    with TemporaryDirectory() as folder:  # the tool wants to be called in a source package
        write(Path(folder, "debian/control"), "Source: hpcm\n\nPackage: hpcm\nArchitecture: any\n")
        line = ["dpkg-shlibdeps", "-O", "--warnings=0", f"-S{root.parent / 'installed'}", *binaries]
        made = subprocess.run(line, cwd=folder, capture_output=True, text=True)
    if made.returncode:
        sys.exit(made.stderr)
    return made.stdout.strip().removeprefix("shlibs:Depends=").split(", ")


def md5sums(root: Path) -> Iterator[str]:
    for path in files(root):
        digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        yield f"{digest}  {path.relative_to(root)}\n"


def installed_size(root: Path) -> int:
    """KiB, as dpkg-gencontrol counts: files rounded up, and 1 for each folder and link."""
    sizes = [-(-path.stat().st_size // 1024) for path in files(root)]
    return sum(sizes) + sum(1 for path in everything(root) if path.is_symlink() or path.is_dir())


def files(root: Path) -> list[Path]:
    """The regular files that will be installed."""
    return [path for path in everything(root) if path.is_file() and not path.is_symlink()]


def everything(root: Path) -> list[Path]:
    """What will be installed, sorted; without the control folder."""
    return sorted(path for path in root.rglob("*") if path.relative_to(root).parts[0] != "DEBIAN")


def settle(root: Path) -> None:
    """Modes and times that don't depend on the builder's machine."""
    programs = {root / "DEBIAN" / name for name in ("preinst", "postinst", "prerm", "postrm")}
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            runs = path.is_dir() or path in programs or path.parent == root / "usr/bin"
            path.chmod(0o755 if runs else 0o644)
        os.utime(path, (epoch(), epoch()), follow_symlinks=False)


def epoch() -> int:
    """The time that everything has in packages: $SOURCE_DATE_EPOCH, or the last commit's."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    return int(output_of("git", "-C", str(ROOT), "log", "-1", "--format=%ct"))


def version() -> str:
    """The version of all packages."""
    source = (ROOT / "src/hpcm/__init__.py").read_text("utf-8")
    (found,) = re.findall(r'^__version__ = "(.+)"', source, re.MULTILINE)
    return debian_version(found)


def debian_version(python_version: str) -> str:
    """What comes before a release, 1.0rc1, has a tilde in Debian, which sorts before everything: 1.0~rc1."""
    return re.sub(r"\.?(a|b|rc|dev)(\d+)", r"~\1\2", python_version)


def maintainer() -> str:
    """The project's authors; $DEBEMAIL gives the address at which whoever builds the packages is reached."""
    source = (ROOT / "pyproject.toml").read_text("utf-8")
    (name,) = re.findall(r'^authors = \[\{ name = "(.+)" \}\]', source, re.MULTILINE)
    return f"{name} <{os.environ.get('DEBEMAIL', NO_ADDRESS)}>"


def architecture() -> str:
    return output_of("dpkg", "--print-architecture")


def multiarch() -> str:
    """The folder of libraries for this processor, in /usr/lib."""
    return output_of("dpkg-architecture", "-qDEB_HOST_MULTIARCH")


def output_of(*line: str) -> str:
    return subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def copy(source: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, path, follow_symlinks=False)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def write_gzip(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, mtime=0))


if __name__ == "__main__":
    main()
