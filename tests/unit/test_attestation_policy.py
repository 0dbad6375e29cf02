"""A data owner's policy: one thing changed in a world that it accepts, and the reason it gives."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from attestation_factory import (
    NODE,
    NODE_CERTIFICATE,
    NOW,
    POLICY,
    SEPT_VE_DISABLE,
    DcapFactory,
    NitroFactory,
    SnpFactory,
)
from pydantic import ValidationError
from simulated_enclave import measured, worked

from sealtrace.protocol.attestation import eventlog as log
from sealtrace.protocol.attestation.appraisal import Claim, NotAccepted, Stage, appraise, require_accepted
from sealtrace.protocol.attestation.binding import Challenge, Moment, report_data
from sealtrace.protocol.attestation.evidence import Evidence, Feature, Kind, SoftwareCollateral, TcbStatus
from sealtrace.protocol.attestation.policy import (
    AttestationPolicy,
    BadPolicy,
    Image,
    Narrowing,
    Platform,
    read_policy,
)
from sealtrace.protocol.attestation.refusals import NEXT_STEPS, Refusal
from sealtrace.protocol.attestation.software import software_evidence
from sealtrace.protocol.canonical import canonical, sha256
from sealtrace.protocol.records import protections_of

DCAP, SNP, NITRO = DcapFactory(), SnpFactory(), NitroFactory()


def digest(number):
    return f"0x{number:064x}"


RUNTIME, ALGORITHM, CONFIG = digest(1), digest(2), digest(3)
CHALLENGE = Challenge(digest(100), digest(101), Moment(NOW - 60, 990), b"\x07" * 32, ALGORITHM)
AT = Moment(NOW, 1_000)
MEASURED = {
    Kind.SGX: {"mr_enclave": "11" * 32, "mr_signer": "12" * 32},
    Kind.TDX: {"mr_td": "21" * 48, "rt_mr1": "22" * 48, "rt_mr2": "23" * 48},
    Kind.SEV_SNP: {"measurement": "31" * 48},
    Kind.NITRO: {"pcr0": "07" * 48},
    Kind.SOFTWARE: {"runtime": "41" * 32},
}
BASE = AttestationPolicy(
    platforms=(Platform.HARDWARE, Platform.SIMULATED),
    images=tuple(Image(kind=kind, measurements=values) for kind, values in MEASURED.items()),
    max_age_s=600,
    max_age_blocks=50,
    runtimes=(RUNTIME,),
    configs=(CONFIG,),
)


def policy(**changes):
    return AttestationPolicy.model_validate(BASE.model_copy(update=changes).model_dump())


def with_image(kind, **changes):
    image = Image(kind=kind, measurements=MEASURED[kind] | changes.pop("measurements", {}), **changes)
    return policy(images=(image,))


def begin(accepted=BASE):
    return measured(RUNTIME, ALGORITHM, CONFIG, [accepted.digest()])


def whole(accepted=BASE):
    return (*begin(accepted), *worked({digest(10): digest(11)}, digest(20)))


def bound(kind, events, challenge=CHALLENGE, factories=(DCAP, SNP, NITRO), **patch):
    """Evidence of ``kind`` over the events, its collateral and the roots that take it."""
    dcap, snp, nitro = factories
    about = report_data(challenge, tuple(events))
    raw = {name: bytes.fromhex(value) for name, value in MEASURED[kind].items()}
    if kind is Kind.SEV_SNP:
        return snp.evidence(events, report_data=about, **raw | patch), snp.collateral(), snp.roots
    if kind is Kind.NITRO:
        return nitro.evidence(events, user_data=about, **patch), None, nitro.roots
    if kind is Kind.SOFTWARE:
        word = software_evidence(NODE, about, MEASURED[kind], NOW)
        return Evidence(kind, word, tuple(events)), SoftwareCollateral(NODE_CERTIFICATE), None
    return dcap.evidence(kind, events, report_data=about, **raw | patch), dcap.collateral(kind), dcap.roots


def judge(  # a world that BASE accepts, but for what is given
    kind=Kind.TDX, accepted=BASE, events=None, at=AT, stage=Stage.RELEASE, asked=CHALLENGE, **patch
):
    made, collateral, roots = bound(kind, begin(accepted) if events is None else events, **patch)
    return appraise(made, collateral, accepted, asked, at, stage=stage, roots=roots)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(("stage", "events"), [(Stage.RELEASE, begin()), (Stage.FINAL, whole())])
def test_evidence_of_every_kind_is_accepted_before_and_after_a_run(kind, stage, events):
    seen = judge(kind, events=events, stage=stage)
    assert seen.codes == ()
    assert seen.accepted
    assert require_accepted(seen).kind is kind
    assert (seen.policy, seen.at, seen.stage) == (BASE.digest(), AT, stage)


def test_evidence_that_is_not_genuine_has_that_one_reason():
    made, collateral, _ = bound(Kind.TDX, begin())
    seen = appraise(made, collateral, BASE, CHALLENGE, AT)  # the vendors' roots
    assert seen.codes == (Refusal.UNKNOWN_ROOT,)
    assert seen.verified is None
    assert seen.evidence == sha256(made.raw)
    assert set(seen.trust.values()) == {99}


def test_a_refusal_says_every_reason_and_what_to_do_about_it():
    seen = judge(factories=(DCAP.but(status="OutOfDate", smt=True), SNP, NITRO))
    assert seen.codes == (Refusal.TCB_STATUS, Refusal.FEATURE_NOT_ALLOWED)
    with pytest.raises(NotAccepted) as caught:
        require_accepted(seen)
    for reason in seen.reasons:
        assert reason.next_step == NEXT_STEPS[reason.code]
        assert str(reason) in str(caught.value)


# --- the platform -----------------------------------------------------------------------------------------


def test_simulated_evidence_passes_only_where_the_policy_says_so_in_words():
    images = tuple(image for image in BASE.images if image.kind.is_hardware)
    hardware = policy(platforms=(Platform.HARDWARE,), images=images)
    seen = judge(Kind.SOFTWARE, hardware)
    assert seen.codes == (Refusal.PROTECTION_NOT_ALLOWED, Refusal.MEASUREMENT_UNKNOWN)
    assert judge(Kind.TDX, hardware).accepted


def test_hardware_evidence_does_not_pass_where_only_simulation_is_named():
    images = tuple(image for image in BASE.images if not image.kind.is_hardware)
    simulated = policy(platforms=(Platform.SIMULATED,), images=images)
    assert Refusal.PROTECTION_NOT_ALLOWED in judge(Kind.TDX, simulated).codes
    assert judge(Kind.SOFTWARE, simulated).accepted


@pytest.mark.parametrize("status", [each for each in TcbStatus if each is not TcbStatus.UP_TO_DATE])
def test_a_status_is_accepted_where_it_is_spelled_out_and_nowhere_else(status):
    behind = (DCAP.but(status=status.value), SNP, NITRO)
    assert judge(factories=behind).codes == (Refusal.TCB_STATUS,)
    named = policy(tcb_statuses=(TcbStatus.UP_TO_DATE, status))
    seen = judge(accepted=named, factories=behind)
    assert seen.accepted
    assert seen.trust[Claim.HARDWARE] == 32


def test_accepting_one_status_accepts_no_other():
    named = policy(tcb_statuses=(TcbStatus.SW_HARDENING_NEEDED,))
    assert judge(accepted=named).codes == (Refusal.TCB_STATUS,)


def test_an_advisory_is_refused_where_the_policy_names_it():
    known = (DCAP.but(advisories=("INTEL-SA-00615",)), SNP, NITRO)
    assert judge(factories=known).accepted
    strict = policy(refused_advisories=("INTEL-SA-00615",))
    seen = judge(accepted=strict, factories=known)
    assert (seen.codes, seen.trust[Claim.HARDWARE]) == ((Refusal.ADVISORY,), 32)


@pytest.mark.parametrize(
    ("change", "feature"),
    [
        ({"smt": True}, Feature.SMT),
        ({"dynamic": True}, Feature.DYNAMIC_PLATFORM),
        ({"cached": True}, Feature.CACHED_KEYS),
    ],
)
def test_what_weakens_a_platform_is_accepted_only_by_name(change, feature):
    weak = (DCAP.but(**change), SNP, NITRO)
    assert judge(factories=weak).codes == (Refusal.FEATURE_NOT_ALLOWED,)
    assert judge(accepted=policy(features=(feature,)), factories=weak).accepted
    others = tuple(each for each in Feature if each is not feature)
    assert judge(accepted=policy(features=others), factories=weak).codes == (Refusal.FEATURE_NOT_ALLOWED,)


@pytest.mark.parametrize("bit", [16, 18])
def test_guest_settings_of_snp_are_accepted_only_by_name(bit):
    made, collateral, roots = bound(Kind.SEV_SNP, begin(), policy=struct.pack("<Q", POLICY | 1 << bit))
    seen = appraise(made, collateral, BASE, CHALLENGE, AT, roots=roots)
    assert seen.codes == (Refusal.FEATURE_NOT_ALLOWED,)


def test_old_collateral_is_refused_where_the_policy_asks_for_a_later_edition():
    assert judge(accepted=policy(minimum_evaluation=17)).accepted
    assert judge(accepted=policy(minimum_evaluation=18)).codes == (Refusal.COLLATERAL_OUTDATED,)


def test_amds_certificates_come_with_a_revocation_list_unless_the_policy_says_otherwise():
    made, _, roots = bound(Kind.SEV_SNP, begin())
    without = SNP.collateral(crl=False)
    seen = appraise(made, without, BASE, CHALLENGE, AT, roots=roots)
    assert seen.codes == (Refusal.REVOCATION_UNKNOWN,)
    loose = policy(require_revocation_list=False)
    made, _, roots = bound(Kind.SEV_SNP, begin(loose))
    assert appraise(made, without, loose, CHALLENGE, AT, roots=roots).accepted


DEBUGGED = {
    Kind.SGX: {"attributes": struct.pack("<Q", 0b111)},
    Kind.TDX: {"td_attributes": struct.pack("<Q", SEPT_VE_DISABLE | 1)},
    Kind.SEV_SNP: {"policy": struct.pack("<Q", POLICY | 1 << 19)},
    Kind.NITRO: {"pcrs": {number: bytes(48) for number in range(16)}},
}


@pytest.mark.parametrize("kind", DEBUGGED)
def test_debugging_is_refused_always(kind):
    generous = policy(tcb_statuses=tuple(TcbStatus), features=tuple(Feature), require_revocation_list=False)
    made, collateral, roots = bound(kind, begin(generous), **DEBUGGED[kind])
    assert Refusal.DEBUG in appraise(made, collateral, generous, CHALLENGE, AT, roots=roots).codes


def test_a_policy_has_no_setting_that_allows_debugging():
    assert not [name for name in AttestationPolicy.model_fields if "debug" in name]


# --- the image --------------------------------------------------------------------------------------------

WRONG = [(kind, name) for kind, values in MEASURED.items() if kind is not Kind.SOFTWARE for name in values]


@pytest.mark.parametrize(("kind", "name"), WRONG)
def test_every_named_measurement_must_be_as_given(kind, name):
    other = bytes.fromhex(MEASURED[kind][name])[:-1] + b"\0"
    patch = {"pcrs": {0: other}} if kind is Kind.NITRO else {name: other}
    seen = judge(kind, **patch)
    assert seen.codes == (Refusal.MEASUREMENT_UNKNOWN,)
    assert f"{name} is {other.hex()}" in str(seen.reasons[0])
    assert seen.trust[Claim.EXECUTABLES] == 33


def test_any_of_several_images_will_do():
    other = Image(kind=Kind.SGX, measurements={"mr_enclave": "99" * 32})
    assert judge(Kind.SGX, policy(images=(other, *BASE.images))).accepted


def test_the_measurements_of_two_images_cannot_be_mixed():
    first = Image(kind=Kind.SGX, measurements={"mr_enclave": "11" * 32, "mr_signer": "98" * 32})
    second = Image(kind=Kind.SGX, measurements={"mr_enclave": "99" * 32, "mr_signer": "12" * 32})
    assert judge(Kind.SGX, policy(images=(first, second))).codes == (Refusal.MEASUREMENT_UNKNOWN,)


@pytest.mark.parametrize(
    ("kind", "name", "number"), [(Kind.SGX, "isv_svn", 3), (Kind.SEV_SNP, "microcode", 213)]
)
def test_a_security_version_may_be_higher_and_not_lower(kind, name, number):
    patch = {"isv_svn": struct.pack("<H", 3)} if kind is Kind.SGX else {}
    for least, codes in ((number - 1, ()), (number, ()), (number + 1, (Refusal.TCB_BEHIND,))):
        seen = judge(kind, with_image(kind, minimum_versions={name: least}), **patch)
        assert seen.codes == codes
    assert seen.trust[Claim.HARDWARE] == 32


def test_a_security_version_that_a_platform_lacks_is_too_low():
    assert judge(Kind.TDX, with_image(Kind.TDX, minimum_versions={"snp": 0})).codes == (Refusal.TCB_BEHIND,)


def test_a_report_from_less_privileged_software_needs_to_be_named():
    lower = {"vmpl": struct.pack("<I", 2)}
    assert judge(Kind.SEV_SNP, **lower).codes == (Refusal.MEASUREMENT_UNKNOWN,)
    named = with_image(Kind.SEV_SNP, measurements={"vmpl": "02"})
    assert judge(Kind.SEV_SNP, named, **lower).accepted


def test_a_register_can_be_held_to_the_event_log():
    held = with_image(Kind.TDX, measurements={"rt_mr3": "event-log"})
    assert judge(Kind.TDX, held).codes == (Refusal.MEASUREMENT_UNKNOWN,)
    assert judge(Kind.TDX, held, rt_mr3=log.head_of(begin(held))).accepted


def test_host_data_can_be_held_to_a_job():
    held = with_image(Kind.SEV_SNP, measurements={"host_data": "55" * 32})
    assert judge(Kind.SEV_SNP, held).codes == (Refusal.MEASUREMENT_UNKNOWN,)
    assert judge(Kind.SEV_SNP, held, host_data=b"\x55" * 32).accepted


# --- binding and age --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(
    "change",
    [{"task": digest(7)}, {"block": digest(7)}, {"key": b"\x08" * 32}],
    ids=lambda each: next(iter(each)),
)
def test_evidence_about_something_else_is_not_bound(kind, change):
    seen = judge(kind, asked=replace(CHALLENGE, **change))
    assert seen.codes == (Refusal.NOT_BOUND,)


def test_evidence_over_another_log_is_not_bound():
    made, collateral, roots = bound(Kind.TDX, begin())
    exchanged = replace(made, events=whole())
    seen = appraise(exchanged, collateral, BASE, CHALLENGE, AT, stage=Stage.FINAL, roots=roots)
    assert seen.codes == (Refusal.NOT_BOUND,)


def test_a_document_that_is_bound_to_nothing_is_refused():
    made = NITRO.evidence(begin(), user_data=None)
    seen = appraise(made, None, BASE, CHALLENGE, AT, roots=NITRO.roots)
    assert seen.codes == (Refusal.NOT_BOUND,)


def test_evidence_is_too_old_a_second_or_a_block_after_its_time():
    issued = CHALLENGE.issued
    for at, codes in (
        (Moment(issued.time + 600, issued.number + 50), ()),
        (Moment(issued.time + 601, issued.number + 50), (Refusal.TOO_OLD,)),
        (Moment(issued.time + 600, issued.number + 51), (Refusal.TOO_OLD,)),
        (issued, ()),
        (Moment(issued.time - 1, issued.number), (Refusal.FROM_THE_FUTURE,)),
        (Moment(issued.time, issued.number - 1), (Refusal.FROM_THE_FUTURE,)),
    ):
        assert judge(Kind.TDX, at=at).codes == codes


def test_the_last_evidence_may_be_as_late_as_its_run_was_long():
    issued = CHALLENGE.issued
    late = Moment(issued.time + 86_000, issued.number + 9_000)
    assert judge(Kind.TDX, at=late).codes == (Refusal.TOO_OLD,)
    assert judge(Kind.TDX, events=whole(), at=late, stage=Stage.FINAL).accepted
    early = Moment(issued.time - 1, issued.number)
    seen = judge(Kind.TDX, events=whole(), at=early, stage=Stage.FINAL)
    assert seen.codes == (Refusal.FROM_THE_FUTURE,)


# --- the event log ----------------------------------------------------------------------------------------


def test_a_log_names_what_the_policy_and_the_task_name():
    named = begin()
    for place, other, code in (
        (0, log.runtime(digest(9)), Refusal.WRONG_RUNTIME),
        (1, log.algorithm(digest(9)), Refusal.WRONG_ALGORITHM),
        (2, log.config(digest(9)), Refusal.WRONG_CONFIG),
        (3, log.policy(digest(9)), Refusal.WRONG_POLICY),
    ):
        changed = (*named[:place], other, *named[place + 1 :])
        assert judge(events=changed).codes == (code,)


def test_a_log_may_name_the_policies_of_other_owners_too():
    assert judge(events=(*begin(), log.policy(digest(9)))).accepted


def test_a_policy_without_runtimes_and_configurations_takes_any():
    open_minded = policy(runtimes=(), configs=())
    strange = (
        log.runtime(digest(8)),
        log.algorithm(ALGORITHM),
        log.config(digest(9)),
        log.policy(open_minded.digest()),
    )
    seen = judge(accepted=open_minded, events=strange)
    assert (seen.codes, seen.trust[Claim.CONFIGURATION]) == ((), 0)


def test_a_log_out_of_order_is_broken():
    assert judge(events=begin()[::-1]).codes == (Refusal.LOG_BROKEN,)
    assert judge(events=()).codes == (Refusal.LOG_BROKEN,)


def test_no_key_is_released_to_an_enclave_that_has_opened_something():
    assert judge(events=whole()).codes == (Refusal.LOG_BROKEN,)


def test_the_last_evidence_must_tell_of_the_destruction():
    assert judge(events=whole()[:-1], stage=Stage.FINAL).codes == (Refusal.NOT_DESTROYED,)
    kept = (*whole()[:-1], log.destroyed([digest(99)]))
    assert judge(events=kept, stage=Stage.FINAL).codes == (Refusal.LOG_BROKEN,)


# --- what it is worth to others ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind.is_hardware])
def test_accepted_hardware_is_affirmed(kind):
    assert judge(kind).trust == {
        Claim.CONFIGURATION: 2,
        Claim.EXECUTABLES: 2,
        Claim.HARDWARE: 2,
        Claim.RUNTIME_OPAQUE: 2,
    }


def test_simulated_evidence_is_contraindicated_even_where_it_is_accepted():
    seen = judge(Kind.SOFTWARE)
    assert seen.accepted
    assert (seen.trust[Claim.HARDWARE], seen.trust[Claim.RUNTIME_OPAQUE]) == (97, 96)


def test_simulated_evidence_that_is_not_genuine_is_still_no_hardware():
    made, _, _ = bound(Kind.SOFTWARE, begin())
    seen = appraise(made, SoftwareCollateral(bytes(32)), BASE, CHALLENGE, AT)
    assert seen.trust[Claim.HARDWARE] == 97


def test_a_debugged_guest_is_contraindicated():
    made, collateral, roots = bound(Kind.SEV_SNP, begin(), **DEBUGGED[Kind.SEV_SNP])
    seen = appraise(made, collateral, BASE, CHALLENGE, AT, roots=roots)
    assert (seen.trust[Claim.HARDWARE], seen.trust[Claim.RUNTIME_OPAQUE]) == (96, 96)


# --- policies as documents --------------------------------------------------------------------------------


def test_a_policy_is_read_as_it_was_written_and_named_by_its_digest():
    assert read_policy(BASE.text()) == BASE
    assert read_policy(BASE.text()).digest() == BASE.digest() == sha256(BASE.text())


def body(**changes):
    return {**BASE.model_dump(mode="json"), **changes}


SGX_IMAGE = {"kind": "sgx", "measurements": {"mr_enclave": "11" * 32}}


@pytest.mark.parametrize(
    "changes",
    [
        {"platforms": []},
        {"platforms": ["tee"]},
        {"platforms": ["tee-hardware"]},  # with an image that is software
        {"images": []},
        {"images": [{"kind": "tdx", "measurements": {"mr_td": "21" * 48}}]},
        {"images": [SGX_IMAGE | {"measurements": {"mr_enclave": "AB" * 32}}]},
        {"images": [SGX_IMAGE | {"measurements": {"mr_enclave": ""}}]},
        {"images": [SGX_IMAGE | {"measurements": {"mr_enclave": "event-log"}}]},
        {"images": [SGX_IMAGE | {"minimum_versions": {"isv_svn": -1}}]},
        {"images": [SGX_IMAGE | {"more": 1}]},
        {"max_age_s": 0},
        {"max_age_s": "60"},
        {"max_age_blocks": 0},
        {"tcb_statuses": []},
        {"tcb_statuses": ["Revoked"]},
        {"allow_debug": True},
        {"runtimes": ["0xAB"]},
        {"version": "sealtrace.attestation-policy/2"},
        {"narrowing": {"decimals": 13}},
        {"narrowing": {"outputs": ["not a name"]}},
        {"narrowing": {"min_group": 0}},
        {"narrowing": {"widen": True}},
    ],
)
def test_what_is_no_policy_is_refused(changes):
    with pytest.raises(BadPolicy, match="not a policy"):
        read_policy(canonical(body(**changes)))


def test_what_is_accepted_is_never_left_to_a_default():
    for name in ("platforms", "images", "max_age_s", "max_age_blocks"):
        left = body()
        del left[name]
        with pytest.raises(BadPolicy, match=name):
            read_policy(canonical(left))


def test_a_policy_in_another_spelling_is_refused():
    with pytest.raises(BadPolicy, match="canonical"):
        read_policy(BASE.text() + b"\n")


@pytest.mark.parametrize("platform", Platform)
def test_a_platform_has_the_name_of_the_protection_that_grants_allow(platform):
    assert protections_of([platform.value.replace("-", "_")]) is platform.protection


def test_a_policy_cannot_be_changed():
    with pytest.raises(ValidationError):
        BASE.max_age_s = 10**9


DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "attestation.md").read_text(encoding="utf-8")


def test_the_policy_in_the_document_is_one():
    example = DOCUMENT.partition("```json\n")[2].partition("```")[0].replace("...", "ab" * 48)
    assert AttestationPolicy.model_validate_json(example).images[0].measurements["rt_mr3"] == "event-log"


def test_the_document_lists_every_reason_and_what_to_do_about_it():
    listed = dict(re.findall(r"^\| `([a-z-]+)` \| (.*) \|$", DOCUMENT, re.MULTILINE))
    assert {code.value: step for code, step in NEXT_STEPS.items()}.items() <= listed.items()


def test_the_document_names_every_field_of_a_policy():
    for name in AttestationPolicy.model_fields:
        assert name == "version" or f"`{name}`" in DOCUMENT
    for name in Narrowing.model_fields:
        assert f"`narrowing.{name}`" in DOCUMENT
