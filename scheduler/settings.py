"""``scheduler.toml``: where the chain, the database and Redis are, and how much is allowed."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sealtrace.protocol.identifiers import AddressField
from sealtrace.scheduler.errors import SettingsInvalid

FILE_NAME = "scheduler.toml"
Seconds = Annotated[float, Field(gt=0, le=31_536_000)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ChainSection(_Section):
    """The chain's endpoint and the address of the Directory contract.

    ``confirmations`` -1 takes the endpoint's own ``finalized`` block.
    """

    rpc_url: str
    chain_id: int = Field(gt=0)
    directory: AddressField
    confirmations: int = Field(default=0, ge=-1, le=1000)
    timeout_s: Seconds = 10


class Limits(_Section):
    """How much one caller may send, ask for and leave here."""

    document_bytes: int = Field(default=512 << 10, ge=1 << 10, le=4 << 20)
    output_bytes: int = Field(default=64 << 20, ge=1 << 10, le=1 << 30)
    body_timeout_s: Seconds = 60
    requests_per_second: float = Field(default=100, gt=0)
    burst: int = Field(default=400, ge=1)
    open_tasks_per_requester: int = Field(default=1000, ge=1)


class Times(_Section):
    """How long things are waited for, and kept. Seconds of this machine's clock."""

    presence_s: Seconds = 30
    chase_every_s: Seconds = 5
    late_after_s: Seconds = 60
    keep_fetched_s: Seconds = 86_400
    keep_unfetched_s: Seconds = 30 * 86_400


class Settings(_Section):
    """All of ``scheduler.toml``. An empty ``database_url`` means SQLite in the directory."""

    chain: ChainSection
    redis_url: str = "redis://127.0.0.1:6379/0"
    database_url: str = ""
    host: str = "127.0.0.1"
    port: int = Field(default=8500, ge=0, le=65535)
    limits: Limits = Limits()
    times: Times = Times()

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
        first = cause.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise SettingsInvalid(f"{source}: {place}: {first['msg']}") from cause


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
