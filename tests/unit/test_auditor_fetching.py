"""Windows of blocks are as wide as their logs are few."""

from __future__ import annotations

import pytest
from fake_endpoint import block

from sealtrace.auditor.fetching import FEW_LOGS, MANY_LOGS, NARROWEST, WIDEST, Fetching
from sealtrace.auditor.headers import ToldLog
from sealtrace.protocol.identifiers import NOTHING, Address

WHERE = Address("0x" + "ab" * 20)


class Crowded:
    """A chain with ``logs`` in each block."""

    def __init__(self, logs):
        self.logs = logs

    def ask(self, method, *params, kind=None):
        first, last = (int(params[0][name], 16) for name in ("fromBlock", "toBlock"))
        return [
            ToldLog(WHERE, (), "0x", hex(number), hex(index), NOTHING)
            for number in range(first, last + 1)
            for index in range(self.logs)
        ]

    def ask_all(self, method, params, kind=None):
        return [block(int(number, 16), NOTHING, 1) for number, _ in params]


@pytest.mark.parametrize(("logs", "blocks"), [(0, 6_000), (40, 3_000), (400, 1_000)])
def test_windows_become_as_wide_as_their_logs_are_few_however_one_is_taken_apart(logs, blocks):
    widths = []
    for window in Fetching(Crowded(logs), [WHERE], receipts=False).windows(0, blocks - 1):
        widths.append(len(window.headers))
        window.told.clear()
    assert (sum(widths), widths[0]) == (blocks, NARROWEST)
    *_, settled, _ = widths
    assert settled == WIDEST if logs == 0 else FEW_LOGS <= settled * logs <= MANY_LOGS
