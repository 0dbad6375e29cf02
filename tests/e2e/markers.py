"""Markers: values that occur nowhere by chance, all forms a leak may take, and the search for them.

A marker is planted in a table or is a result. What it must not reach is searched for every form of it: text
in several encodings, numbers as machines and the engine write them, hexadecimal, base64, and all of that
inside compressed streams.
"""

from __future__ import annotations

import base64
import re
import struct
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Context, Decimal
from itertools import pairwise

import numpy as np

KEY_BYTES = 8
"""Every form has at least so many bytes; fewer turn up by chance."""
FRACTION_BITS = (18, 40)
"""Of the engine's fixed-point numbers in its two fields."""
FIXED_BYTES = (8, 16)
MIN_DIGITS = 9
MIN_DIGITS_ALONE = 12
"""Digits without a point turn up in hexadecimal text, so there must be more of them."""
_INFLATED_BYTES = 64 << 20
_NESTED = 3
_COMPRESSED = re.compile(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]")
_CHUNK = re.compile(rb"\r\n[0-9A-Fa-f]{1,8}(?:;[^\r\n]*)?\r\n")
_HASH_BITS = 22
_HASH = np.uint64(0x9E3779B97F4A7C15)
_SLICE = 1 << 23
_EXACTLY = Context(prec=400)


@dataclass(frozen=True, slots=True)
class Marker:
    """A value to look for: what it is called, and every form of it, each with its name."""

    name: str
    forms: Mapping[bytes, str]


def text_marker(name: str, text: str) -> Marker:
    """A marker that is a text."""
    return Marker(name, _long_enough(_text_forms(text)))


def bytes_marker(name: str, value: bytes) -> Marker:
    """A marker that is some bytes, such as a token."""
    return Marker(name, _long_enough(_binary_forms("bytes", value)))


def number_marker(name: str, value: float, bits: Collection[int] = FRACTION_BITS) -> Marker:
    """A marker that is a number, whole or not; ``bits`` are those that fixed-point numbers may have."""
    found: dict[bytes, str] = {}
    for text in _decimal_texts(value):
        found |= _text_forms(text)
    for form, packed in _packed(value, bits):
        found |= _binary_forms(form, packed)
    return Marker(name, _long_enough(found))


def _text_forms(text: str) -> dict[bytes, str]:
    found = _binary_forms(f"{text!r} in utf-8", text.encode())
    for encoding in ("utf-16-le", "utf-16-be"):
        found[text.encode(encoding)] = f"{text!r} in {encoding}"
    return found


def _binary_forms(form: str, value: bytes) -> dict[bytes, str]:
    found = {value: form}
    found |= {value.hex().encode(): f"{form}, hex", value.hex().upper().encode(): f"{form}, HEX"}
    for at in range(3):
        for encode, called in ((base64.b64encode, "base64"), (base64.urlsafe_b64encode, "base64url")):
            found.setdefault(_base64_inside(encode, at, value), f"{form}, {called} at {at}")
    return found


def _base64_inside(encode: Callable[[bytes], bytes], at: int, value: bytes) -> bytes:
    """The characters that ``value`` alone decides when it begins ``at`` bytes into a group of three."""
    text = encode(bytes(at) + value)
    return text[-(-at * 8 // 6) : (at + len(value)) * 8 // 6]


def _decimal_texts(value: float) -> Iterator[str]:
    """Decimal forms: as JSON writes it, rounded and cut at every place, with an exponent, digits alone."""
    exact = Decimal(value)
    yield from (repr(value), format(exact, "f"))
    for places in range(1, 18):
        step = Decimal(1).scaleb(-places)
        for rounding in (ROUND_DOWN, ROUND_HALF_EVEN):
            text = format(exact.quantize(step, rounding, _EXACTLY), "f")
            if _significant(text) >= MIN_DIGITS:
                yield text
    for digits in range(MIN_DIGITS - 1, 17):
        yield f"{exact:.{digits}e}".partition("e")[0]
    alone = f"{exact:.{MIN_DIGITS_ALONE + 3}e}".partition("e")[0].replace(".", "").lstrip("-")
    yield alone[:MIN_DIGITS_ALONE]


def _significant(text: str) -> int:
    return len(text.replace(".", "").lstrip("-0"))


def _packed(value: float, fraction_bits: Collection[int]) -> Iterator[tuple[str, bytes]]:
    yield "float64 LE", struct.pack("<d", value)
    yield "float64 BE", struct.pack(">d", value)
    if float(value).is_integer() and abs(value) >= 2**32:
        yield "int64 LE", struct.pack("<q", int(value))
        yield "int64 BE", struct.pack(">q", int(value))
    for bits in fraction_bits:
        for size in FIXED_BYTES:
            near = int(Decimal(value) * 2**bits)
            for fixed in (near - 1, near, near + 1):
                if 2**32 <= abs(fixed) < 2 ** (8 * size - 1):
                    yield f"fixed point {bits}/{size * 8}", fixed.to_bytes(size, "little", signed=True)


def _long_enough(forms: Mapping[bytes, str]) -> dict[bytes, str]:
    return {form: called for form, called in forms.items() if len(form) >= KEY_BYTES}


class Needles:
    """Many markers, searched for together in one pass over the bytes."""

    def __init__(self, markers: Iterable[Marker]) -> None:
        self._forms: dict[int, list[tuple[int, bytes, str, str]]] = {}
        self._table = np.zeros(1 << _HASH_BITS, dtype=np.bool_)
        for marker in markers:
            for form, called in marker.forms.items():
                at = _most_telling(form)
                key = int.from_bytes(form[at : at + KEY_BYTES], "little")
                self._forms.setdefault(key, []).append((at, form, marker.name, called))
        self._keys = np.array(sorted(self._forms), dtype=np.uint64)
        self._table[_hashed(self._keys)] = True

    def found_in(self, data: bytes) -> dict[str, str]:
        """Each marker in ``data`` or in a compressed stream within it, with the form it was found in."""
        found: dict[str, str] = {}
        for view, how in _views(data):
            for name, form in self._plain(view):
                found.setdefault(name, form + how)
        return found

    def _plain(self, data: bytes) -> Iterator[tuple[str, str]]:
        for begin in range(0, len(data), _SLICE):
            piece = data[begin : begin + _SLICE + KEY_BYTES]
            for shift in range(min(KEY_BYTES, max(0, len(piece) - KEY_BYTES + 1))):
                keys = np.frombuffer(piece, "<u8", (len(piece) - shift) // KEY_BYTES, shift)
                near = np.flatnonzero(self._table[_hashed(keys)])
                for at in near[self._begins_one(keys[near])]:
                    place = begin + shift + KEY_BYTES * int(at)
                    for inside, form, name, called in self._forms[int(keys[at])]:
                        if place >= inside and data.startswith(form, place - inside):
                            yield name, called

    def _begins_one(self, keys: np.ndarray) -> np.ndarray:
        at = np.searchsorted(self._keys, keys)
        return self._keys[np.minimum(at, len(self._keys) - 1)] == keys


def _most_telling(form: bytes) -> int:
    """Where the bytes begin by which a form is looked up: zeros, say, would be met everywhere."""
    places = range(len(form) - KEY_BYTES + 1)
    return max(places, key=lambda at: len(set(form[at : at + KEY_BYTES])))


def _hashed(keys: np.ndarray) -> np.ndarray:
    return (keys * _HASH) >> np.uint64(64 - _HASH_BITS)


def _views(data: bytes, depth: int = 0, how: str = "") -> Iterator[tuple[bytes, str]]:
    """The bytes, the same without HTTP's chunk marks, and every compressed stream inside, unpacked."""
    yield data, how
    views = [(data, how)]
    if b"chunked" in data:
        views.append((_CHUNK.sub(b"", data), how + ", chunked"))
        yield views[-1]
    if depth == _NESTED:
        return
    for view, called in views:
        for match in _COMPRESSED.finditer(view):
            inside = _inflated(view, match.start())
            if len(inside) >= KEY_BYTES:
                yield from _views(inside, depth + 1, called + ", compressed")


def _inflated(data: bytes, begin: int) -> bytes:
    """What a gzip or zlib stream that may begin here unpacks to, as far as it is one."""
    unpack = zlib.decompressobj(wbits=47)  # either header
    done = bytearray()
    steps = [begin, *(begin + (1 << power) for power in range(8, 40))]
    for start, end in pairwise(steps):
        if start >= len(data) or unpack.eof or len(done) > _INFLATED_BYTES:
            break
        try:
            done += unpack.decompress(data[start:end], _INFLATED_BYTES)
        except zlib.error:
            break
    return bytes(done)
