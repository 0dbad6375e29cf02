"""A value that an enclave made and the owners of its data keep: each one pad, and together the value.

The pads are a one-time pad's (Shannon, 1949): all but one are random, and that one is their sum with the
value, bit by bit. All of them give the value; fewer say nothing of it but its length. So each owner has a say
in its later use, as with the shares of an MPC task. Where the data of one owner alone is in it, the part of
that owner is the value.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from sealtrace.algorithms.frames import BadShare, SecretValue, held, holding
from sealtrace.algorithms.kept import MAGIC, PAD, PartHeader
from sealtrace.protocol.canonical import sha256
from sealtrace.protocol.identifiers import Address, Hex32

SALT_BYTES: Final = 32


def pads_of(value: bytes, task: Hex32, source: str, keepers: Sequence[Address]) -> dict[Address, bytes]:
    """The part of ``value`` that each of ``keepers`` keeps, as the bytes of its file.

    ``source`` is the value in the words of its task. The digest in every header is over a salt that is shared
    like the value, so it tells nothing of it.
    """
    content = secrets.token_bytes(SALT_BYTES) + value
    pads = [secrets.token_bytes(len(content)) for _ in keepers[1:]]
    pads.insert(0, _sum([content, *pads]))
    public = {"bytes": len(value), "digest": sha256(content)}
    found = {}
    for keeper, pad in zip(keepers, pads, strict=True):
        header = PartHeader(
            task=task,
            source=source,
            party=keeper,
            keepers=list(keepers),
            holders=list(keepers),
            computation=None,
            public=public,
        )
        found[keeper] = holding(MAGIC, header, [SecretValue(PAD, b"", (pad,))])
    return found


def value_of_pads(parts: Mapping[Address, bytes]) -> bytes:
    """The value of which ``parts`` are all parts, by their keepers.

    Raises:
        BadShare: they are not all the parts of one value, each from its keeper, unaltered.
    """
    read = {keeper: held(MAGIC, PartHeader, part) for keeper, part in parts.items()}
    headers = {keeper: header for keeper, (header, _) in read.items()}
    first = next(iter(headers.values()))
    if first.computation is not None or any(header.common != first.common for header in headers.values()):
        raise BadShare("these are not the parts of one value that an enclave made: name datasets of one task")
    if sorted(headers) != first.keepers or any(header.party != by for by, header in headers.items()):
        raise BadShare(f"its parts are kept by {', '.join(first.keepers)}: name each one's, and no other")
    content = _sum([_pad(values, first) for _, values in read.values()])
    if sha256(content) != first.public.get("digest"):
        raise BadShare("a part was altered: together they are not the value that they were made of")
    return content[SALT_BYTES:]


def why_no_pad(header: PartHeader, party: str, keepers: Sequence[str]) -> str | None:
    """Why a part of ``party`` does not fit where ``keepers`` give the parts of a value, or ``None``."""
    if header.computation is not None:
        return "it is a share of an MPC task's value: name it in a step of engine mpc"
    if header.party != party:
        return f"this is the part of {header.party}"
    if sorted(keepers) != header.keepers:
        return f"its parts are kept by {', '.join(header.keepers)}: name an input of each, and of no other"
    return None


def _pad(values: Sequence[SecretValue], header: PartHeader) -> bytes:
    wanted = header.public.get("bytes")
    if len(values) != 1 or values[0].name != PAD or not isinstance(wanted, int):
        raise BadShare("it holds no pad")
    pad = b"".join(values[0].chunks)
    if len(pad) != wanted + SALT_BYTES:
        raise BadShare("its pad is not as long as its value")
    return pad


def _sum(pads: Sequence[bytes]) -> bytes:
    """The exclusive or of all."""
    total = 0
    for pad in pads:
        total ^= int.from_bytes(pad, "big")
    return total.to_bytes(len(pads[0]), "big")
