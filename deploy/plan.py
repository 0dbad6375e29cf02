"""What a one-machine network is made of: organisations, ports, addresses; kept in ``network.json``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from sealtrace.deploy.ports import free_ports
from sealtrace.protocol.identifiers import AddressField

FILE = "network.json"
CHAIN_ID = 20_261
ORGANISATIONS = ("bank", "registry", "carrier")
CLOUD = "cloud"
"""An organisation that holds no table: it only runs enclaves, where a network has it."""
LAB = "lab"


class NotANetwork(RuntimeError):
    """The directory holds no network, or its ``network.json`` cannot be read."""


class AnotherNetwork(RuntimeError):
    """The directory holds a network of other organisations than are asked for; the message names both."""


class NodePorts(BaseModel):
    """Where one node's processes listen, all on loopback."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    api: int
    gateway: int
    local: int


class Plan(BaseModel):
    """Ports, chosen once, and what was deployed and made since."""

    model_config = ConfigDict(extra="forbid")

    chain_id: int = CHAIN_ID
    chain_port: int
    redis_port: int
    redis_url: str | None = None
    scheduler_port: int
    auditor_port: int
    nodes: dict[str, NodePorts]
    directory: AddressField | None = None
    addresses: dict[str, AddressField] = {}
    tokens: dict[str, str] = {}
    ready: bool = False

    @classmethod
    def fresh(cls, redis_url: str | None, organisations: Sequence[str] = ORGANISATIONS) -> Self:
        """A network of ``organisations`` on ports nobody listens on now."""
        ports = iter(free_ports(4 + 3 * len(organisations)))
        return cls(
            chain_port=next(ports),
            redis_port=next(ports),
            redis_url=redis_url,
            scheduler_port=next(ports),
            auditor_port=next(ports),
            nodes={name: _node_ports(ports) for name in organisations},
        )

    @property
    def rpc_url(self) -> str:
        """Where the chain answers."""
        return f"http://127.0.0.1:{self.chain_port}"

    @property
    def scheduler_url(self) -> str:
        """Where the scheduler answers."""
        return f"http://127.0.0.1:{self.scheduler_port}"

    @property
    def auditor_url(self) -> str:
        """Where the auditor answers."""
        return f"http://127.0.0.1:{self.auditor_port}"

    def api_url(self, organisation: str) -> str:
        """Where an organisation's operator reaches its node."""
        return f"http://127.0.0.1:{self.nodes[organisation].api}"

    def broker(self, database: int) -> str:
        """A Redis of its own for each organisation: one logical database each of the one server."""
        base = self.redis_url or f"redis://127.0.0.1:{self.redis_port}"
        return f"{base.rstrip('/')}/{database}"

    def listening(self) -> list[int]:
        """Every port that the network's own processes will take."""
        own = [self.chain_port, self.scheduler_port, self.auditor_port]
        nodes = [port for each in self.nodes.values() for port in (each.api, each.gateway, each.local)]
        return [*own, *nodes] if self.redis_url else [self.redis_port, *own, *nodes]

    def save(self, directory: Path) -> None:
        """Write ``network.json``, which holds operators' tokens: for this user's eyes only."""
        partial = directory / (FILE + ".part")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(self.model_dump_json(indent=1) + "\n")
        partial.rename(directory / FILE)


def load(directory: Path) -> Plan:
    """Read the plan of the network in ``directory``.

    Raises:
        NotANetwork: there is none, or it cannot be read.
    """
    try:
        return Plan.model_validate_json((directory / FILE).read_text())
    except FileNotFoundError as cause:
        raise NotANetwork(
            f"{directory} holds no network: sealtrace net up --dir {directory} makes one"
        ) from cause
    except (OSError, ValidationError) as cause:
        raise NotANetwork(f"{directory / FILE} cannot be read: {cause}") from cause


def _node_ports(ports: Iterator[int]) -> NodePorts:
    return NodePorts(api=next(ports), gateway=next(ports), local=next(ports))
