"""How an owner's input comes to an enclave: what opens it, and what does not."""

from __future__ import annotations

import hashlib
import io
import os

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from sealtrace.node.engines.errors import ProtocolViolated
from sealtrace.node.engines.tee.opened import Opened, opened
from sealtrace.node.engines.tee.sealing import (
    END,
    MORE,
    Blinded,
    Blinding,
    Popped,
    Pushed,
    Secrets,
    _info,
    fresh_prefix,
    unwrapped,
)
from sealtrace.protocol.envelope import wrap
from sealtrace.protocol.identifiers import Address, hex32
from sealtrace.protocol.sealed_stream import Header, seal

TASK, DATASET, ALGORITHM, STATEMENT = (hex32(bytes([n]) * 32) for n in (1, 2, 3, 4))
HEADER = Header(TASK, DATASET, ALGORITHM, STATEMENT)
OWNER = Address("0x" + "02" * 20)
KEY = X25519PrivateKey.generate()
MOST = 8 << 20
PUBLIC = KEY.public_key().public_bytes_raw()


def sent(content: bytes, header: Header = HEADER, secrets: Secrets | None = None):
    """What an owner says for ``content``: the offer, the messages, and what it notes."""
    secrets = secrets or Secrets.fresh()
    messages: list[bytes] = []
    target, blinded = Pushed(messages.append), Blinded(secrets.nonce)
    seal(Blinding(io.BytesIO(content), blinded), target, secrets.data_key, fresh_prefix(), header)
    target.end()
    return {"wrapped": secrets.wrapped(PUBLIC, header).hex()}, messages, blinded, secrets


def taken(offer, messages, header: Header = HEADER, key: X25519PrivateKey = KEY) -> Opened:
    left = iter(messages)
    return opened(offer, lambda: next(left), key, header, OWNER, MOST)


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_an_input_of_any_size_arrives_and_both_ends_note_the_same_digest(size):
    content = os.urandom(size)
    offer, messages, blinded, secrets = sent(content)
    found = taken(offer, messages)
    assert found.content() == content
    assert found.digest == blinded.digest() == "0x" + hashlib.sha256(secrets.nonce + content).hexdigest()
    assert found.return_key == secrets.return_key
    found.erase()


def test_an_input_that_was_erased_cannot_be_read():
    found = Opened.of(b"secret")
    found.erase()
    with pytest.raises(OSError):
        found.content()


def test_the_sandbox_is_given_the_input_for_reading_only():
    found = Opened.of(b"secret")
    with pytest.raises(OSError):
        os.write(found.descriptor, b"x")
    found.erase()


@pytest.mark.parametrize("field", ["task", "dataset", "algorithm", "evidence"])
def test_an_input_for_another_purpose_does_not_open(field):
    other = Header(**{**_fields(HEADER), field: hex32(b"\x09" * 32)})
    offer, messages, *_ = sent(b"secret", other)
    with pytest.raises(ProtocolViolated):
        taken(offer, messages)


def _fields(header: Header) -> dict:
    return {name: getattr(header, name) for name in ("task", "dataset", "algorithm", "evidence")}


def test_an_input_for_another_enclave_does_not_open():
    offer, messages, *_ = sent(b"secret")
    with pytest.raises(ProtocolViolated):
        taken(offer, messages, key=X25519PrivateKey.generate())


@given(st.data())
def test_any_bit_that_changed_on_the_way_is_found(data):
    offer, messages, *_ = sent(b"some bytes of a table\n" * 20)
    at = data.draw(st.integers(0, len(messages) - 2))
    bit = data.draw(st.integers(8, 8 * len(messages[at]) - 1))
    changed = bytearray(messages[at])
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ProtocolViolated):
        taken(offer, [*messages[:at], bytes(changed), *messages[at + 1 :]])


@pytest.mark.parametrize("cut", [1, 2])
def test_an_input_that_ends_too_soon_is_refused(cut):
    offer, messages, *_ = sent(os.urandom(3 << 20))
    with pytest.raises(ProtocolViolated):
        taken(offer, [*messages[: -1 - cut], END])


def test_chunks_in_another_order_are_refused():
    offer, messages, *_ = sent(os.urandom(3 << 20))
    first, second = len(messages) - 3, len(messages) - 2
    messages[first], messages[second] = messages[second], messages[first]
    with pytest.raises(ProtocolViolated):
        taken(offer, messages)


@pytest.mark.parametrize("message", [b"", b"\x02abc", MORE, END + b"more"])
def test_a_message_that_is_no_part_of_a_stream_is_refused(message):
    source = Popped(lambda: message)
    with pytest.raises(ProtocolViolated):
        source.readinto(bytearray(8))


def test_an_input_that_is_larger_than_it_may_be_is_refused():
    offer, messages, *_ = sent(bytes(MOST + 1))
    with pytest.raises(ProtocolViolated, match="8 MiB"):
        taken(offer, messages)


@pytest.mark.parametrize(
    "offer", [{}, {"wrapped": 7}, {"wrapped": "zz"}, {"wrapped": ""}, {"wrapped": "00" * 80}]
)
def test_an_offer_that_is_none_is_refused(offer):
    with pytest.raises(ProtocolViolated):
        taken(offer, [])


def test_a_wrapped_key_of_another_size_is_refused():
    with pytest.raises(ProtocolViolated, match="size"):
        unwrapped(wrap(b"short", PUBLIC, _info(HEADER)), KEY, HEADER)
