"""`hpcm selftest`: known answers of all models, by every set of kernels and by the twin; what it says of wrong ones.

Kernels that are wrong are tests/test_selftest_kernels.py's.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path

import pytest

import hpcm
from hpcm import cli
from hpcm.cli.selftest import SHOWN, verdict
from hpcm.codec.codec import Codec
from hpcm.core import library as binding
from hpcm.errors import CorruptError
from hpcm.model import find as weights
from hpcm.model.find import ASSETS, available, find
from hpcm.selftest import answers, check
from hpcm.selftest.answers import AT_ALL_LEVELS, LEVELS, Case, cases, known
from hpcm.selftest.check import QUICK, Difference, Result, difference
from hpcm.selftest.pictures import DRAWINGS

MODELS = ("nano-1", "lite-1", "lite-mse-1")
KERNELS = binding.library().hpcm_kernels().decode().split()
NAMES = [drawing.name for drawing in DRAWINGS]
AT_A_LEVEL_EACH = [Case(name, level) for name, level in zip(NAMES, cycle(LEVELS), strict=False)]


def answers_of(model: str) -> dict[Case, answers.Answer]:
    return known()[find(model).hash.hex()].answers


def differences(model: str, asked: list[Case], **how: str | int) -> list[tuple[Case, str]]:
    """The cases in which a codec's answer isn't the known one."""
    codec, right = Codec([find(model)], **how), answers_of(model)
    return [(case, what) for case in asked if (what := difference(codec, case, right[case]))]


# ---- the drawings and their answers ----------------------------------------------------------------------------------


def test_drawings_are_what_they_were():
    """On every machine, by every numpy."""
    digest = hashlib.sha256()
    for drawing in DRAWINGS:
        pixels = drawing.pixels()
        digest.update(f"{drawing.name} {pixels.shape} {pixels.dtype.name}".encode())
        digest.update(pixels.astype(pixels.dtype.newbyteorder("<")).tobytes())
    assert digest.hexdigest()[:16] == "60ef2ff978ddc1a0"


def test_drawings_are_of_all_kinds():
    assert len({*NAMES}) == len(DRAWINGS) == 20
    pixels = {drawing.name: drawing.pixels() for drawing in DRAWINGS}
    assert {(p.ndim, p.dtype.name, p.shape[2:]) for p in pixels.values()} == {
        (3, "uint8", (3,)),
        (3, "uint8", (4,)),
        (2, "uint8", ()),
        (2, "uint16", ()),
    }
    assert any(max(pixels[d.name].shape[:2]) > d.tile for d in DRAWINGS)
    assert {d.progressive for d in DRAWINGS} == {False, True}
    assert all({d.name for d in DRAWINGS} >= {case.drawing} for case in QUICK)


def test_every_bundled_model_has_an_answer_to_everything():
    bundled = [model for model in available() if model.path.parent == ASSETS]
    assert {model.name: model.hash.hex() for model in bundled} == {one.name: key for key, one in known().items()}
    for model in known().values():
        assert model.answers.keys() == {*cases()}, model.name
    assert {case.drawing for case in cases()} == {*NAMES}
    assert {case.level for case in cases() if case.drawing == AT_ALL_LEVELS} == {*range(64)}


def test_answers_differ():
    """Hashes that were all alike would prove nothing. Flat pictures may decode alike at two levels."""
    for model in known().values():
        symbols = [answer.symbols for answer in model.answers.values()]
        pixels = [answer.pixels for answer in model.answers.values()]
        assert len({*symbols}) == len(symbols)
        assert len({*pixels}) > 0.95 * len(pixels)
        assert all(len(one) == answers.DIGITS for one in (*symbols, *pixels))


# ---- what computes them ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_the_best_kernels_give_every_answer(model):
    assert differences(model, cases(), engine="core", kernels=KERNELS[0]) == []


@pytest.mark.parametrize("kernels", KERNELS[1:])
@pytest.mark.parametrize(("model", "every"), [("nano-1", 1), ("lite-1", 4)])
def test_other_kernels_give_the_answers(model, every, kernels):
    assert differences(model, AT_A_LEVEL_EACH[::every], engine="core", kernels=kernels) == []


@pytest.mark.slow
@pytest.mark.parametrize("kernels", KERNELS[1:])
@pytest.mark.parametrize("model", MODELS)
def test_other_kernels_give_every_answer(model, kernels):
    assert differences(model, cases(), engine="core", kernels=kernels) == []


@pytest.mark.parametrize("model", MODELS)
def test_the_twin_gives_the_answers(model):
    assert differences(model, [*QUICK], engine="torch", threads=1) == []


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_the_twin_gives_every_answer(model):
    assert differences(model, cases(), engine="torch", threads=1) == []


# ---- what is noticed -------------------------------------------------------------------------------------------------


@pytest.fixture
def codec() -> Codec:
    return Codec([find("nano")], engine="core", threads=1)


@pytest.mark.parametrize("what", ["symbols", "pixels"])
def test_another_answer_is_noticed(codec, what):
    right = answers_of("nano")[QUICK[0]]
    assert difference(codec, QUICK[0], right) is None
    assert difference(codec, QUICK[0], right._replace(**{what: "0123456789abcdef"})) == what


def test_a_file_that_cannot_be_opened_is_noticed(codec, monkeypatch):
    def fail(*_, **__):
        raise CorruptError("damaged")

    monkeypatch.setattr(codec, "decompress", fail)
    assert difference(codec, QUICK[0], answers_of("nano")[QUICK[0]]) == "decoding"


def test_one_symbol_and_one_sample_change_the_hashes(codec):
    container = answers.compressed(codec, DRAWINGS[NAMES.index("tiles")], 63)
    parts = container.tiles[0]
    before = answers.hash_of_symbols(container)
    payload = parts[-1].payload
    for change in (
        {"checksum": parts[-1].checksum ^ 1},
        {"payload": payload[:-1] + bytes([payload[-1] ^ 1])},
        {"payload": payload[:-1]},
    ):
        changed = (*parts[:-1], replace(parts[-1], **change))
        assert answers.hash_of_symbols(replace(container, tiles=(changed, *container.tiles[1:]))) != before
    image = codec.decompress(container)
    before = answers.hash_of_pixels(image)
    assert answers.hash_of_pixels(image.rotate(90, expand=True)) != before
    image.putpixel((3, 2), tuple(value ^ 1 for value in image.getpixel((3, 2))))
    assert answers.hash_of_pixels(image) != before


# ---- the command -----------------------------------------------------------------------------------------------------


def python(*line: str, **options) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(Path(hpcm.__file__).parents[1])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-m", "hpcm", *line], env=environment, **pipes, **options)


def test_it_says_what_this_machine_is_and_that_it_is_right(capsys):
    assert cli.main(["selftest"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    title, *about = out.splitlines()
    assert title.startswith(f"hpcm {hpcm.__version__}, native library {binding.API_VERSION}, Python ")
    assert [line.split()[0] for line in about] == ["processor", "system", "models", "kernels", *KERNELS]
    assert about[2].split(maxsplit=1)[1] == ", ".join(one.name for one in known().values())
    assert about[3].split(maxsplit=1)[1] == f"{', '.join(KERNELS)}; used: {KERNELS[0]}"
    asked = len(QUICK) * len(known())
    assert all(line.endswith(f" {asked} of {asked} right") for line in about[4:])


def fake(monkeypatch, **results: Result) -> None:
    """Sets of kernels, best first, and what is found of them."""
    monkeypatch.setattr(cli.commands.selftest, "kernels", lambda: [*results])
    monkeypatch.setattr(check, "check", lambda name, *_, **__: results[name])


def wrong(name: str, count: int) -> Result:
    return Result(name, 15, [Difference("nano-1", "pixel", level, "pixels") for level in range(count)])


def test_what_is_wrong_is_told(monkeypatch, capsys):
    refused = Result("fast", 0, refused="the kernels fast compute wrongly")
    fake(monkeypatch, fast=refused, slow=wrong("slow", SHOWN + 2), plain=Result("plain", 15))
    assert cli.main(["selftest"]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[5:] == [
        "fast      refused",
        "  the kernels fast compute wrongly",
        "slow      8 of 15 right",
        *[f"  the pixels differ: pixel, nano-1, level {level}" for level in range(SHOWN)],
        "  and 2 more",
        "plain     15 of 15 right",
    ]
    advice = "set HPCM_KERNELS=plain in the environment, and report it with what this command prints"
    assert err == f"hpcm: error: the kernels fast, slow compute wrongly on this machine: {advice}\n"


def test_json(monkeypatch, capsys):
    refused = Result("fast", 0, refused="why")
    fake(monkeypatch, fast=refused, slow=wrong("slow", 1), plain=Result("plain", 15))
    assert cli.main(["selftest", "--json"]) == 1
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert len(err.splitlines()) == 1
    assert {*found} == {"hpcm", "library", "python", "processor", "system", "models", "used", "kernels"}
    assert (found["used"], found["library"]) == ("fast", binding.API_VERSION)
    assert found["kernels"] == [
        {"name": "fast", "asked": 0, "right": 0, "refused": "why", "differences": []},
        {
            "name": "slow",
            "asked": 15,
            "right": 14,
            "refused": None,
            "differences": [{"model": "nano-1", "drawing": "pixel", "level": 0, "what": "pixels"}],
        },
        {"name": "plain", "asked": 15, "right": 15, "refused": None, "differences": []},
    ]


def test_what_to_do():
    right, other = Result("avx512", 9), Result("avx2", 9)
    assert verdict([right, other], "avx512") is None
    assert "set HPCM_KERNELS=avx2 " in verdict([wrong("avx512", 1), other], "avx512")
    assert "HPCM_KERNELS" not in verdict([right, wrong("generic", 1)], "avx512")
    assert "avx512, which it uses, are right" in verdict([right, wrong("generic", 1)], "avx512")
    assert "set HPCM_KERNELS=avx512 " in verdict([right, wrong("generic", 1)], "generic")
    assert "avx2, which it uses, are right" in verdict([wrong("avx512", 1), other], "avx2")
    nothing = verdict([wrong("avx512", 1), wrong("avx2", 1)], "avx512")
    assert "no kernels" in nothing
    assert "don't compress or open pictures with it" in nothing


def test_all_asks_for_everything(monkeypatch, capsys):
    monkeypatch.setattr(check, "difference", lambda *_: None)
    assert cli.main(["selftest", "--all"]) == 0
    asked = len(cases()) * len(known())
    assert capsys.readouterr().out.count(f" {asked} of {asked} right") == len(KERNELS)


@pytest.mark.skipif(os.name == "nt", reason="signals are sent otherwise")
def test_an_interruption_is_quiet():
    listen = {"preexec_fn": partial(signal.signal, signal.SIGINT, signal.SIG_DFL)}  # else it may be ignored
    process = python("selftest", "--all", **listen)
    next(line for line in process.stdout if line.startswith("  kernels "))
    assert process.stdout.read(len(KERNELS[0])) == KERNELS[0]  # which are at work now
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")


def test_a_missing_library_is_one_line(monkeypatch, tmp_path, capsys):
    missing = tmp_path / "libhpcm.so"
    monkeypatch.setattr(binding, "PATH", missing)
    binding.library.cache_clear()
    assert cli.main(["selftest"]) == 1
    binding.library.cache_clear()
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"hpcm: error: the native library {binding.PATH} is missing: {binding.HOW_TO_BUILD}\n"


def test_without_models_it_says_which(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(weights, "ASSETS", tmp_path)
    monkeypatch.setenv("HPCM_WEIGHTS", str(tmp_path))
    assert cli.main(["selftest"]) == 1
    names = ", ".join(model.name for model in known().values())
    text = f"no model is installed whose answers are known; these are: {names}"
    assert capsys.readouterr() == ("", f"hpcm: error: {text}\n")


def test_a_model_that_is_missing_or_damaged_is_named(monkeypatch, tmp_path, capsys):
    shutil.copy(ASSETS / "nano-1.safetensors", tmp_path)
    damaged = bytearray((ASSETS / "lite-1.safetensors").read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "lite-1.safetensors").write_bytes(damaged)
    monkeypatch.setattr(weights, "ASSETS", tmp_path)
    assert cli.main(["selftest", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["models"] == ["nano-1"]
    assert err == "hpcm: note: not installed, or changed, and so not tested: lite-1, lite-mse-1\n"


def test_unknown_kernels_are_one_line(monkeypatch, capsys):
    monkeypatch.setenv("HPCM_KERNELS", "abacus")
    assert cli.main(["selftest"]) == 1
    there = " ".join(KERNELS)
    text = f"HPCM_KERNELS is 'abacus': this machine has the kernels {there}"
    assert capsys.readouterr() == ("", f"hpcm: error: {text}\n")
