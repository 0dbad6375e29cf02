"""What a node reads of the chain, and how often."""

from __future__ import annotations

from typing import Any

import pytest

from sealtrace.contracts.client import TaskRecord
from sealtrace.contracts.errors import ChainUnreachable
from sealtrace.contracts.events import ChainEvent
from sealtrace.contracts.terms import terms_hash
from sealtrace.node.chain import ChainReader, TermsNotFound
from sealtrace.node.errors import ChainUnavailable
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds, hex32
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.records import BlockRef, Protection, TaskTerms, Use

NODE = Address("0x" + "11" * 20)
TASK = Hex32("0x" + "22" * 32)
BLOCK = BlockRef(7, Hex32("0x" + "aa" * 32), UnixSeconds(1_000))
OTHER = BlockRef(7, Hex32("0x" + "bb" * 32), UnixSeconds(1_000))


class Client:
    """Counts what it is asked; ``down`` for as many questions as it does not answer."""

    def __init__(self, down: int = 0) -> None:
        self.asked: list[Any] = []
        self.down = down

    def node(self, node: Address, *, at: BlockRef) -> str:
        self.asked.append((node, at))
        if self.down:
            self.down -= 1
            raise ChainUnreachable("http://127.0.0.1:1", "nobody there")
        return f"{node} at {at.hash}"

    def task(self, task: Hex32, *, at: BlockRef) -> None:
        self.asked.append((task, at))


def test_one_block_is_asked_once_about_one_thing():
    client = Client()
    reader = ChainReader(client)  # type: ignore[arg-type]
    assert reader.node(NODE, at=BLOCK) == reader.node(NODE, at=BLOCK)
    assert reader.task(TASK, at=BLOCK) is reader.task(TASK, at=BLOCK) is None
    assert client.asked == [(NODE, BLOCK), (TASK, BLOCK)]


def test_a_block_of_the_same_height_with_another_hash_is_another_block():
    client = Client()
    reader = ChainReader(client)  # type: ignore[arg-type]
    assert reader.node(NODE, at=BLOCK) != reader.node(NODE, at=OTHER)


def test_a_question_that_was_not_answered_is_asked_again():
    client = Client(down=1)
    reader = ChainReader(client)  # type: ignore[arg-type]
    with pytest.raises(ChainUnavailable):
        reader.node(NODE, at=BLOCK)
    assert reader.node(NODE, at=BLOCK)


TASKS = [hex32(bytes([n]) * 32) for n in range(1, 4)]
TERMS = {
    task: TaskTerms(task, TASK, Protection.MPC_ABY3, UnixSeconds(2_000), (NODE,), (Use(0, TASK, TASK, task),))
    for task in TASKS
}


def creation(task):
    terms = TERMS[task]
    said = {"spec": terms.spec, "purpose": terms.purpose, "protections": 1, "deadline": 2_000}
    (use,) = terms.uses
    spent = {"party": 0, "dataset": use.dataset, "algorithm": use.algorithm, "grant": use.grant}
    return [
        event("TaskCreated", task, requester=NODE, **said),
        event("TaskPartyNamed", task, index=0, party=NODE),
        event("TaskUseNamed", task, index=0, **spent),
    ]


def event(name, task, **args):
    args = {"task": task, **args}
    return ChainEvent(name, "TaskLedger", args, BLOCK.number, BLOCK.hash, None, TASK, 0)


class Ledger(Client):
    """A client of a chain with one block in which three tasks were created."""

    def __init__(self, hidden: int = 0) -> None:
        super().__init__()
        self.hidden = hidden

    def block(self, number):
        return BLOCK

    def events(self, first, last, **chosen):
        self.asked.append((first, last))
        found = [one for task in TASKS for one in creation(task)]
        self.hidden, hidden = 0, self.hidden
        return found[: len(found) - hidden]

    def task(self, task, *, at):
        return TaskRecord(
            task, NODE, TaskState.CREATED, UnixSeconds(2_000), 1, 0, 0, 0, terms_hash(TERMS[task]), TASK
        )


def test_the_tasks_of_one_block_are_read_together():
    ledger = Ledger()
    reader = ChainReader(ledger)  # type: ignore[arg-type]
    for task in TASKS:
        named = event("TaskPartyNamed", task)
        assert reader.terms(named) == TERMS[task]
        assert reader.requester(named) == NODE
    assert ledger.asked == [(BLOCK.number, BLOCK.number)]


def test_a_block_whose_logs_were_not_all_there_is_read_again():
    reader = ChainReader(Ledger(hidden=1))  # type: ignore[arg-type]
    named = event("TaskPartyNamed", TASKS[-1])
    with pytest.raises(TermsNotFound):
        reader.terms(named)
    assert reader.terms(named) == TERMS[TASKS[-1]]
    reader = ChainReader(Ledger(hidden=9))  # type: ignore[arg-type]
    with pytest.raises(TermsNotFound):
        reader.requester(named)
    assert reader.requester(named) == NODE
