"""Those who look at a network see what is there: files that were, packets in order, nothing twice."""

from __future__ import annotations

import multiprocessing
import os
import random
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.e2e.observers import Disk, Lookout, NoCapture, Programs, Wire, joined


def test_a_file_that_is_gone_and_what_a_file_said_before_were_seen(tmp_path):
    disk = Disk(tmp_path, lambda path: path.parts[0])
    (tmp_path / "node").mkdir()
    gone, changed, grown = (tmp_path / "node" / name for name in ("gone", "changed", "grown"))
    for path in (gone, changed, grown):
        path.write_bytes(b"first")
    disk.look()
    gone.unlink()
    changed.write_bytes(b"second")
    grown.write_bytes(b"first and more")
    disk.look(under="n*")
    assert sorted(disk.seen()["node"]) == [b"first", b"first", b"first and more", b"second"]


@pytest.mark.parametrize("first", [1_000, 2**32 - 700])
def test_packets_are_joined_in_their_order_and_each_byte_once(first):
    data = random.Random(1).randbytes(2_000)
    cuts = [(0, 500), (500, 900), (300, 900), (900, 2_000), (900, 1_000)]
    segments = [((first + begin) % 2**32, data[begin:end]) for begin, end in cuts]
    assert joined(segments) == data
    assert joined([segments[0], *reversed(segments)]) == data


def test_the_wire_carries_what_was_sent_each_way():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        try:
            wire = Wire({server.getsockname()[1]: "ours"})
        except NoCapture as cause:
            pytest.skip(str(cause))
        asked, answered = os.urandom(1 << 20), os.urandom(50_000)
        talk(server, asked, answered)
        talk(other, b"not ours", b"at all")
        time.sleep(0.3)
        assert wire.stop() == 0
    assert sorted(wire.seen()["ours"], key=len) == [answered, asked]
    assert set(wire.seen()) == {"ours"}


def talk(server: socket.socket, asked: bytes, answered: bytes) -> None:
    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            left = len(asked)
            while left:
                left -= len(connection.recv(1 << 16))
            connection.sendall(answered)

    thread = threading.Thread(target=answer)
    thread.start()
    with socket.create_connection(server.getsockname()) as client:
        client.sendall(asked)
        while client.recv(1 << 16):
            pass
    thread.join()


def _without_rights(said) -> None:
    if os.getuid() == 0:
        os.setuid(65_534)
    try:
        Wire({1: "it"})
        said.put("captured")
    except NoCapture as cause:
        said.put(str(cause))


def test_who_may_not_capture_is_told_why():
    context = multiprocessing.get_context("fork")
    said = context.Queue()
    child = context.Process(target=_without_rights, args=(said,))
    child.start()
    assert "cannot be captured, which root may" in said.get(timeout=30)
    child.join()


def test_a_lookout_looks_until_it_is_told_to_end_and_once_more(tmp_path):
    looks: list[float] = []
    lookout = Lookout({lambda: looks.append(time.monotonic()): 0.01})
    with lookout:
        while len(looks) < 5:
            time.sleep(0.01)
        before = len(looks)
        lookout.look_at_all()
        during = len(looks)
    assert len(looks) > during > before
    assert not lookout.is_alive()


def test_a_process_that_speaks_of_the_directory_is_read(tmp_path: Path):
    programs = Programs(tmp_path)
    waiting = ["/bin/sh", "-c", "read it", str(tmp_path)]
    with subprocess.Popen(waiting, stdin=subprocess.PIPE, env={"TOLD": "in-the-environment"}) as child:
        time.sleep(0.3)
        programs.look()
        child.kill()
    (said,) = programs.seen()[Programs.PLACE]
    assert b"TOLD=in-the-environment" in said
