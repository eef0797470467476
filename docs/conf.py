"""The documentation site, as Sphinx builds it (`make docs`): the repository's own documents, and two generated pages.

The sources are the repository itself, so that a link which works there works on the site, files of code included.
docs/commands.md gets the command line from its parser, docs/python.md the names of the package from their docstrings.
"""

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

import hpcm  # noqa: E402
from hpcm.cli.commands import parser  # noqa: E402

project, author = "hpcm", "the hpcm authors"
copyright = "the hpcm authors, MIT"
version = release = hpcm.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "web/README.md"]
exclude_patterns = [
    ".*",
    "build",
    "dist",
    "experiments",
    "tools",
    "src",
    "tests",
    "web/node_modules",
]  # are not searched for documents
html_theme = "furo"
html_title = f"hpcm {release}"
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}
templates_path: list[str] = []
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # docs/results.md: a part of it begins below its heading
autodoc_mock_imports = ["ray", "pyarrow", "fsspec"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

CONTENTS = {  # of the sidebar
    "Use": "commands python pictures lossless effort reach archives serving browser ../web/README",
    "Format": "format format-policy mime exactness ../SECURITY",
    "Models": "../MODEL_CARD released results complexity training research scaling",
    "Project": "../CONTRIBUTING core ../CHANGELOG log",
}
PYTHON = {  # the headings of docs/python.md
    "Pictures": ("function compress", "function decompress", "function preview"),
    "Models": ("function load", "class Codec", "function models", "class model.file.WeightsFile"),
    "Networks": ("class Config", "class HPCM", "function official.from_official"),
    "Files": ("function format.container.unpack", "function format.container.pack", "class format.fields.Container"),
    "Pillow and imageio": ("module pillow", "module imageio"),
    "Archives": ("function archive.run.compress", "function archive.run.restore", "class archive.dataset.Pictures"),
    "Errors": ("module errors",),
}


def contents() -> str:
    """The sidebar: every document of docs/ and of the root."""
    parts = []
    for caption, names in CONTENTS.items():
        pages = [(ROOT / "docs" / name).resolve().relative_to(ROOT).as_posix() for name in names.split()]
        pages = [page for page in pages if (ROOT / f"{page}.md").exists()]
        parts += ["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```"]
    return "\n".join(parts) + "\n"


def commands() -> str:
    """Every command and option."""
    actions = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    told = {choice.dest: choice.help for choice in actions._choices_actions}
    parts = []
    for name, command in actions.choices.items():
        usage = command.format_usage().removeprefix("usage: ")
        parts += [
            "",
            f"## hpcm {name}",
            "",
            command.description or told.get(name) or "",
            "",
            "```text",
            usage + "```",
            "",
        ]
        for action in command._actions:
            if action.help is not argparse.SUPPRESS and not isinstance(action, argparse._HelpAction):
                words = command._get_formatter()._format_action_invocation(action)
                help_ = (action.help or "") % {**vars(action), "prog": command.prog}
                parts.append(f"- `{words}`: {help_}" if help_ else f"- `{words}`")
    return "\n".join(parts) + "\n"


def names() -> str:
    """The package's names, for autodoc."""
    parts = []
    for heading, entries in PYTHON.items():
        parts += ["", f"## {heading}", "", "```{eval-rst}"]
        for entry in entries:
            kind, name = entry.split()
            parts.append(f".. auto{kind}:: hpcm.{name}")
            parts += ["   :members:"] if kind != "function" else []
        parts.append("```")
    return "\n".join(parts) + "\n"


GENERATED = {"README": contents, "docs/commands": commands, "docs/python": names}


def extend(app, docname: str, source: list[str]) -> None:
    def without(link: re.Match[str]) -> str:  # the site has pages and files, but no folders
        folder = (ROOT / docname).parent / link[2]
        return link[1] if "://" not in link[2] and folder.is_dir() else link[0]

    source[0] = re.sub(r"\[([^\]]*)\]\(([^)#\s]+)\)", without, source[0])
    if docname in GENERATED:
        source[0] += "\n" + GENERATED[docname]()


def literal(app, what, name, obj, options, lines: list[str]) -> None:
    """Marks the drawings and tables of a docstring, blocks that are indented and in no section such as Args."""
    made: list[str] = []
    drawing = section = False
    for line in lines:
        if line and not line.startswith(" "):
            drawing, section = False, bool(re.fullmatch(r"[A-Z]\w+:", line)) and line != "Example:"
        elif line and not (drawing or section):
            drawing = True
            made += ["", "::", ""]
        made.append(line)
    lines[:] = made


def setup(app) -> None:
    app.connect("source-read", extend)
    app.connect("autodoc-process-docstring", literal, priority=100)  # before napoleon
