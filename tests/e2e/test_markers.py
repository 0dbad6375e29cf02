"""The search for markers finds each in every form a leak may take, and nothing in what holds none."""

from __future__ import annotations

import base64
import gzip
import json
import random
import sqlite3
import struct
import zlib

import numpy as np
import pytest

from tests.e2e.markers import Needles, bytes_marker, number_marker, text_marker

TEXT = "kq7v2zx9w4mt8r1p"
NUMBER = 8_273_641.618164062
WHOLE = 912_837_465_019_283
TOKEN = bytes.fromhex("8f3a9c0b77e1d2654b1900aa37cc58de")
NEEDLES = Needles(
    [
        text_marker("text", TEXT),
        number_marker("number", NUMBER),
        number_marker("whole", WHOLE),
        bytes_marker("token", TOKEN),
    ]
)
CHANCE = random.Random(3)


def noise(size: int) -> bytes:
    return CHANCE.randbytes(size)


def fixed(bits: int, size: int) -> bytes:
    return int(NUMBER * 2**bits).to_bytes(size, "little")


FORMS = {
    "utf-8": ("text", TEXT.encode()),
    "utf-16 le": ("text", TEXT.encode("utf-16-le")),
    "utf-16 be": ("text", TEXT.encode("utf-16-be")),
    "hex": ("text", TEXT.encode().hex().encode()),
    "HEX": ("text", TEXT.encode().hex().upper().encode()),
    "repr": ("number", repr(NUMBER).encode()),
    "json": ("number", json.dumps({"sum": NUMBER}).encode()),
    "rounded to 2": ("number", f"{NUMBER:.2f}".encode()),
    "rounded to 6": ("number", f"{NUMBER:.6f}".encode()),
    "cut": ("number", b"8273641.61"),
    "exponent": ("number", f"{NUMBER:.9e}".encode()),
    "digits alone": ("number", b"8273641618164"),
    "number in utf-16": ("number", repr(NUMBER).encode("utf-16-le")),
    "number in base64": ("number", base64.b64encode(b'{"x":' + repr(NUMBER).encode())),
    "float64 le": ("number", struct.pack("<d", NUMBER)),
    "float64 be": ("number", struct.pack(">d", NUMBER)),
    "array": ("number", np.array([1.5, NUMBER, 2.5]).tobytes()),
    "float64 in hex": ("number", struct.pack("<d", NUMBER).hex().encode()),
    "int64 le": ("whole", struct.pack("<q", WHOLE)),
    "int64 be": ("whole", struct.pack(">q", WHOLE)),
    "whole as text": ("whole", str(WHOLE).encode()),
    "fixed 18 in 64": ("number", fixed(18, 8)),
    "fixed 40 in 64": ("number", fixed(40, 8)),
    "fixed 18 in 128": ("number", fixed(18, 16)),
    "fixed 40 in 128": ("number", fixed(40, 16)),
    "fixed, rounded up": ("number", (int(NUMBER * 2**40) + 1).to_bytes(16, "little")),
    "raw token": ("token", TOKEN),
    "token in hex": ("token", TOKEN.hex().encode()),
    "gzip": ("text", gzip.compress(noise(100) + TEXT.encode() + noise(100))),
    "zlib": ("number", zlib.compress(noise(50) + struct.pack("<d", NUMBER))),
    "zlib cut short": ("text", zlib.compress(TEXT.encode() * 400 + noise(9000))[:2000]),
    "zlib in gzip": ("text", gzip.compress(noise(20) + zlib.compress(TEXT.encode()))),
    "chunked": (
        "text",
        b"Transfer-Encoding: chunked\r\n\r\n6\r\n" + TEXT[:6].encode() + b"\r\na\r\n" + TEXT[6:].encode(),
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("before", [0, 1, 2, 3, 7, 4099])
def test_a_marker_is_found_in_each_form_at_any_place(form, before):
    name, data = FORMS[form]
    assert set(NEEDLES.found_in(noise(before) + data + noise(37))) == {name}


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("before", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_base64_hides_nothing_at_any_alignment(encode, before, after):
    for name, data in (("text", TEXT.encode()), ("token", TOKEN), ("number", struct.pack("<d", NUMBER))):
        assert set(NEEDLES.found_in(encode(noise(before) + data + noise(after)))) == {name}


def test_a_marker_across_the_border_of_two_slices_is_found():
    for back in range(1, 18):
        data = bytes((8 << 20) - back) + TEXT.encode() + b"end"
        assert set(NEEDLES.found_in(data)) == {"text"}


def test_a_database_hides_nothing(tmp_path):
    with sqlite3.connect(tmp_path / "it.db") as database:
        database.execute("create table it (words text, value real)")
        database.execute("insert into it values (?, ?)", (TEXT, NUMBER))
    database.close()
    assert set(NEEDLES.found_in((tmp_path / "it.db").read_bytes())) == {"text", "number"}


@pytest.mark.parametrize(("field", "bits"), [("FM64", 18), ("FM128", 40), ("FM128", 47)])
def test_the_engines_own_writing_of_a_number_is_found(field, bits):
    """What would go over a wire if the engine did not split a value into shares."""
    spu = pytest.importorskip("spu")
    config = spu.RuntimeConfig(
        protocol=spu.parse_protocol_kind("SEMI2K"),
        field=spu.parse_field_type(field),
        fxp_fraction_bits=bits,
    )
    needles = Needles([number_marker("number", NUMBER, (bits,))])
    column = np.array([1.0, NUMBER, 3.0])
    io = spu.Io(2, config)
    (plain, *_) = io.make_shares(column, spu.Visibility.VIS_PUBLIC)
    assert set(needles.found_in(b"".join(plain.share_chunks))) == {"number"}
    for share in io.make_shares(column, spu.Visibility.VIS_SECRET):
        assert needles.found_in(b"".join(share.share_chunks)) == {}


def test_nothing_is_found_where_nothing_is():
    digits = "".join(CHANCE.choices("0123456789abcdef.", k=3_000_000)).encode()
    assert NEEDLES.found_in(noise(4 << 20) + digits) == {}


def test_a_neighbour_of_a_marker_is_not_the_marker():
    assert NEEDLES.found_in(repr(NUMBER + 1).encode()) == {}
    assert NEEDLES.found_in(TEXT[:-1].encode() + b"x") == {}


def test_no_form_is_so_short_that_it_turns_up_by_chance():
    for marker in (text_marker("t", TEXT), number_marker("n", 12.5), bytes_marker("b", TOKEN)):
        assert all(len(form) >= 8 for form in marker.forms)
