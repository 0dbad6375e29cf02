"""Generalised linear models on shares, by SPU's simulator, against scikit-learn in the clear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("spu")

import jax
import numpy as np
import spu
from spu.utils import simulation

from sealtrace.algorithms.learning import elementary, linear

jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]


def on_shares(function: Callable[..., Any], *arrays: Any, protocol: str = "ABY3", parties: int = 3) -> Any:
    """Run ``function`` over secret ``arrays``, held as every learning step holds its numbers."""
    how = spu.RuntimeConfig(
        protocol=spu.parse_protocol_kind(protocol),
        field=spu.parse_field_type("FM128"),
        fxp_fraction_bits=40,
    )
    return simulation.sim_jax(simulation.Simulator(parties, how), function)(*arrays)


def test_an_exponential_is_right_to_eight_digits_from_minus_eight_on():
    exponents = np.linspace(-8, 8, 801)
    np.testing.assert_allclose(on_shares(elementary.exp, exponents), np.exp(exponents), rtol=2e-8)


def test_a_sigmoid_and_its_integral_are_right_to_six_digits_however_far_out():
    values = np.linspace(-100, 100, 801)
    chance, integral = on_shares(elementary.sigmoid_and_softplus, values)
    np.testing.assert_allclose(chance, 1 / (1 + np.exp(-values)), atol=5e-7)
    np.testing.assert_allclose(integral, np.logaddexp(0, values), atol=5e-7)


def test_an_inverse_root_is_right_to_six_digits_from_a_millionth_on():
    values = np.geomspace(1e-6, 1e4, 801)
    np.testing.assert_allclose(on_shares(elementary.inverse_root, values), values**-0.5, rtol=1e-6)


@pytest.mark.parametrize(("size", "condition"), [(1, 1.0), (8, 1e2), (51, 1e4), (20, 1e6)])
def test_equations_are_solved_to_five_digits_up_to_a_condition_of_a_million(size, condition):
    chance = np.random.default_rng(size)
    turned, _ = np.linalg.qr(chance.normal(size=(size, size)))
    matrix = (turned * np.geomspace(1 / condition, 1, size)) @ turned.T
    wanted = chance.normal(size=size)
    found = on_shares(linear.solved, matrix, matrix @ wanted)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_equations_that_say_the_same_twice_get_the_shortest_solution():
    matrix = np.array([[2.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    right = np.array([3.0, 2.0, 2.0])
    shortest = np.linalg.pinv(matrix) @ right
    np.testing.assert_allclose(on_shares(linear.solved, matrix, right), shortest, atol=1e-4)
