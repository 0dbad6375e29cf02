"""An attestation policy to start from, for each kind of enclave, and what its fields are for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sealtrace.protocol.attestation.evidence import Kind, TcbStatus
from sealtrace.protocol.attestation.policy import VERSION, AttestationPolicy, Narrowing, platform_of
from sealtrace.protocol.identifiers import Hex32

_TO_BE_GIVEN: Final[Mapping[Kind, Mapping[str, str]]] = {
    Kind.SGX: {"mr_enclave": "64 hexadecimal digits, what gramine-sgx-sigstruct-view prints"},
    Kind.TDX: {
        "mr_td": "96 hexadecimal digits, the firmware's",
        "rt_mr1": "96 hexadecimal digits, the kernel's",
        "rt_mr2": "96 hexadecimal digits, the command line's and the initial disk's",
    },
    Kind.SEV_SNP: {"measurement": "96 hexadecimal digits, what sev-snp-measure prints"},
    Kind.NITRO: {"pcr0": "96 hexadecimal digits, what nitro-cli build-enclave prints"},
}
_VERSIONS: Final[Mapping[Kind, Mapping[str, int]]] = {
    Kind.SGX: {"isv_svn": 0},
    Kind.SEV_SNP: {"bootloader": 0, "tee": 0, "snp": 0, "microcode": 0},
}


def template(kind: Kind, runtime: Hex32) -> dict[str, Any]:
    """A strict policy to start from, for enclaves of ``kind`` whose runtime is ``runtime``.

    Every field is written out. Measurements of hardware are left to be given: until then it is no policy.
    """
    platform = platform_of(kind)
    measurements = {name: f"to be given: {what}" for name, what in _TO_BE_GIVEN.get(kind, {}).items()}
    image = {
        "kind": kind.value,
        "measurements": measurements or {"runtime": runtime[2:]},
        "minimum_versions": _VERSIONS.get(kind, {}),
    }
    return {
        "version": VERSION,
        "platforms": [platform.value],
        "images": [image],
        "max_age_s": 600,
        "max_age_blocks": 600,
        "tcb_statuses": [TcbStatus.UP_TO_DATE.value],
        "refused_advisories": [],
        "features": [],
        "minimum_evaluation": 0,
        "require_revocation_list": True,
        "runtimes": [runtime],
        "configs": [],
        "narrowing": Narrowing().model_dump(mode="json"),
    }


def comments() -> dict[str, str]:
    """What each field of a policy is for, in the words of its definition; ``narrowing.`` before its own."""
    fields = {name: field.description for name, field in AttestationPolicy.model_fields.items()}
    fields |= {f"narrowing.{name}": field.description for name, field in Narrowing.model_fields.items()}
    return {name: " ".join(said.replace("``", "").split()) for name, said in fields.items() if said}
