"""Where evidence comes from: each attester turns 64 bytes of report data into what its platform signs."""

from sealtrace.node.engines.tee.attesters.discovery import Found, discover
from sealtrace.node.engines.tee.attesters.port import Attester, Extender, RawEvidence

__all__ = ["Attester", "Extender", "Found", "RawEvidence", "discover"]
