"""The chain's client against a real process: what is sent once, what is read, and what ends in time."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sealtrace.contracts import calls
from sealtrace.contracts.client import Chain, ChainSettings
from sealtrace.contracts.deployment import Deployment, deploy
from sealtrace.contracts.errors import (
    ChainError,
    ChainUnreachable,
    NotMined,
    Reverted,
    UnknownBlock,
    WrongChain,
    WrongContracts,
)
from sealtrace.contracts.keys import KeyFile
from sealtrace.contracts.link import HttpLink
from sealtrace.contracts.sender import Sender
from sealtrace.contracts.verification import examine
from sealtrace.protocol.identifiers import Hex32, UnixSeconds, hex32
from sealtrace.protocol.records import BlockRef, NodeStatus, Protection, Role, TaskTerms, Use

CHAIN_ID = 4242
PATIENCE_S = 60


def h(words: str) -> Hex32:
    return hex32(hashlib.sha256(words.encode()).digest())


@dataclass
class Network:
    """A serving chain with the contracts, and a registrar."""

    directory: Path
    process: subprocess.Popen[str]
    url: str
    keys: dict[str, KeyFile]
    deployment: Deployment | None = None

    @property
    def settings(self) -> ChainSettings:
        assert self.deployment is not None
        return ChainSettings(self.url, CHAIN_ID, self.deployment.directory, timeout_s=5)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()

    def restart(self) -> None:
        """At the same port, as an operator would."""
        self.process, self.url = serve(self.directory / "chain", self.url.rsplit(":", 1)[1])


def serve(directory: Path, port: str = "0") -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "sealtrace.contracts.embedded", "serve", "--dir", str(directory)]
    process = subprocess.Popen(
        [*command, "--chain-id", str(CHAIN_ID), "--port", port],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.startswith("chain "):
        process.kill()
        raise AssertionError("the chain did not start")
    return process, line.split(" at ")[1].split(",")[0]


@contextmanager
def running(directory: Path) -> Iterator[Network]:
    process, url = serve(directory / "chain")
    names = ("deployer", "registrar", "regulator", "alice", "lab")
    network = Network(directory, process, url, {n: KeyFile.create(directory / f"{n}.json") for n in names})
    try:
        network.deployment = deploy(
            url,
            CHAIN_ID,
            network.keys["deployer"].private_key,
            network.keys["registrar"].address,
            network.keys["regulator"].address,
        )
        yield network
    finally:
        network.kill()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with running(tmp_path_factory.mktemp("network")) as up:
        yield up


@pytest.fixture
def chain(network: Network) -> Chain:
    return Chain.connect(network.settings)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'outbox.db'}")
    yield engine
    engine.dispose()


@pytest.fixture
def registrar(network: Network, chain: Chain, outbox: sa.Engine) -> Sender:
    return Sender(chain, network.keys["registrar"].private_key, outbox)


def somebody(tmp_path: Path, name: str = "somebody") -> KeyFile:
    return KeyFile.create(tmp_path / f"{name}.json")


def admission(node: KeyFile, roles: Role = Role.OWNER) -> calls.Call:
    return calls.admit(node.address, roles, h("tls"), h("key"))


# sending


def test_a_node_is_admitted_and_read_back(registrar: Sender, chain: Chain, tmp_path: Path) -> None:
    node, before = somebody(tmp_path), chain.finalized()
    mined = registrar.send("admit", admission(node))
    assert [event.name for event in mined.events] == ["NodeAdmitted"]
    assert mined.events[0].timestamp == mined.block.timestamp
    assert chain.node(node.address, at=mined.block).status is NodeStatus.ACTIVE
    assert chain.node(node.address, at=before).status is NodeStatus.NONE
    told = chain.events(mined.block.number, mined.block.number, names={"NodeAdmitted"})
    assert told == mined.events


def test_several_wait_in_one_block(registrar: Sender, chain: Chain, tmp_path: Path) -> None:
    nodes = [somebody(tmp_path, str(i)) for i in range(8)]
    for i, node in enumerate(nodes):
        registrar.submit(f"admit:{i}", admission(node))
    blocks = {registrar.wait(f"admit:{i}").block.number for i in range(8)}
    assert len(blocks) <= 3


def test_a_revert_is_named_before_anything_is_sent(registrar: Sender, chain: Chain, network: Network) -> None:
    with pytest.raises(Reverted) as caught:
        registrar.send("nobody", calls.retire_node(network.keys["alice"].address))
    assert (caught.value.name, caught.value.contract) == ("UnknownNode", "NodeRegistry")
    assert "registrar admit" in str(caught.value)


def test_a_transaction_that_loses_a_race_reverts_with_its_reason(
    registrar: Sender, network: Network, chain: Chain, tmp_path: Path
) -> None:
    """Two registrars' transactions in one block: both looked good, the second is refused."""
    node = somebody(tmp_path)
    for _ in range(10):  # until both get into the same block
        node = KeyFile.create(tmp_path / f"{os.urandom(4).hex()}.json")
        registrar.submit(f"first:{node.address}", admission(node))
        try:
            registrar.submit(f"second:{node.address}", admission(node))
        except Reverted:
            continue
        break
    registrar.wait(f"first:{node.address}")
    with pytest.raises(Reverted) as caught:
        registrar.wait(f"second:{node.address}")
    assert caught.value.name == "NodeAlreadyKnown"
    assert caught.value.transaction is not None


def test_a_foreign_transaction_at_our_nonce_costs_nothing(
    registrar: Sender, network: Network, chain: Chain, tmp_path: Path
) -> None:
    ours, theirs = somebody(tmp_path, "ours"), somebody(tmp_path, "theirs")
    kept: list[Any] = []

    class Held(HttpLink):
        def attempt(self, method: str, *params: Any) -> Any:
            if method == "eth_sendRawTransaction":
                kept.append(params[0])
                return params[0]
            return super().attempt(method, *params)

    held = Chain(Held(network.url, 5), chain.settings, chain.named)
    slow = Sender(
        held, network.keys["registrar"].private_key, sa.create_engine(f"sqlite:///{tmp_path}/slow.db")
    )
    slow.submit("ours", admission(ours))
    registrar.send("theirs", admission(theirs))  # another database: it knows nothing of ours

    again = Sender(
        chain, network.keys["registrar"].private_key, sa.create_engine(f"sqlite:///{tmp_path}/slow.db")
    )
    again.pump()
    again.wait("ours")
    (lost,) = again.replaced()
    assert lost.taken_by == registrar.submit("theirs", admission(theirs))
    assert chain.node(ours.address, at=chain.head()).status is NodeStatus.ACTIVE


WORKER = """
import sys
import sqlalchemy as sa
from pathlib import Path
from sealtrace.contracts import calls
from sealtrace.contracts.client import Chain, ChainSettings
from sealtrace.contracts.keys import KeyFile
from sealtrace.contracts.sender import Sender
from sealtrace.protocol.identifiers import Address
from sealtrace.protocol.records import Role
url, chain_id, directory, key, db, nodes = sys.argv[1:]
chain = Chain.connect(ChainSettings(url, int(chain_id), Address(directory)))
sender = Sender(chain, KeyFile.load(Path(key)).private_key, sa.create_engine(f"sqlite:///{db}"))
for node in nodes.split(","):
    sender.submit(f"admit:{node}", calls.admit(Address(node), Role.OWNER, "0x" + "11" * 32, "0x" + "22" * 32))
for node in nodes.split(","):
    print(sender.wait(f"admit:{node}").transaction)
"""


def test_processes_that_share_an_outbox_send_each_intent_once(
    network: Network, chain: Chain, tmp_path: Path
) -> None:
    nodes = [KeyFile.create(tmp_path / f"n{i}.json").address for i in range(6)]
    arguments = [network.url, str(CHAIN_ID), network.settings.directory]
    arguments += [str(network.directory / "registrar.json"), str(tmp_path / "shared.db"), ",".join(nodes)]
    before = chain.head().number
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    said = [process.communicate(timeout=PATIENCE_S) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], [err[-800:] for _, err in said]
    assert said[0][0] == said[1][0] == said[2][0]
    told = chain.events(before + 1, chain.head().number, names={"NodeAdmitted"})
    assert sorted(str(event.args["node"]) for event in told) == sorted(nodes)


def test_a_kill_of_the_chain_loses_no_transaction(tmp_path: Path) -> None:
    with running(tmp_path) as network:
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'outbox.db'}")
        chain = Chain.connect(network.settings)
        sender = Sender(chain, network.keys["registrar"].private_key, engine)
        sender.submit("admit", admission(network.keys["alice"]))
        network.kill()  # it may have been in the pool only
        with pytest.raises(ChainUnreachable):
            chain.head()
        network.restart()

        sender.pump()
        mined = sender.wait("admit")

        assert chain.node(network.keys["alice"].address, at=mined.block).status is NodeStatus.ACTIVE
        engine.dispose()


def test_confirmations_are_waited_for(network: Network, tmp_path: Path, registrar: Sender) -> None:
    deep = Chain.connect(replace(network.settings, confirmations=1))
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'deep.db'}")
    sender = Sender(deep, network.keys["regulator"].private_key, engine)
    node = somebody(tmp_path)
    registrar.send("admit", admission(node))
    sender.submit("suspend", calls.suspend_node(node.address, h("why")))
    with pytest.raises(NotMined):
        sender.wait("suspend", timeout_s=2.5)
    registrar.send("another", admission(somebody(tmp_path, "another")))
    mined = sender.wait("suspend")
    assert deep.head().number >= mined.block.number + 1
    assert deep.finalized().number == deep.head().number - 1
    engine.dispose()


# reading


def test_a_block_that_was_never_there_is_unknown(chain: Chain, network: Network) -> None:
    with pytest.raises(UnknownBlock):
        chain.block(1_000_000)
    ghost = BlockRef(1, h("no such block"), UnixSeconds(1))
    with pytest.raises(UnknownBlock):
        chain.node(network.keys["alice"].address, at=ghost)


def test_facts_of_a_task_take_one_round_trip(chain: Chain, network: Network) -> None:
    posts: list[Any] = []

    class Counted(HttpLink):
        def _post(self, body: bytes) -> bytes:
            posts.append(len(json.loads(body)))
            return super()._post(body)

    counted = Chain(Counted(network.url, 5), chain.settings, chain.named)
    parties = (network.keys["alice"].address, network.keys["lab"].address)
    uses = (Use(0, h("d"), h("a"), h("g")),)
    lab, times = network.keys["lab"].address, UnixSeconds(1)
    terms = TaskTerms(lab, h("s"), h("p"), Protection.MPC_ABY3, times, tuple(sorted(parties)), uses)
    facts = counted.facts(terms, at=chain.head())
    assert posts == [5]
    assert (facts.grants, facts.datasets, facts.algorithms) == ({}, {}, {})
    assert set(facts.nodes) == set(parties)


def test_many_threads_read_through_one_client(chain: Chain, network: Network) -> None:
    at = chain.head()
    with ThreadPoolExecutor(16) as pool:
        found = list(
            pool.map(
                lambda _: chain.node(network.keys["alice"].address, at=at), range(100), timeout=PATIENCE_S
            )
        )
    assert len({node.status for node in found}) == 1


def test_the_code_on_the_chain_is_proven_ours(chain: Chain, network: Network) -> None:
    found = examine(chain.link, network.settings.directory)
    assert found.proven
    assert found.founding is not None
    assert found.founding.registrar == network.keys["registrar"].address


# endpoints that are down, wrong or hostile


def test_another_chain_id_is_named(network: Network) -> None:
    with pytest.raises(WrongChain, match=r"4242.*9999"):
        Chain.connect(replace(network.settings, chain_id=9999))


def test_another_contract_is_named(network: Network, chain: Chain) -> None:
    for address in (chain.addresses["TaskLedger"], network.keys["alice"].address):
        with pytest.raises(WrongContracts, match="Directory"):
            Chain.connect(replace(network.settings, directory=address))


def test_nobody_listening_is_named_with_the_url(network: Network) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused, and nobody else gets it
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ChainUnreachable, match=url):
            Chain.connect(replace(network.settings, rpc_url=url))


def test_a_password_in_the_url_is_not_shown(network: Network) -> None:
    url = network.url.replace("http://", "http://user:hunter2@") + "9"
    with pytest.raises(ChainUnreachable) as caught:
        Chain.connect(replace(network.settings, rpc_url=url, timeout_s=1))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://no-such-host.invalid:1", "ftp://127.0.0.1", "http://", "nonsense"])
def test_an_url_that_leads_nowhere_is_named(network: Network, url: str) -> None:
    with pytest.raises(ChainUnreachable):
        Chain.connect(replace(network.settings, rpc_url=url, timeout_s=2))


Answer = Callable[[BaseHTTPRequestHandler], None]


def say(status: int, body: bytes) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def silence(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(60)


def drip(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    for _ in range(600):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.1)


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


HOSTILE: dict[str, Answer] = {
    "silence": silence,
    "drip": drip,
    "hang up": hang_up,
    "500": say(500, b"no"),
    "redirect": say(301, b""),
    "not JSON": say(200, b"<html>hello</html>"),
    "not UTF-8": say(200, b"\xff\xfe"),
    "empty": say(200, b""),
    "null": say(200, b"null"),
    "number": say(200, b"7"),
    "list": say(200, b"[]"),
    "no result": say(200, b"{}"),
    "error": say(200, b'{"jsonrpc":"2.0","id":0,"error":{"code":-32601,"message":"no"}}'),
    "strange error": say(200, b'{"jsonrpc":"2.0","id":0,"error":"no"}'),
    "strange result": say(200, b'{"jsonrpc":"2.0","id":0,"result":{"a":1}}'),
    "null result": say(200, b'{"jsonrpc":"2.0","id":0,"result":null}'),
    "deep": say(200, b"[" * 100_000),
}


@contextmanager
def answering(answer: Answer) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            with suppress(OSError):
                answer(self)
            self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_endpoint_that_is_no_chain_is_named_in_time(network: Network, kind: str) -> None:
    with answering(HOSTILE[kind]) as url:
        started = time.monotonic()
        with pytest.raises(ChainError, match=url):
            Chain.connect(replace(network.settings, rpc_url=url, timeout_s=1))
        assert time.monotonic() - started < 20  # a minute would be waiting for it


# the command lines


def command(*words: str) -> tuple[int, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "sealtrace", *words, "--json"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    assert lines, done.stderr[-800:]
    return done.returncode, json.loads(lines[-1])


def test_the_commands_deploy_verify_admit_suspend_and_show(network: Network, tmp_path: Path) -> None:
    key = {name: str(network.directory / f"{name}.json") for name in network.keys}
    officers = ["--registrar", network.keys["registrar"].address]
    officers += ["--regulator", network.keys["regulator"].address]
    out = tmp_path / "deployment.json"
    code, deployed = command(
        "contracts", "deploy", "--rpc", network.url, "--key", key["deployer"], *officers, "--out", str(out)
    )
    assert (code, json.loads(out.read_text())) == (0, deployed)

    where = ["--rpc", network.url, "--contracts", deployed["directory"]]
    code, verified = command("contracts", "verify", *where)
    assert (code, verified["proven"]) == (0, True)

    node = somebody(tmp_path).address
    by = [*where, "--key", key["registrar"]]
    card = tmp_path / "card.json"
    card.write_text(json.dumps({"address": node, "tls_fingerprint": h("tls"), "encryption_key": h("key")}))
    code, admitted = command("registrar", "admit", str(card), *by, "--roles", "owner,compute")
    assert (code, admitted["events"][0]["name"]) == (0, "NodeAdmitted")
    code, _ = command("registrar", "suspend", node, *by, "--reason", "lost its key")
    assert code == 0
    code, shown = command("registrar", "show", node, *where)
    assert (code, shown["status"], shown["roles"]) == (0, "suspended", ["owner", "compute"])
    code, refused = command("registrar", "suspend", node, *by, "--reason", "again")
    assert (code, refused["error"]) == (1, "Reverted")
    code, _ = command("registrar", "retire", node, *by)
    assert code == 0
