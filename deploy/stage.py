"""What every story of ``sealtrace demo`` is told with: narrator, actors, and steps that all share.

Every step checks what it shows. A story is told only as far as it is true.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sealtrace.algorithms import bundles
from sealtrace.contracts import calls
from sealtrace.deploy import samples
from sealtrace.deploy.network import Network
from sealtrace.deploy.operator import Operator
from sealtrace.deploy.plan import LAB
from sealtrace.protocol.identifiers import Hex32, hex32
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.outcome import Denial
from sealtrace.protocol.spec import TaskSpec
from sealtrace.requester.client import Requester
from sealtrace.requester.progress import Progress

TASK_SECONDS = 300.0
DAYS = 1


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

    @property
    def owners(self) -> dict[str, Operator]:
        """The operators of those who hold a table."""
        return {name: operator for name, operator in self.operators.items() if name in samples.COLUMNS}

    def tell(self, who: str, what: str, **facts: Any) -> None:
        """See :meth:`Narrator.tell`."""
        self.narrator.tell(who, what, **facts)


def begin(network: Network, rows: list[dict[str, str]], narrator: Narrator) -> Story:
    """A story on a network that is up."""
    operators = {
        name: Operator(name, network.plan.api_url(name), network.plan.tokens[name])
        for name in network.plan.nodes
    }
    lab = Requester.open(network.members.directory(LAB))
    return Story(network, narrator, rows, operators, lab)


def register(story: Story, algorithms: Iterable[str]) -> None:
    """The lab registers the algorithms; every node takes the bundles in, and every owner adds its table."""
    shipped = {name: bundles.shipped()[name] for name in algorithms}
    for name, folder in shipped.items():
        bundle = bundles.load(folder)
        story.algorithms[name] = bundle.digest
        story.lab.send(f"algorithm:{bundle.digest}", calls.register_algorithm(bundle.digest))
        story.tell("lab", f"registers algorithm {name} {short(bundle.digest)}", digest=bundle.digest)
    made = samples.split(story.rows, story.network.directory / "split")

    def add(name: str, operator: Operator) -> None:
        for folder in shipped.values():
            operator.add_algorithm(handed_over(story, name, folder))
        if name not in made:
            return
        story.tables[name] = Path(shutil.copy(made[name], story.network.members.data(name)))
        story.datasets[name] = operator.add_dataset(story.tables[name], name)
        held = f"{_lines(story.tables[name])} applicants, {len(samples.COLUMNS[name])} columns"
        story.tell(name, f"registers its table ({held}) as {short(story.datasets[name])}")

    all_at_once(story.operators, add)


def handed_over(story: Story, name: str, bundle: Path) -> Path:
    """A copy of a bundle where the owner's API may read it."""
    into = story.network.members.data(name) / "bundles" / bundle.name
    return Path(
        shutil.copytree(bundle, into, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    )


def granted(story: Story, name: str, algorithm: str, **terms: Any) -> Hex32:
    """A grant of an owner: the lab may use its table with an algorithm, for a day."""
    dataset, digest = story.datasets[name], story.algorithms[algorithm]
    return story.operators[name].grant(dataset, digest, story.lab.address, days=DAYS, **terms)


def all_at_once(operators: Mapping[str, Operator], act: Callable[[str, Operator], None]) -> None:
    """Let organisations act each at its own node, all at the same time."""
    with ThreadPoolExecutor(len(operators)) as pool:
        for done in [pool.submit(act, *one) for one in operators.items()]:
            done.result()


def task_words(
    story: Story, purpose: str, columns: Mapping[str, Sequence[str]], steps: Mapping[str, Any]
) -> dict[str, Any]:
    """A task on ``columns`` of every owner's table, as a requester writes it; see ``docs/tasks.md``."""
    inputs = {
        name: {"dataset": story.datasets[name], "id": samples.ID, "columns": list(held)}
        for name, held in columns.items()
    }
    return {"purpose": purpose, "deadline": "20m", "inputs": inputs, "steps": dict(steps)}


def submit(story: Story, requester: Requester, what: str | None, task: Mapping[str, Any]) -> Hex32:
    """Hand a task in and return its id; ``what`` is told, if anything is to be told."""
    spec = requester.build_spec(task)
    story.network.require_alive()
    story.asked.append(hex32(requester.submit(spec).task))
    if what:
        story.tell("lab", f"asks for {what}: task {short(story.asked[-1])}", task=story.asked[-1])
    return story.asked[-1]


def past_the_scheduler(story: Story, spec: TaskSpec) -> Hex32:
    """Create a task on the chain that the scheduler would not take, and return its id."""
    task = story.lab.chain.task_id(spec.terms())
    story.lab.files.keep(task, spec)
    story.lab.send(f"task.create:{task}", calls.create(spec.terms()))
    return task


def until_over(story: Story, task: Hex32, requester: Requester | None = None) -> Progress:
    """Wait for the end of a task; a completion is told."""
    *_, seen = (requester or story.lab).watch(task, TASK_SECONDS)
    if seen.state is TaskState.COMPLETED:
        story.tell("nodes", f"task {short(task)} completed at block {seen.block.number}", task=task)
    return seen


def completed(story: Story, task: Hex32, what: str) -> None:
    """Require that a task completes; ``what`` it is, where it does not."""
    seen = until_over(story, task)
    require(seen.state is TaskState.COMPLETED, f"{what} is {seen.state.name}: {ending(story, seen)}")


def ending(story: Story, seen: Progress) -> str:
    """How a task ended, or where to look."""
    return f"{seen.ending}" if seen.ending else f"see {story.network.processes.logs}"


def refused(
    story: Story, what: str, denial: Denial, asked: Mapping[str, Any], requester: Requester | None = None
) -> None:
    """Submit a task and require that it is refused for exactly this reason, recorded on chain."""
    asker = requester or story.lab
    judged(story, asker, submit(story, asker, None, asked), what, denial)


def judged(story: Story, asker: Requester, task: Hex32, what: str, denial: Denial) -> str:
    """Require that a task ends refused for exactly this reason; tell by whom, and return that."""
    seen = until_over(story, task, asker)
    if seen.state is not TaskState.REFUSED or seen.ending is None:
        raise StoryFailed(f"{what}: the task is {seen.state.name}")
    reason = Denial(int(seen.ending.args["reason"]))
    require(reason is denial, f"{what}: refused as {reason.name}, not {denial.name}")
    by = story.lab.names.get(seen.ending.args["party"], "")
    story.tell(
        by, f"refused {what}: {denial.name.lower()} (block {seen.block.number})", task=task, denial=denial
    )
    return by


@contextmanager
def altered(path: Path) -> Iterator[None]:
    """One byte more at the end of a file, for a while; its times come back with its bytes."""
    kept, times = path.read_bytes(), path.stat()
    path.chmod(0o600)
    path.write_bytes(kept + b"\n")
    try:
        yield
    finally:
        path.write_bytes(kept)
        path.chmod(times.st_mode)


def _lines(path: Path) -> int:
    with path.open(encoding="utf-8") as file:
        return sum(1 for _ in file) - 1


def require(held: bool, otherwise: str) -> None:
    """Go on only where ``held``.

    Raises:
        StoryFailed: it is not.
    """
    if not held:
        raise StoryFailed(otherwise)


def short(identifier: str) -> str:
    """The first digits of an identifier, to be told apart by eye."""
    return identifier[2:10]
