"""Two nodes with all their processes, a chain, Redis and the scheduler: lives and deaths of tasks."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from sealtrace.algorithms.bundles import load, shipped
from sealtrace.contracts import calls
from sealtrace.contracts.client import Chain, ChainSettings
from sealtrace.contracts.deployment import deploy
from sealtrace.contracts.keys import KeyFile
from sealtrace.contracts.sender import Sender
from sealtrace.deploy import redis
from sealtrace.deploy.ports import free_ports
from sealtrace.deploy.processes import Processes, Program, wait_until
from sealtrace.node import directory as directories
from sealtrace.node.operations import GrantOrder, Operations, TokenRole
from sealtrace.node.settings import (
    ApiSection,
    ChainSection,
    EngineSection,
    GatewaySection,
    Limits,
    Settings,
)
from sealtrace.node.store import open_engine
from sealtrace.node.wiring import Node
from sealtrace.protocol.attestation.policy import read_policy
from sealtrace.protocol.evidence import Kind
from sealtrace.protocol.identifiers import hex32
from sealtrace.protocol.lifecycle import OPEN_STATES, TaskState
from sealtrace.protocol.outcome import Denial
from sealtrace.protocol.records import Protection, Role
from sealtrace.protocol.spec import Input, Step, TaskSpec
from sealtrace.protocol.statements import Statement, sign
from sealtrace.scheduler import settings as scheduler_settings

CHAIN_ID = 4711
PURPOSE = "how many do we have in common"
PARTS = ("gateway", "worker", "watcher", "api")


class Net:
    """Everything but the requester's own software."""

    def __init__(self, root: Path) -> None:
        self.root, self.processes = root, Processes(root)
        ports = iter(free_ports(9))
        self.chain_port, self.redis_port, self.scheduler_port = next(ports), next(ports), next(ports)
        self.node_ports = {name: (next(ports), next(ports), next(ports)) for name in ("a", "b")}
        self.nodes: dict[str, Node] = {}
        self.tokens: dict[str, str] = {}
        self.tasks = 0

    def up(self) -> None:
        self.start("chain", "chain", "serve", "--port", self.chain_port, "--chain-id", CHAIN_ID)
        self.processes.start(redis.program(self.root / "redis", self.redis_port))
        url = f"http://127.0.0.1:{self.chain_port}"
        broker = f"redis://127.0.0.1:{self.redis_port}"
        wait_until(
            {"chain": lambda: answers(url), "redis": lambda: redis.answers(f"{broker}/0")},
            self.processes,
            timeout_s=60,
        )
        registrar, regulator = (KeyFile.create(self.root / f"{n}.json") for n in ("registrar", "regulator"))
        self.lab = KeyFile.create(self.root / "lab.json")
        deployed = deploy(url, CHAIN_ID, registrar.private_key, registrar.address, regulator.address)
        self.settings = ChainSettings(url, CHAIN_ID, deployed.directory)
        self.chain = Chain.connect(self.settings)
        self.registrar, self.requester = self.sender(registrar), self.sender(self.lab)
        for number, name in enumerate(self.node_ports, start=1):
            self.make_node(name, f"{broker}/{number}")
        requester = Role.REQUESTER | Role.PROVIDER
        key = hex32("0x" + "07" * 32)
        self.registrar.send("admit lab", calls.admit(self.lab.address, requester, key, key))
        self.algorithm = load(shipped()["psi"]).digest
        self.requester.send("psi", calls.register_algorithm(self.algorithm))
        scheduler_settings.save(
            self.root / "scheduler",
            scheduler_settings.Settings(
                chain=scheduler_settings.ChainSection(
                    rpc_url=url, chain_id=CHAIN_ID, directory=deployed.directory
                ),
                redis_url=f"{broker}/0",
                port=self.scheduler_port,
            ),
        )
        self.start("scheduler", "scheduler", "api")
        for name in self.nodes:
            for part in PARTS:
                self.start_part(name, part)
        wait_until(
            {f"{n}-api": lambda n=n: self.healthy(n) for n in self.nodes}, self.processes, timeout_s=90
        )
        self.datasets = {name: self.add_dataset(name) for name in self.nodes}

    def make_node(self, name: str, broker: str) -> None:
        api, port, local = self.node_ports[name]
        key = KeyFile.create(self.root / f"{name}.key.json")
        (self.root / "data" / name).mkdir(parents=True)
        settings = Settings(
            name=name,
            address=key.address,
            scheduler_url=f"http://127.0.0.1:{self.scheduler_port}",
            redis_url=broker,
            queue=f"queue-{name}",
            data_dirs=[self.root / "data" / name],
            chain=ChainSection(
                rpc_url=self.settings.rpc_url, chain_id=CHAIN_ID, directory=self.settings.directory
            ),
            api=ApiSection(port=api),
            gateway=GatewaySection(port=port, local_port=local),
            engine=EngineSection(connect_s=30),
            limits=Limits(lease_s=4, requeue_s=2, heartbeat_s=1, progress_every_s=0.01),
        )
        folder = self.root / name
        card = directories.init(folder, settings, key.private_key)
        roles = Role.OWNER | Role.COMPUTE
        call = calls.admit(card.address, roles, card.tls_fingerprint, card.encryption_key)
        self.registrar.send(f"admit {name}", call)
        self.nodes[name] = Node.open(folder)
        self.tokens[name] = Operations(self.nodes[name]).add_token("test", TokenRole.OPERATOR)

    def add_dataset(self, name: str) -> str:
        self.operations(name).add_algorithm(shipped()["psi"], self.algorithm)
        self.write_table(name)
        body = {"path": str(self.table(name)), "name": name}
        return self.ask(name, "POST", "/v1/datasets", json=body)["id"]

    def table(self, name: str) -> Path:
        return self.root / "data" / name / "people.csv"

    def write_table(self, name: str) -> None:
        rows = range(100) if name == "a" else range(60, 160)
        with self.table(name).open("w", newline="") as file:
            csv.writer(file).writerows([["person"], *([f"id-{row}"] for row in rows)])

    def operations(self, name: str) -> Operations:
        return Operations(self.nodes[name])

    def submit(self, *, uses: int = 1, deadline_s: int = 600) -> str:
        grants = {name: self.grant(name, uses) for name in self.nodes}
        return self.submit_under(grants, deadline_s)

    def grant(self, name: str, uses: int) -> str:
        now = int(self.chain.head().timestamp)
        order = GrantOrder(
            hex32(self.datasets[name]),
            self.algorithm,
            self.lab.address,
            PURPOSE,
            uses,
            0,
            now + 86_400,
            ("PSI_RR22",),
        )
        return self.operations(name).issue_grant(order)["id"]

    def submit_under(self, grants: dict[str, str], deadline_s: int = 600) -> str:
        self.tasks += 1
        key = hex32("0x" + "07" * 32)
        spec = TaskSpec(
            nonce=hex32(self.tasks.to_bytes(32, "big")),
            requester=self.lab.address,
            requester_key=key,
            purpose=PURPOSE,
            deadline=int(time.time()) + deadline_s,
            engine_seconds=120,
            parties=sorted(node.settings.address for node in self.nodes.values()),
            inputs=[
                Input(
                    name=name,
                    party=node.settings.address,
                    dataset=self.datasets[name],
                    id_column="person",
                    columns=[],
                )
                for name, node in self.nodes.items()
            ],
            steps=[
                Step(
                    id="align",
                    algorithm=self.algorithm,
                    engine="psi",
                    protocol="RR22",
                    inputs=list(self.nodes),
                    grants=grants,
                    params={"result": "count"},
                )
            ],
        )
        statement = Statement(
            kind="task.submit",
            speaker=self.lab.address,
            audience="scheduler",
            at=int(time.time()),
            body={"spec": spec.model_dump(mode="json")},
        )
        signed = sign(statement, self.lab.private_key).model_dump(mode="json")
        url = f"http://127.0.0.1:{self.scheduler_port}/v1/tasks"
        deadline = time.monotonic() + 90
        while (answer := httpx.post(url, json=signed, timeout=20, trust_env=False)).status_code != 202:
            assert time.monotonic() < deadline, answer.text  # until both have said hello
            time.sleep(0.5)
        self.requester.send(f"create {self.tasks}", calls.create(spec.terms()))
        return self.chain.task_id(spec.terms())

    def wait(self, task: str, *, timeout_s: float = 120) -> TaskState:
        """Until the task is over on the chain, and at both nodes."""
        deadline = time.monotonic() + timeout_s
        while (state := self.chain.task(task, at=self.chain.head()).state) in OPEN_STATES:
            assert time.monotonic() < deadline, self.story(task)
            time.sleep(0.2)
        while not all(self.over(name, task) for name in self.nodes):
            assert time.monotonic() < deadline, self.story(task)
            time.sleep(0.2)
        return state

    def over(self, name: str, task: str) -> bool:
        """Whether the node has nothing left to do; a task that it has not heard of yet is not over."""
        answer = self.answer(name, "GET", f"/v1/tasks/{task}")
        if not_heard_of(answer):
            return False
        return bool(checked(answer)["over"])

    def row(self, name: str, task: str) -> dict:
        return self.ask(name, "GET", f"/v1/tasks/{task}")

    def story(self, task: str) -> str:
        told = []
        for name in self.nodes:
            tails = [self.processes.tail(f"{name}-{part}", 15) for part in PARTS]
            told.append(f"{name}: {self.said_of(name, task)}\n" + "\n".join(tails))
        return "\n".join(told)

    def said_of(self, name: str, task: str) -> str:
        """What the node says of a task, be it that it does not know it, or why it cannot be asked."""
        try:
            answer = self.answer(name, "GET", f"/v1/tasks/{task}")
        except httpx.HTTPError as cause:
            return f"{type(cause).__name__}: {cause}"
        if answer.status_code >= 400:
            return f"{answer.status_code} {answer.text}"
        return str({k: v for k, v in answer.json().items() if k != "spec"})

    def kinds(self, name: str, task: str) -> list[str]:
        return [record["kind"] for record in self.row(name, task)["evidence"]]

    def ask(self, name: str, method: str, path: str, **arguments) -> dict:
        return checked(self.answer(name, method, path, **arguments))

    def answer(self, name: str, method: str, path: str, **arguments) -> httpx.Response:
        url = f"http://127.0.0.1:{self.node_ports[name][0]}{path}"
        headers = {"authorization": f"Bearer {self.tokens[name]}"}
        return httpx.request(method, url, headers=headers, timeout=60, trust_env=False, **arguments)

    def healthy(self, name: str) -> bool:
        url = f"http://127.0.0.1:{self.node_ports[name][0]}/v1/health"
        try:
            return httpx.get(url, trust_env=False, timeout=20).json()["status"] == "ok"
        except (httpx.HTTPError, ValueError):
            return False

    def sender(self, key: KeyFile) -> Sender:
        return Sender(self.chain, key.private_key, open_engine(f"sqlite:///{self.root}/{key.address}.db"))

    def start_part(self, name: str, part: str) -> None:
        command = [sys.executable, "-m", "sealtrace", "node", part, "--dir", str(self.root / name)]
        self.processes.start(Program(f"{name}-{part}", tuple(command), {"OMP_NUM_THREADS": "1"}))

    def start(self, name: str, *arguments: object) -> None:
        command = [sys.executable, "-m", "sealtrace", *map(str, arguments), "--dir", str(self.root / name)]
        self.processes.start(Program(name, tuple(command), {}))


def checked(answer: httpx.Response) -> dict:
    assert answer.status_code < 400, answer.text
    return answer.json()


def not_heard_of(answer: httpx.Response) -> bool:
    """The chain may be ahead of the node's watcher."""
    return answer.status_code == 404 and answer.json()["type"].endswith(":TaskNotFound")


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=3, trust_env=False).status_code < 400
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    found = Net(tmp_path_factory.mktemp("net"))
    try:
        found.up()
        yield found
    finally:
        found.processes.stop()


def test_a_task_runs_between_two_nodes_and_both_record_it(net):
    task = net.submit()
    assert net.wait(task) is TaskState.COMPLETED
    for name in net.nodes:
        assert net.kinds(name, task) == [
            "task.judged",
            "task.started",
            "task.ran",
            "task.finished",
            "task.wiped",
        ]
        assert not list((net.root / name / "jobs").iterdir())
    url = f"http://127.0.0.1:{net.scheduler_port}/v1/tasks/{task}"
    assert all(party["output"] for party in httpx.get(url, trust_env=False).json()["parties"])
    told = net.chain.events(0, net.chain.head().number, names={"TaskProgress"}, task=task)
    addresses = {node.settings.address for node in net.nodes.values()}
    assert {(each.args["party"], each.args["step"]) for each in told} == {(a, 0) for a in addresses}


def test_the_log_is_anchored_after_a_task(net):
    task = net.submit()
    net.wait(task)
    node = net.nodes["a"]
    deadline = time.monotonic() + 90
    while True:
        found = net.chain.checkpoint(node.settings.address, at=net.chain.head())
        wiped = node.evidence.last(task, Kind.TASK_WIPED)
        if found is not None and wiped is not None and found.size > wiped.index:
            break
        assert time.monotonic() < deadline, net.story(task)
        time.sleep(0.3)
    node.evidence.require(found)


def test_a_second_task_under_a_grant_for_one_use_is_refused_on_chain(net):
    grants = {name: net.grant(name, 1) for name in net.nodes}
    assert net.wait(net.submit_under(grants)) is TaskState.COMPLETED
    task = net.submit_under(grants)
    assert net.wait(task) is TaskState.REFUSED
    judged = [r for n in net.nodes for r in net.row(n, task)["evidence"] if r["kind"] == "task.judged"]
    assert {r["body"]["denial"] for r in judged} == {Denial.GRANT_EXHAUSTED}


def test_a_dataset_altered_on_disk_is_refused_on_chain_and_runs_again_once_restored(net):
    net.table("a").write_text("person\nsomebody else\n")
    try:
        task = net.submit()
        assert net.wait(task) is TaskState.REFUSED
        (refused,) = [r for r in net.row("a", task)["evidence"] if r["kind"] == "task.refused"]
        assert refused["body"]["denial"] == Denial.DATASET_ALTERED
    finally:
        net.write_table("a")
    assert net.wait(net.submit()) is TaskState.COMPLETED


@pytest.mark.parametrize("part", ["worker", "watcher", "gateway", "api"])
def test_a_process_killed_while_a_task_is_on_its_way_hangs_nothing(net, part):
    """Whatever dies, the task comes to an end that is recorded; it completes, or fails openly."""
    task = net.submit()
    time.sleep(1.0)
    net.processes.kill(f"a-{part}")
    net.start_part("a", part)
    if part == "api":
        wait_until({"a-api": lambda: net.healthy("a")}, net.processes, timeout_s=60)
    state = net.wait(task, timeout_s=180)
    assert state in (TaskState.COMPLETED, TaskState.FAILED)
    kinds = net.kinds("a", task)
    assert len(set(kinds)) == len(kinds), kinds
    assert kinds.count("task.started") == 1


def test_redis_that_forgets_everything_forgets_no_task(net):
    net.processes.kill("redis")
    task = net.submit()
    net.processes.start(redis.program(net.root / "redis", net.redis_port))
    assert net.wait(task) is TaskState.COMPLETED


def test_an_owner_stops_a_task_over_the_api(net):
    os.kill(pid(net, "b-worker"), signal.SIGSTOP)  # so that the task cannot be over before
    try:
        task = net.submit()
        deadline = time.monotonic() + 90
        while not any(row["id"] == task for row in net.ask("a", "GET", "/v1/tasks")):
            assert time.monotonic() < deadline, net.story(task)
            time.sleep(0.1)
        net.ask("a", "POST", f"/v1/tasks/{task}/stop")
        while net.chain.task(task, at=net.chain.head()).state in OPEN_STATES:
            assert time.monotonic() < deadline, net.story(task)
            time.sleep(0.1)
    finally:
        os.kill(pid(net, "b-worker"), signal.SIGCONT)
    assert net.wait(task) is TaskState.REFUSED
    (refused,) = [r for r in net.row("a", task)["evidence"] if r["kind"] == "task.refused"]
    assert refused["body"]["denial"] == Denial.OPERATOR_REFUSED


def test_the_doctor_finds_nothing_wrong(net):
    from sealtrace.node.doctor import examine

    assert [each for each in examine(net.nodes["a"]) if not each.ok] == []


def test_a_grant_for_enclaves_is_on_the_chain_and_its_policy_in_the_owners_log(net):
    measured = {"kind": "software", "measurements": {"runtime": "41" * 32}}
    policy = {"platforms": ["tee-simulated"], "images": [measured], "max_age_s": 60, "max_age_blocks": 60}
    order = {
        "dataset": net.datasets["a"],
        "algorithm": net.algorithm,
        "requester": net.lab.address,
        "purpose": PURPOSE,
        "uses": 1,
        "expires_at": int(net.chain.head().timestamp) + 86_400,
        "protections": ["TEE_SIMULATED"],
    }
    assert net.answer("a", "POST", "/v1/grants", json=order).json()["type"].endswith(":PolicyMissing")
    issued = net.ask("a", "POST", "/v1/grants", json=order | {"policy": policy})
    on_chain = net.chain.grant(hex32(issued["id"]), at=net.chain.head())
    assert on_chain.protections == Protection.TEE_SIMULATED
    kept = net.nodes["a"].store.policy_of(hex32(issued["id"]))
    assert kept.digest() == issued["policy_digest"]
    log = Node.open(net.root / "a").evidence
    told = [record for record in map(log.record, range(len(log))) if record.body.get("grant") == issued["id"]]
    assert [record.body["policy"] for record in told] == [kept.digest()]
    assert read_policy(told[0].body["policy_text"].encode()) == kept


def pid(net: Net, name: str) -> int:
    (found,) = [status.pid for status in net.processes.statuses() if status.name == name]
    return int(found)


def test_one_command_runs_a_whole_node_and_ends_with_all_of_it(net):
    net.processes.stop([f"b-{part}" for part in PARTS])
    net.start_part("b", "run")
    try:
        wait_until({"b-run": lambda: net.healthy("b")}, net.processes, timeout_s=60)
        assert net.wait(net.submit()) is TaskState.COMPLETED
    finally:
        net.processes.stop(["b-run"])
    assert not answers(f"http://127.0.0.1:{net.node_ports['b'][0]}/v1/health")


@pytest.mark.parametrize("wrong", ["chain_id", "directory"])
def test_a_node_of_another_chain_or_other_contracts_ends_by_name_and_does_nothing(net, tmp_path, wrong):
    node = net.nodes["a"]
    values = {"chain_id": CHAIN_ID + 1, "directory": net.chain.addresses["TaskLedger"]}
    section = node.settings.chain.model_copy(update={wrong: values[wrong]})
    broker = f"redis://127.0.0.1:{net.redis_port}/9"
    settings = node.settings.model_copy(update={"chain": section, "redis_url": broker})
    directories.init(tmp_path / "node", settings, node.key)
    for part in ("watcher", "worker"):
        command = [sys.executable, "-m", "sealtrace", "node", part, "--dir", str(tmp_path / "node")]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert ended.returncode == 1
        assert "WrongNetwork" in ended.stderr
    assert not list((tmp_path / "node").glob("evidence/*.jsonl"))


def test_a_log_that_was_rewritten_stops_the_watcher_by_name(net):
    net.processes.stop(["a-watcher", "a-worker"])
    path = net.root / "a" / "evidence" / "000000.jsonl"
    original = path.read_bytes()
    try:
        path.write_bytes(original.replace(b'"by"', b'"bz"', 1).replace(b'"rows":', b'"rowz":', 1))
        for part in ("watcher", "worker"):
            command = [sys.executable, "-m", "sealtrace", "node", part, "--dir", str(net.root / "a")]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
            assert ended.returncode == 1
            assert "EvidenceTampered" in ended.stderr
    finally:
        path.write_bytes(original)
