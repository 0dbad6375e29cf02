"""``sealtrace node doctor``: what is wrong with this node, and what to do about each."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sealtrace.node.directory import card
from sealtrace.node.engines.tee.attesters.discovery import UNTRIED, Found, discover
from sealtrace.node.engines.tee.confinement import Confinement, how_to_get, needed, probe
from sealtrace.node.errors import NodeError
from sealtrace.node.gateway.certificates import fingerprint
from sealtrace.node.gateway.control import GatewayRefused
from sealtrace.node.gateway.wire import Code
from sealtrace.node.wiring import Node
from sealtrace.node.worker import ping
from sealtrace.protocol.identifiers import NOTHING, hex32
from sealtrace.protocol.records import NodeStatus, Role

MAX_SKEW_S = 30
HARDWARE, SIMULATED = "tee/HARDWARE", "tee/SIMULATED"
_ANOTHERS_PORT = "Choose another gateway port in node.toml, or stop the program that holds this one."


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. ``todo`` says what to do where it is not ``ok``, and what more could be had where
    it is."""

    name: str
    ok: bool
    seen: str
    todo: str = ""


class Ill(Exception):
    """One thing is not as it should be; ``todo`` says what to do."""

    def __init__(self, seen: str, todo: str) -> None:
        super().__init__(seen)
        self.todo = todo


def examine(node: Node) -> Iterator[Finding]:
    """Look at everything, one after the other; a failure hides none but those that follow from it."""
    chain_answers = True
    for name, look in _LOOKS.items():
        if name in _NEED_CHAIN and not chain_answers:
            yield Finding(name, ok=False, seen="cannot be told without the chain")
            continue
        found = _looked(name, look, node)
        chain_answers = chain_answers and (found.ok or name != "chain")
        yield found
    yield from enclaves(node.settings.engine.protocols, probe(), discover())


def enclaves(protocols: Sequence[str], offer: Confinement, found: Sequence[Found]) -> Iterator[Finding]:
    """What this node does in enclaves and what it could: tasks, sandbox, platforms. None of it is an ill."""
    yield tasks(protocols, can_confine=not offer.missing(needed()), has_tee=any(f.available for f in found))
    yield sandbox(offer)
    yield platforms(found)


def tasks(protocols: Sequence[str], *, can_confine: bool, has_tee: bool) -> Finding:
    """Which enclaves this node takes part in. An owner needs no TEE for that: the enclave is elsewhere."""
    listed = [each for each in (HARDWARE, SIMULATED) if each in protocols]
    if not listed:
        todo = f'To take part in them, add "{HARDWARE}" or "{SIMULATED}" to engine.protocols in node.toml.'
        return Finding("tee tasks", ok=True, seen="refused: engine.protocols lists none", todo=todo)
    lacks = [] if can_confine else ["no sandbox here: the enclave of each must be at another node."]
    if can_confine and HARDWARE in listed and not has_tee:
        lacks.append(f"no TEE here: the enclave of {HARDWARE} must be at another node.")
    if SIMULATED in listed:
        lacks.append(f"{SIMULATED}: whoever runs the enclave's host can read the inputs.")
    return Finding("tee tasks", ok=True, seen=f"taken under {', '.join(listed)}", todo=" ".join(lacks))


def sandbox(offer: Confinement) -> Finding:
    """What this host offers to confine measured code. Nothing is wrong with a node that confines none."""
    missing = offer.missing()
    held = ", ".join(sorted(offer.barriers))
    usable = "TEE jobs can be confined" if not offer.missing(needed()) else "TEE jobs cannot be confined"
    todo = f"without {', '.join(missing)}. {how_to_get(missing)}" if missing else ""
    return Finding("tee sandbox", ok=True, seen=f"{usable}; in force: {held}", todo=todo)


def platforms(found: Sequence[Found]) -> Finding:
    """Which attested platforms this host offers. None of them is anything that can be wrong."""
    here = [each.name for each in found if each.available]
    seen = (
        f"{', '.join(here)} ({UNTRIED})"
        if here
        else f"no attester finds a TEE: whoever runs this host can read inputs ({UNTRIED})"
    )
    todo = " ".join(f"For {each.name}: {each.how_to_have_it}" for each in found if not each.available)
    return Finding("tee platform", ok=True, seen=seen, todo=todo)


def _looked(name: str, look: Callable[[Node], str], node: Node) -> Finding:
    try:
        return Finding(name, ok=True, seen=look(node))
    except Ill as ill:
        return Finding(name, ok=False, seen=str(ill), todo=ill.todo)
    except NodeError as error:
        return Finding(name, ok=False, seen=str(error), todo=error.next_step)
    except Exception as error:  # a doctor reports what it does not know, too
        return Finding(name, ok=False, seen=f"{type(error).__name__}: {error}", todo="See the node's log.")


def _chain(node: Node) -> str:
    return f"chain {node.settings.chain.chain_id}, block {node.chain.finalized().number}"


def _admitted(node: Node) -> str:
    me, found = node.settings.address, node.chain.node(node.settings.address, at=node.chain.finalized())
    if found.status is NodeStatus.NONE:
        raise Ill(f"{me} was never admitted", "Send the card (sealtrace node card) to the registrar.")
    if found.status is not NodeStatus.ACTIVE:
        raise Ill(f"{me} is {found.status.name.lower()}", "Ask the registrar or the regulator why.")
    return f"active, roles {', '.join(role.name or '' for role in Role if role in found.roles)}"


def _certificate(node: Node) -> str:
    mine = card(node.layout, node.settings.address)
    found = node.chain.node(node.settings.address, at=node.chain.finalized())
    if found.status is NodeStatus.NONE:
        return f"{mine.tls_fingerprint}, on the chain once admitted"
    if found.tls_fingerprint != mine.tls_fingerprint:
        todo = "Put back tls.crt and tls.key, or rotate the keys on the chain."
        raise Ill(f"tls.crt is {mine.tls_fingerprint}, the chain says {found.tls_fingerprint}", todo)
    if found.encryption_key != mine.encryption_key:
        raise Ill("hpke.key is not the chain's", "Put back hpke.key, or rotate the keys on the chain.")
    return mine.tls_fingerprint


def _key(node: Node) -> str:
    return f"{len(node.key) * 8}-bit key of {node.settings.address}"


def _clock(node: Node) -> str:
    block = node.chain.head()
    ahead = block.timestamp - time.time()
    if ahead > MAX_SKEW_S:
        raise Ill(f"the chain's clock is {ahead:.0f} s ahead of ours", "Set this host's clock (NTP).")
    return f"the last block is {max(0.0, -ahead):.0f} s old"


def _redis(node: Node) -> str:
    ping(node.settings)
    return "answers"


def _gateway(node: Node) -> str:
    url = node.settings.gateway.local_url
    try:
        node.gateway.report(NOTHING)
    except GatewayRefused as refused:
        if refused.code != Code.NOT_FOUND:
            todo = "Choose another local_port in node.toml, or stop what holds this one."
            raise Ill(f"{url} is not this node's gateway: it does not know our control.token", todo) from None
    except Exception as error:
        raise Ill(str(error), "Start it: sealtrace node gateway.") from error
    return f"answers at {url}"


def _peer_port(node: Node) -> str:
    where = node.settings.gateway
    try:
        shown = _certificate_at(where.host, where.port)
    except ssl.SSLError as error:
        raise Ill(f"{where.host}:{where.port} speaks no TLS 1.3: {error}", _ANOTHERS_PORT) from error
    except OSError as error:
        raise Ill(f"{where.host}:{where.port}: {error}", "Start the gateway; open the port.") from error
    if hex32(fingerprint(shown)) != card(node.layout, node.settings.address).tls_fingerprint:
        raise Ill(f"{where.host}:{where.port} shows a certificate that is not this node's", _ANOTHERS_PORT)
    return f"{where.host}:{where.port} shows our certificate; peers are told {where.url}"


def _certificate_at(host: str, port: int) -> bytes:
    """The DER certificate shown there. No chain is verified: the caller compares the fingerprint."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((host, port), timeout=3) as connection,
        context.wrap_socket(connection) as tls,
    ):
        return tls.getpeercert(binary_form=True) or b""


def _scheduler(node: Node) -> str:
    node.scheduler.introduction(NOTHING)
    return "answers"


def _engine(_: Node) -> str:
    if importlib.util.find_spec("spu") is None:
        raise Ill("SPU is not installed", "pip install 'sealtrace[mpc]'; without it every task is refused.")
    return "SPU is installed"


def _disk(node: Node) -> str:
    free = shutil.disk_usage(node.layout.root).free
    if free < node.settings.limits.free_mib << 20:
        raise Ill(f"{free >> 20} MiB free", "Free space; tasks are refused as out_of_resources until then.")
    return f"{free >> 20} MiB free"


def _evidence(node: Node) -> str:
    return f"{len(node.evidence)} records, as anchored"


def _datasets(node: Node) -> str:
    gone = [row for row in node.store.datasets() if not row.withdrawn and not row.path.is_file()]
    if gone:
        raise Ill(f"{gone[0].path} is gone", "Put the file back, or withdraw the dataset.")
    return f"{len(node.store.datasets())} known"


def _bundles(node: Node) -> str:
    altered = [held.digest for held in node.bundles.list() if not held.intact]
    if altered:
        raise Ill(f"bundle {altered[0]} was altered", "Add it again: sealtrace node algorithm add.")
    return f"{len(node.bundles.list())} here"


_NEED_CHAIN = frozenset({"admitted", "certificate", "clock", "evidence"})

_LOOKS: dict[str, Callable[[Node], str]] = {
    "key": _key,
    "chain": _chain,
    "admitted": _admitted,
    "certificate": _certificate,
    "clock": _clock,
    "redis": _redis,
    "gateway": _gateway,
    "peer port": _peer_port,
    "scheduler": _scheduler,
    "engine": _engine,
    "disk": _disk,
    "evidence": _evidence,
    "datasets": _datasets,
    "bundles": _bundles,
}
