"""The house stands: imports point down, frontends don't know one another, rooms stay small.

Everything is read from the source with `ast`, so imports inside functions and under TYPE_CHECKING count too.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "hpcm"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# Module or subpackage -> floor. An import leads to the same room or to a strictly lower floor.
FLOORS = {
    **dict.fromkeys(["errors", "wire", "atomic", "fields", "container"], 0),
    **dict.fromkeys(["entropy", "metadata", "samples"], 1),
    **dict.fromkeys(["coding", "hardware", "metrics", "picture", "sources", "stores"], 2),
    **dict.fromkeys(["model", "saving", "storage", "tiles", "weights"], 3),
    **dict.fromkeys(["engine"], 4),
    **dict.fromkeys(["encoding", "decoding", "official", "calibration"], 5),
    **dict.fromkeys(["effort"], 6),
    **dict.fromkeys(["codec"], 7),
    **dict.fromkeys(["ladder"], 8),
    **dict.fromkeys(["shortest"], 9),
    **dict.fromkeys(["cli", "train", "eval", "pillow", "serve", "archive", "data", "released"], 10),
}
FRONTEND = 10  # the top floor; only it may use the public API, `import hpcm`
EVERYWHERE = {"errors", "wire", "fields"}  # rooms that their own floor may enter: container fills what fields names
DISPATCHES = {
    "cli": {"train", "eval", "serve", "archive", "released"}
}  # `hpcm train` starts another frontend: inside a function, when asked
EXEMPT = {"", "__main__"}  # hpcm/__init__.py and the entry point: no order, but no torch when they are imported
LIBRARIES = {0: {"numpy"}, 1: {"numpy", "constriction", "PIL"}}  # beyond the standard library; higher floors: anything
# Those that import torch; the others start without it:
WITH_TORCH = (
    "model",
    "official",
    "engine.torch",
    "engine.export",
    "effort",
    "train",
    "eval",
    "data",
    "released.get",
    "calibration",
)

FILE_LINES, FUNCTION_LINES = 500, 40


def room_of(path: str) -> str:
    """'model/rate.py' -> 'model', 'codec.py' -> 'codec', '__init__.py' -> '' (path is relative to the package)."""
    return path.split("/")[0].removesuffix(".py").replace("__init__", "")


def imports(path: str, node: ast.AST, lazy: bool = False) -> Iterator[tuple[int, str, bool]]:
    """(line, absolute dotted name, inside a function or under TYPE_CHECKING) of every import below `node`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((child.lineno, alias.name, lazy) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            package = ["hpcm", *path.split("/")[:-1]]
            base = package[: len(package) - child.level + 1] if child.level else []
            prefix = ".".join([*base, *filter(None, [child.module])])
            # `from hpcm import codec` names a room, `from hpcm.codec import Codec` lies in one
            yield from ((child.lineno, f"{prefix}.{alias.name}", lazy) for alias in child.names)
        else:
            typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(path, child, lazy or typing_only or function)


def with_torch(name: str) -> bool:
    """Whether to import the dotted `name` is to import torch."""
    return name.split(".")[0] == "torch" or any(f"{name}.".startswith(f"hpcm.{room}.") for room in WITH_TORCH)


def floor_violation(path: str, name: str, lazy: bool) -> str | None:
    """What is wrong with the file `path` importing the dotted `name`; None if nothing is."""
    room, module = room_of(path), "hpcm." + path.removesuffix(".py").replace("/", ".")
    if room not in EXEMPT and with_torch(name) and not (lazy or with_torch(module)):
        return "would import torch for those who only open pictures: import it inside a function"
    top, *rest = name.split(".")
    if room in EXEMPT:
        return (
            "would import torch with hpcm itself: import it inside a function" if top == "torch" and not lazy else None
        )
    floor = FLOORS[room]
    if top != "hpcm":
        allowed = LIBRARIES.get(floor)
        outside = allowed is not None and top not in sys.stdlib_module_names and top not in allowed
        return f"floor {floor} may use the standard library and {sorted(allowed)}" if outside else None
    target = rest[0] if rest else ""
    if target == room or target in EVERYWHERE or target == "__version__":
        return None
    if target not in FLOORS and any(path.stem == target for path in PACKAGE.glob("*")):
        return f"{target!r} has no floor: give it one in FLOORS"
    if target not in FLOORS:
        return None if floor == FRONTEND else f"floor {floor} may not use the public API above it: name the module"
    if FLOORS[target] < floor or (target in DISPATCHES.get(room, ()) and lazy):
        return None
    if floor == FLOORS[target] == FRONTEND:
        return "frontends do not import one another" + (" (inside a function it may)" if room in DISPATCHES else "")
    return f"floor {floor} imports from floor {FLOORS[target]}: imports point down"


def floor_violations(path: str, source: str) -> list[str]:
    """One line per import of the file that breaks a rule; `path` is relative to the package."""
    if room_of(path) not in {*FLOORS, *EXEMPT}:
        return [f"{path}: {room_of(path)!r} has no floor: give it one in FLOORS"]
    found = ((line, name, floor_violation(path, name, lazy)) for line, name, lazy in imports(path, parse(source)))
    return [f"{path}:{line}: {name}: {wrong}" for line, name, wrong in found if wrong]


def budget_violations(path: str, source: str) -> list[str]:
    """One line if the file is too long, and one per function that is; docstrings of functions are free."""
    lines = len(source.splitlines())
    found = [f"{path}: {lines} lines, {FILE_LINES} are allowed: split it by noun"] if lines > FILE_LINES else []
    for node in ast.walk(parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(node, clean=False) is not None else 0
            length = node.end_lineno - node.lineno + 1 - docstring
            if length > FUNCTION_LINES:
                advice = f"{length} lines without its docstring, {FUNCTION_LINES} are allowed: name its parts"
                found.append(f"{path}:{node.lineno}: {node.name}: {advice}")
    return found


def parse(source: str) -> ast.Module:
    return ast.parse(source)


def test_there_is_a_house():
    assert "errors.py" in [path.name for path in SOURCES], f"no package at {PACKAGE}"


def test_every_room_exists():
    assert {room_of(path.relative_to(PACKAGE).as_posix()) for path in SOURCES} == {*FLOORS, *EXEMPT}


@pytest.mark.parametrize("path", [path.relative_to(PACKAGE).as_posix() for path in SOURCES])
def test_imports_point_down(path):
    found = floor_violations(path, (PACKAGE / path).read_text(encoding="utf-8"))
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("path", [path.relative_to(PACKAGE).as_posix() for path in SOURCES])
def test_rooms_stay_small(path):
    found = budget_violations(path, (PACKAGE / path).read_text(encoding="utf-8"))
    assert not found, "\n" + "\n".join(found)


# The rules above can fail: each is broken once here, in every spelling of an import.
@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("errors.py", "import torch", "import torch for those who only open pictures"),
        ("codec.py", "from torch import Tensor", "import torch for those who only open pictures"),
        ("codec.py", "from .model.hpcm import HPCM", "import torch for those who only open pictures"),
        ("coding/loop.py", "from ..model.hpcm import HPCM", "import torch for those who only open pictures"),
        ("engine/onnx.py", "from .torch import build", "import torch for those who only open pictures"),
        ("cli/convert.py", "from ..engine import export", "import torch for those who only open pictures"),
        ("coding/loop.py", "def f():\n    from ..model.hpcm import HPCM", "floor 2 imports from floor 3"),
        ("container.py", "def f():\n    import torch.nn", "standard library"),
        ("container.py", "import constriction", "standard library"),
        ("entropy/coder.py", "def f():\n    from torch import Tensor", "standard library"),
        (
            "entropy/coder.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch",
            "standard library",
        ),
        ("entropy/coder.py", "from hpcm.coding.config import Config", "floor 1 imports from floor 2"),
        ("model/hpcm.py", "from ..codec import Codec", "floor 3 imports from floor 7"),
        ("model/hpcm.py", "from .. import codec", "floor 3 imports from floor 7"),
        ("model/hpcm.py", "def f():\n    import hpcm.weights", "floor 3 imports from floor 3"),
        ("weights.py", "def f():\n    from hpcm import official", "floor 3 imports from floor 5"),
        ("errors.py", "from . import container", "floor 0 imports from floor 0"),
        ("codec.py", "from .cli import main", "floor 7 imports from floor 10"),
        ("codec.py", "import hpcm", "public API"),
        ("codec.py", "from hpcm import compress", "public API"),
        ("train.py", "def f():\n    from .cli import main", "frontends"),
        ("eval/report.py", "from ..train import loop", "frontends"),
        ("cli.py", "from .eval import report", "inside a function"),
        ("eval.py", "def f():\n    from . import train", "frontends"),
        ("attic.py", "import json", "no floor"),
        ("__init__.py", "try:\n    import torch\nexcept ImportError:\n    pass", "inside a function"),
        ("__main__.py", "from torch import nn", "inside a function"),
    ],
)
def test_a_broken_import_is_found(path, source, complaint):
    (found,) = floor_violations(path, source)
    assert complaint in found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("container.py", "import zlib\nimport numpy as np\nfrom .errors import HPCMError"),
        ("entropy/coder.py", "import constriction\nfrom .tables import Tables\nfrom hpcm import container"),
        ("model/hpcm.py", "import torch\nfrom . import rate\nfrom hpcm.entropy.tables import Tables"),
        ("codec.py", "def f():\n    import torch\n    from .engine.torch import build"),
        ("engine/torch.py", "import torch\nfrom ..model.hpcm import HPCM"),
        ("train/loop.py", "from .data import Crops\nfrom hpcm import model, __version__"),
        ("cli.py", "import hpcm\nfrom hpcm import load\ndef train():\n    from .train import loop"),
        ("__init__.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from torch import Tensor"),
        ("__main__.py", "from .cli import main\ndef f():\n    import torch"),
    ],
)
def test_a_sound_import_is_left_alone(path, source):
    assert floor_violations(path, source) == []


def test_budgets_can_be_exceeded():
    body = "    x = 1\n" * FUNCTION_LINES
    assert budget_violations("a.py", "def f():\n" + body.removesuffix("    x = 1\n")) == []
    (found,) = budget_violations("a.py", "class A:\n  async def f(self):\n" + body)
    assert "f: 41 lines" in found
    docstring = '    """\n' + "    word\n" * 50 + '    """\n'
    assert budget_violations("a.py", "def f():\n" + docstring + body.removesuffix("    x = 1\n")) == []
    assert budget_violations("a.py", "x = 1\n" * FILE_LINES) == []
    (found,) = budget_violations("a.py", "x = 1\n" * (FILE_LINES + 1))
    assert f"{FILE_LINES + 1} lines" in found
