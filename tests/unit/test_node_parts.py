"""Settings, the directory, bundles, the engine's adapter, the queue, the command line."""

from __future__ import annotations

import io
import json
import os
import socket
import ssl
import tarfile
import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest
from node_world import ALGORITHM, KEY, ME, OTHER, World
from typer.testing import CliRunner

from sealtrace.algorithms.bundles import load, shipped
from sealtrace.algorithms.kept import PartHeader, encode_part
from sealtrace.algorithms.shares import Computation
from sealtrace.node import directory as directories
from sealtrace.node.bundles import BundleStore
from sealtrace.node.chain import terms_from
from sealtrace.node.cli import app
from sealtrace.node.doctor import examine
from sealtrace.node.engines import errors as engine
from sealtrace.node.engines.job import Timeouts
from sealtrace.node.errors import (
    BadSettings,
    BundleInvalid,
    ChainUnavailable,
    DirectoryInUse,
    PortTaken,
    QueueUnavailable,
    WrongKey,
)
from sealtrace.node.gateway.authority import AuthorityUnavailable
from sealtrace.node.ports import LocalGateway, OwnInput, Plan
from sealtrace.node.preparing import BundleDiffers, BundleGone
from sealtrace.node.runner import EngineProcesses, Hosting, failure_of
from sealtrace.node.sessions import ChainAuthority
from sealtrace.node.settings import ChainSection, Settings, read_settings, to_toml
from sealtrace.node.terms import from_text, to_text
from sealtrace.node.wiring import Node, when_chain_answers
from sealtrace.node.worker import enqueue, ping, queue_app, run_worker
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.outcome import Blame, Denial, Failure
from sealtrace.protocol.records import NodeStatus

SECRET = b"\x03" * 32


def settings(**changes):
    return Settings(
        name="bank",
        address=directories.address_of(SECRET),
        scheduler_url="http://127.0.0.1:1",
        redis_url="redis://user:password@127.0.0.1:1/0",
        chain=ChainSection(rpc_url="http://127.0.0.1:1", chain_id=1, directory=ME, timeout_s=2),
        **changes,
    )


@pytest.fixture
def home(tmp_path):
    directories.init(tmp_path / "node", settings(), SECRET)
    return tmp_path / "node"


# --- settings and directory


def test_settings_are_read_back_as_they_were_written(home):
    assert read_settings(home) == settings()


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("chain_id = 1", "chain_id = 0", "chain.chain_id"),
        ('queue = "sealtrace"', 'quue = "x"', "quue"),
        ("[limits]", "[limit]", "limit"),
        ("[limits]", "[limits", "node.toml"),
        ("port = 8600", 'port = "many"', "api.port"),
    ],
)
def test_a_wrong_setting_is_named_with_its_place(home, old, new, place):
    path = home / "node.toml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(BadSettings, match=place):
        read_settings(home)


def test_a_directory_without_a_node_is_named(tmp_path):
    with pytest.raises(BadSettings, match="node init"):
        read_settings(tmp_path)


def test_secrets_are_for_the_nodes_user_only(home):
    for name in ("key.json", "tls.key", "hpke.key", "control.token", "vault", "evidence", "jobs", "."):
        assert os.stat(home / name).st_mode & 0o077 == 0, name


def test_a_node_is_not_made_over_another(home):
    before = (home / "key.json").read_bytes()
    with pytest.raises(DirectoryInUse):
        directories.init(home, settings(), SECRET)
    assert (home / "key.json").read_bytes() == before


def test_another_nodes_key_is_not_used(home):
    layout = directories.Layout(home)
    assert directories.load_key(layout, directories.address_of(SECRET)) == SECRET
    with pytest.raises(WrongKey, match=r"node\.toml says"):
        directories.load_key(layout, ME)
    layout.key.write_text("{}")
    with pytest.raises(WrongKey):
        directories.load_key(layout, ME)


def test_the_card_holds_the_fingerprint_of_the_certificate_and_nothing_secret(home):
    card = directories.card(directories.Layout(home), ME)
    assert card.certificate_pem.startswith("-----BEGIN CERTIFICATE-----")
    assert (home / "hpke.key").read_bytes().hex() not in repr(card)


def test_every_setting_is_written_out(home):
    text = to_toml(settings())
    for section in (settings().limits, settings().engine, settings().gateway):
        for name, value in section.model_dump(exclude_none=True).items():
            assert f"\n{name} = " in text, (name, value)


# --- bundles


@pytest.fixture
def bundles(tmp_path):
    (tmp_path / "bundles").mkdir()
    return BundleStore(tmp_path / "bundles")


def test_what_a_bundle_discloses_is_read_from_intact_bytes_only(bundles):
    held = bundles.add(shipped()["psi"])
    assert "party" in bundles.manifest(held.digest).learns
    manifest = bundles.verified(held.digest) / "manifest.json"
    manifest.chmod(0o600)
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    assert bundles.manifest(held.digest) is None


def test_a_bundle_is_held_under_its_digest_and_hashed_again_for_every_run(bundles):
    held = bundles.add(shipped()["psi"])
    folder = bundles.verified(held.digest)
    (folder / "manifest.json").write_text((folder / "manifest.json").read_text() + "\n")
    with pytest.raises(BundleDiffers):
        bundles.verified(held.digest)
    assert [each.intact for each in bundles.list()] == [False]
    bundles.add(shipped()["psi"])
    assert bundles.verified(held.digest) == folder


def test_an_emptied_bundle_is_altered_and_an_absent_one_missing(bundles):
    held = bundles.add(shipped()["psi"])
    (bundles.verified(held.digest) / "manifest.json").unlink()
    with pytest.raises(BundleDiffers):
        bundles.verified(held.digest)
    with pytest.raises(BundleGone):
        bundles.verified(ALGORITHM)


def test_a_bundle_of_another_digest_than_asked_for_is_not_taken(bundles, tmp_path):
    with pytest.raises(BundleInvalid):
        bundles.add(shipped()["psi"], ALGORITHM)
    with pytest.raises(BundleInvalid):
        bundles.add(tmp_path)
    assert bundles.list() == []
    assert list((tmp_path / "bundles").iterdir()) == []


def tar(path, *entries):
    with tarfile.open(path, "w") as archive:
        for name, content, kind in entries:
            entry = tarfile.TarInfo(name)
            entry.size, entry.type, entry.linkname = len(content), kind, "/etc/passwd"
            archive.addfile(entry, io.BytesIO(content))
    return path


def test_a_tar_of_a_bundle_has_the_digest_of_its_folder(bundles, tmp_path):
    folder = shipped()["psi"]
    files = [f for f in folder.rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    entries = [(f.relative_to(folder).as_posix(), f.read_bytes(), tarfile.REGTYPE) for f in files]
    assert bundles.add(tar(tmp_path / "psi.tar", *entries)).digest == load(folder).digest


@pytest.mark.parametrize(
    "entry",
    [
        ("../out", b"x", tarfile.REGTYPE),
        ("/tmp/out", b"x", tarfile.REGTYPE),
        ("link", b"", tarfile.SYMTYPE),
        ("hard", b"", tarfile.LNKTYPE),
        ("device", b"", tarfile.CHRTYPE),
    ],
)
def test_a_tar_that_reaches_out_of_its_folder_is_refused(bundles, tmp_path, entry):
    with pytest.raises(BundleInvalid):
        bundles.add(tar(tmp_path / "bad.tar", ("manifest.json", b"{}", tarfile.REGTYPE), entry))
    assert not (tmp_path / "out").exists()


def test_what_is_no_tar_is_named(bundles, tmp_path):
    (tmp_path / "bad.tar").write_bytes(b"nothing")
    for path in (tmp_path / "bad.tar", tmp_path / "missing.tar"):
        with pytest.raises(BundleInvalid):
            bundles.add(path)


# --- the engine's adapter


def adapter(tmp_path, *, protocols=("psi/RR22", "mpc/ABY3"), free=0):
    return EngineProcesses(None, protocols, Timeouts(), tmp_path, free, Hosting("", ""))


def test_a_plan_becomes_a_job_without_inputs_that_no_step_uses(tmp_path):
    world = World(tmp_path)
    extra = world.spec.inputs[0].model_copy(update={"name": "unused"})
    spec = world.spec.model_copy(update={"inputs": [*world.spec.inputs, extra]})
    own = OwnInput("mine", world.dataset, world.table, "id", ("age",))
    gateway = LocalGateway("http://127.0.0.1:1", "token")
    bundle = {ALGORITHM: tmp_path}
    job = adapter(tmp_path).job(Plan(world.task, ME, spec, (own,), bundle, gateway, tmp_path, 10))
    assert [each.name for each in job.inputs] == ["mine", "theirs"]
    assert [each.path for each in job.inputs] == [str(world.table), None]


def test_a_protocol_that_is_not_configured_or_does_not_fit_the_parties_is_not_run(tmp_path):
    spec = World(tmp_path).spec
    assert adapter(tmp_path).why_unable(spec) is None
    assert adapter(tmp_path, protocols=()).why_unable(spec) is Denial.PROTOCOL_UNSUPPORTED
    step = spec.steps[0].model_copy(update={"engine": "mpc", "protocol": "ABY3"})
    alone = spec.model_copy(update={"steps": [step]})
    assert adapter(tmp_path).why_unable(alone) is Denial.PROTOCOL_UNSUPPORTED  # ABY3 needs three parties


def test_a_node_without_disk_space_refuses_before_it_starts(tmp_path):
    assert adapter(tmp_path, free=1 << 62).why_unable(World(tmp_path).spec) is Denial.OUT_OF_RESOURCES


def test_a_part_of_a_kept_value_is_held_to_its_task_before_it_starts(tmp_path):
    world = World(tmp_path)
    mine, theirs = world.spec.inputs
    parts = [
        each.model_copy(update={"id_column": "", "columns": [], "part_of": "risk"}) for each in (mine, theirs)
    ]
    spec = world.spec.model_copy(update={"inputs": parts})
    header = PartHeader(
        task=world.task,
        source="train.model",
        party=ME,
        keepers=sorted(each.party for each in parts),
        holders=list(spec.computing),
        computation=Computation(protocol="CHEETAH", field="FM64", fraction_bits=18),
        public={"kind": "model", "about": {}, "arrays": [["weights", [2], "float64"]]},
    )
    own = OwnInput(mine.name, world.dataset, tmp_path / "a.part", "", (), "risk")

    def problem(**changes):
        own.path.write_bytes(encode_part(header.model_copy(update=changes), ()))
        return adapter(tmp_path).check(own, spec, {})

    assert problem() is None
    assert "this is the part of" in problem(party=theirs.party)
    assert "name an input of each" in problem(keepers=[ME])
    assert "these must compute" in problem(holders=[ME])
    own.path.write_text("id,age\n1,2\n")
    assert "not a share" in adapter(tmp_path).check(own, spec, {})


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("id,age\n1,2,3\n", "malformed_csv"),
        ("id,town\n1,Ulm\n", "missing_column"),
        ("id,age\n1,2\n1,3\n", "duplicate_ids"),
        ("", "empty_file"),
    ],
)
def test_a_table_that_no_engine_could_use_is_named_without_a_cell(tmp_path, content, problem):
    path = tmp_path / "t.csv"
    path.write_text(content)
    spec = World(tmp_path).spec
    said = adapter(tmp_path).check(OwnInput("mine", KEY, path, "id", ("age",)), spec, {})
    assert said is not None
    assert said.startswith(problem)


@pytest.mark.parametrize(
    ("error", "reason", "blame"),
    [
        (engine.BadInput("not_a_number", "row 1"), Failure.INPUT_INVALID, Blame.REPORTER),
        (engine.EmptyIntersection("none"), Failure.EMPTY_INTERSECTION, Blame.NOBODY),
        (engine.EngineTimeout("late"), Failure.TIMED_OUT, Blame.NOBODY),
        (engine.DiskFull("full"), Failure.DISK_FULL, Blame.REPORTER),
        (engine.SessionCut("cut"), Failure.SESSION_REVOKED, Blame.NOBODY),
        (engine.PeerUnreachable("gone", peer=OTHER), Failure.PEER_UNREACHABLE, Blame.PARTY),
        (engine.PeerUnreachable("gone"), Failure.PEER_UNREACHABLE, Blame.SOME_PARTY),
        (engine.PeerIncompatible("version 2", peer=OTHER), Failure.PROTOCOL_VIOLATED, Blame.NOBODY),
        (engine.MemoryExceeded("more than 1 GiB"), Failure.ENGINE_CRASHED, Blame.NOBODY),
        (engine.CpuExceeded("60 s"), Failure.TIMED_OUT, Blame.NOBODY),
        (engine.ProtocolViolated("garbage", peer=OTHER), Failure.PROTOCOL_VIOLATED, Blame.PARTY),
        (engine.ProgramMismatch("other", peer=OTHER), Failure.PROGRAM_MISMATCH, Blame.PARTY),
    ],
)
def test_an_engines_error_is_a_failure_that_blames_no_further_than_it_knows(error, reason, blame):
    failed = failure_of(error)
    assert (failed.reason, failed.blame) == (reason, blame)
    assert (failed.blamed is not None) == (blame is Blame.PARTY)


def test_no_engine_error_is_without_a_failure():
    for kind in engine.EngineError.__subclasses__():
        error = kind("reason", "detail") if kind is engine.BadInput else kind("detail")
        assert failure_of(error).reason in Failure


def test_a_run_that_left_half_of_its_files_left_nothing(tmp_path):
    (tmp_path / "output.sealed").write_bytes(b"x")
    assert adapter(tmp_path).left_behind(tmp_path) is None
    (tmp_path / "transcript.json").write_text("{")
    assert adapter(tmp_path).left_behind(tmp_path) is None
    (tmp_path / "transcript.json").write_text(json.dumps({"result": KEY}))
    assert adapter(tmp_path).left_behind(tmp_path).result == KEY


# --- sessions by the chain


def test_a_session_runs_while_the_chain_says_so_and_every_party_is_active(tmp_path):
    world = World(tmp_path)
    authority = ChainAuthority(world.ledger, world.store)
    assert not authority.session(world.task).running
    world.ledger.state = TaskState.RUNNING
    session = authority.session(world.task)
    assert session.running
    assert [party.address for party in session.parties] == [ME, OTHER]
    world.set_node(OTHER, NodeStatus.SUSPENDED)
    assert not authority.session(world.task).running


def test_a_session_of_an_unknown_task_is_none_and_a_silent_chain_is_named(tmp_path):
    world = World(tmp_path)
    authority = ChainAuthority(world.ledger, world.store)
    assert authority.session(ALGORITHM) is None
    world.ledger.down = True
    with pytest.raises(AuthorityUnavailable):
        authority.session(world.task)


# --- the queue, the chain, the ports


def test_redis_that_is_down_is_named_without_its_password(home):
    for act in (lambda: ping(settings()), lambda: run_worker(home)):
        with pytest.raises(QueueUnavailable) as caught:
            act()
        assert "password" not in str(caught.value)
    with pytest.raises(QueueUnavailable):
        enqueue(queue_app(settings()), ALGORITHM)


def test_a_chain_that_is_down_is_named(home):
    with pytest.raises(ChainUnavailable):
        _ = Node.open(home).chain


def test_a_process_waits_for_the_chain_until_it_is_told_to_end(home):
    over, said = threading.Event(), []
    assert not when_chain_answers(Node.open(home), over, lambda text: (said.append(text), over.set()))
    assert "does not answer" in said[0]


def test_a_taken_port_is_named():
    from sealtrace.node.api.app import _listen

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        with pytest.raises(PortTaken, match=str(taken.getsockname()[1])):
            _listen("127.0.0.1", taken.getsockname()[1])


def test_the_doctor_says_what_to_do_about_everything_that_is_wrong(home):
    found = {each.name: each for each in examine(Node.open(home))}
    assert found["key"].ok
    assert found["disk"].ok
    for name in ("chain", "redis", "gateway", "scheduler", "peer port"):
        assert not found[name].ok, name
        assert found[name].todo, name


@contextmanager
def _listening(answer):
    """A server on a loopback port of its own; ``answer`` is what it does with each connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def serve():
            connection, _ = server.accept()
            with connection:
                answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def _with_ports(home, **ports):
    node = Node.open(home)
    gateway = node.settings.gateway.model_copy(update=ports)
    return replace(node, settings=node.settings.model_copy(update={"gateway": gateway}))


def _shown_by(home):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(home / "tls.crt", home / "tls.key")
    return lambda connection: context.wrap_socket(connection, server_side=True).close()


def _refuse_token(connection):
    connection.recv(4096)
    body = b'{"code": "E0000000604", "detail": "this is not this node\'s control token"}'
    head = b"HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    connection.sendall(head % len(body) + body)


def test_the_doctor_names_a_chain_that_is_down_once(home):
    found = [each for each in examine(Node.open(home)) if "http://127.0.0.1:1 does not answer" in each.seen]
    assert [each.name for each in found] == ["chain"]


def test_the_doctor_knows_its_own_certificate_at_the_peer_port(home):
    with _listening(_shown_by(home)) as port:
        found = {each.name: each for each in examine(_with_ports(home, port=port))}
    assert found["peer port"].ok, found["peer port"]


def test_the_doctor_says_when_another_node_holds_the_ports(home, tmp_path):
    words = ["--name", "clinic", "--rpc", "http://127.0.0.1:1", "--chain-id", 7, "--contracts", ME]
    run("init", "--dir", tmp_path / "clinic", *words, "--scheduler", "http://127.0.0.1:2")
    with _listening(_shown_by(tmp_path / "clinic")) as port, _listening(_refuse_token) as local:
        found = {each.name: each for each in examine(_with_ports(home, port=port, local_port=local))}
    assert "not this node's" in found["peer port"].seen
    assert "not this node's gateway" in found["gateway"].seen
    assert "another" in found["gateway"].todo


def test_a_narrow_terminal_cuts_no_identifier_off(home, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    added = json.loads(run("algorithm", "add", shipped()["psi"], "--dir", home, "--json"))
    assert added["digest"] in run("algorithm", "list", "--dir", home)
    made = json.loads(run("card", "--dir", home, "--json"))
    assert all(line in run("card", "--dir", home) for line in made["certificate_pem"].split())


def test_terms_survive_the_store(tmp_path):
    terms = World(tmp_path).terms
    assert from_text(to_text(terms)) == terms
    assert terms_from([]) is None


# --- the command line


def run(*arguments):
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_a_node_is_made_from_the_command_line(tmp_path):
    words = ["--name", "bank", "--rpc", "http://127.0.0.1:1", "--chain-id", 7, "--contracts", ME]
    made = json.loads(
        run("init", "--dir", tmp_path / "n", *words, "--scheduler", "http://127.0.0.1:2", "--json")
    )
    assert json.loads(run("card", "--dir", tmp_path / "n", "--json")) == made
    assert read_settings(tmp_path / "n").address == made["address"]


def test_tokens_and_bundles_are_kept_from_the_command_line(home):
    token = json.loads(run("token", "add", "ops", "--role", "operator", "--dir", home, "--json"))["token"]
    assert token.startswith("st_")
    assert token not in run("token", "list", "--dir", home)
    added = json.loads(run("algorithm", "add", shipped()["psi"], "--dir", home, "--json"))
    assert json.loads(run("algorithm", "list", "--dir", home, "--json")) == [added]
    assert json.loads(run("task", "list", "--dir", home, "--json")) == []
    assert json.loads(run("dataset", "list", "--dir", home, "--json")) == []


def test_a_relay_is_told_where_it_goes_by_host_and_port():
    result = CliRunner().invoke(app, ["relay", "--to", "https://node.example:8610/"])
    assert (result.exit_code, "host:port" in result.output) == (2, True)


def test_a_relay_names_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["relay", "--to", "127.0.0.1:1", "--port", str(number)])
    assert isinstance(result.exception, PortTaken)
    assert str(number) in str(result.exception)
