"""What can be seen of a running network: its files, queues, processes and wires, looked at again and again.

Each observer keeps what it saw by place, such as ``node bank``; nothing is judged here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import stat
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import redis

Seen = Mapping[str, list[bytes]]
MOST_BYTES = 256 << 20
"""A file that is larger is a fault of the test's."""


class Disk:
    """Every version of every file under a directory, as far as it lived until a look."""

    def __init__(self, root: Path, place_of: Callable[[Path], str]) -> None:
        self.root = root
        self._place_of = place_of
        self._known: dict[Path, tuple[int, int, int]] = {}
        self._versions: dict[Path, list[bytes]] = {}

    def look(self, *, under: str = "") -> None:
        """Take in what is new since the last look; ``under`` narrows it to folders that match."""
        for folder in self.root.glob(under) if under else [self.root]:
            for path in _files(folder):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    self._take(path)

    def seen(self) -> Seen:
        """All contents by place."""
        found = defaultdict(list)
        for path, versions in self._versions.items():
            found[self._place_of(path.relative_to(self.root))] += versions
        return found

    def paths(self) -> list[Path]:
        """Every file that was ever there."""
        return list(self._versions)

    def _take(self, path: Path) -> None:
        found = path.lstat()
        mark = (found.st_ino, found.st_size, found.st_mtime_ns)
        if not stat.S_ISREG(found.st_mode) or self._known.get(path) == mark:
            return
        assert found.st_size < MOST_BYTES, path
        content = path.read_bytes()
        self._known[path] = mark
        versions = self._versions.setdefault(path, [])
        if versions and content.startswith(versions[-1]):  # it grew
            versions[-1] = content
        elif content and content not in versions[-3:]:
            versions.append(content)


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
    for here, _, names in os.walk(folder):
        yield from (Path(here) / name for name in names)


class Queues:
    """Every value of every key in every database of a Redis server."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self._clients = {place: redis.Redis.from_url(url) for place, url in urls.items()}
        self._values: dict[str, dict[bytes, bytes]] = {place: {} for place in urls}

    def look(self) -> None:
        """Take in what is there now."""
        for place, client in self._clients.items():
            for key in client.scan_iter(count=1000):
                with contextlib.suppress(redis.ResponseError):  # it went, or became another kind, meanwhile
                    for value in (key, client.dump(key) or b"", *self._read(client, key)):
                        self._values[place][hashlib.sha256(value).digest()] = value

    def seen(self) -> Seen:
        """All values by database."""
        return {place: list(values.values()) for place, values in self._values.items()}

    @staticmethod
    def _read(client: redis.Redis, key: bytes) -> Iterator[bytes]:
        kind = client.type(key)
        if kind == b"string":
            yield client.get(key) or b""
        elif kind == b"list":
            yield b"\n".join(client.lrange(key, 0, -1))
        elif kind == b"hash":
            yield b"\n".join(part for pair in client.hgetall(key).items() for part in pair)
        elif kind == b"set":
            yield b"\n".join(client.smembers(key))
        elif kind == b"zset":
            yield b"\n".join(client.zrange(key, 0, -1))
        elif kind == b"stream":
            yield repr(client.xrange(key)).encode()


class Programs:
    """Command lines and environments of processes that speak of a directory."""

    PLACE = "processes"

    def __init__(self, root: Path) -> None:
        self._root = str(root).encode()
        self._said: dict[bytes, None] = {}

    def look(self) -> None:
        """Take in what runs now."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    line = (entry / "cmdline").read_bytes()
                    if self._root in line:
                        self._said[line + (entry / "environ").read_bytes()] = None

    def seen(self) -> Seen:
        """All that was said."""
        return {self.PLACE: list(self._said)}


ETH_P_IP = 0x0800
SOL_PACKET, PACKET_STATISTICS = 263, 6
SO_ATTACH_FILTER, SO_RCVBUFFORCE = 26, 33
_KEPT_BY_KERNEL = 256 << 20
_LOAD_BYTE, _LOAD_HALF, _HALF_AT, _HEADER, _JUMP_IF_EQUAL, _RETURN = 0x30, 0x28, 0x48, 0xB1, 0x15, 0x06
_PACKET_TYPE = (-0x1000 + 4) & 0xFFFFFFFF
_OUTGOING, _TCP = 4, 6
Flow = tuple[bytes, int, bytes, int]


class NoCapture(PermissionError):
    """Packets cannot be captured: the test does not run as root, or the kernel has no packet sockets."""


class Wire:
    """TCP on loopback to and from some ports: what each connection carried, each way."""

    def __init__(self, ports: Mapping[int, str]) -> None:
        """Capture from now on; ``ports`` gives each port its place.

        Raises:
            NoCapture: it is not allowed here.
        """
        self._ports = dict(ports)
        self._segments: dict[Flow, list[tuple[int, bytes]]] = defaultdict(list)
        self._over = threading.Event()
        self._socket = _capturing(list(ports))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """End the capture and return how many packets the kernel had to drop."""
        self._over.set()
        self._thread.join()
        _, dropped = struct.unpack("II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        self._socket.close()
        return int(dropped)

    def seen(self) -> Seen:
        """The bytes of every connection, each way, by place."""
        found = defaultdict(list)
        for flow, segments in self._segments.items():
            place = self._ports.get(flow[3]) or self._ports[flow[1]]
            found[place].append(joined(segments))
        return found

    def _read(self) -> None:
        while not self._over.is_set():
            try:
                packet = self._socket.recv(1 << 17)
            except TimeoutError:
                continue
            head = (packet[0] & 15) * 4
            source, target, number = struct.unpack_from("!HHI", packet, head)
            payload = packet[head + (packet[head + 12] >> 4) * 4 :]
            if payload:
                flow = (packet[12:16], source, packet[16:20], target)
                self._segments[flow].append((number, payload))


def joined(segments: list[tuple[int, bytes]]) -> bytes:
    """A direction's bytes in their order; what was sent again counts once, what is missing is left out."""
    first = segments[0][0]
    ahead = sorted(((number - first + (1 << 31)) % (1 << 32), payload) for number, payload in segments)
    done, end = bytearray(), 0
    for at, payload in ahead:
        if at + len(payload) > end:
            done += payload[max(0, end - at) :] if done else payload
            end = at + len(payload)
    return bytes(done)


def _capturing(ports: list[int]) -> socket.socket:
    try:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    except (PermissionError, AttributeError, OSError) as cause:
        raise NoCapture(f"packets on loopback cannot be captured, which root may: {cause}") from cause
    program = _filter(ports)
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    buffer = _Buffer(code)
    made.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(program), buffer.address))
    made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _KEPT_BY_KERNEL)
    made.bind(("lo", ETH_P_IP))
    made.settimeout(0.2)
    return made


def _filter(ports: list[int]) -> list[tuple[int, int, int, int]]:
    """A classic BPF program: incoming TCP with one of ``ports`` at either end. Loopback shows each twice."""
    match = [
        line
        for offset in (0, 2)
        for line in [(_HALF_AT, 0, 0, offset), *((_JUMP_IF_EQUAL, 0, 0, port) for port in ports)]
    ]
    length = len(match)
    jumps = [
        (code, length - at if code == _JUMP_IF_EQUAL else 0, no, value)
        for at, (code, _, no, value) in enumerate(match)
    ]
    return [
        (_LOAD_BYTE, 0, 0, _PACKET_TYPE),
        (_JUMP_IF_EQUAL, length + 3, 0, _OUTGOING),
        (_LOAD_BYTE, 0, 0, 9),
        (_JUMP_IF_EQUAL, 0, length + 1, _TCP),
        (_HEADER, 0, 0, 0),
        *jumps,
        (_RETURN, 0, 0, 0),
        (_RETURN, 0, 0, 0xFFFFFFFF),
    ]


class _Buffer:
    """Bytes at an address that stays."""

    def __init__(self, content: bytes) -> None:
        import ctypes

        self._held = ctypes.create_string_buffer(content, len(content))
        self.address = ctypes.addressof(self._held)


class Lookout(threading.Thread):
    """Looks again and again: at what is short-lived often, at the rest now and then."""

    def __init__(self, looks: Mapping[Callable[[], None], float]) -> None:
        """``looks`` gives each its pause, in seconds."""
        super().__init__(daemon=True)
        self._looks = dict(looks)
        self._done = dict.fromkeys(looks, 0)
        self._over = threading.Event()

    def run(self) -> None:
        """Look until told to end."""
        due = dict.fromkeys(self._looks, 0.0)
        while not self._over.wait(min(self._looks.values())):
            for look, pause in self._looks.items():
                if time.monotonic() >= due[look]:
                    look()
                    self._done[look] += 1
                    due[look] = time.monotonic() + pause

    def look_at_all(self) -> None:
        """Wait until every look has begun after this call and ended: what is there now has been seen then."""
        until = {look: done + 2 for look, done in self._done.items()}
        while self.is_alive() and any(self._done[look] < count for look, count in until.items()):
            time.sleep(0.05)

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End, and look once more unless something went wrong."""
        self._over.set()
        self.join()
        for look in self._looks if kind is None else ():
            look()
