"""What is said where the engine cannot be loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "spu":
            raise ImportError({why!r})
sys.meta_path.insert(0, Blocker())
from sealtrace.node.engines.errors import EngineMissing
from sealtrace.node.engines.loading import load_engine
try:
    load_engine()
except EngineMissing as missing:
    print(missing)
"""


@pytest.mark.parametrize(
    ("why", "then"),
    [
        ("No module named 'spu'", "pip install 'sealtrace[mpc]'"),
        ("libgomp.so.1: cannot open shared object file", "apt install libgomp1"),
    ],
)
def test_the_missing_part_is_named_with_the_command_that_brings_it(why, then):
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(why=why)], capture_output=True, check=True, timeout=60
    )
    assert then in done.stdout.decode()
    assert why in done.stdout.decode()
