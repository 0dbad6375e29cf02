"""Generalised linear models on shares, by SPU's simulator, against scikit-learn in the clear."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

pytest.importorskip("spu")

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_steps import on_shares
from sklearn import datasets
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor
from sklearn.metrics import log_loss, roc_auc_score

from sealtrace.algorithms.learning import elementary, glm, linear

jax.config.update("jax_enable_x64", True)


def test_an_exponential_is_right_to_eight_digits_from_minus_eight_on():
    exponents = np.linspace(-8, 8, 801)
    np.testing.assert_allclose(on_shares(elementary.exp, exponents), np.exp(exponents), rtol=2e-8)


def test_a_sigmoid_and_its_integral_are_right_to_six_digits_however_far_out():
    values = np.linspace(-100, 100, 801)
    target = (np.arange(801) % 3 == 0).astype(float)
    chance = 1 / (1 + np.exp(-values))
    apart, slope, loss = on_shares(elementary.logistic, values, target)
    np.testing.assert_allclose(on_shares(elementary.sigmoid, values), chance, atol=5e-7)
    np.testing.assert_allclose(apart, chance - target, atol=5e-7)
    np.testing.assert_allclose(slope, chance * (1 - chance), atol=5e-7)
    np.testing.assert_allclose(loss, np.logaddexp(0, values) - target * values, atol=5e-7)


def test_an_inverse_root_is_right_to_six_digits_from_a_millionth_on():
    values = np.geomspace(1e-6, 1e4, 801)
    np.testing.assert_allclose(on_shares(elementary.inverse_root, values), values**-0.5, rtol=1e-6)


def solved(matrix: Any, right: Any) -> Any:
    return linear.solved(matrix, right, linear.scale_of(matrix))


@pytest.mark.parametrize(("size", "condition"), [(1, 1.0), (8, 1e2), (51, 1e4), (20, 1e6)])
def test_equations_are_solved_to_five_digits_up_to_a_condition_of_a_million(size, condition):
    chance = np.random.default_rng(size)
    turned, _ = np.linalg.qr(chance.normal(size=(size, size)))
    matrix = (turned * np.geomspace(1 / condition, 1, size)) @ turned.T
    wanted = chance.normal(size=size)
    found = on_shares(solved, matrix, matrix @ wanted)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_equations_that_say_the_same_twice_get_the_shortest_solution():
    matrix = np.array([[2.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    right = np.array([3.0, 2.0, 2.0])
    shortest = np.linalg.pinv(matrix) @ right
    np.testing.assert_allclose(on_shares(solved, matrix, right), shortest, atol=1e-4)


# --- models


def standard(values: Any) -> Any:
    return (values - values.mean(axis=0)) / values.std(axis=0)


def fitted(
    matrix: Any, target: Any, how: glm.Settings, weight: Any = None, train: int = 0, **run: Any
) -> Any:
    train = train or len(target)
    arrays = [matrix, target] if weight is None else [matrix, target, weight]
    found = on_shares(lambda m, t, w=None: tuple(glm.fit(m, t, w, train, how)), *arrays, **run)
    return glm.Fitted(*map(np.asarray, found))


def close_to(found: glm.Fitted, weights: Any, intercept: float, rel: float = 1e-2) -> None:
    np.testing.assert_allclose(found.weights, weights, rtol=rel, atol=1e-4)
    np.testing.assert_allclose(found.intercept[0], intercept, rtol=rel, atol=1e-4)


def credit_like(rows: int = 400) -> tuple[Any, Any]:
    """Amounts, months, ages and kinds, of which default depends by a logistic model."""
    chance = np.random.default_rng(7)
    amount, months = chance.lognormal(8, 0.7, rows), chance.integers(4, 72, rows)
    age, kinds = chance.uniform(19, 75, rows), chance.integers(0, 4, rows)
    hot = (kinds[:, None] == np.arange(1, 4)).astype(float)
    matrix = standard(np.column_stack([amount, months, age, hot]))
    score = matrix @ np.array([0.4, 0.7, -0.5, 0.3, -0.4, 0.0]) - 0.8
    return matrix, (chance.uniform(size=rows) < 1 / (1 + np.exp(-score))).astype(float)


IRLS = glm.Settings("logistic", "irls", iterations=12, l2=0.01)


def test_logistic_regression_on_breast_cancer_is_scikit_learns():
    table, target = datasets.load_breast_cancer(return_X_y=True)
    matrix, target = standard(table), target.astype(float)
    found = fitted(matrix, target, IRLS)
    wanted = LogisticRegression(C=1 / (0.01 * len(target)), tol=1e-9, max_iter=5000).fit(matrix, target)
    close_to(found, wanted.coef_[0], wanted.intercept_[0])
    score = matrix @ found.weights + found.intercept
    assert abs(roc_auc_score(target, score) - roc_auc_score(target, wanted.decision_function(matrix))) < 0.005
    assert (found.converged, found.fits) == (1, 1)
    assert found.loss == pytest.approx(log_loss(target, wanted.predict_proba(matrix)), rel=1e-3)


def test_rows_that_are_held_out_change_no_weight_and_get_a_loss_of_their_own():
    matrix, target = credit_like()
    found = fitted(matrix, target, IRLS, train=300)
    wanted = LogisticRegression(C=1 / 3.0, tol=1e-9).fit(matrix[:300], target[:300])
    close_to(found, wanted.coef_[0], wanted.intercept_[0])
    assert found.held_out == pytest.approx(
        log_loss(target[300:], wanted.predict_proba(matrix[300:])), rel=1e-3
    )


def test_a_row_of_weight_two_counts_as_two_rows():
    matrix, target = credit_like()
    weight = np.where(target > 0, 2.0, 0.5)
    weight /= weight.mean()
    wanted = LogisticRegression(C=1 / (0.01 * 400), tol=1e-9).fit(matrix, target, sample_weight=weight)
    close_to(fitted(matrix, target, IRLS, weight=weight), wanted.coef_[0], wanted.intercept_[0])


def test_linear_regression_on_diabetes_is_scikit_learns():
    table, target = datasets.load_diabetes(return_X_y=True)
    matrix, target = standard(table), (target - 186) / 186
    found = fitted(matrix, target, glm.Settings("linear", "irls", iterations=3))
    wanted = LinearRegression().fit(matrix, target)
    close_to(found, wanted.coef_, wanted.intercept_)


def test_poisson_regression_is_scikit_learns():
    matrix, _ = credit_like()
    mean = np.exp(matrix @ np.array([0.3, 0.2, -0.4, 0.1, 0.0, 0.2]) + 1.5)
    target = np.random.default_rng(3).poisson(mean).astype(float)
    found = fitted(matrix, target, glm.Settings("poisson", "irls", iterations=12, l2=0.01))
    wanted = PoissonRegressor(alpha=0.01, tol=1e-9, max_iter=1000).fit(matrix, target)
    close_to(found, wanted.coef_, wanted.intercept_)


def test_gradient_descent_ranks_as_well_as_the_exact_fit():
    matrix, target = credit_like()
    how = glm.Settings("logistic", "sgd", iterations=15, l2=0.01, learning_rate=0.05)
    found = fitted(matrix, target, how)
    in_the_clear = glm.fit(matrix, target, None, 400, how)
    np.testing.assert_allclose(found.weights, in_the_clear.weights, atol=1e-4)
    exact = LogisticRegression(C=1 / 4.0).fit(matrix, target).decision_function(matrix)
    score = matrix @ found.weights + found.intercept
    assert abs(roc_auc_score(target, score) - roc_auc_score(target, exact)) < 0.005


def test_a_fit_that_has_converged_stays_as_it_is():
    matrix, target = credit_like()
    few, many = (fitted(matrix, target, dataclasses.replace(IRLS, iterations=turns)) for turns in (3, 20))
    assert (few.converged, few.iterations) == (0, 3)
    assert many.converged == 1
    assert many.iterations < 10


def test_a_descent_that_runs_away_is_known_to_fit_worse_than_an_intercept():
    matrix, target = credit_like()
    how = glm.Settings("logistic", "sgd", iterations=3, learning_rate=100.0)
    assert fitted(matrix, target, how).fits == 0


def overfitting() -> tuple[Any, Any]:
    """12 features that tell little of 40 training rows, and 200 rows held out."""
    chance = np.random.default_rng(21)
    matrix = chance.normal(size=(240, 12))
    return matrix, (chance.uniform(size=240) < 1 / (1 + np.exp(-matrix[:, 0]))).astype(float)


def test_the_weights_of_the_epoch_with_the_least_held_out_loss_are_kept():
    matrix, target = overfitting()
    how = glm.Settings("logistic", "sgd", iterations=6, learning_rate=0.2, batch=20, best=True)
    found = fitted(matrix, target, how, train=40)
    epochs = [
        glm.fit(matrix, target, None, 40, dataclasses.replace(how, iterations=turns, best=False))
        for turns in range(1, 7)
    ]
    best = min(epochs, key=lambda each: float(each.held_out))
    assert best is not epochs[-1]
    np.testing.assert_allclose(found.weights, best.weights, atol=1e-4)
    assert found.held_out == pytest.approx(float(best.held_out), abs=1e-5)
    assert (found.iterations, found.converged) == (6, 0)


def test_of_a_descent_that_runs_away_the_start_is_kept():
    matrix, target = credit_like()
    how = glm.Settings("logistic", "sgd", iterations=3, learning_rate=1e6, best=True)
    found = fitted(matrix, target, how, train=300)
    np.testing.assert_allclose(found.weights, 0, atol=1e-9)
    assert found.fits == 0


@pytest.mark.parametrize("event", [0.0, 1.0])
def test_no_model_fits_events_of_one_class(event):
    matrix, _ = credit_like(100)
    found = fitted(matrix, np.full(100, event), dataclasses.replace(IRLS, iterations=6))
    assert found.fits == 0


def test_two_parties_under_cheetah_fit_the_same_model():
    matrix, target = credit_like(60)
    how = glm.Settings("logistic", "irls", iterations=6, l2=0.05)
    found = fitted(matrix[:, :3], target, how, protocol="CHEETAH")
    wanted = LogisticRegression(C=1 / 3.0, tol=1e-9).fit(matrix[:, :3], target)
    close_to(found, wanted.coef_[0], wanted.intercept_[0])


@settings(max_examples=6, deadline=None)
@given(rows=st.integers(20, 120), columns=st.integers(1, 8), seed=st.integers(0, 1000))
def test_whatever_its_shape_a_penalised_fit_is_scikit_learns(rows, columns, seed):
    chance = np.random.default_rng(seed)
    matrix = standard(chance.normal(size=(rows, columns)))
    target = (chance.uniform(size=rows) < 1 / (1 + np.exp(-matrix[:, 0]))).astype(float)
    target[:2] = 0, 1
    found = fitted(matrix, target, dataclasses.replace(IRLS, l2=0.05))
    wanted = LogisticRegression(C=1 / (0.05 * rows), tol=1e-10, max_iter=1000).fit(matrix, target)
    close_to(found, wanted.coef_[0], wanted.intercept_[0])
