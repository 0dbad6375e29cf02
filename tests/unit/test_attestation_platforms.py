"""Made evidence of every status and defect, under roots of these tests: what is genuine and what is not."""

from __future__ import annotations

import struct
from dataclasses import replace

import cbor2
import pytest
from attestation_factory import (
    DAY,
    NODE,
    NODE_CERTIFICATE,
    NOW,
    POLICY,
    SEPT_VE_DISABLE,
    DcapFactory,
    NitroFactory,
    SnpFactory,
    flipped,
    issue,
    p256,
    p384,
    revocations,
)
from cryptography.hazmat.primitives.asymmetric import rsa

from sealtrace.protocol.attestation import jws
from sealtrace.protocol.attestation.evidence import (
    Evidence,
    Feature,
    Kind,
    SnpCollateral,
    SoftwareCollateral,
    TcbStatus,
    collateral_digest,
    read_dcap_collateral,
)
from sealtrace.protocol.attestation.refusals import NEXT_STEPS, EvidenceRefused, Refusal
from sealtrace.protocol.attestation.roots import Product, Roots, production_roots
from sealtrace.protocol.attestation.software import LIFETIME_S, TYPE, software_evidence
from sealtrace.protocol.attestation.verification import VerifierMissing, verify
from sealtrace.protocol.canonical import canonical, sha256

DCAP, NITRO, SNP = DcapFactory(), NitroFactory(), SnpFactory()
BOTH = (Kind.SGX, Kind.TDX)


def refusal(act, *arguments, **named):
    with pytest.raises(EvidenceRefused) as caught:
        act(*arguments, **named)
    assert caught.value.reason.value in str(caught.value)
    assert NEXT_STEPS[caught.value.reason] in str(caught.value)
    return caught.value.reason


def dcap(factory=DCAP, kind=Kind.SGX, at=NOW, evidence=None, roots=DCAP.roots, **patch):
    evidence = evidence or factory.evidence(kind, **patch)
    return verify(evidence, factory.collateral(evidence.kind), at, roots=roots)


def snp(factory=SNP, at=NOW, collateral=None, roots=None, **patch):
    evidence = factory.evidence(**patch)
    return verify(evidence, collateral or factory.collateral(), at, roots=roots or factory.roots)


def nitro(factory=NITRO, at=NOW, roots=NITRO.roots, **patch):
    return verify(factory.evidence(**patch), None, at, roots=roots)


def test_every_reason_has_a_next_step():
    assert set(NEXT_STEPS) == set(Refusal)


def test_made_evidence_is_refused_by_the_production_roots():
    for act in (dcap, snp, nitro):
        assert refusal(act, roots=production_roots()) is Refusal.UNKNOWN_ROOT


# --- SGX and TDX ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("status", TcbStatus)
def test_every_tcb_status_is_a_fact_and_no_refusal_of_the_verifier(kind, status):
    assert dcap(DCAP.but(status=status.value), kind).status is status


@pytest.mark.parametrize("kind", BOTH)
def test_the_quoting_enclaves_own_status_counts(kind):
    assert dcap(DCAP.but(qe_status="OutOfDate"), kind).status is TcbStatus.OUT_OF_DATE


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("change", [{"status": "Revoked"}, {"qe_status": "Revoked"}])
def test_a_revoked_tcb_is_never_genuine(kind, change):
    assert refusal(dcap, DCAP.but(**change), kind) is Refusal.REVOKED


@pytest.mark.parametrize(
    ("status", "reason"), [("TDRelaunchAdvised", Refusal.UNSUPPORTED), ("Fine", Refusal.MALFORMED)]
)
def test_a_status_that_nobody_here_knows_is_not_taken_for_another(status, reason):
    assert refusal(dcap, DCAP.but(status=status), Kind.TDX) is reason


@pytest.mark.parametrize("revoked", ["revoke_pck", "revoke_ca"])
def test_a_revoked_platform_key_or_authority_is_refused(revoked):
    assert refusal(dcap, DCAP.but(**{revoked: True})) is Refusal.REVOKED


DEFECTS = {
    "an SGX enclave in debug mode": (Kind.SGX, {"attributes": struct.pack("<Q", 0b111)}, Refusal.DEBUG),
    "a TD in debug mode": (
        Kind.TDX,
        {"td_attributes": struct.pack("<Q", SEPT_VE_DISABLE | 1)},
        Refusal.DEBUG,
    ),
    "a TD with a reserved debug bit": (
        Kind.TDX,
        {"td_attributes": struct.pack("<Q", SEPT_VE_DISABLE | 2)},
        Refusal.UNSAFE_SETTINGS,
    ),
    "a TD that takes injected faults": (Kind.TDX, {"td_attributes": bytes(8)}, Refusal.UNSAFE_SETTINGS),
    "a TD that may be migrated": (
        Kind.TDX,
        {"td_attributes": struct.pack("<Q", SEPT_VE_DISABLE | 1 << 29)},
        Refusal.UNSAFE_SETTINGS,
    ),
    "a TD with a service TD": (Kind.TDX, {"version": 5, "mr_service_td": b"\1"}, Refusal.UNSAFE_SETTINGS),
    "a TDX module of somebody else": (Kind.TDX, {"mr_signer_seam": b"\1"}, Refusal.UNSAFE_SETTINGS),
    "an enclave never initialised": (Kind.SGX, {"attributes": struct.pack("<Q", 0b100)}, Refusal.MALFORMED),
    "an SGX quote of version 5": (Kind.SGX, {"version": 5}, Refusal.UNSUPPORTED),
    "a quote of version 6": (Kind.TDX, {"version": 6}, Refusal.UNSUPPORTED),
}


@pytest.mark.parametrize("what", DEFECTS)
def test_what_is_never_accepted_is_refused_by_its_name(what):
    kind, patch, reason = DEFECTS[what]
    assert refusal(dcap, kind=kind, **patch) is reason


def test_a_td_of_the_second_generation_is_read():
    seen = dcap(kind=Kind.TDX, version=5, mr_td=b"\5" * 48)
    assert (seen.measurements["mr_td"], seen.measurements["mr_service_td"]) == ("05" * 48, "00" * 48)


def test_an_enclave_that_may_have_the_provisioning_key_says_so():
    assert dcap(attributes=struct.pack("<Q", 0b10101)).features == {Feature.PROVISION_KEY}


def test_what_weakens_a_platform_is_reported():
    seen = dcap(DCAP.but(smt=True, dynamic=True, cached=True))
    assert seen.features == {Feature.SMT, Feature.DYNAMIC_PLATFORM, Feature.CACHED_KEYS}


def test_advisories_and_the_edition_of_the_collateral_are_reported():
    seen = dcap(DCAP.but(advisories=("INTEL-SA-00615", "INTEL-SA-00289"), evaluation=18))
    assert (seen.advisories, seen.evaluation) == (("INTEL-SA-00289", "INTEL-SA-00615"), 18)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pck_last": NOW - 1}, Refusal.EXPIRED),
        ({"next_update": NOW - 1}, Refusal.EXPIRED),
        ({"issued": NOW + 1}, Refusal.NOT_YET_VALID),
    ],
)
def test_collateral_of_another_time_is_refused(change, reason):
    assert refusal(dcap, DCAP.but(**change)) is reason


def test_an_expired_or_premature_chain_is_refused():
    assert refusal(dcap, at=NOW + 31 * DAY) is Refusal.EXPIRED
    assert refusal(dcap, at=NOW - 2 * DAY) is Refusal.NOT_YET_VALID


def test_collateral_of_another_root_is_refused():
    other = DcapFactory()
    assert refusal(verify, DCAP.evidence(), other.collateral(Kind.SGX), NOW, roots=DCAP.roots) is (
        Refusal.UNKNOWN_ROOT
    )


def test_a_quote_that_another_platform_key_certified_is_refused():
    stolen = DCAP.but(keys={**DCAP.keys, "pck": p256()})
    stolen.__dict__["pck"] = DCAP.pck  # the certificate of one platform, the key of another
    assert refusal(dcap, stolen) is Refusal.SIGNATURE_INVALID


@pytest.mark.parametrize("kind", BOTH)
def test_collateral_of_the_other_kind_is_refused(kind):
    other = Kind.TDX if kind is Kind.SGX else Kind.SGX
    with pytest.raises(EvidenceRefused):
        verify(DCAP.evidence(kind), DCAP.collateral(other), NOW, roots=DCAP.roots)


def test_collateral_is_read_as_it_was_stored_and_named_by_its_digest():
    collateral = DCAP.collateral(Kind.TDX)
    text = canonical(collateral.document())
    assert read_dcap_collateral(text) == collateral
    assert collateral_digest(read_dcap_collateral(text)) == collateral_digest(collateral)


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body | {"more": "1"},
        lambda body: {name: value for name, value in body.items() if name != "tcb_info"},
        lambda body: body | {"pck_crl": body["pck_crl"].upper()},
        lambda body: body | {"pck_crl": 7},
        lambda body: body | {"tcb_info": 7},
        lambda body: [],
        list,
    ],
)
def test_what_is_not_collateral_in_its_one_spelling_is_malformed(change):
    text = canonical(change(dict(DCAP.collateral(Kind.SGX).document())))
    assert refusal(read_dcap_collateral, text) is Refusal.MALFORMED


# --- SEV-SNP ----------------------------------------------------------------------------------------------

LINES = [(product, vlek) for product in Product for vlek in (False, True)]
FACTORIES = {line: SnpFactory(*line, keys=SNP.keys) for line in LINES}


@pytest.mark.parametrize("line", LINES)
def test_reports_of_every_line_signed_by_chip_or_cloud_are_genuine(line):
    factory = FACTORIES[line]
    seen = snp(factory, measurement=b"\3" * 48)
    expected = {"bootloader": 4, "tee": 1, "snp": 22, "microcode": 213}
    assert seen.versions == expected | ({"fmc": 2} if line[0] is Product.TURIN else {})
    assert (seen.measurements["measurement"], seen.revocation_checked) == ("03" * 48, True)
    assert bytes.fromhex(seen.platform["product"]) == line[0].encode()


@pytest.mark.parametrize("version", [2, 3, 5])
def test_every_published_version_of_the_report_is_read(version):
    assert not snp(version=struct.pack("<I", version)).debug


@pytest.mark.parametrize("length", [0, 0x49F, 0x4A1])
def test_a_report_has_the_length_of_a_report(length):
    raw = (SNP.report() + b"\0")[:length]
    seen = refusal(verify, Evidence(Kind.SEV_SNP, raw), SNP.collateral(), NOW, roots=SNP.roots)
    assert seen is Refusal.MALFORMED


@pytest.mark.parametrize("place", [0x330, 0x49F])
def test_what_no_signature_covers_must_be_zero(place):
    raw = bytearray(SNP.report())
    raw[place] = 1
    seen = refusal(verify, Evidence(Kind.SEV_SNP, bytes(raw)), SNP.collateral(), NOW, roots=SNP.roots)
    assert seen is Refusal.MALFORMED


@pytest.mark.parametrize("line", [line for line in LINES if not line[1]])
def test_the_chip_id_may_be_wrapped_in_an_octet_string(line):
    assert snp(FACTORIES[line].but(bare_chip_id=False)).platform["chip_id"]


def test_a_chip_id_of_another_lines_length_is_refused():
    short = SNP.but(chip=bytes(range(1, 9)), bare_chip_id=False)
    assert refusal(snp, short) is Refusal.COLLATERAL_MISMATCH


@pytest.mark.parametrize("value", [b"\x04\x01\x04", b"\x02\x02\x04", b"\x02\x00", b""])
def test_a_version_in_the_certificate_is_a_whole_number_and_nothing_else(value):
    assert refusal(snp, SNP.but(bootloader_extension=value)) is Refusal.MALFORMED


SNP_DEFECTS = {
    "an unknown version": ({"version": struct.pack("<I", 6)}, Refusal.UNSUPPORTED),
    "another signature algorithm": ({"algorithm": struct.pack("<I", 2)}, Refusal.UNSUPPORTED),
    "the other kind of signer": ({"signer": struct.pack("<I", 1 << 2)}, Refusal.CHAIN_BROKEN),
    "no signer at all": ({"signer": struct.pack("<I", 7 << 2)}, Refusal.CHAIN_BROKEN),
    "a masked chip key": ({"signer": struct.pack("<I", 1 << 1)}, Refusal.SIGNATURE_INVALID),
    "a reserved signer bit": ({"signer": struct.pack("<I", 1 << 5)}, Refusal.MALFORMED),
    "something in a reserved part": ({"reserved": b"\1"}, Refusal.MALFORMED),
    "a policy without its one": ({"policy": bytes(8)}, Refusal.MALFORMED),
    "another chip": ({"chip_id": b"\xff"}, Refusal.COLLATERAL_MISMATCH),
    "a masked chip id": ({"chip_id": bytes(64)}, Refusal.COLLATERAL_MISMATCH),
    "another bootloader": ({"reported_tcb": b"\x05"}, Refusal.COLLATERAL_MISMATCH),
    "older microcode": ({"reported_tcb": bytes([4, 1, 0, 0, 0, 0, 22, 1])}, Refusal.COLLATERAL_MISMATCH),
    "a reserved TCB byte": ({"reported_tcb": bytes([4, 1, 1, 0, 0, 0, 22, 213])}, Refusal.MALFORMED),
}


@pytest.mark.parametrize("what", SNP_DEFECTS)
def test_a_signed_report_that_does_not_fit_its_certificate_is_refused(what):
    patch, reason = SNP_DEFECTS[what]
    assert refusal(snp, **patch) is reason


@pytest.mark.parametrize(
    "change",
    [
        {"product_name": "Genoa-B0"},
        {"product_name": "Naples"},
        {"common_name": "SEV-VLEK"},
        {"common_name": "SEV-TEST"},
        {"ask_name": "SEV-Genoa"},
        {"ask_name": "SEV-VLEK-Milan"},
    ],
)
def test_certificates_of_another_line_or_kind_are_refused(change):
    assert refusal(snp, SNP.but(**change)) is Refusal.CHAIN_BROKEN


def test_siena_is_of_the_genoa_line():
    factory = FACTORIES[Product.GENOA, False].but(product_name="Siena-A1")
    assert bytes.fromhex(snp(factory).platform["product"]) == b"Genoa"


def test_a_debugged_guest_and_its_other_settings_are_facts():
    assert snp(policy=struct.pack("<Q", POLICY | 1 << 19)).debug
    seen = snp(policy=struct.pack("<Q", POLICY | 1 << 16 | 1 << 18))
    assert (seen.debug, seen.features) == (False, {Feature.SMT, Feature.MIGRATION_AGENT})


def test_a_revoked_intermediate_is_refused():
    assert refusal(snp, collateral=SNP.collateral(revoked=True)) is Refusal.REVOKED


def test_without_a_revocation_list_it_is_known_that_none_was_looked_at():
    assert not snp(collateral=SNP.collateral(crl=False)).revocation_checked


@pytest.mark.parametrize(
    ("crl", "reason"),
    [
        (lambda: b"", Refusal.MALFORMED),
        (lambda: revocations(SNP.ask), Refusal.CHAIN_BROKEN),
        (lambda: revocations(SnpFactory().ark), Refusal.CHAIN_BROKEN),
        (lambda: revocations(SNP.ark, last=NOW), Refusal.EXPIRED),
        (lambda: revocations(SNP.ark, first=NOW + 1), Refusal.NOT_YET_VALID),
    ],
)
def test_a_revocation_list_that_is_not_the_roots_or_not_of_now_is_refused(crl, reason):
    assert refusal(snp, collateral=replace(SNP.collateral(), crl=crl())) is reason


def test_a_window_ends_with_the_first_thing_that_ends():
    crl = revocations(SNP.ark, first=NOW - 9, last=NOW + 9)
    seen = snp(collateral=replace(SNP.collateral(), crl=crl))
    assert (seen.valid_from, seen.valid_until) == (NOW - 9, NOW + 8)


def test_an_expired_processor_certificate_is_refused():
    assert refusal(snp, SNP.but(vek_last=NOW - 1)) is Refusal.EXPIRED


def test_a_chain_that_the_root_did_not_issue_is_refused():
    strange = SnpFactory()
    chain = (strange.ask.pem() + SNP.ark.pem()).encode()
    assert refusal(snp, strange, collateral=SnpCollateral(strange.vek.der(), chain), roots=SNP.roots) is (
        Refusal.CHAIN_BROKEN
    )


def test_a_processor_key_cannot_play_the_intermediate():
    forged = issue("SEV-VCEK", p384(), SNP.vek, authority=False)
    chain = (SNP.vek.pem() + SNP.ark.pem()).encode()
    assert refusal(snp, collateral=SnpCollateral(forged.der(), chain)) is Refusal.CHAIN_BROKEN


def test_a_processor_key_on_another_curve_is_refused():
    assert refusal(snp, SNP.but(keys={**SNP.keys, "vek": p256()})) is Refusal.CHAIN_BROKEN


@pytest.mark.parametrize(
    "change", [lambda pem: pem + b"\n", lambda pem: b"AMD\n" + pem, lambda pem: pem[:-1]]
)
def test_a_chain_in_another_spelling_is_refused(change):
    collateral = SNP.collateral()
    altered = replace(collateral, chain=change(collateral.chain))
    assert refusal(snp, collateral=altered) is Refusal.MALFORMED


@pytest.mark.parametrize("chain", [lambda: b"", lambda: SNP.ark.pem().encode(), lambda: b"PEM"])
def test_a_chain_of_the_wrong_length_is_refused(chain):
    collateral = replace(SNP.collateral(), chain=chain())
    assert refusal(snp, collateral=collateral) in (Refusal.CHAIN_BROKEN, Refusal.MALFORMED)


# --- Nitro ------------------------------------------------------------------------------------------------


def test_a_document_may_have_the_tag_of_its_structure_and_has_one_digest_all_the_same():
    plain = NITRO.evidence()
    tagged = replace(plain, raw=b"\xd2" + plain.raw)
    digests = {verify(each, None, NOW, roots=NITRO.roots).digest for each in (plain, tagged)}
    assert len(digests) == 1


def test_a_document_may_leave_out_what_is_optional():
    assert nitro(user_data=..., nonce=..., public_key=...).report_data == b""


def test_a_document_of_an_enclave_in_debug_mode_says_so():
    zero = {number: bytes(48) for number in range(16)}
    assert nitro(pcrs=zero).debug
    assert not nitro().debug


HEAD = cbor2.dumps({1: -35})
NITRO_DEFECTS = {
    "another algorithm": ({"protected": {1: -7}}, Refusal.UNSUPPORTED),
    "a second protected header": ({"protected": {1: -35, 4: b"k"}}, Refusal.UNSUPPORTED),
    "an unprotected header": ({"unprotected": {4: b"k"}}, Refusal.MALFORMED),
    "another digest": ({"digest": "SHA256"}, Refusal.UNSUPPORTED),
    "a field too few": ({"digest": ...}, Refusal.MALFORMED),
    "a field too many": ({"more": 1}, Refusal.MALFORMED),
    "a field of another type": ({"module_id": 7}, Refusal.MALFORMED),
    "no module": ({"module_id": ""}, Refusal.MALFORMED),
    "a truth for a time": ({"timestamp": True}, Refusal.MALFORMED),
    "no time": ({"timestamp": 0}, Refusal.UNSUPPORTED),
    "a time to come": ({"timestamp": (NOW + 301) * 1000}, Refusal.NOT_YET_VALID),
    "no registers": ({"pcrs": {}}, Refusal.MALFORMED),
    "a short register": ({"pcrs": {0: b"short"}}, Refusal.MALFORMED),
    "a register beyond the last": ({"pcrs": {32: bytes(48)}}, Refusal.MALFORMED),
    "an empty bundle": ({"cabundle": []}, Refusal.MALFORMED),
    "no certificate": ({"certificate": b"none"}, Refusal.MALFORMED),
    "a bundle without its root": ({"cabundle": [NITRO.zonal.der(), NITRO.host.der()]}, Refusal.UNKNOWN_ROOT),
    "a bundle out of order": (
        {"cabundle": [NITRO.root.der(), NITRO.host.der(), NITRO.zonal.der()]},
        Refusal.CHAIN_BROKEN,
    ),
    "an authority that is none": (
        {"cabundle": [NITRO.root.der()], "certificate": NITRO.host.der()},
        Refusal.CHAIN_BROKEN,
    ),
    "a certificate of somebody else": ({"certificate": NITRO.zonal.der()}, Refusal.CHAIN_BROKEN),
    "an authority for a leaf": (
        {"cabundle": [NITRO.root.der(), NITRO.zonal.der()], "certificate": NITRO.host.der()},
        Refusal.CHAIN_BROKEN,
    ),
}


@pytest.mark.parametrize("what", NITRO_DEFECTS)
def test_a_document_that_is_signed_and_not_as_specified_is_refused(what):
    patch, reason = NITRO_DEFECTS[what]
    assert refusal(nitro, **patch) is reason


@pytest.mark.parametrize("place", [48, 96])
def test_a_signature_has_no_room_for_more_bytes(place):
    *parts, signature = cbor2.loads(NITRO.document())
    raw = cbor2.dumps([*parts, signature[:place] + b"\0" + signature[place:]])
    assert refusal(verify, Evidence(Kind.NITRO, raw), None, NOW, roots=NITRO.roots) is Refusal.UNSUPPORTED


def test_an_authority_without_the_right_to_issue_is_refused():
    assert refusal(nitro, NITRO.but(zonal_is_authority=False)) is Refusal.CHAIN_BROKEN


@pytest.mark.parametrize("change", [{"leaf_is_authority": True}, {"leaf_signs": False}])
def test_a_leaf_that_is_not_for_signing_evidence_is_refused(change):
    assert refusal(nitro, NITRO.but(**change)) is Refusal.CHAIN_BROKEN


def test_a_leaf_on_another_curve_is_refused():
    assert refusal(nitro, NITRO.but(keys={**NITRO.keys, "leaf": p256()})) is Refusal.CHAIN_BROKEN


def test_a_document_is_refused_once_its_leaf_has_expired():
    assert refusal(nitro, at=NOW + 3 * 3600 + 1) is Refusal.EXPIRED
    assert nitro(at=NOW + 3 * 3600).valid_until == NOW + 3 * 3600


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        cbor2.dumps([1, 2]),
        cbor2.dumps("text"),
        b"\x9f\x40\xa0\x40\x40\xff",  # an array of indefinite length
        cbor2.dumps([HEAD, {}, b"", 7]),
        cbor2.dumps([HEAD, {}, b"", b"", b""]),
        cbor2.dumps([HEAD, [], b"", b""]),
        cbor2.dumps({0: HEAD, 1: {}, 2: b"", 3: b""}),
        NITRO.document() + b"\0",
        b"\x98\x04" + NITRO.document()[1:],
    ],
)
def test_what_is_no_signed_structure_in_its_one_encoding_is_malformed(raw):
    assert refusal(verify, Evidence(Kind.NITRO, raw), None, NOW, roots=NITRO.roots) is Refusal.MALFORMED


# --- software ---------------------------------------------------------------------------------------------


def software(key=NODE, certificate=NODE_CERTIFICATE, at=NOW, raw=None):
    raw = raw or software_evidence(key, b"\1" * 64, {"runtime": "02" * 32}, NOW)
    return verify(Evidence(Kind.SOFTWARE, raw), SoftwareCollateral(certificate), at)


def test_a_nodes_own_word_is_read_as_what_it_is():
    seen = software()
    assert (seen.kind, seen.kind.is_hardware) == (Kind.SOFTWARE, False)
    assert (seen.report_data, seen.measurements) == (b"\1" * 64, {"runtime": "02" * 32})


def test_a_nodes_word_tells_by_which_certificate_it_was_given():
    assert software().platform["certificate"] == sha256(NODE_CERTIFICATE)[2:]
    assert SoftwareCollateral(NODE_CERTIFICATE).fingerprint == sha256(NODE_CERTIFICATE)


def test_the_word_of_another_node_is_refused():
    assert refusal(software, key=p256()) is Refusal.SIGNATURE_INVALID


def test_a_certificate_whose_key_signs_no_such_text_is_refused():
    elsewhere = issue("node", p384(), authority=False).der()
    assert refusal(software, certificate=elsewhere) is Refusal.SIGNATURE_INVALID
    rsa_key = rsa.generate_private_key(65537, 2048)
    of_rsa = issue("node", rsa_key, authority=False).der()
    assert refusal(software, certificate=of_rsa) is Refusal.SIGNATURE_INVALID
    unheard_of = NODE_CERTIFICATE.replace(
        bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d03017f")
    )
    assert refusal(software, certificate=unheard_of) is Refusal.SIGNATURE_INVALID


def test_a_nodes_word_holds_for_a_day():
    assert LIFETIME_S == DAY
    assert software(at=NOW + LIFETIME_S).valid_until == NOW + LIFETIME_S
    assert refusal(software, at=NOW + LIFETIME_S + 1) is Refusal.EXPIRED
    assert refusal(software, at=NOW - 1) is Refusal.NOT_YET_VALID


def test_no_bit_of_a_nodes_word_can_be_changed():
    raw = software_evidence(NODE, b"\1" * 64, {"runtime": "02" * 32}, NOW)
    for bit in range(0, len(raw) * 8, 3):
        assert refusal(software, raw=flipped(raw, bit)) in (Refusal.SIGNATURE_INVALID, Refusal.MALFORMED)


WORD = {"simulated": True, "iat": NOW, "report_data": "00" * 64, "measurements": {"runtime": "02"}}


@pytest.mark.parametrize(
    "claims",
    [
        WORD | {"simulated": False},
        WORD | {"more": 1},
        WORD | {"iat": True},
        WORD | {"measurements": {"runtime": 2}},
        WORD | {"report_data": "zz"},
        {"iat": NOW},
    ],
)
def test_a_signed_text_that_is_no_software_evidence_is_malformed(claims):
    assert software(raw=jws.sign(WORD, NODE, TYPE).encode()).measurements == {"runtime": "02"}
    assert refusal(software, raw=jws.sign(claims, NODE, TYPE).encode()) is Refusal.MALFORMED


def test_a_certificate_that_is_none_is_refused():
    assert refusal(software, certificate=b"short") is Refusal.MALFORMED


def test_who_lacks_a_library_is_told_what_to_install(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name="dcap_qvl")

    monkeypatch.setattr("sealtrace.protocol.attestation.verification.import_module", absent)
    with pytest.raises(VerifierMissing, match=r"dcap_qvl is missing: pip install 'sealtrace\[tee\]'"):
        dcap()


def test_roots_are_values_that_nothing_changes():
    roots = production_roots()
    assert roots == production_roots()
    assert isinstance(roots, Roots)
    with pytest.raises(AttributeError):
        roots.intel = DCAP.roots.intel
