"""What a step is expected to cost, from samples and from measured constants."""

from __future__ import annotations

import math

import pytest

from sealtrace.algorithms.estimating import (
    COMPILE,
    COMPUTE,
    PROGRAM,
    TURNS,
    Cost,
    Line,
    Sample,
    TooFewSamples,
    found_at,
    meeting,
    mpc_cost,
    psi_cost,
    shares_of,
)
from sealtrace.algorithms.measured import ENGINE, PAIRS

SIZES = (625, 2_500, 10_000)


def sample(rows: int, **changes: float) -> Sample:
    seen = {PROGRAM: 100.0 * rows, TURNS: 7, COMPUTE: 0.01 * rows, COMPILE: 2.0}
    return Sample(rows, {**seen, shares_of("bank"): 16.0 * rows, shares_of("shop"): 8.0 * rows, **changes})


def test_what_was_sampled_at_the_rows_asked_for_is_taken_as_it_is():
    found = found_at(10_000, [(2_500, 1.0), (10_000, 5.0)])
    assert (found.value, found.law, found.misfit) == (5.0, None, 0.0)


def test_what_grows_with_the_rows_is_carried_on_along_a_line():
    found = found_at(1_000_000, [(rows, 300.0 + 16 * rows) for rows in SIZES])
    assert found.value == pytest.approx(300 + 16 * 1_000_000)
    assert (found.law, found.misfit) == ("rows", pytest.approx(0, abs=1e-12))


def test_what_grows_as_sorting_does_is_told_from_a_line_by_the_sample_held_back():
    found = found_at(1_000_000, [(rows, 50.0 + rows * math.log2(rows + 1) ** 2) for rows in SIZES])
    assert found.law == "rows·log² rows"
    assert found.value == pytest.approx(50 + 1_000_000 * math.log2(1_000_001) ** 2)


def test_what_fits_no_law_comes_with_the_share_by_which_the_best_one_missed():
    found = found_at(40_000, [(625, 100.0), (2_500, 100.0), (10_000, 400.0)])
    assert found.misfit == pytest.approx(0.75)


def test_two_samples_give_a_line_that_nothing_was_held_back_from():
    found = found_at(40_000, [(2_500, 25.0), (10_000, 100.0)])
    assert (found.value, found.law, found.misfit) == (pytest.approx(400.0), "rows", None)


def test_one_sample_of_fewer_rows_is_no_estimate():
    with pytest.raises(TooFewSamples, match="sampled at 625 rows only"):
        found_at(10_000, [(625, 1.0)])


def test_nothing_is_expected_to_shrink_with_more_rows():
    assert found_at(20_000, [(2_500, 9.0), (10_000, 3.0)]).value == 3.0


def test_a_computing_owner_sends_the_others_shares_beside_what_the_program_sends():
    cost = mpc_cost(1_000, [sample(1_000)], {"bank": 0, "shop": 2}, 3)
    own = 100_000 + 2 * ENGINE.step_bytes + 7 * ENGINE.turn_bytes
    assert cost.sent == (round(own + 2 * 16_000), round(own), round(own + 2 * 8_000))
    assert cost.turns == 7 + ENGINE.step_turns
    assert cost.compute_s == pytest.approx(10 + 2)
    assert cost.basis == "simulated at 1,000 rows"


def test_an_owner_who_does_not_compute_meets_all_and_sends_a_share_to_each_who_does():
    cost = mpc_cost(1_000, [sample(1_000)], {"bank": 3, "shop": 3}, 3)
    assert cost.sent[3] == round(3 * (16_000 + 8_000) + 3 * ENGINE.step_bytes)


def test_an_estimate_beyond_the_samples_says_so_with_its_law_and_misfit():
    cost = mpc_cost(1_000_000, [sample(rows) for rows in SIZES], {"bank": 0, "shop": 1}, 2)
    assert cost.basis == "simulated at 625, 2,500, 10,000 rows, carried on as rows (misfit 0.0%)"
    assert cost.compute_s == pytest.approx(10_000 + 2)


def test_time_is_work_and_the_busiest_sender_s_bytes_and_a_round_trip_and_gateways_for_each_turn():
    cost = Cost((1_000_000, 2_500_000), turns=50, compute_s=3.0, basis="")
    assert cost.seconds(Line(rtt_ms=10, mbit=100)) == pytest.approx(3 + 0.2 + 0.5 + 50 * ENGINE.turn_s)
    assert cost.total == 3_500_000


@pytest.mark.parametrize("protocol", PAIRS)
def test_an_alignment_of_two_sends_more_the_more_rows_there_are(protocol):
    few, many = (psi_cost(protocol, [rows, rows], rows // 2, None) for rows in (100_000, 1_000_000))
    assert all(5 * a < b < 15 * a for a, b in zip(few.sent, many.sent, strict=True))
    assert many.compute_s == pytest.approx(10 * few.compute_s)


def test_the_party_that_alone_learns_the_common_rows_tells_them_nobody():
    told, alone = (psi_cost("RR22", [100_000, 100_000], 90_000, only) for only in (None, 0))
    assert alone.total < told.total


def test_the_receiver_s_part_is_that_of_the_party_that_is_named():
    assert (
        psi_cost("RR22", [10_000, 10_000], 5_000, 1).sent
        == psi_cost("RR22", [10_000] * 2, 5_000, 0).sent[::-1]
    )


def test_three_parties_in_pairs_are_two_alignments_of_the_first_with_each_other():
    pair, three = (psi_cost("RR22", [50_000] * count, 50_000, None) for count in (2, 3))
    assert three.sent == (2 * pair.sent[0], pair.sent[1], pair.sent[1])
    assert (three.turns, three.compute_s) == (2 * pair.turns, pytest.approx(2 * pair.compute_s))


def test_three_parties_under_ecdh_are_a_protocol_of_its_own():
    cost = psi_cost("ECDH", [200_000, 100_000, 50_000], 20_000, None)
    seen = (8_245_451, 10_248_295, 7_208_812)  # by gateways, in a run of just these tables
    assert cost.sent == tuple(pytest.approx(each, rel=0.001) for each in seen)


def test_engines_meet_each_of_the_others():
    assert meeting(3).sent == (round(2 * ENGINE.start_bytes),) * 3
