"""Intel SGX under Gramine: pseudo-files that its library OS shows to the process in the enclave.

Source: Gramine, "Attestation and Secret Provisioning", low-level ``/dev/attestation`` interface. The files
are the process's own, so only threads of this process can interfere, and a lock keeps them apart.
"""

from __future__ import annotations

import threading
from pathlib import Path

from sealtrace.node.engines.errors import AttesterFailed, AttesterUnavailable
from sealtrace.node.engines.tee.attesters import pseudo_files
from sealtrace.node.engines.tee.attesters.port import RawEvidence, check_report_data
from sealtrace.protocol.attestation.evidence import Kind

ROOT = Path("/dev/attestation")
MAX_QUOTE_BYTES = 1 << 16
_REPORT_DATA = slice(48 + 320, 48 + 384)
"""Where an SGX quote of version 3 has its report data: a header of 48 bytes, then the enclave's report."""
HOW_TO_HAVE_IT = 'Run the engine under gramine-sgx, with sgx.remote_attestation = "dcap" in its manifest.'
_ONE_AT_A_TIME = threading.Lock()


class Gramine:
    """:class:`Attester` of a process in an SGX enclave."""

    name = "gramine"

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root

    def available(self) -> bool:
        """Whether this process is in an enclave that can be attested by DCAP."""
        return self._type() == "dcap"

    def evidence(self, report_data: bytes) -> RawEvidence:
        """An SGX quote."""
        check_report_data(report_data)
        if (found := self._type()) != "dcap":
            raise AttesterUnavailable(f"Gramine attests by {found or 'nothing'}, not dcap. {HOW_TO_HAVE_IT}")
        try:
            with _ONE_AT_A_TIME:
                pseudo_files.write(self._root / "user_report_data", report_data)
                with (self._root / "quote").open("rb") as file:
                    raw = file.read(MAX_QUOTE_BYTES)
        except OSError as error:
            raise AttesterUnavailable(f"Gramine gives no quote: {error}. {HOW_TO_HAVE_IT}") from error
        if raw[_REPORT_DATA] != report_data:
            raise AttesterFailed("the quote does not hold our report data: it is not fresh")
        return RawEvidence(Kind.SGX, raw, report_data)

    def _type(self) -> str:
        try:
            return (self._root / "attestation_type").read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return ""
