"""An audit of a real chain: the embedded one, our contracts, two parties that keep evidence logs."""

import json
import shutil
import socket
import subprocess
import sys
import threading
from dataclasses import replace

import httpx
import pytest
import sqlalchemy
from eth_account import Account
from typer.testing import CliRunner

from sealtrace.auditor import verify_report
from sealtrace.auditor.cli import app
from sealtrace.auditor.exports.formats import Format
from sealtrace.auditor.following import events_of
from sealtrace.auditor.reading import read_range
from sealtrace.auditor.rpc import EndpointTalksNonsense, EndpointUnreachable, Rpc
from sealtrace.contracts import calls, deployment, signing
from sealtrace.contracts.abi import GENERATION, Artifact
from sealtrace.contracts.client import Chain, ChainSettings
from sealtrace.contracts.deployment import Founding, constructor_arguments, created, deploy
from sealtrace.contracts.embedded import genesis as genesis_file
from sealtrace.contracts.events import NAMES
from sealtrace.contracts.governance import Office, Rules, proposal_id
from sealtrace.contracts.link import Link
from sealtrace.contracts.sender import Sender, offered
from sealtrace.contracts.terms import dataset_id
from sealtrace.protocol.canonical import digest, sha256
from sealtrace.protocol.evidence import Kind, Record
from sealtrace.protocol.identifiers import NOBODY, UnixSeconds, address, hex32, raw
from sealtrace.protocol.merkle import MerkleTree, leaf_hash
from sealtrace.protocol.outcome import Blame, Denial
from sealtrace.protocol.receipt import Receipt, input_commitment, result_digest
from sealtrace.protocol.records import DataClass, GrantTerms, Protection, Role, TaskTerms, Use

CHAIN_ID = 77
ALGORITHM, PURPOSE = sha256(b"bundle"), sha256(b"purpose")


class Network:
    """A chain with our contracts and the keys of two owners, a requester and the offices."""

    def __init__(self, folder, *, members=1):
        self.folder = folder
        self.members = [Account.create() for _ in range(members)]
        self.regulator = Account.create() if members > 1 else self.members[0]
        self.keys = sorted((Account.create() for _ in range(2)), key=lambda each: each.address.lower())
        self.requester, self.office = Account.create(), self.members[0]
        serve = [sys.executable, "-m", "sealtrace.contracts.embedded", "serve", "--port", "0"]
        self.process = subprocess.Popen(
            [*serve, "--dir", str(folder / "chain"), "--chain-id", str(CHAIN_ID)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.url = self.process.stdout.readline().split(" at ")[1].split(",")[0]
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        officers = [address(each.address) for each in (self.office, self.regulator)]
        members = [address(each.address) for each in self.members]
        deployer = bytes(Account.create().key)
        self.deployed = deploy(self.url, CHAIN_ID, deployer, *officers, members=members)
        self.settings = ChainSettings(self.url, CHAIN_ID, self.deployed.directory)
        self.database = sqlalchemy.create_engine(f"sqlite:///{folder / 'outbox.db'}")
        self.connect()
        self.lines = {address(key.address): [] for key in self.keys}
        self.intents = 0

    def connect(self):
        """Talk to the contracts that the directory names now."""
        self.chain = Chain.connect(self.settings)
        people = [*self.keys, self.requester, *self.members, self.regulator]
        self.senders = {k.address: Sender(self.chain, bytes(k.key), self.database) for k in people}

    def all(self, *acts):
        """Send several acts together and wait for all of them."""
        sent = []
        for key, call in acts:
            self.intents += 1
            sent.append((self.senders[key.address], f"intent {self.intents}"))
            sent[-1][0].submit(sent[-1][1], call)
        return [sender.wait(intent) for sender, intent in sent]

    def record(self, key, kind, body, task=None):
        lines = self.lines[address(key.address)]
        node = address(key.address)
        now = self.chain.head().timestamp
        line = Record(index=len(lines), at=now, node=node, kind=kind.value, task=task, body=body).line()
        lines.append(line)

    def anchor(self, *keys):
        trees = {k: MerkleTree(map(leaf_hash, self.lines[address(k.address)])) for k in keys}
        self.all(*((k, calls.anchor(len(tree), hex32(tree.root()))) for k, tree in trees.items()))

    def handed_over(self, folder, change=lambda text: text):
        """Each log as a folder of one segment, as a node keeps it; the first one changed."""
        given = []
        for place, (node, lines) in enumerate(self.lines.items()):
            text = b"".join(line + b"\n" for line in lines)
            where = folder / node
            where.mkdir(parents=True)
            (where / "000000.jsonl").write_bytes(change(text) if place == 0 else text)
            given += ["--evidence", f"{node}={where}"]
        return given


def tell(network):
    """One task that completes, one that is refused."""
    a, b = network.keys
    nodes = [address(k.address) for k in (a, b)]
    requester = address(network.requester.address)
    roles = [(k, Role.OWNER | Role.COMPUTE) for k in (a, b)]
    roles.append((network.requester, Role.REQUESTER | Role.PROVIDER))
    for key, role in roles:
        admitted = calls.admit(address(key.address), role, sha256(b"tls"), sha256(b"enc"))
        network.all((network.office, admitted))
    commitments = {node: sha256(node.encode()) for node in nodes}
    datasets = {node: dataset_id(node, commitments[node]) for node in nodes}
    network.all(
        (network.requester, calls.register_algorithm(ALGORITHM)),
        *(
            (key, calls.register_dataset(commitments[node], sha256(b"schema"), DataClass.GENERAL))
            for key, node in zip((a, b), nodes, strict=True)
        ),
    )
    head = network.chain.head()
    window = (head.timestamp, head.timestamp + 3600)
    given = {
        n: GrantTerms(datasets[n], ALGORITHM, requester, PURPOSE, 1, *window, Protection.PSI_RR22)
        for n in nodes
    }
    grants = {n: network.chain.grant_id(n, 0, given[n]) for n in nodes}
    network.all(*((key, calls.issue_grant(given[n])) for key, n in zip((a, b), nodes, strict=True)))
    uses = tuple(Use(i, datasets[n], ALGORITHM, grants[n]) for i, n in enumerate(nodes))
    deadline = head.timestamp + 3000
    for word in ("first", "second"):
        spec = sha256(word.encode())
        terms = TaskTerms(requester, spec, PURPOSE, Protection.PSI_RR22, deadline, tuple(nodes), uses)
        network.all((network.requester, calls.create(terms)))
        task, block = network.chain.task_id(terms), network.chain.head()
        if word == "second":
            refuse(network, a, task, terms, block)
        else:
            complete(network, task, terms, block, commitments, datasets)


def judged(block, denial):
    return {"denial": denial, "block_number": block.number, "block_hash": block.hash}


def refuse(network, key, task, terms, block):
    network.record(key, Kind.TASK_JUDGED, judged(block, int(Denial.GRANT_EXHAUSTED)), task)
    (mined,) = network.all((key, calls.refuse(terms, Denial.GRANT_EXHAUSTED)))
    network.record(key, Kind.TASK_REFUSED, {"transaction": mined.transaction}, task)
    network.anchor(key)


def complete(network, task, terms, block, commitments, datasets):
    bound = {n: input_commitment(task, {datasets[n]: commitments[n]}, [ALGORITHM]) for n in terms.parties}
    pairs = list(zip(network.keys, terms.parties, strict=True))
    for key, _ in pairs:
        network.record(key, Kind.TASK_JUDGED, judged(block, None), task)
    mined = network.all(*((key, calls.start(terms, bound[node])) for key, node in pairs))
    outputs = {node: sha256(b"share" + node.encode()) for node in terms.parties}
    transcript = {"steps": [{"step": "align", "engine": "psi", "protocol": "RR22", "common": 5}]}
    receipts = {}
    for (key, node), done in zip(pairs, mined, strict=True):
        receipts[node] = Receipt(
            task=task,
            party=node,
            authority_number=block.number,
            authority_hash=block.hash,
            input_commitment=bound[node],
            transcript=digest(transcript),
            output=outputs[node],
            result=result_digest(outputs),
        )
        body = {"transaction": done.transaction, "input_commitment": bound[node]}
        network.record(key, Kind.TASK_STARTED, body, task)
        network.record(key, Kind.TASK_RAN, {"transcript": transcript}, task)
    network.anchor(*network.keys)
    ends = [(k, calls.finish(terms, receipts[n].digest(), receipts[n].result)) for k, n in pairs]
    for (key, node), done in zip(pairs, network.all(*ends), strict=True):
        body = {"transaction": done.transaction, "receipt": receipts[node].model_dump(mode="json")}
        network.record(key, Kind.TASK_FINISHED, body, task)
        network.record(key, Kind.TASK_WIPED, {"files": 2}, task)
    network.anchor(*network.keys)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    running = Network(tmp_path_factory.mktemp("network"))
    try:
        tell(running)
        yield running
    finally:
        running.process.kill()
        running.process.wait(20)


def run(network, out, *more, command="run"):
    arguments = [command, "--rpc", network.url, "--chain-id", str(CHAIN_ID), "--out", str(out), "--json"]
    result = CliRunner().invoke(app, [*arguments, "--contracts", network.deployed.directory, *more])
    return result.exit_code, json.loads(result.stdout)


def test_an_honest_network_is_clean_at_level_two_and_twice_the_same(network, tmp_path):
    logs = network.handed_over(tmp_path / "logs")
    every = ["--format", ",".join(Format)]
    code, told = run(network, tmp_path / "one", *logs, *every)
    assert (code, told["result"], told["findings"]) == (0, "clean", [])
    assert told["proof_level"] == 2
    assert (told["counts"]["tasks"], told["counts"]["ran"]) == (2, 1)
    run(network, tmp_path / "two", *logs, *every, "--to", str(told["last_block"]))
    for name in (each.file for each in Format):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    rows = {row["rule"]: row for row in json.loads((tmp_path / "one/report.json").read_bytes())["controls"]}
    assert rows["ST-S01"]["satisfied"] > 8
    assert (rows["ST-R01"]["satisfied"], rows["ST-S01"]["undetermined"]) == (1, 0)


def proof_told(folder):
    report = json.loads((folder / "report.json").read_bytes())
    return report["proof"], {row["rule"]: row for row in report["controls"]}


def test_the_storage_that_is_compared_is_proven_against_the_last_blocks_state_root(network, tmp_path):
    run(network, tmp_path / "out")
    proof, rows = proof_told(tmp_path / "out")
    assert rows["PR-04"]["satisfied"] == 1
    assert proof["storage"]["slots"] > 30
    header = httpx.post(network.url, json=_asked("debug_getRawHeader", hex(proof["last_block"]))).json()
    assert proof["storage"]["state_root"][2:] in header["result"]
    assert "proven against the state root" in (tmp_path / "out/report.html").read_text()


def test_the_chain_is_executed_again_where_that_is_asked_for(network, tmp_path):
    genesis = str(network.folder / "chain" / genesis_file.FILE_NAME)
    for more in ([], ["--genesis", genesis], ["--to", str(network.chain.deployed_at + 3)]):
        run(network, tmp_path / "out", "--reexecute", *more)
        proof, rows = proof_told(tmp_path / "out")
        assert (rows["PR-05"]["satisfied"], rows["PR-05"]["violated"]) == (1, 0)
        assert proof["execution"]["says"].startswith(f"{proof['last_block']} blocks with")
        assert "the same last block" in proof["execution"]["says"]
    run(network, tmp_path / "out")
    proof, rows = proof_told(tmp_path / "out")
    assert (rows["PR-05"]["satisfied"], rows["PR-05"]["undetermined"]) == (0, 0)
    assert "--reexecute" in proof["execution"]["says"]


def test_a_chain_that_does_not_follow_from_the_genesis_that_is_held_is_a_finding(network, tmp_path):
    held = json.loads((network.folder / "chain" / genesis_file.FILE_NAME).read_text())
    other = tmp_path / "genesis.json"
    other.write_text(json.dumps(held | {"chainId": CHAIN_ID + 1}))
    run(network, tmp_path / "out", "--reexecute", "--genesis", str(other), "--rule", "PR-05")
    found = json.loads((tmp_path / "out/report.json").read_bytes())["findings"]
    assert [each["rule"] for each in found] == ["PR-05"]
    assert "--reexecute" in found[0]["recheck"]


def test_a_genesis_file_that_is_none_ends_the_audit_by_name(network, tmp_path):
    code, told = run(network, tmp_path / "out", "--reexecute", "--genesis", str(tmp_path / "none.json"))
    assert (code, told["error"]) == (3, "CannotExecute")


def test_validators_named_for_a_chain_that_nobody_seals_are_a_finding(network, tmp_path):
    who = network.office.address.lower()
    code, told = run(network, tmp_path / "out", "--validators", who, "--rule", "PR-03")
    assert (code, told["proof_level"]) == (1, 2)
    assert told["findings"][0]["expected"] == "a block with commit seals"
    code, told = run(network, tmp_path / "out", "--validators", f"{who},{who}")
    assert (code, told["error"]) == (3, "WrongArgument")


def _asked(method, *params):
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}


def bundled(network, out, *more):
    return run(network, out, *more, command="bundle")


def verified(bundle, anchor, folder):
    """What the one file says of a bundle, where nothing of ours can be imported."""
    program = shutil.copy(verify_report.__file__, folder)
    arguments = [sys.executable, "-I", "-S", program, str(bundle), "--anchor", anchor]
    return subprocess.run(arguments, capture_output=True, text=True, cwd=folder, timeout=120, check=False)


def test_a_bundle_of_a_real_chain_is_proved_by_the_one_file_alone_and_twice_the_same(network, tmp_path):
    logs = network.handed_over(tmp_path / "logs")
    code, told = bundled(network, tmp_path / "one.tar", *logs)
    assert (code, told["result"]) == (0, "clean")
    done = verified(tmp_path / "one.tar", told["anchor"], tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "the 2 in the report are all there were" in done.stdout
    assert "of which 2 are starts" in done.stdout
    assert done.stdout.count("whose Merkle root the node put on the chain") == 2
    _, again = bundled(network, tmp_path / "two.tar", *logs, "--to", str(told["last_block"]))
    assert again["sha256"] == told["sha256"]
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_a_person_is_told_where_the_bundle_is_and_the_hash_to_compare(network, tmp_path):
    where = ["bundle", "--rpc", network.url, "--chain-id", str(CHAIN_ID), "--contracts"]
    arguments = [*where, network.deployed.directory, "--out"]
    result = CliRunner().invoke(app, [*arguments, str(tmp_path / "b.tar")])
    assert result.exit_code == 2  # no log was handed over
    assert f"Bundle: {tmp_path / 'b.tar'}, sha256 " in result.output
    head = network.chain.head()
    assert f"Its last block is {head.hash}" in result.output
    (tmp_path / "file").write_bytes(b"")
    result = CliRunner().invoke(app, [*arguments, str(tmp_path / "file" / "b.tar"), "--json"])
    assert (result.exit_code, json.loads(result.stdout)["error"]) == (3, "BundleUnwritable")


def test_a_bundle_of_a_range_that_begins_later_still_proves_all_tasks_in_it(network, tmp_path):
    _, told = bundled(network, tmp_path / "all.tar")
    code, later = bundled(network, tmp_path / "b.tar", "--from", str(told["last_block"] - 2))
    assert code == 2  # no log was handed over
    assert later["counts"]["tasks"] == 1
    done = verified(tmp_path / "b.tar", later["anchor"], tmp_path)
    assert done.returncode == 0, done.stdout
    assert "the 1 in the report are all there were" in done.stdout
    assert "anchored and not handed over" in done.stdout


def test_one_flipped_byte_is_one_finding_that_names_node_and_roots(network, tmp_path):
    flip = lambda text: text.replace(b'"files":2', b'"files":3', 1)  # noqa: E731
    code, told = run(network, tmp_path / "out", *network.handed_over(tmp_path / "logs", flip))
    (found,) = told["findings"]
    assert (code, found["rule"], found["node"]) == (1, "EV-L01", next(iter(network.lines)))
    assert found["block"] is not None
    assert "root 0x" in found["expected"]
    assert "root 0x" in found["observed"]


def test_a_person_sees_a_table_the_findings_and_where_the_report_is(network, tmp_path):
    flip = lambda text: text.replace(b'"files":2', b'"files":3', 1)  # noqa: E731
    logs = network.handed_over(tmp_path / "logs", flip)
    fixed = ["run", "--rpc", network.url, "--chain-id", str(CHAIN_ID), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*fixed, "--contracts", network.deployed.directory, *logs])
    assert result.exit_code == 1
    assert "tasks" in result.output
    assert "EV-L01 The log of node" in result.output
    assert "1 finding in 2 tasks up to block" in result.output
    assert str(tmp_path / "out" / "report.html") in result.output


def test_without_the_logs_it_cannot_be_told(network, tmp_path):
    code, told = run(network, tmp_path / "out")
    assert (code, told["result"]) == (2, "cannot_tell")


def test_a_finding_is_looked_at_again_by_its_command(network, tmp_path):
    code, told = run(network, tmp_path / "out", "--rule", "ST-G02")
    assert (code, told["result"]) == (0, "clean")
    assert told["counts"]["verdicts"]["satisfied"] == 4


def test_an_endpoint_that_is_down_is_passed_over_by_a_whole_audit(network, tmp_path):
    several = f"http://127.0.0.1:1, {network.url}"
    code, told = run(network, tmp_path / "out", "--rule", "ST-G02", "--rpc", several)
    assert (code, told["result"]) == (0, "clean")


def test_our_reader_says_what_the_chains_client_says(network):
    with Rpc(network.url) as rpc:
        reading = read_range(rpc, list(network.chain.contracts), 0, network.chain.head().number)
    mine = events_of(reading, network.chain.contracts)
    theirs = network.chain.events(0, network.chain.head().number)
    assert [(e.name, e.args, e.transaction, e.log_index) for e in mine] == [
        (e.name, e.args, e.transaction, e.log_index) for e in theirs
    ]


class Liar(httpx.HTTPTransport):
    """Passes questions on and changes the answers."""

    def __init__(self, lie):
        super().__init__()
        self.lie = lie

    def handle_request(self, request):
        answer = super().handle_request(request)
        answer.read()
        asked, told = json.loads(request.content), json.loads(answer.content)
        pairs = zip(asked, told, strict=True) if isinstance(asked, list) else [(asked, told)]
        for question, each in pairs:
            each["result"] = self.lie(question["method"], question["params"], each["result"])
        return httpx.Response(200, content=json.dumps(told).encode())


def read_through(network, lie):
    addresses = list(network.chain.contracts)
    with Rpc(network.url, transport=Liar(lie)) as rpc:
        return read_range(rpc, addresses, 0, network.chain.head().number)


def about(wanted, change):
    """A lie about the answers to one method."""
    return lambda method, params, result: change(result) if method == wanted else result


def altered(logs):
    data = logs[-1]["data"]
    return [*logs[:-1], logs[-1] | {"data": data[:-1] + ("1" if data[-1] != "1" else "2")}]


LIES = {
    "a log dropped": about("eth_getLogs", lambda logs: logs[:5] + logs[6:]),
    "a log altered": about("eth_getLogs", altered),
    "a log invented": about("eth_getLogs", lambda logs: [*logs, logs[-1] | {"logIndex": "0x7"}]),
    "a log moved": about("eth_getLogs", lambda logs: [*logs[:-1], logs[-1] | {"blockNumber": "0x0"}]),
    "a log dropped everywhere": lambda method, params, result: (
        []
        if method == "eth_getLogs"
        else [r | {"logs": []} for r in result]
        if method == "eth_getBlockReceipts"
        else result
    ),
    "a bloom filter emptied": about(
        "eth_getBlockByNumber", lambda block: block | {"logsBloom": "0x" + "00" * 256}
    ),
    "a block's time altered": about(
        "eth_getBlockByNumber", lambda block: block | {"timestamp": hex(int(block["timestamp"], 16) + 1)}
    ),
    "headers swapped": about(
        "eth_getBlockByNumber",
        lambda block: block | {"parentHash": "0x" + "11" * 32} if block["number"] == "0x5" else block,
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_an_endpoint_that_lies_is_caught(network, name):
    proof = read_through(network, LIES[name]).proof
    assert proof.level == 1
    assert proof.chain_problems or proof.log_problems


def test_a_lie_of_getlogs_does_not_reach_the_replay(network):
    honest = read_through(network, lambda method, params, result: result)
    assert read_through(network, LIES["a log altered"]).logs == honest.logs


@pytest.mark.parametrize(
    "nonsense",
    [
        lambda method, params, result: None,
        lambda method, params, result: "0x",
        lambda method, params, result: [1, 2, 3],
        lambda method, params, result: {"number": "0xzz"},
        lambda method, params, result: result | {"gasUsed": -1} if isinstance(result, dict) else result,
    ],
)
def test_an_endpoint_that_talks_nonsense_is_named_as_such(network, nonsense):
    with pytest.raises(EndpointTalksNonsense):
        read_through(network, nonsense)


def test_an_endpoint_without_receipts_is_trusted_and_said_to_be(network):
    class Poor(httpx.HTTPTransport):
        def handle_request(self, request):
            if b"eth_getBlockReceipts" in request.content:
                error = {"jsonrpc": "2.0", "id": 0, "error": {"code": -32601, "message": "no such method"}}
                return httpx.Response(200, content=json.dumps(error).encode())
            return super().handle_request(request)

    with Rpc(network.url, transport=Poor()) as rpc:
        reading = read_range(rpc, list(network.chain.contracts), 0, network.chain.head().number)
    assert reading.proof.level == 1
    assert "eth_getBlockReceipts" in reading.proof.reason
    assert len(reading.logs) > 20


def test_a_dead_endpoint_ends_the_audit_with_its_own_exit_code(network, tmp_path):
    arguments = ["run", "--rpc", "http://127.0.0.1:1", "--chain-id", "77", "--out", str(tmp_path), "--json"]
    result = CliRunner().invoke(app, [*arguments, "--contracts", network.deployed.directory])
    assert result.exit_code == 3
    assert json.loads(result.output)["error"] == "ChainUnreachable"
    with pytest.raises(EndpointUnreachable), Rpc("http://127.0.0.1:1") as rpc:
        rpc.ask("eth_chainId")


def audit_of(network, tmp_path, *, chain_id=CHAIN_ID, contracts=None):
    where = ["--rpc", network.url, "--chain-id", str(chain_id), "--out", str(tmp_path / "report"), "--json"]
    directory = contracts or network.deployed.directory
    result = CliRunner().invoke(app, ["run", *where, "--contracts", directory])
    assert result.exit_code == 3
    assert not list(tmp_path.rglob("*"))
    return json.loads(result.output)["error"]


def test_a_contract_with_other_code_is_a_finding(network, tmp_path, monkeypatch):
    known = Artifact.is_code
    monkeypatch.setattr(
        Artifact, "is_code", lambda self, code: self.name != "GrantRegistry" and known(self, code)
    )
    code, told = run(network, tmp_path)
    assert code == 1
    (found,) = told["findings"]
    assert (found["rule"], found["object"]) == ("ST-V05", "GrantRegistry of generation 0")
    assert network.chain.addresses["GrantRegistry"] in found["observed"]


def test_another_chain_or_another_contract_is_not_audited(network, tmp_path):
    assert audit_of(network, tmp_path, chain_id=78) == "WrongChain"
    ledger = network.chain.addresses["TaskLedger"]
    assert audit_of(network, tmp_path, contracts=ledger) == "WrongContracts"


def test_a_service_whose_port_is_taken_says_so(network, tmp_path):
    folder = tmp_path / "auditor"
    made = ["init", "--dir", str(folder), "--rpc", network.url, "--chain-id", str(CHAIN_ID)]
    assert CliRunner().invoke(app, [*made, "--contracts", network.deployed.directory]).exit_code == 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = folder / "auditor.toml"
        settings.write_text(settings.read_text().replace("port = 0", f"port = {port}"))
        result = CliRunner().invoke(app, ["serve", "--dir", str(folder), "--json"])
    assert result.exit_code == 3
    assert json.loads(result.output)["error"] == "PortTaken"
    assert not (folder / "audits").exists()


def test_the_receipts_root_is_the_one_of_an_independent_trie(network):
    """Blocks of several transactions, by the trie library that the embedded chain uses."""
    from sealtrace.auditor.headers import read_header, read_receipts, receipts_rlp, receipts_root

    with Rpc(network.url) as rpc:
        for number in range(network.chain.head().number + 1):
            header = read_header(rpc.ask("eth_getBlockByNumber", hex(number), False))
            receipts = rpc.ask("eth_getBlockReceipts", hex(number))
            assert hex32(raw(header.computed)) == header.claimed
            encoded = receipts_rlp(read_receipts(receipts))
            assert receipts_root(encoded) == header.receipts_root


# the whole of the contracts, on two generations


class Governed(Network):
    """A consortium of two members and a regulator, two owners, a requester who also provides algorithms."""

    def __init__(self, folder):
        super().__init__(folder, members=2)
        self.a, self.b = self.keys
        self.nodes = tuple(address(each.address) for each in self.keys)
        self.lab = address(self.requester.address)

    def do(self, key, *acts):
        """Acts of one account, one after the other."""
        for act in acts:
            self.all((key, act))

    def decide(self, *acts):
        """All members agree to ``acts``, and somebody does what they decided."""
        actions = [calls.Action(self.chain.addresses[act.contract], act.data()) for act in acts]
        description = sha256(f"why {self.intents}".encode())
        self.do(self.office, calls.propose(actions, description))
        electorate = self.chain.consortium(at=self.chain.head()).electorate
        proposal = proposal_id([(each.target, each.data) for each in actions], description, electorate)
        self.do(self.members[1], calls.vote(proposal, yes=True))
        self.do(self.requester, calls.execute(actions, description))

    def place(self, contract):
        return signing.Place(CHAIN_ID, self.chain.addresses[contract])

    def later(self, seconds=3000):
        return UnixSeconds(self.chain.head().timestamp + seconds)

    def commitment(self, node, word=""):
        return sha256(f"{node} {word}".encode())

    def dataset(self, node, word=""):
        return dataset_id(node, self.commitment(node, word))

    def equip(self, *also):
        """Admit everybody by vote, have two algorithms reviewed, and register the datasets."""
        roles = dict.fromkeys(self.nodes, Role.OWNER | Role.COMPUTE)
        roles[self.lab] = Role.REQUESTER | Role.PROVIDER
        keys = (sha256(b"tls"), sha256(b"enc"))
        self.decide(*also, *(calls.admit(node, role, *keys) for node, role in roles.items()))
        bundles = (FORMER, ALGORITHM)
        proposed = [calls.propose_algorithm(each, self.nodes) for each in bundles]
        registered = {
            key: calls.register_dataset(self.commitment(node), sha256(b"schema"), DataClass.IMPORTANT)
            for key, node in zip(self.keys, self.nodes, strict=True)
        }
        self.all(*((self.requester, each) for each in proposed), *registered.items())
        fine = [calls.review_algorithm(each, sha256(b"fine"), agreed=True) for each in bundles]
        self.all(*((key, each) for key in self.keys for each in fine))

    def grant_terms(self, dataset, **changed):
        window = (self.chain.head().timestamp, self.later())
        usual = GrantTerms(dataset, ALGORITHM, self.lab, PURPOSE, 9, *window, Protection.PSI_RR22)
        return replace(usual, **changed)

    def serial(self, node):
        return self.chain.serial(node, at=self.chain.head())

    def grant(self, key, terms):
        node = address(key.address)
        given = self.chain.grant_id(node, self.serial(node), terms)
        self.do(key, calls.issue_grant(terms))
        return given

    def terms(self, word, grants):
        uses = tuple(
            Use(i, dataset, ALGORITHM, grant, epsilon) for i, (dataset, grant, epsilon) in enumerate(grants)
        )
        spec, protection = sha256(word.encode()), Protection.PSI_RR22
        return TaskTerms(self.lab, spec, PURPOSE, protection, self.later(), self.nodes, uses)

    def task(self, word, grants):
        """A task over both owners' grants."""
        terms = self.terms(word, grants)
        self.do(self.requester, calls.create(terms))
        return terms


FORMER, DECLINED = sha256(b"former bundle"), sha256(b"declined bundle")


def govern(network):
    """Everything the contracts of one generation do."""
    network.equip(calls.set_rules(Rules(reviews=2)))
    a, b, lab = network.a, network.b, network.requester
    network.do(lab, calls.propose_algorithm(DECLINED, network.nodes))
    network.do(b, calls.review_algorithm(DECLINED, sha256(b"no"), agreed=False))
    network.do(lab, calls.supersede_algorithm(FORMER, ALGORITHM))
    supervise(network)
    grants = negotiate(network)
    relayed = network.task("relayed", grants)
    network.do(a, calls.approve(relayed))
    relay(network, relayed)
    others(network, grants)
    network.do(a, calls.rotate_keys(sha256(b"tls 2"), sha256(b"enc 2")))
    network.do(network.office, calls.offer_office(Office.REGISTRAR, address(network.members[1].address)))
    holder = address(network.office.address)
    network.do(network.members[1], calls.accept_office(Office.REGISTRAR, holder))
    rejected = [calls.Action(network.chain.addresses["TaskLedger"], calls.close_ledger().data())]
    network.do(network.office, calls.propose(rejected, sha256(b"close it")))
    electorate = network.chain.consortium(at=network.chain.head()).electorate
    asked = proposal_id([(each.target, each.data) for each in rejected], sha256(b"close it"), electorate)
    network.do(network.members[1], calls.vote(asked, yes=False))
    network.anchor(a, b)
    return grants


def supervise(network):
    """A suspension by each who may, one of them taken over, and all lifted."""
    node, reason = network.nodes[0], sha256(b"why")
    suspensions = [calls.suspend_node(node, reason), calls.suspend_algorithm(ALGORITHM, reason)]
    network.all(*((network.office, each) for each in suspensions))
    network.do(network.regulator, calls.suspend_node(node, reason))
    network.all(
        (network.office, calls.reinstate_algorithm(ALGORITHM)),
        (network.regulator, calls.reinstate_node(node)),
    )
    voted = [calls.suspend_node(node, reason), calls.suspend_algorithm(FORMER, reason)]
    network.decide(*voted, calls.reinstate_node(node))
    network.do(network.regulator, calls.reinstate_algorithm(FORMER))


def negotiate(network):
    """A's next version under a grant with a budget that replaced another; B's under one it signed."""
    a, b = network.nodes
    next_ = network.commitment(a, "2")
    said = (next_, sha256(b"schema"), DataClass.CORE)
    network.do(network.a, calls.supersede_dataset(network.dataset(a), *said))
    dataset = network.dataset(a, "2")
    terms = network.grant_terms(dataset)
    former = network.grant(network.a, terms)
    network.do(network.a, calls.pass_serial())
    terms = replace(terms, epsilon_millionths=100, participants=(b,), approval_required=True)
    mine = network.chain.grant_id(a, network.serial(a), terms)
    network.do(network.a, calls.replace_grant(former, terms))
    offered = network.grant_terms(network.dataset(b))
    theirs = network.chain.grant_id(b, network.serial(b), offered)
    signed = signing.grant(network.place("GrantRegistry"), offered, network.serial(b), network.later())
    network.do(network.requester, calls.issue_grant_signed(b, offered, signed.sign(bytes(network.b.key))))
    return [(dataset, mine, 7), (network.dataset(b), theirs, 0)]


def relay(network, terms):
    """Both parties sign, the requester submits; then it acknowledges the result."""
    place, until, result = network.place("TaskLedger"), network.later(), sha256(b"result")
    keys = [bytes(each.key) for each in network.keys]
    commitment, receipt = sha256(b"in"), sha256(b"receipt")
    starts = [
        (i, commitment, signing.start(place, terms, commitment, until).sign(k)) for i, k in enumerate(keys)
    ]
    network.do(network.requester, calls.start_signed(terms, starts))
    network.do(network.a, calls.together([calls.progress(terms, 0, each) for each in (250, 750)]))
    ends = [
        (i, receipt, result, signing.receipt(place, terms, receipt, result, until).sign(k))
        for i, k in enumerate(keys)
    ]
    network.do(network.requester, calls.finish_signed(terms, ends), calls.acknowledge(terms, result))


def others(network, grants):
    """Each other way in which a task ends, and one that waits; the acts of each in one transaction."""
    words = ("disputed", "failed", "stopped", "cancelled", "refused", "waiting")
    tasks = {word: network.terms(word, grants) for word in words}
    begun = [tasks[word] for word in words[:3]]
    network.do(network.requester, calls.together([calls.create(each) for each in tasks.values()]))
    network.do(network.a, calls.together([calls.approve(each) for each in begun]))
    network.all(
        *((k, calls.together([calls.start(each, sha256(b"in")) for each in begun])) for k in network.keys)
    )
    differing = [
        calls.finish(tasks["disputed"], sha256(b"receipt"), sha256(key.address.encode()))
        for key in network.keys
    ]
    failure = calls.fail(tasks["failed"], 3, Blame.PARTY, network.nodes[0])
    refusal = calls.refuse(tasks["refused"], 40)
    network.all(
        (network.a, calls.together([differing[0], calls.stop(tasks["stopped"])])),
        (network.b, calls.together([differing[1], failure, refusal])),
        (network.requester, calls.cancel(tasks["cancelled"])),
    )


def renew(network, grants):
    """A second set of contracts, announced and the former ledger closed in one breath; a task of the former
    one goes on."""
    begun = network.task("begun", grants)
    network.do(network.a, calls.approve(begun))
    addresses = deploy_generation(network)
    announcement = calls.announce(addresses["TaskLedger"], addresses["EvidenceAnchor"])
    told_twice = calls.serve_ledger(network.chain.addresses["TaskLedger"])
    network.decide(told_twice, announcement, calls.close_ledger())
    network.all(*((key, calls.start(begun, sha256(b"in"))) for key in network.keys))
    network.connect()
    network.equip()
    a, b = network.nodes
    fresh = [
        (network.dataset(n), network.grant(key, network.grant_terms(network.dataset(n))), 0)
        for key, n in zip(network.keys, (a, b), strict=True)
    ]
    relay(network, network.task("anew", fresh))
    lone = network.task("one party without a dataset", fresh[:1])
    network.do(network.requester, calls.cancel(lone))
    network.record(network.a, Kind.EVIDENCE_READ, {"by": "somebody"})
    network.anchor(network.a)
    network.all(
        (network.requester, calls.revoke_algorithm(FORMER)), (network.b, calls.withdraw_dataset(fresh[1][0]))
    )
    network.decide(calls.retire_node(b), calls.remove_member(address(network.office.address)))


def deploy_generation(network):
    link, account = Link.http(network.url, 10), Account.create()
    at = {"Consortium": network.chain.addresses["Consortium"], "Directory": network.deployed.directory}
    at |= {name: created(address(account.address), i) for i, name in enumerate(GENERATION)}
    nobody = Founding((), NOBODY, NOBODY, Rules())
    arguments = constructor_arguments(at, nobody)
    fees = offered(link, link.request("eth_getBlockByNumber", "latest", False))
    for nonce, name in enumerate(GENERATION):
        hash_ = deployment._send(link, account, CHAIN_ID, nonce, name, arguments[name], fees)
        deployment._mined(link, name, hash_, 60)
    return at


@pytest.fixture(scope="module")
def governed(tmp_path_factory):
    running = Governed(tmp_path_factory.mktemp("governed"))
    try:
        for key in running.keys:
            running.record(key, Kind.NODE_OPENED, {"cut_bytes": 0})
        renew(running, govern(running))
        yield running
    finally:
        running.process.kill()
        running.process.wait(20)


def test_everything_the_contracts_do_on_two_generations_is_replayed_as_it_is_stored(governed, tmp_path):
    code, told = run(governed, tmp_path / "out", "--checkpoint-blocks", "100000")
    assert [found["rule"] for found in told["findings"]] == ["ST-T04"]  # the dispute
    assert (code, told["proof_level"]) == (1, 2)
    report = json.loads((tmp_path / "out/report.json").read_bytes())
    rows = {row["rule"]: row for row in report["controls"]}
    told_apart = {rule: row["undetermined"] for rule, row in rows.items() if rule.startswith("ST-")}
    assert {rule for rule, count in told_apart.items() if count} <= {"ST-T05"}
    assert rows["ST-S01"]["satisfied"] > 45
    assert rows["PR-04"]["satisfied"] == 1
    assert rows["ST-I01"]["satisfied"] == 5 + 5 + len(report["tasks"])
    states = {task["state"] for task in report["tasks"]}
    ends = {"completed", "disputed", "failed", "cancelled", "refused", "created", "running"}
    assert states == ends
    seen = {event.name for event in read_events(governed)}
    assert NAMES - seen == {"EIP712DomainChanged", "RoleAdminChanged"}  # which ours never emit


def read_events(network):
    return network.chain.events(0, network.chain.head().number)


def test_an_audit_up_to_a_block_before_the_new_contracts_knows_nothing_of_them(governed, tmp_path):
    since = governed.chain.named.generations[1].since
    code, told = run(governed, tmp_path / "out", "--to", str(since - 1), "--checkpoint-blocks", "100000")
    assert (code, [found["rule"] for found in told["findings"]]) == (1, ["ST-T04"])
    report = json.loads((tmp_path / "out/report.json").read_bytes())
    assert [each["number"] for each in report["annex"]["generations"]] == [0]


@pytest.mark.parametrize("when", ["now", "before the new contracts"])
def test_a_bundle_of_everything_the_contracts_do_on_two_generations_is_proved(governed, tmp_path, when):
    last = governed.chain.named.generations[1].since - 1
    more = [] if when == "now" else ["--to", str(last)]
    _, told = bundled(governed, tmp_path / "b.tar", "--checkpoint-blocks", "100000", *more)
    done = verified(tmp_path / "b.tar", told["anchor"], tmp_path)
    assert done.returncode == 0, done.stdout
    assert f"the {told['counts']['tasks']} in the report are all there were" in done.stdout
