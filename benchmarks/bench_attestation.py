"""How many pieces of evidence are verified in a second, against the bare signature checks of each kind.

The evidence is real where the published samples lie beside the checkout (``--samples``), and made otherwise,
under roots of the tests. The baseline of a kind is what cannot be left out. For SGX and TDX it is
``dcap_qvl.verify`` alone, whose bytes of collateral are parsed beforehand and which cuts no padding; for
SEV-SNP, Nitro and software the signatures over certificates and evidence, everything being parsed beforehand.
Sides take turns, and the best turn of each counts; seconds are those of the processor, in one thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import cbor2
import dcap_qvl
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from measuring import machine, options, progress, report, table

from sealtrace.protocol.attestation.evidence import (
    Collateral,
    DcapCollateral,
    Evidence,
    Kind,
    SnpCollateral,
    SoftwareCollateral,
    read_dcap_collateral,
)
from sealtrace.protocol.attestation.roots import Roots, production_roots
from sealtrace.protocol.attestation.software import software_evidence
from sealtrace.protocol.attestation.verification import verify
from sealtrace.protocol.canonical import canonical
from sealtrace.protocol.identifiers import UnixSeconds

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT.parent / "shared" / "samples" / "attestation"
JUNE_2025, NITRO_AT = UnixSeconds(1_750_809_600), UnixSeconds(1_668_034_320)
NODE = ec.derive_private_key(0x5EA1, ec.SECP256R1())
Act = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """Evidence, and what it is judged with."""

    evidence: Evidence
    collateral: Collateral | None
    at: UnixSeconds
    roots: Roots


def main() -> None:
    """Measure, print."""
    parser = options(__doc__)
    parser.add_argument("--samples", type=Path, default=SAMPLES, help="where the published evidence lies")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a turn (default: 0.5)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side (default: 5)")
    arguments = parser.parse_args()
    about = machine()
    real = arguments.samples.is_dir()
    cases = (recorded(arguments.samples) if real else made()) | {"software": software()}
    result: dict[str, object] = {"benchmark": "attestation", "baseline": "bare signature checks"}
    result["evidence"] = "real" if real else "made"
    rows: list[list[object]] = []
    for name, case in cases.items():
        progress(name)
        rates = race({"bare": bare(case), "verify": whole(case)}, arguments.seconds, arguments.rounds)
        ratio = rates["verify"] / rates["bare"]
        result[name] = {each: round(rate, 1) for each, rate in rates.items()} | {"ratio": round(ratio, 3)}
        rows.append([name, rates["bare"], rates["verify"], 1000 / rates["verify"], ratio])
    columns = ["", "bare signatures /s", "verify /s", "ms each", "ratio"]
    title = f"{result['evidence']} evidence, per second of processor time"
    report(result | {"machine": about}, [table(title, columns, rows)], as_json=arguments.json)


def race(sides: Mapping[str, Act], seconds: float, rounds: int) -> dict[str, float]:
    """Each side's best rate, in acts per second, after each has run once unmeasured."""
    best = dict.fromkeys(sides, 0.0)
    for act in sides.values():
        act()
    for _ in range(rounds):
        for name, act in sides.items():
            began, acts = time.process_time(), 0
            while time.process_time() - began < seconds:
                act()
                acts += 1
            best[name] = max(best[name], acts / (time.process_time() - began))
    return best


def whole(case: Case) -> Act:
    """All that a node does to know whether evidence is genuine."""
    return lambda: verify(case.evidence, case.collateral, case.at, roots=case.roots)


def bare(case: Case) -> Act:
    """The baseline of the evidence's kind."""
    raw = case.evidence.raw
    if isinstance(case.collateral, DcapCollateral):
        given = dcap_qvl.QuoteCollateralV3.from_json(canonical(case.collateral.document()).decode())
        root = x509.load_pem_x509_certificates(case.collateral.tcb_info_issuer_chain.encode())[-1]
        der, at = root.public_bytes(Encoding.DER), case.at
        return lambda: dcap_qvl.verify_with_root_ca(raw, given, der, at)
    if isinstance(case.collateral, SnpCollateral):
        ask, ark = x509.load_pem_x509_certificates(case.collateral.chain)
        r, s = (int.from_bytes(raw[place : place + 72], "little") for place in (0x2A0, 0x2E8))
        return signatures([ark, ask, x509.load_der_x509_certificate(case.collateral.vek)], r, s, raw[:0x2A0])
    if case.evidence.kind is Kind.NITRO:
        protected, _, payload, signature = cbor2.loads(raw)
        document = cbor2.loads(payload)
        chain = [
            x509.load_der_x509_certificate(each) for each in (*document["cabundle"], document["certificate"])
        ]
        r, s = int.from_bytes(signature[:48], "big"), int.from_bytes(signature[48:], "big")
        return signatures(chain, r, s, cbor2.dumps(["Signature1", protected, b"", payload]))
    signed, _, _ = raw.rpartition(b".")
    key, how = NODE.public_key(), ec.ECDSA(SHA256())
    written = NODE.sign(signed, how)
    return lambda: key.verify(written, signed, how)


def signatures(chain: list[x509.Certificate], r: int, s: int, signed: bytes) -> Act:
    """Every certificate of a chain, and the evidence under its leaf."""
    key, signature = chain[-1].public_key(), encode_dss_signature(r, s)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise TypeError("evidence is signed on an elliptic curve")

    def act() -> None:
        for issued, issuer in zip(chain, [chain[0], *chain], strict=False):
            issued.verify_directly_issued_by(issuer)
        key.verify(signature, signed, ec.ECDSA(SHA384()))

    return act


def recorded(folder: Path) -> dict[str, Case]:
    """The published samples."""
    cases: dict[str, Case] = {}
    for name, kind in (("sgx_v3", Kind.SGX), ("tdx_v4", Kind.TDX)):
        collateral = read_dcap_collateral((folder / name / "collateral.json").read_bytes())
        quote = (folder / name / "quote.bin").read_bytes()
        cases[kind.value] = Case(Evidence(kind, quote), collateral, JUNE_2025, production_roots())
    milan = folder / "snp_milan"
    chain = SnpCollateral((milan / "vcek.der").read_bytes(), (milan / "ask_ark.pem").read_bytes())
    signed = Evidence(Kind.SEV_SNP, bytes.fromhex((milan / "report.hex").read_text()))
    document = Evidence(Kind.NITRO, (folder / "nitro" / "document.cbor").read_bytes())
    return cases | {
        "sev-snp": Case(signed, chain, JUNE_2025, production_roots()),
        "nitro": Case(document, None, NITRO_AT, production_roots()),
    }


def made() -> dict[str, Case]:
    """Evidence of the tests' factories; AMD's real chains have longer keys."""
    sys.path.insert(0, str(ROOT / "tests" / "unit"))
    from attestation_factory import NOW, DcapFactory, NitroFactory, SnpFactory

    dcap, snp, nitro, at = DcapFactory(), SnpFactory(), NitroFactory(), UnixSeconds(NOW)
    quotes = {
        kind.value: Case(dcap.evidence(kind), dcap.collateral(kind), at, dcap.roots)
        for kind in (Kind.SGX, Kind.TDX)
    }
    return quotes | {
        "sev-snp": Case(snp.evidence(), snp.collateral(crl=False), at, snp.roots),
        "nitro": Case(nitro.evidence(), None, at, nitro.roots),
    }


def software() -> Case:
    """A node's own word."""
    at = JUNE_2025
    raw = software_evidence(NODE, bytes(64), {"runtime": "00" * 32}, at)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "node")])
    shown = (
        x509.CertificateBuilder(name, name, NODE.public_key(), 1)
        .not_valid_before(datetime.fromtimestamp(at, UTC))
        .not_valid_after(datetime.fromtimestamp(at + 86_400, UTC))
        .sign(NODE, SHA256())
        .public_bytes(Encoding.DER)
    )
    return Case(Evidence(Kind.SOFTWARE, raw), SoftwareCollateral(shown), at, production_roots())


if __name__ == "__main__":
    main()
