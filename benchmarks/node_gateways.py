"""Nodes' gateways, a process each, for one task that always runs."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from places import HERE, Place

from sealtrace.node.gateway.authority import Party, Session
from sealtrace.node.gateway.certificates import create_certificate, fingerprint, pem_to_der
from sealtrace.node.gateway.control import GatewayControl, Introduction
from sealtrace.node.gateway.server import Gateway, GatewayConfig, run
from sealtrace.protocol.identifiers import Address, Hex32

NODES = tuple(Address("0x" + digit * 20) for digit in ("01", "02", "03"))
TASK = Hex32("0x" + "11" * 32)
CONTROL = "control-token-of-the-benchmark"
READY_S = 30.0

Known = tuple[GatewayControl, str, str]
"""A gateway's control, the address at which peers reach it, its certificate."""


class AlwaysRunning:
    """A chain that knows one task of the first of ``NODES``, which always runs."""

    def __init__(self, fingerprints: tuple[bytes, ...]) -> None:
        self._session = Session(tuple(map(Party, NODES, fingerprints)), running=True)

    def session(self, task: str) -> Session | None:
        """The one task's standing."""
        return self._session if task == TASK else None


@contextmanager
def gateways(folder: Path, places: Sequence[Place] = (HERE, HERE)) -> Iterator[list[Known]]:
    """A gateway at each of ``places``, in a process of its own; all know each other's certificates."""
    nodes = NODES[: len(places)]
    certificates = [_certificate(folder, node) for node in nodes]
    prints = tuple(fingerprint(pem_to_der(each)) for each in certificates)
    context = multiprocessing.get_context("spawn")
    ports = context.Queue()
    started = [
        context.Process(target=_serve, args=(folder, me, place, prints, ports), daemon=True)
        for me, place in enumerate(places)
    ]
    try:
        for process in started:
            process.start()
        found = dict(ports.get(timeout=READY_S) for _ in started)
        yield [_known(found[me], certificates[me], place) for me, place in enumerate(places)]
    finally:
        for process in started:
            process.kill()
            process.join()


def _known(ports: tuple[int, int], certificate: str, place: Place) -> Known:
    peer_port, local_port = ports
    control = GatewayControl(f"http://127.0.0.1:{local_port}", CONTROL)
    return control, f"https://{place.address}:{peer_port}", certificate


def open_session(known: Sequence[Known], me: int) -> str:
    """Open the task's session at gateway ``me``, from its place, and return the engine's token."""
    peers = [
        Introduction(NODES[at], url, certificate)
        for at, (_, url, certificate) in enumerate(known)
        if at != me
    ]
    return known[me][0].open(TASK, peers)


def _certificate(folder: Path, node: Address) -> str:
    certificate, key = create_certificate(node)
    (folder / f"{node}.crt").write_bytes(certificate)
    (folder / f"{node}.key").write_bytes(key)
    return certificate.decode("ascii")


def _serve(folder: Path, me: int, place: Place, prints: tuple[bytes, ...], ports: Any) -> None:
    place.enter()
    node = NODES[me]
    config = GatewayConfig(
        node=node,
        certificate=folder / f"{node}.crt",
        private_key=folder / f"{node}.key",
        control_token=CONTROL,
        peer_host=place.address,
    )

    def ready(gateway: Gateway) -> None:
        ports.put((me, (gateway.peer_port, gateway.local_port)))

    run(config, AlwaysRunning(prints), ready)
