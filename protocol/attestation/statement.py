"""What an enclave shows: its evidence with all that is needed to judge it, as one document.

The first statement comes before any key is released; its digest is in what the enclave's party binds by its
start on the chain. The last one covers the whole run, and its digest is in the result that all parties
report. Both are kept by content: anybody who has one can judge it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sealtrace.protocol.attestation.appraisal import Appraisal, Stage, appraise
from sealtrace.protocol.attestation.binding import Challenge, Moment
from sealtrace.protocol.attestation.eventlog import Event
from sealtrace.protocol.attestation.evidence import (
    Collateral,
    DcapCollateral,
    Evidence,
    Kind,
    NitroCollateral,
    SnpCollateral,
    SoftwareCollateral,
    read_dcap_collateral,
    read_evidence,
    strict_hex,
)
from sealtrace.protocol.attestation.policy import AttestationPolicy
from sealtrace.protocol.attestation.refusals import EvidenceRefused, Refusal
from sealtrace.protocol.attestation.roots import Roots
from sealtrace.protocol.canonical import canonical, parse_canonical, sha256
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds, address, strict_hex32

VERSION: Final = "sealtrace.enclave-statement/1"
MAX_STATEMENT_BYTES: Final = 2 << 20
KEY_BYTES: Final = 32
_FIELDS: Final = {"version", "stage", "task", "party", "algorithm", "block", "key", "evidence", "collateral"}


@dataclass(frozen=True, slots=True)
class Statement:
    """An enclave's evidence, what it is about, and the collateral to judge it with.

    ``party`` runs the enclave. ``challenge`` is what the enclave says the evidence is bound to: whoever
    judges it compares it with the task and the chain first.
    """

    stage: Stage
    party: Address
    challenge: Challenge
    evidence: Evidence
    collateral: Collateral

    def document(self) -> bytes:
        """The canonical JSON in which a statement travels and is kept."""
        challenge = self.challenge
        return canonical(
            {
                "version": VERSION,
                "stage": self.stage,
                "task": challenge.task,
                "party": self.party,
                "algorithm": challenge.algorithm,
                "block": {
                    "hash": challenge.block,
                    "number": challenge.issued.number,
                    "timestamp": int(challenge.issued.time),
                },
                "key": challenge.key.hex(),
                "evidence": self.evidence.body(),
                "collateral": self.collateral.document(),
            }
        )

    @property
    def digest(self) -> Hex32:
        """SHA-256 of the document: its name on the chain and in receipts."""
        return sha256(self.document())

    def judged(self, policy: AttestationPolicy, at: Moment, *, roots: Roots | None = None) -> Appraisal:
        """What ``policy`` says of it at the block ``at``; see :func:`appraise`."""
        return appraise(
            self.evidence, self.collateral, policy, self.challenge, at, stage=self.stage, roots=roots
        )


def read_statement(text: bytes) -> Statement:
    """Read a statement as it travels.

    Raises:
        EvidenceRefused: it is not one, in its one spelling.
    """
    try:
        body = parse_canonical(text, limit_bytes=MAX_STATEMENT_BYTES)
        if set(body) != _FIELDS or body["version"] != VERSION or set(body["block"]) != _BLOCK:
            raise ValueError("not a statement of this version")
        evidence = read_evidence(canonical(body["evidence"]))
        collateral = _COLLATERAL[evidence.kind](body["collateral"])
        read = Statement(Stage(body["stage"]), address(body["party"]), _challenge(body), evidence, collateral)
        if read.document() != text:
            raise ValueError("in another than its one spelling")
        return read
    except EvidenceRefused:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as cause:
        raise EvidenceRefused(Refusal.MALFORMED, f"no enclave's statement ({str(cause)[:120]})") from cause


def why_another(statement: Statement, first: Statement) -> str | None:
    """Why ``statement`` is not of the run that ``first`` began, in words, or ``None``.

    One enclave has one key, and its log only grows.
    """
    if (statement.party, statement.challenge) != (first.party, first.challenge):
        return "it is of another task, party, block, algorithm or key than the first one"
    if statement.evidence.kind is not first.evidence.kind:
        return f"its evidence is {statement.evidence.kind}, the first was {first.evidence.kind}"
    begun: tuple[Event, ...] = first.evidence.events
    if statement.evidence.events[: len(begun)] != begun:
        return "its event log does not continue the first one's"
    return None


_BLOCK: Final = {"hash", "number", "timestamp"}


def _challenge(body: Mapping[str, Any]) -> Challenge:
    block, key = body["block"], strict_hex(body["key"])
    for each in (block["number"], block["timestamp"]):
        if type(each) is not int or each < 0:
            raise ValueError("a block's number and timestamp are whole numbers from 0")
    if len(key) != KEY_BYTES:
        raise ValueError(f"the key has {len(key)} bytes, not {KEY_BYTES}")
    issued = Moment(UnixSeconds(block["timestamp"]), block["number"])
    task, algorithm = strict_hex32(body["task"]), strict_hex32(body["algorithm"])
    return Challenge(task, strict_hex32(block["hash"]), issued, key, algorithm)


def _dcap(body: Any) -> DcapCollateral:
    return read_dcap_collateral(canonical(body))


def _snp(body: Any) -> SnpCollateral:
    if set(body) != {"vek", "chain", "crl"}:
        raise ValueError("not the three fields of AMD's collateral")
    crl = None if body["crl"] is None else strict_hex(body["crl"])
    return SnpCollateral(strict_hex(body["vek"]), strict_hex(body["chain"]), crl)


def _nitro(body: Any) -> NitroCollateral:
    if body != {}:
        raise ValueError("a Nitro document carries its own chain")
    return NitroCollateral()


def _software(body: Any) -> SoftwareCollateral:
    if set(body) != {"certificate"}:
        raise ValueError("not the certificate of a node")
    return SoftwareCollateral(strict_hex(body["certificate"]))


_COLLATERAL: Final[Mapping[Kind, Callable[[Any], Collateral]]] = {
    Kind.SGX: _dcap,
    Kind.TDX: _dcap,
    Kind.SEV_SNP: _snp,
    Kind.NITRO: _nitro,
    Kind.SOFTWARE: _software,
}
