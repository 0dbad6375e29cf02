"""A requester's directory: settings, keys, address book, and what was submitted from here."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sealtrace.contracts.keys import KeyFile
from sealtrace.protocol.canonical import NotCanonical, canonical, parse
from sealtrace.protocol.faults import first_fault
from sealtrace.protocol.identifiers import Address, AddressField, Hex32, MalformedIdentifier, hex32
from sealtrace.protocol.spec import MAX_SPEC_BYTES, InvalidSpec, Name, TaskSpec, read_spec
from sealtrace.requester.errors import NoDirectory, SettingsInvalid
from sealtrace.requester.whole_files import write_whole

SETTINGS, KEY, HPKE, OUTBOX = "requester.toml", "key.json", "hpke.key", "outbox.db"
BUNDLES, TASKS = "bundles.json", "tasks"
PASSWORD_VARIABLE = "SEALTRACE_REQUESTER_PASSWORD"  # noqa: S105 - a name, not a password
DIRECTORY_VARIABLE = "SEALTRACE_REQUESTER_DIR"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ChainSection(_Section):
    """The chain's endpoint and the address of the Directory contract."""

    rpc_url: str
    """The JSON-RPC endpoint that is read and sent through; several are separated by commas."""
    chain_id: int = Field(gt=0)
    """The chain's id; another one at the endpoint is refused."""
    directory: AddressField
    """Address of the Directory contract."""
    confirmations: int = Field(default=0, ge=-1, le=1000)
    """Blocks that must lie on one before it is believed; -1 takes the endpoint's own word."""
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 10
    """How long one answer of the endpoint is waited for."""


class Settings(_Section):
    """All of ``requester.toml``. ``parties`` is the address book: a name for each organisation."""

    scheduler_url: str = Field(pattern=r"^https?://")
    """The scheduler that introduces the parties and keeps sealed outputs."""
    chain: ChainSection
    """See `[chain]`."""
    parties: dict[Name, AddressField] = Field(default_factory=dict)
    """The address book: a name for each organisation's address."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The requester's two keys: one signs, one opens results."""

    signing: KeyFile
    hpke: X25519PrivateKey = field(repr=False)

    @property
    def address(self) -> Address:
        """Who the requester is on chain."""
        return self.signing.address

    @property
    def encryption_key(self) -> Hex32:
        """The public key that the chain holds for the requester."""
        return hex32(self.hpke.public_key().public_bytes_raw())


def checked(values: Mapping[str, object], source: str) -> Settings:
    """Settings from their values; ``source`` says where they come from.

    Raises:
        SettingsInvalid: naming the first setting that is wrong.
    """
    try:
        return Settings.model_validate(values)
    except ValidationError as cause:
        raise SettingsInvalid(f"{source}: {first_fault(cause.errors(), 'file')}") from cause


def default_directory() -> Path:
    """``SEALTRACE_REQUESTER_DIR``, or the user's state directory (XDG base directories)."""
    if given := os.environ.get(DIRECTORY_VARIABLE):
        return Path(given)
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return state / "sealtrace" / "requester"


class Directory:
    """The files of one requester. Nothing here is ever half written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self, settings: Settings) -> Keys:
        """Make the directory, its settings and its keys; what is there already is kept.

        Raises:
            SettingsInvalid: other settings are there.
            KeyUnusable: a key that is there cannot be read.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (self.path / SETTINGS).exists() and self.settings() != settings:
            raise SettingsInvalid(f"{self.path / SETTINGS} exists and says otherwise: edit it instead")
        write_whole(self.path / SETTINGS, _toml(settings).encode())
        if not (self.path / KEY).exists():
            KeyFile.create(self.path / KEY, os.environ.get(PASSWORD_VARIABLE))
        if not (self.path / HPKE).exists():
            write_whole(
                self.path / HPKE, X25519PrivateKey.generate().private_bytes_raw().hex().encode() + b"\n"
            )
        return self.keys()

    def settings(self) -> Settings:
        """The settings.

        Raises:
            NoDirectory: there are none.
            SettingsInvalid: they are malformed.
        """
        path = self.path / SETTINGS
        try:
            return checked(tomllib.loads(path.read_text("utf-8")), str(path))
        except FileNotFoundError as cause:
            raise NoDirectory(self.path, f"no {SETTINGS}") from cause
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as cause:
            raise SettingsInvalid(f"{path}: {cause}") from cause

    def keys(self) -> Keys:
        """The keys.

        Raises:
            NoDirectory: the key that opens results is missing or damaged.
            KeyUnusable: the key that signs is.
        """
        signing = KeyFile.load(self.path / KEY, os.environ.get(PASSWORD_VARIABLE))
        try:
            if (self.path / HPKE).stat().st_mode & 0o077:
                raise NoDirectory(self.path, f"others may read {HPKE}: chmod 600 it")
            text = (self.path / HPKE).read_text("ascii").strip()
            return Keys(signing, X25519PrivateKey.from_private_bytes(bytes.fromhex(text)))
        except (OSError, ValueError) as cause:
            raise NoDirectory(self.path, f"{HPKE} is missing or damaged") from cause

    def outbox_url(self) -> str:
        """The SQLAlchemy URL of what is to be sent to the chain."""
        return f"sqlite:///{(self.path / OUTBOX).resolve()}"

    def keep(self, task: Hex32, spec: TaskSpec) -> None:
        """Remember what was submitted as ``task``."""
        folder = self.path / TASKS
        folder.mkdir(mode=0o700, exist_ok=True)
        write_whole(folder / f"{task}.json", spec.canonical())

    def spec(self, task: Hex32) -> TaskSpec | None:
        """What was submitted from here as ``task``, if it was and the file is sound."""
        try:
            return read_spec((self.path / TASKS / f"{task}.json").read_bytes())
        except (OSError, InvalidSpec):
            return None

    def tasks(self) -> list[tuple[Hex32, TaskSpec]]:
        """Everything submitted from here, latest first."""
        files = sorted(
            (self.path / TASKS).glob("0x*.json"), key=lambda each: each.stat().st_mtime, reverse=True
        )
        found = [(hex32(each.stem), self.spec(hex32(each.stem))) for each in files]
        return [(task, spec) for task, spec in found if spec is not None]

    def bundles(self) -> dict[Hex32, Path]:
        """Folders of algorithm bundles that were added here, by digest. They are re-hashed when used."""
        try:
            said = parse((self.path / BUNDLES).read_bytes(), limit_bytes=MAX_SPEC_BYTES)
            return {hex32(digest): Path(folder) for digest, folder in said.items()}
        except FileNotFoundError:
            return {}
        except (NotCanonical, MalformedIdentifier, AttributeError, TypeError) as cause:
            raise SettingsInvalid(f"{self.path / BUNDLES} is damaged: delete it, add bundles anew") from cause

    def add_bundle(self, digest: Hex32, folder: Path) -> None:
        """Remember where the bundle ``digest`` is."""
        known = {**self.bundles(), digest: folder.resolve()}
        write_whole(self.path / BUNDLES, canonical({each: str(path) for each, path in known.items()}))


def _toml(settings: Settings) -> str:
    """TOML's basic strings and numbers are written as JSON writes them (TOML 1.0, String)."""
    values = settings.model_dump(mode="json")
    lines = [f"scheduler_url = {json.dumps(values['scheduler_url'])}"]
    for section in ("chain", "parties"):
        lines += [
            "",
            f"[{section}]",
            *(f"{key} = {json.dumps(each)}" for key, each in values[section].items()),
        ]
    return "\n".join(lines) + "\n"
