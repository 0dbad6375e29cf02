"""A TDX VM under dstack: its guest agent answers HTTP on a unix socket.

Source: dstack ``sdk/curl/api.md``: ``POST /GetQuote`` with ``report_data`` in hexadecimal gives ``quote``,
``event_log`` and, since 0.5, ``vm_config``; ``POST /EmitEvent`` extends RTMR3.
"""

from __future__ import annotations

import http.client
import socket
import stat
from pathlib import Path
from typing import Any

from sealtrace.node.engines.errors import AttesterFailed, AttesterUnavailable
from sealtrace.node.engines.tee.attesters.port import RawEvidence, check_digest, check_report_data
from sealtrace.protocol.attestation.evidence import Kind
from sealtrace.protocol.canonical import NotCanonical, canonical, parse

SOCKET = Path("/var/run/dstack.sock")
MAX_ANSWER_BYTES = 4 << 20
TIMEOUT_S = 30.0
HOW_TO_HAVE_IT = "Run the node under dstack 0.5 or later, and mount /var/run/dstack.sock into its container."


class Dstack:
    """:class:`Attester` and :class:`Extender` of a VM under dstack."""

    name = "dstack"

    def __init__(self, path: Path = SOCKET, timeout_s: float = TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def available(self) -> bool:
        """Whether the agent's socket is there."""
        try:
            return stat.S_ISSOCK(self._path.stat().st_mode)
        except OSError:
            return False

    def evidence(self, report_data: bytes) -> RawEvidence:
        """A TDX quote with dstack's event log."""
        check_report_data(report_data)
        said = self._ask("/GetQuote", {"report_data": report_data.hex()})
        try:
            raw = bytes.fromhex(said["quote"])
            log, machine = (str(said.get(name) or "").encode() for name in ("event_log", "vm_config"))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise AttesterFailed(f"dstack's answer has no quote in hexadecimal: {error}") from error
        if report_data not in raw:
            raise AttesterFailed("dstack's quote does not hold our report data: it is not fresh")
        return RawEvidence(Kind.TDX, raw, report_data, event_log=log, machine=machine)

    def extend(self, event: str, digest: bytes) -> None:
        """Emit an event with ``digest`` as its payload: dstack hashes both into RTMR3."""
        check_digest(digest)
        self._ask("/EmitEvent", {"event": event, "payload": digest.hex()})

    def _ask(self, path: str, body: dict[str, str]) -> Any:
        connection = _UnixConnection(self._path, self._timeout_s)
        try:
            connection.request("POST", path, canonical(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise AttesterUnavailable(f"dstack at {self._path}: {error}. {HOW_TO_HAVE_IT}") from error
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise AttesterUnavailable(f"dstack answers {path} with {answer.status}: {content[:200]!r}")
        try:
            return parse(content, limit_bytes=MAX_ANSWER_BYTES) if content.strip() else {}
        except NotCanonical as error:
            raise AttesterFailed(f"dstack's answer to {path} is {error}") from error


class _UnixConnection(http.client.HTTPConnection):
    """HTTP to a socket in the file system."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("dstack", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket, not to a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
