"""What a node reads of the chain, and how often."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from sealtrace.contracts import calls
from sealtrace.contracts.calls import Call
from sealtrace.contracts.errors import ChainUnreachable, FinalBlockReplaced
from sealtrace.contracts.events import ChainEvent
from sealtrace.contracts.terms import task_id
from sealtrace.node.chain import ChainActs, ChainReader, TermsNotFound
from sealtrace.node.errors import ChainRewritten, ChainUnavailable
from sealtrace.node.wiring import aside
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds, hex32
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


CHAIN_ID = 5
OTHER_PARTY = Address("0x" + "f" * 40)
TERMS = [
    TaskTerms(
        NODE,
        hex32(bytes([n]) * 32),
        TASK,
        Protection.MPC_ABY3,
        UnixSeconds(2_000),
        (NODE, OTHER_PARTY),
        (Use(0, *[TASK] * 3),),
    )
    for n in range(1, 4)
]
TASKS = {task_id(CHAIN_ID, NODE, terms): terms for terms in TERMS}


def creation(task):
    terms = TASKS[task]
    said = {"spec": terms.spec, "purpose": terms.purpose, "protections": 1, "deadline": 2_000}
    (use,) = terms.uses
    hashes = {"dataset": use.dataset, "algorithm": use.algorithm, "grant": use.grant}
    return [
        event("TaskCreated", task, requester=NODE, **said),
        event("TaskUseNamed", task, party=NODE, epsilon=0, **hashes),
        event("TaskPartyNamed", task, party=OTHER_PARTY),
    ]


def event(name, task, **args):
    args = {"task": task, **args}
    return ChainEvent(name, "TaskLedger", NODE, args, BLOCK.number, BLOCK.hash, None, TASK, 0)


class Ledger(Client):
    """A client of a chain with one block in which three tasks were created."""

    def __init__(self, hidden: int = 0) -> None:
        super().__init__()
        self.hidden = hidden

    def events(self, first, last, **chosen):
        self.asked.append((first, last))
        found = [one for task in TASKS for one in creation(task)]
        self.hidden, hidden = 0, self.hidden
        return found[: len(found) - hidden]

    def task_id(self, terms):
        return task_id(CHAIN_ID, NODE, terms)


def named(*tasks, block=BLOCK.number):
    return [replace(event("TaskPartyNamed", task), block_number=block) for task in tasks]


def test_the_terms_of_many_tasks_are_read_with_one_question():
    ledger = Ledger()
    reader = ChainReader(ledger)  # type: ignore[arg-type]
    first, *others = TASKS
    assert reader.terms([*named(first, block=3), *named(*others)]) == TASKS
    assert ledger.asked == [(3, BLOCK.number)]


def test_nothing_is_asked_where_no_task_is_named():
    ledger = Ledger()
    assert ChainReader(ledger).terms([]) == {}  # type: ignore[arg-type]
    assert ledger.asked == []


@pytest.mark.parametrize("hidden", [1, 9])
def test_blocks_whose_logs_were_not_all_there_are_read_again(hidden):
    reader = ChainReader(Ledger(hidden))  # type: ignore[arg-type]
    with pytest.raises(TermsNotFound):
        reader.terms(named(*TASKS))
    assert reader.terms(named(*TASKS)) == TASKS


def test_an_event_that_names_a_task_by_another_id_is_not_believed():
    reader = ChainReader(Ledger())  # type: ignore[arg-type]
    with pytest.raises(TermsNotFound):
        reader.terms(named(TASK))


def test_a_final_block_that_was_replaced_stops_the_node_and_is_not_tried_again():
    class Rewritten(Client):
        def finalized(self) -> BlockRef:
            raise FinalBlockReplaced(7, BLOCK.hash, OTHER.hash)

    with pytest.raises(ChainRewritten, match=OTHER.hash):
        ChainReader(Rewritten()).finalized()  # type: ignore[arg-type]


def test_progress_is_handed_over_once_for_a_step_and_not_waited_for():
    class Sender:
        submitted: ClassVar[list[Any]] = []

        def submit(self, intent: str, call: Call) -> None:
            self.submitted.append((intent, call))

    ChainActs(Sender(), timeout_s=1).progress(TASK, TERMS[0], 2)  # type: ignore[arg-type]
    assert Sender.submitted == [(f"{TASK}:progress:2", calls.progress(TERMS[0], 2, 0))]


def test_what_is_done_aside_is_not_waited_for():
    go_on, done = threading.Event(), threading.Event()
    aside(lambda: go_on.wait(30) and done.set())
    assert not done.is_set()
    go_on.set()
    assert done.wait(30)
