"""The watcher: what it takes in, checks, queues, and anchors; and what it does when the world is down."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field, replace

import pytest
from node_world import LAB, ME, NOW, OTHER, World
from sqlalchemy.event import listen, remove

from sealtrace.contracts.events import ChainEvent
from sealtrace.node.checkpoints import MARK, Anchorer, signed_checkpoint
from sealtrace.node.errors import ChainRewritten, NotAdmitted, QueueUnavailable, SchedulerUnavailable
from sealtrace.node.gateway.certificates import create_certificate, fingerprint, pem_to_der
from sealtrace.node.introduction import BadIntroduction, read_introduction
from sealtrace.node.ports import Reverted
from sealtrace.node.settings import Limits
from sealtrace.node.watcher import CURSOR, Watcher
from sealtrace.protocol.canonical import sha256
from sealtrace.protocol.evidence import Kind
from sealtrace.protocol.identifiers import Address, UnixSeconds, hex32
from sealtrace.protocol.records import BlockRef
from sealtrace.protocol.statements import verified

KEY = b"\x01" * 32
CERTIFICATES = {party: create_certificate(party)[0].decode() for party in (ME, OTHER)}


def event(name, block, **args):
    return ChainEvent(
        name=name,
        contract="TaskLedger",
        address=ME,
        args=args,
        block_number=block,
        block_hash=sha256(str(block).encode()),
        timestamp=None,
        transaction=sha256(b"tx"),
        log_index=0,
    )


@dataclass
class FakeChain:
    world: World
    head: int = 0
    fork: bytes = b""
    happened: list[ChainEvent] = field(default_factory=list)
    asked: list[tuple[int, int]] = field(default_factory=list)

    def finalized(self):
        return self.block(self.head)

    def block(self, number):
        return BlockRef(number, sha256(self.fork + str(number).encode()), UnixSeconds(NOW + number))

    def node(self, node, *, at):
        pin = hex32(fingerprint(pem_to_der(CERTIFICATES[node])))
        return replace(self.world.facts.nodes[node], tls_fingerprint=pin)

    def terms(self, named):
        return {e.args["task"]: self.world.terms for e in named}

    def events(self, first, last, *, names, party=None, task=None):
        self.asked.append((first, last))
        found = [e for e in self.happened if first <= e.block_number <= last and e.name in names]
        found = [e for e in found if party is None or e.args.get("party") == party]
        return [e for e in found if task is None or e.args.get("task") == task]


@pytest.fixture
def world(tmp_path):
    found = World(tmp_path)
    with found.store.engine.begin() as connection:
        connection.exec_driver_sql("delete from tasks")
    return found


class Story:
    def __init__(self, world):
        self.world, self.chain = world, FakeChain(world)
        self.queued, self.anchored, self.hellos = [], [], []
        self.scheduler = self
        self.given = None
        self.error = None
        self.watcher = self.restarted()

    def restarted(self):
        self.evidence = self.world.log()
        anchorer = Anchorer(
            self.evidence, self.world.store, self.anchored.append, 300, lambda: self.world.now
        )
        return Watcher(
            me=ME,
            chain=self.chain,
            store=self.world.store,
            scheduler=self,
            anchorer=anchorer,
            limits=Limits(),
            deployed_at=3,
            enqueue=self.queued.append,
            hello=lambda: self.hellos.append(self.world.now),
            pump=lambda: None,
            clock=lambda: self.world.now,
        )

    def introduction(self, task):
        if self.error:
            raise self.error
        return self.given

    def named(self, block=5):
        task = self.world.task
        self.chain.happened += [
            event("TaskCreated", block, task=task, requester=LAB),
            *[event("TaskUseNamed", block, task=task, party=ME)] * 2,
            event("TaskPartyNamed", block, task=task, party=OTHER),
        ]
        self.chain.head = max(self.chain.head, block)

    def introduce(self, **changes):
        parties = [
            {"address": p, "gateway_url": "https://peer:1", "certificate_pem": CERTIFICATES[p]}
            for p in (ME, OTHER)
        ]
        self.given = {"spec": self.world.spec.canonical().decode(), "parties": parties} | changes

    def round(self):
        self.world.now += 70
        self.watcher.round()


@pytest.fixture
def story(world):
    return Story(world)


def test_a_task_that_names_this_node_is_seen_introduced_and_queued(story):
    story.named()
    story.introduce()
    story.round()
    row = story.world.store.task(story.world.task)
    assert row.spec == story.world.spec.canonical().decode()
    assert story.queued == [story.world.task]


def test_a_task_that_names_others_only_is_not_seen(story):
    story.named()
    story.chain.happened = [e for e in story.chain.happened if e.args.get("party") != ME]
    story.round()
    assert story.world.store.tasks() == []


def test_blocks_are_read_once_from_the_deployment_on_and_after_a_restart_from_the_cursor(story):
    story.chain.head = 5000
    story.round()
    assert story.chain.asked[0] == (3, 2002)
    assert max(last for _, last in story.chain.asked) == 5000
    story.chain.asked.clear()
    story.watcher = story.restarted()
    story.round()
    assert story.chain.asked == []
    story.chain.head = 5001
    story.round()
    assert set(story.chain.asked) == {(5001, 5001)}


def test_a_watcher_killed_before_its_cursor_was_kept_sees_the_task_once(story):
    story.named()
    story.round()
    story.world.store.set_mark(CURSOR, json.dumps({"number": 4, "hash": story.chain.block(4).hash}))
    story.watcher = story.restarted()
    story.round()
    assert len(story.world.store.tasks()) == 1


class Killed(BaseException):
    """The process is gone: nothing after this line happens."""


def kill(*_):
    raise Killed


def just_before_the_commit(story):
    listen(story.world.store.engine, "commit", kill, once=True)


def just_after_the_commit(story):
    keep = story.watcher.store.take_in

    def keep_and_die(*args):
        keep(*args)
        kill()

    story.watcher.store = replace_attributes(story.watcher.store, take_in=keep_and_die)


def while_the_cursor_is_written(story):
    def at_the_mark(connection, cursor, statement, *rest):
        if "marks" in statement and not statement.startswith("SELECT"):
            remove(story.world.store.engine, "before_cursor_execute", at_the_mark)
            kill()

    listen(story.world.store.engine, "before_cursor_execute", at_the_mark)


def replace_attributes(store, **attributes):
    found = copy.copy(store)
    for name, value in attributes.items():
        setattr(found, name, value)
    return found


@pytest.mark.parametrize("dies", [just_before_the_commit, while_the_cursor_is_written, just_after_the_commit])
def test_a_watcher_killed_while_it_takes_in_many_tasks_loses_none_and_doubles_none(story, dies):
    story.world.store.set_mark(CURSOR, json.dumps({"number": 2, "hash": story.chain.block(2).hash}))
    tasks = [hex32(bytes([n]) * 32) for n in range(1, 6)]
    for block, task in enumerate(tasks, 4):
        story.chain.happened.append(event("TaskPartyNamed", block, task=task, party=ME))
    story.chain.head = 9
    dies(story)
    with pytest.raises(Killed):
        story.watcher.follow()
    left, cursor = story.world.store.tasks(), json.loads(story.world.store.mark(CURSOR))["number"]
    assert (len(left), cursor) in {(0, 2), (5, 9)}  # together, or not at all
    story.watcher = story.restarted()
    story.round()
    assert sorted(row.id for row in story.world.store.tasks()) == tasks
    assert sorted(story.queued) == tasks
    assert json.loads(story.world.store.mark(CURSOR))["number"] == 9


def test_what_a_killed_watcher_had_taken_in_before_stays(story, monkeypatch):
    monkeypatch.setattr("sealtrace.node.watcher.BLOCKS_AT_ONCE", 2)
    story.named(block=3)
    story.chain.head = 6
    first = story.world.store.take_in

    def once(*args):
        story.watcher.store = replace_attributes(story.world.store, take_in=kill)
        return first(*args)

    story.watcher.store = replace_attributes(story.world.store, take_in=once)
    with pytest.raises(Killed):
        story.watcher.follow()
    assert [row.id for row in story.world.store.tasks()] == [story.world.task]
    assert json.loads(story.world.store.mark(CURSOR))["number"] == 4


def test_a_final_block_that_was_replaced_stops_the_watcher(story):
    story.chain.head = 10
    story.round()
    story.chain.fork = b"another history"
    with pytest.raises(ChainRewritten, match="block 10"):
        story.round()


def test_a_chain_that_answers_from_behind_is_waited_for(story):
    story.chain.head = 10
    story.round()
    story.chain.head = 8
    story.round()


def test_an_open_task_is_queued_again_until_somebody_holds_it(story):
    story.named()
    story.introduce()
    for _ in range(3):
        story.round()
    assert len(story.queued) == 3
    story.world.store.lease(story.world.task, 1000)
    story.round()
    assert len(story.queued) == 3


def test_an_event_of_the_task_wakes_it(story):
    story.named()
    story.introduce()
    story.round()
    token = story.world.store.lease(story.world.task, 10)
    story.world.store.release(story.world.task, token, 100_000)
    story.round()
    assert len(story.queued) == 1
    story.chain.head = 6
    story.chain.happened.append(event("TaskAuthorized", 6, task=story.world.task))
    story.round()
    assert len(story.queued) == 2


def test_a_scheduler_that_is_down_holds_up_nothing_else(story):
    story.error = SchedulerUnavailable("no answer")
    story.named()
    story.round()
    assert len(story.hellos) == 1
    story.error = None
    story.introduce()
    story.round()
    assert story.world.store.task(story.world.task).spec is not None


def test_redis_that_is_down_holds_up_nothing_else_and_the_task_is_queued_later(story):
    def down(task):
        raise QueueUnavailable("no answer")

    story.named()
    story.introduce()
    story.watcher.enqueue = down
    story.round()
    assert len(story.hellos) == 1
    story.watcher.enqueue = story.queued.append
    story.round()
    assert story.queued == [story.world.task]


def test_a_task_that_nobody_introduces_is_judged_all_the_same_after_the_wait(story):
    story.named()
    for _ in range(6):
        story.round()
    assert len(story.queued) >= 2


@pytest.mark.parametrize(
    "change",
    [
        {"spec": "{}"},
        {"spec": 7},
        {"parties": []},
        {"more": 1},
        {"parties": [{"address": ME, "gateway_url": "http://peer", "certificate_pem": "x"}]},
    ],
)
def test_an_introduction_that_is_malformed_is_not_kept(story, change):
    story.named()
    story.introduce(**change)
    story.round()
    row = story.world.store.task(story.world.task)
    assert row.spec is None
    assert "not usable" in row.note


def test_an_introduction_with_another_certificate_than_the_chains_is_not_usable(story):
    story.introduce()
    stranger = create_certificate(OTHER)[0].decode()
    story.given["parties"][1]["certificate_pem"] = stranger
    nodes = {party: story.chain.node(party, at=None) for party in (ME, OTHER)}
    with pytest.raises(BadIntroduction, match="not the certificate"):
        read_introduction(story.given, story.world.terms, nodes)


def test_an_introduction_of_another_specification_is_not_usable(story):
    other = story.world.spec.model_copy(update={"purpose": "something else"})
    story.introduce(spec=other.canonical().decode())
    nodes = {party: story.chain.node(party, at=None) for party in (ME, OTHER)}
    with pytest.raises(BadIntroduction, match="the chain says"):
        read_introduction(story.given, story.world.terms, nodes)


# --- anchoring


def test_the_log_is_anchored_when_a_task_ended_and_not_again_without_growth(story):
    story.world.store.set_mark(MARK + ".at", str(story.world.now))
    story.evidence.append(Kind.TASK_JUDGED, {}, story.world.task)
    story.round()
    assert story.anchored == []
    story.evidence.append(Kind.TASK_REFUSED, {}, story.world.task)
    story.round()
    story.round()
    assert [checkpoint.size for checkpoint in story.anchored] == [3]


def test_a_log_that_grew_is_anchored_after_a_while(story):
    story.world.store.set_mark(MARK + ".at", str(story.world.now))
    story.evidence.append(Kind.TASK_JUDGED, {}, story.world.task)
    for _ in range(6):
        story.round()
    assert len(story.anchored) == 1


def test_an_anchor_that_the_chain_has_already_is_taken_as_done(story):
    def refuse(checkpoint):
        raise Reverted("LogDidNotGrow", "2 of 2")

    anchorer = Anchorer(story.evidence, story.world.store, refuse, 0, lambda: story.world.now)
    assert anchorer.anchor_if_due() is not None
    assert anchorer.anchor_if_due() is None


def test_a_node_not_yet_admitted_waits_and_anchors_once_it_is(story):
    def refuse(checkpoint):
        raise Reverted("UnknownNode", "never admitted")

    anchorer = Anchorer(story.evidence, story.world.store, refuse, 0, lambda: story.world.now)
    with pytest.raises(NotAdmitted):
        anchorer.anchor_if_due()
    anchorer._send = story.anchored.append
    assert anchorer.anchor_if_due() is not None


def test_a_signed_checkpoint_names_the_head_that_the_node_followed(story):
    from eth_account import Account

    me = Address(Account.from_key(KEY).address.lower())
    checkpoint = replace(story.evidence.checkpoint(), node=me)
    signed = signed_checkpoint(checkpoint, story.chain.block(7), KEY, NOW)
    speaker, body = verified(signed, kind="evidence.checkpoint", audience="anybody", now=UnixSeconds(NOW))
    assert speaker == me
    assert (body["head_number"], body["head_hash"]) == (7, story.chain.block(7).hash)
    assert (body["size"], body["root"]) == (checkpoint.size, checkpoint.root)
