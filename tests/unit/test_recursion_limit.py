"""No import leaves a recursion limit behind at which a parser overflows the C stack."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sealtrace.protocol.accounts import RECURSION_LIMIT

SERVERS = (
    "sealtrace.node.api.app",
    "sealtrace.node.worker",
    "sealtrace.node.watcher",
    "sealtrace.node.processes",
    "sealtrace.node.engines.party",
    "sealtrace.scheduler.api",
    "sealtrace.scheduler.worker",
    "sealtrace.auditor.api",
    "sealtrace.requester.client",
)


@pytest.mark.parametrize("module", SERVERS)
def test_a_process_that_reads_foreign_json_keeps_the_default_limit(module):
    program = f"import sys, {module}; print(sys.getrecursionlimit())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    assert int(done.stdout) <= RECURSION_LIMIT


def test_json_of_a_million_brackets_does_not_kill_the_process():
    program = """if True:
        import json, sealtrace.node.api.app
        try:
            json.loads("[" * 1_000_000)
        except RecursionError:
            print("refused")
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    assert done.stdout.strip() == b"refused"
