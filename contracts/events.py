"""The contracts' events as values, and how they are asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sealtrace.contracts import abi
from sealtrace.contracts.abi import Event, decode_values, plain
from sealtrace.contracts.errors import MalformedAnswer
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds, hex32

JsonValue = str | int | bool


@dataclass(frozen=True, slots=True)
class ChainEvent:
    """One event of one of our contracts, and where it stands on the chain.

    ``timestamp`` is the block's, where the endpoint says it with the log, otherwise ``None``.
    """

    name: str
    contract: str
    address: Address
    args: Mapping[str, JsonValue]
    block_number: int
    block_hash: Hex32
    timestamp: UnixSeconds | None
    transaction: Hex32
    log_index: int


@dataclass(frozen=True, slots=True)
class Query:
    """One ``eth_getLogs``: these contracts' events, with these values in their topics."""

    addresses: tuple[Address, ...]
    topics: tuple[tuple[str, ...] | str | None, ...]


NAMES = frozenset(event.name for contract in abi.CONTRACTS for event in abi.events(contract).values())
"""The name of every event the contracts can emit."""


def queries(
    contracts: Mapping[Address, str],
    names: Collection[str] | None,
    task: Hex32 | None,
    party: Address | None,
) -> list[Query]:
    """The fewest queries that find events called ``names`` (all, if ``None``) about ``task`` and ``party``.

    Where ``task`` or ``party`` is given, an event that has no such value is not asked for.
    """
    shapes: dict[tuple[int | None, int | None], list[tuple[Address, str]]] = {}
    for address, contract in contracts.items():
        for event in abi.events(contract).values():
            if names is not None and event.name not in names:
                continue
            places = (event.position("task"), event.position("party"))
            if (task and not places[0]) or (party and not places[1]):
                continue
            shape = (places[0] if task else None, places[1] if party else None)
            shapes.setdefault(shape, []).append((address, event.topic))
    return [_query(shape, wanted, task, party) for shape, wanted in shapes.items()]


def read_log(log: Mapping[str, Any], contracts: Mapping[Address, str]) -> ChainEvent | None:
    """The event in a log as JSON-RPC shows it; ``None`` for one that is not of ``contracts``.

    Raises:
        MalformedAnswer: a contract of ours emitted something its ABI does not have.
    """
    contract = contracts.get(Address(str(log["address"]).lower()))
    if contract is None:
        return None
    topics = [hex32(_bytes(topic)) for topic in log["topics"]]
    event = abi.events(contract).get(topics[0]) if topics else None
    if event is None or len(topics) != len(event.indexed) + 1:
        raise MalformedAnswer(f"a log of {contract}", "it has no such event")
    return ChainEvent(
        name=event.name,
        contract=contract,
        address=Address(str(log["address"]).lower()),
        args=_args(event, topics[1:], _bytes(log["data"])),
        block_number=_int(log["blockNumber"]),
        block_hash=hex32(_bytes(log["blockHash"])),
        timestamp=UnixSeconds(_int(log["blockTimestamp"])) if log.get("blockTimestamp") else None,
        transaction=hex32(_bytes(log["transactionHash"])),
        log_index=_int(log["logIndex"]),
    )


def _query(
    shape: tuple[int | None, int | None],
    wanted: list[tuple[Address, str]],
    task: Hex32 | None,
    party: Address | None,
) -> Query:
    topics: list[tuple[str, ...] | str | None] = [tuple(dict.fromkeys(topic for _, topic in wanted))]
    topics += [None] * max(place or 0 for place in shape)
    for place, value in zip(shape, (task, party and "0x" + "00" * 12 + party[2:]), strict=True):
        if place:
            topics[place] = value
    return Query(tuple(dict.fromkeys(address for address, _ in wanted)), tuple(topics))


def _args(event: Event, topics: list[Hex32], data: bytes) -> dict[str, JsonValue]:
    what = f"the event {event.name}"
    found: dict[str, JsonValue] = {}
    for parameter, topic in zip(event.indexed, topics, strict=True):
        (found[parameter.name],) = decode_values([parameter.type], bytes.fromhex(topic[2:]), what)
    values = decode_values([each.type for each in event.data], data, what)
    found.update((each.name, value) for each, value in zip(event.data, values, strict=True))
    return found


def _bytes(value: Any) -> bytes:
    return bytes.fromhex(plain(value)[2:])


def _int(value: Any) -> int:
    return int(value, 16) if isinstance(value, str) else int(value)
