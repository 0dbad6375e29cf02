"""Principal components on shares, against scikit-learn and numpy."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("spu")

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_steps import on_shares, program, taken, train
from sklearn import datasets, decomposition

from sealtrace.algorithms.learning import components

jax.config.update("jax_enable_x64", True)


def found_in(matrix: Any, count: int, **how: Any) -> tuple[Any, ...]:
    def fit(matrix: Any) -> Any:
        found = components.fit(matrix, count)
        return found.mean, found.axes, found.variance, found.total

    return tuple(map(np.asarray, on_shares(fit, matrix, **how)))


def encoded(values: Any) -> Any:
    low, high = values.min(axis=0), values.max(axis=0)
    return ((values - low) / np.where(high > low, high - low, 1)) * 2 - 1


TABLES = [(datasets.load_breast_cancer, 5), (datasets.load_digits, 4)]


@pytest.mark.parametrize(("load", "count"), TABLES)
def test_components_are_scikit_learns(load, count):
    matrix = encoded(load().data)[:600]
    mean, axes, variance, total = found_in(matrix, count)
    wanted = decomposition.PCA(count).fit(matrix)
    assert np.abs((axes.T * wanted.components_).sum(axis=1)).min() > 0.999999
    np.testing.assert_allclose(variance, wanted.explained_variance_, rtol=1e-6)
    np.testing.assert_allclose(variance / total, wanted.explained_variance_ratio_, rtol=1e-6)
    np.testing.assert_allclose(mean, matrix.mean(axis=0), atol=1e-9)
    assert (axes[np.abs(axes).argmax(axis=0), range(count)] > 0).all()


@settings(max_examples=5, deadline=None, derandomize=True)
@given(st.integers(3, 40), st.integers(1, 6), st.integers(1, 3), st.integers(0, 2**32))
def test_tables_of_any_shape_have_numpys_variances_along_orthogonal_axes(rows, width, count, seed):
    matrix = np.random.default_rng(seed).uniform(-1, 1, (rows, width))
    count = min(count, width, rows - 1)
    _, axes, variance, total = found_in(matrix, count)
    covariance = np.atleast_2d(np.cov(matrix.T))
    assert float(total) == pytest.approx(np.trace(covariance), rel=1e-6)
    np.testing.assert_allclose(variance, np.linalg.eigvalsh(covariance)[::-1][:count], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(axes.T @ axes, np.eye(count), atol=1e-5)


def test_where_no_variance_is_left_axes_are_zero():
    line = np.linspace(-1, 1, 20)
    matrix = np.stack([line, 0.5 * line, np.full(20, 0.25)], axis=1)
    _, axes, variance, total = found_in(matrix, 2)
    assert variance[0] == pytest.approx(float(total), rel=1e-6)
    assert variance[1] == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(axes[:, 0], np.array([2, 1, 0]) / np.sqrt(5), atol=1e-6)


def test_two_parties_find_the_same_axes():
    matrix = encoded(datasets.load_iris().data)[::3]
    _, axes, variance, _ = found_in(matrix, 2, protocol="CHEETAH")
    wanted = decomposition.PCA(2).fit(matrix)
    assert np.abs((axes.T * wanted.components_).sum(axis=1)).min() > 0.99999
    np.testing.assert_allclose(variance, wanted.explained_variance_, rtol=1e-5)


def test_rows_are_projected_on_the_axes():
    chance = np.random.default_rng(1)
    matrix, mean, axes = chance.normal(size=(20, 3)), chance.normal(size=3), chance.normal(size=(3, 2))
    found = on_shares(components.projected, matrix, mean, axes)
    np.testing.assert_allclose(found, (matrix - mean) @ axes, atol=1e-9)


# --- the step


def step(**more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    arrays = {"matrix": encoded(datasets.load_iris().data)[::3], "shift": np.ones(4), "scale": np.ones(4)}
    return {**taken(40, **arrays), **more}, arrays


def test_a_step_gives_secret_axes_and_shows_them_only_if_asked():
    params, arrays = step(reveal="model")
    result, model = train("pca", params, **arrays)
    wanted = decomposition.PCA(2).fit(arrays["matrix"][:40])
    assert result["rows"] == 40
    assert result["share"] == pytest.approx(wanted.explained_variance_ratio_.tolist(), rel=1e-6)
    assert result["variance"] == pytest.approx(wanted.explained_variance_.tolist(), rel=1e-6)
    assert [list(each) for each in result["axes"]] == [["f0", "f1", "f2", "f3"]] * 2
    assert list(model) == ["mean", "axes", "variance", "shift", "scale"]
    np.testing.assert_allclose(model["shift"], 1.0, atol=1e-9)
    assert list(program("pca").outputs({**params, "reveal": "summary"})) == ["variance", "total"]


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="components: a whole number from 1 to 64"):
        program("pca").check({"components": 0}, [])
    with pytest.raises(ValueError, match=r"params\.axes is not known; there are components, reveal"):
        program("pca").check({"axes": 2}, [])


UNFIT = [
    ({"train": 9}, "there are 9 training rows, 10 are needed"),
    ({"weighted": True}, "this model takes no weights"),
    ({"names": ["f0"]}, "components: there are 1 features, and no more components"),
    ({"names": [f"f{at}" for at in range(900)]}, "components: too much work with 900 features"),
    ({"rows": 1 << 26}, "with these settings 33554432 fit in memory"),
]


@pytest.mark.parametrize(("change", "said"), UNFIT)
def test_features_without_such_components_are_refused(change, said):
    params, _ = step()
    params["taken"]["features"]["about"] |= change
    with pytest.raises(ValueError, match=said):
        program("pca").rows(params, {})
