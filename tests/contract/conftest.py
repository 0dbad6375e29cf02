"""One chain for all tests of a process; each test finds it as it was built."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from chain_world import World, build


@pytest.fixture(scope="session")
def _world() -> World:
    return build()


@pytest.fixture
def world(_world: World) -> Iterator[World]:
    snapshot = _world.engine.take_snapshot()
    yield _world
    _world.engine.revert_to_snapshot(snapshot)
