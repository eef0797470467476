"""The fuzzer's targets on its corpus, its findings among it, and on a little that is random: see tests/fuzz/fuzz.py."""

import importlib.util
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

FUZZ = Path(__file__).parent / "fuzz"
spec = importlib.util.spec_from_file_location("targets", FUZZ / "targets.py")
targets = importlib.util.module_from_spec(spec)
spec.loader.exec_module(targets)
CORPUS = sorted((FUZZ / "corpus").iterdir())


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_corpus(path):
    targets.run(path.read_bytes())


def test_every_target_has_seeds():
    chosen = {targets.TARGETS[path.read_bytes()[0] % len(targets.TARGETS)] for path in CORPUS}
    assert chosen == {*targets.TARGETS}


@pytest.mark.parametrize("number", range(len(targets.TARGETS)), ids=[target.__name__ for target in targets.TARGETS])
@settings(deadline=None, max_examples=15)
@given(data=st.binary(max_size=1000))
def test_a_little_at_random(number, data):
    targets.run(bytes([number]) + data)


def test_a_target_can_fail(monkeypatch):
    """An error that isn't hpcm's own comes through."""
    monkeypatch.setattr(targets, "read_picture", lambda data, **_: data.nonsense)
    with pytest.raises(AttributeError, match="nonsense"):
        targets.run(bytes([4]) + bytes(40))
