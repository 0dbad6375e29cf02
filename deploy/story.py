"""The story of ``sealtrace demo``: a joint computation that is allowed, six that are not, and their audit.

Every step checks what it shows. The story is told only as far as it is true.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sealtrace.algorithms import bundles
from sealtrace.contracts import calls
from sealtrace.deploy import auditing, comparison, samples
from sealtrace.deploy.network import Network
from sealtrace.deploy.operator import Operator
from sealtrace.deploy.plan import LAB, ORGANISATIONS
from sealtrace.node.engines.loading import load_engine
from sealtrace.protocol.canonical import sha256
from sealtrace.protocol.identifiers import Hex32, hex32
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.outcome import Denial
from sealtrace.protocol.records import Role
from sealtrace.requester.client import Requester
from sealtrace.requester.progress import Progress

PURPOSE, REHEARSAL = "credit risk study", "rehearsal of refusals"
USES, DAYS, MIN_GROUP = 3, 1, 30
TASK_SECONDS = 300.0
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


class StoryFailed(RuntimeError):
    """Something came out otherwise than it should; the message says what was expected."""


class Narrator:
    """Tells the story, a line a step; with ``as_json`` one JSON object a line."""

    def __init__(self, console: Console, *, as_json: bool) -> None:
        self._console = console
        self._as_json = as_json
        self._began = time.monotonic()

    def tell(self, who: str, what: str, **facts: Any) -> None:
        """One line: who, what; ``facts`` are for machines."""
        if self._as_json:
            line = {"seconds": round(time.monotonic() - self._began, 2), "who": who, "what": what, **facts}
            self._console.print(json.dumps(line), soft_wrap=True, markup=False)
        else:
            self._console.print(f"[bold]{who:<9}[/] {escape(what)}", soft_wrap=True)

    def show(self, table: Table) -> None:
        """A table, for people only."""
        if not self._as_json:
            self._console.print(table)


@dataclass(slots=True)
class Story:
    """What is known so far."""

    network: Network
    narrator: Narrator
    rows: list[dict[str, str]]
    operators: dict[str, Operator]
    lab: Requester
    tables: dict[str, Path] = field(default_factory=dict)
    algorithms: dict[str, Hex32] = field(default_factory=dict)
    datasets: dict[str, Hex32] = field(default_factory=dict)
    grants: dict[tuple[str, str, str], Hex32] = field(default_factory=dict)
    asked: list[Hex32] = field(default_factory=list)

    def tell(self, who: str, what: str, **facts: Any) -> None:
        """See :meth:`Narrator.tell`."""
        self.narrator.tell(who, what, **facts)


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
    register(story)
    grant(story, PURPOSE, USES)
    _compute(story)
    _spend(story)
    _refusals(story)
    auditing.audit(story)
    narrator.tell("files", f"everything is in {network.directory}", directory=str(network.directory))
    return True


def begin(network: Network, rows: list[dict[str, str]], narrator: Narrator) -> Story:
    """A story on a network that is up."""
    operators = {
        name: Operator(name, network.plan.api_url(name), network.plan.tokens[name]) for name in ORGANISATIONS
    }
    lab = Requester.open(network.members.directory(LAB))
    return Story(network, narrator, rows, operators, lab)


# --- what is allowed


def register(story: Story) -> None:
    """The lab registers the algorithms; every owner adds its table and takes the bundles in."""
    shipped = bundles.shipped()
    for name in ALGORITHMS:
        bundle = bundles.load(shipped[name])
        story.algorithms[name] = bundle.digest
        story.lab.send(f"algorithm:{bundle.digest}", calls.register_algorithm(bundle.digest))
        story.tell("lab", f"registers algorithm {name} {_short(bundle.digest)}", digest=bundle.digest)
    made = samples.split(story.rows, story.network.directory / "split")

    def add(name: str, operator: Operator) -> None:
        story.tables[name] = Path(shutil.copy(made[name], story.network.members.data(name)))
        for algorithm in ALGORITHMS:
            operator.add_algorithm(_handed_over(story, name, shipped[algorithm]))
        story.datasets[name] = operator.add_dataset(story.tables[name], name)
        held = f"{_lines(story.tables[name])} applicants, {len(samples.COLUMNS[name])} columns"
        story.tell(name, f"registers its table ({held}) as {_short(story.datasets[name])}")

    _each(story, add)


def _handed_over(story: Story, name: str, bundle: Path) -> Path:
    """A copy of a bundle where the owner's API may read it."""
    into = story.network.members.data(name) / "bundles" / bundle.name
    return Path(
        shutil.copytree(bundle, into, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    )


def grant(story: Story, purpose: str, uses: int) -> None:
    """Every owner lets the lab use its table with each algorithm, for one purpose, so many times."""

    def issue(name: str, operator: Operator) -> None:
        for algorithm in ALGORITHMS:
            story.grants[name, algorithm, purpose] = operator.grant(
                story.datasets[name],
                story.algorithms[algorithm],
                story.lab.address,
                purpose=purpose,
                uses=uses,
                days=DAYS,
                protections=PROTECTIONS,
            )
        allowed = " and ".join(ALGORITHMS)
        story.tell(name, f"lets the lab run {allowed} for '{purpose}', {uses} times, {DAYS} day")

    _each(story, issue)


def _each(story: Story, act: Callable[[str, Operator], None]) -> None:
    """Let every organisation act at its own node, all at the same time."""
    with ThreadPoolExecutor(len(story.operators)) as pool:
        for done in [pool.submit(act, *each) for each in story.operators.items()]:
            done.result()


def _compute(story: Story) -> None:
    """The joint computation, opened by the lab, beside the plain one."""
    task = submit(story, story.lab, "joint statistics", words(story, PURPOSE, statistics=True))
    seen = _until_over(story, task)
    _require(seen.state is TaskState.COMPLETED, f"the task is {seen.state.name}: {_ending(story, seen)}")
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
    _require(difference < TOLERANCE, f"the results differ by {difference}, more than {TOLERANCE}")


def _spend(story: Story) -> None:
    """Two more runs: the grants for intersection are used up."""
    for number in (2, 3):
        task = submit(story, story.lab, f"intersection, use {number} of {USES}", words(story, PURPOSE))
        seen = _until_over(story, task)
        _require(
            seen.state is TaskState.COMPLETED, f"use {number} is {seen.state.name}: {_ending(story, seen)}"
        )


# --- what is refused


def _refusals(story: Story) -> None:
    grant(story, REHEARSAL, 9)
    _refused(story, "a fourth use of a grant for three", Denial.GRANT_EXHAUSTED, words(story, PURPOSE))
    _stranger(story)
    bundle = story.network.members.directory("carrier") / "bundles" / story.algorithms["psi"][2:]
    with _altered(next(bundle.rglob("manifest.json"))):
        _refused(story, "a bundle altered at the carrier", Denial.BUNDLE_ALTERED, words(story, REHEARSAL))
    with _altered(story.tables["registry"]):
        _refused(story, "a table altered at the registry", Denial.DATASET_ALTERED, words(story, REHEARSAL))
    _suspended(story)
    story.operators["bank"].revoke(story.grants["bank", "psi", REHEARSAL])
    _refused(story, "a grant the bank revoked", Denial.GRANT_REVOKED, words(story, REHEARSAL))


def _stranger(story: Story) -> None:
    """A member whom nobody granted anything names the lab's grants."""
    card = story.network.members.requester("stranger", story.network.chain_settings())
    role = Role.REQUESTER
    call = calls.admit(card.address, role, card.tls_fingerprint, card.encryption_key)
    story.network.sender("registrar").send(f"admit:{card.address}", call)
    stranger = Requester.open(story.network.members.directory("stranger"))
    _refused(
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
    task = story.lab.chain.task_id(spec.terms())
    story.lab.files.keep(task, spec)
    story.lab.send(f"task.create:{task}", calls.create(spec.terms()))
    _judged(story, story.lab, task, "a suspended node", Denial.PARTY_NOT_ACTIVE)
    regulator.send(f"reinstate:{time.time_ns()}", calls.reinstate_node(carrier))


def _refused(
    story: Story, what: str, denial: Denial, asked: Mapping[str, Any], requester: Requester | None = None
) -> None:
    """Submit a task and require that it is refused for exactly this reason, recorded on chain."""
    asker = requester or story.lab
    _judged(story, asker, submit(story, asker, None, asked), what, denial)


def _judged(story: Story, asker: Requester, task: Hex32, what: str, denial: Denial) -> None:
    seen = _until_over(story, task, asker)
    _require(
        seen.state is TaskState.REFUSED and seen.ending is not None, f"{what}: the task is {seen.state.name}"
    )
    reason = Denial(int((seen.ending.args if seen.ending else {})["reason"]))
    _require(reason is denial, f"{what}: refused as {reason.name}, not {denial.name}")
    by = story.lab.names.get(seen.ending.args["party"], "") if seen.ending else ""
    story.tell(
        by, f"refused {what}: {denial.name.lower()} (block {seen.block.number})", task=task, denial=denial
    )


@contextmanager
def _altered(path: Path) -> Iterator[None]:
    """One byte more at the end of a file, for a while; its times come back with its bytes."""
    kept, times = path.read_bytes(), path.stat()
    path.chmod(0o600)
    path.write_bytes(kept + b"\n")
    try:
        yield
    finally:
        path.write_bytes(kept)
        path.chmod(times.st_mode)


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
    inputs = {
        name: {"dataset": story.datasets[name], "id": samples.ID, "columns": list(samples.COLUMNS[name])}
        for name in ORGANISATIONS
    }
    return {"purpose": purpose, "deadline": "20m", "inputs": inputs, "steps": steps}


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


def submit(story: Story, requester: Requester, what: str | None, task: Mapping[str, Any]) -> Hex32:
    """Hand a task in and return its id; ``what`` is told, if anything is to be told."""
    spec = requester.build_spec(task)
    story.network.require_alive()
    story.asked.append(hex32(requester.submit(spec).task))
    if what:
        story.tell("lab", f"asks for {what}: task {_short(story.asked[-1])}", task=story.asked[-1])
    return story.asked[-1]


def _until_over(story: Story, task: Hex32, requester: Requester | None = None) -> Progress:
    *_, seen = (requester or story.lab).watch(task, TASK_SECONDS)
    if seen.state is TaskState.COMPLETED:
        story.tell("nodes", f"task {_short(task)} completed at block {seen.block.number}", task=task)
    return seen


def _ending(story: Story, seen: Progress) -> str:
    return f"{seen.ending}" if seen.ending else f"see {story.network.processes.logs}"


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


def _lines(path: Path) -> int:
    with path.open(encoding="utf-8") as file:
        return sum(1 for _ in file) - 1


def _require(held: bool, otherwise: str) -> None:
    if not held:
        raise StoryFailed(otherwise)


def _short(identifier: str) -> str:
    return identifier[2:10]
