"""An owner's attestation policy beside a grant: read as it was written, and held to what the grant allows.

Who may use a dataset in an enclave is on the chain; which enclave is taken for one is the owner's policy. A
grant that allows an enclave has one from the start, and no other grant has any.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sealtrace.node.errors import Misuse
from sealtrace.protocol.attestation.policy import (
    ENCLAVES,
    MAX_POLICY_BYTES,
    AttestationPolicy,
    BadPolicy,
    read_policy,
)
from sealtrace.protocol.canonical import NotCanonical, canonical, parse
from sealtrace.protocol.faults import first_fault
from sealtrace.protocol.records import Protection, names_of


class PolicyInvalid(Misuse):
    """This is no attestation policy; the message names the field."""

    next_step = "Correct it: sealtrace node policy template prints one, docs/attestation.md lists the fields."
    status = 422


class PolicyMissing(Misuse):
    """The grant allows an enclave, and no policy says which enclave."""

    next_step = "Give one with --policy (the field policy of the API), or leave the TEE protection out."
    status = 422


class PolicyNotNeeded(Misuse):
    """A policy is given, and the grant allows no enclave."""

    next_step = "Name the protection of each platform that the policy accepts, or leave the policy out."
    status = 422


class PolicyMismatch(Misuse):
    """The platforms that the policy accepts are not those whose protections the grant allows."""

    next_step = "Name the same in both: tee-hardware is TEE_HARDWARE, tee-simulated is TEE_SIMULATED."
    status = 422


class PolicyDiffers(Misuse):
    """The grant of this reference was issued under another policy; a grant keeps the one it has."""

    next_step = "Replace the grant by one under the new policy: give --replaces and another reference."
    status = 409


def policy_of_file(path: Path) -> AttestationPolicy:
    """Read the policy in a file, in any spelling of JSON.

    Raises:
        PolicyInvalid: it cannot be read, or is no policy.
    """
    try:
        return policy_of_body(parse(path.read_bytes(), limit_bytes=MAX_POLICY_BYTES))
    except (OSError, NotCanonical) as cause:
        raise PolicyInvalid(f"{path}: {cause}") from cause


def policy_of_body(body: Any) -> AttestationPolicy:
    """Read a policy from JSON that was parsed. With every default written out it must still be short enough.

    Raises:
        PolicyInvalid: it is no policy.
    """
    try:
        policy = AttestationPolicy.model_validate_json(canonical(body))
        return read_policy(policy.text())
    except ValidationError as cause:
        raise PolicyInvalid(first_fault(cause.errors(), "policy")) from cause
    except (NotCanonical, BadPolicy) as cause:
        raise PolicyInvalid(str(cause)) from cause


def require_fit(policy: AttestationPolicy | None, protections: Protection) -> None:
    """Check that a grant with these protections goes with this policy.

    Raises:
        PolicyMissing, PolicyNotNeeded, PolicyMismatch: it does not; see there.
    """
    allowed = protections & ENCLAVES
    if policy is None and allowed:
        raise PolicyMissing(f"the grant allows {_names(allowed)} without a policy")
    if policy is not None and not allowed:
        raise PolicyNotNeeded("the grant allows no protection in an enclave")
    if policy is not None and policy.protections != allowed:
        raise PolicyMismatch(f"the policy accepts {_names(policy.protections)}, the grant {_names(allowed)}")


def _names(protections: Protection) -> str:
    return " and ".join(names_of(protections))
