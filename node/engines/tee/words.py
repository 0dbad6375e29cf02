"""What an enclave and the owners call their messages."""

from __future__ import annotations

from typing import Final

HELLO: Final = "tee.hello"
"""Owner to enclave, first: ``{"output": digest of what the owner delivers}``."""
WORD: Final = "tee.word"
"""Enclave to owner: ``{"send": input}``, and at the end ``{"statement", "outputs", "parts"}``."""
PART: Final = "tee.part"
"""Enclave to owner, last: the owner's part of each kept value, in the order of the word before."""
OFFER: Final = "tee.offer"
"""Owner to enclave, before an input: ``{"policy": text, "wrapped": hexadecimal}``."""
DATA: Final = "tee.data"
"""Owner to enclave: the sealed input, in pieces."""


def return_nonce(number: int) -> bytes:
    """The nonce of an owner's part number ``number``, under a key that is fresh for each run."""
    return number.to_bytes(12, "big")
