"""SGX and TDX quotes: Intel's DCAP, verified by the library ``dcap-qvl``, and read strictly around it.

The library verifies signatures, chains, lists and TCB levels (Intel SGX ECDSA QuoteLib Reference; Intel TDX
DCAP Quoting Library API; PCS API v4). Around it, this module cuts what follows a quote, leaves no byte inside
uncounted, pins the root, and reports facts: the library's plain ``verify`` would accept platforms that are
out of date, so a status is a fact here and a policy's matter later.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from typing import Any, Final

import dcap_qvl
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sealtrace.protocol.attestation.certificates import (
    Window,
    check_chain,
    check_not_revoked,
    common_name,
    fingerprint,
    key_fingerprint,
    read_pem,
)
from sealtrace.protocol.attestation.evidence import (
    DcapCollateral,
    Evidence,
    Feature,
    Kind,
    TcbStatus,
    Verified,
)
from sealtrace.protocol.attestation.refusals import EvidenceRefused, Refusal
from sealtrace.protocol.attestation.roots import Roots
from sealtrace.protocol.identifiers import UnixSeconds

HEADER_BYTES: Final = 48
TEE_TYPES: Final[Mapping[Kind, int]] = {Kind.SGX: 0x00, Kind.TDX: 0x81}  # quote header, offset 4
BODY_BYTES: Final[Mapping[int, int]] = {0x00: 384, 0x81: 584}  # versions 3 and 4; version 5 says its own
_ECDSA_P256: Final = 2  # quote header, attestation key type
_CERTIFIED_BY_QE: Final = 6  # certification data types, QuoteLib Reference A.4
_PCK_CHAIN: Final = 5
_QE_REPORT_BYTES: Final = 384 + 64  # the report and its signature

_SGX_INIT, _SGX_PROVISION_KEY = 1 << 0, 1 << 4  # SDM vol. 3D, ATTRIBUTES
_FEATURES: Final[Mapping[str, Feature]] = {
    "smt_enabled": Feature.SMT,
    "dynamic_platform": Feature.DYNAMIC_PLATFORM,
    "cached_keys": Feature.CACHED_KEYS,
}
_TD_REGISTERS: Final = (
    "mr_td",
    "rt_mr0",
    "rt_mr1",
    "rt_mr2",
    "rt_mr3",
    "mr_seam",
    "mr_config_id",
    "mr_owner",
    "mr_owner_config",
    "td_attributes",
    "xfam",
)
_WORDS: Final[Sequence[tuple[str, Refusal]]] = (
    ("debugmode", Refusal.DEBUG),
    ("revoked", Refusal.REVOKED),
    ("inthefuture", Refusal.NOT_YET_VALID),
    ("expired", Refusal.EXPIRED),
    ("musthaveversion", Refusal.UNSUPPORTED),
    ("unrecognizedtcbstatus", Refusal.UNSUPPORTED),
    ("unknownqevendor", Refusal.UNSUPPORTED),
    ("septvedisable", Refusal.UNSAFE_SETTINGS),
    ("reservedbits", Refusal.UNSAFE_SETTINGS),
    ("migrationisenabled", Refusal.UNSAFE_SETTINGS),
    ("servicetd", Refusal.UNSAFE_SETTINGS),
    ("moduleidentity", Refusal.UNSAFE_SETTINGS),
    ("fmspc", Refusal.COLLATERAL_MISMATCH),
    ("certificatechain", Refusal.CHAIN_BROKEN),
    ("collateral", Refusal.COLLATERAL_MISMATCH),
    ("decode", Refusal.MALFORMED),
    ("parse", Refusal.MALFORMED),
)
"""The letters of what the library's pinned version says; the message itself is kept in the detail."""


@dataclass(frozen=True, slots=True)
class Quote:
    """A quote without what followed it, and the PCK chain inside, leaf first."""

    raw: bytes
    tee_type: int
    chain: tuple[x509.Certificate, ...]


def verify_dcap(evidence: Evidence, collateral: DcapCollateral, roots: Roots, at: UnixSeconds) -> Verified:
    """Verify an SGX or TDX quote at a time.

    Raises:
        EvidenceRefused: it is not genuine then; see the reason.
    """
    quote = read_quote(evidence.raw)
    if quote.tee_type != TEE_TYPES[evidence.kind]:
        raise EvidenceRefused(Refusal.MALFORMED, f"not a quote of {evidence.kind}: TEE type {quote.tee_type}")
    window = _check_chains(quote, collateral, roots, at)
    claims = _claims(quote, collateral, at)
    verified = _read(quote.raw, claims)
    window = window.within(Window(verified.valid_from, verified.valid_until))
    return replace(verified, valid_from=window.first, valid_until=window.last)


def _read(raw: bytes, claims: dict[str, Any]) -> Verified:
    """The facts of a quote that the library found genuine."""
    report = claims["report"]
    if "SgxEnclave" in report:
        return _sgx(raw, claims, report["SgxEnclave"])
    if "TD10" in report:
        return _tdx(raw, claims, report["TD10"], {})
    if "TD15" in report:
        later = report["TD15"]
        return _tdx(raw, claims, later["base"], {"mr_service_td": later["mr_service_td"]})
    raise EvidenceRefused(Refusal.UNSUPPORTED, f"a report of the form {', '.join(report)}")


def read_quote(raw: bytes) -> Quote:
    """Cut a quote to its own length and hold its inner lengths to each other.

    Whatever follows a quote is dropped: platforms pad it, and no signature covers it.

    Raises:
        EvidenceRefused: it is no ECDSA quote of version 3, 4 or 5 with a PCK chain inside.
    """
    try:
        version, key_type, tee_type = struct.unpack_from("<HHI", raw)
        begin, body = _body(raw, version, tee_type)
        (size,) = struct.unpack_from("<I", raw, begin + body)
    except (struct.error, KeyError) as cause:
        raise EvidenceRefused(Refusal.MALFORMED, "too short, or of no known version, for a quote") from cause
    if version not in (3, 4, 5) or key_type != _ECDSA_P256:
        raise EvidenceRefused(Refusal.UNSUPPORTED, f"a quote of version {version} with key type {key_type}")
    end = begin + body + 4 + size
    if end > len(raw):
        raise EvidenceRefused(Refusal.MALFORMED, f"a quote of {end} bytes of which {len(raw)} are here")
    return Quote(raw[:end], tee_type, _pck_chain(raw[begin + body + 4 : end], nested=version > 3))


def _body(raw: bytes, version: int, tee_type: int) -> tuple[int, int]:
    """Where the report begins, and how long it is."""
    if version < 5:
        return HEADER_BYTES, BODY_BYTES[tee_type]
    _, size = struct.unpack_from("<HI", raw, HEADER_BYTES)
    return HEADER_BYTES + 6, size


def _pck_chain(signature: bytes, *, nested: bool) -> tuple[x509.Certificate, ...]:
    """The chain at the end of the signature data (QuoteLib Reference A.4), which it must fill exactly."""
    try:
        rest = signature[128:]
        if nested:
            rest = _certification(rest, _CERTIFIED_BY_QE)
        (authentication,) = struct.unpack_from("<H", rest, _QE_REPORT_BYTES)
        pem = _certification(rest[_QE_REPORT_BYTES + 2 + authentication :], _PCK_CHAIN)
    except struct.error as cause:
        raise EvidenceRefused(Refusal.MALFORMED, "a quote whose signature data is cut short") from cause
    chain = read_pem(pem.removesuffix(b"\0"))  # Intel's library ends the text as C does
    if len(chain) != 3:
        raise EvidenceRefused(Refusal.MALFORMED, f"a PCK chain of {len(chain)} certificates instead of 3")
    return chain


def _certification(data: bytes, expected: int) -> bytes:
    kind, size = struct.unpack_from("<HI", data)
    if kind != expected or len(data) != 6 + size:
        raise EvidenceRefused(Refusal.UNSUPPORTED, f"certification data of type {kind}, {len(data)} bytes")
    return data[6:]


def _check_chains(quote: Quote, collateral: DcapCollateral, roots: Roots, at: UnixSeconds) -> Window:
    """All four chains end in the pinned root, hold together and are not revoked; returns when this is so.

    The library looks at most of this too, but says of a failure only that a chain does not verify; and it
    does not look at the issuer of the PCK list, because it takes the authority that issued the PCK.
    """
    published = (
        collateral.pck_crl_issuer_chain,
        collateral.tcb_info_issuer_chain,
        collateral.qe_identity_issuer_chain,
    )
    chains = (quote.chain, *(read_pem(chain.encode()) for chain in published))
    for chain in chains:
        if fingerprint(chain[-1]) != roots.intel:
            raise EvidenceRefused(Refusal.UNKNOWN_ROOT, f"a chain ends in {fingerprint(chain[-1])}")
    if any(len(chain) != 2 for chain in chains[1:]):
        raise EvidenceRefused(Refusal.COLLATERAL_MISMATCH, "an issuer chain of other than 2 certificates")
    distinct = dict.fromkeys(chains)  # one signing key often serves two
    windows = [check_chain(tuple(reversed(chain)), at) for chain in distinct]
    return reduce(Window.within, windows, _check_lists(chains, collateral, at))


def _check_lists(
    chains: Sequence[tuple[x509.Certificate, ...]], collateral: DcapCollateral, at: UnixSeconds
) -> Window:
    (leaf, issuing, root), (listing, _), (tcb_signer, _), (qe_signer, _) = chains
    if key_fingerprint(listing) != key_fingerprint(issuing):
        detail = f"the list of {common_name(listing)!r} for a key of {common_name(issuing)!r}"
        raise EvidenceRefused(Refusal.COLLATERAL_MISMATCH, detail)
    signers = (issuing, listing, tcb_signer, qe_signer)
    window = check_not_revoked(collateral.root_ca_crl, root, signers, at)
    return window.within(check_not_revoked(collateral.pck_crl, issuing, (leaf,), at))


def _claims(quote: Quote, collateral: DcapCollateral, at: UnixSeconds) -> dict[str, Any]:
    try:
        given = dcap_qvl.QuoteCollateralV3(**asdict(collateral))
        verifier = dcap_qvl.QuoteVerifier(quote.chain[-1].public_bytes(Encoding.DER))
        # All restrictions that the library could apply are applied to these claims by the owner's policy.
        claims = verifier.verify_with_policy(quote.raw, given, at, dcap_qvl.QuotePolicy.claims_only(at))
        read: dict[str, Any] = json.loads(claims.to_json())
    except (ValueError, TypeError, OverflowError) as cause:
        text = str(cause)
        letters = "".join(filter(str.isalnum, text.lower()))
        reason = next((why for word, why in _WORDS if word in letters), Refusal.SIGNATURE_INVALID)
        raise EvidenceRefused(reason, f"dcap-qvl says: {text[:160]}") from cause
    return read


def _sgx(raw: bytes, claims: dict[str, Any], report: dict[str, Any]) -> Verified:
    flags = int.from_bytes(bytes.fromhex(report["attributes"])[:8], "little")
    if not flags & _SGX_INIT:
        raise EvidenceRefused(Refusal.MALFORMED, "an enclave that was never initialised")
    measurements = {name: report[name] for name in ("mr_enclave", "mr_signer", "attributes")}
    measurements["isv_prod_id"] = f"{report['isv_prod_id']:04x}"
    verified = _verified(Kind.SGX, raw, claims, report, measurements, {"isv_svn": report["isv_svn"]})
    if flags & _SGX_PROVISION_KEY:
        return replace(verified, features=verified.features | {Feature.PROVISION_KEY})
    return verified


def _tdx(raw: bytes, claims: dict[str, Any], report: dict[str, Any], more: Mapping[str, str]) -> Verified:
    measurements = {name: report[name] for name in _TD_REGISTERS} | dict(more)
    return _verified(Kind.TDX, raw, claims, report, measurements, {})


def _verified(
    kind: Kind,
    raw: bytes,
    claims: dict[str, Any],
    report: dict[str, Any],
    measurements: Mapping[str, str],
    versions: Mapping[str, int],
) -> Verified:
    pck = claims["platform"]["pck"]
    earliest = (claims["earliest_expiration_date"], claims["qe_iden_earliest_expiration_date"])
    return Verified(
        kind=kind,
        raw=raw,
        report_data=bytes.fromhex(report["report_data"]),
        measurements=measurements,
        versions=versions,
        platform={"fmspc": bytes(pck["fmspc"]).hex(), "ppid": bytes(pck["ppid"]).hex()},
        status=_status(claims["tcb"]["status"]),
        debug=False,  # the library takes no quote of an enclave or TD in debug mode
        valid_from=UnixSeconds(max(claims["latest_issue_date"], claims["qe_iden_latest_issue_date"])),
        valid_until=UnixSeconds(min(earliest)),
        advisories=tuple(sorted(set(claims["tcb"]["advisory_ids"]))),
        features=frozenset(feature for name, feature in _FEATURES.items() if pck[name] == "True"),
        evaluation=claims["tcb"]["eval_data_number"],
    )


def _status(word: str) -> TcbStatus:
    try:
        return TcbStatus(word)
    except ValueError as cause:
        raise EvidenceRefused(Refusal.UNSUPPORTED, f"a TCB status {word!r}") from cause
