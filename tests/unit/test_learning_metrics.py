"""Metrics of secret scores, run on shares by SPU's simulator, against scikit-learn in the clear."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("spu")

import jax
import numpy as np
import spu
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from spu.utils import frontend
from spu.utils.simulation import Simulator

from sealtrace.algorithms.learning import metrics

PARTIES = {"ABY3": 3, "CHEETAH": 2}
ROWS, LEAST_GROUP = 700, 5


def on_shares(function: Any, *arrays: Any, protocol: str = "ABY3") -> list[Any]:
    """What ``function`` makes of secret ``arrays``, opened."""
    jax.config.update("jax_enable_x64", True)
    names, secret = [f"in{at}" for at in range(len(arrays))], spu.Visibility.VIS_SECRET
    specs = [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in arrays]
    executable, _ = frontend.compile(
        frontend.Kind.JAX, function, specs, {}, names, [secret] * len(arrays),
        lambda found: [f"out{at}" for at in range(len(found))],
    )  # fmt: skip
    kind, field = spu.parse_protocol_kind(protocol), spu.parse_field_type("FM128")
    config = spu.RuntimeConfig(protocol=kind, field=field, fxp_fraction_bits=40)
    return list(Simulator(PARTIES[protocol], config)(executable, *arrays))


def drawn(rows: int, seed: int = 3, decimals: int = 2) -> tuple[Any, Any, Any]:
    """Scores with many ties, an indicator that follows them, and weights of mean about 1."""
    rng = np.random.default_rng(seed)
    score = np.round(rng.beta(1, 4, rows), decimals)
    return score, (rng.random(rows) < score).astype(float), rng.random(rows) * 2


def weights(weighted: bool, weight: Any) -> list[Any]:
    return [weight] if weighted else []


def ranking_of(score: Any, target: Any, weight: Any = None) -> tuple[Any, ...]:
    found = metrics.classes(target, weight)
    return (*metrics.area_and_gap(metrics.ranked(score, found)), *found.totals)


# --- the order of the scores


@pytest.mark.parametrize("weighted", [False, True])
def test_the_area_under_the_curve_is_scikit_learns_though_many_scores_tie(weighted):
    score, target, weight = drawn(ROWS)
    area, gap, events, others = on_shares(ranking_of, score, target, *weights(weighted, weight))
    sample_weight = weight if weighted else None
    wanted = sk.roc_auc_score(target, score, sample_weight=sample_weight)
    false, true, _ = sk.roc_curve(target, score, sample_weight=sample_weight)
    assert area / 2 / (events * others) == pytest.approx(wanted, abs=1e-9)
    assert gap / (events * others) == pytest.approx(np.abs(true - false).max(), abs=1e-9)


@pytest.mark.parametrize(
    ("score", "area"),
    [([0.5] * 6, 0.5), ([0.9, 0.8, 0.7, 0.3, 0.2, 0.1], 1.0), ([0.1, 0.2, 0.3, 0.7, 0.8, 0.9], 0.0)],
    ids=["all tie", "all right", "all wrong"],
)
def test_the_area_is_right_at_its_ends(score, area):
    target = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    twice, gap, events, others = on_shares(ranking_of, np.array(score), target)
    assert (twice / 2 / (events * others), gap / (events * others)) == (area, abs(2 * area - 1))


def test_scores_that_differ_by_the_noise_of_sharing_are_ties():
    score = 0.25 + np.random.default_rng(5).normal(0, 2.0**-36, 64)
    target = (np.arange(64) % 3 == 0).astype(float)
    twice, gap, events, others = on_shares(ranking_of, score, target)
    assert (twice / 2 / (events * others), gap) == (0.5, 0)


@settings(max_examples=12, deadline=None)
@given(st.integers(2, 40), st.integers(0, 10_000), st.booleans())
def test_of_any_few_rows_the_area_is_scikit_learns(rows, seed, weighted):
    score, target, weight = drawn(rows, seed, decimals=1)
    target[0], target[1] = 0.0, 1.0
    weight += 0.1
    twice, _, events, others = on_shares(ranking_of, score, target, *weights(weighted, weight))
    wanted = sk.roc_auc_score(target, score, sample_weight=weight if weighted else None)
    assert twice / 2 / (events * others) == pytest.approx(wanted, abs=1e-8)


@pytest.mark.parametrize("length", [1, 2, 7, 33])
def test_running_sums_and_latest_marked_values_are_those_of_a_loop(length):
    rng = np.random.default_rng(length)
    values, marks = rng.integers(0, 9, length), rng.integers(0, 2, length)
    sums, latest = on_shares(lambda v, m: (metrics.running_sum(v), metrics.latest(v, m)), values, marks)
    wanted, last = [], 0
    for value, mark in zip(values, marks, strict=True):
        last = value if mark else last
        wanted.append(last)
    assert sums.tolist() == np.cumsum(values).tolist()
    assert latest.tolist() == wanted


# --- tables


@pytest.mark.parametrize("weighted", [False, True])
def test_a_confusion_matrix_is_scikit_learns(weighted):
    score, target, weight = drawn(ROWS)

    def cells(score: Any, target: Any, weight: Any = None) -> tuple[Any]:
        return (metrics.confusion(score, metrics.classes(target, weight), 0.305, LEAST_GROUP),)

    (found,) = on_shares(cells, score, target, *weights(weighted, weight))
    wanted = sk.confusion_matrix(target, score >= 0.305, sample_weight=weight if weighted else None)
    by_class = found.T  # ours has a row for each answer
    np.testing.assert_allclose(by_class, wanted, atol=1e-8)


@pytest.mark.parametrize(("small", "shown"), [(0, True), (1, False), (4, False), (5, True)])
def test_a_confusion_matrix_with_a_small_cell_is_all_zero_and_an_empty_cell_is_not_small(small, shown):
    target = np.array([1.0] * 20 + [0.0] * 20)
    score = np.array([0.9] * 20 + [0.9] * small + [0.1] * (20 - small))

    def cells(score: Any, target: Any) -> tuple[Any]:
        return (metrics.confusion(score, metrics.classes(target, None), 0.5, LEAST_GROUP),)

    (found,) = on_shares(cells, score, target)
    assert found.tolist() == ([[20 - small, 0], [small, 20]] if shown else [[0, 0], [0, 0]])


@pytest.mark.parametrize("weighted", [False, True])
def test_a_table_by_ranked_bins_counts_what_sorting_in_the_clear_counts(weighted):
    score, target, weight = drawn(ROWS, decimals=6)
    weight = weight if weighted else np.ones(ROWS)
    edges = [0, 80, 175, 262, 350, 438, 525, 612, ROWS]

    def parts(score: Any, target: Any, weight: Any = None) -> tuple[Any, ...]:
        ranking = metrics.ranked(score, metrics.classes(target, weight))
        return tuple(
            metrics.table(ranking, edges, LEAST_GROUP)[each] for each in ("kept", "events", "scores")
        )

    kept, events, scores = on_shares(parts, score, target, *weights(weighted, weight))
    order = np.argsort(-score, kind="stable")
    for at in range(8):
        rows = order[edges[at] : edges[at + 1]]
        small = any(0 < count < LEAST_GROUP for count in (target[rows].sum(), (1 - target[rows]).sum()))
        assert kept[at] == (not small)
        assert events[at] == pytest.approx(0 if small else (target * weight)[rows].sum(), abs=1e-8)
        assert scores[at] == pytest.approx(0 if small else (score * weight)[rows].sum(), abs=1e-4)
    assert 0 < kept.sum() < 8  # both happen in this table


@pytest.mark.parametrize(("positives", "both"), [(0, 0), (4, 0), (5, 1), (15, 1), (16, 0), (20, 0)])
def test_a_class_with_too_few_rows_is_told_apart_on_shares(positives, both):
    target = (np.arange(20) < positives).astype(float)
    found = on_shares(lambda y: (metrics.both_classes(metrics.classes(y, None), LEAST_GROUP),), target)
    assert found == [both]


# --- sums


@pytest.mark.parametrize("weighted", [False, True])
def test_log_loss_is_scikit_learns_and_a_sure_error_costs_at_most_20_bits(weighted):
    score, target, weight = drawn(ROWS)
    score[:4], target[:4] = [0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0]

    def loss(score: Any, target: Any, weight: Any = None) -> tuple[Any]:
        return (metrics.log_loss(score, metrics.classes(target, weight)),)

    (found,) = on_shares(loss, score, target, *weights(weighted, weight))
    weight = weight if weighted else np.ones(ROWS)
    clipped = np.clip(score, 2.0**-20, 1 - 2.0**-20)
    assert found / weight.sum() == pytest.approx(sk.log_loss(target, clipped, sample_weight=weight), abs=1e-6)


def sums(score: Any, target: Any, weight: Any = None) -> tuple[Any, ...]:
    taken = (metrics.squared_error, metrics.absolute_error)
    return (*(each(score, target, weight) for each in taken), metrics.spread(target, weight))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", [1.0, 900.0])
def test_errors_and_spread_of_numbers_are_scikit_learns(size, weighted):
    rng = np.random.default_rng(8)
    target, weight = size * rng.uniform(0, 1, ROWS), rng.random(ROWS) * 2
    score = target + size * rng.normal(0, 0.1, ROWS)
    squared, absolute, spread = on_shares(sums, score, target, *weights(weighted, weight))
    weight = weight if weighted else np.ones(ROWS)
    total, more = weight.sum(), {"sample_weight": weight}
    assert squared / total == pytest.approx(sk.mean_squared_error(target, score, **more), rel=1e-7)
    assert absolute / total == pytest.approx(sk.mean_absolute_error(target, score, **more), rel=1e-7)
    assert 1 - squared / spread == pytest.approx(sk.r2_score(target, score, **more), abs=1e-7)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_deviance_of_counts_is_scikit_learns_from_none_to_a_thousand(weighted):
    rng = np.random.default_rng(9)
    score, weight = np.exp(rng.uniform(-4, 6.9, ROWS)), rng.random(ROWS) * 2
    target = np.minimum(rng.poisson(score), 1000).astype(float)
    assert target.min() == 0
    assert target.max() > 800
    given_ = weights(weighted, weight)
    (found,) = on_shares(
        lambda *a: (metrics.poisson_deviance(*(a if weighted else (*a, None))),), score, target, *given_
    )
    weight = weight if weighted else np.ones(ROWS)
    wanted = sk.mean_poisson_deviance(target, score, sample_weight=weight)
    assert 2 * found / weight.sum() == pytest.approx(wanted, rel=1e-4)


def test_two_parties_compute_the_same_as_three():
    score, target, _ = drawn(120)

    def some(score: Any, target: Any) -> tuple[Any, ...]:
        found = metrics.classes(target, None)
        return (*ranking_of(score, target), metrics.log_loss(score, found), metrics.spread(score, None))

    two, three = (on_shares(some, score, target, protocol=each) for each in ("CHEETAH", "ABY3"))
    assert two[:4] == three[:4]
    assert [float(each) for each in two[4:]] == pytest.approx([float(each) for each in three[4:]], rel=1e-6)
