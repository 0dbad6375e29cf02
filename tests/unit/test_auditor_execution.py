"""Executing a chain again: what is done where it cannot be, by an endpoint or by what is installed."""

from __future__ import annotations

import builtins

import pytest

from sealtrace.auditor.execution import CannotExecute, execute_again
from sealtrace.contracts.embedded import verify
from sealtrace.protocol.identifiers import NOTHING, UnixSeconds, hex32
from sealtrace.protocol.records import BlockRef

LAST = BlockRef(3, NOTHING, UnixSeconds(9))


def test_an_endpoint_that_does_not_hand_out_its_blocks_leaves_it_undone_with_a_reason():
    found = execute_again("http://127.0.0.1:1", LAST)
    assert not found.done
    assert "does not hand out its blocks" in found.why


def test_a_head_that_is_not_the_audits_last_block_is_a_problem(monkeypatch):
    other = verify.Verification(1, 3, 4, NOTHING, hex32(b"\1" * 32), 9)
    monkeypatch.setattr(verify, "verify_endpoint", lambda *_: other)
    found = execute_again("http://x", LAST)
    assert found.done
    assert found.problem is not None
    assert found.problem.observed == f"block 3 with hash {other.head_hash}"


def test_where_py_evm_is_not_installed_the_error_says_what_to_install(monkeypatch):
    known = builtins.__import__

    def without(name, *more):
        if "embedded" in name:
            raise ImportError("No module named 'eth'")
        return known(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CannotExecute, match=r"sealtrace\[chain\]"):
        execute_again("http://x", LAST)
