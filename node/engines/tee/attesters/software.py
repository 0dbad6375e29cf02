"""No platform at all: the node's own signed word, for development and where an owner trusts the node."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from sealtrace.node.engines.tee.attesters.port import RawEvidence, check_report_data
from sealtrace.protocol.attestation.evidence import Kind

WARNING = "no TEE: whoever runs this host can read the inputs"


class NoTee(UserWarning):
    """The evidence of this node is its operator's word."""


class SimulatedEnclave:
    """:class:`Attester` without hardware. All that it gives is marked ``simulated``.

    ``word`` signs report data with the node's TLS key, in the form that verifiers of software evidence
    read.
    """

    name = "software"

    def __init__(self, word: Callable[[bytes], bytes]) -> None:
        warnings.warn(WARNING, NoTee, stacklevel=2)
        self._word = word

    def available(self) -> bool:
        """Always: it needs nothing."""
        return True

    def evidence(self, report_data: bytes) -> RawEvidence:
        """The node's word over ``report_data``."""
        check_report_data(report_data)
        return RawEvidence(Kind.SOFTWARE, self._word(report_data), report_data)
