"""The members' own directories: each makes its keys itself and shows the registrar a card."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy

from sealtrace.auditor import settings as auditor_settings
from sealtrace.contracts.client import ChainSettings
from sealtrace.deploy.plan import Plan
from sealtrace.node import directory as node_directory
from sealtrace.node import settings as node_settings
from sealtrace.node.operations import Operations, TokenRole
from sealtrace.node.wiring import Node
from sealtrace.protocol.accounts import Account
from sealtrace.protocol.identifiers import NOTHING, Address, Hex32, address
from sealtrace.requester import directory as requester_directory
from sealtrace.scheduler import settings as scheduler_settings

REGULATOR = "regulator"


_ENGINE = node_settings.EngineSection(
    protocols=[*node_settings.EngineSection().protocols, "tee/SIMULATED"]  # for this machine, in words
)


@dataclass(frozen=True, slots=True)
class Card:
    """What the registrar needs to admit a member."""

    address: Address
    tls_fingerprint: Hex32
    encryption_key: Hex32


def brokers(plan: Plan) -> dict[str, int]:
    """Redis databases: one for the scheduler and for each organisation, so that no two share a queue."""
    return {name: number for number, name in enumerate(("scheduler", *plan.nodes))}


class Members:
    """Where every member of the network in ``root`` keeps its things."""

    def __init__(self, root: Path, plan: Plan) -> None:
        self.root = root
        self.plan = plan

    def directory(self, name: str) -> Path:
        """The directory of a node or of a requester."""
        return self.root / ("nodes" if name in self.plan.nodes else "requesters") / name

    def data(self, name: str) -> Path:
        """Where a node's operator keeps the tables it adds as datasets."""
        return self.root / "data" / name

    def outbox(self, officer: str) -> sqlalchemy.Engine:
        """Where an officer's transactions are kept until they are mined."""
        return sqlalchemy.create_engine(f"sqlite:///{self.root / 'consortium' / f'{officer}.outbox.db'}")

    def card(self, name: str, chain: ChainSettings) -> Card:
        """The card of a member, whose directory is made when there is none."""
        return self._node(name, chain) if name in self.plan.nodes else self.requester(name, chain)

    def requester(self, name: str, chain: ChainSettings) -> Card:
        """The card of one who asks, with every node in its address book."""
        settings = requester_directory.Settings(
            scheduler_url=self.plan.scheduler_url,
            chain=requester_directory.ChainSection(
                rpc_url=chain.rpc_url, chain_id=chain.chain_id, directory=chain.directory
            ),
            parties={name: self.plan.addresses[name] for name in self.plan.nodes},
        )
        keys = requester_directory.Directory(self.directory(name)).create(settings)
        return Card(keys.address, NOTHING, keys.encryption_key)

    def scheduler(self, chain: ChainSettings) -> None:
        """Make the scheduler's directory."""
        scheduler_settings.save(
            self.root / "scheduler",
            scheduler_settings.Settings(
                chain=scheduler_settings.ChainSection(
                    rpc_url=chain.rpc_url, chain_id=chain.chain_id, directory=chain.directory
                ),
                redis_url=self.plan.broker(brokers(self.plan)["scheduler"]),
                port=self.plan.scheduler_port,
            ),
        )

    def auditor(self, chain: ChainSettings) -> None:
        """Make the auditor's directory: every node gives the regulator a token to read its evidence with."""
        root = self.root / "auditor"
        if (root / auditor_settings.FILE).exists():
            return
        table = auditor_settings.ChainTable(
            rpc_url=chain.rpc_url, chain_id=chain.chain_id, directory=chain.directory
        )
        self.plan.tokens[REGULATOR] = auditor_settings.create(root, table)
        text = (root / auditor_settings.FILE).read_text()
        text = text.replace("port = 0 ", f"port = {self.plan.auditor_port} ")
        sources = [self._source(name, root) for name in self.plan.nodes]
        (root / auditor_settings.FILE).write_text("\n".join([text, *sources]))

    def _source(self, name: str, root: Path) -> str:
        file = root / f"{name}.token"
        file.touch(mode=0o600)
        file.write_text(self._token(name, TokenRole.READER))
        where = f"{self.plan.api_url(name)}/v1/evidence"
        return (
            f'[[evidence]]\nnode = "{self.plan.addresses[name]}"\nwhere = "{where}"\ntoken_file = "{file}"\n'
        )

    def _token(self, name: str, role: TokenRole) -> str:
        return Operations(Node.open(self.directory(name))).add_token(f"{name}-{role.value}", role)

    def _node(self, name: str, chain: ChainSettings) -> Card:
        root = self.directory(name)
        layout = node_directory.Layout(root)
        if layout.settings.exists():
            card = node_directory.card(layout, node_settings.read_settings(root).address)
        else:
            root.parent.mkdir(mode=0o700, exist_ok=True)
            self.data(name).mkdir(mode=0o700, parents=True, exist_ok=True)
            key = secrets.token_bytes(32)
            settings = self._node_settings(name, address(Account.from_key(key).address), chain)
            card = node_directory.init(root, settings, key)
            self.plan.tokens[name] = self._token(name, TokenRole.OPERATOR)
        return Card(card.address, card.tls_fingerprint, card.encryption_key)

    def _node_settings(self, name: str, address: Address, chain: ChainSettings) -> node_settings.Settings:
        ports = self.plan.nodes[name]
        return node_settings.Settings(
            name=name,
            address=address,
            scheduler_url=self.plan.scheduler_url,
            redis_url=self.plan.broker(brokers(self.plan)[name]),
            queue=f"sealtrace.{name}",
            data_dirs=[self.data(name).resolve()],
            chain=node_settings.ChainSection(
                rpc_url=chain.rpc_url, chain_id=chain.chain_id, directory=chain.directory
            ),
            api=node_settings.ApiSection(port=ports.api),
            engine=_ENGINE,
            gateway=node_settings.GatewaySection(port=ports.gateway, local_port=ports.local),
        )
