"""What a manifest's schema says of a step's parameters."""

from __future__ import annotations

import pytest

from sealtrace.algorithms.bundles import load, shipped
from sealtrace.algorithms.checking import ParamsRefused, check_enclave_step
from sealtrace.algorithms.params_schema import why_not

TREES = load(shipped()["tee-xgboost"]).manifest
TRAIN = {"mode": "train", "join": "vertical", "features": [{"column": "amount", "scale": "standardise"}]}


def test_parameters_that_a_manifest_describes_pass():
    check_enclave_step(TREES, "HARDWARE", TRAIN, ["model"])
    check_enclave_step(TREES, "SIMULATED", {"mode": "predict"}, [])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mode": "tune"}, "mode: must be one of train, predict"),
        ({"mode": 1}, "mode: must be one of train, predict"),
        ({"rounds": 5}, "rounds: there is no such parameter; there are mode, join"),
        ({"train": {"rounds": 0}}, "train.rounds: must be at least 1"),
        ({"train": {"rounds": 2.5}}, "train.rounds: must be integer"),
        ({"train": {"rounds": True}}, "train.rounds: must be integer"),
        ({"train": []}, "train: must be object"),
        ({"test_share": 1}, "test_share: must be less than 1"),
        ({"features": []}, "features: needs at least 1 entries"),
        ({"features": [{"column": "a"}, {"scale": "normalise"}]}, "features.1: 'column' is missing"),
        ({"features": [{"column": "a", "bins": ["1"]}]}, "features.0.bins.0: must be number"),
    ],
)
def test_parameters_that_a_manifest_does_not_describe_are_refused_by_their_place(change, said):
    with pytest.raises(ParamsRefused) as refused:
        check_enclave_step(TREES, "HARDWARE", {**TRAIN, **change}, [])
    assert str(refused.value).startswith(said)


def test_a_step_that_no_enclave_runs_or_that_keeps_what_there_is_not_is_refused():
    with pytest.raises(ParamsRefused, match="does not run in an enclave under ABY3"):
        check_enclave_step(TREES, "ABY3", TRAIN, [])
    with pytest.raises(ParamsRefused, match="statistics does not run in an enclave"):
        check_enclave_step(load(shipped()["statistics"]).manifest, "HARDWARE", TRAIN, [])
    with pytest.raises(ParamsRefused, match="has no output 'weights' that could be kept"):
        check_enclave_step(TREES, "HARDWARE", TRAIN, ["model", "weights"])


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (1, {"maximum": 0}),
        (1, {"exclusiveMinimum": 1}),
        ([1, 2], {"maxItems": 1}),
        (None, {"type": ["string", "number"]}),
        ("1", {"type": "number"}),
    ],
)
def test_every_word_of_the_schema_that_is_understood_is_held(value, schema):
    assert why_not(value, schema) is not None


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (2.0, {"type": "integer"}),
        (None, {"type": ["null", "string"]}),
        ({"any": 1}, {"type": "object"}),
        ("text", {"description": "for people", "pattern": "^$"}),
        (0, {"minimum": 0, "maximum": 0}),
    ],
)
def test_what_a_schema_does_not_speak_against_passes(value, schema):
    assert why_not(value, schema) is None
