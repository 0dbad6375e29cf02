"""Logs to events, strictly, by the committed ABI."""

from __future__ import annotations

from collections.abc import Mapping

from sealtrace.auditor.events import Event, Value
from sealtrace.auditor.headers import RawLog
from sealtrace.contracts import abi
from sealtrace.contracts.errors import MalformedAnswer
from sealtrace.protocol.identifiers import Address
from sealtrace.protocol.records import BlockRef

UNREADABLE = "Unreadable"
"""The name of an event that is none of its contract's, or whose values are not what its ABI declares."""


def decode(log: RawLog, block: BlockRef, contracts: Mapping[Address, str]) -> Event:
    """The event that ``log`` is. One that cannot be read becomes an event of its own kind, and a finding:
    it must neither stop an audit nor be passed over."""
    declared = abi.events(contracts[log.address]).get(log.topics[0]) if log.topics else None
    name, args = (UNREADABLE, {}) if declared is None else _values(declared, log)
    return Event(name, log.address, args, block, log.transaction, log.index)


def _values(declared: abi.Event, log: RawLog) -> tuple[str, dict[str, Value]]:
    topics, data = log.topics[1:], bytes.fromhex(log.data[2:])
    if len(topics) != len(declared.indexed) or len(data) != 32 * len(declared.data):
        return UNREADABLE, {}
    content = b"".join(bytes.fromhex(topic[2:]) for topic in topics) + data
    parameters = (*declared.indexed, *declared.data)
    try:
        values = abi.decode_values([each.type for each in parameters], content, declared.name)
    except MalformedAnswer:
        return UNREADABLE, {}
    return declared.name, {each.name: value for each, value in zip(parameters, values, strict=True)}
