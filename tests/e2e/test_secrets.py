"""Nobody but the requester can open a result, and no party's values leave it: all is searched for markers.

A real network works on tables whose every cell and id is a marker. All that its members keep, queue, log, say
on a command line or send is collected while it works, and searched for every marker in every form that
``markers.py`` knows. What may be found where is the table ``ALLOWED``; everything else is a leak. Leaks that
the test itself plants must be found, or it proves nothing.
"""

from __future__ import annotations

import base64
import gzip
import random
import shutil
import socket
import sqlite3
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import httpx
import numpy as np
import pytest
import redis

from sealtrace.algorithms.bundles import load, shipped
from sealtrace.contracts import calls
from sealtrace.deploy import stage
from sealtrace.deploy.members import brokers
from sealtrace.deploy.network import Network
from sealtrace.deploy.plan import LAB, ORGANISATIONS, Plan
from sealtrace.node.engines.intersection import GIVEN_BYTES
from sealtrace.protocol.canonical import canonical
from sealtrace.protocol.identifiers import Hex32
from sealtrace.protocol.keys import digests_of_one_part
from sealtrace.requester.whole_files import write_whole
from tests.e2e.conftest import left_behind, wait_for
from tests.e2e.markers import FRACTION_BITS, Marker, Needles, bytes_marker, number_marker, text_marker
from tests.e2e.observers import Disk, Lookout, NoCapture, Programs, Queues, Wire

pytestmark = pytest.mark.timeout(400)
PURPOSE = "a search for markers"
ALGORITHMS = ("psi", "statistics", "features", "glm")
COLUMN = dict(zip(ORGANISATIONS, ("amount", "income", "usage"), strict=True))
LOW, HIGH = 2**20, 2**23
COMMON, IN_PAIRS, ALONE = 24, 4, 6
Places = frozenset[str]


def table(owner: str) -> str:
    return f"table of {owner}"


def node(owner: str) -> str:
    return f"node of {owner}"


REQUESTER = "requester"

ALLOWED: Mapping[str, tuple[Callable[[Places], set[str]], str]] = {
    "cell": (
        lambda owners: set(map(table, owners)),
        "it lies in the file that its owner registered. The owner's engine reads it and keeps nothing of it, "
        "so not even the owner's own node, queue and log hold it",
    ),
    "id": (
        lambda owners: set(map(table, owners)),
        "as a cell: engines align by tokens, so that no id is in an engine's files or messages",
    ),
    "common id": (
        lambda owners: {*map(table, owners), REQUESTER},
        "psi with result: ids tells the requester the common keys, and nobody else",
    ),
    "token": (
        lambda owners: set(map(node, owners)),
        "128 bits of SHA-256 that stand for an id in one task: whoever holds the id makes the token, in its "
        "own engine's scratch. Whoever else saw it could try ids until one fits",
    ),
    "prepared": (
        lambda owners: set(),
        "what an owner's engine makes of its cells before it splits them into shares",
    ),
    "opened": (
        lambda owners: {REQUESTER},
        "what the requester's shares come to, before the algorithm's last words make the result of it. Of a "
        "model that is kept too, each party holds a part, which alone says nothing",
    ),
    "result": (lambda owners: {REQUESTER}, "each party's share is sealed; the requester alone opens them"),
}
"""What may be found where, and why. A marker in any other place is a leak."""

DISCLOSED = [
    ("psi", "party", "how many keys every other party put in"),
    ("psi", "requester", "the keys only where params.result is ids"),
    ("psi", "scheduler", "nothing: results are sealed for the requester"),
    ("statistics", "party", "nothing of others' values or the result"),
    ("statistics", "scheduler", "nothing: every party's share is sealed for the requester"),
    ("features", "scheduler", "nothing"),
    ("glm", "party", "nothing of model, loss"),
    ("glm", "scheduler", "nothing: every party's share is sealed for the requester"),
]
"""The sentences of the manifests that ``ALLOWED`` rests on."""


@dataclass(frozen=True, slots=True)
class Planted:
    """A marker, its kind, and whose it is."""

    marker: Marker
    kind: str
    owners: Places


@dataclass(slots=True)
class Tables:
    """Three tables of markers."""

    ids: dict[str, Places] = field(default_factory=dict)
    cells: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: dict[str, dict[str, str]] = field(default_factory=dict)

    def write(self, owner: str, path: Path) -> Path:
        rows = [
            f"{id},{self.cells[owner][id]!r},{self.notes[owner][id]}"
            for id, owners in self.ids.items()
            if owner in owners
        ]
        path.write_text("\n".join([f"subject,{COLUMN[owner]},note", *rows]) + "\n")
        return path

    def planted(self) -> Iterator[Planted]:
        everybody = frozenset(ORGANISATIONS)
        for id, owners in self.ids.items():
            yield Planted(text_marker(id, id), "common id" if owners == everybody else "id", owners)
        for owner in ORGANISATIONS:
            for id, value in self.cells[owner].items():
                named = f"{COLUMN[owner]} of {id}"
                yield Planted(number_marker(named, value), "cell", frozenset({owner}))
                yield Planted(
                    text_marker(f"note of {owner} on {id}", self.notes[owner][id]), "cell", frozenset({owner})
                )

    def tokens(self, task: Hex32) -> Iterator[Planted]:
        digest = digests_of_one_part(task)
        for id, owners in self.ids.items():
            given = digest([id.encode()])[:GIVEN_BYTES]  # more of it is in no file
            yield Planted(bytes_marker(f"token of {id} in {task[:10]}", given), "token", owners)


def make_tables() -> Tables:
    chance = random.Random(20_261_128)
    made = Tables(cells={o: {} for o in ORGANISATIONS}, notes={o: {} for o in ORGANISATIONS})

    def text() -> str:
        return "".join(chance.choices("abcdefghijkmnpqrstuvwxyz23456789", k=20))

    bank, registry, carrier = ORGANISATIONS
    groups = [(ORGANISATIONS, COMMON), ((bank, registry), IN_PAIRS), ((registry, carrier), IN_PAIRS)]
    for owners, count in [*groups, *(((owner,), ALONE) for owner in ORGANISATIONS)]:
        for _ in range(count):
            id = text()
            made.ids[id] = frozenset(owners)
            for owner in owners:
                # sums and products of such numbers are exact in the engine and in float64 alike
                made.cells[owner][id] = (chance.randrange(LOW * 2**20, HIGH * 2**20) | 1) / 2**20
                made.notes[owner][id] = text()
    return made


@dataclass(slots=True)
class World:
    """The network, what was planted, and what was seen."""

    network: Network
    begun: stage.Story
    tables: Tables
    planted: list[Planted] = field(default_factory=list)
    controls: dict[str, tuple[Marker, Places]] = field(default_factory=dict)
    seen: dict[str, list[bytes]] = field(default_factory=dict)
    no_wire: str = ""
    dropped: int = 0
    files: list[Path] = field(default_factory=list)
    tasks: list[Hex32] = field(default_factory=list)
    bits: set[int] = field(default_factory=lambda: set(FRACTION_BITS))
    """Fraction bits that the engine's numbers had."""
    found: dict[str, dict[str, str]] = field(default_factory=dict)
    """By place: each marker found there, and the form it had."""


def place_of(path: Path) -> str:
    top, *rest = path.parts
    if top in ("nodes", "data"):
        return (node if top == "nodes" else table)(rest[0])
    if top == "requesters":
        return REQUESTER
    return f"log {Path(rest[0]).stem}" if top == "logs" else f"files of {top}"


def ports(plan: Plan) -> dict[int, str]:
    """Every port that a member listens on, by what is said there."""
    found = {plan.chain_port: "wire chain", plan.redis_port: "wire redis"}
    found |= {plan.scheduler_port: "wire scheduler", plan.auditor_port: "wire auditor"}
    for owner, each in plan.nodes.items():
        found[each.local] = f"wire engine of {owner}"
        found[each.gateway] = f"wire peers of {owner}"
        found[each.api] = f"wire operator of {owner}"
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A network that has carried three tasks to their results, searched."""
    network = Network.open_or_create(tmp_path_factory.mktemp("secrets"))
    wire, no_wire = None, ""
    try:
        wire = Wire(ports(network.plan))
    except NoCapture as cause:
        no_wire = str(cause)
    disk, programs = Disk(network.directory, place_of), Programs(network.directory)
    traces = Disk(Path(gettempdir()), lambda path: "files of the engine's library")
    try:
        network.up(lambda line: None)
        begun = stage.begin(network, [], stage.Narrator(None, as_json=True))  # type: ignore[arg-type]
        made = World(network, begun, make_tables(), no_wire=no_wire)
        queues = Queues(
            {f"queue of {who}": network.plan.broker(at) for who, at in brokers(network.plan).items()}
        )
        lookout = Lookout(
            {
                lambda: disk.look(under="nodes/*/jobs"): 0.03,
                lambda: traces.look(under="psi_*"): 0.2,
                queues.look: 0.2,
                programs.look: 0.5,
                disk.look: 2.5,
            }
        )
        with lookout:
            work(made)
            plant(made, lookout)
    finally:
        network.down()
    assert left_behind(network.directory) == []
    disk.look()
    if wire is not None:
        made.dropped = wire.stop()
    made.files = disk.paths()
    for each in (disk, traces, queues, programs, *([wire] if wire else [])):
        made.seen |= each.seen()
    search(made)
    return made


# --- what happens on the network


def work(world: World) -> None:
    """Register and grant; then an alignment, statistics and a regression, opened by the lab.

    The regression's model also stays with the parties, each of whom keeps a part of it.
    """

    def part_of_model(owner: str) -> bool:
        return any(world.network.members.directory(owner).glob("parts/*/model.*"))

    planted = world.planted
    planted += world.tables.planted()
    datasets = provide(world)
    align = {"algorithm": "psi", "protocol": "RR22"}
    ids = run(world, datasets, {"align": align | {"params": {"result": "ids", "receivers": ["bank"]}}})
    assert set(ids["ids"]) == {id for id, owners in world.tables.ids.items() if len(owners) == 3}
    prepared(world, "statistics", statistics()["params"], ids["ids"])
    told = run(world, datasets, {"align": align, "statistics": statistics()})
    wanted = sum(world.tables.cells["bank"][id] for id in ids["ids"])
    assert told["sums"][0]["amount"]["sum"] == pytest.approx(wanted, rel=1e-9)
    prepared(world, "features", regression()["prepared"]["params"], ids["ids"])
    run(world, datasets, {"align": align, **regression()}, keep={"model": "train.model"})
    wait_for(lambda: all(map(part_of_model, ORGANISATIONS)), 60, "the keeping of the model's parts")
    for operator in world.begun.operators.values():
        for task in world.tasks:
            operator.task(task)


def provide(world: World) -> dict[str, Hex32]:
    begun, datasets = world.begun, {}
    for name in ALGORITHMS:
        begun.algorithms[name] = load(shipped()[name]).digest
        begun.lab.send(f"algorithm:{name}", calls.register_algorithm(begun.algorithms[name]))

    def take_part(owner: str) -> None:
        operator, folder = begun.operators[owner], world.network.members.data(owner)
        datasets[owner] = operator.add_dataset(world.tables.write(owner, folder / "table.csv"), owner)
        for name, digest in begun.algorithms.items():
            ignored = shutil.ignore_patterns("__pycache__")
            held = shutil.copytree(shipped()[name], folder / "bundles" / name, ignore=ignored)
            assert operator.add_algorithm(Path(held)) == digest
            operator.grant(
                datasets[owner],
                digest,
                begun.lab.address,
                purpose=PURPOSE,
                uses=5,
                days=1,
                protections=("PSI_RR22", "MPC_ABY3"),
            )

    with ThreadPoolExecutor(len(ORGANISATIONS)) as pool:
        list(pool.map(take_part, ORGANISATIONS))
    return datasets


def run(world: World, datasets: Mapping[str, Hex32], steps: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Carry a task to its result, which the requester keeps in a file of its own."""
    inputs = {
        owner: {"dataset": datasets[owner], "id": "subject", "columns": [COLUMN[owner]]}
        for owner in ORGANISATIONS
    }
    lab = world.begun.lab
    words = {"purpose": PURPOSE, "deadline": "20m", "inputs": inputs, "steps": dict(steps), **more}
    task = lab.submit(lab.build_spec(words)).task
    world.tasks.append(task)
    world.planted += world.tables.tokens(task)
    with reconstructed(world):
        result = lab.result(task, 200)
    lab.acknowledge(result)
    kept = world.network.members.directory(LAB) / "results"
    kept.mkdir(exist_ok=True)
    write_whole(kept / f"{task}.json", canonical(dict(result.value)))
    for place, number in numbers(result.value):
        named = f"{place} of the result of {task[:10]}"
        world.planted.append(Planted(number_marker(named, number), "result", frozenset()))
    return dict(result.value)


def prepared(world: World, name: str, params: dict[str, Any], common: list[str]) -> None:
    """What each owner's engine is about to share of the common rows, as the bundle's own code makes it."""
    bundle, held = load(shipped()[name]), dict.fromkeys(ORGANISATIONS, len(common))
    world.bits.add(bundle.program.arithmetic(params, len(common))[1])
    for owner in ORGANISATIONS:
        column = np.array([world.tables.cells[owner][id] for id in sorted(common)])
        made = bundle.program.prepare(params, owner, {COLUMN[owner]: column}, held)
        world.planted += _arrays(f"{name} of {owner}", "prepared", made, world.bits)


@contextmanager
def reconstructed(world: World) -> Iterator[None]:
    """Keep what the requester's shares come to."""
    import spu

    original = spu.Io.reconstruct

    def reconstruct(self: Any, shares: Any) -> Any:
        opened = original(self, shares)
        named = {f"array {len(world.planted)}": opened}
        world.planted += _arrays(f"of task {len(world.tasks)}", "opened", named, world.bits)
        return opened

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spu.Io, "reconstruct", reconstruct)
        yield


def _arrays(whose: str, kind: str, made: Mapping[str, Any], bits: set[int]) -> Iterator[Planted]:
    for name, array in made.items():
        for at, number in enumerate(np.asarray(array, dtype=np.float64).ravel()):
            if many_digits(float(number)):
                marker = number_marker(f"{name}[{at}] {whose}", float(number), frozenset(bits))
                yield Planted(marker, kind, frozenset())


def many_digits(number: float) -> bool:
    """Whether nobody could guess it, nor write it by chance."""
    return 2**-8 <= abs(number) < 2**80 and len(repr(number).replace(".", "").lstrip("-0")) >= 12


def numbers(value: Any, place: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a result that nobody could guess: those with many digits."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from numbers(each, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list):
        for at, each in enumerate(value):
            yield from numbers(each, f"{place}[{at}]")
    elif isinstance(value, float) and many_digits(value):
        yield place, value


def declared() -> dict[str, Any]:
    """Every owner's column, as steps' parameters have it."""
    return {
        column: {"input": owner, "column": column, "kind": "number", "low": LOW, "high": HIGH}
        for owner, column in COLUMN.items()
    }


def statistics() -> dict[str, Any]:
    everything = list(COLUMN.values())
    requests = {
        "sums": {"measure": "summary", "of": everything, "statistics": ["sum"]},
        "together": {"measure": "covariance", "of": everything},
    }
    params = {"columns": declared(), "requests": requests, "min_group": 5}
    return {"algorithm": "statistics", "protocol": "ABY3", "params": params}


def regression() -> dict[str, Any]:
    return {
        "prepared": {
            "algorithm": "features",
            "protocol": "ABY3",
            "params": {"columns": declared(), "target": "usage"},
        },
        "train": {
            "algorithm": "glm",
            "protocol": "ABY3",
            "uses": {"features": "prepared"},
            "params": {"family": "linear", "reveal": "coefficients"},
        },
    }


# --- leaks that the test plants, each in a form of its own


def plant(world: World, lookout: Lookout) -> None:
    """Leak a marker at each kind of place; what is short-lived is gone when the network is down."""
    root, plan, chance = world.network.directory, world.network.plan, random.Random(7)

    def control(name: str, *places: str) -> tuple[str, float]:
        text, number = f"control{chance.getrandbits(90):x}", chance.getrandbits(52) / 2**26
        marker = text_marker(name, text)
        world.controls[name] = (
            Marker(name, {**marker.forms, **number_marker(name, number).forms}),
            frozenset(places),
        )
        return text, number

    _, number = control("in an engine's scratch", node("registry"))
    scratch = root / "nodes" / "registry" / "jobs" / "planted" / "scratch"
    scratch.mkdir(parents=True)
    (scratch / "out.bin").write_bytes(struct.pack("<3d", 1.0, number, 2.0))

    text, _ = control("in a queue", "queue of bank", "files of redis", "wire redis")
    queue = redis.Redis.from_url(plan.broker(brokers(plan)["bank"]))
    queue.rpush("planted", gzip.compress(b"task " + text.encode()))

    text, _ = control("in a log", "log bank-worker")
    with (root / "logs" / "bank-worker.log").open("ab") as log:
        log.write(base64.b64encode(b"a share: " + text.encode()) + b"\n")

    _, number = control("in a database", "files of scheduler")
    with sqlite3.connect(root / "scheduler" / "planted.db") as database:
        database.execute("create table shares (value blob)")
        database.execute("insert into shares values (?)", (int(number * 2**40).to_bytes(16, "little"),))
    database.close()

    text, _ = control("on a command line", "processes")
    waiting = ["/bin/sh", "-c", "read it", str(root), text.encode().hex()]
    child = subprocess.Popen(waiting, stdin=subprocess.PIPE)

    _, number = control("to the own gateway", "wire engine of carrier")
    words = f"{number:.5f}".encode()
    head = b"POST /planted HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", plan.nodes["carrier"].local)) as gateway:
        gateway.sendall(head + b"5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (words[:5], len(words) - 5, words[5:]))
        gateway.recv(1 << 10)

    text, _ = control("to the chain", "wire chain")
    httpx.post(plan.rpc_url, json={"input": "0x" + text.encode().hex()}, trust_env=False)

    lookout.look_at_all()
    shutil.rmtree(scratch.parent)
    queue.delete("planted")
    child.kill()
    child.wait()


def search(world: World) -> None:
    controls = [marker for marker, _ in world.controls.values()]
    needles = Needles([*(each.marker for each in world.planted), *controls])
    for place, contents in world.seen.items():
        for content in contents:
            world.found.setdefault(place, {}).update(needles.found_in(content))


def leaks(world: World, *, on_the_wire: bool) -> list[str]:
    """What was found where it must not be."""
    whose = {each.marker.name: each for each in world.planted}
    told = []
    for place, found in world.found.items():
        for name, form in found.items():
            if name in whose and place.startswith("wire ") == on_the_wire:
                planted = whose[name]
                if place not in ALLOWED[planted.kind][0](planted.owners):
                    told.append(f"{planted.kind} {name} at {place}, as {form}")
    return told


# --- what must hold


def test_nothing_that_members_keep_queue_log_or_say_on_command_lines_tells_a_value_or_a_result(world):
    assert leaks(world, on_the_wire=False) == []


def test_nothing_that_goes_over_a_wire_tells_a_value_or_a_result(world):
    if world.no_wire:
        pytest.skip(world.no_wire)
    assert world.dropped == 0
    assert leaks(world, on_the_wire=True) == []


def test_every_value_is_found_where_it_lies_and_every_result_at_the_requester(world):
    """Or it was searched for in a form that it does not have."""
    kinds = set()
    for each in world.planted:
        home = {REQUESTER} if each.kind == "result" else set(map(table, each.owners))
        if each.kind in ("token", "prepared", "opened"):  # these lie nowhere for long, or nowhere at all
            continue
        assert all(each.marker.name in world.found[place] for place in home), each.marker.name
        kinds.add(each.kind)
    assert kinds == {"cell", "id", "common id", "result"}
    assert {each.kind for each in world.planted} == set(ALLOWED)
    results = [each.marker.name for each in world.planted if each.kind == "result"]
    assert all(any(task[:10] in name for name in results) for task in world.tasks[1:]), results
    assert {each.marker.name for each in world.planted if each.kind == "common id"} <= set(
        world.found[REQUESTER]
    )


def test_every_leak_that_is_planted_is_found_and_nowhere_else(world):
    for name, (_, places) in world.controls.items():
        expected = {place for place in places if not (world.no_wire and place.startswith("wire "))}
        assert {place for place, found in world.found.items() if name in found} == expected, name
    assert len(world.controls) == 7


def test_tokens_were_seen_in_the_scratch_of_engines_that_hold_the_ids(world):
    """So the looks came while engines worked, and a token elsewhere would have been seen too."""
    tokens = {each.marker.name: each.owners for each in world.planted if each.kind == "token"}
    for owner in ORGANISATIONS:
        own = {name for name, owners in tokens.items() if owner in owners}
        assert own & set(world.found[node(owner)])


def test_all_places_were_looked_at(world):
    kept = {place for place, contents in world.seen.items() if any(contents)}
    assert {node(owner) for owner in ORGANISATIONS} <= kept
    assert {f"queue of {who}" for who in ("scheduler", *ORGANISATIONS)} <= kept
    assert {"files of scheduler", "files of chain", "files of redis", "processes", REQUESTER} <= kept
    assert {f"log {owner}-worker" for owner in ORGANISATIONS} <= kept
    names = {path.name for path in world.files}
    parts = [path for path in world.files if "parts" in path.parts]
    assert {path.relative_to(world.network.directory).parts[1] for path in parts} == set(ORGANISATIONS)
    assert {"job.json", "engine.log", "output.sealed", "node.db", "node.db-wal"} <= names
    if not world.no_wire:
        assert set(ports(world.network.plan).values()) - {"wire auditor"} <= kept


def test_the_wire_between_engine_and_gateway_was_seen_whole(world):
    """At least what the gateways counted went by, in the clear as far as TLS goes."""
    if world.no_wire:
        pytest.skip(world.no_wire)
    for owner, operator in world.begun.operators.items():
        seen = sum(map(len, world.seen[f"wire engine of {owner}"]))
        assert seen > 100_000, operator.name
        assert any(b"x-ptp-topic" in each.lower() for each in world.seen[f"wire engine of {owner}"])
        assert not any(b"x-ptp-topic" in each.lower() for each in world.seen[f"wire peers of {owner}"])


@pytest.mark.parametrize(("name", "role", "words"), DISCLOSED)
def test_what_is_allowed_where_rests_on_what_the_manifests_disclose(name, role, words):
    assert words in load(shipped()[name]).manifest.learns[role], "ALLOWED must be thought over again"
