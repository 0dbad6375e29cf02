"""What the auditor makes of a chain in this process: its own replay, held to what the contracts store."""

from __future__ import annotations

import msgspec
from chain_world import World
from engines import Revm

from sealtrace.auditor.audit import audit
from sealtrace.auditor.case import Case, Level, Parameters, Proof, Snapshot
from sealtrace.auditor.decoding import decode
from sealtrace.auditor.events import Event
from sealtrace.auditor.findings import Finding
from sealtrace.auditor.headers import ToldLog, read_logs
from sealtrace.auditor.layout import StoredRecords
from sealtrace.auditor.replay import replay
from sealtrace.auditor.storage import read_snapshot
from sealtrace.auditor.world import World as Replayed
from sealtrace.protocol.identifiers import address


def events_of(world: World) -> list[Event]:
    """Everything the contracts have told, as the auditor decodes it."""
    assert isinstance(world.engine, Revm)
    contracts = world.chain.contracts
    told = [(ref, log) for ref, log in world.engine.logs() if address(log["address"]) in contracts]
    logs = read_logs([msgspec.convert(log, ToldLog) for _, log in told])
    return [decode(log, ref, contracts) for (ref, _), log in zip(told, logs, strict=True)]


def stored_twice(world: World, replayed: Replayed) -> tuple[Snapshot, Snapshot]:
    """Contract storage by the contracts' own functions, and by where their records lie in their slots."""
    assert isinstance(world.engine, Revm)
    at, generations = world.engine.head, world.chain.generations()
    slots = [StoredRecords(each.addresses, world.engine) for each in generations]
    return read_snapshot(generations, replayed, at), read_snapshot(slots, replayed, at)


def differences(world: World, replayed: Replayed, snapshot: Snapshot) -> tuple[Finding, ...]:
    """Where contract storage is not what the replay comes to."""
    last = world.engine.head
    case = Case(
        chain_id=world.engine.chain_id,
        directory=world.chain.settings.directory,
        first=0,
        last=last,
        world=replayed,
        proof=Proof(Level.RPC_TRUSTED, "a chain in this process", 0, last.number),
        snapshot=snapshot,
        parameters=Parameters(rule="ST-S01"),
    )
    done = audit(case)
    (row,) = done.rows
    assert row.satisfied + row.violated > 20
    assert not row.undetermined
    return done.findings


def replayed_from(world: World) -> Replayed:
    """The state that the auditor's machine comes to."""
    return replay(events_of(world))
