"""Parties in network namespaces of their own, joined by emulated lines: a rate, a delay, a queue.

Each party's namespace has one network device, a TUN. What its processes send leaves it as IP packets, which a
process of ours holds back as ``tc netem delay D rate R limit N`` on that device would, and hands to the party
they are for. It needs no netem in the kernel, and counts the bytes. Devices end with that process; namespaces
bear the benchmark's process id, and the next run removes those whose process is gone, and what runs there.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import multiprocessing
import os
import select
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from places import Place, names_of_living

PREFIX = "sealtrace-bench-"
DEVICE = "line0"
MTU = 1500
READY_S = 10.0
READ_AT_ONCE = 64
_NETWORK = bytes((10, 211, 77))
_TUN = Path("/dev/net/tun")
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x4004_54CA, 0x0001, 0x1000


class LinksUnavailable(RuntimeError):
    """This machine or user cannot emulate lines; the message says what is needed."""


@dataclass(frozen=True, slots=True)
class Line:
    """What joins a party to all others: what it sends passes one queue at ``mbit_s``, then takes ``delay_s``.

    ``queue_packets`` are those that wait or are being sent; one more is dropped.
    """

    delay_s: float = 0.005
    mbit_s: float = 100.0
    queue_packets: int = 1000

    @property
    def round_trip_ms(self) -> float:
        """What a packet there and one back take at least."""
        return 2000 * self.delay_s


@dataclass(slots=True)
class Sender:
    """One party's end of its line, as a function of moments in seconds: nothing waits here."""

    line: Line
    packets: int = 0
    octets: int = 0
    dropped: int = 0
    _free_at: float = 0.0
    _leaving: list[float] = field(default_factory=list)

    def send(self, now: float, size: int) -> float | None:
        """Take a packet of ``size`` bytes and return when it arrives, or ``None`` where the queue is full."""
        while self._leaving and self._leaving[0] <= now:
            heapq.heappop(self._leaving)
        if len(self._leaving) >= self.line.queue_packets:
            self.dropped += 1
            return None
        self._free_at = max(now, self._free_at) + size * 8 / (self.line.mbit_s * 1e6)
        heapq.heappush(self._leaving, self._free_at)
        self.packets += 1
        self.octets += size
        return self._free_at + self.line.delay_s


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines that are up."""

    places: tuple[Place, ...]
    _ask: Any

    def sent(self) -> tuple[int, float]:
        """Bytes that all parties have sent so far, IP headers included, and the emulation's CPU seconds."""
        self._ask.send(None)
        octets, cpu_s = self._ask.recv()
        return octets, cpu_s


def require_able() -> None:
    """Refuse where lines cannot be emulated.

    Raises:
        LinksUnavailable: not root, no ``ip``, or no ``/dev/net/tun``.
    """
    if os.geteuid() != 0:
        raise LinksUnavailable("network namespaces need root: run this benchmark as root, or with sudo")
    if shutil.which("ip") is None:
        raise LinksUnavailable("the program `ip` is missing: install iproute2")
    if not _TUN.exists():
        raise LinksUnavailable(f"{_TUN} is missing: load the kernel's module `tun`, or allow the device here")


@contextmanager
def lines(count: int, line: Line) -> Iterator[Lines]:
    """Join ``count`` parties, and take everything down again whatever happens.

    Raises:
        LinksUnavailable: as :func:`require_able`, or the kernel refused.
    """
    require_able()
    remove_left_behind()
    places = tuple(Place(_address(at), f"{PREFIX}{os.getpid()}-{at}") for at in range(count))
    here, there = multiprocessing.Pipe()
    # a process of its own: the emulation must not wait while this one computes
    context = multiprocessing.get_context("spawn")
    carrier = context.Process(target=_carry, args=(places, line, there), daemon=True)
    try:
        for place in places:
            _ip("netns", "add", str(place.namespace))
        carrier.start()
        if not here.poll(READY_S) or here.recv() != "ready":
            raise LinksUnavailable("the emulated lines did not come up")
        yield Lines(places, here)
    finally:
        if carrier.pid is not None:
            carrier.kill()
            carrier.join()
        for place in places:
            _remove(str(place.namespace))


def remove_left_behind() -> list[str]:
    """Remove the namespaces of runs that are gone, and end what still runs there. Returns their names."""
    _, left = names_of_living(PREFIX, [path.name for path in Path("/run/netns").glob(f"{PREFIX}*")])
    for name in left:
        _remove(name)
    return left


def _remove(name: str) -> None:
    found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
    for pid in found.stdout.split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LinksUnavailable(f"`ip {' '.join(words)}` failed: {done.stderr.strip()}; is this a container?")


def _carry(places: Sequence[Place], line: Line, ask: Any) -> None:
    """Hold all devices, and hand on what arrives at each when its time has come."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all: who started this ends it
    devices = [_device(place) for place in places]
    senders = [Sender(line) for _ in places]
    order, due = itertools.count(), list[tuple[float, int, int, bytes]]()
    ask.send("ready")
    while True:
        wait = max(0.0, due[0][0] - time.monotonic()) if due else None
        readable, _, _ = select.select([*devices, ask], [], [], wait)
        for source, device in enumerate(devices):
            if device in readable:
                for packet in _packets(device):
                    target = target_of(packet, len(places))
                    if target is None:
                        continue
                    at = senders[source].send(time.monotonic(), len(packet))
                    if at is not None:
                        heapq.heappush(due, (at, next(order), target, packet))
        now = time.monotonic()
        while due and due[0][0] <= now:
            _, _, target, packet = heapq.heappop(due)
            os.write(devices[target], packet)
        if ask in readable:
            ask.recv()
            ask.send((sum(each.octets for each in senders), time.process_time()))


def target_of(packet: bytes, count: int) -> int | None:
    """Return which party an IPv4 packet is for; ``None`` for what is none, or for nobody here."""
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return None
    at = packet[19] - 1
    return at if packet[16:19] == _NETWORK and at in range(count) else None


def _address(at: int) -> str:
    return ".".join(map(str, (*_NETWORK, at + 1)))


def _packets(device: int) -> Iterator[bytes]:
    for _ in range(READ_AT_ONCE):
        try:
            yield os.read(device, MTU)
        except BlockingIOError:
            return


def _device(place: Place) -> int:
    """Make the device here and move it to its namespace; it lives as long as the descriptor is open."""
    name = f"{DEVICE}-{os.getpid() % 10_000}"
    device = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    space = str(place.namespace)
    _ip("link", "set", name, "netns", space)
    for words in (
        ("link", "set", name, "name", DEVICE, "mtu", str(MTU), "txqueuelen", "1000"),
        ("addr", "add", f"{place.address}/24", "dev", DEVICE),
        ("link", "set", DEVICE, "up"),
        ("link", "set", "lo", "up"),
    ):
        _ip("-n", space, *words)
    return device
