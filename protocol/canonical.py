"""One text for one value: canonical JSON (RFC 8785) and its SHA-256.

Reading is stricter than JSON: a document that two parsers could take differently is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Never

import rfc8785

from sealtrace.protocol.identifiers import Hex32

MAX_DOCUMENT_BYTES = 4 << 20
MAX_DEPTH = 64
_TEXTS = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
"""Every string, and the rest of the document where one does not end: brackets in them nest nothing."""


class NotCanonical(ValueError):
    """A value has no canonical form, or a text is not JSON that everybody reads alike."""


def canonical(value: object) -> bytes:
    """The RFC 8785 form of ``value`` (``dict``, ``list``, ``str``, ``int``, ``float``, ``bool``, ``None``).

    Raises:
        NotCanonical: it holds something JSON cannot carry exactly, such as NaN or an integer
            beyond 2^53 (RFC 8785 §3.2.2.3).
    """
    try:
        return rfc8785.dumps(value)  # type: ignore[arg-type]
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeEncodeError) as cause:
        raise NotCanonical(f"no canonical form: {cause}") from cause


def digest(value: object) -> Hex32:
    """SHA-256 of the canonical form of ``value``."""
    return sha256(canonical(value))


def sha256(data: bytes) -> Hex32:
    """SHA-256 of ``data``."""
    return Hex32("0x" + hashlib.sha256(data).hexdigest())


def parse(text: bytes, *, limit_bytes: int = MAX_DOCUMENT_BYTES, large: bool = False) -> Any:
    """Read JSON of at most ``limit_bytes``, refusing what readers disagree about.

    ``large`` reads an integer beyond 2^53 as the float that it is: RFC 8785 writes 1e16 with all its digits.

    Raises:
        NotCanonical: too long, not UTF-8, nested deeper than 64, a key given twice, NaN or
            infinity, an integer beyond 2^53, or not JSON at all.
    """
    if len(text) > limit_bytes:
        raise NotCanonical(f"{len(text)} bytes, more than the {limit_bytes} allowed here")
    if _depth(text) > MAX_DEPTH:
        raise NotCanonical(f"nested deeper than {MAX_DEPTH}")
    try:
        return json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_distinct,
            parse_constant=_refuse_constant,
            parse_int=_whole_number if large else _exact_int,
        )
    except (json.JSONDecodeError, UnicodeDecodeError) as cause:
        raise NotCanonical(f"not JSON in UTF-8: {cause}") from cause


def parse_canonical(text: bytes, *, limit_bytes: int = MAX_DOCUMENT_BYTES, large: bool = False) -> Any:
    """Read a text that must already be in canonical form, byte for byte; ``large`` as for :func:`parse`.

    Raises:
        NotCanonical: it is not.
    """
    value = parse(text, limit_bytes=limit_bytes, large=large)
    if canonical(value) != text:
        raise NotCanonical("JSON, but not in its canonical form (RFC 8785)")
    return value


def _depth(text: bytes) -> int:
    """How deep arrays and objects are nested; 0 where there are too few of them to be too deep."""
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return 0
    deepest = depth = 0
    for byte in _TEXTS.sub(b"", text):
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise NotCanonical("an object gives one key twice")
    return value


def _refuse_constant(name: str) -> Never:
    raise NotCanonical(f"{name} is not JSON")


def _exact_int(digits: str) -> int:
    value = int(digits) if len(digits) < 20 else 1 << 60
    if abs(value) > 2**53 - 1:
        raise NotCanonical(f"the integer {digits[:24]} is beyond 2^53: give it as text")
    return value


def _whole_number(digits: str) -> int | float:
    value = float(digits)
    return int(digits) if abs(value) < 2**53 else value
