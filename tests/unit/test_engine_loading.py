"""What is said where the engine cannot be loaded."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from sealtrace.node.engines.loading import HEAPS

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


THREADS = """
import ctypes, sys, threading
from sealtrace.node.engines.loading import keep_heaps_few
if sys.argv[1] == "few":
    keep_heaps_few()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.fopen.restype = ctypes.c_void_p
ready = threading.Barrier(8)
def allocate():
    ready.wait()
    libc.malloc(10_000)
    ready.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for each in threads: each.start()
for each in threads: each.join()
libc.malloc_info(0, ctypes.c_void_p(libc.fopen(b"/dev/stderr", b"w")))
libc.fflush(None)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="not the C library that needs it")
@pytest.mark.parametrize(("how", "few"), [("few", True), ("many", False)])
def test_threads_share_few_heaps(how, few):
    done = subprocess.run([sys.executable, "-c", THREADS, how], capture_output=True, check=True, timeout=60)
    assert (done.stderr.count(b"<heap nr=") <= HEAPS) == few
