"""Configurations from names, JSON files and settings: what they become, their names, and errors in words."""

import contextlib
import json
from dataclasses import replace
from itertools import product

import pytest

from hpcm.errors import UsageError
from hpcm.model.config import BASE, BASE_PHI, LITE, MODELS, NANO, Config, Prior
from hpcm.model.variants import changed, changes, configuration, described, nearest, same_network


def write(path, values):
    path.write_text(json.dumps(values), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["steps=2,3,12"], {"steps": (2, 3, 12), "name": "base-steps-2.3.12"}),
        (["steps=[2, 3, 12]"], {"steps": (2, 3, 12), "name": "base-steps-2.3.12"}),
        (["hierarchy=false"], {"hierarchy": False, "name": "base-hierarchy-false"}),
        (["fusion=none"], {"fusion": "none", "name": "base-fusion-none"}),
        (['fusion="none"'], {"fusion": "none", "name": "base-fusion-none"}),
        (["fusion=psi", "name=mine"], {"fusion": "psi", "name": "mine"}),
        (["prior_coarse.before=1"], {"prior_coarse": Prior(1, 1), "name": "base-prior_coarse.before-1"}),
        (["prior_fine=null"], {"prior_fine": None, "name": "base-prior_fine-null"}),
        (
            ["prior_fine.tail=3", 'prior_fine={"before": 2, "after": 1}'],
            {"prior_fine": Prior(2, 1, 3), "name": "base-x8f270a36"},
        ),
        (
            ["hyper_analysis=[[2,320],[3,256]]"],
            {"hyper_analysis": ((2, 320), (3, 256)), "name": "base-hyper_analysis-2.320.3.256"},
        ),
        (["steps=2,3,6"], {}),
        ([], {}),
    ],
)
def test_settings(settings, expected):
    assert changed(BASE, settings) == replace(BASE, **expected)


def test_the_order_of_settings_does_not_matter():
    settings = ["steps=1,1,1", "hierarchy=false", "prior_width=64", "levels=8"]
    one, other = changed(NANO, settings), changed(NANO, settings[::-1])
    assert one == other
    assert one.name.startswith("nano-x")
    assert one.name != changed(NANO, settings[1:]).name


def test_a_changed_configuration_is_changed_again():
    mine = changed(NANO, ["steps=2,3,12", "name=mine"])
    assert changed(mine, []) == mine
    assert changed(mine, ["hierarchy=false"]).name == "mine-hierarchy-false"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["step=2,3,3"], r"there is no field step: did you mean steps\?; there are name, M, N"),
        (["prior_coarse.befor=1"], r"prior_coarse has no befor: did you mean before\?; it has before, after, tail"),
        (["prior_fine.before=1"], "prior_fine of nano has no parts; set it whole"),
        (["steps.fine=1"], "steps of nano has no parts$"),
        (['prior_coarse={"depth": 1}'], "prior_coarse has depth; it must have before, after, tail"),
        (["prior_coarse={}"], "prior_coarse has nothing; it must have before, after, tail"),
        (["steps"], "--set steps: write FIELD=VALUE"),
        (["steps=2,3,3", "steps=2,3,12"], "--set gives steps twice"),
        (["steps=2,3,5"], r"Config.steps is \(2, 3, 5\); it must be one of 1, 2, 4 on scale 1, one of 1, 3 on scale 2"),
        (["steps=2,3"], r"Config.steps is \(2, 3\)"),
        (["fusion=gated"], "Config.fusion is 'gated'; it must be one of attention, psi, none"),
        (["hierarchy=maybe"], "Config.hierarchy is 'maybe'; it must be true or false"),
        (["M=12"], "Config.M is 12; it must be a multiple of 8"),
        (["M=many"], "Config.M is 'many'; it must be a whole number from 1 to 8192"),
        (["M=256"], "Config.analysis is .* of width 256 at the latent"),
        (["analysis=3,128"], "Config.analysis is .* pairs of blocks"),
        (["levels=65"], "Config.levels is 65; it must be 1 to 64"),
        (["lambda_max=NaN"], "Config.lambda_max is nan; it must be positive and finite"),
        (["name=Mine"], "Config.name is 'Mine'; it must be 1 to 32 of a-z"),
        (["carrier=int8"], "Config.carrier is 'int8'"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(UsageError, match=message):
        changed(NANO, settings)


def test_no_value_ends_in_another_error():
    """Whatever stands there is a configuration or an error in words."""
    values = ("x", "-1", "[]", "{}", "null", "1e400", "[[1,2],[3,{}]]", "true,1", '""')
    for field, value in product(NANO.to_dict(), values):
        with contextlib.suppress(UsageError):
            assert isinstance(changed(NANO, [f"{field}={value}"]), Config)


def test_files(tmp_path):
    whole = write(tmp_path / "whole.json", replace(BASE_PHI, name="mine").to_dict())
    assert configuration(whole) == replace(BASE_PHI, name="mine")
    some = write(tmp_path / "some.json", {"base": "lite", "steps": [2, 3, 12], "prior_fine.before": 3})
    assert configuration(some) == changed(LITE, ["steps=2,3,12", "prior_fine.before=3"])
    assert configuration("nano") is NANO


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"M": 192}, r'lacks name, N, .*, lambda_max: give all fields, or "base" for the others'),
        ({"base": "bse"}, "base is 'bse'; it must be one of nano, lite"),
        ({"base": ["nano"]}, "base is .*; it must be one of nano, lite"),
        ({"base": "nano", "fusions": 1}, "there is no field fusions: did you mean fusion"),
        ({"base": "nano", "steps": [9, 9, 9]}, "Config.steps is"),
        ([1], "is no configuration, which is an object"),
    ],
)
def test_wrong_files(tmp_path, values, message):
    with pytest.raises(UsageError, match=message):
        configuration(write(tmp_path / "x.json", values))


def test_what_is_no_file(tmp_path):
    (tmp_path / "x.json").write_text("{")
    for path in ("x.json", "none.json"):
        with pytest.raises(UsageError, match=f"{path} can't be read as a configuration"):
            configuration(str(tmp_path / path))
    with pytest.raises(
        UsageError, match=r"there is no configuration 'nanno': did you mean nano\?; there are nano, lite"
    ):
        configuration("nanno")


def test_what_differs():
    assert described(changed(NANO, ["steps=2,3,12", "hierarchy=false", "name=mine"])) == (
        "nano with steps=2,3,12 hierarchy=false"
    )
    assert nearest(changed(BASE, ["fusion=psi"])) == ("base-phi", [])
    assert nearest(changed(BASE, ["fusion=none"])) == ("base", ["fusion=none"])
    assert described(replace(BASE, lambda_min=0.05)) == "base"
    assert described(replace(NANO, lambda_min=0.05)) == "nano with lambda_min=0.05"
    assert described(replace(NANO, carrier="float32", transforms="int32")) == "nano"
    assert same_network(replace(BASE, name="mine", lambda_min=16.64), BASE)
    assert not same_network(BASE, BASE_PHI)


@pytest.mark.parametrize("one", MODELS)
@pytest.mark.parametrize("other", MODELS)
def test_changes_make_the_other(one, other):
    """The settings that a difference is told by are settings that `--set` takes."""
    made = changed(MODELS[one], [*changes(MODELS[one], MODELS[other]), f"name={other}"])
    assert same_network(made, MODELS[other])
