"""An enclave that waits for the owners' starts: for how long, and what ends it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sealtrace.node import gate, running
from sealtrace.node.attesting import NotShown
from sealtrace.node.errors import ChainUnavailable, GatewayDown
from sealtrace.node.hold import Hold
from sealtrace.node.seats import Seats
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.outcome import Denial


class World:
    """One hosting node's view: a clock that sleeping moves, and a chain that may be away."""

    def __init__(self, monkeypatch) -> None:
        self.now, self.slept, self.state = 0.0, 0, TaskState.AUTHORIZED
        self.away: list[Exception] = []
        self.opened = 0
        self.refused: list[Denial] = []
        monkeypatch.setattr(running, "refuse", lambda view, ports, denial, why: self.refused.append(denial))
        self.enclave = SimpleNamespace(alive=True)
        limits = SimpleNamespace(enclave_wait_s=30, wait_for_others_s=5, poll_s=1)
        self.ports = SimpleNamespace(
            me="host",
            chain=self,
            store=SimpleNamespace(task=lambda task: SimpleNamespace(stop_wanted=False)),
            sessions=self,
            limits=limits,
            clock=lambda: self.now,
            sleep=self.sleep,
        )
        self.hold = SimpleNamespace(ports=self.ports, enclave=self.enclave, lost=False)
        known = SimpleNamespace(peers_of=lambda me: ())
        self.view = SimpleNamespace(task="task", terms=SimpleNamespace(deadline=1_000), known=lambda: known)

    def sleep(self, seconds):
        self.now += seconds
        self.slept += 1

    def finalized(self):
        if self.away:
            raise self.away.pop()
        return

    def task(self, task, *, at):
        return SimpleNamespace(state=self.state)

    def open(self, task, peers):
        if self.away:
            raise self.away.pop()
        self.opened += 1
        return "gateway"


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


def test_owners_that_do_not_start_in_time_end_the_wait_by_name(world):
    running._await_owners(world.view, world.hold)
    assert world.refused == [Denial.OTHERS_ABSENT]
    assert world.now == 30


def test_an_enclave_whose_process_is_gone_is_refused_at_once(world):
    world.enclave.alive = False
    running._await_owners(world.view, world.hold)
    assert (world.refused, world.now) == ([Denial.ENCLAVE_LOST], 0)


def test_a_node_that_lost_its_enclave_in_a_restart_refuses(world):
    world.hold.enclave = None
    running._await_owners(world.view, world.hold)
    assert world.refused == [Denial.ENCLAVE_LOST]


def test_the_last_start_ends_the_wait_and_nothing_is_refused(world):
    world.state = TaskState.RUNNING
    assert running._await_owners(world.view, world.hold) is None
    assert world.refused == []


def test_a_chain_that_is_away_for_a_while_does_not_cost_the_enclave_its_life(world):
    world.away = [ChainUnavailable("no answer")] * 3
    running._await_owners(world.view, world.hold)
    assert world.refused == [Denial.OTHERS_ABSENT]
    assert world.slept >= 30


def test_a_gateway_that_is_away_is_asked_again_while_an_enclave_is_held(world):
    world.away = [GatewayDown("no answer")] * 3
    assert running._opened(world.view, world.hold) == "gateway"
    assert world.opened == 1


def test_a_gateway_that_stays_away_is_given_up(world):
    world.away = [GatewayDown("no answer")] * 100
    with pytest.raises(GatewayDown):
        running._opened(world.view, world.hold)
    assert world.now == 5


def test_without_an_enclave_a_gateway_that_is_away_is_not_waited_for(world):
    world.hold.enclave, world.away = None, [GatewayDown("no answer")]
    with pytest.raises(GatewayDown):
        running._opened(world.view, world.hold)
    assert world.slept == 0


def hold_of(seats, task):
    last = SimpleNamespace(last=lambda task, kind: None)
    return Hold(SimpleNamespace(me="host", seats=seats, evidence=last), task, "token", 0.0)


def test_one_worker_stays_free_of_enclaves_where_there_are_several():
    for workers, most in ((1, 1), (2, 1), (5, 4)):
        seats = Seats(workers)
        assert [seats.take() for _ in range(most + 1)] == [True] * most + [False]
        seats.leave()
        assert seats.take()


def test_a_task_waits_where_no_seat_is_free_for_its_enclave_and_takes_one_that_was_given_back(world):
    seats = Seats(2)
    view = SimpleNamespace(task="task", known=lambda: SimpleNamespace(spec=SimpleNamespace(enclave="host")))
    first, second = hold_of(seats, "first"), hold_of(seats, "second")
    for _ in range(2):  # one that looks again keeps the seat it has
        assert gate._seen(view, first) is None
    with pytest.raises(NotShown, match="concurrency"):
        gate._seen(view, second)
    ended = []
    first.enclave = SimpleNamespace(end=lambda: ended.append("first"))
    for _ in range(2):
        first.let_go()
    assert ended
    assert gate._seen(view, second) is None
