"""What a requester is told to expect of a task: the plan around the samples, with a sampler that is fake."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from rich.console import Console

from sealtrace.algorithms.bundles import load, shipped
from sealtrace.algorithms.estimating import COMPILE, COMPUTE, PROGRAM, TURNS, Line, Sample, shares_of
from sealtrace.algorithms.sampling import Sampled, SampledStep
from sealtrace.protocol.canonical import sha256
from sealtrace.protocol.identifiers import Address
from sealtrace.protocol.spec import Input, Step, TaskSpec
from sealtrace.requester.cli import _row_counts
from sealtrace.requester.errors import RowsUnknown
from sealtrace.requester.expectation_tables import (
    amount,
    duration,
    expected_json,
    expected_lines,
    expected_table,
)
from sealtrace.requester.expectations import CELL_BYTES, ROWS, Assumed, expected
from sealtrace.requester.known_algorithms import KnownAlgorithms

OWNERS = {name: Address("0x" + f"{at + 1:02x}" * 20) for at, name in enumerate(("bank", "shop", "town"))}
NAMES = {address: f"{name} AG" for name, address in OWNERS.items()}
HERE = KnownAlgorithms({})
SOME = sha256(b"something")


def step(id: str, name: str, engine: str = "mpc", protocol: str = "ABY3", **more: Any) -> Step:
    algorithm = load(shipped()[name]).digest if name in shipped() else sha256(name.encode())
    grants = {each: sha256(f"{each} {algorithm}".encode()) for each in OWNERS}
    words = {"id": id, "algorithm": algorithm, "engine": engine, "protocol": protocol, "grants": grants}
    return Step.model_validate({**words, "inputs": list(OWNERS), **more})


def task(*steps: Step) -> TaskSpec:
    inputs = [
        Input(name=name, party=party, dataset=sha256(name.encode()), id_column="id", columns=["x"])
        for name, party in OWNERS.items()
    ]
    return TaskSpec(
        nonce=SOME,
        requester=OWNERS["bank"],
        requester_key=SOME,
        purpose="p",
        deadline=1,
        parties=list(OWNERS.values()),
        inputs=inputs,
        steps=list(steps),
    )


class FakeSampler:
    """Remembers what it was asked for, and says of each step that a party sends 100 bytes a row."""

    def __init__(self, *, silent: Sequence[str] = (), why: str = "no engine") -> None:
        self.asked: dict[str, SampledStep] = {}
        self.limit_s = 0.0
        self._silent, self._why = silent, why

    def __call__(self, steps: Sequence[SampledStep], limit_s: float) -> Sampled:
        self.asked, self.limit_s = {each.id: each for each in steps}, limit_s
        samples = {each.id: [self._sample(each)] for each in steps if each.id not in self._silent}
        return Sampled(samples, dict.fromkeys(self._silent, self._why))

    def _sample(self, step: SampledStep) -> Sample:
        seen = {PROGRAM: 100.0 * step.rows, TURNS: 5, COMPUTE: 1.0, COMPILE: 0.5}
        return Sample(step.rows, {**seen, **{shares_of(name): 10.0 * n for name, n in step.inputs.items()}})


ALIGN = step("align", "psi", "psi", "RR22")
STATS = step("stats", "statistics", after=["align"])


def test_rows_that_nobody_gave_are_assumed_and_an_alignment_leaves_the_smallest_input():
    sampler = FakeSampler()
    found = expected(task(ALIGN, STATS), HERE, Assumed({"shop": 400}), sampler)
    assert dict(found.rows) == {"bank": ROWS, "shop": 400, "town": ROWS}
    assert sampler.asked["stats"].inputs == dict.fromkeys(OWNERS, 400)


def test_common_rows_are_those_that_later_steps_work_on():
    sampler = FakeSampler()
    expected(task(ALIGN, STATS), HERE, Assumed(common=50), sampler)
    assert sampler.asked["stats"].inputs == dict.fromkeys(OWNERS, 50)


def test_a_step_without_an_alignment_before_it_works_on_all_rows():
    sampler = FakeSampler()
    expected(task(step("stats", "statistics")), HERE, Assumed({"bank": 7}, common=5), sampler)
    assert sampler.asked["stats"].inputs == {"bank": 7, "shop": ROWS, "town": ROWS}


def test_values_of_earlier_steps_are_named_to_the_sampler_by_step_and_value():
    sampler = FakeSampler()
    prepared = step("prepared", "features")
    fit = step("fit", "glm", after=["prepared"], uses={"features": "prepared"})
    expected(task(prepared, fit), HERE, Assumed(), sampler)
    assert sampler.asked["fit"].uses == {"features": ("prepared", "features")}


def test_the_sampler_gets_as_many_seconds_as_were_allowed():
    sampler = FakeSampler()
    expected(task(STATS.model_copy(update={"after": []})), HERE, Assumed(sampling_s=3.5), sampler)
    assert sampler.limit_s == 3.5


def test_every_known_step_counts_for_the_task_and_meeting_too():
    found = expected(task(ALIGN, STATS), HERE, Assumed(), FakeSampler())
    costs = [each.cost for each in found.steps if each.cost]
    assert len(costs) == 2
    assert found.total == found.meeting.total + sum(each.total for each in costs)
    assert found.seconds == pytest.approx(sum(each.seconds(Line()) for each in (found.meeting, *costs)))


def test_a_step_that_could_not_be_sampled_is_unknown_and_never_guessed():
    found = expected(task(ALIGN, STATS), HERE, Assumed(), FakeSampler(silent=["stats"]))
    assert found.steps[1].cost is None
    assert (found.steps[1].why, found.unknown) == ("no engine", ("stats",))


def test_a_step_whose_bundle_is_not_here_is_unknown_and_not_sampled():
    sampler = FakeSampler()
    found = expected(task(step("odd", "of-somebody-else")), HERE, Assumed(), sampler)
    assert sampler.asked == {}
    assert "sealtrace algorithm add" in str(found.steps[0].why)


def test_only_those_who_compute_run_a_step_and_other_owners_share_into_it():
    sampler = FakeSampler()
    words = task(ALIGN, STATS).model_dump()
    both = [OWNERS["bank"], OWNERS["town"]]
    found = expected(TaskSpec.model_validate({**words, "compute": both}), HERE, Assumed(), sampler)
    assert sampler.asked["stats"].computing == 2
    assert found.steps[1].parties == (*both, OWNERS["shop"])
    cost = found.steps[1].cost
    assert cost is not None
    assert cost.sent[2] < cost.sent[0]


def test_a_step_that_works_on_a_kept_value_is_unknown():
    words = task(step("stats", "statistics")).model_dump()
    words["inputs"][2] = {**words["inputs"][2], "id_column": "", "columns": [], "part_of": "credit"}
    found = expected(TaskSpec.model_validate(words), HERE, Assumed(), FakeSampler())
    assert "kept value" in str(found.steps[0].why)
    assert set(found.rows) == {"bank", "shop"}


def test_an_alignment_of_which_one_party_learns_is_costed_with_it_as_receiver():
    params = {"receivers": ["town"]}
    found = expected(task(step("align", "psi", "psi", "RR22", params=params)), HERE, Assumed(), FakeSampler())
    (cost,) = [each.cost for each in found.steps if each.cost]
    assert max(cost.sent) == cost.sent[2]


@pytest.mark.parametrize("assumed", [Assumed({"bnak": 5}), Assumed({"bank": 0}), Assumed(common=0)])
def test_rows_that_cannot_be_are_refused(assumed):
    with pytest.raises(RowsUnknown):
        expected(task(STATS.model_copy(update={"after": []})), HERE, assumed, FakeSampler())


@pytest.mark.parametrize("given", ["bank", "bank=", "=5", "bank=many", "bank=-1"])
def test_rows_on_the_command_line_are_a_name_and_a_number(given):
    with pytest.raises(RowsUnknown, match="give INPUT=N"):
        _row_counts([given])


def test_rows_on_the_command_line_are_read_by_name():
    assert _row_counts(["bank=5", "shop=70"]) == {"bank": 5, "shop": 70}


def test_json_holds_parties_bytes_turns_and_seconds_of_every_step():
    found = expected(task(ALIGN, STATS), HERE, Assumed({"bank": 500}), FakeSampler())
    said = expected_json(found, NAMES)
    assert json.loads(json.dumps(said)) == said
    assert said["assumed"] == {
        "rows": {"bank": 500, "shop": ROWS, "town": ROWS},
        "rows_given": ["bank"],
        "common": 500,
        "rtt_ms": 10.0,
        "mbit": 100.0,
    }
    stats = said["steps"][1]
    cost = found.steps[1].cost
    assert cost is not None
    assert [(each["name"], each["sends_bytes"]) for each in stats["parties"]] == [
        (f"{name} AG", sent) for name, sent in zip(OWNERS, cost.sent, strict=True)
    ]
    assert stats["cost"]["total_bytes"] == sum(cost.sent)
    assert stats["cost"]["turns"] == cost.turns
    assert (stats["unknown"], said["unknown"]) == (None, [])


def test_json_of_an_unknown_step_has_its_parties_and_the_reason():
    said = expected_json(expected(task(ALIGN, STATS), HERE, Assumed(), FakeSampler(silent=["stats"])), NAMES)
    stats = said["steps"][1]
    assert (stats["cost"], stats["unknown"], said["unknown"]) == (None, "no engine", ["stats"])
    assert [each["sends_bytes"] for each in stats["parties"]] == [None] * 3


def text(found: Any) -> str:
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(expected_table(found, NAMES))
    for each in expected_lines(found):
        console.print(each)
    return console.export_text()


def test_the_table_names_parties_and_says_what_it_assumes_and_that_it_is_an_estimate():
    said = text(expected(task(ALIGN, STATS), HERE, Assumed({"bank": 500}), FakeSampler()))
    assert "bank AG" in said
    assert "rows: bank 500, 10,000 assumed for each other input (say --rows INPUT=N)" in said
    assert "500 remain after an alignment, those of the smallest input" in said
    assert "stats: simulated at 500 rows" in said
    assert "an estimate, no promise: 100 Mbit/s a party, a round trip of 10 ms" in said


def test_the_table_says_unknown_with_the_reason_and_that_the_sum_is_of_known_steps():
    said = text(expected(task(ALIGN, STATS), HERE, Assumed(), FakeSampler(silent=["stats"])))
    assert "stats: unknown: no engine" in said
    assert "known steps" in said


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_500, "1.5 kB"),
        (12_345_678, "12.3 MB"),
        (5e9, "5.0 GB"),
        (4e12, "4,000.0 GB"),
    ],
)
def test_bytes_are_said_in_the_unit_that_fits(octets, said):
    assert amount(octets) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.04, "0.0 s"), (61.26, "61.3 s"), (600, "10 min"), (36_000, "10.0 h")]
)
def test_times_are_said_in_the_unit_that_fits(seconds, said):
    assert duration(seconds) == said


# Enclaves

HOST = Address("0x" + "77" * 20)
TRAIN = step(
    "train",
    "tee-xgboost",
    engine="tee",
    protocol="SIMULATED",
    policies=dict.fromkeys(OWNERS, SOME),
    params={"mode": "train"},
)


def enclave_task(**part: Any) -> TaskSpec:
    """The step over the owners' tables, in an enclave at a fourth party; the bank's input is changed."""
    made = task(step("stats", "statistics")).model_dump(mode="json")
    made["inputs"][0] |= part
    parties = [*OWNERS.values(), HOST]
    steps = [TRAIN.model_dump(mode="json")]
    return TaskSpec.model_validate({**made, "steps": steps, "parties": parties, "compute": [HOST]})


def test_of_a_step_in_an_enclave_the_inputs_are_counted_and_no_time_is_told():
    found = expected(enclave_task(), HERE, Assumed({"bank": 1000, "shop": 10}), FakeSampler())
    (train,) = found.steps
    assert train.parties == (HOST, *OWNERS.values())
    assert train.sent == (0, 1000 * 2 * CELL_BYTES, 10 * 2 * CELL_BYTES, ROWS * 2 * CELL_BYTES)
    assert train.cost is None
    assert found.total == found.meeting.total + sum(train.sent)
    assert found.unknown == ("train",)
    lines = "\n".join(expected_lines(found))
    assert "how long an enclave computes is not estimated" in lines
    assert "remain after an alignment" not in lines
    told = expected_json(found, NAMES)["steps"][0]
    assert [each["sends_bytes"] for each in told["parties"]] == list(train.sent)
    assert (told["cost"], "not estimated" in told["unknown"]) == (None, True)
    console = Console(width=200, record=True)
    console.print(expected_table(found, NAMES))
    assert "not estimated" in console.export_text()


def test_secret_values_are_not_counted_with_the_inputs_of_an_enclave():
    tables = expected(enclave_task(), HERE, Assumed({"shop": 10}), FakeSampler()).total
    spec = enclave_task(id_column="", columns=[], kind="config")
    found = expected(spec, HERE, Assumed({"shop": 10}), FakeSampler())
    assert "bank" not in found.rows
    assert 0 < found.total < tables
    assert found.steps[0].inputs is not None


def test_the_size_of_a_kept_value_that_an_enclave_takes_is_unknown():
    spec = enclave_task(id_column="", columns=[], part_of="model")
    (train,) = expected(spec, HERE, Assumed(), FakeSampler()).steps
    assert (train.sent, train.cost) == (None, None)
    assert "kept value" in str(train.why)
