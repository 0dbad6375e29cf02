"""Keys that parties compare: rules that write them alike, and one encoding for one key.

A rule is a pure function of one cell and depends on nothing but its text: no locale, no clock, no list of
numbering plans that one party may have in another edition. Unicode's tables are those of Python 3.11 (14.0)
everywhere.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Final

TOKEN_BYTES: Final = 16
DIGEST_BYTES: Final = 32
PHONE_DIGITS: Final = (7, 15)  # the most is E.164's; fewer than the least are extensions and short codes
_COUNTRY_CODE = re.compile(r"[1-9][0-9]{0,2}")
_NOT_DIALLED = re.compile(r"[\s().\-/+]")
_INTEGER = re.compile(r"([+-]?)0*([0-9]+?)(?:\.0*)?")
_RESIDENT_WEIGHTS = tuple(2**power % 11 for power in range(17, 0, -1))  # ISO 7064, MOD 11-2
_RESIDENT_CHECKS = "10X98765432"
_SHORT: Final = 256  # bytes of a part whose length is written beforehand

Rewrite = Callable[[str], str]


class UnfitKey(ValueError):
    """A cell is not of the form its rule asks for; the message never quotes it."""


class UnknownRule(ValueError):
    """There is no rule of this name; the message lists those there are."""


def _width(cell: str) -> str:
    return cell if cell.isascii() else unicodedata.normalize("NFKC", cell)


def _id(cell: str) -> str:
    upper = _width(_width(cell).upper())
    return "".join(filter(str.isalnum, upper))


def _integer(cell: str) -> str:
    found = _INTEGER.fullmatch(_width(cell).strip())
    if found is None:
        raise UnfitKey("is no whole number")
    sign, digits = found.groups()
    return f"-{digits}" if sign == "-" and digits != "0" else digits


def _resident(cell: str) -> str:
    text = _id(cell)
    if re.fullmatch(r"[0-9]{15}", text):  # issued before 1999: no century, no check character
        text = f"{text[:6]}19{text[6:]}"
        return text + _resident_check(text)
    if not re.fullmatch(r"[0-9]{17}[0-9X]", text) or _resident_check(text[:17]) != text[17]:
        raise UnfitKey("is no resident identity number of 15 or 18 characters")
    return text


def _resident_check(digits: str) -> str:
    weighted = sum(weight * int(digit) for weight, digit in zip(_RESIDENT_WEIGHTS, digits, strict=True))
    return _RESIDENT_CHECKS[weighted % 11]


def _phone(country: str) -> Rewrite:
    def phone(cell: str) -> str:
        text = _width(cell).strip()
        digits = _NOT_DIALLED.sub("", text)
        if text.startswith("+"):
            number = digits
        elif digits.startswith("00"):
            number = digits[2:]
        else:
            number = country + digits.removeprefix("0")
        least, most = PHONE_DIGITS
        if not re.fullmatch(rf"[1-9][0-9]{{{least - 1},{most - 1}}}", number):
            raise UnfitKey(f"is no phone number of {least} to {most} digits with its country code")
        return "+" + number

    return phone


RULES: Mapping[str, tuple[Rewrite, str]] = {
    "trim": (str.strip, "white space at both ends is dropped"),
    "width": (_width, "Unicode NFKC: full-width and half-width forms, ligatures and the like become one"),
    "case": (str.casefold, "letter case is folded"),
    "id": (_id, "NFKC, upper case, and nothing but letters and digits: `ab-12 3` is `AB123`"),
    "integer": (_integer, "a whole number: `007`, `7.0` and `+7` are `7`; anything else is refused"),
    "cn-resident": (
        _resident,
        "an 18-character resident identity number, its check character verified; 15 digits are completed",
    ),
}
"""Every rule without an argument, and what it does in words."""

PHONE: Final = "phone:CC"
PHONE_WORDS: Final = (
    "an international number `+...`: without `+` or `00` it is one of country code CC, and a leading 0 is "
    "dropped; 7 to 15 digits, anything else is refused"
)


def rule(name: str) -> Rewrite:
    """Return the function of the rule called ``name``.

    Raises:
        UnknownRule: there is none.
    """
    if name in RULES:
        return RULES[name][0]
    kind, _, country = name.partition(":")
    if kind == "phone" and _COUNTRY_CODE.fullmatch(country):
        return _phone(country)
    raise UnknownRule(f"{name!r} is no rule: there are {', '.join(RULES)}, and {PHONE} such as phone:86")


def rewriter(names: Sequence[str]) -> Rewrite:
    """Return one function that applies the rules ``names`` from left to right."""
    steps = tuple(map(rule, names))
    if len(steps) == 1:
        return steps[0]

    def rewritten(cell: str) -> str:
        for step in steps:
            cell = step(cell)
        return cell

    return rewritten


def encode_key(parts: Sequence[str]) -> bytes:
    """Return the one encoding of a key: each part in UTF-8 behind its length in 4 bytes, big-endian.

    So ("ab", "c") and ("a", "bc") differ.
    """
    if len(parts) == 1:
        only = parts[0].encode()
        return len(only).to_bytes(4, "big") + only
    encoded = [part.encode() for part in parts]
    return b"".join([piece for each in encoded for piece in (len(each).to_bytes(4, "big"), each)])


def tokens_of(task: str) -> Callable[[bytes], bytes]:
    """Return the function that gives what stands for an encoded key in this task: 128 bits of SHA-256."""
    begun = hashlib.sha256(_prefix(task))

    def token(key: bytes) -> bytes:
        state = begun.copy()
        state.update(key)
        return state.digest()[:TOKEN_BYTES]

    return token


def digests_of_one_part(task: str) -> Callable[[Sequence[bytes]], bytes]:
    """Return the function of texts in UTF-8 that gives ``DIGEST_BYTES`` for each, one after the other.

    They begin with ``tokens_of(task)`` of its ``encode_key((text,))``: most keys are of one part, and many
    millions are wanted at once.
    """
    prefix, sha256 = _prefix(task), hashlib.sha256
    begun = [prefix + size.to_bytes(4, "big") for size in range(_SHORT)]

    def before(size: int) -> bytes:
        return begun[size] if size < _SHORT else prefix + size.to_bytes(4, "big")

    def digests(parts: Sequence[bytes]) -> bytes:
        if len(sizes := set(map(len, parts))) == 1:
            first = before(sizes.pop())
            return b"".join([sha256(first + part).digest() for part in parts])
        return b"".join([sha256(before(len(part)) + part).digest() for part in parts])

    return digests


def _prefix(task: str) -> bytes:
    return b"sealtrace.psi.key.1\0" + task.encode() + b"\0"
