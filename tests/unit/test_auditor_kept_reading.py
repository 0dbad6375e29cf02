"""A kept reading says what a fresh one says when gone on with; what does not fit is refused or a finding."""

from __future__ import annotations

from dataclasses import replace

import pytest
from auditor_story import CHAIN_ID, DIRECTORY, Story, honest
from bundle_story import CONTRACTS, FakeChain
from fake_endpoint import block

from sealtrace.auditor.audit import audit
from sealtrace.auditor.following import BehindReading, ChainSource, go_on, read_all
from sealtrace.auditor.kept import KeptReading, ReadingDamaged, ReadingInUse, ReadingOfAnother, Subject
from sealtrace.auditor.rpc import EndpointTalksNonsense, EndpointUnreachable
from sealtrace.protocol.identifiers import Hex32, UnixSeconds
from sealtrace.protocol.records import BlockRef

SUBJECT = Subject(CHAIN_ID, DIRECTORY, False)


def source(chain, number, contracts=CONTRACTS):
    made = chain.blocks[number]
    last = BlockRef(number, Hex32(made["hash"]), UnixSeconds(int(made["timestamp"], 16)))
    return ChainSource(chain.rpc(), contracts, last)


def read_to(folder, chain, number, subject=SUBJECT, contracts=CONTRACTS):
    """As an audit reads with ``--resume``."""
    with KeptReading(folder, subject, contracts) as kept:
        if kept.standing is None:
            return read_all(source(chain, number, contracts), 0, kept, trusting=subject.trusting)
        return go_on(source(chain, number, contracts), kept)


class Counting(FakeChain):
    """Counts the blocks that were asked for."""

    asked = 0

    def result(self, method, params):
        self.asked += method == "eth_getBlockByNumber"
        return super().result(method, params)


@pytest.fixture(scope="module")
def chain():
    story = honest()
    story.mine(3)
    return Counting(story)


@pytest.mark.parametrize("trusting", [False, True])
@pytest.mark.parametrize("stops", [(0,), (7,), (7, 8, 30), tuple(range(0, 40, 5))])
def test_gone_on_with_it_says_what_a_reading_at_once_says(tmp_path, chain, stops, trusting):
    end, subject = len(chain.blocks) - 1, subject_of(trusting)
    for stop in stops:
        read_to(tmp_path, chain, stop, subject)
    resumed = read_to(tmp_path, chain, end, subject)
    fresh = read_all(source(chain, end), 0, trusting=trusting)
    assert resumed.events == fresh.events
    assert resumed.proof == fresh.proof
    assert [resumed.blocks.ref(n) for n in range(end + 1)] == [fresh.blocks.ref(n) for n in range(end + 1)]
    assert resumed.proof.level == (1 if trusting else 2)


def subject_of(trusting):
    return Subject(CHAIN_ID, DIRECTORY, trusting)


def test_nothing_is_read_twice(tmp_path, chain):
    end = len(chain.blocks) - 1
    read_to(tmp_path, chain, end - 2)
    before = chain.asked
    read_to(tmp_path, chain, end)
    assert chain.asked - before == 2 + 1  # the new ones, and whether the last of the old ones still stands


def test_what_was_found_before_is_found_after(tmp_path, chain):
    class Liar(FakeChain):
        def logs(self):
            return [each for each in super().logs() if each["blockNumber"] != "0x3"]

    story = honest()
    story.mine(3)
    liar, end = Liar(story), len(chain.blocks) - 1
    read_to(tmp_path, liar, 10)
    resumed = read_to(tmp_path, liar, end)
    assert resumed.proof.log_problems
    assert resumed.proof == read_all(source(liar, end), 0).proof
    assert resumed.events == read_all(source(chain, end), 0).events


def forked(chain, at):
    """The same chain, from the block ``at`` on with other hashes."""
    made = FakeChain(Story())
    made.blocks, made.receipts = list(chain.blocks[:at]), chain.receipts
    for known in chain.blocks[at:]:
        fields = {name: known[name] for name in ("receiptsRoot", "logsBloom", "baseFeePerGas")}
        number, time = int(known["number"], 16), int(known["timestamp"], 16)
        parent = made.blocks[-1]["hash"]
        made.blocks.append(block(number, parent, time, extraData="0x66", **fields))
    return made


@pytest.mark.parametrize("at", [1, 2, 19, 20])
def test_a_block_replaced_below_the_last_one_is_a_critical_finding_and_all_is_read_anew(tmp_path, chain, at):
    end, other = len(chain.blocks) - 1, forked(chain, at)
    read_to(tmp_path, chain, 20)
    found = read_to(tmp_path, other, end)
    (replaced,) = found.proof.replaced
    assert (replaced.block, replaced.checkpoint) == (at, 20)
    assert (replaced.expected, replaced.observed) == (chain.blocks[at]["hash"], other.blocks[at]["hash"])
    assert replace(found.proof, replaced=()) == read_all(source(other, end), 0).proof
    case = replace(honest().case(), proof=found.proof)
    told = [(each.rule, each.severity.value, each.object) for each in audit(case).findings]
    assert told == [("PR-06", "critical", f"block {at}")]


def test_a_replaced_block_is_not_forgotten_by_later_readings(tmp_path, chain):
    end, other = len(chain.blocks) - 1, forked(chain, 12)
    read_to(tmp_path, chain, 20)
    first = read_to(tmp_path, other, 25)
    again = read_to(tmp_path, other, end)
    assert again.proof.replaced == first.proof.replaced
    back = read_to(tmp_path, chain, end)
    assert [each.block for each in back.proof.replaced] == [12, 12]


def test_a_head_before_what_was_read_is_no_verdict(tmp_path, chain):
    read_to(tmp_path, chain, 20)
    with pytest.raises(BehindReading, match="the last block is 19, and 20 was read already"):
        read_to(tmp_path, chain, 19)
    assert read_to(tmp_path, chain, 20).proof.last == 20


def test_contracts_announced_since_are_read_from_the_start(tmp_path, chain):
    end = len(chain.blocks) - 1
    fewer = dict(list(CONTRACTS.items())[:-1])
    read_to(tmp_path, chain, 20, contracts=fewer)
    assert read_to(tmp_path, chain, end).events == read_all(source(chain, end), 0).events


def test_a_reading_broken_off_goes_on_from_where_it_was_saved(tmp_path, chain, monkeypatch):
    monkeypatch.setattr("sealtrace.auditor.following.BLOCKS_PER_SAVE", 5)
    monkeypatch.setattr("sealtrace.auditor.fetching.NARROWEST", 5)
    monkeypatch.setattr("sealtrace.auditor.fetching.WIDEST", 5)
    end, story = len(chain.blocks) - 1, honest()
    story.mine(3)
    dying = FakeChain(story)
    known = dying.result
    dying.result = lambda method, params: {"result": None} if params[0] == hex(33) else known(method, params)
    with pytest.raises((EndpointTalksNonsense, EndpointUnreachable)):
        read_to(tmp_path, dying, end)
    before = chain.asked
    resumed = read_to(tmp_path, chain, end)
    assert chain.asked - before <= len(chain.blocks) - 25
    fresh = read_all(source(chain, end), 0)
    assert (resumed.events, resumed.proof) == (fresh.events, fresh.proof)


def test_what_was_added_and_not_saved_does_not_count(tmp_path, chain):
    read_to(tmp_path / "kept", chain, 20)
    for name in ("logs.msgpack", "blocks.bin"):
        with (tmp_path / "kept" / name).open("ab") as file:
            file.write(b"half of one")
    end = len(chain.blocks) - 1
    assert read_to(tmp_path / "kept", chain, end).events == read_all(source(chain, end), 0).events


@pytest.mark.parametrize("name", ["logs.msgpack", "blocks.bin", "bookmark.json"])
@pytest.mark.parametrize("spoil", [lambda content: content[:-1], lambda content: b"\1" + content[1:]])
def test_a_damaged_file_is_named(tmp_path, chain, name, spoil):
    read_to(tmp_path, chain, 20)
    path = tmp_path / name
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ReadingDamaged, match=name):
        read_to(tmp_path, chain, 20)


def test_a_reading_of_another_chain_or_read_in_another_way_is_not_gone_on_with(tmp_path, chain):
    read_to(tmp_path, chain, 20)
    others = (Subject(8, DIRECTORY, False), Subject(CHAIN_ID, "0x" + "1" * 40, False), subject_of(True))
    for other in others:
        with pytest.raises(ReadingOfAnother):
            read_to(tmp_path, chain, 20, other)


def test_two_audits_do_not_read_into_one_folder(tmp_path, chain):
    read_to(tmp_path, chain, 20)
    with KeptReading(tmp_path, SUBJECT, CONTRACTS), pytest.raises(ReadingInUse):
        read_to(tmp_path, chain, 20)
