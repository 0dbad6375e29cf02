"""Intel TDX and AMD SEV-SNP through Linux's one interface for both: configfs-tsm (Linux 6.7 and later).

Source: Linux ``Documentation/ABI/testing/configfs-tsm-report`` and, for registers,
``sysfs-devices-virtual-misc-tdx_guest`` (Linux 6.16). A report is a folder: what is written to ``inblob`` is
kept when the file is closed, and the kernel does not say whether it was; so ``generation``, which counts
writes, must have risen by exactly ours, and must not rise until all is read, or another program wrote in
between.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from sealtrace.node.engines.errors import AttesterFailed, AttesterUnavailable
from sealtrace.node.engines.tee.attesters import pseudo_files
from sealtrace.node.engines.tee.attesters.port import RawEvidence, check_digest, check_report_data
from sealtrace.protocol.attestation.evidence import Kind

ROOT = Path("/sys/kernel/config/tsm/report")
REGISTERS = Path("/sys/devices/virtual/misc/tdx_guest/measurements")
REGISTER = "rtmr3:sha384"
MAX_BLOB_BYTES = 1 << 17
"""The kernel's own limit is 32 KiB."""
PROVIDERS: dict[str, Kind] = {"tdx_guest": Kind.TDX, "sev_guest": Kind.SEV_SNP}
TRIES = 5
HOW_TO_HAVE_IT = (
    "Run the node in a confidential VM (TDX or SEV-SNP) with Linux 6.7 or later: modprobe tdx_guest or"
    " sev-guest, mount -t configfs none /sys/kernel/config, and let the node's user write there."
)
_BUSY = frozenset({errno.EBUSY, errno.EAGAIN, errno.EINTR})


class ReportFiles(Protocol):
    """The folder of reports, with the kernel's semantics; names are of one report and one attribute."""

    def present(self) -> bool:
        """Whether there is such a folder that we may write to."""
        ...

    def make(self, report: str) -> None:
        """Ask for a report."""
        ...

    def write(self, report: str, attribute: str, content: bytes) -> None:
        """Write an attribute in one call."""
        ...

    def read(self, report: str, attribute: str) -> bytes:
        """The whole attribute."""
        ...

    def remove(self, report: str) -> None:
        """Give the report back."""
        ...


class KernelFiles:
    """:class:`ReportFiles` over configfs."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root

    def present(self) -> bool:
        """Whether there is such a folder that we may write to."""
        return self.root.is_dir() and os.access(self.root, os.W_OK)

    def make(self, report: str) -> None:
        """Ask for a report; the kernel fills the folder."""
        (self.root / report).mkdir()

    def write(self, report: str, attribute: str, content: bytes) -> None:
        """Write in one call, to a file that the kernel made."""
        pseudo_files.write(self.root / report / attribute, content)

    def read(self, report: str, attribute: str) -> bytes:
        """The whole attribute."""
        with (self.root / report / attribute).open("rb") as file:
            return file.read(MAX_BLOB_BYTES)

    def remove(self, report: str) -> None:
        """Give the report back."""
        (self.root / report).rmdir()


class _Disturbed(Exception):
    """Another program used the report, or the platform was busy: ask again."""


class ConfigfsTsm:
    """:class:`Attester` and :class:`Extender` of a confidential VM."""

    name = "configfs-tsm"

    def __init__(
        self,
        files: ReportFiles | None = None,
        registers: Path = REGISTERS,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._files = files or KernelFiles()
        self._registers = registers
        self._pause = pause

    def available(self) -> bool:
        """Whether the kernel offers reports to us."""
        return self._files.present()

    def platform(self) -> Kind:
        """Which platform the kernel's provider is.

        Raises:
            AttesterUnavailable, AttesterFailed: there is none, or one that we do not know.
        """
        try:
            with self._report() as report:
                return self._kind(report)
        except OSError as error:
            raise AttesterUnavailable(f"configfs-tsm: {error}. {HOW_TO_HAVE_IT}") from error

    def evidence(self, report_data: bytes) -> RawEvidence:
        """A TDX quote, or a SEV-SNP report with the host's certificates beside it."""
        check_report_data(report_data)
        reason: Exception | None = None
        for attempt in range(TRIES):
            try:
                return self._asked(report_data)
            except _Disturbed as disturbed:
                reason = disturbed
                self._pause(0.05 * 2**attempt)
            except OSError as error:
                raise AttesterUnavailable(f"configfs-tsm: {error}. {HOW_TO_HAVE_IT}") from error
        raise AttesterUnavailable(f"configfs-tsm: {TRIES} times {reason}; see what else asks for reports")

    def extend(self, event: str, digest: bytes) -> None:
        """Extend RTMR3 of a TDX VM; SEV-SNP has no such register."""
        check_digest(digest)
        try:
            pseudo_files.write(self._registers / REGISTER, digest)
        except OSError as error:
            raise AttesterUnavailable(
                f"RTMR3 cannot be extended ({event}): {error}. Linux 6.16 is needed."
            ) from error

    def _asked(self, report_data: bytes) -> RawEvidence:
        """One report, from its making to its removal."""
        try:
            with self._report() as report:
                before = self._generation(report)
                self._files.write(report, "inblob", report_data)
                self._unchanged(report, before + 1, "our report data was not taken, or another's was")
                raw = self._files.read(report, "outblob")
                kind, endorsements = self._kind(report), self._endorsements(report)
                self._unchanged(report, before + 1, "another program wrote to our report")
        except OSError as error:
            if error.errno in _BUSY:
                raise _Disturbed(f"the platform was busy ({error})") from error
            raise
        if report_data not in raw:
            raise AttesterFailed(f"the {kind} evidence does not hold our report data: it is not fresh")
        return RawEvidence(kind, raw, report_data, endorsements)

    @contextmanager
    def _report(self) -> Iterator[str]:
        report = f"sealtrace-{os.getpid()}-{secrets.token_hex(8)}"
        self._files.make(report)
        try:
            yield report
        finally:
            with contextlib.suppress(OSError):
                self._files.remove(report)

    def _generation(self, report: str) -> int:
        said = self._files.read(report, "generation")
        try:
            return int(said)
        except ValueError as error:
            raise AttesterFailed(f"configfs-tsm: generation is {said[:32]!r}, not a number") from error

    def _unchanged(self, report: str, expected: int, why: str) -> None:
        if (found := self._generation(report)) != expected:
            raise _Disturbed(f"generation {found} instead of {expected}: {why}")

    def _kind(self, report: str) -> Kind:
        provider = self._files.read(report, "provider").decode("ascii", "replace").strip()
        if provider not in PROVIDERS:
            raise AttesterFailed(f"configfs-tsm: provider {provider!r} is none of {', '.join(PROVIDERS)}")
        return PROVIDERS[provider]

    def _endorsements(self, report: str) -> bytes:
        """The host's certificates, if it gave some: an absent attribute is no failure."""
        try:
            return self._files.read(report, "auxblob")
        except OSError as error:
            if error.errno in _BUSY:
                raise
            return b""
