"""What an owner's node takes of an enclave's statement, and each reason for which it refuses to start."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from simulated_enclave import evidence_of, measured, stated

from sealtrace.node.attesting import NotShown, judge, judge_final, keep, kept, shown
from sealtrace.node.gateway.certificates import create_certificate, pem_to_der
from sealtrace.node.ports import RunFailed
from sealtrace.node.preparing import Prepared, Unfit
from sealtrace.protocol.attestation import eventlog
from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.attestation.binding import Challenge, Moment
from sealtrace.protocol.attestation.evidence import Kind
from sealtrace.protocol.attestation.policy import AttestationPolicy, Image, Platform
from sealtrace.protocol.attestation.results import read_result
from sealtrace.protocol.attestation.results import sign_result as signed
from sealtrace.protocol.attestation.statement import Statement
from sealtrace.protocol.canonical import sha256
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds, hex32
from sealtrace.protocol.outcome import Blame, Denial, Failure
from sealtrace.protocol.receipt import input_commitment
from sealtrace.protocol.records import BlockRef
from sealtrace.protocol.spec import TaskSpec

HOST, ME = Address("0x" + "01" * 20), Address("0x" + "02" * 20)
PEM, KEY_PEM = create_certificate(HOST)
KEY = load_pem_private_key(KEY_PEM, None)
CERTIFICATE = pem_to_der(PEM.decode())
RUNTIME, ALGORITHM, TASK = (hex32(bytes([n]) * 32) for n in (3, 4, 5))
DATASET, GRANT = hex32(b"\6" * 32), hex32(b"\7" * 32)
ISSUED = BlockRef(100, hex32(b"\x10" * 32), UnixSeconds(1_790_000_000))
NOW = BlockRef(103, hex32(b"\x13" * 32), UnixSeconds(1_790_000_009))


def policy(**changes):
    image = Image(kind=Kind.SOFTWARE, measurements={"runtime": RUNTIME[2:]})
    base = {"platforms": (Platform.SIMULATED,), "images": (image,), "max_age_s": 60, "max_age_blocks": 20}
    return AttestationPolicy(**{**base, **changes})


OTHER_IMAGE = Image(kind=Kind.SOFTWARE, measurements={"runtime": "00" * 32})
BARRED_IMAGE = Image(kind=Kind.SOFTWARE, measurements={"runtime": RUNTIME[2:], "cgroup_memory": "01"})


def spec(own: AttestationPolicy, **changes) -> TaskSpec:
    step = {
        "id": "train",
        "algorithm": ALGORITHM,
        "engine": "tee",
        "protocol": "SIMULATED",
        "inputs": ["mine"],
        "grants": {"mine": GRANT},
        "policies": {"mine": own.digest()},
        **changes,
    }
    return TaskSpec.model_validate(
        {
            "version": "sealtrace.task/1",
            "nonce": hex32(b"\1" * 32),
            "requester": "0x" + "0e" * 20,
            "requester_key": hex32(b"\2" * 32),
            "purpose": "a test",
            "deadline": 1_800_000_000,
            "parties": [HOST, ME],
            "compute": [HOST],
            "inputs": [
                {"name": "mine", "party": ME, "dataset": DATASET, "id_column": "id", "columns": ["age"]}
            ],
            "steps": [step],
        }
    )


def statement(asked: TaskSpec, stage=Stage.RELEASE, signer=KEY, certificate=CERTIFICATE, events=(), **about):
    step = asked.steps[0]
    log = (*measured(RUNTIME, step.algorithm, asked.digest(), step.policies.values()), *events)
    moment = Moment(ISSUED.timestamp, ISSUED.number)
    challenge = replace(Challenge(TASK, ISSUED.hash, moment, b"\x21" * 32, ALGORITHM), **about)
    return stated(stage, HOST, signer, certificate, challenge, log, RUNTIME)


class World:
    """One owner's node, in which the enclave's party has started and shown a statement."""

    def __init__(self, folder, own: AttestationPolicy | None = None, **changes) -> None:
        self.policy = own or policy()
        self.spec = spec(self.policy, **changes)
        self.shown: bytes | None = None
        self.bound: Hex32 | None = None
        self.kept_policy: AttestationPolicy | None = self.policy
        self.blocks = {ISSUED.number: ISSUED}
        self.fingerprint = sha256(CERTIFICATE)
        self.now = NOW
        self.ports = SimpleNamespace(
            me=ME,
            chain=self,
            scheduler=self,
            statements=folder / "statements",
            policy_of=lambda grant: self.kept_policy if grant == GRANT else None,
            sign_result=lambda claims: signed(claims, KEY),
            build="sealtrace test",
            jobs=lambda task: folder,
        )
        self.folder = folder
        self.show(statement(self.spec))

    def show(self, what: Statement, bind: bool = True) -> None:
        self.shown = what.document()
        if bind:
            self.bound = input_commitment(TASK, {}, (self.spec.steps[0].algorithm,), what.digest)

    def statement(self, task, stage):
        return self.shown

    def start_of(self, task, party, since, *, at):
        return self.bound if (task, party) == (TASK, HOST) and since <= at.number else None

    def block(self, number):
        return self.blocks[number]

    def finalized(self):
        return self.now

    @property
    def view(self):
        node = SimpleNamespace(tls_fingerprint=self.fingerprint)
        return SimpleNamespace(
            task=TASK,
            block=self.now,
            facts=SimpleNamespace(nodes={HOST: node}),
            known=lambda: SimpleNamespace(spec=self.spec),
        )

    def judge(self):
        prepared = Prepared((), {ALGORITHM: self.folder}, {DATASET: DATASET}, DATASET, {})
        release, words = judge(self.view, self.ports, shown(self.view, self.ports))
        return prepared.attesting(TASK, words["attested"]), release, words


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def refusal(world: World) -> str:
    with pytest.raises(Unfit) as caught:
        world.judge()
    assert caught.value.denial is Denial.ATTESTATION_REFUSED
    return caught.value.detail


def test_a_statement_that_the_owners_policy_takes_is_what_the_start_binds(world):
    prepared, _, words = world.judge()
    given = statement(world.spec)
    assert prepared.commitment == input_commitment(TASK, {DATASET: DATASET}, (ALGORITHM,), given.digest)
    assert words["attested"] == given.digest
    result = read_result(words["appraisals"]["mine"]["result"], [KEY.public_key()])
    assert (result.accepted, result.status) == (True, "contraindicated")
    assert kept(world.ports, given.digest) == given


def test_nothing_is_judged_before_there_is_a_statement(world):
    world.shown = None
    with pytest.raises(NotShown, match="no statement"):
        world.judge()


@pytest.mark.parametrize("text", [b"", b"{}", b"no JSON", b"\xff"])
def test_what_is_no_statement_is_not_judged(world, text):
    world.shown = text
    with pytest.raises(NotShown, match="is none"):
        world.judge()


def test_a_statement_that_the_enclaves_start_is_not_bound_to_is_not_judged(world):
    world.show(statement(world.spec, key=b"\x22" * 32), bind=False)
    with pytest.raises(NotShown, match="another statement"):
        world.judge()


def test_an_enclave_whose_party_has_not_started_is_not_judged(world):
    world.bound = None
    with pytest.raises(NotShown):
        world.judge()


def test_evidence_of_another_task_is_refused(world):
    world.show(statement(world.spec, task=hex32(b"\x55" * 32)))
    assert "another task" in refusal(world)


def test_evidence_of_another_algorithm_is_refused(world):
    world.show(statement(world.spec, algorithm=hex32(b"\x56" * 32)))
    assert "algorithm" in refusal(world)


def test_evidence_that_is_bound_to_no_block_of_this_chain_is_refused(world):
    world.show(statement(world.spec, block=hex32(b"\x57" * 32)))
    assert "another block" in refusal(world)


def test_evidence_replayed_under_another_key_is_refused(world):
    recorded = statement(world.spec)
    mine = replace(recorded, challenge=replace(recorded.challenge, key=b"\x23" * 32))
    world.show(mine)
    assert "not-bound" in refusal(world)


def test_evidence_with_another_log_than_it_was_made_over_is_refused(world):
    recorded = statement(world.spec)
    events = (eventlog.runtime(hex32(b"\x58" * 32)), *recorded.evidence.events[1:])
    world.show(replace(recorded, evidence=replace(recorded.evidence, events=events)))
    assert "not-bound" in refusal(world)


def test_evidence_signed_by_another_node_is_refused(world):
    pem, key = create_certificate(ME)
    world.show(
        statement(world.spec, signer=load_pem_private_key(key, None), certificate=pem_to_der(pem.decode()))
    )
    assert "certificate that the chain holds" in refusal(world)


def test_evidence_with_a_forged_signature_is_refused(world):
    _, key = create_certificate(HOST)
    world.show(statement(world.spec, signer=load_pem_private_key(key, None)))
    assert "signature-invalid" in refusal(world)


def test_simulated_evidence_is_refused_where_the_task_asks_for_hardware(tmp_path):
    world = World(tmp_path, protocol="HARDWARE")
    assert "asks for HARDWARE" in refusal(world)


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        (policy(images=(OTHER_IMAGE,)), "measurement-unknown"),
        (policy(images=(BARRED_IMAGE,)), "measurement-unknown"),
        (policy(max_age_s=5), "too-old"),
        (policy(max_age_blocks=2), "too-old"),
        (policy(runtimes=(hex32(b"\x59" * 32),)), "wrong-runtime"),
        (policy(configs=(hex32(b"\x5a" * 32),)), "wrong-config"),
    ],
)
def test_what_the_policy_does_not_take_is_refused_with_its_reason(tmp_path, own, reason):
    assert reason in refusal(World(tmp_path, own))


def with_log(world, *changed):
    """A statement whose log has other events of some kinds, and evidence over just that log."""
    kinds = {each.kind for each in changed}
    begun = [e for e in statement(world.spec).evidence.events if e.kind not in kinds]
    log = sorted([*begun, *changed], key=lambda e: list(eventlog.EventKind).index(e.kind))
    given = statement(world.spec)
    return replace(given, evidence=evidence_of(KEY, given.challenge, log, RUNTIME))


def test_a_log_of_another_specification_is_refused_though_no_policy_names_one(world):
    world.show(with_log(world, eventlog.config(hex32(b"\x66" * 32))))
    assert "another specification" in refusal(world)


@pytest.mark.parametrize("more", [True, False])
def test_a_log_of_other_policies_than_the_task_names_is_refused(world, more):
    named = [eventlog.policy(world.policy.digest())] if more else []
    world.show(with_log(world, *named, eventlog.policy(hex32(b"\x67" * 32))))
    assert "other policies" in refusal(world)


def test_evidence_bound_to_a_block_of_long_ago_is_refused_at_once(world):
    world.now = replace(NOW, number=NOW.number + 60_000)
    assert "long ago" in refusal(world)


@pytest.mark.parametrize("kept_policy", [None, policy(max_age_s=61)])
def test_a_task_that_names_another_policy_than_the_grant_has_is_refused(world, kept_policy):
    world.kept_policy = kept_policy
    with pytest.raises(Unfit) as caught:
        world.judge()
    assert caught.value.denial is Denial.SPEC_MISMATCH


def test_a_release_over_a_log_in_which_something_was_opened_is_refused(world):
    world.show(statement(world.spec, events=[eventlog.took_input(DATASET, DATASET)]))
    assert "before a key was released" in refusal(world)


# --- the last statement

DONE = [eventlog.took_input(DATASET, DATASET), eventlog.gave_output(TASK), eventlog.destroyed([DATASET])]


def released(world: World):
    """The digest of the statement upon which the owner released, which its node keeps."""
    first = statement(world.spec)
    keep(world.ports, first.document())
    return first.digest


def final(world: World, events=DONE, **about) -> dict:
    text = statement(world.spec, stage=about.pop("stage", Stage.FINAL), events=events, **about).document()
    (world.folder / "final.json").write_bytes(text)
    return judge_final(world.view, world.ports, released(world))


def test_a_last_statement_is_recorded_with_its_appraisal(world):
    found = final(world)
    assert read_result(found["appraisals"]["mine"]["result"], [KEY.public_key()]).accepted


@pytest.mark.parametrize(
    "events", [DONE[:2], [DONE[0], eventlog.destroyed([])], [*DONE[:1], eventlog.destroyed([TASK])]]
)
def test_a_run_that_does_not_end_in_the_destruction_of_every_input_has_failed(world, events):
    with pytest.raises(RunFailed) as caught:
        final(world, events)
    assert (caught.value.reason, caught.value.blame) == (Failure.ATTESTATION_FAILED, Blame.PARTY)
    assert caught.value.blamed == HOST


def test_a_first_statement_is_no_last_one(world):
    with pytest.raises(RunFailed):
        final(world, [], stage=Stage.RELEASE)


def test_a_long_run_does_not_make_its_last_statement_too_old(world):
    world.now = replace(NOW, number=NOW.number + 10_000, timestamp=UnixSeconds(NOW.timestamp + 3000))
    assert final(world)


def test_a_kept_statement_that_was_altered_is_of_no_use(world):
    _, found, _ = world.judge()
    path = world.folder / "statements" / f"{found.statement.digest}.json"
    path.write_bytes(statement(world.spec, key=b"\x24" * 32).document())
    with pytest.raises(RunFailed, match="altered"):
        kept(world.ports, found.statement.digest)


def test_a_last_statement_of_another_enclave_has_failed(world):
    with pytest.raises(RunFailed, match="another task, party, block, algorithm or key"):
        final(world, key=b"\x25" * 32)


def test_a_last_statement_under_another_certificate_than_the_chains_has_failed(world):
    pem, key = create_certificate(HOST)
    with pytest.raises(RunFailed, match="certificate that the chain holds") as caught:
        final(world, signer=load_pem_private_key(key, None), certificate=pem_to_der(pem.decode()))
    assert caught.value.blamed == HOST


def test_an_owner_whose_own_policy_is_gone_blames_itself(world):
    world.kept_policy = None
    with pytest.raises(RunFailed) as caught:
        final(world)
    assert (caught.value.reason, caught.value.blame) == (Failure.INPUT_INVALID, Blame.REPORTER)


def test_a_last_statement_that_is_gone_is_an_interruption(world):
    with pytest.raises(RunFailed) as caught:
        judge_final(world.view, world.ports, released(world))
    assert (caught.value.reason, caught.value.blame) == (Failure.INTERRUPTED, Blame.REPORTER)
