"""What an owner's policy accepts, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sealtrace.protocol.attestation.evidence import Kind
from sealtrace.protocol.attestation.policy import EVENT_LOG, AttestationPolicy, Image, Narrowing, platform_of


def in_words(policy: AttestationPolicy) -> list[str]:
    """One sentence for each thing that ``policy`` accepts, refuses or takes away."""
    return [*_evidence(policy), *_software(policy), *_outputs(policy.narrowing)]


def _evidence(policy: AttestationPolicy) -> Iterator[str]:
    named = {platform_of(image.kind) for image in policy.images}
    for platform in policy.platforms:
        yield f"{platform} is accepted" + (
            "" if platform in named else ", but no image of it: so it never is"
        )
    if any(not image.kind.is_hardware for image in policy.images):
        yield "whoever runs a simulated enclave can read the data: no hardware keeps them out"
    yield from map(_image, policy.images)
    yield (
        f"a key is released on evidence bound to a block at most {policy.max_age_s} s "
        f"and {policy.max_age_blocks} blocks old"
    )
    if any(image.kind.is_hardware for image in policy.images):
        yield f"the vendor's word on the firmware must be {_any_of(policy.tcb_statuses)}"
    if policy.refused_advisories:
        yield f"these advisories must not apply: {', '.join(policy.refused_advisories)}"
    weak = ", ".join(policy.features)
    yield f"accepted though they weaken a platform: {weak}" if weak else "nothing that weakens a platform"
    if policy.minimum_evaluation:
        yield f"Intel's collateral has at least the number {policy.minimum_evaluation}"
    if any(image.kind is Kind.SEV_SNP for image in policy.images):
        needed = "must" if policy.require_revocation_list else "need not"
        yield f"AMD's revocation list {needed} come with the certificates"
    yield "debugging is never accepted"


def _image(image: Image) -> str:
    said = [
        f"{name} is {'the head of the event log' if value == EVENT_LOG else value}"
        for name, value in sorted(image.expected().items())
    ]
    said += [f"{name} is at least {least}" for name, least in sorted(image.minimum_versions.items())]
    return f"an image of {image.kind} is accepted whose {', '.join(said)}"


def _software(policy: AttestationPolicy) -> Iterator[str]:
    for what, digests in (("runtime", policy.runtimes), ("configuration", policy.configs)):
        yield f"the {what} is {_any_of(digests)}" if digests else f"any {what}"


def _outputs(narrowing: Narrowing) -> Iterator[str]:
    taken = [
        (narrowing.outputs, "of the outputs, only these may leave: {}"),
        (narrowing.max_bytes, "an output has at most {} bytes"),
        (narrowing.decimals, "a number has at most {} places"),
        (narrowing.min_group, "a count is about at least {} rows"),
        (narrowing.min_rows, "an input has at least {} rows"),
    ]
    said = [
        words.format((", ".join(value) or "none") if isinstance(value, list) else value)
        for value, words in taken
        if value is not None
    ]
    if not narrowing.metrics:
        said.append("no measures are told while an algorithm trains")
    yield from said or ["all that the algorithm's output policy lets out may leave"]


def _any_of(values: Iterable[str]) -> str:
    return " or ".join(values)
