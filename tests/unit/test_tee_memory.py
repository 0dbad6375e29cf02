"""Is it gone? Another process is searched, through ``/proc/PID/mem``, for bytes that it held."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealtrace.node.engines.tee import memory

KEPT = 4096
HEAD = """
import mmap, os, sys
from sealtrace.node.engines.tee import memory
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
def told(word):
    print(word, flush=True)
    sys.stdin.readline()
source = int(sys.argv[1])
"""
PLAIN = """
held = os.read(source, 4096)
told("held")
"""
IN_PLACE = """
with memory.buffer(4096) as held:
    memory.fill(source, held)
    told("held")
told("wiped")
"""
FAILING = """
try:
    with memory.buffer(4096) as held:
        memory.fill(source, held)
        told("held")
        raise ValueError("the job failed")
except ValueError:
    told("wiped")
"""
DECRYPTED = """
sealed = os.read(source, 8192)
with memory.buffer(4096) as held:
    AESGCM(bytes(32)).decrypt_into(bytes(12), sealed, None, held)
    told("held")
told("wiped")
"""
BYTEARRAY = """
held = bytearray(4096)
memory.fill(source, memoryview(held))
told("held")
memory.wipe(held)
told("wiped")
"""


def count(pid, marker):
    """How often ``marker`` is anywhere in what the process can read."""
    found = 0
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as held:
        for line in maps:
            place, rights = line.split()[:2]
            start, end = (int(each, 16) for each in place.split("-"))
            if "r" not in rights or "[v" in line:
                continue
            try:
                held.seek(start)
                found += held.read(end - start).count(marker)
            except (OSError, ValueError, OverflowError):
                continue
    return found


def search(script, content, marker):
    """How often the marker is in a process that runs ``script``, by the word that it stops at."""
    reader, writer = os.pipe()
    os.write(writer, content)
    os.close(writer)
    seen = {}
    with subprocess.Popen(
        [sys.executable, "-c", HEAD + script, str(reader)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[reader],
    ) as process:
        os.close(reader)
        for line in process.stdout:
            seen[line.decode().strip()] = count(process.pid, marker)
            process.stdin.write(b"\n")
            process.stdin.flush()
    assert process.returncode == 0
    return seen


@pytest.fixture
def content():
    return os.urandom(KEPT)


def test_the_search_finds_what_is_there(content):
    assert search(PLAIN, content, content[100:164])["held"] >= 1


@pytest.mark.parametrize(
    "script", [IN_PLACE, FAILING, BYTEARRAY], ids=["in place", "after a failure", "bytearray"]
)
def test_nothing_is_left_of_what_was_filled_and_wiped(script, content):
    assert search(script, content, content[100:164]) == {"held": 1, "wiped": 0}


def test_nothing_is_left_of_what_was_decrypted_in_place(content):
    sealed = AESGCM(bytes(32)).encrypt(bytes(12), content, None)
    assert search(DECRYPTED, sealed, content[100:164]) == {"held": 1, "wiped": 0}


def test_a_wiped_buffer_is_zeros_then_gone():
    held = bytearray(b"secret")
    memory.wipe(held)
    assert held == bytes(6)
    with memory.buffer(6) as view:
        view[:] = b"secret"
        kept = memory.Buffer(3)
        kept.view[:] = b"abc"
        kept.wipe()
        kept.wipe()
    with pytest.raises(ValueError, match="released"):
        view[0]


@pytest.mark.parametrize("secret", [b"bytes", memoryview(b"view")])
def test_what_cannot_be_written_cannot_be_wiped(secret):
    with pytest.raises((TypeError, ValueError)):
        memory.wipe(secret)


def test_nothing_can_be_wiped_of_nothing():
    memory.wipe(bytearray())
    with memory.buffer(0) as view:
        assert len(view) == 0


def test_an_input_that_ends_early_is_not_taken_for_whole(content):
    reader, writer = os.pipe()
    os.write(writer, content[:10])
    os.close(writer)
    with memory.buffer(11) as view, pytest.raises(memory.InputEnded, match="10 bytes came"):
        memory.fill(reader, view)
    os.close(reader)


def test_a_child_does_not_inherit_the_secret():
    with memory.buffer(6) as view:
        view[:] = b"secret"
        child = os.fork()
        if child == 0:
            os._exit(0 if bytes(view) == bytes(6) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_hardened_process_cannot_be_dumped():
    script = (
        "import ctypes\n"
        "from sealtrace.node.engines.tee import memory\n"
        "granted = memory.harden()\n"
        "print(granted.undumpable, ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), granted.locked)\n"
        "print([line for line in open('/proc/self/status') if line.startswith('VmLck')][0].split()[1])\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True
    ).stdout.split()
    assert said[:2] == ["True", "0"]
    assert (said[2] == "True") is (int(said[3]) > 0)
