"""The documents and the contract of layers name the rooms of src/hpcm: all of them, and no others."""

import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {path.stem for path in (ROOT / "src" / "hpcm").iterdir() if path.suffix in ("", ".py")} - {
    "__init__",
    "__main__",
}
ROOMS -= {"__pycache__"}


def test_the_contract():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    assert {room for layer in layers for room in layer.split(" | ")} == ROOMS


def test_the_table_of_rooms():
    document = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?`) \|", document, re.MULTILINE)
    assert {room for row in rows for room in re.findall(r"`(\w+)`", row)} == ROOMS


def test_the_tree():
    document = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = document.partition("src/hpcm/\n")[2].partition("\n```")[0]
    inside = [line for line in tree.splitlines() if line.startswith("  ")]
    assert {room for line in inside for room in re.findall(r"\b(\w+)(?:/|\.py)(?=\s)", line)} == ROOMS
