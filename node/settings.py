"""``node.toml``: what an operator sets. Unknown keys are errors; every key is listed in docs/settings.md."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sealtrace.node.errors import BadSettings
from sealtrace.protocol.faults import first_fault
from sealtrace.protocol.identifiers import AddressField

FILE = "node.toml"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ChainSection(_Section):
    """Which chain, and how deep a block must lie before it is believed.

    ``confirmations``: 0 where blocks are final at once (QBFT, embedded), -1 to take the endpoint's own word.
    """

    rpc_url: str = Field(pattern=r"^https?://")
    """The JSON-RPC endpoint that this node reads and sends through; several, separated by commas, where the
    next is asked what one cannot answer."""
    chain_id: int = Field(gt=0)
    """The chain's id; another one at the endpoint stops the node."""
    directory: AddressField
    """Address of the Directory contract, which names the others."""
    confirmations: int = Field(default=0, ge=-1, le=1000)
    """Blocks that must lie on one before it is believed; -1 takes the endpoint's own word."""
    timeout_s: float = Field(default=10, gt=0, le=120)
    """How long one answer of the endpoint is waited for."""


class ApiSection(_Section):
    """Where the REST API listens."""

    host: str = "127.0.0.1"
    """Interface that the REST API listens on."""
    port: int = Field(default=8600, ge=0, le=65535)
    """Its port; 0 takes a free one."""


class GatewaySection(_Section):
    """Where peers reach this node (``public_url``, ``host``, ``port``) and where its own engines do."""

    host: str = "127.0.0.1"
    """Interface that peers reach."""
    port: int = Field(default=8610, ge=0, le=65535)
    """Mutual-TLS port for peers; 0 takes a free one."""
    local_port: int = Field(default=8611, ge=0, le=65535)
    """Plain port for this node's own engines, on 127.0.0.1 only."""
    public_url: str | None = Field(default=None, pattern=r"^https://")
    """What peers are told, where it differs from `https://host:port`."""
    relay: str | None = Field(default=None, pattern=r"^http://[^/\s]+:[0-9]+$")
    """Relay through which this gateway reaches its peers, `http://host:port`: `sealtrace node relay`, or any
    proxy that speaks CONNECT. It sees ciphertext only. Without it peers are reached straight."""
    message_mib: int = Field(default=64, gt=0, le=1024)
    """Largest message taken from a peer or an own engine, in MiB."""
    queue_mib: int = Field(default=256, gt=0, le=16384)
    """Messages held for the engines of one task, in MiB; more are refused and sent again."""

    @property
    def url(self) -> str:
        """What peers are told."""
        return self.public_url or f"https://{self.host}:{self.port}"

    @property
    def local_url(self) -> str:
        """What this node's worker and engines use."""
        return f"http://127.0.0.1:{self.local_port}"


class EngineSection(_Section):
    """Limits of one run. Times in seconds."""

    longest_run_s: int = Field(default=3600, gt=0, le=86_400)
    """A run is killed after this long."""
    connect_s: int = Field(default=60, gt=0, le=3600)
    """How long the engines of a job wait for each other to appear."""
    silence_s: int = Field(default=60, gt=0, le=3600)
    """A peer that says nothing for so long ends the job as failed."""
    concurrency: int = Field(default=2, gt=0, le=64)
    """Tasks worked on at once. All but one of them may be enclaves that this node holds."""
    protocols: list[str] = Field(
        default=["psi/RR22", "psi/ECDH", "psi/KKRT", "mpc/ABY3", "mpc/CHEETAH", "mpc/SEMI2K"]
    )
    """Protocols this node is willing to take part in; a task that needs another is refused. `tee/HARDWARE`
    and `tee/SIMULATED` are never among them by default: list them to run enclaves, or to let one open the
    data here under the policies of its grants."""
    enclave_memory_mib: int = Field(default=2048, ge=64, le=1 << 24)
    """Memory of an algorithm in an enclave at this node, in MiB."""
    pccs_url: str = Field(default="", pattern=r"^(https?://.*)?$")
    """Where Intel's collateral is fetched, for an SGX or TDX enclave here: a caching service (PCCS), or
    Intel's own where it is empty."""


class Limits(_Section):
    """Bounds on waiting and on space. Times in seconds."""

    lease_s: float = Field(default=15, gt=0, le=600)
    """A worker that does not renew its hold on a task for so long has lost it to another."""
    poll_s: float = Field(default=0.5, gt=0, le=60)
    """How often the chain is asked for news."""
    wait_for_others_s: float = Field(default=60, ge=0, le=3600)
    """How long a worker waits for the other parties' starts, or for a block to be final, before it turns
    to other tasks and comes back."""
    enclave_wait_s: float = Field(default=600, gt=0, le=86_400)
    """How long an enclave at this node waits for the owners' starts before the task is refused."""
    introduction_wait_s: float = Field(default=300, gt=0, le=86_400)
    """A task that no scheduler introduces is refused after this long."""
    act_timeout_s: float = Field(default=60, gt=0, le=600)
    """How long a transaction may take to be mined before it is looked for again."""
    anchor_every_s: float = Field(default=300, gt=0, le=86_400)
    """A log that grew is anchored on chain at least this often."""
    heartbeat_s: float = Field(default=5, gt=0, le=60)
    """How often the scheduler is told that this node is there."""
    progress_every_s: float = Field(default=60, ge=0, le=86_400)
    """A run tells the chain which step has begun, at most this often and not before it lasted so long; each
    word is a transaction, and nothing depends on it. 0 for never."""
    requeue_s: float = Field(default=10, gt=0, le=600)
    """First pause before an open task that nobody holds is queued again; doubles each time, up to 60."""
    free_mib: int = Field(default=256, ge=0)
    """Free disk space, in MiB, below which no task is started."""


class Settings(_Section):
    """Everything in ``node.toml``. ``data_dirs`` are where the API may add datasets from."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")
    """What this organisation calls its node: small letters, digits and hyphens."""
    address: AddressField
    """The node's address on chain, that of `key.json`."""
    scheduler_url: str = Field(pattern=r"^https?://")
    """Where tasks are introduced and sealed outputs delivered."""
    redis_url: str = Field(default="redis://127.0.0.1:6379/0", pattern=r"^(rediss?|unix)://")
    """Redis with a logical database for this node alone."""
    queue: str = Field(default="sealtrace", pattern=r"^[a-z][a-z0-9._-]{0,62}$")
    """Name of the Celery queue."""
    database_url: str | None = None
    """SQLAlchemy URL of the node's database; SQLite in its directory where none is given."""
    data_dirs: list[Path] = Field(default_factory=list)
    """Directories that the API may add datasets from."""
    chain: ChainSection
    """See `[chain]`."""
    api: ApiSection = ApiSection()
    """See `[api]`."""
    gateway: GatewaySection = GatewaySection()
    """See `[gateway]`."""
    engine: EngineSection = EngineSection()
    """See `[engine]`."""
    limits: Limits = Limits()
    """See `[limits]`."""


def read_settings(directory: Path) -> Settings:
    """Read ``node.toml`` of a node's directory.

    Raises:
        BadSettings: it is missing, not TOML, or a key is unknown or out of range.
    """
    path = directory / FILE
    try:
        return Settings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as cause:
        raise BadSettings(
            f"{path} is missing: this is no node's directory; make one with node init"
        ) from cause
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as cause:
        raise BadSettings(f"{path}: {cause}") from cause
    except ValidationError as cause:
        raise BadSettings(f"{path}: {first_fault(cause.errors(), 'file')}") from cause


def to_toml(settings: Settings) -> str:
    """The text of ``settings``, every key written out so that an operator sees what can be set."""
    values = settings.model_dump(mode="json", exclude_none=True)
    flat = {key: value for key, value in values.items() if not isinstance(value, dict)}
    lines = _assignments(flat)
    for name, section in values.items():
        if isinstance(section, dict):
            lines += ["", f"[{name}]", *_assignments(section)]
    return "\n".join(lines) + "\n"


def _assignments(values: dict[str, Any]) -> list[str]:
    # JSON's strings, numbers, booleans and arrays of strings are TOML's too (TOML 1.0)
    return [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
