"""How the process inside talks to the one outside: a kind, a length, and JSON.

``M`` is a round of metrics, ``O`` the outputs, which are last; ``R`` says that the runtime is another than
the locked one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

METRICS, OUTPUTS, RUNTIME = b"M", b"O", b"R"
KINDS = (METRICS, OUTPUTS, RUNTIME)
MAX_METRICS_BYTES = 1 << 16
_HEAD = struct.Struct(">cI")


class BadFrame(ValueError):
    """What came from inside is no frame: the algorithm wrote to the output by itself."""


def frame(kind: bytes, body: bytes) -> bytes:
    """One frame."""
    return _HEAD.pack(kind, len(body)) + body


class Frames:
    """Takes bytes as they come and gives whole frames."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._left = bytearray()
        self._over = False

    def feed(self, chunk: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The frames that ``chunk`` completes, as kind and body.

        Raises:
            BadFrame: another kind, too long, or something after the last frame.
        """
        self._left += chunk
        while len(self._left) >= _HEAD.size and not self._over:
            kind, length = _HEAD.unpack_from(self._left)
            limit = MAX_METRICS_BYTES if kind == METRICS else self._limit_bytes
            if kind not in KINDS or length > limit:
                raise BadFrame("no frame, or one too long")
            if len(self._left) < _HEAD.size + length:
                return
            body = bytes(self._left[_HEAD.size : _HEAD.size + length])
            del self._left[: _HEAD.size + length]
            self._over = kind != METRICS
            yield kind, body
        if self._over and self._left:
            raise BadFrame("something follows the last frame")
