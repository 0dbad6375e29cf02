"""A node's secp256k1 key in a file: encrypted under a password, or plain and readable by its user only."""

from __future__ import annotations

import json
import os
import secrets
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from sealtrace.contracts.errors import KeyExists, KeyUnusable
from sealtrace.protocol.accounts import Account
from sealtrace.protocol.identifiers import Address, address

VERSION = "sealtrace.key/1"
MAX_BYTES = 64 << 10
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key and the address it has on the chain. The key is not shown by ``repr``."""

    address: Address
    private_key: bytes = field(repr=False)

    @classmethod
    def create(cls, path: Path, password: str | None = None, *, private_key: bytes | None = None) -> Self:
        """Write a key (a fresh one, if none is given) to a file of mode 0600 that must not exist yet.

        With a password the file is an Ethereum keystore (version 3) that other wallets read too.

        Raises:
            KeyExists: there is a file already.
            KeyUnusable: the key is not one, or the file cannot be written.
        """
        key = cls._of(path, secrets.token_bytes(32) if private_key is None else private_key)
        content = (
            {"version": VERSION, "address": key.address, "private_key": "0x" + key.private_key.hex()}
            if password is None
            else Account.encrypt(key.private_key, password)
        )
        _write_new(path, json.dumps(content, indent=1).encode() + b"\n")
        return key

    @classmethod
    def load(cls, path: Path, password: str | None = None) -> Self:
        """Read a key file.

        Raises:
            KeyUnusable: it is missing, damaged or readable by others, or the password is wrong or missing.
        """
        content = _read(path)
        if content.get("version") == VERSION:
            key = cls._of(path, _hex_key(path, content))
        else:
            key = cls._of(path, _decrypted(path, content, password))
        named = str(content.get("address", key.address)).lower().removeprefix("0x")
        if named != key.address[2:]:
            raise KeyUnusable(str(path), "its address is not its key's: restore it from a copy")
        return key

    @classmethod
    def _of(cls, path: Path, private_key: bytes) -> Self:
        if len(private_key) != 32 or not 0 < int.from_bytes(private_key) < _ORDER:
            raise KeyUnusable(str(path), "the key is not 32 bytes of a secp256k1 key: make a new one")
        return cls(address(Account.from_key(private_key).address), private_key)


def _read(path: Path) -> dict[str, Any]:
    try:
        mode = path.stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyUnusable(str(path), f"others may read it (mode {stat.S_IMODE(mode):o}): chmod 600 it")
        with path.open("rb") as file:
            content = json.loads(file.read(MAX_BYTES))
    except FileNotFoundError as cause:
        raise KeyUnusable(str(path), "it is not there: check the path, or create it") from cause
    except OSError as cause:
        raise KeyUnusable(str(path), f"{cause.strerror}: check its permissions and the disk") from cause
    except ValueError as cause:
        raise KeyUnusable(str(path), "it is not a key file: restore it from a copy") from cause
    if not isinstance(content, dict):
        raise KeyUnusable(str(path), "it is not a key file: restore it from a copy")
    return content


def _hex_key(path: Path, content: dict[str, Any]) -> bytes:
    try:
        return bytes.fromhex(str(content["private_key"]).removeprefix("0x"))
    except (KeyError, ValueError) as cause:
        raise KeyUnusable(str(path), "it holds no key: restore it from a copy") from cause


def _decrypted(path: Path, content: dict[str, Any], password: str | None) -> bytes:
    if "crypto" not in content and "Crypto" not in content:
        raise KeyUnusable(str(path), "it is no key file of a kind we know: restore it from a copy")
    if password is None:
        raise KeyUnusable(str(path), "it is encrypted: give its password")
    try:
        return bytes(Account.decrypt(content, password))
    except (ValueError, TypeError, KeyError) as cause:
        raise KeyUnusable(str(path), f"it does not open with this password ({cause})") from cause


def _write_new(path: Path, content: bytes) -> None:
    """All of it or nothing: a crash must not leave half a key under the name."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".key-")  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)  # fails where rename would replace
        finally:
            os.unlink(temporary)
    except FileExistsError as cause:
        raise KeyExists(str(path)) from cause
    except OSError as cause:
        raise KeyUnusable(str(path), f"{cause.strerror}: check the directory and the disk") from cause
