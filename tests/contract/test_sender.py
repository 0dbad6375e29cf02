"""The sender: one intent is one transaction, whoever asks again and wherever the process dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from chain_world import RESULT, World, h

from sealtrace.contracts import calls
from sealtrace.contracts.client import Chain
from sealtrace.contracts.errors import ChainUnreachable, NonceTaken, NotAccepted, NotMined, Reverted
from sealtrace.contracts.link import Failure, Link, number
from sealtrace.contracts.outbox import State
from sealtrace.contracts.sender import FILLER, Fees, Sender, read_transaction
from sealtrace.protocol.outcome import Denial


class Between:
    """A link in whose way a test can stand: ``rules`` answer in the endpoint's place, by method."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.rules: dict[str, Callable[..., Any]] = {}
        self.sent: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    def attempt(self, method: str, *params: Any) -> Any:
        if method == "eth_sendRawTransaction":
            self.sent.append(params[0])
        if method in self.rules:
            return self.rules[method](*params)
        return self._link.attempt(method, *params)

    def request(self, method: str, *params: Any) -> Any:
        answer = self.attempt(method, *params)
        if isinstance(answer, Failure):
            raise answer.error()
        return answer

    def everywhere(self, method: str, *params: Any) -> list[Any]:
        return [self.attempt(method, *params)]

    def batch(self, asks: Any) -> list[Any]:
        return [self.attempt(ask.method, *ask.params) for ask in asks]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    made = sa.create_engine(f"sqlite:///{tmp_path / 'outbox.db'}")
    yield made
    made.dispose()


@pytest.fixture
def between(world: World) -> Between:
    return Between(world.link)


@pytest.fixture
def sender(world: World, between: Between, engine: sa.Engine) -> Sender:
    return make(world, between, engine)


def make(world: World, between: Between, engine: sa.Engine, name: str = "alice") -> Sender:
    chain = Chain(between, world.chain.settings, world.chain.named)  # type: ignore[arg-type]
    return Sender(chain, world.keys[name], engine)


def rows(engine: sa.Engine) -> list[tuple[str, str]]:
    with engine.connect() as db:
        return [(i, s) for i, s in db.execute(sa.text("select intent, state from outbox order by nonce"))]


def refusing(message: str) -> Callable[..., Failure]:
    return lambda *_: Failure("eth_sendRawTransaction", -32000, message, None)


def unreachable(*_: Any) -> Any:
    raise ChainUnreachable("http://nowhere", "connection refused")


def root(n: int) -> calls.Call:
    return calls.anchor(n, h(f"root {n}"))


def test_a_transaction_is_sent_mined_and_told(sender: Sender, engine: sa.Engine) -> None:
    mined = sender.send("anchor:1", root(1))
    assert [event.name for event in mined.events] == ["CheckpointAnchored"]
    assert mined.events[0].block_hash == mined.block.hash
    assert mined.gas_used > 21_000
    assert rows(engine) == [("anchor:1", State.MINED)]


def test_the_same_intent_is_sent_once(sender: Sender, between: Between) -> None:
    first = sender.submit("anchor:1", root(1))
    assert sender.submit("anchor:1", root(1)) == first
    assert sender.wait("anchor:1").transaction == sender.wait("anchor:1").transaction == first
    sender.pump()
    assert len(between.sent) == 1


def test_what_the_contract_would_refuse_is_not_stored(sender: Sender, engine: sa.Engine) -> None:
    with pytest.raises(Reverted, match="LogDidNotGrow"):
        sender.submit("anchor:0", root(0))
    assert rows(engine) == []


def test_a_crash_between_storing_and_sending_is_repaired(
    sender: Sender, between: Between, world: World, engine: sa.Engine
) -> None:
    between.rules["eth_sendRawTransaction"] = unreachable
    with pytest.raises(ChainUnreachable):
        sender.submit("anchor:1", root(1))
    assert rows(engine) == [("anchor:1", State.QUEUED)]

    del between.rules["eth_sendRawTransaction"]
    again = make(world, between, engine)  # another process, the same database
    again.pump()
    again.wait("anchor:1")
    assert rows(engine) == [("anchor:1", State.MINED)]
    assert len(set(between.sent)) == 1  # the same bytes


def test_an_answer_lost_on_the_way_does_not_send_another(
    sender: Sender, between: Between, world: World, engine: sa.Engine
) -> None:
    def lost(raw: str) -> Any:
        world.link.attempt("eth_sendRawTransaction", raw)
        return unreachable()

    between.rules["eth_sendRawTransaction"] = lost
    with pytest.raises(ChainUnreachable):
        sender.submit("anchor:1", root(1))
    between.rules["eth_sendRawTransaction"] = refusing("nonce too low: next nonce 9, tx nonce 8")
    mined = sender.send("anchor:1", root(1))
    assert mined.events[0].args["size"] == 1
    assert rows(engine) == [("anchor:1", State.MINED)]
    assert sender.replaced() == []


@pytest.mark.parametrize("words", ["already known", "Known transaction", "tx already imported"])
def test_an_endpoint_that_has_it_already_is_no_error(
    sender: Sender, between: Between, world: World, words: str
) -> None:
    def twice(raw: str) -> Any:
        world.link.attempt("eth_sendRawTransaction", raw)
        return refusing(words)()

    between.rules["eth_sendRawTransaction"] = twice
    assert sender.send("anchor:1", root(1)).events


def test_a_nonce_that_another_program_used_is_replaced_and_recorded(
    sender: Sender, between: Between, world: World, engine: sa.Engine
) -> None:
    between.rules["eth_sendRawTransaction"] = unreachable
    with pytest.raises(ChainUnreachable):
        sender.submit("dataset", root(2))
    del between.rules["eth_sendRawTransaction"]
    stored = between.sent[0]
    world.do(root(1), "alice")  # the same key in another program's hands

    sender.pump()

    mined = sender.wait("dataset")
    assert mined.events[0].args["size"] == 2
    (lost,) = sender.replaced()
    assert lost.intent == "dataset"
    taken_by = world.chain.events(0, world.chain.head().number, names={"CheckpointAnchored"})[0].transaction
    assert lost.taken_by == taken_by
    assert between.sent[-1] != stored
    assert rows(engine) == [("dataset", State.MINED)]


def test_an_endpoint_whose_index_is_behind_makes_nothing_be_sent_twice(
    sender: Sender, between: Between, world: World, engine: sa.Engine
) -> None:
    """The account's count is ahead, the receipt not there yet; the block shows that it was ours."""
    sender.submit("anchor:1", root(1))
    with engine.begin() as db:
        db.execute(sa.text("update outbox set state = 'queued'"))
    between.rules["eth_getTransactionReceipt"] = lambda _: None
    between.rules["eth_getTransactionByHash"] = lambda _: None
    between.rules["eth_sendRawTransaction"] = refusing("nonce too low")
    sender.pump()
    assert sender.replaced() == []
    assert rows(engine) == [("anchor:1", State.SENT)]


def test_nothing_is_signed_again_where_the_foreign_transaction_cannot_be_shown(
    sender: Sender, between: Between, world: World
) -> None:
    between.rules["eth_sendRawTransaction"] = unreachable
    with pytest.raises(ChainUnreachable):
        sender.submit("grant", calls.issue_grant(world.grant_terms("alice")))
    del between.rules["eth_sendRawTransaction"]
    world.do(root(1), "alice")
    count = world.link.request("eth_getTransactionCount", world.of("alice"), "latest")

    def pruned(_: str, at: str) -> Any:
        return count if at in ("latest", "pending") else Failure("x", -32000, "missing trie node", None)

    between.rules["eth_getTransactionCount"] = pruned
    between.rules["eth_sendRawTransaction"] = refusing("nonce too low")
    with pytest.raises(NonceTaken, match="missing trie node"):
        sender.pump()
    assert sender.replaced() == []


def test_a_transaction_the_endpoint_refuses_for_good_stays_and_is_named(
    sender: Sender, between: Between, engine: sa.Engine
) -> None:
    between.rules["eth_sendRawTransaction"] = refusing("insufficient funds for gas * price + value")
    with pytest.raises(NotAccepted, match="insufficient funds"):
        sender.submit("anchor:1", root(1))
    assert rows(engine) == [("anchor:1", State.QUEUED)]


@pytest.mark.parametrize(
    "words", ["txpool is full: 10000 wait", "replacement transaction underpriced: this nonce is pending"]
)
def test_what_passes_is_waited_for(sender: Sender, between: Between, engine: sa.Engine, words: str) -> None:
    between.rules["eth_sendRawTransaction"] = refusing(words)
    sender.submit("anchor:1", root(1))
    assert rows(engine) == [("anchor:1", State.QUEUED)]
    del between.rules["eth_sendRawTransaction"]
    sender.pump()
    sender.wait("anchor:1")
    assert rows(engine) == [("anchor:1", State.MINED)]


def test_a_transaction_refused_in_its_block_stays_recorded_and_is_never_sent_again(
    world: World, between: Between, engine: sa.Engine
) -> None:
    """Two starts for the last use: both look good when they are sent."""
    grant = world.issue("alice", uses=1)
    tasks = []
    for _ in range(2):
        terms = world.terms({"alice": grant})
        tasks.append((world.create(terms), terms))
    sender = make(world, between, engine)
    between.rules["eth_sendRawTransaction"] = lambda raw: "0x"  # held back
    for i, (_task, terms) in enumerate(tasks):
        sender.submit(f"start:{i}", calls.start(terms, h("input")))
    del between.rules["eth_sendRawTransaction"]
    held = list(between.sent)
    for raw in held:
        between.attempt("eth_sendRawTransaction", raw)

    assert [event.name for event in sender.wait("start:0").events] == ["GrantConsumed", "TaskStarted"]
    for _ in range(2):
        with pytest.raises(Reverted) as caught:
            sender.wait("start:1")
        assert caught.value.denial is Denial.GRANT_EXHAUSTED
        assert caught.value.transaction is not None
    assert rows(engine) == [("start:0", State.MINED), ("start:1", State.REVERTED)]
    sender.submit("start:1", calls.start(tasks[1][1], h("input")))
    sender.pump()
    assert between.sent == held * 2


def test_waiting_ends_and_says_what_it_waited_for(
    sender: Sender, between: Between, engine: sa.Engine
) -> None:
    between.rules["eth_sendRawTransaction"] = lambda raw: "0x"
    sent = sender.submit("anchor:1", root(1))
    with pytest.raises(NotMined, match=sent):
        sender.wait("anchor:1", timeout_s=0.2)
    assert rows(engine) == [("anchor:1", State.SENT)]
    del between.rules["eth_sendRawTransaction"]
    sender.pump()
    sender.wait("anchor:1")


def test_waiting_for_what_was_never_submitted_is_a_mistake(sender: Sender) -> None:
    with pytest.raises(KeyError, match="nobody"):
        sender.wait("nobody asked")


@pytest.mark.parametrize("intent", ["", "x" * 201])
def test_an_intent_is_a_short_text(sender: Sender, intent: str) -> None:
    with pytest.raises(ValueError, match="intent"):
        sender.submit(intent, root(1))


def test_another_process_that_was_faster_is_not_an_error(
    sender: Sender, between: Between, world: World, engine: sa.Engine
) -> None:
    """Both look, both find nothing stored, one sends; the other's simulation then finds it done."""
    other = make(world, between, engine)
    real = between.attempt

    def interrupted(*params: Any) -> Any:
        del between.rules["eth_estimateGas"]
        other.send("anchor:1", root(1))
        return real("eth_estimateGas", *params)

    between.rules["eth_estimateGas"] = interrupted
    assert sender.submit("anchor:1", root(1)) == other.submit("anchor:1", root(1))
    assert len(between.sent) == 1


def test_many_threads_over_one_database_leave_no_gap_and_send_nothing_twice(
    world: World, engine: sa.Engine
) -> None:
    between = Between(world.link)
    between.rules["eth_sendRawTransaction"] = lambda raw: "0x"
    between.rules["eth_estimateGas"] = lambda *_: 100_000  # eth-tester is for one thread
    between.rules["eth_getBlockByNumber"] = lambda *_: {"baseFeePerGas": 0}
    between.rules["eth_getTransactionCount"] = lambda *_: 7
    senders = [make(world, between, engine) for _ in range(4)]

    def submit(n: int) -> str:
        return senders[n % 4].submit(f"intent {n // 2}", calls.anchor(n // 2 + 1, RESULT))

    with ThreadPoolExecutor(8) as pool:
        hashes = list(pool.map(submit, range(24)))
    assert hashes[::2] == hashes[1::2]
    with engine.connect() as db:
        nonces = [n for (n,) in db.execute(sa.text("select nonce from outbox order by nonce"))]
    assert nonces == list(range(7, 19))


def test_a_receipt_of_a_block_that_is_not_on_the_chain_is_not_believed(
    sender: Sender, between: Between, world: World
) -> None:
    sender.submit("anchor:1", root(1))

    def elsewhere(hash: str) -> Any:
        return {**world.link.attempt("eth_getTransactionReceipt", hash), "blockHash": h("another branch")}

    between.rules["eth_getTransactionReceipt"] = elsewhere
    with pytest.raises(NotMined):
        sender.wait("anchor:1", timeout_s=0.1)
    assert sender.progress("anchor:1").state is State.SENT  # type: ignore[union-attr]
    between.rules.clear()
    assert sender.wait("anchor:1").events


def test_a_receipt_of_another_transaction_is_not_believed(
    sender: Sender, between: Between, world: World
) -> None:
    other = sender.send("anchor:1", root(1)).transaction
    hash = sender.submit("anchor:2", root(2))
    receipt = world.link.attempt("eth_getTransactionReceipt", other)
    between.rules["eth_getTransactionReceipt"] = lambda _: receipt
    with pytest.raises(NotMined, match=hash):
        sender.wait("anchor:2", timeout_s=0.1)


@pytest.mark.parametrize("nonsense", [{}, {"status": "0x1"}, "0x1", 7, ["0x"]])
def test_a_receipt_that_is_none_is_waited_out(sender: Sender, between: Between, nonsense: Any) -> None:
    sender.submit("anchor:1", root(1))
    between.rules["eth_getTransactionReceipt"] = lambda _: nonsense
    with pytest.raises(NotMined, match="cannot be read"):
        sender.wait("anchor:1", timeout_s=0.1)
    between.rules.clear()
    assert sender.wait("anchor:1").events


def test_an_earlier_version_that_holds_the_nonce_is_ours_and_no_reason_to_sign_again(
    sender: Sender, between: Between
) -> None:
    first = sender.submit("anchor:1", root(1))
    row = sender._outbox.find("anchor:1")
    assert row is not None
    sender._outbox.supersede(row, sender._signer(read_transaction(row.raw), Fees(1, 1)), 0.0)
    between.rules["eth_getTransactionReceipt"] = lambda _: None  # the endpoint's index is behind
    between.rules["eth_sendRawTransaction"] = refusing("nonce too low")
    sender.pump()
    assert sender.replaced() == []
    between.rules.clear()
    assert sender.wait("anchor:1").transaction == first


def test_a_version_that_another_process_stored_meanwhile_is_ours_as_well(
    sender: Sender, between: Between, world: World
) -> None:
    between.rules["eth_sendRawTransaction"] = lambda raw: "0x"
    sender.submit("anchor:1", root(1))
    old = sender._outbox.find("anchor:1")
    assert old is not None
    sender._outbox.supersede(old, sender._signer(read_transaction(old.raw), Fees(1, 1)), 0.0)
    new = sender._outbox.find("anchor:1")
    assert new is not None
    world.link.request("eth_sendRawTransaction", "0x" + new.raw.hex())
    between.rules["eth_sendRawTransaction"] = refusing("nonce too low")
    sender._push(old)  # as it was read before the other process raised the fee
    assert sender.replaced() == []
    assert sender.wait("anchor:1").transaction == new.hash


def test_a_gap_that_another_program_closes_needs_no_filler_of_ours(
    world: World, between: Between, engine: sa.Engine
) -> None:
    sender = make(world, between, engine)
    count = number(world.link.request("eth_getTransactionCount", world.of("alice"), "latest"))
    between.rules["eth_getTransactionCount"] = lambda who, at: (
        count + 1 if at == "pending" else world.link.attempt("eth_getTransactionCount", who, at)
    )
    between.rules["eth_sendRawTransaction"] = refusing("nonce too high")
    sender.submit("anchor:2", root(2))
    sender._fill(count)
    between.rules.clear()
    world.do(root(1), "alice")
    sender.pump()
    sender.pump()
    assert sender.wait("anchor:2").events
    assert rows(engine) == [(f"{FILLER} {count}", State.NEEDLESS), ("anchor:2", State.MINED)]
    assert sender.replaced() == []


def test_one_that_is_refused_does_not_keep_the_others_from_being_sent(
    sender: Sender, between: Between, world: World, engine: sa.Engine
) -> None:
    between.rules["eth_sendRawTransaction"] = unreachable
    for n in (1, 2):
        with pytest.raises(ChainUnreachable):
            sender.submit(f"anchor:{n}", root(n))
    first = between.sent[0]

    def only_the_second(raw: str) -> Any:
        return refusing("insufficient funds")() if raw == first else "0x"

    between.rules["eth_sendRawTransaction"] = only_the_second
    with pytest.raises(NotAccepted, match="insufficient funds"):
        sender.pump()
    assert rows(engine) == [("anchor:1", State.QUEUED), ("anchor:2", State.SENT)]


def test_what_is_not_taken_while_it_is_waited_for_is_named_when_the_time_is_over(
    sender: Sender, between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    between.rules["eth_sendRawTransaction"] = refusing("txpool is full")
    sender.submit("anchor:1", root(1))
    monkeypatch.setattr("sealtrace.contracts.sender.RESEND_EVERY_S", 0.0)
    between.rules["eth_sendRawTransaction"] = refusing("insufficient funds")
    with pytest.raises(NotAccepted, match="insufficient funds"):
        sender.wait("anchor:1", timeout_s=0.1)


def test_nothing_is_known_of_an_intent_that_was_never_submitted(sender: Sender) -> None:
    assert sender.progress("nobody asked") is None


def test_two_keys_share_a_database_without_meeting(world: World, between: Between, engine: sa.Engine) -> None:
    alice, bob = make(world, between, engine, "alice"), make(world, between, engine, "bob")
    assert alice.send("anchor", root(1)).transaction != bob.send("anchor", root(1)).transaction


def test_fees_are_offered_where_the_network_asks_them(between: Between) -> None:
    from sealtrace.contracts.sender import Fees, offered

    between.rules["eth_maxPriorityFeePerGas"] = lambda: "0x3"
    assert offered(between, {"baseFeePerGas": "0x0"}) == Fees(0, 0)  # type: ignore[arg-type]
    assert offered(between, {"baseFeePerGas": "0x64"}) == Fees(203, 3)  # type: ignore[arg-type]
    between.rules["eth_maxPriorityFeePerGas"] = refusing("no such method")
    assert offered(between, {"baseFeePerGas": 100}) == Fees(200, 0)  # type: ignore[arg-type]
