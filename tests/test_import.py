"""Importing hpcm and asking it for help stay cheap (torch is not imported), and the public names are there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import hpcm

PUBLIC = ["compress", "decompress", "load", "models", "HPCM", "Config", "Codec", "HPCMError", "__version__"]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a fresh interpreter, in which nothing has been imported yet."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "modules", ["hpcm", "hpcm.errors, hpcm.format.container", "hpcm.model.tables, hpcm.core.ans", "hpcm.cli"]
)
def test_import_without_torch(modules):
    done = python("-c", f"import sys, {modules}; print('torch' in sys.modules)")
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr


def test_help_without_heavy_packages():
    done = python("-X", "importtime", "-m", "hpcm", "--help")
    assert done.returncode == 0, done.stderr[-800:]
    assert "compress" in done.stdout
    # importtime writes "import time: self [us] | cumulative | module" to stderr, once for each module
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "hpcm.cli" in imported  # so the list is what it is taken for
    assert not imported & {"torch", "numpy", "PIL"}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_resolve(name):
    assert getattr(hpcm, name) is not None
    assert name in dir(hpcm)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = hpcm.no_such_name


def test_the_changelog_begins_with_this_version():
    changelog = (Path(__file__).parents[1] / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(.+)\] - \d{4}-\d\d-\d\d$", changelog, re.MULTILINE)
    assert newest
    assert newest[1] == hpcm.__version__
