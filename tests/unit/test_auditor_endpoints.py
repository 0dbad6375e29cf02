"""Several endpoints read as one: who fails is passed over, who contradicts ends the audit."""

from __future__ import annotations

import httpx
import pytest
from fake_endpoint import FakeEndpoint, block

from sealtrace.auditor.endpoints import Endpoints, EndpointsDisagree
from sealtrace.auditor.headers import read_header
from sealtrace.auditor.reading import read_range
from sealtrace.auditor.rpc import EndpointRefused, EndpointUnreachable
from sealtrace.protocol.identifiers import NOTHING, Hex32, UnixSeconds
from sealtrace.protocol.records import BlockRef


def chain(length, *, fork_at=None):
    found = []
    for number in range(length):
        extra = b"fork" if fork_at is not None and number >= fork_at else b""
        parent = found[-1]["hash"] if found else NOTHING
        found.append(block(number, parent, 1_000 + number, extraData="0x" + extra.hex()))
    return found


BLOCKS = chain(250)
LAST = BlockRef(249, Hex32(BLOCKS[-1]["hash"]), UnixSeconds(1_249))


class Host(FakeEndpoint):
    """An endpoint that serves ``blocks``, no logs, and only as many posts as ``posts``."""

    def __init__(self, blocks=BLOCKS, *, posts=1_000, refuses=()):
        self.blocks, self.posts, self.refuses = blocks, posts, refuses
        self.answered = 0

    def answer(self, request):
        if self.answered >= self.posts:
            raise httpx.ConnectError("gone")
        self.answered += 1
        return super().answer(request)

    def result(self, method, params):
        if method in self.refuses:
            return {"error": {"code": -32000, "message": "pruned"}}
        if method == "eth_getLogs":
            return {"result": []}
        number = int(params[0], 16)
        return {"result": self.blocks[number] if number < len(self.blocks) else None}


def endpoints(*hosts):
    return Endpoints([host.rpc(f"host-{n}") for n, host in enumerate(hosts, 1)], LAST)


def problems(*hosts):
    return read_range(endpoints(*hosts), [], 0, LAST.number).proof.chain_problems


def test_an_endpoint_that_dies_while_it_is_read_is_followed_by_the_next_and_all_is_linked():
    first, second = Host(posts=3), Host()
    assert problems(first, second) == ()
    assert first.answered == 3
    assert second.answered > 1


def test_what_one_endpoint_refuses_the_next_is_asked_and_the_first_goes_on_with_the_rest():
    first, second = Host(refuses=["eth_getLogs"]), Host()
    rpc = endpoints(first, second)
    assert rpc.ask("eth_getLogs", {}) == []
    before = second.answered
    assert rpc.ask_all("eth_getBlockByNumber", [(hex(3), False)]) == [BLOCKS[3]]
    assert second.answered == before


def test_an_endpoint_that_is_behind_or_gone_is_not_read_from():
    behind, gone, whole = Host(BLOCKS[:249]), Host(posts=0), Host()
    assert problems(behind, gone, whole) == ()
    assert (behind.answered, gone.answered) == (1, 0)


@pytest.mark.parametrize("liar", [0, 1])
def test_an_endpoint_that_shows_another_last_block_ends_the_audit_by_name(liar):
    hosts = [Host(), Host()]
    hosts[liar] = Host(chain(250, fork_at=200))
    with pytest.raises(EndpointsDisagree, match=f"block 249 is {LAST.hash} .* at http://host-{liar + 1}"):
        endpoints(*hosts)


def test_an_endpoint_that_agrees_on_the_end_alone_is_found_by_the_links():
    forked = [*chain(249, fork_at=120), BLOCKS[249]]
    assert problems(Host(forked), Host()) != ()
    assert read_header(forked[-1]).computed == LAST.hash


def test_where_no_endpoint_shows_the_last_block_each_is_named_with_its_reason():
    with pytest.raises(EndpointUnreachable, match=r"block 249: http://host-1: .*; http://host-2: .*gone"):
        endpoints(Host(BLOCKS[:10]), Host(posts=0))


def test_what_all_endpoints_refuse_is_refused():
    with pytest.raises(EndpointRefused, match="pruned"):
        endpoints(Host(refuses=["eth_getLogs"]), Host(refuses=["eth_getLogs"])).ask("eth_getLogs", {})
