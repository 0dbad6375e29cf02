"""Endpoints on a bad day: no act twice, no act lost, and what is said of it is true throughout.

1. An intent's call is on the chain once at most, at every moment.
2. Whatever was stored is on the chain once the endpoints are well again.
3. "mined" is said only of what is on the chain; nothing is on the chain that was not stored before.
4. No refusal is reported that the contracts did not give.

Not failures: any named error while an endpoint is faulty, and transactions that do nothing (they close a gap
that a wrong nonce left).
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from chains import CHAIN_ID, Between, Ground, act, calldata_of, ground, is_done, send_nothing
from faulty import Fault, Faulty, faulty
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from sealtrace.contracts.client import Chain, _found_ours
from sealtrace.contracts.endpoints import COMPARE_EVERY_S, Endpoints
from sealtrace.contracts.errors import (
    ChainError,
    EndpointBehind,
    NoEndpointUsable,
    NonceDoubtful,
    Reverted,
    WrongChain,
)
from sealtrace.contracts.link import Link
from sealtrace.contracts.outbox import State
from sealtrace.contracts.sender import Sender

CLIENT_TIMEOUT_S = 0.6
EXAMPLES = int(os.environ.get("SEALTRACE_TEST_EXAMPLES", "30"))
_names = itertools.count()


@pytest.fixture(scope="module", params=["embedded", "anvil"])
def on(request: pytest.FixtureRequest) -> Iterator[Ground]:
    with ground(request.param) as made:
        yield made


@pytest.fixture(scope="module")
def anvil() -> Iterator[Ground]:
    with ground("anvil") as made:
        yield made


@contextmanager
def proxies(on: Ground, count: int) -> Iterator[list[Faulty]]:
    with ExitStack() as stack:
        yield [stack.enter_context(faulty(on.url, seed=i, hang_s=CLIENT_TIMEOUT_S * 2)) for i in range(count)]


def client(on: Ground, before: list[Faulty], hurry: float = 1, **changed: Any) -> Chain:
    """Over the proxies; with ``hurry`` an endpoint that failed rests for less long."""
    found = on.chain(on.link, timeout_s=CLIENT_TIMEOUT_S, **changed)
    urls = [each.url for each in before]
    if len(urls) == 1:
        link = Link.http(urls[0], CLIENT_TIMEOUT_S)
    else:
        link = Endpoints.over_http(
            urls,
            CLIENT_TIMEOUT_S,
            lambda one: _found_ours(one, found.settings),
            clock=lambda: time.monotonic() * hurry,
        )
    return Chain(link, found.settings, found.named)


class Story:
    """What was asked for in one example, and the chain's own record of what happened."""

    def __init__(self, on: Ground, folder: Path, chain: Callable[[], Chain]) -> None:
        self.on, self.folder, self._connect = on, folder, chain
        self.begins = on.head() + 1
        self.now = 1000.0
        self.troubles: list[str] = []
        self.asked: dict[str, str] = {}
        self.sender = self.restarted()

    def restarted(self) -> Sender:
        """A new process over the same outbox."""
        self.sender = self.on.sender(self.folder, self._connect(), clock=lambda: self.now)
        return self.sender

    def submit(self) -> None:
        intent = f"act {next(_names)} of {self.on.account}"
        self.asked[intent] = calldata_of(intent)
        self.tolerated(lambda: self.sender.submit(intent, act(intent)))

    def ask_again(self) -> None:
        for intent in self.asked:
            self.tolerated(lambda intent=intent: self.sender.submit(intent, act(intent)))

    def pump(self) -> None:
        self.now += 20  # time enough to close a gap
        self.tolerated(self.sender.pump)

    def wait(self) -> None:
        for intent in self.asked:
            if self.sender.progress(intent) is not None:
                self.tolerated(lambda intent=intent: self.sender.wait(intent, timeout_s=0.05))

    def tolerated(self, do: Callable[[], object]) -> None:
        try:
            do()
        except Reverted:
            raise  # the contracts refuse none of this
        except ChainError as cause:
            self.troubles.append(f"{type(cause).__name__}: {cause}")

    def check(self) -> None:
        record = self.on.record(self.begins)
        for intent, data in self.asked.items():
            there = record.get(data, [])
            assert len(there) <= 1, f"{intent} was done twice"
            progress = self.sender.progress(intent)
            if progress is None:
                assert not there, f"{intent} is on the chain and was never stored"
            elif there:
                assert there[0][0] in progress.transactions
            if progress is not None and progress.state is State.MINED:
                assert there == [(progress.transactions[0], 1)]
            assert progress is None or progress.state is not State.REVERTED

    def end_well(self) -> None:
        """The endpoints are well again: all that was stored comes to its end."""
        stored = [intent for intent in self.asked if self.sender.progress(intent) is not None]
        for _ in range(200):
            self.troubles.clear()
            self.pump()
            self.check()
            if all(self._state(intent) is State.MINED for intent in stored):
                break
            time.sleep(0.05)
        else:
            raise AssertionError(f"not all came to their end: {self.troubles}")
        for intent in stored:
            assert (
                self.sender.wait(intent).transaction == self.on.record(self.begins)[self.asked[intent]][0][0]
            )
        for intent in self.asked:  # what was not stored can be asked for again
            self.sender.submit(intent, act(intent))
            self.sender.wait(intent)
        self.check()
        record = self.on.record(self.begins)
        assert {data for data in record if data in self.asked.values()} == set(self.asked.values())

    def _state(self, intent: str) -> State | None:
        progress = self.sender.progress(intent)
        return progress and progress.state


@pytest.mark.parametrize("fault", list(Fault))
def test_no_fault_of_the_only_endpoint_loses_or_doubles_an_act(
    on: Ground, fault: Fault, tmp_path: Path
) -> None:
    with proxies(on, 1) as before:
        story = Story(on, tmp_path, lambda: client(on, before))
        story.submit()
        before[0].fault = fault
        for step in (story.submit, story.pump, story.wait, story.restarted, story.ask_again, story.pump):
            step()
            story.check()
        before[0].fault = Fault.NONE
        story.end_well()


@pytest.mark.parametrize("fault", list(Fault))
def test_an_act_is_done_in_spite_of_an_endpoint_s_fault_where_another_is_well(
    anvil: Ground, fault: Fault, tmp_path: Path
) -> None:
    with proxies(anvil, 2) as before:
        story = Story(anvil, tmp_path, lambda: client(anvil, before, hurry=50))
        before[0].fault = fault
        anvil.mine()  # so that one that stands still is seen to
        for _ in range(3):
            story.submit()
        for _ in range(100):
            story.pump()
            story.wait()
            if all(story._state(intent) is State.MINED for intent in story.asked):
                break
        story.check()
        assert [story._state(intent) for intent in story.asked] == [State.MINED] * 3
        assert before[1].posts


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("fault"), st.integers(0, 1), st.sampled_from(list(Fault))),
        st.sampled_from([("submit",), ("ask_again",), ("pump",), ("wait",), ("restarted",)]),
        st.sampled_from([("submit",), ("foreign",), ("mine",), ("reorganise", 1), ("reorganise", 2)]),
    ),
    min_size=3,
    max_size=14,
)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS, endpoints=st.integers(1, 2), depth=st.sampled_from([0, 2]))
def test_no_sequence_of_faults_loses_or_doubles_an_act(
    anvil: Ground, tmp_path_factory: pytest.TempPathFactory, steps: Any, endpoints: int, depth: int
) -> None:
    folder = tmp_path_factory.mktemp("story")
    with proxies(anvil, endpoints) as before:
        story = Story(anvil, folder, lambda: client(anvil, before, hurry=100, confirmations=depth))
        for name, *words in steps:
            note(f"{name} {words}")
            if name == "fault":
                before[words[0] % endpoints].fault = words[1]
            elif name == "foreign":
                send_nothing(anvil.link, CHAIN_ID, anvil.key, int(count(anvil), 16))
            elif name == "mine":
                anvil.mine()
            elif name == "reorganise":  # never below what is final
                anvil.link.request("anvil_reorg", words[0], []) if depth else None
            else:
                getattr(story, name)()
            story.check()
        for each in before:
            each.fault = Fault.NONE
        mining_end(anvil, story, depth)


def mining_end(anvil: Ground, story: Story, depth: int) -> None:
    """On a chain that makes a block for each transaction, somebody has to bury the last one."""
    real = story.pump

    def pump() -> None:
        real()
        for _ in range(depth):
            anvil.mine()

    story.pump = pump  # type: ignore[method-assign]
    wait = story.sender.wait
    story.sender.wait = lambda intent, **options: (pump(), pump(), wait(intent, **options))[2]  # type: ignore[method-assign]
    story.end_well()


def count(on: Ground) -> str:
    return str(on.link.request("eth_getTransactionCount", on.account, "pending"))


WORKER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from chains import act
import sqlalchemy as sa
from sealtrace.contracts.client import Chain, ChainSettings
from sealtrace.contracts.errors import ChainError
from sealtrace.contracts.outbox import State
from sealtrace.contracts.sender import Sender
from sealtrace.protocol.identifiers import Address
urls, chain_id, directory, key, db, *intents = sys.argv[2:]
settings = ChainSettings(urls, int(chain_id), Address(directory), timeout_s=0.4)
while True:
    try:
        sender = Sender(Chain.connect(settings), bytes.fromhex(key), sa.create_engine(f"sqlite:///{db}"))
        for intent in intents:
            sender.submit(intent, act(intent))
        sender.pump()
        if all(sender.progress(intent).state is State.MINED for intent in intents):
            break
    except ChainError:
        time.sleep(0.05)
"""


def test_processes_that_are_killed_before_endpoints_that_fail_do_each_act_once(
    anvil: Ground, tmp_path: Path
) -> None:
    chance, begins = random.Random(7), anvil.head() + 1
    intents = [f"killed {n}" for n in range(30)]
    with proxies(anvil, 2) as before:
        arguments = [str(Path(__file__).parent), ",".join(each.url for each in before), str(CHAIN_ID)]
        arguments += [anvil.settings.directory, anvil.key.hex(), str(tmp_path / "outbox.db"), *intents]

        def started() -> subprocess.Popen[bytes]:
            return subprocess.Popen([sys.executable, "-c", WORKER, *arguments])

        workers = [started() for _ in range(2)]
        for _ in range(8):
            for each in before:
                each.fault = chance.choice(list(Fault))
            time.sleep(chance.uniform(0.3, 1.5))
            victim = chance.randrange(2)
            workers[victim].kill()
            workers[victim].wait(20)
            workers[victim] = started()
        for each in before:
            each.fault = Fault.NONE
        assert [worker.wait(180) for worker in workers] == [0, 0]
    record = anvil.record(begins)
    assert [len(record.get(calldata_of(intent), [])) for intent in intents] == [1] * 30
    assert {status for data in record.values() for _, status in data} == {1}


# what is read


@pytest.mark.parametrize("fault", [Fault.STALE, Fault.HALT, Fault.ERRORS, Fault.GARBAGE])
def test_a_block_that_one_endpoint_does_not_have_is_read_at_another(
    on: Ground, fault: Fault, tmp_path: Path
) -> None:
    with proxies(on, 2) as before:
        chain = client(on, before)
        before[0].fault = fault
        name = f"read {next(_names)}"
        mined = on.sender(tmp_path).send("act", act(name))
        assert is_done(chain, name, mined.block)
        assert chain.events(mined.block.number, mined.block.number) == mined.events
        assert chain.head().number >= mined.block.number


def test_an_endpoint_that_stands_still_is_noticed_and_left(on: Ground) -> None:
    now = [0.0]
    with proxies(on, 2) as before:
        chain = client(on, before)
        assert isinstance(chain.link, Endpoints)
        chain.link._clock = lambda: now[0]
        chain.head()
        before[0].fault = Fault.STALE
        for _ in range(4):
            on.mine()
        now[0] += COMPARE_EVERY_S
        assert chain.head().number == on.head()
        posts = before[0].posts
        for _ in range(5):
            assert chain.head().number == on.head()
        assert before[0].posts == posts


def test_an_endpoint_that_comes_back_is_used_again(on: Ground) -> None:
    with proxies(on, 2) as before:
        chain = client(on, before, hurry=100)
        before[0].fault = Fault.HALT
        chain.head()
        before[0].fault, before[1].fault = Fault.NONE, Fault.HALT
        time.sleep(0.2)
        assert chain.head().number == on.head()


def test_every_endpoint_that_failed_is_named_and_why(on: Ground) -> None:
    with proxies(on, 2) as before:
        chain = client(on, before)
        before[0].fault, before[1].fault = Fault.HALT, Fault.GARBAGE
        with pytest.raises(NoEndpointUsable) as caught:
            chain.head()
        assert list(caught.value.why) == [each.url for each in before]
        assert "no JSON-RPC endpoint" in caught.value.why[before[1].url]


def test_settings_name_several_endpoints_and_a_dead_one_among_them_does_no_harm(on: Ground) -> None:
    with proxies(on, 1) as before:
        chain = on.chain(rpc_url=f"http://127.0.0.1:9, {before[0].url}", timeout_s=2)
        assert chain.head().number == on.head()


def test_an_endpoint_of_another_chain_is_passed_over_and_named(on: Ground) -> None:
    with proxies(on, 2) as before:
        settings = on.chain(on.link).settings
        wrong = Endpoints.over_http(
            [each.url for each in before], 2, lambda one: refuse(one, before[0].url, settings)
        )
        assert wrong.request("eth_chainId")
        assert before[1].posts
        before[1].fault = Fault.HALT
        with pytest.raises(NoEndpointUsable, match="serves chain 1"):
            wrong.request("eth_chainId")


def refuse(link: Link, url: str, settings: Any) -> None:
    if link.url == url:
        raise WrongChain(url, settings.chain_id, 1)


def test_an_endpoint_too_old_to_know_cannot_refuse_an_act(on: Ground, tmp_path: Path) -> None:
    """Its refusal would be believed, though the state it speaks of is gone."""
    with proxies(on, 1) as before:
        chain = client(on, before)
        sender = on.sender(tmp_path, chain)
        before[0].fault = Fault.STALE
        on.mine()
        before[0]._fault = Fault.NONE
        chain.finalized()
        before[0]._fault = Fault.STALE
        with pytest.raises(EndpointBehind):
            sender.submit("act", act(f"old {next(_names)}"))
        assert sender.progress("act") is None


def test_an_impossible_nonce_is_not_believed(on: Ground, tmp_path: Path) -> None:
    between = Between(on.link)
    sender = on.sender(tmp_path, on.chain(between))
    sender.send("first", act(f"first {next(_names)}"))
    between.rules["eth_getTransactionCount"] = lambda *_: hex(1_000_000)
    with pytest.raises(NonceDoubtful):
        sender.submit("second", act(f"second {next(_names)}"))
    assert sender.progress("second") is None


def test_an_outage_of_the_only_endpoint_is_waited_for(on: Ground, tmp_path: Path) -> None:
    with proxies(on, 1) as before:
        sender = on.sender(tmp_path, client(on, before))
        sender.submit("act", act(f"outage {next(_names)}"))
        before[0].fault = Fault.HALT

        def well() -> None:
            before[0].fault = Fault.NONE

        timer = threading.Timer(1.5, well)
        timer.start()
        assert sender.wait("act", timeout_s=90).events
        timer.join()
