"""What a node reads of the chain, and how often."""

from __future__ import annotations

from typing import Any

import pytest

from sealtrace.contracts.errors import ChainUnreachable, FinalBlockReplaced
from sealtrace.node.chain import ChainReader
from sealtrace.node.errors import ChainRewritten, ChainUnavailable
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds
from sealtrace.protocol.records import BlockRef

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


def test_a_final_block_that_was_replaced_stops_the_node_and_is_not_tried_again():
    class Rewritten(Client):
        def finalized(self) -> BlockRef:
            raise FinalBlockReplaced(7, BLOCK.hash, OTHER.hash)

    with pytest.raises(ChainRewritten, match=OTHER.hash):
        ChainReader(Rewritten()).finalized()  # type: ignore[arg-type]
