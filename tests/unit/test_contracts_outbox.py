"""What is stored of a transaction, and what is never forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from sealtrace.contracts.outbox import Outbox, State, Stored
from sealtrace.node.store import Store as NodeStore
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds
from sealtrace.protocol.records import BlockRef

ME = Address("0x" + "aa" * 20)
SOMEBODY_S = Hex32("0x" + "99" * 32)


def hash_of(n: int) -> Hex32:
    return Hex32(f"0x{n:064x}")


def block(number: int, branch: int = 0) -> BlockRef:
    return BlockRef(number, hash_of(number * 100 + branch), UnixSeconds(1))


def signing(version: int):  # type: ignore[no-untyped-def]
    return lambda nonce: (bytes([nonce, version]), hash_of(1000 * version + nonce))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    made = sa.create_engine(f"sqlite:///{tmp_path / 'outbox.db'}")
    yield made
    made.dispose()


@pytest.mark.parametrize("opened", [lambda engine: Outbox(engine, 1, ME), NodeStore])
def test_every_table_may_be_created_by_another_process_between_our_look_and_our_act(
    engine: sa.Engine, opened: Callable[[sa.Engine], object]
) -> None:
    other = sa.create_engine(engine.url)
    taken: list[str] = []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def first(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.lstrip().startswith("CREATE TABLE"):
            taken.append(statement)
            with other.begin() as db:
                db.exec_driver_sql(statement)

    opened(engine)
    assert sorted(sa.inspect(other).get_table_names()) == sorted(each.split()[2] for each in taken)
    assert len(taken) > 2
    other.dispose()


def test_a_database_that_takes_no_tables_is_not_asked_for_ever(engine: sa.Engine) -> None:
    with engine.begin() as db:
        db.exec_driver_sql("CREATE VIEW outbox AS SELECT 1")
    with pytest.raises(sa.exc.DBAPIError):
        Outbox(engine, 1, ME)


@pytest.fixture
def outbox(engine: sa.Engine) -> Outbox:
    return Outbox(engine, 1, ME)


@pytest.fixture
def row(outbox: Outbox) -> Stored:
    return outbox.sent(outbox.add("act", "Some", 7, signing(1), 10.0))


def found(outbox: Outbox, intent: str = "act") -> Stored:
    row = outbox.find(intent)
    assert row is not None
    return row


def test_an_inclusion_is_recorded_and_taken_back(outbox: Outbox, row: Stored) -> None:
    outbox.included(row, row.hash, block(5))
    there = found(outbox)
    assert (there.state, there.block, there.included_as) == (State.INCLUDED, 5, row.hash)
    back = outbox.taken_back(there, 20.0)
    assert (back.state, back.block, back.waits_since) == (State.SENT, None, 20.0)
    assert [(each.block, each.block_hash) for each in outbox.undone()] == [(5, block(5).hash)]


def test_another_block_takes_the_place_of_the_one_before(outbox: Outbox, row: Stored) -> None:
    outbox.included(row, row.hash, block(5))
    outbox.included(found(outbox), row.hash, block(6))
    outbox.included(found(outbox), row.hash, block(6))
    assert found(outbox).block == 6
    assert len(outbox.undone()) == 1


def test_two_processes_that_see_an_inclusion_undone_record_it_once(outbox: Outbox, row: Stored) -> None:
    outbox.included(row, row.hash, block(5))
    there = found(outbox)
    outbox.taken_back(there, 20.0)
    outbox.taken_back(there, 21.0)
    assert len(outbox.undone()) == 1


def test_a_dearer_version_keeps_the_nonce_and_the_earlier_one_is_not_forgotten(
    outbox: Outbox, row: Stored
) -> None:
    dearer = outbox.supersede(row, signing(2), 30.0)
    assert (dearer.nonce, dearer.hash, dearer.state) == (7, hash_of(2007), State.SENT)
    assert outbox.superseded(dearer) == [row.hash]


def test_two_processes_that_raise_a_fee_raise_it_once(outbox: Outbox, row: Stored) -> None:
    outbox.supersede(row, signing(2), 30.0)
    again = outbox.supersede(row, signing(3), 30.0)
    assert again.hash == hash_of(2007)
    assert outbox.superseded(again) == [row.hash]


def test_the_earlier_version_may_be_the_one_that_became_final(outbox: Outbox, row: Stored) -> None:
    dearer = outbox.supersede(row, signing(2), 30.0)
    outbox.final(dearer, State.MINED, row.hash, block(5))
    assert found(outbox).transaction == row.hash
    assert found(outbox).is_over


@pytest.mark.parametrize("state", [State.MINED, State.REVERTED])
def test_a_final_state_is_never_left(outbox: Outbox, row: Stored, state: State) -> None:
    outbox.final(row, state, row.hash, block(5))
    final = found(outbox)
    outbox.included(row, row.hash, block(6))
    outbox.final(row, State.MINED, hash_of(1), block(7))
    outbox.taken_back(replace(final, state=State.INCLUDED), 1.0)
    outbox.supersede(row, signing(2), 1.0)
    outbox.renumber(row, SOMEBODY_S, 9, signing(3), 1.0)
    outbox.needless(row, SOMEBODY_S)
    assert found(outbox) == final
    assert outbox.unfinished() == []
    assert outbox.replaced() == outbox.undone() == []
    assert outbox.newest_final() == final


def test_versions_of_a_nonce_that_was_lost_are_not_looked_for(outbox: Outbox, row: Stored) -> None:
    dearer = outbox.supersede(row, signing(2), 30.0)
    anew = outbox.renumber(dearer, SOMEBODY_S, 9, signing(3), 40.0)
    assert (anew.nonce, anew.state) == (9, State.QUEUED)
    assert outbox.superseded(anew) == []


def test_a_nonce_in_use_is_not_filled(outbox: Outbox, row: Stored) -> None:
    assert outbox.fill("gap 7", "gap", 7, signing(4), 1.0) is None
    filled = outbox.fill("gap 5", "gap", 5, signing(4), 1.0)
    assert filled is not None
    assert filled.nonce == 5
    assert outbox.fill("gap 5", "gap", 5, signing(5), 1.0) == filled


def test_an_outbox_of_an_earlier_version_is_carried_on(engine: sa.Engine) -> None:
    with engine.begin() as db:
        db.execute(
            sa.text(
                "create table outbox (id integer primary key, chain_id bigint, account varchar(42), "
                "intent varchar(200), contract varchar(64), nonce bigint, raw blob, hash varchar(66), "
                "state varchar(16), block bigint, reason text)"
            )
        )
        values = {"account": ME, "raw": b"\1", "hash": hash_of(1)}
        db.execute(
            sa.text(
                "insert into outbox values "
                "(1, 1, :account, 'old', 'Some', 3, :raw, :hash, 'sent', null, null)"
            ),
            values,
        )
    outbox = Outbox(engine, 1, ME)
    old = found(outbox, "old")
    assert (old.state, old.block_hash, old.waits_since) == (State.SENT, None, 0.0)
    outbox.final(old, State.MINED, old.hash, block(5))
    assert Outbox(engine, 1, ME).newest_final() == found(outbox, "old")
