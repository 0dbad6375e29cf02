"""k-means on shares, against the same function in the clear and scikit-learn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("spu")

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_steps import on_shares, program, taken, train
from sklearn import cluster, datasets

from sealtrace.algorithms.learning import choosing, clusters

jax.config.update("jax_enable_x64", True)
GROUPING = clusters.Grouping(clusters=3, iterations=10, starts=2, seed=1, tolerance=1e-4)


def grouped(matrix: Any, grouping: clusters.Grouping, **how: Any) -> tuple[Any, ...]:
    def fit(matrix: Any) -> Any:
        found = clusters.fit(matrix, grouping)
        return found.centres, found.sizes, found.inertia, found.used

    return tuple(map(np.asarray, on_shares(fit, matrix, **how)))


def encoded(values: Any) -> Any:
    low, high = values.min(axis=0), values.max(axis=0)
    return (values - low) / (high - low) * 2 - 1


def to_nearest(matrix: Any, centres: Any) -> Any:
    """(rows, clusters): squared distances, by numpy."""
    return ((matrix[:, None] - centres[None]) ** 2).sum(axis=2)


def few_digits() -> Any:
    """300 written digits, without the pixels that hardly vary."""
    values = datasets.load_digits().data[:300]
    return values[:, values.std(axis=0) > 4]


TABLES = [(datasets.load_iris().data, 3), (datasets.load_breast_cancer().data, 4), (few_digits(), 5)]


@pytest.mark.parametrize(("table", "count"), TABLES, ids=["iris", "breast cancer", "digits"])
def test_inertia_is_within_two_percent_of_scikit_learns_best_of_ten(table, count):
    matrix = encoded(table)
    centres, sizes, inertia, _ = grouped(matrix, replace(GROUPING, clusters=count))
    best = cluster.KMeans(count, n_init=10, random_state=0).fit(matrix)
    assert best.inertia_ * (1 - 1e-6) <= float(inertia) <= best.inertia_ * 1.02
    assert float(inertia) == pytest.approx(to_nearest(matrix, centres).min(axis=1).sum(), rel=1e-6)
    assert sizes.round().sum() == len(matrix)


@settings(max_examples=5, deadline=None, derandomize=True)
@given(st.integers(6, 40), st.integers(1, 5), st.integers(2, 5), st.integers(1, 3), st.integers(0, 2**32))
def test_tables_of_any_shape_are_grouped_as_in_the_clear(rows, width, count, starts, seed):
    matrix = np.random.default_rng(seed).uniform(-1, 1, (rows, width))
    grouping = clusters.Grouping(count, 4, starts, seed % 1000, 1e-6)
    centres, sizes, inertia, used = grouped(matrix, grouping)
    clear = clusters.fit(matrix, grouping)
    np.testing.assert_allclose(centres, clear.centres, atol=1e-5)
    np.testing.assert_allclose(sizes, clear.sizes, atol=1e-6)
    assert float(inertia) == pytest.approx(float(clear.inertia), abs=1e-4)
    assert float(used) == pytest.approx(float(clear.used))


def test_an_empty_cluster_keeps_its_centre_and_converged_starts_stand_still():
    matrix = np.repeat([[0.5, -0.5], [-0.5, 0.5]], 6, axis=0)
    centres, sizes, inertia, used = grouped(matrix, GROUPING)
    assert sorted(sizes.round()) == [0, 6, 6]
    assert {tuple(each) for each in centres.round(4)} == {(0.5, -0.5), (-0.5, 0.5)}
    assert float(inertia) == pytest.approx(0, abs=1e-6)
    assert float(used) == 1


def test_two_parties_group_alike():
    matrix = encoded(datasets.load_iris().data)[::5]
    grouping = replace(GROUPING, iterations=3, starts=1)
    centres, *_ = grouped(matrix, grouping, protocol="CHEETAH")
    np.testing.assert_allclose(centres, clusters.fit(matrix, grouping).centres, atol=1e-5)


def test_rows_are_assigned_to_the_nearest_centre():
    chance = np.random.default_rng(2)
    matrix, centres = chance.uniform(-1, 1, (50, 3)), chance.uniform(-1, 1, (5, 3))
    found = on_shares(clusters.assigned, matrix, centres)
    np.testing.assert_allclose(found, to_nearest(matrix, centres).argmin(axis=1), atol=1e-6)


def test_of_equal_values_the_first_is_chosen():
    values = np.array([[3.0, 1, 1, 1, 2], [5, 5, 5, 5, 5], [2, 1, 0, 0, 9]])
    np.testing.assert_allclose(on_shares(choosing.least, values), np.eye(5)[[1, 0, 2]], atol=1e-9)
    np.testing.assert_allclose(on_shares(choosing.largest, values), np.eye(5)[[0, 0, 4]], atol=1e-9)


# --- the step


def step(**more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    chance = np.random.default_rng(3)
    groups = np.repeat([[0.8, 0.8], [-0.8, 0.0], [0.5, -0.9]], [12, 11, 3], axis=0)
    matrix = np.concatenate([groups + chance.normal(0, 0.02, (26, 2)), np.ones((4, 2))])
    arrays = {"matrix": matrix, "shift": np.zeros(2), "scale": np.ones(2)}
    return {**taken(26, **arrays), "iterations": 5, "starts": 2, **more}, arrays


def test_a_step_suppresses_small_clusters_and_hands_all_centres_on():
    params, arrays = step(reveal="centres")
    result, model = train("k-means", params, **arrays)
    assert result["rows"] == 26
    assert sorted(each["rows"] or 0 for each in result["clusters"]) == [0, 11, 12]
    (small,) = [each for each in result["clusters"] if each["suppressed"]]
    assert small == {"rows": None, "suppressed": True, "centre": None}
    (large,) = [each for each in result["clusters"] if each["rows"] == 12]
    assert large["centre"] == pytest.approx({"f0": 0.8, "f1": 0.8}, abs=0.03)
    assert to_nearest(np.array([[0.5, -0.9]]), model["centres"]).min() < 0.01
    assert list(model) == ["centres", "shift", "scale"]
    assert program("k-means").outputs({**params, "reveal": "summary"}) == ["sizes", "inertia", "used"]


BAD = [
    ({"clusters": 1}, "clusters: a whole number from 2 to 32"),
    ({"tolerance": "small"}, "tolerance: a number from 0 to 1"),
    ({"seed": True}, "seed: a whole number from 0 to"),
    ({"k": 3}, "params.k is not known; there are clusters"),
]


@pytest.mark.parametrize(("change", "said"), BAD)
def test_settings_that_make_no_sense_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        program("k-means").check(change, [])


UNFIT = [
    ({"train": 9}, "there are 9 training rows, 10 are needed"),
    ({"weighted": True}, "this model takes no weights; leave weight and balance out"),
    ({"rows": 1 << 26}, "with these settings 22369621 fit in memory"),
]


@pytest.mark.parametrize(("change", "said"), UNFIT)
def test_features_that_cannot_be_grouped_are_refused(change, said):
    params, _ = step()
    params["taken"]["features"]["about"] |= change
    with pytest.raises(ValueError, match=said):
        program("k-means").rows(params, {})


def test_fewer_rows_than_clusters_are_refused():
    params, _ = step(clusters=30)
    with pytest.raises(ValueError, match="there are 26 training rows, 30 are needed"):
        program("k-means").rows(params, {})
