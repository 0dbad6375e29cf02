"""The long-running processes of a node, each started by one command."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sealtrace import __version__
from sealtrace.contracts import calls
from sealtrace.node.checkpoints import Anchorer
from sealtrace.node.errors import NodeError, PortTaken
from sealtrace.node.gateway.relay import Relay
from sealtrace.node.gateway.relay import serve as serve_relay
from sealtrace.node.gateway.server import Gateway, GatewayConfig
from sealtrace.node.gateway.server import Limits as GatewayLimits
from sealtrace.node.gateway.server import run as run_gateway
from sealtrace.node.sessions import ChainAuthority
from sealtrace.node.watcher import Watcher
from sealtrace.node.wiring import Node, control_token, when_chain_answers
from sealtrace.node.worker import enqueue, queue_app
from sealtrace.protocol.records import Checkpoint

PARTS = ("gateway", "worker", "watcher", "api")
STOP_S = 15.0

Say = Callable[[str], None]


class PartEnded(NodeError):
    """One of the node's processes ended by itself; the others were stopped."""

    next_step = "See its output above, or run it alone."


def watch(directory: Path, say: Say) -> None:
    """Follow the chain until told to end.

    Raises:
        Compromised: the chain or the evidence log is not what it was.
    """
    over = ending()
    node = Node.open(directory)
    if not when_chain_answers(node, over, say):
        return
    watcher = watcher_of(node)
    say(f"following the chain from block {node.chain.client.deployed_at}")
    watcher.run(over)


def watcher_of(node: Node) -> Watcher:
    """The watcher of ``node``."""
    settings = node.settings
    app = queue_app(settings)
    return Watcher(
        me=settings.address,
        chain=node.chain,
        store=node.store,
        scheduler=node.scheduler,
        anchorer=Anchorer(
            node.evidence,
            node.store,
            send=lambda checkpoint: _anchor(node, checkpoint),
            every_s=settings.limits.anchor_every_s,
            clock=time.time,
        ),
        limits=settings.limits,
        deployed_at=node.chain.client.deployed_at,
        enqueue=lambda task: enqueue(app, task),
        hello=lambda: node.scheduler.hello(hello_body(node)),
        pump=node.acts.pump,
    )


def hello_body(node: Node) -> dict[str, object]:
    """What the scheduler is told in a heartbeat."""
    return {
        "gateway_url": node.settings.gateway.url,
        "certificate_pem": node.layout.tls_certificate.read_text(encoding="ascii"),
        "engines": node.settings.engine.protocols,
        "version": __version__,
    }


def gateway(directory: Path, say: Say) -> None:
    """Serve peers and this node's own engines until told to end.

    Raises:
        PortTaken: one of the two ports is another's.
    """
    node = Node.open(directory)
    if not when_chain_answers(node, threading.Event(), say):
        return
    where = node.settings.gateway
    config = GatewayConfig(
        node=node.settings.address,
        certificate=node.layout.tls_certificate,
        private_key=node.layout.tls_key,
        control_token=control_token(node.layout),
        peer_host=where.host,
        peer_port=where.port,
        local_port=where.local_port,
        relay=where.relay,
        limits=GatewayLimits(
            message_bytes=where.message_mib << 20,
            queue_bytes=where.queue_mib << 20,
        ),
    )
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        run_gateway(
            config, ChainAuthority(node.chain, node.store), lambda it: say(_listening(it, where.host))
        )
    except OSError as cause:
        raise PortTaken(f"{where.host}:{where.port} or 127.0.0.1:{where.local_port}: {cause}") from cause
    except KeyboardInterrupt:
        return


def relay(to: list[str], host: str, port: int, say: Say) -> None:
    """Carry connections to the gateways ``to`` (``host:port``) until told to end.

    Raises:
        PortTaken: the port is another's.
    """
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    serving = serve_relay(Relay(frozenset(to)), host, port, lambda it: say(f"relay at http://{host}:{it}"))
    try:
        asyncio.run(serving)
    except OSError as cause:
        raise PortTaken(f"{host}:{port}: {cause}") from cause
    except KeyboardInterrupt:
        return


def run_all(directory: Path, say: Say) -> None:
    """Run the four processes of the node as children, until told to end or one of them ends.

    Raises:
        PartEnded: see there.
    """
    over = ending()
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup set it to be ignored: leave it so
        signal.signal(signal.SIGHUP, lambda *_: over.set())
    children = {part: _child(part, directory) for part in PARTS}
    say(f"running {', '.join(PARTS)}")
    try:
        while not over.wait(0.5):
            for part, child in children.items():
                if child.poll() is not None:
                    raise PartEnded(f"{part} ended with status {child.returncode}")
    finally:
        _stop(list(children.values()))


def ending() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    return over


def _anchor(node: Node, checkpoint: Checkpoint) -> None:
    node.acts.send(f"anchor:{checkpoint.size}", calls.anchor(checkpoint.size, checkpoint.root))


def _listening(gateway: Gateway, host: str) -> str:
    return f"peers at https://{host}:{gateway.peer_port}, engines at {gateway.local_url}"


def _child(part: str, directory: Path) -> subprocess.Popen[bytes]:
    """Start one process in a group of its own: Ctrl-C reaches us alone, and we end the children in order."""
    command = [sys.executable, "-m", "sealtrace", "node", part, "--dir", str(directory)]
    return subprocess.Popen(command, process_group=0)


def _stop(children: list[subprocess.Popen[bytes]]) -> None:
    for child in children:
        child.terminate()
    until = time.monotonic() + STOP_S
    for child in children:
        try:
            child.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
