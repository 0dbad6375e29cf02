"""What governance costs: the demo's task through the whole network, against the same engines run bare.

Both run in turn on the same tables: three parties align by RR22, then compute statistics under ABY3.
*Governed* is from the submission to Completed on the chain: scheduler, chain, three nodes, fingerprints
checked, gateways with mutual TLS between the engines, sealed shares delivered. *Bare* is the same three
engine processes with SPU's direct links over plain TCP, from the first start to the last end, without the
time these links take to connect (up to a second each, at random).
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bare_run
import psutil
import synthetic
from bare_run import BareRun
from measuring import machine, options, progress, report, table, workplace
from milestones import PARTS, Milestones, parts
from rich.console import Console
from rich.table import Table

from sealtrace.algorithms import bundles
from sealtrace.contracts import calls
from sealtrace.deploy import story as stories
from sealtrace.deploy.network import Network
from sealtrace.deploy.plan import ORGANISATIONS
from sealtrace.deploy.stage import Narrator, Story, begin
from sealtrace.deploy.story import ALGORITHMS
from sealtrace.node.directory import Layout
from sealtrace.node.engines.job import Job, Timeouts
from sealtrace.node.ports import LocalGateway, OwnInput, Plan
from sealtrace.node.runner import EngineProcesses
from sealtrace.protocol.evidence import Kind, read_record
from sealtrace.protocol.identifiers import Hex32, hex32
from sealtrace.protocol.lifecycle import OPEN_STATES, TaskState
from sealtrace.protocol.spec import TaskSpec

GOAL_FIXED_S, GOAL_SHARE = 5.0, 0.02
RUN_SECONDS = 900.0
LOOK_EVERY_S = 0.05
REPEATS = {1_000: 3, 100_000: 3}
NOWHERE = LocalGateway("http://127.0.0.1:1", "")


class TaskNotCompleted(RuntimeError):
    """The governed task ended otherwise, or not in time."""


class NotTheSame(RuntimeError):
    """The two sides did not run the same programs on the same rows."""


@dataclass(frozen=True, slots=True)
class Governed:
    """One run through the network."""

    seconds: float
    parts: Mapping[str, float]
    steps: Sequence[Mapping[str, Any]]
    megabytes: float
    """Between all gateways."""
    cpu: Mapping[str, float]
    """CPU seconds while the task lasted, by what the network's processes are; ``engine`` is the workers'
    children."""

    @property
    def cpu_s(self) -> float:
        """Of all together."""
        return sum(self.cpu.values())


@dataclass(frozen=True, slots=True)
class Size:
    """Both sides at one size."""

    rows: int
    bare: Sequence[BareRun]
    governed: Sequence[Governed]

    @property
    def bare_s(self) -> float:
        """The best: on a machine with other work, what disturbed least says most."""
        return min(run.seconds for run in self.bare)

    @property
    def governed_s(self) -> float:
        """The best."""
        return min(run.seconds for run in self.governed)

    @property
    def bare_cpu_s(self) -> float:
        """The best."""
        return min(run.cpu_s for run in self.bare)

    @property
    def governed_cpu_s(self) -> float:
        """The best."""
        return min(run.cpu_s for run in self.governed)

    @property
    def cost_s(self) -> float:
        """What governance adds."""
        return self.governed_s - self.bare_s

    def part_s(self, name: str) -> float:
        """One part of the best governed run."""
        return _best(self).parts[name]


def main() -> None:
    """Measure, print, clean up."""
    parser = options(__doc__)
    parser.add_argument("--rows", default="1000,100000,1000000", help="rows a party, the smallest first")
    parser.add_argument(
        "--repeat", type=int, help="runs of each side at each size (default: 3, from 1M on 1)"
    )
    arguments = parser.parse_args()
    about = machine()
    with workplace() as folder:
        network = Network.open_or_create(folder / "net")
        try:
            progress("bringing the network up")
            network.up(lambda _line: None)
            story = _begin(network)
            sizes = [_size(story, int(n), folder, arguments.repeat) for n in arguments.rows.split(",")]
        finally:
            network.down()
    report(as_json(sizes) | {"machine": about}, _tables(sizes), as_json=arguments.json)


def _best(size: Size) -> Governed:
    return min(size.governed, key=lambda run: run.seconds)


def fixed_cost_s(sizes: Sequence[Size]) -> float:
    """What governance adds where there is next to nothing to compute: at the smallest size."""
    return min(sizes, key=lambda size: size.rows).cost_s


def as_json(sizes: Sequence[Size]) -> dict[str, Any]:
    """The result for machines; seconds are of the best run."""
    fixed = fixed_cost_s(sizes)
    return {
        "benchmark": "governance",
        "baseline": "the same engine processes over SPU's direct link, in the same run on the same tables",
        "goal": {"fixed_s": GOAL_FIXED_S, "share_of_run": GOAL_SHARE},
        "fixed_s": round(fixed, 3),
        "sizes": [_size_as_json(size, fixed) for size in sizes],
    }


def _size_as_json(size: Size, fixed: float) -> dict[str, Any]:
    return {
        "rows": size.rows,
        "runs": len(size.bare),
        "bare_s": round(size.bare_s, 3),
        "governed_s": round(size.governed_s, 3),
        "cost_s": round(size.cost_s, 3),
        "share_of_run": round(size.cost_s / size.governed_s, 4),
        "share_of_run_beyond_fixed": round((size.cost_s - fixed) / size.governed_s, 4),
        "bare_cpu_s": round(size.bare_cpu_s, 2),
        "governed_cpu_s": round(size.governed_cpu_s, 2),
        "governed_cpu_by_process_s": dict(_best(size).cpu),
        "gateway_megabytes": round(size.governed[0].megabytes, 1),
        "parts_s": {name: round(size.part_s(name), 3) for name, _, _ in PARTS},
        "bare_connecting_s": [round(run.connecting_s, 3) for run in size.bare],
        "bare_runs_s": [round(run.seconds, 3) for run in size.bare],
        "governed_runs_s": [round(run.seconds, 3) for run in size.governed],
    }


def _begin(network: Network) -> Story:
    """A story with the algorithms registered and taken in, but no tables yet."""
    story = begin(network, synthetic.examples(), Narrator(Console(quiet=True), as_json=False))
    for name in ALGORITHMS:
        folder = bundles.shipped()[name]
        story.algorithms[name] = bundles.load(folder).digest
        call = calls.register_algorithm(story.algorithms[name])
        story.lab.send(f"algorithm:{story.algorithms[name]}", call)
        for member, operator in story.operators.items():
            into = network.members.data(member) / "bundles" / name
            ignored = shutil.ignore_patterns("__pycache__")
            operator.add_algorithm(Path(shutil.copytree(folder, into, ignore=ignored)))
    return story


def _size(story: Story, rows: int, folder: Path, repeat: int | None) -> Size:
    """Both sides in turn, so that whatever else the machine does meets both alike."""
    repeats, purpose = repeat or REPEATS.get(rows, 1), f"benchmark of {rows} rows"
    progress(f"making tables of {rows} rows and registering them")
    made = synthetic.make(rows, folder / f"tables-{rows}")
    for name, operator in story.operators.items():
        story.tables[name] = Path(shutil.move(made[name], story.network.members.data(name) / f"{rows}.csv"))
        story.datasets[name] = operator.add_dataset(story.tables[name], f"table-{rows}")
    stories.grant(story, purpose, repeats)
    bare, governed = [], []
    for number in range(repeats):
        spec = story.lab.build_spec(stories.words(story, purpose, statistics=True))
        progress(f"{rows} rows, run {number + 1} of {repeats}: bare")
        bare.append(_bare(story, spec, folder / f"bare-{rows}-{number}"))
        progress(f"{rows} rows, run {number + 1} of {repeats}: governed")
        governed.append(_governed(story, spec))
        if governed[-1].steps != bare[-1].steps:
            raise NotTheSame(f"governed {governed[-1].steps}, bare {bare[-1].steps}")
    return Size(rows, bare, governed)


def _bare(story: Story, spec: TaskSpec, folder: Path) -> BareRun:
    task = story.lab.chain.task_id(spec.terms())
    jobs = [_job(story, spec, task, rank) for rank in range(len(spec.parties))]
    try:
        return bare_run.run(jobs, folder, RUN_SECONDS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _job(story: Story, spec: TaskSpec, task: Hex32, rank: int) -> Job:
    """The job that the node of this rank would make, without a gateway."""
    names = {address: name for name, address in story.network.plan.addresses.items()}
    party = spec.parties[rank]
    own = tuple(
        OwnInput(each.name, each.dataset, story.tables[names[party]], each.id_column, tuple(each.columns))
        for each in spec.inputs
        if each.party == party
    )
    folders = {story.algorithms[name]: bundles.shipped()[name] for name in ALGORITHMS}
    # it only makes the job: no gateway is asked
    engine = EngineProcesses(None, (), Timeouts(), Path(), 0)  # type: ignore[arg-type]
    return engine.job(Plan(task, party, spec, own, folders, NOWHERE, Path(), RUN_SECONDS))


def _governed(story: Story, spec: TaskSpec) -> Governed:
    layouts = [Layout(story.network.members.directory(name)) for name in ORGANISATIONS]
    task = story.lab.chain.task_id(spec.terms())
    with Milestones(layouts, story.network.directory / "scheduler" / "outputs", task) as milestones:
        busy, began = _cpu(story.network), time.perf_counter()
        story.lab.submit(spec)
        asked = time.perf_counter()
        state = _until_over(story, task, began, milestones)
        ended, now = time.perf_counter(), _cpu(story.network)
    if state is not TaskState.COMPLETED:
        raise TaskNotCompleted(f"the task is {state.name}; {story.operators['bank'].task(task)}")
    last = milestones.last() | {"asked": asked}
    transcripts = [_transcript(layout, task) for layout in layouts]
    sent = sum(peer["sent_bytes"] for said in transcripts for peer in said["traffic"])
    steps = transcripts[0]["steps"]
    cpu = {what: round(now[what] - busy[what], 2) for what in now}
    return Governed(ended - began, parts(began, ended, last), steps, sent / 1e6, cpu)


def _cpu(network: Network) -> dict[str, float]:
    """CPU seconds of all processes of the network so far, by what they are."""
    found: dict[str, float] = defaultdict(float)
    for each in network.statuses():
        if each.pid:
            owner, _, part = each.name.rpartition("-")
            used = psutil.Process(each.pid).cpu_times()
            found[part if owner in ORGANISATIONS else owner or part] += used.user + used.system
            found["engine"] += used.children_user + used.children_system
    return dict(found)


def _until_over(story: Story, task: Hex32, began: float, milestones: Milestones) -> TaskState:
    """The chain is asked only once the nodes' logs say that it is time: asking costs it something too."""
    chain = story.lab.chain
    while time.perf_counter() - began < RUN_SECONDS:
        if not milestones.finished():
            time.sleep(LOOK_EVERY_S)
            continue
        record = chain.task(task, at=chain.finalized())
        if record is not None and record.state not in OPEN_STATES:
            return record.state
        time.sleep(LOOK_EVERY_S)
    raise TaskNotCompleted(f"the task is not over after {RUN_SECONDS:.0f} s")


def _transcript(layout: Layout, task: Hex32) -> dict[str, Any]:
    lines = (line for each in sorted(layout.evidence.glob("*.jsonl")) for line in each.open("rb"))
    records = (read_record(line.rstrip(b"\n")) for line in lines)
    found = (each for each in records if each.task == hex32(task) and each.kind == Kind.TASK_RAN)
    return dict(next(found).body["transcript"])


def _tables(sizes: Sequence[Size]) -> list[Table | str]:
    fixed = fixed_cost_s(sizes)
    rows: list[list[object]] = []
    for size in sizes:
        share = size.cost_s / size.governed_s
        beyond = (size.cost_s - fixed) / size.governed_s
        seconds: list[object] = [size.bare_s, size.governed_s, size.cost_s]
        cpu: list[object] = [size.bare_cpu_s, size.governed_cpu_s, size.governed[0].megabytes]
        rows.append([f"{size.rows:,}", *seconds, f"{share:.1%}", f"{beyond:.1%}", *cpu])
    columns = ["rows", "bare s", "governed s", "cost s", "of the run", "beyond fixed"]
    costs = table("cost of governance (best runs)", [*columns, "bare CPU s", "governed CPU s", "MB"], rows)
    split = [[f"{name}: {what}", *(size.part_s(name) for size in sizes)] for name, _milestone, what in PARTS]
    columns = ["where a governed run spends its seconds", *(f"{size.rows:,}" for size in sizes)]
    goal = f"fixed cost {fixed:.2f} s (goal: under {GOAL_FIXED_S:.0f} s)"
    kinds = sorted({kind for size in sizes for kind in _best(size).cpu})
    busy = [[kind, *(_best(size).cpu.get(kind, 0.0) for size in sizes)] for kind in kinds]
    by = ["CPU seconds of the network's processes", *(f"{size.rows:,}" for size in sizes)]
    return [costs, goal, table("", columns, split), table("", by, busy)]


if __name__ == "__main__":
    main()
