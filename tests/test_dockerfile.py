"""The Dockerfile, as far as that can be told without Docker: it copies what is there, and serves where it is asked."""

import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from hpcm.cli.commands import parser

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "Dockerfile"
if not DOCKERFILE.is_file():
    pytest.skip("a source distribution has no Dockerfile", allow_module_level=True)


def instructions(name: str) -> list[str]:
    """What stands behind a keyword, for each line that begins with it."""
    text = DOCKERFILE.read_text("utf-8").replace("\\\n", " ")
    return re.findall(rf"^{name} +(.*)$", text, re.MULTILINE)


def test_what_is_copied_is_there_and_not_ignored() -> None:
    let_through = re.findall("^!(.*)$", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE)
    copied = set()
    for line in instructions("COPY"):
        if not line.startswith("--from"):
            copied |= set(shlex.split(line)[:-1])
    assert {"core", "src", "web"} <= copied
    for name in copied:
        assert (ROOT / name).exists()
        assert name.partition("/")[0] in let_through
    assert {name.partition("/")[0] for name in copied} == set(let_through)


def test_health_is_asked_where_the_server_listens() -> None:
    (entry,), (command,) = instructions("ENTRYPOINT"), instructions("CMD")
    assert entry == '["hpcm"]'
    options = parser().parse_args(re.findall('"(.*?)"', command))
    assert options.host == "0.0.0.0"
    (exposed,) = instructions("EXPOSE")
    (check,) = instructions("HEALTHCHECK")
    (url,) = re.findall(r"urlopen\('(.*?)'", check)
    assert urlsplit(url).port == int(exposed) == options.port
    assert urlsplit(url).path == "/health"
