"""Ports of the one-machine network: free ones at first, the same ones ever after."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable


class PortTaken(RuntimeError):
    """A port the network has always used is held by another program."""


FIRST, LAST = 20_000, 31_999  # below the range from which the kernel takes ports for outgoing connections


def free_ports(count: int) -> list[int]:
    """``count`` distinct loopback ports nobody listens on now.

    Raises:
        PortTaken: there are not so many.
    """
    start = random.randrange(FIRST, LAST)  # noqa: S311 - two networks started together should not meet
    found: list[int] = []
    for port in (*range(start, LAST), *range(FIRST, start)):
        if is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise PortTaken(f"no {count} free ports between {FIRST} and {LAST}: stop some programs")


def is_free(port: int) -> bool:
    """Whether a listener could take ``port`` on loopback now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def require_free(ports: Iterable[int]) -> None:
    """Raise :class:`PortTaken` naming the first of ``ports`` that is in use."""
    for port in ports:
        if not is_free(port):
            raise PortTaken(
                f"port {port} is in use: stop the program that holds it, or remove the network's "
                "directory to have ports chosen anew"
            )
