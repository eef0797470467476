"""Weights files: found by name, read once, stored without loss where it matters."""

import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import hpcm
from hpcm.errors import ModelNotFoundError, UsageError, WeightsError
from hpcm.model import find as weights
from hpcm.model import layers, storage
from hpcm.model.file import WeightsFile, describe, read
from hpcm.model.find import RUN_WEIGHTS, find
from hpcm.nn.exact.grid import convolutions
from hpcm.nn.exact.make_exact import make_exact
from hpcm.nn.weights import load_model, save

ROOT = Path(__file__).parents[1]
PHOTO = Image.open(Path(__file__).parent / "data" / "kodim23.png").crop((130, 90, 130 + 96, 90 + 72))


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The user's weights folder, nothing bundled, and an empty working directory."""
    for name in ("weights", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(weights, "ASSETS", tmp_path / "none")
    monkeypatch.setenv("HPCM_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "weights"


@pytest.fixture
def exact(build, tiny):
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return make_exact(build(tiny), [(x, torch.tensor([30.0]))], "float32")


def changed(path: Path, **metadata: str) -> Path:
    """Puts other metadata into a weights file."""
    with safe_open(path, "pt") as file:
        before = file.metadata()
    save_file(load_file(path), path, before | metadata)
    return path


# ---- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny", "tiny-2"])
def test_a_name_is_a_name_whatever_lies_in_the_working_directory(folder, build, tiny, name):
    save(build(tiny), folder / f"{name}.safetensors", {}, name=name)
    Path(name).mkdir()
    save(build(tiny), Path(name, RUN_WEIGHTS), {"other": 1})
    assert find(name).path == folder / f"{name}.safetensors"
    for other in (f"./{name}", Path(name), f"{name}/{RUN_WEIGHTS}", Path(name).absolute()):
        assert find(other).path.samefile(Path(name, RUN_WEIGHTS))
    shutil.copy(Path(name, RUN_WEIGHTS), "mine.safetensors")
    assert find("mine.safetensors").provenance == {"other": 1}


def test_a_run_is_named_by_a_path(folder, build, tiny):
    Path("run").mkdir()
    save(build(tiny), Path("run", RUN_WEIGHTS), {})
    with pytest.raises(ModelNotFoundError, match=r"no model 'run': .* for a file or folder write \./run"):
        find("run")
    assert find("./run").name == "tiny"
    with pytest.raises(ModelNotFoundError, match=r"no model '': the installed models are none$"):
        find("")


def test_the_newest_version_has_the_plain_name(folder, build, tiny):
    for name in ("tiny-2", "tiny-10", "tiny-9", "tiny-x", "other-11"):
        save(build(tiny), folder / f"{name}.safetensors", {}, name=name)
    assert find("tiny").name == "tiny-10"
    assert {weights.alias_of(file): file.name for file in weights.available() if weights.alias_of(file)} == {
        "tiny": "tiny-10",
        "other": "other-11",
    }


def test_the_bundled_default_is_at_hand():
    assert weights.default() is not None
    assert {weights.alias_of(file) for file in weights.available()} >= {"nano", "lite", "lite-mse"}


def test_bundled_models_are_at_hand_before_the_users(folder, build, tiny, monkeypatch):
    bundled = folder.parent / "bundled"
    bundled.mkdir()
    monkeypatch.setattr(weights, "ASSETS", bundled)
    save(build(tiny), bundled / "tiny-1.safetensors", {}, name="tiny-1")
    save(build(tiny), folder / "tiny-1.safetensors", {"mine": 1}, name="tiny-1")
    assert [file.path.parent for file in weights.available()] == [bundled, folder]
    assert find("tiny-1").path.parent == bundled


def test_a_model_that_is_not_at_hand_is_named(folder):
    with pytest.raises(
        ModelNotFoundError,
        match=r"model 'tiny' of hash \w{16}, .* put its weights file into .*weights or name it with --model PATH$",
    ) as refusal:
        hpcm.decompress(Path(__file__).parent / "golden" / "tiny.hpcm")
    assert f"it is in none of {', '.join(map(str, weights.folders()))};" in str(refusal.value)


def test_a_systems_models_are_found_behind_the_users(folder, build, tiny, monkeypatch):
    golden, shared = Path(__file__).parent / "golden", [folder.parent / name for name in ("local", "usr")]
    monkeypatch.setenv("XDG_DATA_DIRS", os.pathsep.join(["relative", *map(str, shared)]))
    assert weights.folders() == [weights.ASSETS, folder, shared[0] / "hpcm", shared[1] / "hpcm"]
    for place in weights.folders()[2:]:
        place.mkdir(parents=True)
        shutil.copy(golden / "tiny.safetensors", place)
    assert find("tiny").path.parent == shared[0] / "hpcm"
    assert hpcm.decompress(golden / "tiny.hpcm").size
    assert [file.path.parent for file in weights.available()] == [shared[0] / "hpcm"]  # the other one is a copy
    save(build(tiny), folder / "tiny.safetensors", {}, name="tiny")  # of another hash
    assert find("tiny").path.parent == folder
    assert [file.path.parent for file in weights.available()] == [folder, shared[0] / "hpcm"]
    assert hpcm.decompress(golden / "tiny.hpcm").size


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such folders")
@pytest.mark.parametrize("given", [None, ""])
def test_where_a_system_keeps_models_by_default(given, monkeypatch):
    monkeypatch.delenv("XDG_DATA_DIRS")
    if given is not None:
        monkeypatch.setenv("XDG_DATA_DIRS", given)
    assert weights.system_folders() == [Path("/usr/local/share/hpcm"), Path("/usr/share/hpcm")]
    monkeypatch.setenv("HPCM_WEIGHTS", "/usr/share/hpcm")  # isn't looked into twice
    assert weights.folders() == [weights.ASSETS, Path("/usr/share/hpcm"), Path("/usr/local/share/hpcm")]


def test_the_model_card_lists_every_released_model():
    card = (ROOT / "MODEL_CARD.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([a-z0-9-]+) \| ([0-9a-f]{16}) \|", card, re.MULTILINE)
    bundled = map(describe, weights.ASSETS.glob("*.safetensors"))
    assert {digest: name for name, digest in rows} == {file.hash.hex(): file.name for file in bundled}


# ---- read once ------------------------------------------------------------------------------------------------------


def test_what_is_hashed_is_what_is_loaded(folder, build, tiny, monkeypatch):
    """A training run may replace the file at any moment: also between its description and its tensors."""
    path = folder / "tiny.safetensors"
    save(build(tiny), path, {"version": 1})
    file = find("tiny")
    first = path.read_bytes()
    other = build(tiny)
    with torch.no_grad():
        other.h_s[0].weight.mul_(2)
    save(other, path, {"version": 2})
    second = path.read_bytes()
    read = Path.read_bytes

    def replaced_after(self):
        data = read(self)
        if self == path:
            self.write_bytes(first)
        return data

    monkeypatch.setattr(Path, "read_bytes", replaced_after)
    loaded = load_model(file)
    assert loaded.weights.digest == hashlib.sha256(second).digest()
    assert loaded.weights.provenance == {"version": 2}
    assert torch.equal(loaded.model.h_s[0].weight, other.h_s[0].weight.half().float())


def test_a_file_is_hashed_once(folder, build, tiny, monkeypatch):
    path = folder / "tiny.safetensors"
    save(build(tiny), path, {})
    data = hpcm.compress(PHOTO, model="tiny")
    hpcm.decompress(data)
    hashed = []
    monkeypatch.setattr("hpcm.model.file.sha256", lambda file: hashed.append(file.name))
    monkeypatch.setattr(hashlib, "sha256", hashed.append)
    for _ in range(3):
        hpcm.decompress(data)
    assert hashed == []


def test_a_file_that_was_written_anew_is_described_anew(folder, build, tiny):
    path = folder / "tiny.safetensors"
    save(build(tiny), path, {"steps": 1})
    before = describe(path)
    assert before.digest
    save(build(tiny), path, {"steps": 2})
    assert describe(path).provenance == {"steps": 2}
    assert describe(path).digest == hashlib.sha256(path.read_bytes()).digest()


def test_what_is_not_there(folder, build, tiny):
    for path in ("./none", "none.safetensors", Path("none")):
        with pytest.raises(ModelNotFoundError, match=r"no model at none.*: there is no such file$"):
            find(path)
    Path("empty").mkdir()
    with pytest.raises(ModelNotFoundError, match=r"no model at empty.model\.safetensors"):
        find("./empty")
    assert weights.default() is None


def test_a_file_that_goes_away(folder, build, tiny):
    path = folder / "tiny.safetensors"
    save(build(tiny), path, {})
    file = find("tiny")
    path.unlink()
    for ask in (describe, lambda path: read(replace(file, path=path)), lambda _: load_model(file)):
        with pytest.raises(WeightsError, match=r"tiny\.safetensors can't be read as a weights file: "):
            ask(path)


def test_one_of_several_models_of_a_level_is_named(folder, build, tiny):
    for name, lmbda in (("tiny-1", 0.01), ("tiny-2", 0.02), ("tiny-3", 0.02)):
        save(build(replace(tiny, levels=1, lambda_min=lmbda)), folder / f"{name}.safetensors", {}, name=name)
    with pytest.raises(UsageError, match=r"tiny stands for 2 models: name one of tiny-1, tiny-3$"):
        find("tiny")
    assert [weights.family_of(find(name)) for name in ("tiny-1", "tiny-2", "tiny-3")] == ["tiny", None, "tiny"]
    save(build(tiny), folder / "tiny-4.safetensors", {}, name="tiny-4")  # of many levels, and the newest
    assert find("tiny").name == "tiny-4"
    assert weights.family_of(find("tiny-1")) is None


@pytest.mark.parametrize("lmbda", [0, -1.0, float("inf"), float("nan"), 10**400, "0.1", None])
def test_a_lambda_that_is_none(lmbda):
    """The configuration comes from a file: anything may stand there."""
    file = WeightsFile(Path("a"), "a", {"levels": 1, "lambda_min": lmbda}, {})
    assert file.lmbda is None
    assert replace(file, config={"levels": 1, "lambda_min": 1}).lmbda == 1.0
    assert replace(file, config={"levels": 6, "lambda_min": 1}).lmbda is None


# ---- forged and damaged ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"provenance": "[1]"}, "provenance is .* instead of names and values"),
        ({"provenance": "nonsense"}, "can't be read as a weights file"),
        ({"config": "[]"}, "can't be read as a weights file"),
        ({"config": "[1]", "name": "nano-99"}, "config is .* instead of names and values"),
        ({"config": "{}"}, "can't be read as a weights file"),
        ({"config": "[" * 100_000}, "can't be read as a weights file"),
        ({"name": "a/b"}, "the model's name is 'a/b'"),
        ({"hpcm": "99"}, "no hpcm weights file of format 1"),
    ],
)
def test_forged_descriptions(folder, build, tiny, metadata, message):
    path = folder / "tiny.safetensors"
    save(build(tiny), path, {})
    changed(path, **metadata)
    with pytest.raises(WeightsError, match=message):
        describe(path)
    assert list(weights.available()) == []  # `hpcm models` passes over it


@pytest.mark.parametrize("data", [b"", b"\xff" * 8, b"\x08" + bytes(7) + b"nonsense", bytes(100)])
def test_what_is_no_weights_file(folder, data):
    (folder / "none.safetensors").write_bytes(data)
    with pytest.raises(WeightsError, match=r"none\.safetensors"):
        describe(folder / "none.safetensors")


@pytest.mark.parametrize("change", [{"heads": 0}, {"partial": 0}, {"M": 24}, {"analysis": [[10**9, 16]]}, {"new": 1}])
def test_forged_configurations_are_refused_in_a_line(folder, build, tiny, change):
    path = folder / "tiny.safetensors"
    save(build(tiny), path, {})
    changed(path, config=json.dumps(tiny.to_dict() | change))
    with pytest.raises(WeightsError, match="the weights don't fit their configuration"):
        load_model(describe(path))


def test_missing_and_damaged_tensors(folder, build, tiny):
    path = folder / "tiny.safetensors"
    save(build(tiny), path, {})
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(WeightsError, match="don't fit"):
        load_model(describe(path))
    path.write_bytes(whole)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    del tensors["h_s.0.weight"]
    save_file(tensors, path, metadata)
    with pytest.raises(WeightsError, match=r"h_s\.0\.weight"):
        load_model(describe(path))


# ---- storage --------------------------------------------------------------------------------------------------------


def test_numbers_that_overflow_in_16_bits_are_stored_in_32(folder, build, tiny):
    model = build(tiny)
    with torch.no_grad():
        model.g_s[0].weight[0, 0] = 1e6
    path = folder / "tiny.safetensors"
    save(model, path, {})
    assert load_file(path)["g_s.0.weight"].dtype == torch.float32
    assert load_file(path)["g_a.1.weight"].dtype == torch.float16
    assert torch.equal(load_model(describe(path)).model.g_s[0].weight, model.g_s[0].weight)


def test_exact_layers_are_integers_and_come_back_to_the_bit(folder, exact):
    path = folder / "tiny.safetensors"
    save(exact, path, {})
    stored = load_file(path)
    names = [place.name for place in convolutions(exact)]
    types = {part: {stored[f"{name}.{part}"].dtype for name in names} for part in layers.TENSORS}
    assert types.pop("weight") == {torch.int8, torch.int16}
    assert types == {
        "bias": {torch.int32},
        "exponent": {torch.int8},
        "input_bits": {torch.int8},
        "limit": {torch.int32},
    }
    entropy_path = tuple(f"{name}." for name, _ in exact.entropy_path())
    assert {stored[f"{name}.weight"].dtype for name in names if name.startswith(entropy_path)} == {torch.int8}
    loaded = load_model(describe(path)).model.state_dict()
    for name, value in exact.state_dict().items():
        if name.rpartition(".")[0] in names:
            assert torch.equal(loaded[name], value), name


def test_what_8_bits_do_not_hold_takes_16(folder, exact):
    """float32 carriers with other splits of the 24 bits: weights of 9 bits."""
    name, *_, module = next(place for place in convolutions(exact) if place.name.startswith("adaptors"))
    weight = module.weight.data
    module.weight.data = torch.where(weight.abs() == weight.abs().amax(), weight * (1 + 2**-8), weight)
    with torch.no_grad():
        module.limit.div_(1 << 9).floor_()
    save(exact, folder / "a.safetensors", {})
    assert load_file(folder / "a.safetensors")[f"{name}.weight"].dtype == torch.int16
    loaded = load_model(describe(folder / "a.safetensors")).model
    assert torch.equal(loaded.get_parameter(f"{name}.weight"), module.weight)


@pytest.mark.parametrize("geometry", [layers.GEOMETRIES[1], layers.GEOMETRIES[5]], ids=lambda geometry: geometry.kind)
def test_integers_with_channels_of_zeros_and_of_all_sizes(geometry):
    axis, side = (1, 2) if geometry.transposed else (0, 3)
    k = np.random.default_rng(1).integers(-127, 128, (5, 4, side, side)).astype(np.float32)
    exponents = np.arange(k.shape[axis]) * 9 - 20
    weight = np.ldexp(k, geometry.by_output(exponents))
    np.moveaxis(weight, axis, 0)[2] = 0
    inputs = geometry.inputs(weight.shape)
    floats = {
        "a.weight": weight,
        "a.bias": np.ldexp(np.float32(100_001), exponents),
        "a.input_scale": np.ldexp(np.float32(1), np.arange(inputs) - 2),
        "a.limit": np.float32(1000),
        "b": np.ones(3, np.float32),
    }
    stored = layers.to_integers(floats, {"a": geometry})
    assert {name: value.dtype.name for name, value in stored.items()} == {
        "a.weight": "int8",
        "a.bias": "int32",
        "a.exponent": "int8",
        "a.input_bits": "int8",
        "a.limit": "int32",
        "b": "float32",
    }
    again = layers.to_floats(stored, {"a": geometry})
    assert again.keys() == floats.keys()
    assert all(np.array_equal(again[name], floats[name]) for name in floats)


@pytest.mark.parametrize("geometry", layers.GEOMETRIES, ids=lambda geometry: f"{geometry.kind} {geometry.side}")
def test_rows_hold_the_weights_of_one_sum(geometry):
    """Each is what an output is made of: that of a 1 in the input and 0 elsewhere."""
    shape = (4, 3, geometry.side, geometry.side) if geometry.transposed else (3, 4, geometry.side, geometry.side)
    if geometry.kind == "depthwise":
        shape = (4, 1, 3, 3)
    weight = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    rows = geometry.rows(weight)
    assert rows.shape == (geometry.outputs(shape) * geometry.phases, weight.size // len(rows))
    assert np.array_equal(geometry.weight(rows, shape), weight)
    functions = torch.nn.functional
    convolve = functions.conv_transpose2d if geometry.transposed else functions.conv2d
    groups = {"groups": 4} if geometry.kind == "depthwise" else {}
    ones = torch.ones(1, 4, 12, 12, dtype=torch.float64)
    sums = convolve(ones, torch.from_numpy(weight), None, geometry.stride, geometry.padding, **groups)
    inner = {float(value) for value in sums[0, :, 1:-1, 1:-1].unique()}  # where the window lies inside the picture
    assert {float(row.sum()) for row in rows} == inner


# ---- what a file says of its layers ----------------------------------------------------------------------------------


def descriptions(path: Path) -> dict[str, dict]:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["layers"])


def test_a_file_says_what_each_exact_layer_is(folder, exact, build, tiny):
    save(exact, folder / "exact.safetensors", {})
    fields = descriptions(folder / "exact.safetensors")
    assert set(fields) == {place.name for place in convolutions(exact)}
    assert fields["g_a.1"] == {"kind": "dense", "stride": 1, "padding": 0}
    assert fields["h_a.1"] == {"kind": "dense", "stride": 2, "padding": 0}
    assert fields["h_s.0"] == {"kind": "transposed", "stride": 2, "padding": 0}
    assert fields["priors.0.before.0.spatial"] == {"kind": "depthwise", "stride": 1, "padding": 1}
    save(build(tiny), folder / "floating.safetensors", {})
    assert describe(folder / "floating.safetensors").layers == {}


@pytest.mark.parametrize("change", ["kind", "stride", "padding", "missing", "one more", "no names", "nothing"])
def test_wrong_descriptions_of_layers_are_refused(folder, exact, change):
    path = folder / "tiny.safetensors"
    save(exact, path, {})
    fields = descriptions(path)
    layer = fields["h_s.0"]
    expected = r"layer h_s\.0 is described as"
    if change == "kind":
        layer["kind"] = "dense"
    elif change in ("stride", "padding"):
        layer[change] += 1
    elif change == "missing":
        del fields["h_s.0"]
    elif change == "one more":
        fields["h_s.10"] = layer
        expected = r"layer h_s\.10 is described as .*, but in this model it is no exact layer"
    elif change == "no names":
        fields, expected = [fields], "instead of names and values"
    else:
        fields, expected = {}, "is described as no exact layer"
    changed(path, layers=json.dumps(fields))
    with pytest.raises(WeightsError, match=expected):
        load_model(describe(path))


SPOILT = {
    "a weight of another type": ("priors.0.head.weight", lambda value: value.float()),
    "weights of another shape": ("priors.0.head.weight", lambda value: value[:, :-1]),
    "weights of no kernel": ("priors.0.head.weight", lambda value: value.repeat(1, 1, 5, 5)),
    "a bias for each input": ("priors.0.head.bias", lambda value: value[:-1]),
    "a bias of 64 bits": ("priors.0.head.bias", lambda value: value.long()),
    "a bias that float32 rounds": ("g_s.0.bias", lambda value: value * 0 + (1 << 24) + 1),
    "one exponent for all": ("priors.0.head.exponent", lambda value: value[:1]),
    "exponents of all sizes": ("priors.0.head.exponent", lambda value: value * 0 - 65),
    "inputs of all sizes": ("priors.0.head.input_bits", lambda value: value * 0 + 65),
    "no inputs": ("priors.0.head.limit", lambda value: value * 0),
    "inputs of 23 bits": ("priors.0.before.0.spatial.limit", lambda value: value * 0 + (1 << 22) + 1),
    "sums over 24 bits": ("priors.0.head.limit", lambda value: value * 40),
    "sums over 31 bits": ("g_s.0.limit", lambda value: value * 4),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_spoilt_layers_are_refused(folder, exact, spoilt):
    path = folder / "tiny.safetensors"
    save(exact, path, {})
    name, spoil = SPOILT[spoilt]
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    tensors[name] = spoil(tensors[name]).contiguous()
    save_file(tensors, path, metadata)
    with pytest.raises(WeightsError, match=f"layer {re.escape(name.rpartition('.')[0])} "):
        load_model(describe(path))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("z_means", float("nan")),
        ("z_scales", float("inf")),
        ("gains.0.knots", 2.0**33),
        ("y_gain.knots", 0.0),
        ("y_gain.knots", 2.0**-33),
        ("z_inverse.knots", -(2.0**33)),
    ],
)
def test_numbers_that_may_lead_to_infinity_are_refused(folder, exact, name, value):
    with torch.no_grad():
        exact.get_parameter(name).view(-1)[1] = value
    save(exact, folder / "tiny.safetensors", {}, half=False)
    with pytest.raises(WeightsError, match=f"{re.escape(name)} has a number|{name[0]} has a gain"):
        load_model(describe(folder / "tiny.safetensors"))


def test_gains_of_channels_that_a_model_does_not_use(folder, exact):
    """They lie around zero, on either side."""
    with torch.no_grad():
        exact.z_gain.knots[:, 1] = -0.001
    save(exact, folder / "tiny.safetensors", {})
    assert float(load_model(describe(folder / "tiny.safetensors")).model.z_gain.knots[0, 1]) < 0


def test_a_gain_is_measured_between_the_knots_too(folder, exact):
    """Here it passes through zero at level 30."""
    exact.config = replace(exact.config, levels=61)
    with torch.no_grad():
        exact.y_gain.knots[2, 0] = -1.0
        exact.y_gain.knots[3, 0] = 1.0
    save(exact, folder / "tiny.safetensors", {})
    with pytest.raises(WeightsError, match="y has a gain"):
        load_model(describe(folder / "tiny.safetensors"))


def test_a_layer_with_hardly_any_weights_is_exact_after_loading(folder, build, tiny):
    """Its integers are small, for a unit has no more than 24 binary places; the file must not claim finer ones."""
    model = build(tiny)
    name, *_, module = next(found for found in convolutions(model) if found[3].kernel_size == (3, 3))
    with torch.no_grad():
        module.weight[:2] = 3 * 2.0**-24
        module.bias[:2] = 0.5
    made = make_exact(model, [(torch.rand(1, 3, 64, 64), torch.tensor([3]))])
    save(made, folder / "a.safetensors", {})
    loaded = load_model(describe(folder / "a.safetensors")).model
    assert torch.equal(loaded.get_parameter(f"{name}.weight"), made.get_parameter(f"{name}.weight"))


PACKS = """
import sys
import numpy as np
from hpcm.model.storage import pack
metadata = {key: f"{key} of größe" for key in ("name", "hpcm", "provenance", "config", "another")}
sys.stdout.buffer.write(pack({"weight": np.ones((2, 3), np.float32), "bias": np.zeros(2, np.float32)}, metadata))
"""


def test_processes_write_the_same_bytes():
    """safetensors alone orders metadata by a hash that each process draws anew."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    written = {subprocess.check_output([sys.executable, "-c", PACKS], env=environment) for _ in range(3)}
    (data,) = written
    stored = storage.unpack(data, "packed")
    assert stored.parameters["weight"].shape == (2, 3)
    (size,) = struct.unpack_from("<Q", data)
    assert size % storage.HEADER_ALIGNMENT == 0
    metadata = json.loads(data[8 : 8 + size])["__metadata__"]
    assert list(metadata) == sorted(metadata)
    assert metadata["name"] == "name of größe"


def test_saving_is_whole_or_not_at_all(folder, build, tiny, monkeypatch):
    path = folder / "tiny.safetensors"
    save(build(tiny), path, {})
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)  # as a full disk answers when the file is flushed
    with pytest.raises(OSError, match=os.strerror(28)):
        save(build(replace(tiny, prior_width=24)), path, {})
    assert path.read_bytes() == before
    assert os.listdir(folder) == ["tiny.safetensors"]
