"""Attesters against fakes with the semantics of the real thing. None of this has run on TEE hardware."""

from __future__ import annotations

import errno
import json
import os
import socketserver
import threading
from http.server import BaseHTTPRequestHandler

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sealtrace.node.engines.errors import AttesterFailed, AttesterUnavailable
from sealtrace.node.engines.tee.attesters import discover
from sealtrace.node.engines.tee.attesters.dstack import Dstack
from sealtrace.node.engines.tee.attesters.gramine import Gramine
from sealtrace.node.engines.tee.attesters.software import NoTee, SimulatedEnclave
from sealtrace.node.engines.tee.attesters.tsm import REGISTER, ConfigfsTsm, KernelFiles

FRESH = bytes(range(64))
OLD = bytes(64)
DIGEST = bytes(range(48))
EVERY_LENGTH_BUT_64 = [0, 32, 63, 65]


def tdx(report_data):
    return b"\x04\x00\x02\x00" + bytes(564) + report_data + bytes(100)


def snp(report_data):
    return b"\x02\x00\x00\x00" + bytes(76) + report_data + bytes(1040)


def sgx(report_data):
    return b"\x03\x00" + bytes(366) + report_data + bytes(100)


class FakeTsm:
    """Linux's folder of reports: modes, the generation, and errors as the kernel gives them.

    ``inblob`` is taken when the file is closed, without a word where it is not; each write of any attribute
    raises ``generation``; ``outblob`` is made by the first read after a write, EINVAL without one.
    """

    READABLE = ("outblob", "generation", "provider", "auxblob")

    def __init__(self, provider="tdx_guest", sign=tdx, auxblob=None):
        self.provider, self.sign, self.auxblob = provider, sign, auxblob
        self.reports = {}
        self.busy = 0
        self.deaf = False
        self.between = lambda name: None
        """What another program does between our write and our read."""

    def present(self):
        return True

    def make(self, report):
        if report in self.reports:
            raise FileExistsError(errno.EEXIST, report)
        self.reports[report] = {"generation": 0, "inblob": b""}

    def write(self, report, attribute, content):
        if attribute != "inblob":
            raise PermissionError(errno.EACCES, attribute)
        if len(content) > 64:
            raise OSError(errno.EFBIG, attribute)
        if not self.deaf:
            self.reports[report]["inblob"] = bytes(content)
            self.reports[report]["generation"] += 1
        self.between(report)

    def read(self, report, attribute):
        if attribute not in self.READABLE:
            raise PermissionError(errno.EACCES, attribute)
        state = self.reports[report]
        if attribute == "generation":
            return b"%d\n" % state["generation"]
        if attribute == "provider":
            return self.provider.encode() + b"\n"
        if not state["inblob"]:
            raise OSError(errno.EINVAL, attribute)
        if self.busy:
            self.busy -= 1
            raise OSError(errno.EBUSY, attribute)
        if attribute == "auxblob":
            if self.auxblob is None:
                raise FileNotFoundError(errno.ENOENT, attribute)
            return self.auxblob
        return self.sign(state["inblob"])

    def remove(self, report):
        del self.reports[report]


def attester(files):
    return ConfigfsTsm(files, pause=lambda seconds: None)


@pytest.mark.parametrize(
    ("files", "kind", "endorsements"),
    [
        (FakeTsm(), "tdx", b""),
        (FakeTsm("sev_guest", snp, b"certificates"), "sev-snp", b"certificates"),
        (FakeTsm("sev_guest", snp), "sev-snp", b""),
    ],
)
def test_a_confidential_vm_signs_our_report_data(files, kind, endorsements):
    made = attester(files).evidence(FRESH)
    assert (made.kind, made.report_data, made.endorsements) == (kind, FRESH, endorsements)
    assert made.raw == files.sign(FRESH)
    assert not made.simulated
    assert files.reports == {}
    assert attester(files).platform() == kind


def test_a_recording_is_not_taken_for_fresh_evidence():
    files = FakeTsm(sign=lambda report_data: tdx(OLD))
    with pytest.raises(AttesterFailed, match="not fresh"):
        attester(files).evidence(FRESH)
    assert files.reports == {}


def test_a_busy_platform_is_asked_again():
    files = FakeTsm()
    files.busy = 3
    assert attester(files).evidence(FRESH).raw == tdx(FRESH)


def test_a_platform_that_stays_busy_is_unavailable():
    files = FakeTsm()
    files.busy = 99
    with pytest.raises(AttesterUnavailable, match="busy"):
        attester(files).evidence(FRESH)
    assert files.reports == {}


def test_what_another_program_wrote_into_our_report_is_discarded_and_asked_again():
    files = FakeTsm()
    others = [OLD, OLD]

    def between(report):
        if others:
            files.reports[report]["inblob"] = others.pop()
            files.reports[report]["generation"] += 1

    files.between = between
    assert attester(files).evidence(FRESH).raw == tdx(FRESH)
    assert others == []


def test_report_data_that_the_kernel_did_not_take_is_noticed():
    files = FakeTsm()
    files.deaf = True
    with pytest.raises(AttesterUnavailable, match="generation 0 instead of 1"):
        attester(files).evidence(FRESH)


def test_a_platform_that_nobody_here_knows_is_named():
    with pytest.raises(AttesterFailed, match="arm_cca_guest"):
        attester(FakeTsm("arm_cca_guest")).evidence(FRESH)
    with pytest.raises(AttesterFailed, match="arm_cca_guest"):
        attester(FakeTsm("arm_cca_guest")).platform()


def test_a_host_without_the_interface_says_how_to_have_it(tmp_path):
    absent = ConfigfsTsm(KernelFiles(tmp_path / "absent"), tmp_path)
    assert not absent.available()
    for ask in (lambda: absent.evidence(FRESH), absent.platform):
        with pytest.raises(AttesterUnavailable, match="confidential VM"):
            ask()
    with pytest.raises(AttesterUnavailable, match=r"6\.16"):
        absent.extend("input", DIGEST)


def test_the_kernels_files_are_neither_made_nor_emptied_by_writing(tmp_path):
    files = KernelFiles(tmp_path)
    assert files.present()
    files.make("report")
    with pytest.raises(FileNotFoundError):
        files.write("report", "inblob", FRESH)
    (tmp_path / "report" / "inblob").write_bytes(b"x" * 70)
    files.write("report", "inblob", FRESH)
    assert files.read("report", "inblob") == FRESH + b"x" * 6


def test_a_runtime_register_takes_one_digest(tmp_path):
    (tmp_path / REGISTER).write_bytes(b"")
    ConfigfsTsm(FakeTsm(), tmp_path).extend("input", DIGEST)
    assert (tmp_path / REGISTER).read_bytes() == DIGEST
    with pytest.raises(ValueError, match="48"):
        ConfigfsTsm(FakeTsm(), tmp_path).extend("input", DIGEST[:32])


# --- Gramine


class GramineFiles:
    """Gramine's pseudo-files: one quote, made from what was written by the time it is read."""

    def __init__(self, root, sign=sgx, kind="dcap"):
        self.root, self.sign = root, sign
        (root / "attestation_type").write_text(kind)
        (root / "user_report_data").write_bytes(bytes(64))
        os.mkfifo(root / "quote")
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with (self.root / "quote").open("wb") as file:  # opens once somebody reads
            file.write(self.sign((self.root / "user_report_data").read_bytes()))


def test_an_enclave_signs_our_report_data(tmp_path):
    GramineFiles(tmp_path)
    found = Gramine(tmp_path)
    assert found.available()
    made = found.evidence(FRESH)
    assert (made.kind, made.raw) == ("sgx", sgx(FRESH))


def test_a_quote_over_other_report_data_is_refused(tmp_path):
    GramineFiles(tmp_path, sign=lambda report_data: sgx(OLD) + FRESH)
    with pytest.raises(AttesterFailed, match="not fresh"):
        Gramine(tmp_path).evidence(FRESH)


@pytest.mark.parametrize("kind", ["none", "epid"])
def test_an_enclave_that_cannot_be_attested_by_dcap_says_how(tmp_path, kind):
    (tmp_path / "attestation_type").write_text(kind)
    assert not Gramine(tmp_path).available()
    with pytest.raises(AttesterUnavailable, match=f"{kind}.*manifest"):
        Gramine(tmp_path).evidence(FRESH)


def test_an_enclave_whose_quote_cannot_be_read_is_unavailable(tmp_path):
    (tmp_path / "attestation_type").write_text("dcap")
    with pytest.raises(AttesterUnavailable, match="user_report_data"):
        Gramine(tmp_path).evidence(FRESH)


# --- dstack


class Agent(socketserver.ThreadingUnixStreamServer):
    """dstack's guest agent: HTTP with JSON on a unix socket."""

    daemon_threads = True

    def __init__(self, path, answer):
        self.asked = []
        self.answer = answer
        super().__init__(str(path), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))
        status, content = self.server.answer(body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass

    def address_string(self):
        return "unix"


def quoted(body):
    quote = tdx(bytes.fromhex(body["report_data"])).hex()
    said = {"quote": quote, "event_log": "[]", "report_data": body["report_data"], "vm_config": '{"cpu":1}'}
    return 200, json.dumps(said).encode()


@pytest.fixture
def agent(tmp_path):
    started = []

    def agent(answer):
        started.append(Agent(tmp_path / "dstack.sock", answer))
        return started[0], Dstack(tmp_path / "dstack.sock", timeout_s=5)

    yield agent
    for each in started:
        each.shutdown()
        each.server_close()


def test_dstack_signs_our_report_data_and_hands_its_event_log_on(agent):
    server, found = agent(quoted)
    assert found.available()
    made = found.evidence(FRESH)
    assert (made.kind, made.raw, made.event_log, made.machine) == ("tdx", tdx(FRESH), b"[]", b'{"cpu":1}')
    assert server.asked == [("/GetQuote", {"report_data": FRESH.hex()})]


def test_dstack_extends_its_register_with_an_event(agent):
    server, found = agent(lambda body: (200, b""))
    found.extend("input", DIGEST)
    assert server.asked == [("/EmitEvent", {"event": "input", "payload": DIGEST.hex()})]
    with pytest.raises(ValueError, match="48"):
        found.extend("input", b"")


@pytest.mark.parametrize(
    ("answer", "error", "why"),
    [
        ((200, json.dumps({"quote": tdx(OLD).hex()}).encode()), AttesterFailed, "not fresh"),
        ((200, b'{"quote":"xyz"}'), AttesterFailed, "hexadecimal"),
        ((200, b"{}"), AttesterFailed, "quote"),
        ((200, b"[]"), AttesterFailed, "quote"),
        ((200, b"<html>"), AttesterFailed, "not JSON"),
        ((200, b"[" * (5 << 20)), AttesterFailed, "more than"),
        ((500, b'{"error":"no TDX"}'), AttesterUnavailable, "no TDX"),
    ],
)
def test_an_answer_of_dstack_that_is_no_evidence_is_refused(agent, answer, error, why):
    _, found = agent(lambda body: answer)
    with pytest.raises(error, match=why):
        found.evidence(FRESH)


def test_a_host_without_dstack_says_how_to_have_it(tmp_path):
    absent = Dstack(tmp_path / "absent.sock")
    assert not absent.available()
    with pytest.raises(AttesterUnavailable, match=r"dstack 0\.5"):
        absent.evidence(FRESH)


# --- software


def test_the_simulated_enclave_warns_and_marks_all_it_makes():
    key = Ed25519PrivateKey.generate()
    with pytest.warns(NoTee, match="whoever runs this host can read the inputs"):
        simulated = SimulatedEnclave(key.sign)
    made = simulated.evidence(FRESH)
    assert (made.kind, made.simulated) == ("software", True)
    key.public_key().verify(made.raw, FRESH)


# --- all


@pytest.mark.parametrize("length", EVERY_LENGTH_BUT_64)
def test_report_data_is_64_bytes_everywhere(tmp_path, length):
    with pytest.warns(NoTee):
        simulated = SimulatedEnclave(lambda report_data: b"")
    for each in (attester(FakeTsm()), Gramine(tmp_path), Dstack(tmp_path / "x"), simulated):
        with pytest.raises(ValueError, match="64"):
            each.evidence(bytes(length))


def test_discovery_names_what_is_here_and_how_to_get_the_rest(tmp_path):
    known = ((attester(FakeTsm()), "a confidential VM"), (Gramine(tmp_path), "an enclave"))
    assert [(each.name, each.available) for each in discover(known)] == [
        ("configfs-tsm", True),
        ("gramine", False),
    ]
    assert discover(known)[1].how_to_have_it == "an enclave"


def test_discovery_never_finds_the_simulated_enclave():
    assert [each.name for each in discover()] == ["gramine", "dstack", "configfs-tsm"]
