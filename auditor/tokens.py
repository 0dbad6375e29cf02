"""The tokens with which regulators use the service: each has a name, and only its digest is kept."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from sealtrace.protocol.canonical import NotCanonical, parse
from sealtrace.protocol.faults import first_fault

FILE: Final = "tokens.json"
MAX_TOKENS: Final = 1000
RESERVED: Final = frozenset({"schedule", "service"})
"""Names under which the service itself speaks."""
_LONGEST: Final = 512
"""Characters of a bearer token that is looked at; ours have 43."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]


class TokenNameUnusable(ValueError):
    """A token's name is taken, also by one that was revoked, or not of 1 to 64 letters, digits and ._@-:
    choose another, so that the log of reads tells who it was."""


class TokenNotFound(LookupError):
    """There is no token of that name: list them with ``sealtrace audit token list``."""


class TokensUnreadable(OSError):
    """tokens.json cannot be read: mend it, or remove it and make new tokens."""


class Token(BaseModel):
    """A token's name, the SHA-256 of its secret, and from when to when (Unix seconds) it may be used."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Name
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created_at: int
    revoked_at: int | None = None


class _Tokens(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    tokens: list[Token] = Field(max_length=MAX_TOKENS)


class Tokens:
    """The tokens in ``folder``. Read anew each time, so that a revocation holds at once."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = folder / FILE
        self._clock = clock

    def add(self, name: str) -> str:
        """Make a token called ``name`` and return its secret, which is kept nowhere.

        Raises:
            TokenNameUnusable: the name is taken, or none.
        """
        secret = secrets.token_urlsafe(32)
        with self._changing() as known:
            if name in RESERVED or any(each.name == name for each in known):
                raise TokenNameUnusable(f"{name!r} is taken; a name is never given twice")
            try:
                known.append(Token(name=name, sha256=_digest(secret), created_at=int(self._clock())))
            except ValidationError as cause:
                raise TokenNameUnusable(f"{name[:80]!r} is not 1 to 64 letters, digits and ._@-") from cause
        return secret

    def revoke(self, name: str) -> Token:
        """End a token; one that was revoked before stays as it is.

        Raises:
            TokenNotFound: there is none of that name.
        """
        with self._changing() as known:
            for index, each in enumerate(known):
                if each.name == name:
                    at = int(self._clock()) if each.revoked_at is None else each.revoked_at
                    known[index] = each.model_copy(update={"revoked_at": at})
                    return known[index]
        raise TokenNotFound(f"there is no token {name!r}")

    def all(self) -> list[Token]:
        """Every token there was, in the order in which they were made.

        Raises:
            TokensUnreadable: the file cannot be read.
        """
        try:
            return list(_Tokens.model_validate(parse(self._path.read_bytes())).tokens)
        except FileNotFoundError:
            return []
        except (OSError, NotCanonical) as cause:
            raise TokensUnreadable(f"{self._path}: {cause}") from cause
        except ValidationError as cause:
            raise TokensUnreadable(f"{self._path}: {first_fault(cause.errors(), 'file')}") from cause

    def who(self, secret: str) -> str | None:
        """The name of the token whose secret this is, unless it was revoked.

        Every digest is compared, each in constant time: how long it takes tells nothing of which fits.
        """
        given, found = _digest(secret[:_LONGEST]), None
        for each in self.all():
            if hmac.compare_digest(given, each.sha256) and each.revoked_at is None:
                found = each.name
        return found

    @contextmanager
    def _changing(self) -> Iterator[list[Token]]:
        """The tokens, to be changed by nobody else meanwhile; written unless something is raised."""
        with self._path.with_suffix(".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = self.all()
            yield known
            fresh = self._path.with_suffix(".part")
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(_Tokens(tokens=known).model_dump_json(indent=1) + "\n")
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
