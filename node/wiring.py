"""The one place where ports meet adapters: a node's directory becomes a working :class:`Node`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sealtrace.contracts.client import ChainSettings
from sealtrace.contracts.sender import Sender
from sealtrace.node.bundles import BundleStore
from sealtrace.node.chain import ChainActs, ChainReader, connect
from sealtrace.node.datasets import DatasetKeeper
from sealtrace.node.directory import Layout, load_key
from sealtrace.node.engines.job import Timeouts
from sealtrace.node.engines.tee.evidencing import load_signing_key
from sealtrace.node.engines.workplace import version
from sealtrace.node.errors import BadSettings, ChainUnavailable
from sealtrace.node.evidence import EvidenceLog
from sealtrace.node.gateway.control import GatewayControl
from sealtrace.node.hold import Ports
from sealtrace.node.preparing import Holdings
from sealtrace.node.runner import EngineProcesses, Hosting
from sealtrace.node.scheduling import SchedulerClient
from sealtrace.node.seats import Seats
from sealtrace.node.sessions import GatewaySessions
from sealtrace.node.settings import Settings, read_settings
from sealtrace.node.store import Store, open_engine
from sealtrace.node.vault import Vault
from sealtrace.protocol.attestation.results import sign_result

BEAT_S = 0.5


@dataclass(frozen=True)
class Node:
    """A node's parts, each made when first asked for. One in each process."""

    layout: Layout
    settings: Settings

    @classmethod
    def open(cls, directory: Path) -> Node:
        """The node in ``directory``.

        Raises:
            BadSettings: see its message.
        """
        return cls(Layout(directory.resolve()), read_settings(directory))

    @cached_property
    def key(self) -> bytes:
        """The secp256k1 key; :class:`~sealtrace.node.errors.WrongKey` when it is not the address's."""
        return load_key(self.layout, self.settings.address)

    @cached_property
    def store(self) -> Store:
        """The database."""
        return Store(open_engine(self.settings.database_url or self.layout.database_url))

    @cached_property
    def chain(self) -> ChainReader:
        """The chain; raises ``ChainUnavailable`` or ``WrongNetwork`` when asked for."""
        chain = self.settings.chain
        return connect(
            ChainSettings(
                chain.rpc_url, chain.chain_id, chain.directory, chain.confirmations, chain.timeout_s
            )
        )

    @cached_property
    def acts(self) -> ChainActs:
        """The one sender of this node's key."""
        sender = Sender(self.chain.client, self.key, self.store.engine)
        return ChainActs(sender, self.settings.limits.act_timeout_s)

    @cached_property
    def evidence(self) -> EvidenceLog:
        """The log, held to what the chain anchors.

        Raises:
            EvidenceTampered: it was rewritten or cut.
            ChainUnavailable: nobody can say what is anchored.
        """
        me = self.settings.address
        anchored = self.chain.checkpoint(me, at=self.chain.finalized())
        return EvidenceLog(self.layout.evidence, me, anchored=anchored)

    @cached_property
    def vault(self) -> Vault:
        """Salts."""
        return Vault(self.layout.vault)

    @cached_property
    def datasets(self) -> DatasetKeeper:
        """What adds and withdraws datasets."""
        return DatasetKeeper(
            me=self.settings.address,
            store=self.store,
            vault=self.vault,
            acts=self.acts,
            evidence=self.evidence,
            copies=self.layout.root / "data",
        )

    @cached_property
    def bundles(self) -> BundleStore:
        """Algorithm bundles."""
        return BundleStore(self.layout.bundles)

    @cached_property
    def gateway(self) -> GatewayControl:
        """This node's own gateway."""
        return GatewayControl(self.settings.gateway.local_url, control_token(self.layout))

    @cached_property
    def scheduler(self) -> SchedulerClient:
        """The scheduler."""
        return SchedulerClient(self.settings.scheduler_url, self.settings.address, self.key, time.time)

    @cached_property
    def engine(self) -> EngineProcesses:
        """The engines."""
        limits = self.settings.engine
        timeouts = Timeouts(
            connect_ms=limits.connect_s * 1000,
            receive_ms=limits.silence_s * 1000,
            wait_ms=limits.longest_run_s * 1000,
        )
        free = self.settings.limits.free_mib << 20
        hosting = Hosting(
            str(self.layout.tls_certificate),
            str(self.layout.tls_key),
            limits.pccs_url,
            limits.enclave_memory_mib,
        )
        return EngineProcesses(self.gateway, limits.protocols, timeouts, self.layout.root, free, hosting)

    @cached_property
    def seats(self) -> Seats:
        """For the enclaves that this process holds."""
        return Seats(self.settings.engine.concurrency)

    def sign_result(self, claims: Mapping[str, Any]) -> str:
        """An attestation result as this node signs it, with the key of its certificate on the chain."""
        return sign_result(claims, load_signing_key(self.layout.tls_key))


def wiring(node: Node) -> Ports:
    """What the gate works with."""
    return Ports(
        me=node.settings.address,
        store=node.store,
        chain=node.chain,
        acts=node.acts,
        sessions=GatewaySessions(node.gateway),
        scheduler=node.scheduler,
        evidence=node.evidence,
        holdings=Holdings(node.store, node.vault, node.bundles, node.engine),
        jobs=node.layout.job,
        received=node.layout.received,
        parts=node.layout.parts,
        register=lambda path, name, grade, task, source: node.datasets.add(
            path, name, grade, kept_from={"task": task, "source": source}
        ),
        limits=node.settings.limits,
        longest_run_s=node.settings.engine.longest_run_s,
        clock=time.time,
        sleep=time.sleep,
        pulse=pulse,
        aside=aside,
        statements=node.layout.statements,
        policy_of=node.store.policy_of,
        sign_result=node.sign_result,
        build=f"sealtrace {version('sealtrace')}",
        seats=node.seats,
    )


def control_token(layout: Layout) -> str:
    """The secret between this node's worker and its gateway.

    Raises:
        BadSettings: the file is missing.
    """
    try:
        return layout.control_token.read_text(encoding="ascii").strip()
    except OSError as cause:
        raise BadSettings(f"{layout.control_token}: {cause.strerror}") from cause


@contextmanager
def pulse(beat: Callable[[], None]) -> Iterator[None]:
    """Run ``beat`` twice a second on another thread while the context is open."""
    over = threading.Event()
    thread = threading.Thread(target=_beat, args=(beat, over), name="pulse", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=30)


def aside(act: Callable[[], None]) -> None:
    """Run ``act`` on another thread that nobody waits for, not even the end of this process."""
    threading.Thread(target=act, name="aside", daemon=True).start()


def _beat(beat: Callable[[], None], over: threading.Event) -> None:
    while not over.wait(BEAT_S):
        beat()


def when_chain_answers(node: Node, over: threading.Event, said: Callable[[str], None]) -> bool:
    """Wait until the chain answers, telling why not; False when ``over`` is set first.

    Raises:
        WrongNetwork: it answers, and is another one.
    """
    wait_s = 0.5
    while not over.is_set():
        try:
            node.chain.finalized()
            return True
        except ChainUnavailable as cause:
            said(str(cause))
            over.wait(wait_s)
            wait_s = min(10.0, wait_s * 2)
    return False
