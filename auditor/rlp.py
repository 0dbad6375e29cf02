"""RLP read strictly (Ethereum yellow paper, appendix B): one value has one encoding, no other is taken."""

from __future__ import annotations


class MalformedRlp(ValueError):
    """Bytes that are no RLP, or not the shortest way to write what they say: use another endpoint."""


def items(encoded: bytes) -> list[bytes]:
    """The items of a list, each still encoded.

    Raises:
        MalformedRlp: it is no list, or more than one.
    """
    is_list, at, end = _head(encoded, 0)
    if not is_list or end != len(encoded):
        raise MalformedRlp("no RLP list where one belongs")
    found = []
    while at < end:
        after = _head(encoded, at)[2]
        found.append(encoded[at:after])
        at = after
    return found


def is_list(encoded: bytes) -> bool:
    """Whether an item is a list."""
    return encoded[:1] >= b"\xc0"


def content(encoded: bytes) -> bytes:
    """The content of a byte string.

    Raises:
        MalformedRlp: it is none.
    """
    a_list, begin, end = _head(encoded, 0)
    if a_list or end != len(encoded):
        raise MalformedRlp("no byte string where one belongs")
    return encoded[begin:end]


def _head(data: bytes, at: int) -> tuple[bool, int, int]:
    """Whether the item at ``at`` is a list, where its content begins, and where it ends."""
    if at >= len(data):
        raise MalformedRlp("RLP that ends too early")
    first = data[at]
    if first < 0x80:
        return False, at, at + 1
    a_list = first >= 0xC0
    short = first - (0xC0 if a_list else 0x80)
    begin, length = at + 1, short
    if short >= 56:
        begin += short - 55
        written = data[at + 1 : begin]
        length = int.from_bytes(written, "big")
        if len(written) != short - 55 or length < 56 or written[0] == 0:
            raise MalformedRlp("RLP with a length not written in the shortest way")
    if begin + length > len(data):
        raise MalformedRlp("RLP that ends too early")
    if not a_list and length == 1 and data[begin] < 0x80:
        raise MalformedRlp("RLP of one byte not written in the shortest way")
    return a_list, begin, begin + length
