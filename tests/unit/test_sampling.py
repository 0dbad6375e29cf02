"""Sampling of MPC steps: in a child process, for so long, at growing sizes."""

from __future__ import annotations

import json
import time

import pytest

from sealtrace.algorithms.bundles import load, shipped
from sealtrace.algorithms.estimating import COMPUTE, PROGRAM, TURNS, shares_of
from sealtrace.algorithms.sampling import LARGEST, SampledStep, collected, sampled, sizes

NAMES = ("bank", "shop", "town")


def step(id: str = "stats", name: str = "statistics", rows: int = 200, **changes) -> SampledStep:
    bundle = load(shipped()[name])
    params = {
        "columns": {each: {"kind": "number", "input": each, "column": "amount"} for each in NAMES},
        "requests": {"linked": {"measure": "correlation", "of": list(NAMES)}},
        "min_group": 5,
    }
    words = {
        "id": id,
        "bundle": str(bundle.folder),
        "algorithm": bundle.digest,
        "protocol": "ABY3",
        "computing": 3,
        "inputs": dict.fromkeys(NAMES, rows),
        "params": params,
    }
    return SampledStep(**{**words, **changes})


def test_samples_grow_by_quarters_up_to_the_rows_themselves():
    assert sizes(10_000) == [625, 2_500, 10_000]
    assert sizes(300) == [300]


def test_of_many_rows_samples_stay_small_and_three_at_the_least():
    for rows in (20_001, 1_000_000, 123_456_789):
        assert sizes(rows)[-1] <= LARGEST
        assert len(sizes(rows)) >= 3


def test_a_sample_said_only_in_part_when_time_was_up_is_none():
    whole = json.dumps({"step": "a", "rows": 10, "seen": {PROGRAM: 1.0}}).encode()
    found = collected(["a", "b"], whole + b"\n" + whole[:20], "time is up")
    assert [each.rows for each in found.samples["a"]] == [10]
    assert found.why == {"b": "time is up"}


def test_a_step_that_has_samples_needs_no_reason():
    said = json.dumps({"step": "a", "rows": 10, "seen": {}}).encode() + b"\n"
    assert collected(["a"], said, "time is up").why == {}


def test_a_reason_of_the_child_s_own_comes_before_that_time_was_up():
    said = json.dumps({"step": "a", "why": "no engine"}).encode() + b"\n"
    assert collected(["a"], said, "time is up").why == {"a": "no engine"}


def test_sampling_ends_when_its_time_is_up_and_says_so():
    began = time.monotonic()
    found = sampled([step(rows=1_000_000)], 0.05)
    assert time.monotonic() - began < 5
    assert found.why == {"stats": "it could not be sampled within 0.05 s"}


def test_without_steps_nothing_is_started():
    assert sampled([], 0.0).samples == {}


def test_a_child_without_the_engine_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "spu").mkdir()
    (tmp_path / "spu" / "__init__.py").write_text("raise ImportError('spu')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert "pip install 'sealtrace[mpc]'" in sampled([step()], 60).why["stats"]


def test_a_step_is_sampled_by_all_its_parties_in_the_engine():
    pytest.importorskip("spu")
    (found,) = sampled([step()], 120).samples["stats"]
    assert found.rows == 200
    assert found.seen[PROGRAM] > 0
    assert found.seen[TURNS] >= 2
    assert found.seen[COMPUTE] > 0
    # ABY3: two ring elements of 16 bytes for each number, to each other party
    assert found.seen[shares_of("bank")] == pytest.approx(200 * 32, rel=0.1)


def test_steps_that_refuse_so_few_rows_say_so_in_the_algorithm_s_words():
    pytest.importorskip("spu")
    found = sampled([step(inputs={"bank": 200, "shop": 300, "town": 200})], 120)
    assert "align" in found.why["stats"]
    assert not found.samples


def test_a_step_that_uses_values_is_sampled_on_what_earlier_steps_describe():
    pytest.importorskip("spu")
    numbers = {
        each: {"kind": "number", "input": each, "column": each, "low": 0, "high": 1} for each in NAMES[1:]
    }
    target = {"kind": "indicator", "input": "bank", "column": "bad", "positive": "yes"}
    prepared = step("prepared", "features", params={"columns": {**numbers, "bad": target}, "target": "bad"})
    fit = step(
        "fit",
        "glm",
        params={"family": "logistic", "method": "sgd", "iterations": 1},
        uses={"features": ("prepared", "features")},
    )
    found = sampled([prepared, fit], 200)
    assert found.why == {}
    (seen,) = found.samples["fit"]
    assert seen.seen[TURNS] > 50
    assert seen.seen[shares_of("bank")] == 0


def test_a_step_that_uses_what_is_not_planned_says_which():
    pytest.importorskip("spu")
    fit = step("fit", "glm", params={"family": "logistic"}, uses={"features": ("prepared", "features")})
    assert "prepared.features" in sampled([fit], 120).why["fit"]
