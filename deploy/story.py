"""The story of ``sealtrace demo``: a joint computation that is allowed, six that are not, and their audit."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from rich.table import Table

from sealtrace.contracts import calls
from sealtrace.deploy import auditing, comparison, samples
from sealtrace.deploy.network import Network
from sealtrace.deploy.operator import Operator
from sealtrace.deploy.plan import ORGANISATIONS
from sealtrace.deploy.stage import (
    DAYS,
    TASK_SECONDS,
    Narrator,
    Story,
    all_at_once,
    altered,
    begin,
    completed,
    granted,
    judged,
    past_the_scheduler,
    refused,
    register,
    require,
    submit,
    task_words,
)
from sealtrace.node.engines.loading import load_engine
from sealtrace.protocol.canonical import sha256
from sealtrace.protocol.outcome import Denial
from sealtrace.protocol.records import Role
from sealtrace.requester.client import Requester

PURPOSE, REHEARSAL = "credit risk study", "rehearsal of refusals"
USES, MIN_GROUP = 3, 30
TOLERANCE = 1e-4
ALGORITHMS = ("psi", "statistics")
PROTECTIONS = ("PSI_RR22", "MPC_ABY3")
NUMERIC = {
    "amount": ("bank", "credit_amount"),
    "months": ("bank", "duration_in_month"),
    "age": ("registry", "age_in_years"),
    "residence": ("registry", "present_residence_since"),
    "credits": ("carrier", "number_of_existing_credits_at_this_bank"),
}


def run(network: Network, data: Path, narrator: Narrator) -> bool:
    """Tell the whole story on ``network`` and return whether it came out as it should.

    Raises:
        StoryFailed: a step came out otherwise.
        EngineMissing: SPU, or a library it needs, is not installed.
    """
    rows = samples.read(data)
    load_engine()
    network.up(lambda line: narrator.tell("network", line))
    story = begin(network, rows, narrator)
    register(story, ALGORITHMS)
    grant(story, PURPOSE, USES)
    _compute(story)
    _spend(story)
    _refusals(story)
    auditing.audit(story)
    narrator.tell("files", f"everything is in {network.directory}", directory=str(network.directory))
    return True


# --- what is allowed


def grant(story: Story, purpose: str, uses: int) -> None:
    """Every owner lets the lab use its table with each algorithm, for one purpose, so many times."""

    def issue(name: str, operator: Operator) -> None:
        for algorithm in ALGORITHMS:
            story.grants[name, algorithm, purpose] = granted(
                story, name, algorithm, purpose=purpose, uses=uses, protections=PROTECTIONS
            )
        allowed = " and ".join(ALGORITHMS)
        story.tell(name, f"lets the lab run {allowed} for '{purpose}', {uses} times, {DAYS} day")

    all_at_once(story.owners, issue)


def _compute(story: Story) -> None:
    """The joint computation, opened by the lab, beside the plain one."""
    task = submit(story, story.lab, "joint statistics", words(story, PURPOSE, statistics=True))
    completed(story, task, "the task")
    result = story.lab.result(task, TASK_SECONDS)
    joint = dict(result.value)
    plain = comparison.pooled(samples.common(story.rows, story.tables), _parameters(story))
    _show(story, joint, plain)
    difference = comparison.largest_difference(joint, plain)
    story.tell(
        "lab",
        f"opened the result of {joint['rows']} common applicants; "
        f"largest difference to the plain table {difference:.1e}",
        task=task,
        joint=joint,
        plain=plain,
        difference=difference,
    )
    require(difference < TOLERANCE, f"the results differ by {difference}, more than {TOLERANCE}")


def _spend(story: Story) -> None:
    """Two more runs: the grants for intersection are used up."""
    for number in (2, 3):
        task = submit(story, story.lab, f"intersection, use {number} of {USES}", words(story, PURPOSE))
        completed(story, task, f"use {number}")


# --- what is refused


def _refusals(story: Story) -> None:
    grant(story, REHEARSAL, 9)
    refused(story, "a fourth use of a grant for three", Denial.GRANT_EXHAUSTED, words(story, PURPOSE))
    _stranger(story)
    bundle = story.network.members.directory("carrier") / "bundles" / story.algorithms["psi"][2:]
    with altered(next(bundle.rglob("manifest.json"))):
        refused(story, "a bundle altered at the carrier", Denial.BUNDLE_ALTERED, words(story, REHEARSAL))
    with altered(story.tables["registry"]):
        refused(story, "a table altered at the registry", Denial.DATASET_ALTERED, words(story, REHEARSAL))
    _suspended(story)
    story.operators["bank"].revoke(story.grants["bank", "psi", REHEARSAL])
    refused(story, "a grant the bank revoked", Denial.GRANT_REVOKED, words(story, REHEARSAL))


def _stranger(story: Story) -> None:
    """A member whom nobody granted anything names the lab's grants."""
    card = story.network.members.requester("stranger", story.network.chain_settings())
    role = Role.REQUESTER
    call = calls.admit(card.address, role, card.tls_fingerprint, card.encryption_key)
    story.network.sender("registrar").send(f"admit:{card.address}", call)
    stranger = Requester.open(story.network.members.directory("stranger"))
    refused(
        story,
        "a requester without a grant",
        Denial.WRONG_REQUESTER,
        words(story, REHEARSAL),
        stranger,
    )


def _suspended(story: Story) -> None:
    """The regulator suspends the carrier: its peers do not compute with it.

    The scheduler would not introduce a suspended party; the lab goes round it, straight to the chain.
    """
    regulator, carrier = story.network.sender("regulator"), story.network.plan.addresses["carrier"]
    reason = sha256(b"under investigation")
    regulator.send(f"suspend:{time.time_ns()}", calls.suspend_node(carrier, reason))
    spec = story.lab.build_spec(words(story, REHEARSAL))
    task = past_the_scheduler(story, spec)
    judged(story, story.lab, task, "a suspended node", Denial.PARTY_NOT_ACTIVE)
    regulator.send(f"reinstate:{time.time_ns()}", calls.reinstate_node(carrier))


# --- tasks


def words(story: Story, purpose: str, *, statistics: bool = False) -> dict[str, Any]:
    """The task as a requester writes it, see ``docs/tasks.md``."""
    grants = {a: {name: story.grants[name, a, purpose] for name in ORGANISATIONS} for a in ALGORITHMS}
    steps: dict[str, Any] = {"align": {"algorithm": "psi", "protocol": "RR22", "grants": grants["psi"]}}
    if statistics:
        steps["statistics"] = {
            "algorithm": "statistics",
            "protocol": "ABY3",
            "grants": grants["statistics"],
            "params": _parameters(story),
        }
    return task_words(story, purpose, samples.COLUMNS, steps)


def _parameters(story: Story) -> dict[str, Any]:
    employed = {"input": "registry", "column": "present_employment_since", "kind": "category"}
    categories = samples.categories(story.rows, employed["column"])
    columns: dict[str, Any] = {
        "employed": {**employed, "categories": categories},
        "defaulted": {"input": "bank", "column": "creditability", "kind": "indicator", "positive": "bad"},
    }
    for name, (owner, column) in NUMERIC.items():
        columns[name] = {"input": owner, "column": column, "kind": "number"}
    columns["amount"] |= {
        "low": 0,
        "high": 20_000,
    }  # the others' owners choose a scale and tell the lab alone
    requests = {
        "by_employment": {
            "measure": "summary",
            "of": ["amount", "defaulted"],
            "by": ["employed"],
            "statistics": ["mean"],
        },
        "linked": {"measure": "correlation", "of": list(NUMERIC)},
    }
    return {"min_group": MIN_GROUP, "columns": columns, "requests": requests}


# --- showing


def _show(story: Story, joint: Mapping[str, Any], plain: Mapping[str, Any]) -> None:
    table = Table(title="by employment class: joint | plain", title_justify="left", box=None)
    for column in ("employed", "applicants", "default rate", "mean credit amount"):
        table.add_column(column, justify="left" if column == "employed" else "right")
    for one, other in zip(joint["by_employment"], plain["by_employment"], strict=True):
        table.add_row(one["by"]["employed"], *_cells(one, other))
    story.narrator.show(table)
    story.narrator.show(_correlations(joint, plain))


def _cells(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    if one["suppressed"]:
        return ["too few", "", ""]
    return [
        f"{one['count']} | {other['count']}",
        f"{one['defaulted']['mean']:.4f} | {other['defaulted']['mean']:.4f}",
        f"{one['amount']['mean']:.2f} | {other['amount']['mean']:.2f}",
    ]


def _correlations(joint: Mapping[str, Any], plain: Mapping[str, Any]) -> Table:
    table = Table(title="correlation: joint | plain", title_justify="left", box=None)
    table.add_column("columns, each pair at the parties named")
    table.add_column("coefficient", justify="right")
    one, other = joint["linked"]["matrix"], plain["linked"]["matrix"]
    for (i, first), (j, second) in combinations(enumerate(NUMERIC.values()), 2):
        if first[0] != second[0]:
            pair = f"{'.'.join(first)} × {'.'.join(second)}"
            table.add_row(pair, f"{one[i][j]:+.4f} | {other[i][j]:+.4f}")
    return table
