"""A requester's task in an enclave: its plan, its metrics, its result, and what the enclave states."""

from __future__ import annotations

import json

import httpx
import pytest
from enclave_fakes import HOST, POLICIES, RUNTIME, begun, ended, shown, tee_spec
from hypothesis import given
from hypothesis import strategies as st
from requester_world import BOOK, World
from scheduler_fakes import LAB, NOW, PARTIES, h, make_spec
from typer.testing import CliRunner

from sealtrace.algorithms.frames import BadShare, SecretValue
from sealtrace.algorithms.opening import enclave_outputs, open_outputs
from sealtrace.algorithms.shares import (
    Header,
    decode_share,
    encode_enclave_share,
    encode_output,
    encode_share,
)
from sealtrace.algorithms.template import create
from sealtrace.protocol.attestation import eventlog
from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.attestation.evidence import Kind
from sealtrace.protocol.attestation.policy import AttestationPolicy, Image, Platform
from sealtrace.protocol.canonical import canonical, sha256
from sealtrace.protocol.envelope import seal
from sealtrace.protocol.identifiers import raw
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.receipt import result_digest
from sealtrace.requester import cli, enclave_cli
from sealtrace.requester.client import Requester
from sealtrace.requester.enclaves import SIMULATED_WARNING
from sealtrace.requester.errors import (
    EnclaveStatementMissing,
    EnclaveStatementWrong,
    MetricsUnreadable,
    NotInEnclave,
    ResultTampered,
    SchedulerMisbehaved,
    SpecInvalid,
)
from sealtrace.requester.secret_configs import seal_values

OUTPUTS = {"rows": 42, "measures": {"train": {"auc": 0.75}}}


class EnclaveWorld(World):
    """A task in an enclave that two owners' nodes and the enclave's have carried out."""

    def __init__(self, folder):
        super().__init__(folder)
        self.spec = tee_spec()
        self.task = self.requester.submit(self.spec).task
        self.sealed = {each.address: sealed_output(self.task, each) for each in PARTIES}
        self.output = sha256(self.sealed[HOST.address])

    def final(self, events=None, **changes):
        spec = changes.pop("spec", self.spec)
        events = ended(spec, self.output) if events is None else events
        changes = {"stage": Stage.FINAL, **changes}
        return shown(changes.pop("task", self.task), spec, events, **changes).document()

    def show(self, text):
        body = {"task": self.task, "digest": sha256(text)}
        path = f"/v1/tasks/{self.task}/statements/{sha256(text)}"
        self.carried(path, HOST, "task.statement", body, text)

    def tell(self, number, rounds, *, key=LAB.encryption_key, header=()):
        """The enclave seals rounds of metrics, and its node brings them."""
        words = {"task": self.task, "party": HOST.address, "kind": "metrics", "number": number}
        sealed = seal(canonical(rounds), raw(key), {**words, **dict(header)})
        body = {"task": self.task, "number": number, "digest": sha256(sealed)}
        self.carried(f"/v1/tasks/{self.task}/metrics/{number}", HOST, "task.metrics", body, sealed)

    def complete(self, text=None):
        """Every party delivers, and all agree on the outputs and on the statement ``text``."""
        text = self.final() if text is None else text
        self.deliver(self.task, self.sealed)
        digests = {party: sha256(each) for party, each in self.sealed.items()}
        self.end(self.task, TaskState.COMPLETED, result_digest(digests, sha256(text)))
        return text


def sealed_output(task, party):
    shares = {"train": encode_enclave_share(task, "train", 84, OUTPUTS)} if party is HOST else {}
    bound = {"task": task, "party": party.address, "kind": "share"}
    return seal(encode_output(shares), raw(LAB.encryption_key), bound)


@pytest.fixture
def world(tmp_path):
    world = EnclaveWorld(tmp_path)
    yield world
    world.scheduler.store.close()


# Plans


def words(**step):
    """A task file of two owners over boosted trees in an enclave at the third party."""
    inputs = {
        f"p{i}": {"party": name, "dataset": h(100 + i), "id": "id", "columns": ["amount"]}
        for i, name in zip(range(2), BOOK, strict=False)
    }
    train = {
        "algorithm": "tee-xgboost",
        "grants": {"p0": h(2000), "p1": h(2001)},
        "policies": POLICIES,
        "params": {"mode": "train", "features": [{"column": "amount"}]},
        **step,
    }
    steps = {"train": train}
    return {"purpose": "credit", "deadline": "1h", "inputs": inputs, "steps": steps, "compute": ["three"]}


def task_file(world, **step):
    file = world.folder / "task.yaml"
    file.write_text(json.dumps(words(**step), indent=1))
    return file


def test_the_plan_of_a_task_in_an_enclave_says_what_protects_it_and_who_learns_what(world, command):
    planned = world.requester.plan(task_file(world))
    assert planned.spec.enclave == HOST.address
    assert planned.spec.steps[0].protocol == "HARDWARE"
    assert "not checked" not in str(planned.warnings)
    assert {"party", "requester", "scheduler"} <= {each.role for each in planned.learns}
    told = json.loads(command(cli.task_app, "plan", task_file(world), "--json").output)
    assert told["security"][0]["protection"] == "TEE_HARDWARE"
    assert "the processor's vendor" in told["security"][0]["promises"]
    said = command(cli.task_app, "plan", task_file(world)).output
    assert "how long an enclave computes is not estimated" in said


def test_the_plan_of_a_simulated_enclave_says_what_its_host_can_do(world, command):
    told = command(cli.task_app, "plan", task_file(world, protocol="SIMULATED"), "--json").output
    assert "whoever runs the machine can read every input" in json.loads(told)["security"][0]["promises"]


def test_parameters_that_an_enclaves_algorithm_does_not_take_are_refused_with_their_line(world):
    features = [{"column": "amount"}, {"column": "age", "scale": "shrink"}]
    file = task_file(world, params={"mode": "train", "features": features})
    with pytest.raises(SpecInvalid, match=r"features\.1\.scale: must be one of standard") as refused:
        world.requester.plan(file)
    assert '"scale": "shrink"' in file.read_text().splitlines()[refused.value.line - 1]


# Results


def with_secrets(world, **step):
    """The same task file, whose second input brings secret values instead of a table."""
    file = task_file(world, **step)
    document = json.loads(file.read_text())
    document["inputs"]["p1"] = {"party": "two", "dataset": h(101), "kind": "config"}
    file.write_text(json.dumps(document, indent=1))
    return file


def test_secret_values_that_an_algorithm_has_not_are_refused(world):
    with pytest.raises(SpecInvalid, match="tee-xgboost has no secret_config: leave out the input"):
        world.requester.plan(with_secrets(world))


def test_an_algorithm_with_secret_values_is_planned_with_them_alone(world, tmp_path):
    (tmp_path / "values.json").write_text('{"limit": 0.42}')
    folder = create("owes", tmp_path, "tee")
    bundle, _ = seal_values(folder, tmp_path / "values.json", tmp_path / "secrets.json")
    world.requester.files.add_bundle(bundle.digest, folder)
    step = {"algorithm": bundle.digest, "params": {"times": 0.5}}
    planned = world.requester.plan(with_secrets(world, **step))
    assert [each.kind for each in planned.spec.inputs] == ["table", "config"]
    with pytest.raises(SpecInvalid, match="owes has a secret_config: bring its values"):
        world.requester.plan(task_file(world, **step))


def test_a_result_of_an_enclave_is_opened_when_its_last_statement_vouches_for_it(world):
    text = world.complete()
    world.show(text)
    found = world.requester.result(world.task)
    assert found.value == OUTPUTS
    assert (found.attested.statement, found.attested.kind) == (sha256(text), Kind.SOFTWARE)
    assert found.attested.simulated


def test_a_result_waits_for_the_last_statement_and_then_says_that_it_is_missing(world):
    world.complete()
    before = world.now
    with pytest.raises(EnclaveStatementMissing):
        world.requester.result(world.task)
    assert world.now - before == 5


def test_another_statement_than_the_parties_agreed_on_vouches_for_nothing(world):
    world.complete()
    world.show(world.final(key=b"\1" * 32))
    with pytest.raises(ResultTampered, match="or the enclave's last statement is not"):
        world.requester.result(world.task)


def test_a_statement_that_the_scheduler_altered_is_not_believed(world):
    world.show(world.complete())

    def alter(answer):
        if b"evidence" in answer.content:
            return httpx.Response(200, content=answer.content + b" ")
        return answer

    world.alter = alter
    with pytest.raises(SchedulerMisbehaved, match="it gave bytes of"):
        world.requester.result(world.task)


def without(events, kind):
    return tuple(each for each in events if each.kind is not kind)


def instead(events, kind, *others):
    """The same log, with others in place of the events of one kind."""
    at = next(index for index, each in enumerate(events) if each.kind is kind)
    kept = list(without(events, kind))
    return (*kept[:at], *others, *kept[at:])


ALTERED = {
    "its event log does not end in the destruction": lambda log: log[:-1],
    "does not name the output": lambda log: instead(
        log, eventlog.EventKind.OUTPUT, eventlog.gave_output(h(1))
    ),
    "alone": lambda log: (*log[:-1], eventlog.gave_output(h(1)), log[-1]),
    "the algorithm that ran": lambda log: instead(
        log, eventlog.EventKind.ALGORITHM, eventlog.algorithm(h(1))
    ),
    "what ran was not the specification": lambda log: instead(
        log, eventlog.EventKind.CONFIG, eventlog.config(h(1))
    ),
    "other policies": lambda log: instead(log, eventlog.EventKind.POLICY, eventlog.policy(POLICIES["p0"])),
    "must come exactly once": lambda log: without(log, eventlog.EventKind.RUNTIME),
}


@pytest.mark.parametrize("why", ALTERED)
def test_a_result_is_refused_when_what_all_agreed_on_does_not_vouch_for_it(world, why):
    text = world.complete(world.final(ALTERED[why](ended(world.spec, world.output))))
    world.show(text)
    with pytest.raises(EnclaveStatementWrong, match=why):
        world.requester.result(world.task)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"task": h(3)}, "of another task"),
        ({"by": PARTIES[0]}, "of another task, party"),
        ({"algorithm": h(3)}, "the algorithm that ran"),
    ],
)
def test_a_statement_of_another_run_vouches_for_nothing(world, changes, why):
    """The scheduler takes no such statement; one that lies hands it out all the same."""
    text = world.complete(world.final(**changes))
    digest = sha256(text)

    def lie(answer):
        content = canonical([{"digest": digest, "stage": "final"}])
        return httpx.Response(200, content=content if answer.content == b"[]" else text)

    world.requester = world.make_requester(world.folder / "lab")
    world.alter = lambda answer: (
        lie(answer) if answer.content == b"[]" or answer.status_code == 404 else answer
    )
    with pytest.raises(EnclaveStatementWrong, match=why):
        world.requester.result(world.task)


def test_a_simulated_enclave_does_not_pass_for_hardware(tmp_path):
    world = EnclaveWorld(tmp_path)
    spec = tee_spec(protocol="HARDWARE")
    world.task = world.requester.submit(spec).task
    world.spec = spec
    world.sealed = {each.address: sealed_output(world.task, each) for each in PARTIES}
    world.output = sha256(world.sealed[HOST.address])
    world.show(world.complete())
    with pytest.raises(
        EnclaveStatementWrong, match="its evidence is of software, and the task asks for HARD"
    ):
        world.requester.result(world.task)
    world.scheduler.store.close()


# The share of an enclave


NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=4), st.integers(0, 2**40))
def test_whatever_an_enclave_gives_as_json_is_opened_as_the_same(outputs, rows):
    share = decode_share(encode_enclave_share(h(1), "train", rows, outputs))
    assert enclave_outputs([share]) == outputs
    assert share.header.rows == rows


def parties_outputs(share):
    return {each.address: encode_output({"train": share} if each is HOST else {}) for each in PARTIES}


def no_bundle(_digest):
    raise AssertionError("what an enclave gave is opened without its bundle")


def test_what_an_enclave_gave_is_opened_as_it_was(world):
    share = encode_enclave_share(world.task, "train", 84, OUTPUTS)
    found = open_outputs(world.task, world.spec, parties_outputs(share), no_bundle)
    assert found == {"train": OUTPUTS}
    header = decode_share(share).header
    assert (header.kind, header.rank, header.world, header.rows) == ("tee", 0, 1, 84)


@pytest.mark.parametrize("change", [{"task": h(3)}, {"step": "other"}, {"kind": "psi"}, {"world": 2}])
def test_a_share_of_another_step_or_kind_is_not_opened(world, change):
    words = {"kind": "tee", "task": world.task, "step": "train", "rank": 0, "world": 1, "rows": 1}
    share = encode_share(Header(**{**words, **change}, values=[]), [SecretValue("outputs", b"", (b"{}",))])
    with pytest.raises(BadShare, match="of another step or task"):
        open_outputs(world.task, world.spec, parties_outputs(share), no_bundle)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [SecretValue("outputs", b"", (b"{}", b"{}"))],
        [SecretValue("outputs", b"", (b"[]",))],
        [SecretValue("outputs", b"", (b"{ }",))],
        [SecretValue("model", b"", (b"{}",))],
    ],
)
def test_a_share_that_holds_no_outputs_is_refused(world, values):
    header = Header(kind="tee", task=world.task, step="train", rank=0, world=1, rows=1, values=[])
    with pytest.raises(BadShare, match="holds no outputs"):
        enclave_outputs([decode_share(encode_share(header, values))])


# Metrics


def test_metrics_are_opened_in_their_order_while_the_task_runs(world):
    world.tell(0, [{"round": 1, "metrics": {"loss": 0.5}}, {"round": 2, "metrics": {"loss": 0.25, "auc": 1}}])
    world.tell(1, [{"round": 3, "metrics": {"loss": 0.125}}])
    told = list(world.requester.metrics(world.task))
    assert [(each.number, each.metrics) for each in told] == [
        (1, {"loss": 0.5}),
        (2, {"loss": 0.25, "auc": 1}),
        (3, {"loss": 0.125}),
    ]


def test_metrics_are_followed_until_the_task_is_over_and_none_is_left_out(world):
    world.tell(0, [{"round": 1, "metrics": {"loss": 0.5}}])
    told = world.requester.metrics(world.task, follow=True)
    assert next(told).number == 1
    world.tell(1, [{"round": 2, "metrics": {"loss": 0.25}}])
    assert next(told).number == 2
    world.tell(2, [{"round": 3, "metrics": {"loss": 0.2}}])
    world.complete()
    assert [each.number for each in told] == [3]


@pytest.mark.parametrize(
    "change", [{"task": h(3)}, {"party": PARTIES[0].address}, {"kind": "share"}, {"number": 7}, {"more": 1}]
)
def test_a_message_sealed_as_another_is_no_metrics(world, change):
    world.tell(0, [{"round": 1, "metrics": {"loss": 0.5}}], header=change)
    with pytest.raises(MetricsUnreadable, match="it is another message"):
        list(world.requester.metrics(world.task))


@pytest.mark.parametrize(
    "rounds", [[1], {"round": 1}, [{"round": "1", "metrics": {}}], [{"round": 1, "metrics": {"loss": "low"}}]]
)
def test_a_message_that_holds_no_rounds_is_refused(world, rounds):
    world.tell(0, rounds)
    with pytest.raises(MetricsUnreadable, match="message 0"):
        list(world.requester.metrics(world.task))


def test_metrics_for_another_key_are_told_as_that(world):
    world.tell(0, [{"round": 1, "metrics": {}}], key=PARTIES[0].encryption_key)
    with pytest.raises(MetricsUnreadable, match="use the directory the task was submitted from"):
        list(world.requester.metrics(world.task))


@pytest.mark.parametrize("numbers", [[1], [0, 0], [0, 2]])
def test_metrics_with_a_gap_are_not_believed(world, numbers):
    told = [{"number": each, "sealed": "", "statement": {}} for each in numbers]
    world.alter = lambda _answer: httpx.Response(200, content=canonical(told))
    with pytest.raises(SchedulerMisbehaved, match="one by one"):
        list(world.requester.metrics(world.task))


@pytest.mark.parametrize(
    "told", [b"[1]", b'[{"number":0}]', b'[{"number":0,"sealed":"?"}]', b"1", b"null", b"<html>"]
)
def test_a_scheduler_that_talks_nonsense_of_an_enclave_is_not_believed(world, told):
    world.alter = lambda _answer: httpx.Response(200, content=told)
    with pytest.raises(SchedulerMisbehaved):
        world.requester.statements(world.task)
    with pytest.raises(SchedulerMisbehaved):
        list(world.requester.metrics(world.task))


# Commands


@pytest.fixture
def command(world, monkeypatch):
    monkeypatch.setattr(Requester, "open", classmethod(lambda _cls, _directory: world.requester))

    def run(app, *words):
        return CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)

    return run


def test_the_commands_say_that_an_enclave_was_simulated(world, command, tmp_path):
    world.show(world.complete())
    found = command(cli.task_app, "result", world.task, "--no-acknowledge")
    assert SIMULATED_WARNING in found.output
    found = command(cli.task_app, "result", world.task, "--no-acknowledge", "--json")
    assert json.loads(found.output)["enclave"] == {
        "statement": sha256(world.final()),
        "evidence": "software",
        "simulated": True,
    }
    out = tmp_path / "result.json"
    found = command(cli.task_app, "result", world.task, "--no-acknowledge", "--out", out)
    assert SIMULATED_WARNING in found.output
    assert json.loads(out.read_text())["enclave"]["simulated"]


def test_statements_are_written_by_their_digests_and_shown(world, command, tmp_path):
    texts = [world.final(begun(world.spec), stage=Stage.RELEASE), world.final()]
    for text in texts:
        world.show(text)
    found = command(cli.task_app, "statements", world.task, "--out", tmp_path / "kept")
    assert SIMULATED_WARNING in found.output
    assert {each.name: each.read_bytes() for each in (tmp_path / "kept").iterdir()} == {
        f"{sha256(text)}.json": text for text in texts
    }
    lines = command(cli.task_app, "statements", world.task, "--json").output.splitlines()
    told = [json.loads(line) for line in lines]
    assert [each["stage"] for each in told] == ["release", "final"]
    assert [each["simulated"] for each in told] == [True, True]
    assert told[1]["events"][-1]["event"] == "destroy"


def test_metrics_are_printed_round_by_round(world, command):
    world.tell(0, [{"round": 1, "metrics": {"loss": 0.5}}])
    told = command(cli.task_app, "metrics", world.task, "--no-follow", "--json").output
    assert json.loads(told) == {"round": 1, "metrics": {"loss": 0.5}, "simulated": True}
    printed = command(cli.task_app, "metrics", world.task, "--no-follow").output
    assert "0.5" in printed
    assert SIMULATED_WARNING in printed


def test_a_task_without_an_enclave_has_no_metrics_and_no_statements(world):
    task = world.requester.submit(make_spec()).task
    with pytest.raises(NotInEnclave, match="runs in no enclave"):
        world.requester.statements(task)
    with pytest.raises(NotInEnclave, match="runs in no enclave"):
        list(world.requester.metrics(task))


def policy_file(folder, runtime=RUNTIME):
    """The policy of an owner that accepts one simulated runtime."""
    image = Image(kind=Kind.SOFTWARE, measurements={"runtime": runtime[2:]})
    words = {"images": (image,), "max_age_s": 600, "max_age_blocks": 200}
    policy = AttestationPolicy(platforms=(Platform.SIMULATED,), **words)
    file = folder / "policy.json"
    file.write_text(json.dumps(json.loads(policy.text()), indent=1))
    return policy, file


def statement_file(world, policy):
    spec = world.spec.model_dump(mode="json")
    spec["steps"][0]["policies"] = dict.fromkeys(POLICIES, policy.digest())
    spec = type(world.spec).model_validate(spec)
    file = world.folder / "statement.json"
    file.write_bytes(world.final(ended(spec, world.output), spec=spec))
    return file


def test_a_statement_is_judged_again_by_whoever_has_it_and_the_policy(world, command):
    policy, named = policy_file(world.folder)
    file = statement_file(world, policy)
    judged = command(enclave_cli.attestation_app, "verify", file, "--policy", named)
    assert (judged.exit_code, "accepted" in judged.output) == (0, True)
    told = command(enclave_cli.attestation_app, "verify", file, "--policy", named, "--json")
    found = json.loads(told.output)
    assert (found["accepted"], found["simulated"], found["policy"]) == (True, True, policy.digest())
    assert found["at"] == {"number": 10, "time": NOW}
    assert found["trust"]["hardware"] == 97


def test_a_statement_that_a_policy_does_not_take_is_refused_with_every_reason(world, command):
    policy, named = policy_file(world.folder, runtime=h(5))
    file = statement_file(world, policy)
    words = ("verify", file, "--policy", named, "--at-block-time", NOW + 100_000, "--at-number", 50)
    judged = command(enclave_cli.attestation_app, *words)
    assert (judged.exit_code, "refused" in judged.output) == (1, True)
    assert "expired" in judged.output
    found = json.loads(command(enclave_cli.attestation_app, *words[:4], "--json").output)
    assert [each["code"] for each in found["reasons"]] == ["measurement-unknown"]
    assert found["reasons"][0]["next"]
