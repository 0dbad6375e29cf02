"""Real evidence, published by others, gives what its record says; altered evidence gives nothing."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest
from attestation_factory import flipped

from sealtrace.protocol.attestation.appraisal import appraise
from sealtrace.protocol.attestation.binding import Challenge, Moment
from sealtrace.protocol.attestation.certificates import fingerprint, key_fingerprint, read_pem
from sealtrace.protocol.attestation.evidence import (
    Evidence,
    Feature,
    Kind,
    NitroCollateral,
    SnpCollateral,
    TcbStatus,
    read_dcap_collateral,
)
from sealtrace.protocol.attestation.policy import AttestationPolicy, Image, Platform
from sealtrace.protocol.attestation.refusals import EvidenceRefused, Refusal
from sealtrace.protocol.attestation.roots import Product, production_roots
from sealtrace.protocol.attestation.verification import verify

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples" / "attestation"
FLIPS = 1_000
JUNE_2025 = 1_750_809_600
NITRO_AT = 1_668_034_320

pytestmark = [
    pytest.mark.samples,
    pytest.mark.skipif(not SAMPLES.is_dir(), reason="no ../shared/samples/attestation beside this checkout"),
]


@dataclass(frozen=True)
class Sample:
    """Evidence, what comes beside it, the time to judge it at, and times at which it is not valid."""

    evidence: Evidence
    collateral: object
    at: int
    too_early: int
    too_late: int

    def verified(self, **changes):
        case = replace(self, **changes)
        return verify(case.evidence, case.collateral, case.at)

    def with_raw(self, raw):
        return replace(self, evidence=replace(self.evidence, raw=raw))


def read(*parts):
    return SAMPLES.joinpath(*parts).read_bytes()


def dcap(folder, kind, first, last):
    evidence = Evidence(kind, read(folder, "quote.bin"))
    return Sample(evidence, read_dcap_collateral(read(folder, "collateral.json")), JUNE_2025, first, last)


def snp(folder, raw, first, last):
    collateral = SnpCollateral(read(folder, "vcek.der"), read(folder, "ask_ark.pem"))
    return Sample(Evidence(Kind.SEV_SNP, raw), collateral, JUNE_2025, first, last)


def nitro(file):
    evidence = Evidence(Kind.NITRO, read("nitro", file))
    return Sample(evidence, NitroCollateral(), NITRO_AT, 1_668_034_316, 1_668_045_121)


MAKERS = {
    # The seconds before and after the windows that the samples' README gives.
    "sgx_v3": lambda: dcap("sgx_v3", Kind.SGX, 1_750_330_570, 1_752_919_279),
    "tdx_v4": lambda: dcap("tdx_v4", Kind.TDX, 1_750_329_146, 1_752_919_235),
    "snp_milan": lambda: snp(
        "snp_milan", bytes.fromhex(read("snp_milan", "report.hex").decode()), 1_680_549_822, 1_901_474_624
    ),
    "snp_milan_debug": lambda: snp(
        "snp_milan_debug", read("snp_milan_debug", "report.bin"), 1_663_980_927, 1_884_905_729
    ),
    "nitro": lambda: nitro("document.cbor"),
}


@pytest.fixture(params=MAKERS)
def sample(request):
    return MAKERS[request.param]()


def refusal(act):
    with pytest.raises(EvidenceRefused) as caught:
        act()
    return caught.value.reason


def test_the_sgx_quote_is_genuine_and_its_platform_wants_hardening():
    seen = MAKERS["sgx_v3"]().verified()
    assert (
        seen.measurements["mr_enclave"] == "33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb"
    )
    assert (
        seen.measurements["mr_signer"] == "815f42f11cf64430c30bab7816ba596a1da0130c3b028b673133a66cf9a3e0e6"
    )
    assert (seen.measurements["isv_prod_id"], seen.versions) == ("0000", {"isv_svn": 0})
    assert seen.report_data == b"Hello, world!".ljust(64, b"\0")
    assert seen.status is TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED
    assert seen.advisories == ("INTEL-SA-00289", "INTEL-SA-00615")
    assert (seen.platform["fmspc"], seen.debug, seen.evaluation) == ("00a067110000", False, 17)


def test_the_tdx_quote_is_genuine_and_its_platform_up_to_date():
    seen = MAKERS["tdx_v4"]().verified()
    assert seen.measurements["mr_td"].startswith(
        "91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407"
    )
    assert seen.measurements["td_attributes"] == "0000001000000000"
    assert seen.measurements["rt_mr3"] == "00" * 48
    assert seen.report_data.hex().startswith("9a9d48e7f6799642")
    assert (seen.status, seen.advisories, seen.debug) == (TcbStatus.UP_TO_DATE, (), False)
    assert seen.platform["fmspc"] == "b0c06f000000"
    assert seen.features == {Feature.SMT, Feature.DYNAMIC_PLATFORM, Feature.CACHED_KEYS}


def test_what_follows_a_quote_is_cut_so_that_padding_does_not_change_its_digest():
    case = MAKERS["tdx_v4"]()
    seen = case.verified()
    assert (len(case.evidence.raw), len(seen.raw)) == (5006, 4936)
    padded = case.with_raw(case.evidence.raw + b"\xff" * 3000)
    assert padded.verified().digest == case.with_raw(seen.raw).verified().digest == seen.digest


def test_the_milan_report_is_genuine_and_names_its_firmware():
    seen = MAKERS["snp_milan"]().verified()
    assert seen.measurements["measurement"].startswith("7a1e5c266c0108dbc9bb94fa926951320940915d0aafb424")
    assert (seen.measurements["vmpl"], seen.debug) == ("00", False)
    assert seen.versions == {"bootloader": 3, "tee": 0, "snp": 8, "microcode": 115}
    assert seen.report_data.hex().startswith("d447b55d197491bf")
    assert bytes.fromhex(seen.platform["product"]) == b"Milan"


def test_the_debugged_milan_report_is_genuine_and_says_so():
    seen = MAKERS["snp_milan_debug"]().verified()
    assert seen.debug
    assert seen.versions == {"bootloader": 2, "tee": 0, "snp": 5, "microcode": 68}
    assert seen.report_data == bytes([1, 2, 3, 4, 5]).ljust(64, b"\0")
    assert seen.measurements["measurement"].startswith("b07af9620f3b839b47996422ddec6058338951d984e31211")


def test_the_nitro_document_is_genuine_at_its_own_time():
    seen = MAKERS["nitro"]().verified()
    assert bytes.fromhex(seen.platform["module_id"]) == b"i-04fd167167daacf3b-enc01845e97d0b3eb4e"
    assert seen.measurements["pcr0"].startswith("22f9e1c949208da5")
    assert (seen.measurements["pcr3"], seen.debug) == ("00" * 48, False)
    assert seen.report_data[:4].hex() == "7c371080"


def test_the_nitro_document_with_a_damaged_signature_is_refused():
    assert refusal(nitro("document_bad_sig.cbor").verified) is Refusal.SIGNATURE_INVALID


def test_a_sample_is_valid_in_its_window_and_not_a_second_before_or_after(sample):
    for at in (sample.too_early + 1, sample.too_late - 1):
        sample.verified(at=at)
    assert refusal(lambda: sample.verified(at=sample.too_early)) is Refusal.NOT_YET_VALID
    assert refusal(lambda: sample.verified(at=sample.too_late)) is Refusal.EXPIRED


def test_the_window_that_is_reported_is_the_one_in_which_a_sample_is_valid(sample):
    seen = sample.verified()
    assert (seen.valid_from, seen.valid_until) == (sample.too_early + 1, sample.too_late - 1)


def test_no_single_bit_of_the_evidence_can_be_changed(sample):
    raw = sample.verified().raw  # what follows it is cut, and no part of it
    for bit in random.Random(20_250_619).sample(range(len(raw) * 8), FLIPS):
        with pytest.raises(EvidenceRefused):
            sample.with_raw(flipped(raw, bit)).verified()


def flips_of(collateral, count):
    """``count`` collaterals, each with one bit changed somewhere."""
    values = {each.name: getattr(collateral, each.name) for each in fields(collateral)}
    places = [
        (name, bit)
        for name, value in values.items()
        if value is not None
        for bit in range(8 * len(value if isinstance(value, bytes) else value.encode()))
    ]
    for name, bit in random.Random(7).sample(places, count):
        value = values[name]
        if isinstance(value, bytes):
            yield replace(collateral, **{name: flipped(value, bit)})
        else:  # in Latin-1 a byte is a character: what reads UTF-8 meets a text that is wrong all the same
            yield replace(collateral, **{name: flipped(value.encode(), bit).decode("latin-1")})


@pytest.mark.parametrize("folder", ["sgx_v3", "tdx_v4", "snp_milan"])
def test_no_single_bit_of_the_collateral_can_be_changed(folder):
    sample = MAKERS[folder]()
    for altered in flips_of(sample.collateral, FLIPS // 2):
        with pytest.raises(EvidenceRefused):
            sample.verified(collateral=altered)


@pytest.mark.parametrize(
    ("folder", "other"),
    [("sgx_v3", "tdx_v4"), ("tdx_v4", "sgx_v3"), ("snp_milan", "snp_milan_debug")],
)
def test_collateral_of_another_platform_is_refused_whole_and_in_every_part_that_differs(folder, other):
    sample, strange = MAKERS[folder](), MAKERS[other]().collateral
    with pytest.raises(EvidenceRefused):
        sample.verified(collateral=strange)
    differing = [
        each.name
        for each in fields(strange)
        if getattr(strange, each.name) != getattr(sample.collateral, each.name)
    ]
    assert differing
    for part in differing:
        with pytest.raises(EvidenceRefused):
            sample.verified(collateral=replace(sample.collateral, **{part: getattr(strange, part)}))


def test_evidence_with_collateral_of_another_kind_or_none_is_refused(sample):
    other = MAKERS["snp_milan" if sample.evidence.kind is not Kind.SEV_SNP else "sgx_v3"]().collateral
    assert refusal(lambda: sample.verified(collateral=other)) is Refusal.COLLATERAL_MISMATCH
    if sample.evidence.kind is not Kind.NITRO:
        assert refusal(lambda: sample.verified(collateral=None)) is Refusal.COLLATERAL_MISSING


def test_a_quote_of_one_kind_is_not_taken_for_the_other():
    for folder, kind in (("sgx_v3", Kind.TDX), ("tdx_v4", Kind.SGX)):
        sample = MAKERS[folder]()
        called = replace(sample.evidence, kind=kind)
        assert refusal(lambda s=sample, e=called: s.verified(evidence=e)) is Refusal.MALFORMED


def test_genuine_evidence_is_refused_under_roots_that_are_not_its_vendors(sample):
    roots = replace(
        production_roots(), intel="00" * 32, amd=dict.fromkeys(Product, "00" * 32), nitro="00" * 32
    )
    seen = refusal(lambda: verify(sample.evidence, sample.collateral, sample.at, roots=roots))
    assert seen is Refusal.UNKNOWN_ROOT


def test_truncated_and_empty_evidence_is_refused(sample):
    raw = sample.verified().raw
    for length in (0, 1, 47, 500, len(raw) - 1):
        with pytest.raises(EvidenceRefused):
            sample.with_raw(raw[:length]).verified()


CHALLENGE = Challenge("0x" + "01" * 32, "0x" + "02" * 32, Moment(JUNE_2025 - 1, 1), b"k", "0x" + "03" * 32)
IDENTITY = {
    Kind.SGX: ("mr_enclave",),
    Kind.TDX: ("mr_td", "rt_mr1", "rt_mr2"),
    Kind.SEV_SNP: ("measurement",),
}


@pytest.mark.parametrize(
    ("folder", "platform"),
    [
        ("sgx_v3", [Refusal.TCB_STATUS, Refusal.ADVISORY]),
        ("tdx_v4", [Refusal.FEATURE_NOT_ALLOWED] * 3),
        ("snp_milan", [Refusal.FEATURE_NOT_ALLOWED, Refusal.REVOCATION_UNKNOWN]),
        ("snp_milan_debug", [Refusal.DEBUG, Refusal.FEATURE_NOT_ALLOWED, Refusal.REVOCATION_UNKNOWN]),
    ],
)
def test_a_strict_owner_refuses_real_evidence_for_what_its_platform_is_and_because_it_is_not_ours(
    folder, platform
):
    sample = MAKERS[folder]()
    kind, seen = sample.evidence.kind, sample.verified()
    image = Image(kind=kind, measurements={name: seen.measurements[name] for name in IDENTITY[kind]})
    policy = AttestationPolicy(
        platforms=(Platform.HARDWARE,),
        images=(image,),
        max_age_s=60,
        max_age_blocks=10,
        refused_advisories=("INTEL-SA-00615",),
    )
    result = appraise(sample.evidence, sample.collateral, policy, CHALLENGE, Moment(JUNE_2025, 2))
    assert list(result.codes) == [*platform, Refusal.NOT_BOUND, Refusal.LOG_BROKEN]


def test_the_pinned_roots_are_those_that_the_samples_end_in():
    roots = production_roots()
    nitro_root = read_pem(read("nitro", "root.pem") + b"\n")[0]
    assert fingerprint(nitro_root) == roots.nitro
    assert key_fingerprint(read_pem(read("snp_milan", "ask_ark.pem"))[1]) == roots.amd[Product.MILAN]
    intel = read_pem(MAKERS["sgx_v3"]().collateral.tcb_info_issuer_chain.encode())[-1]
    assert fingerprint(intel) == roots.intel
