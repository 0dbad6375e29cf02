"""``scheduler.toml``: where the chain, the database and Redis are, and how much is allowed."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sealtrace.protocol.faults import first_fault
from sealtrace.protocol.identifiers import AddressField
from sealtrace.scheduler.errors import SettingsInvalid

FILE_NAME = "scheduler.toml"
Seconds = Annotated[float, Field(gt=0, le=31_536_000)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ChainSection(_Section):
    """The chain's endpoint and the address of the Directory contract.

    ``confirmations`` -1 takes the endpoint's own ``finalized`` block.
    """

    rpc_url: str
    """The JSON-RPC endpoint that the scheduler reads; several are separated by commas."""
    chain_id: int = Field(gt=0)
    """The chain's id; another one at the endpoint is refused."""
    directory: AddressField
    """Address of the Directory contract."""
    confirmations: int = Field(default=0, ge=-1, le=1000)
    """Blocks that must lie on one before it is believed; -1 takes the endpoint's own `finalized` block."""
    timeout_s: Seconds = 10
    """How long one answer of the endpoint is waited for."""


class Limits(_Section):
    """How much one caller may send, ask for and leave here."""

    document_bytes: int = Field(default=512 << 10, ge=1 << 10, le=4 << 20)
    """Largest JSON document taken."""
    output_bytes: int = Field(default=64 << 20, ge=1 << 10, le=1 << 30)
    """Largest sealed output taken."""
    metrics_bytes: int = Field(default=16 << 20, ge=64 << 10, le=1 << 30)
    """How many bytes of sealed metrics are kept for one task."""
    body_timeout_s: Seconds = 60
    """How long a caller may take to send a body."""
    requests_per_second: float = Field(default=100, gt=0)
    """What one caller's address may ask on average."""
    burst: int = Field(default=400, ge=1)
    """What it may ask at once."""
    open_tasks_per_requester: int = Field(default=1000, ge=1)
    """Tasks of one requester that are not over yet."""


class Times(_Section):
    """How long things are waited for, and kept. Seconds of this machine's clock."""

    presence_s: Seconds = 30
    """A node counts as there for so long after its last heartbeat."""
    chase_every_s: Seconds = 5
    """How often open tasks are looked up on the chain."""
    late_after_s: Seconds = 60
    """A party that has not acted for so long is named as late."""
    keep_fetched_s: Seconds = 86_400
    """How long outputs are kept after the requester has them all and the task is over."""
    keep_unfetched_s: Seconds = 30 * 86_400
    """How long outputs are kept that nobody fetched."""


class Settings(_Section):
    """All of ``scheduler.toml``. An empty ``database_url`` means SQLite in the directory."""

    chain: ChainSection
    """See `[chain]`."""
    redis_url: str = "redis://127.0.0.1:6379/0"
    """Redis with a logical database for the scheduler alone."""
    database_url: str = ""
    """SQLAlchemy URL; empty for SQLite in the scheduler's directory."""
    host: str = "127.0.0.1"
    """Interface that the API listens on."""
    port: int = Field(default=8500, ge=0, le=65535)
    """Its port; 0 takes a free one."""
    limits: Limits = Limits()
    """See `[limits]`."""
    times: Times = Times()
    """See `[times]`."""

    def database(self, directory: Path) -> str:
        """The SQLAlchemy URL of the scheduler's own database."""
        return self.database_url or f"sqlite:///{directory.resolve() / 'scheduler.db'}"


def load(directory: Path) -> Settings:
    """Read the settings of the scheduler in ``directory``.

    Raises:
        SettingsInvalid: there are none, or they are malformed; the message names the setting.
    """
    path = directory / FILE_NAME
    try:
        return checked(tomllib.loads(path.read_text("utf-8")), str(path))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as cause:
        raise SettingsInvalid(f"{path}: {cause}") from cause


def checked(values: Mapping[str, object], source: str) -> Settings:
    """Settings from their values; ``source`` says where they come from.

    Raises:
        SettingsInvalid: naming the first setting that is wrong.
    """
    try:
        return Settings.model_validate(values)
    except ValidationError as cause:
        raise SettingsInvalid(f"{source}: {first_fault(cause.errors(), 'file')}") from cause


def save(directory: Path, settings: Settings) -> Path:
    """Write ``settings`` to ``directory``, which is created if absent; return the file."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / FILE_NAME
    path.write_text(_toml(settings), "utf-8")
    path.chmod(0o600)  # a database URL may hold a password
    return path


def _toml(settings: Settings) -> str:
    values = settings.model_dump(mode="json")
    top = {key: value for key, value in values.items() if not isinstance(value, dict)}
    sections = {key: value for key, value in values.items() if isinstance(value, dict)}
    parts = [_lines(top), *(f"[{name}]\n{_lines(section)}" for name, section in sections.items())]
    return "\n".join(parts)


def _lines(section: dict[str, object]) -> str:
    """TOML's basic strings and numbers are written as JSON writes them (TOML 1.0, String)."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in section.items())
