"""What the documents say is true: examples run, command lines parse, links lead somewhere, and no option is missing."""

import argparse
import ast
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image, ImageFile

import hpcm
from hpcm.cli.commands import parser

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = [README, *sorted({*ROOT.glob("*.md")} - {README}), *PAGES]
IN_ORDER = ROOT / "docs" / "research.md"  # test_research_doc.py runs its examples, each after those before it
RUN_ALONE = [path for path in PAGES if path != IN_ORDER]
NOT_RUN = 23  # examples of docs/ that need a cluster, a server, hours, or other people's data
PYTHON, SHELL, SESSION = "python", "sh", "console"  # of fenced blocks; in a session, commands stand behind "$ "
OTHER_BLOCKS = {"", "text", "json", "diff", "toml", "make", "html", "bibtex", "js"}
OTHER_COMMANDS = {
    "./decode",
    "apt",
    "apt-get",
    "cat",
    "cc",
    "cd",
    "convert",
    "cp",
    "curl",
    "docker",
    "echo",
    "export",
    "gdk-pixbuf-thumbnailer",
    "gio",
    "git",
    "head",
    "ldconfig",
    "ls",
    "make",
    "mkdir",
    "pip",
    "pkg-config",
    "python",
    "sudo",
    "tar",
    "vipsheader",
    "vipsthumbnail",
}
OTHERS_LIBRARIES = {"datasets", "fsspec", "imageio", "webdataset"}  # that examples show, and that needn't be there
SEPARATORS = {"|", "||", "&&", ";", "&", ">", ">>", "<", "2>", "(", ")"}
FENCE = re.compile(r"^(?:<!-- not run: ([^\n]*) -->\n)?( *)```(\w*)[^\n]*\n(.*?)^\2```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a document."""

    place: str  # file:line
    language: str
    text: str
    not_run: str  # why; "" if it is


def blocks(path: Path) -> list[Block]:
    document = path.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(document):
        line = document.count("\n", 0, match.start()) + 1
        found.append(Block(f"{path.relative_to(ROOT)}:{line}", match[3], match[4], match[1] or ""))
    return found


def prose(path: Path) -> str:
    """A document without its fenced blocks."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def named(*languages: str, documents: list[Path] = DOCUMENTS, run: bool = False) -> list:
    """The blocks of these languages as parameters of a test, which are named by their places; `run`: to be run."""
    found = [block for path in documents for block in blocks(path) if block.language in languages]
    return [pytest.param(block, id=block.place, marks=marks_of(block) if run else []) for block in found]


def marks_of(block: Block) -> list[pytest.MarkDecorator]:
    """Of a block that is to be run."""
    if block.not_run:
        return [pytest.mark.skip(f"not run: {block.not_run}")]
    others = OTHERS_LIBRARIES & imported(block) if block.language == PYTHON else set()
    missing = [name for name in sorted(others) if importlib.util.find_spec(name) is None]
    if missing:
        return [pytest.mark.skip(f"not installed: {', '.join(missing)}")]
    if others:  # webdataset leaves files to the garbage collector
        return [pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]
    return []


def commands(block: Block) -> Iterator[list[str]]:
    """The words of every command in a block, those of a pipe apart."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == SESSION:
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    for line in lines:
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        command: list[str] = []
        for word in [*words, ";"]:
            if word not in SEPARATORS:
                command.append(word)
                continue
            while command and re.match(r"[A-Z_]+=", command[0]):  # a variable for this command
                del command[0]
            if command:
                yield command
            command = ["cat"] if word in (">", ">>", "<", "2>") else []  # what follows is a file


def imported(block: Block) -> set[str]:
    """The packages that a block in Python imports."""
    nodes = list(ast.walk(ast.parse(block.text, block.place)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


def arguments(command: list[str]) -> list[str] | None:
    """The arguments of a call of hpcm, or None for another command."""
    for name in (["hpcm"], ["python", "-m", "hpcm"]):
        if command[: len(name)] == name:
            return command[len(name) :]
    return None


def subcommands() -> dict[str, argparse.ArgumentParser]:
    actions = parser()._actions
    return next(action.choices for action in actions if isinstance(action, argparse._SubParsersAction))


def test_there_is_something_to_test():
    languages = [block.language for block in blocks(README)]
    assert languages.count(PYTHON) >= 2
    assert languages.count(SHELL) + languages.count(SESSION) >= 2


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_block_says_what_it_is(path):
    """A block of a language that is not known here would not be tested, nor a command in a block of plain text."""
    assert path.read_text(encoding="utf-8").count("```") == 2 * len(blocks(path))
    for block in blocks(path):
        assert block.language in {PYTHON, SHELL, SESSION} | OTHER_BLOCKS, block.place
        if block.language in OTHER_BLOCKS:
            assert not re.search(r"^(\$ )?hpcm [a-z-]", block.text, re.MULTILINE), f"{block.place}: mark it as sh"


ON_RAY = ("hpcm.archive", "hpcm.archive.dataset")  # modules that need the extra


@pytest.fixture
def folder(tmp_path, monkeypatch, large):
    """Where an example runs: the repository's pictures, small photographs and what was made of them are at hand."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    (tmp_path / "large.hpcm").write_bytes(large)
    photo = Image.open(ROOT / "tests" / "data" / "kodim23.png").crop((130, 90, 130 + 192, 90 + 128))
    (tmp_path / "photos").mkdir()
    for name in ("photo.png", "photo.jpg", "garden.png", "photos/1.jpg", "photos/2.jpg"):
        photo.save(tmp_path / name)
    data = hpcm.load("nano").compress(photo, quality=75, progressive=True)
    (tmp_path / "photo.hpcm").write_bytes(data)
    (tmp_path / "beginning.hpcm").write_bytes(data[: len(data) * 2 // 3])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("block", named(PYTHON, documents=[path for path in DOCUMENTS if path != IN_ORDER], run=True))
def test_examples_run(block, folder, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)  # one of them sets it
    with warnings.catch_warnings():
        exec(compile(block.text, block.place, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("block", named(SHELL, SESSION, documents=RUN_ALONE, run=True))
def test_commands_run(block, folder):
    """Each block in a shell, where `hpcm` is this package."""
    script = f'set -e\nhpcm() {{ {shlex.quote(sys.executable)} -m hpcm "$@"; }}\n{block.text}'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=300)
    assert not done.returncode, done.stderr


def test_few_examples_are_not_run():
    """A new one runs, or it says why it can't and is counted here."""
    assert sum(bool(block.not_run) for path in DOCUMENTS for block in blocks(path)) == NOT_RUN


@pytest.mark.parametrize("block", named(PYTHON))
def test_examples_import_what_there_is(block):
    """Also those that take too long to run."""
    nodes = list(ast.walk(ast.parse(block.text, block.place)))
    imported = {f"{n.module}.{alias.name}" for n in nodes if isinstance(n, ast.ImportFrom) for alias in n.names}
    if any(name.startswith(ON_RAY) for name in imported):
        for package in ("ray", "pyarrow", "jinja2"):
            pytest.importorskip(package, reason="archives need Ray, pyarrow and Jinja: pip install 'hpcm-codec[ray]'")
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("hpcm"):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names), block.place
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "hpcm":
            assert hasattr(importlib.import_module("hpcm"), node.attr), f"{block.place}: hpcm.{node.attr}"


def targets_of(folder: Path) -> set[str]:
    """Of a folder's Makefile."""
    return {*re.findall(r"^([a-z-]+):", (folder / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)}


@pytest.mark.parametrize("block", named(SHELL, SESSION))
def test_command_lines_parse(block):
    for command in commands(block):
        line = arguments(command)
        if line is None:
            assert command[0] in OTHER_COMMANDS, f"{block.place}: what is {command[0]}?"
            if command[0] == "make":
                folder, words = (ROOT / command[2], command[3:]) if command[1] == "-C" else (ROOT, command[1:])
                assert {word for word in words if "=" not in word} <= targets_of(folder), f"{block.place}: {command}"
            continue
        code = None
        try:
            parser().parse_args(line)
        except SystemExit as stopped:
            code = stopped.code
        assert not code, f"{block.place}: {shlex.join(command)}"  # 0: --help or --version


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_in_the_text_exist(path):
    """`hpcm compress --model RUN` in a sentence may lack arguments, but has no option that there isn't."""
    for call in re.findall(r"`hpcm ([^`]+)`", prose(path)):
        name, *words = re.sub(r"[\[\]|]|\.\.\.", " ", call).split()
        if name.startswith("-"):
            assert name in parser()._option_string_actions, call
            continue
        assert name in subcommands(), call
        given = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert given <= {*subcommands()[name]._option_string_actions}, call


def test_every_command_and_option_is_documented():
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    missing = []
    for name, command in {"": parser(), **subcommands()}.items():
        if f"hpcm {name}" not in text:
            missing.append(f"hpcm {name}")
        for action in command._actions:
            forms = [rf"(?<![\w-]){re.escape(form)}(?![\w-])" for form in action.option_strings]
            if forms and "--help" not in action.option_strings and not any(re.search(form, text) for form in forms):
                missing.append(f"hpcm {name} {action.option_strings[-1]}")
    assert not missing, "in no document: " + ", ".join(missing)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose(path)):
        if "://" not in target and not target.startswith("mailto:"):
            assert (path.parent / target).exists(), target
