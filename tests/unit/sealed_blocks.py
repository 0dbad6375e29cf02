"""Blocks as the validators of a QBFT or IBFT 2.0 chain seal them, made with other libraries than ours."""

from __future__ import annotations

import hashlib

import rlp
from eth_keys.datatypes import PrivateKey
from fake_endpoint import block

from sealtrace.auditor.headers import QBFT_MIX, header_rlp, keccak, read_header
from sealtrace.auditor.seals import on_chain
from sealtrace.protocol.identifiers import Address, hex32

QBFT, IBFT2 = "QBFT", "IBFT 2.0"
ADD, DROP = b"\xff", {QBFT: b"", IBFT2: b"\x00"}
KEYS = [PrivateKey(hashlib.sha256(b"validator %d" % n).digest()) for n in range(10)]
NOBODYS = "0x" + "00" * 32


def of(key):
    return Address(key.public_key.to_address())


WHO = {of(key): key for key in KEYS}


def validators(count, first=0):
    """The addresses of so many validators, as a header lists them."""
    return tuple(sorted(of(key) for key in KEYS[first : first + count]))


def enough(listed):
    """As few of the listed as may seal."""
    return list(listed)[: -(-2 * len(listed) // 3)]


def sealed(plain, scheme, listed, signers=None, vote=None, round_=0, altered=lambda seals: seals):
    """``plain``, a block as JSON, sealed by ``signers`` of those it lists, by as few as may by default.

    ``vote`` is an address and whether to add it; ``altered`` may do something to the seals.
    """

    def extra(seals, *, on_chain_hash=False):
        head = [bytes(32), [bytes.fromhex(each[2:]) for each in listed], words]
        if scheme == IBFT2:
            tail = [] if on_chain_hash else [round_.to_bytes(4, "big")]
            return rlp.encode([*head, *tail, *([seals] if seals is not None else [])])
        number = b"" if on_chain_hash or not round_ else round_.to_bytes(1, "big")
        return rlp.encode([*head, number, seals or []])

    def hashed(extra_data):
        return keccak(header_rlp(made | {"extraData": "0x" + extra_data.hex()}))

    if vote is None:
        words = [] if scheme == QBFT else b""
    else:
        words = [bytes.fromhex(vote[0][2:]), ADD if vote[1] else DROP[scheme]]
    made = plain | {"mixHash": QBFT_MIX, "difficulty": "0x1"}
    message = hashed(extra(None))
    keys = [WHO[each] for each in (enough(listed) if signers is None else signers)]
    seals = altered([key.sign_msg_hash(message).to_bytes() for key in keys])
    whole = {"extraData": "0x" + extra(seals).hex(), "hash": hex32(hashed(extra(None, on_chain_hash=True)))}
    return made | whole


def header(number, scheme, listed, signers=None, *, parent=NOBODYS, **more):
    """A sealed header as the auditor reads it."""
    return on_chain(read_header(sealed(block(number, parent, number), scheme, listed, signers, **more)))
