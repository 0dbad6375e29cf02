"""Sealed datasets: opened whole and in order under their own key and header, or not at all."""

from __future__ import annotations

import hashlib
import io
import tracemalloc
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from sealtrace.protocol.canonical import canonical
from sealtrace.protocol.identifiers import Hex32
from sealtrace.protocol.sealed_stream import (
    MAGIC,
    MAX_CHUNK_BYTES,
    MIN_CHUNK_BYTES,
    TAG_BYTES,
    BadSealedStream,
    Header,
    Opening,
    Recipient,
    _nonce,
    read_header,
    seal,
    unseal,
)

KEY, PREFIX = bytes(range(32)), b"nonce 7"
CHUNK = MIN_CHUNK_BYTES
TASK, DATASET, ALGORITHM, EVIDENCE = (Hex32("0x" + each * 64) for each in "1234")
HEADER = Header(TASK, DATASET, ALGORITHM, EVIDENCE, (Recipient("enclave", b"wrapped key"),), CHUNK)
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK - 1, 3 * CHUNK, 3 * CHUNK + 1]


def sealed(content, key=KEY, prefix=PREFIX, header=HEADER):
    target = io.BytesIO()
    assert seal(io.BytesIO(content), target, key, prefix, header) == len(content)
    return target.getvalue()


def opened(stream, key=KEY):
    target = io.BytesIO()
    header = unseal(io.BytesIO(stream), target, key)
    return header, target.getvalue()


def parts(stream):
    """Head, and the sealed chunks."""
    start = len(MAGIC) + 4 + len(HEADER.document()) + 7 + 32
    body = stream[start:]
    size = CHUNK + TAG_BYTES
    return stream[:start], [body[at : at + size] for at in range(0, len(body), size)]


@pytest.mark.parametrize("size", SIZES)
def test_what_is_sealed_opens_under_its_key_with_its_header(size):
    content = bytes(each % 251 for each in range(size))
    assert opened(sealed(content)) == (HEADER, content)


@given(st.binary(max_size=5 * CHUNK), st.integers(CHUNK, 3 * CHUNK))
def test_any_content_in_chunks_of_any_size_opens_again(content, chunk_bytes):
    header = replace(HEADER, chunk_bytes=chunk_bytes)
    assert opened(sealed(content, header=header)) == (header, content)


def test_the_layout_is_as_it_is_described():
    content = b"a" * CHUNK + b"b" * 5
    document = HEADER.document()
    head = MAGIC + len(document).to_bytes(4, "big") + document
    info = MAGIC + hashlib.sha256(head).digest()
    made = HKDF(SHA256(), 64, salt=PREFIX, info=info).derive(KEY)
    chunks = [
        AESGCM(made[:32]).encrypt(PREFIX + b"\0\0\0\0" + b"\0", content[:CHUNK], None),
        AESGCM(made[:32]).encrypt(PREFIX + b"\0\0\0\1" + b"\1", content[CHUNK:], None),
    ]
    assert sealed(content) == head + PREFIX + made[32:] + b"".join(chunks)


@given(st.integers(0, 4 * CHUNK), st.data())
def test_no_byte_can_be_changed(size, data):
    stream = bytearray(sealed(bytes(size)))
    place = data.draw(st.integers(0, len(stream) - 1))
    stream[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BadSealedStream):
        opened(bytes(stream))


@given(st.integers(0, 4 * CHUNK), st.data())
def test_no_part_of_the_end_can_be_cut_off(size, data):
    stream = sealed(bytes(size))
    with pytest.raises(BadSealedStream):
        opened(stream[: data.draw(st.integers(0, len(stream) - 1))])


@given(st.integers(0, 4 * CHUNK), st.binary(min_size=1, max_size=2 * CHUNK))
def test_nothing_can_be_added(size, more):
    with pytest.raises(BadSealedStream):
        opened(sealed(bytes(size)) + more)


@given(st.integers(2 * CHUNK + 1, 5 * CHUNK), st.data())
def test_chunks_cannot_change_places_be_left_out_or_repeated(size, data):
    head, chunks = parts(sealed(bytes(size)))
    order = data.draw(st.lists(st.sampled_from(range(len(chunks))), max_size=len(chunks) + 2))
    stream = head + b"".join(chunks[each] for each in order)
    if order == list(range(len(chunks))):
        assert opened(stream)[1] == bytes(size)
    else:
        with pytest.raises(BadSealedStream):
            opened(stream)


@pytest.mark.parametrize("size", [CHUNK, 2 * CHUNK])
def test_an_empty_last_chunk_after_full_ones_is_not_taken_for_the_end(size):
    head, chunks = parts(sealed(bytes(size)))
    document = HEADER.document()
    before = MAGIC + len(document).to_bytes(4, "big") + document
    made = HKDF(SHA256(), 64, salt=PREFIX, info=MAGIC + hashlib.sha256(before).digest()).derive(KEY)[:32]
    full = [
        AESGCM(made).encrypt(_nonce(PREFIX, at, last=False), bytes(CHUNK), None) for at in range(len(chunks))
    ]
    empty = AESGCM(made).encrypt(_nonce(PREFIX, len(chunks), last=True), b"", None)
    with pytest.raises(BadSealedStream, match="ends within"):
        opened(head + b"".join(full) + empty)


@pytest.mark.parametrize("name", ["task", "dataset", "algorithm", "evidence"])
def test_a_dataset_sealed_for_one_purpose_does_not_open_for_another(name):
    stream = sealed(b"rows")
    document = HEADER.document()
    other = replace(HEADER, **{name: Hex32("0x" + "f" * 64)}).document()
    assert len(other) == len(document)
    with pytest.raises(BadSealedStream, match="header was altered"):
        opened(stream.replace(document, other))


def test_recipients_cannot_be_exchanged():
    stream = sealed(b"rows")
    with pytest.raises(BadSealedStream, match="header was altered"):
        opened(stream.replace(b"enclave", b"another"))


def test_another_key_is_refused_before_anything_is_read():
    with pytest.raises(BadSealedStream, match="this key does not open it"):
        Opening(io.BytesIO(sealed(b"rows")), bytes(32))


def test_chunks_of_another_dataset_under_the_same_key_do_not_fit():
    head, _ = parts(sealed(b"one"))
    _, chunks = parts(sealed(b"two", prefix=b"other 7"))
    with pytest.raises(BadSealedStream):
        opened(head + chunks[0])


@pytest.mark.parametrize(
    ("key", "prefix", "chunk_bytes"),
    [
        (bytes(16), PREFIX, CHUNK),
        (KEY, bytes(8), CHUNK),
        (KEY, PREFIX, MIN_CHUNK_BYTES - 1),
        (KEY, PREFIX, MAX_CHUNK_BYTES + 1),
    ],
)
def test_keys_prefixes_and_chunks_of_other_sizes_are_refused(key, prefix, chunk_bytes):
    with pytest.raises(BadSealedStream):
        sealed(b"", key, prefix, replace(HEADER, chunk_bytes=chunk_bytes))


def test_a_counter_never_comes_round():
    assert len(_nonce(PREFIX, (1 << 32) - 1, last=True)) == 12
    with pytest.raises(BadSealedStream, match="larger"):
        _nonce(PREFIX, 1 << 32, last=True)


def _with_document(document):
    return MAGIC + len(document).to_bytes(4, "big") + document


BODY = {
    "version": 1,
    "suite": "HKDF-SHA256/AES-256-GCM/STREAM",
    "task": TASK,
    "dataset": DATASET,
    "algorithm": ALGORITHM,
    "evidence": EVIDENCE,
    "chunk_bytes": CHUNK,
    "recipients": [{"kid": "enclave", "wrapped": b"wrapped key".hex()}],
}


def test_a_header_is_read_as_it_was_written():
    assert read_header(io.BytesIO(_with_document(canonical(BODY)))) == HEADER


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"suite": "none"},
        {"more": 1},
        {"chunk_bytes": 1 << 30},
        {"chunk_bytes": True},
        {"chunk_bytes": "64"},
        {"task": "0x12"},
        {"task": TASK.upper()},
        {"recipients": None},
        {"recipients": ["x"]},
        {"recipients": [{"kid": 1, "wrapped": ""}]},
        {"recipients": [{"kid": "x", "wrapped": "AA"}]},
        {"recipients": [{"kid": "x", "wrapped": "aa", "more": 1}]},
        {"recipients": [{"kid": "x", "wrapped": "00" * 4097}]},
    ],
)
def test_a_header_that_says_otherwise_is_refused(change):
    with pytest.raises(BadSealedStream, match=r"header|chunks|recipient|chunk_bytes"):
        read_header(io.BytesIO(_with_document(canonical(BODY | change))))


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"sealtrace.sealed-dataset/2\n\0\0\0\0",
        MAGIC + b"\xff\xff\xff\xff",
        _with_document(b"[]"),
        _with_document(b"{ }"),
    ],
)
def test_what_is_no_sealed_dataset_is_refused(stream):
    with pytest.raises(BadSealedStream):
        read_header(io.BytesIO(stream))


def test_the_core_that_keys_are_wrapped_under_does_not_hold_the_wrapped_keys():
    assert replace(HEADER, recipients=()).core() == HEADER.core()
    assert replace(HEADER, task=DATASET).core() != HEADER.core()


class Dribble:
    """A source that gives little at a time, as pipes do."""

    def __init__(self, content):
        self.left = io.BytesIO(content)

    def readinto(self, target):
        return self.left.readinto(target[:7])


def test_a_source_that_gives_little_at_a_time_is_read_on():
    content = bytes(range(256)) * 2
    target = io.BytesIO()
    seal(Dribble(content), target, KEY, PREFIX, HEADER)
    assert target.getvalue() == sealed(content)
    back = io.BytesIO()
    unseal(Dribble(target.getvalue()), back, KEY)
    assert back.getvalue() == content


class Zeros:
    def __init__(self, octets):
        self.left = octets

    def readinto(self, target):
        got = min(self.left, len(target))
        target[:got] = bytes(got)
        self.left -= got
        return got


class Nowhere:
    def write(self, content):
        return len(content)


def test_memory_does_not_grow_with_the_dataset():
    def peak(octets):
        tracemalloc.start()
        try:
            seal(Zeros(octets), Nowhere(), KEY, PREFIX, replace(HEADER, chunk_bytes=1 << 16))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1 << 16)
    assert peak(1 << 24) < peak(1 << 18) + (1 << 16)
