"""Which protocol a step runs under: by the number of parties and by what the grants allow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import Field, ValidationError

from sealtrace.protocol.canonical import NotCanonical, canonical
from sealtrace.protocol.faults import first_fault
from sealtrace.protocol.identifiers import Hex32
from sealtrace.protocol.records import Grant, Protection
from sealtrace.protocol.spec import (
    PROTECTIONS,
    InvalidSpec,
    StepOutline,
    TaskOutline,
    TaskSpec,
    read_spec,
    why_unfit,
)
from sealtrace.scheduler.errors import MalformedRequest, ProtocolUnsuitable, SpecRefused

# What is tried first. With three parties ECDH comes before RR22, whose pairwise runs tell the first two
# parties more than the final set. SEMI2K trusts its first party and KKRT is the older design: last. An
# enclave is simulated only where not all grants allow hardware: no plan is weaker than it could be.
PREFERENCE: Mapping[str, Mapping[bool, tuple[str, ...]]] = {
    "mpc": {True: ("CHEETAH", "SEMI2K"), False: ("ABY3", "SEMI2K")},
    "psi": {True: ("RR22", "ECDH", "KKRT"), False: ("ECDH", "RR22", "KKRT")},
    "tee": {True: ("HARDWARE", "SIMULATED"), False: ()},
}

# Weak enough that every grant must name it in words.
ONLY_IF_NAMED = frozenset({"SEMI2K", "SIMULATED"})


class DraftStep(StepOutline):
    """A step whose protocol may be left open."""

    protocol: str | None = None


class Draft(TaskOutline):
    """A task specification in which steps may leave their protocol open."""

    steps: list[DraftStep] = Field(min_length=1, max_length=16)

    def grant_ids(self) -> frozenset[Hex32]:
        """Every grant the steps name."""
        return frozenset(grant for step in self.steps for grant in step.grants.values())


def read_draft(value: object) -> Draft:
    """Read a draft strictly.

    Raises:
        MalformedRequest: it is not one; the message names the place.
    """
    try:
        return Draft.model_validate(value)
    except ValidationError as cause:
        raise MalformedRequest(first_fault(cause.errors(), "draft")) from cause


def plan(draft: Draft, grants: Mapping[Hex32, Grant]) -> TaskSpec:
    """The specification that ``draft`` becomes: open protocols chosen, the rest untouched.

    The same draft and the same grants give the same specification.

    Raises:
        ProtocolUnsuitable: no protocol fits a step, or the one it names does not.
        SpecRefused: the draft contradicts itself.
    """
    document = draft.model_dump(mode="json")
    for step, chosen in zip(draft.steps, document["steps"], strict=True):
        chosen["protocol"] = step.protocol or choose(step, len(draft.parties_of(step)), grants)
    spec = read(document)
    require_suitable(spec, grants)
    return spec


def read(document: object) -> TaskSpec:
    """Read a specification from its JSON value.

    Raises:
        SpecRefused: it is malformed or contradicts itself; the message names the place.
    """
    try:
        return read_spec(canonical(document))
    except (InvalidSpec, NotCanonical) as cause:
        raise SpecRefused(str(cause)) from cause


def choose(step: DraftStep, parties: int, grants: Mapping[Hex32, Grant]) -> str:
    """The first protocol in order of preference that fits the parties and every grant.

    Raises:
        ProtocolUnsuitable: there is none.
    """
    allowed = allowed_by(step.grants.values(), grants)
    candidates = [p for p in PREFERENCE[step.engine][parties <= 2] if why_unfit(p, parties) is None]
    for protocol in candidates:
        if PROTECTIONS[step.engine, protocol] in allowed:
            return protocol
    among = f"for {parties} parties" if step.engine != "tee" or parties > 1 else "for its enclave"
    raise ProtocolUnsuitable(
        step.id, f"the grants allow none of {', '.join(candidates) or 'the protocols'} {among}"
    )


def require_suitable(spec: TaskSpec, grants: Mapping[Hex32, Grant]) -> None:
    """Refuse steps whose protocol cannot run among these parties, or that nobody agreed to in words.

    Whether each grant allows the protocol is otherwise for its owner's node to judge, and to record.

    Raises:
        ProtocolUnsuitable: naming the first such step.
    """
    for step in spec.steps:
        if unfit := why_unfit(step.protocol, len(spec.parties_of(step))):
            raise ProtocolUnsuitable(step.id, unfit)
        allowed = allowed_by(step.grants.values(), grants)
        if step.protocol in ONLY_IF_NAMED and step.protection not in allowed:
            raise ProtocolUnsuitable(
                step.id, f"{step.protocol} trusts one party: every grant must name it, and not all do"
            )


def allowed_by(ids: Iterable[Hex32], grants: Mapping[Hex32, Grant]) -> Protection:
    """What all of these grants allow; an unknown grant allows nothing."""
    allowed = Protection(0)
    for each in PROTECTIONS.values():
        allowed |= each
    for grant in map(grants.get, ids):
        allowed &= grant.protections if grant is not None else Protection(0)
    return allowed
