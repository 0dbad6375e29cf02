"""What commands that act on the chain share: reaching it, signing with a key file, saying what happened."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

import sqlalchemy
import typer

from sealtrace.contracts.calls import Call
from sealtrace.contracts.client import Chain, ChainSettings
from sealtrace.contracts.keys import KeyFile
from sealtrace.contracts.link import Link, number
from sealtrace.contracts.sender import Mined, Sender
from sealtrace.protocol.canonical import NotCanonical, parse
from sealtrace.protocol.identifiers import Address, Hex32, MalformedIdentifier, address, hex32
from sealtrace.protocol.records import Role

MAX_CARD_BYTES = 64 << 10
PASSWORD_VARIABLE = "SEALTRACE_KEY_PASSWORD"  # noqa: S105
"""The environment variable with the password of an encrypted key file."""

TIMEOUT_S = 10


class CardUnreadable(ValueError):
    """A file is not the card of a member: the member makes it with ``node card`` or ``task init``."""


class UnknownRole(ValueError):
    """A word is no role: name owner, compute, requester, provider or scheduler."""


def connect(rpc: str, directory: str) -> Chain:
    """The chain at an endpoint, whichever it is, with the contracts of a directory."""
    chain_id = number(Link.http(rpc, TIMEOUT_S).request("eth_chainId"))
    return Chain.connect(ChainSettings(rpc, chain_id, address(directory)))


def signing_key(path: Path) -> KeyFile:
    """The key in a file, opened with the password of the environment if it is encrypted."""
    return KeyFile.load(path, os.environ.get(PASSWORD_VARIABLE))


def act(call: Call, chain: Chain, key: Path) -> Mined:
    """Send one transaction. Its outbox lies beside the key, so that a crash is found by the next command."""
    engine = sqlalchemy.create_engine(f"sqlite:///{key.with_suffix('.outbox.db')}")
    try:
        sender = Sender(chain, signing_key(key).private_key, engine)
        sender.pump()
        return sender.send(f"{call.function}:{secrets.token_hex(8)}", call)
    finally:
        engine.dispose()


def tell(mined: Mined, *, as_json: bool) -> None:
    """Say what a transaction did."""
    names = ", ".join(event.name for event in mined.events)
    words = f"{names} in block {mined.block.number}, transaction {mined.transaction}"
    typer.echo(json.dumps(_outcome(mined)) if as_json else words)


def read_card(path: Path) -> tuple[Address, Hex32, Hex32]:
    """Address, TLS fingerprint (zero for who opens no port) and encryption key of a member.

    Raises:
        CardUnreadable: the file is not a card.
    """
    try:
        card = parse(path.read_bytes(), limit_bytes=MAX_CARD_BYTES)
        return address(card["address"]), hex32(card["tls_fingerprint"]), hex32(card["encryption_key"])
    except OSError as cause:
        raise CardUnreadable(f"{path}: {cause.strerror}") from cause
    except (NotCanonical, MalformedIdentifier, KeyError, TypeError, AttributeError) as cause:
        raise CardUnreadable(f"{path} is not a member's card ({cause}): have it made anew") from cause


def roles_of(words: list[str]) -> Role:
    """Roles from their names.

    Raises:
        UnknownRole: a name is no role.
    """
    roles = Role(0)
    for word in words:
        try:
            roles |= Role[word.strip().upper()]
        except KeyError:
            known = ", ".join(str(role.name).lower() for role in Role)
            raise UnknownRole(f"{word.strip()!r} is no role; there are {known}") from None
    return roles


def _outcome(mined: Mined) -> dict[str, Any]:
    events = [{"name": event.name, "args": dict(event.args)} for event in mined.events]
    return {"transaction": mined.transaction, "block": mined.block.number, "events": events}
