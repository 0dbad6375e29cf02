"""The salts of the dataset commitments. Whoever has one can test guesses of a dataset's content."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from sealtrace.node.errors import DiskFull, NodeError
from sealtrace.protocol.fingerprint import SALT_BYTES
from sealtrace.protocol.identifiers import Hex32


class SaltLost(NodeError):
    """The salt of a dataset is gone: its commitment can be neither checked nor opened."""

    next_step = "Restore vault/ from a backup, or add the dataset anew and grant its use anew."


class Vault:
    """One file for each salt, named by the commitment it opens, readable by the node's user only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def new_salt(self) -> bytes:
        """A fresh salt."""
        return secrets.token_bytes(SALT_BYTES)

    def keep(self, commitment: Hex32, salt: bytes) -> None:
        """Write the salt before the commitment is told to anybody.

        Raises:
            DiskFull: there is no room.
        """
        path = self._path(commitment)
        partial = path.with_suffix(".part")
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(salt)
                file.flush()
                os.fsync(file.fileno())
            partial.rename(path)
        except OSError as cause:
            if cause.errno != errno.ENOSPC:
                raise
            raise DiskFull(f"no room for the salt of {commitment}") from cause

    def salt(self, commitment: Hex32) -> bytes:
        """The salt that opens ``commitment``.

        Raises:
            SaltLost: there is none.
        """
        try:
            return self._path(commitment).read_bytes()
        except FileNotFoundError as cause:
            raise SaltLost(f"vault/ has no salt for {commitment}") from cause

    def _path(self, commitment: Hex32) -> Path:
        return self._folder / f"{commitment[2:]}.salt"
