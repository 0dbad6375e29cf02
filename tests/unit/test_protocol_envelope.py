"""Envelopes against a plain reading of RFC 9180, itself checked by the vector of Appendix A.1.1."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from sealtrace.protocol.envelope import MAGIC, BadEnvelope, header_of, seal, unseal

KEY = X25519PrivateKey.from_private_bytes(b"\x07" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()
HEADER = {"task": "0x01", "party": "0x02"}


def extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, "sha256")


def expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labeled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    out, block, n = b"", b"", 1
    while len(out) < length:
        block = hmac.digest(prk, block + labeled + bytes([n]), "sha256")
        out, n = out + block, n + 1
    return out[:length]


def shared_secret(enc: bytes, key: X25519PrivateKey) -> bytes:
    """Decap of DHKEM(X25519, HKDF-SHA256), RFC 9180 §4.1."""
    kem = b"KEM" + (0x20).to_bytes(2, "big")
    dh = key.exchange(X25519PublicKey.from_public_bytes(enc))
    context = enc + key.public_key().public_bytes_raw()
    return expand(kem, extract(kem, b"", b"eae_prk", dh), b"shared_secret", context, 32)


def key_and_nonce(secret: bytes, info: bytes, aead: int, key_bytes: int) -> tuple[bytes, bytes]:
    """Key schedule in base mode, RFC 9180 §5.1."""
    suite = b"HPKE" + b"".join(n.to_bytes(2, "big") for n in (0x20, 1, aead))
    ids = extract(suite, b"", b"psk_id_hash", b""), extract(suite, b"", b"info_hash", info)
    context = b"\0" + ids[0] + ids[1]
    prk = extract(suite, secret, b"secret", b"")
    return (
        expand(suite, prk, b"key", context, key_bytes),
        expand(suite, prk, b"base_nonce", context, 12),
    )


def test_our_reading_of_rfc_9180_gives_the_values_of_appendix_a_1_1():
    enc = bytes.fromhex("37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431")
    key = X25519PrivateKey.from_private_bytes(
        bytes.fromhex("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8")
    )
    secret = shared_secret(enc, key)
    assert secret.hex() == "fe0e18c9f024ce43799ae393c7e8fe8fce9d218875e8227b0187c04e7d2ea1fc"
    info = bytes.fromhex("4f6465206f6e2061204772656369616e2055726e")
    aes, nonce = key_and_nonce(secret, info, aead=1, key_bytes=16)
    assert aes.hex() == "4531685d41d65f03dc48f6b8302c05b0"
    assert nonce.hex() == "56d890e5accaaf011cff4b7d"
    sealed = AESGCM(aes).encrypt(nonce, b"Beauty is truth, truth beauty", b"Count-0")
    assert sealed.hex().startswith("f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a9")


@given(st.binary(max_size=300))
def test_an_envelope_opens_by_the_plain_reading_of_rfc_9180(plaintext):
    envelope = seal(plaintext, PUBLIC, HEADER)
    length = int.from_bytes(envelope[len(MAGIC) : len(MAGIC) + 4], "big")
    prefix, body = envelope[: len(MAGIC) + 4 + length], envelope[len(MAGIC) + 4 + length :]
    secret = shared_secret(body[:32], KEY)
    aes, nonce = key_and_nonce(secret, hashlib.sha256(prefix).digest(), aead=2, key_bytes=32)
    assert AESGCM(aes).decrypt(nonce, body[32:], b"") == plaintext


@given(st.binary(max_size=300))
def test_only_the_recipient_opens_an_envelope(plaintext):
    envelope = seal(plaintext, PUBLIC, HEADER)
    assert unseal(envelope, KEY).plaintext == plaintext
    assert unseal(envelope, KEY).header == HEADER
    with pytest.raises(BadEnvelope, match="wrong recipient"):
        unseal(envelope, X25519PrivateKey.generate())


def test_two_envelopes_of_one_text_differ():
    assert seal(b"same", PUBLIC, HEADER) != seal(b"same", PUBLIC, HEADER)


def test_no_byte_of_an_envelope_can_change_unnoticed():
    envelope = seal(b"share", PUBLIC, HEADER)
    for place in range(len(envelope)):
        altered = bytearray(envelope)
        altered[place] ^= 1
        with pytest.raises(BadEnvelope):
            unseal(bytes(altered), KEY)


@pytest.mark.parametrize("length", [0, 1, len(MAGIC), len(MAGIC) + 4, 60, 90])
def test_a_cut_envelope_is_refused(length):
    with pytest.raises(BadEnvelope):
        unseal(seal(b"share", PUBLIC, HEADER)[:length], KEY)


def test_an_envelope_for_one_task_does_not_open_under_another_header():
    first, second = seal(b"share", PUBLIC, HEADER), seal(b"share", PUBLIC, {**HEADER, "task": "0x03"})
    body = first[len(first) - 32 - 5 - 16 :]
    with pytest.raises(BadEnvelope):
        unseal(second[: len(second) - len(body)] + body, KEY)


def test_the_header_can_be_read_before_opening():
    assert header_of(seal(b"x", PUBLIC, HEADER)) == HEADER


def test_a_key_of_the_wrong_length_or_of_no_order_cannot_be_sealed_to():
    with pytest.raises(BadEnvelope):
        seal(b"x", b"short", HEADER)
    with pytest.raises(BadEnvelope):
        seal(b"x", bytes(32), HEADER)


def test_a_header_too_long_to_be_one_is_refused():
    with pytest.raises(BadEnvelope, match="over"):
        seal(b"x", PUBLIC, {"note": "x" * 20_000})
