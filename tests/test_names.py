"""No text names a package that isn't ours: the name `hpcm` on the Python package index belongs to somebody else."""

import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OURS = {PROJECT["name"]}
EXTRAS = set(PROJECT["optional-dependencies"])
OTHERS = {  # of other people, besides those that pyproject.toml asks for
    "atheris",
    "compressai",
    "einops",
    "fsspec",
    "lpips",
    "moto",
    "pytorch-optimizer",
    "scipy",
    "timm",
    "torchvision",
}
FOLDERS = ("src", "docs", "benchmarks", "examples", "experiments", "tools", "web/src", ".github", ".ci")
SUFFIXES = {".py", ".md", ".toml", ".txt", ".yml", ".sh", ".js", ".html", ".json"}

INSTALL = re.compile(r"pip3? install (?P<arguments>[^`\n#;&|,)$]*)")
REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)(\[(?P<extras>[\w,-]*)\])?")
WITH_EXTRAS = re.compile(r"(?<![\w./-])(?P<name>hpcm[\w-]*)\\?\[(?P<extras>[a-z][a-z,-]*)\\?\]")
ON_THE_INDEX = re.compile(r"pypi\.org/project/(?P<name>[\w.-]+)")
OPTIONS_WITH_VALUE = {"-c", "-r", "--index-url"}


def test_the_table_of_extras_names_each_one():
    """README's, but for those with which hpcm itself is developed."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [row.split("|")[1] for row in readme.splitlines() if row.startswith("| `[")]
    named = [extra for row in rows for extra in re.findall(r"`\[([a-z]+)\]`", row)]
    assert sorted(named) == sorted(EXTRAS - {"dev", "docs", "release", "web"})


def texts() -> list[Path]:
    inside = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if "node_modules" not in path.parts]
    files = [path for path in [*ROOT.glob("*"), *inside] if path.is_file() and path.suffix in SUFFIXES]
    return sorted(set(files))


def requirements(arguments: str) -> list[str]:
    """What a `pip install` is told to install: neither options nor folders of a checkout."""
    words = re.sub(r"[\"'\\]", "", arguments).split()
    before = ["", *words]
    return [
        word
        for word, option in zip(words, before, strict=False)
        if word[0].isalnum() and option not in OPTIONS_WITH_VALUE
    ]


def asked_for() -> set[str]:
    """The packages that pyproject.toml names."""
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return {REQUIREMENT.match(line)["name"].lower() for group in groups for line in group}


def test_what_is_to_be_installed_is_ours_or_well_known():
    allowed = OURS | OTHERS | asked_for()
    wrong, seen = [], 0
    for path in texts():
        for match in INSTALL.finditer(path.read_text(encoding="utf-8")):
            for word in requirements(match["arguments"]):
                seen += 1
                if REQUIREMENT.match(word)["name"].lower() not in allowed:
                    wrong.append(f"{path.relative_to(ROOT)}: {match[0]}")
    assert not wrong
    assert seen > 20


@pytest.mark.parametrize("pattern", [WITH_EXTRAS, ON_THE_INDEX], ids=["extras", "index"])
def test_names_that_begin_like_ours_are_ours(pattern):
    wrong = []
    for path in texts():
        for match in pattern.finditer(path.read_text(encoding="utf-8")):
            if match["name"].startswith("hpcm") and match["name"] not in OURS:
                wrong.append(f"{path.relative_to(ROOT)}: {match[0]}")
            elif pattern is WITH_EXTRAS and not set(match["extras"].split(",")) <= EXTRAS:
                wrong.append(f"{path.relative_to(ROOT)}: {match[0]} has an extra that isn't declared")
    assert not wrong


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ("hpcm", ["hpcm"]),
        ("'hpcm[torch]'\"", ["hpcm[torch]"]),
        (r"'hpcm\[torch\]'", ["hpcm[torch]"]),
        ("-c constraints.txt -e . -e ./here pytest", ["pytest"]),
        ("torch --index-url https://example.org/cpu", ["torch"]),
    ],
)
def test_requirements_are_found(arguments, found):
    assert requirements(arguments) == found
