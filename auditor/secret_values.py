"""A secret value that its owner opens, held to the algorithm that ran with it."""

from __future__ import annotations

from sealtrace.algorithms.bundles import Bundle
from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.attestation.eventlog import EventKind, digests_of
from sealtrace.protocol.attestation.statement import Statement
from sealtrace.protocol.identifiers import Hex32
from sealtrace.protocol.secret_config import ValueOpening, why_not_committed


def why_not_opened(opened: ValueOpening, bundle: Bundle, statement: Statement | None = None) -> str | None:
    """Why ``opened`` is no value of ``bundle``, or ``bundle`` not what ``statement`` says ran, or ``None``.

    Whether the statement's evidence is genuine, and whether the parties recorded its digest, is not judged.
    """
    why = why_not_committed(opened, bundle.digest, bundle.manifest.secret_config or {})
    return why or (_why_not_run(bundle.digest, statement) if statement is not None else None)


def _why_not_run(algorithm: Hex32, statement: Statement) -> str | None:
    if statement.stage is not Stage.FINAL:
        return f"the statement is of stage {statement.stage}: give the last one, which is made after the run"
    ran = {statement.challenge.algorithm, *digests_of(statement.evidence.events, EventKind.ALGORITHM)}
    if ran != {algorithm}:
        return f"the statement says that {', '.join(sorted(ran))} ran, and the bundle is {algorithm}"
    return None
