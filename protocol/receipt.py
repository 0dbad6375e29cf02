"""What a party promises to put in, and what it says happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from sealtrace.protocol.canonical import digest
from sealtrace.protocol.identifiers import Address, AddressField, Hex32, Hex32Field

VERSION: Final = "sealtrace.receipt/1"


class Receipt(BaseModel):
    """A party's account of its part of a task. The chain holds the digest, the evidence log the text.

    ``authority`` is the block at which the party read that it may run; ``output`` the digest of its own
    sealed share; ``result`` the digest over all parties' sealed shares, on which all must agree.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ser_json_inf_nan="constants")

    version: Literal["sealtrace.receipt/1"] = VERSION
    task: Hex32Field
    party: AddressField
    authority_number: int
    authority_hash: Hex32Field
    input_commitment: Hex32Field
    transcript: Hex32Field
    output: Hex32Field
    result: Hex32Field

    def digest(self) -> Hex32:
        """SHA-256 of the canonical JSON of this receipt."""
        return digest(self.model_dump(mode="json"))


def input_commitment(
    task: Hex32,
    commitments: dict[Hex32, Hex32],
    algorithms: Sequence[Hex32],
    attested: Hex32 | None = None,
) -> Hex32:
    """What a start binds: the commitments of the datasets (by id) and the bundles as just re-hashed.

    ``attested`` is the digest of an enclave's statement: its party binds the start to it, and so do the
    owners who were shown it and release their data upon it.
    """
    body: dict[str, Any] = {
        "task": task,
        "datasets": dict(commitments),
        "algorithms": sorted(set(algorithms)),
        **({} if attested is None else {"attested": attested}),
    }
    return digest(body)


def result_digest(outputs: Mapping[Address, Hex32], attested: Hex32 | None = None) -> Hex32:
    """The digest all parties report: over each party's sealed output, parties in ascending order.

    ``attested`` is the digest of an enclave's last statement, over which they agree as well. Nobody needs to
    open anything to agree on it.
    """
    said = [{"digest": outputs[party], "party": party} for party in sorted(outputs)]
    return digest(said if attested is None else [*said, {"attested": attested}])
