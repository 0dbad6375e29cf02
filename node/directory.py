"""A node's directory: its layout, and how a new one is made."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from sealtrace.contracts.errors import KeyUnusable
from sealtrace.contracts.keys import KeyFile
from sealtrace.node.errors import BadSettings, DirectoryInUse, DiskFull, WrongKey
from sealtrace.node.gateway.certificates import create_certificate, fingerprint, pem_to_der
from sealtrace.node.settings import FILE, Settings, to_toml
from sealtrace.protocol.accounts import Account
from sealtrace.protocol.identifiers import Address, Hex32, address, hex32

PASSWORD = "SEALTRACE_KEY_PASSWORD"  # noqa: S105 - the name of the variable that holds it
FOLDERS = ("evidence", "vault", "bundles", "jobs", "logs")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything lies under ``root``. All but ``bundles`` is readable by the node's user only."""

    root: Path

    @property
    def settings(self) -> Path:
        """The operator's settings."""
        return self.root / FILE

    @property
    def key(self) -> Path:
        """The secp256k1 key that signs transactions and statements."""
        return self.root / "key.json"

    @property
    def tls_certificate(self) -> Path:
        """The certificate whose fingerprint the chain holds, PEM."""
        return self.root / "tls.crt"

    @property
    def tls_key(self) -> Path:
        """Its private key, PEM."""
        return self.root / "tls.key"

    @property
    def hpke_key(self) -> Path:
        """The X25519 private key of which the chain holds the public one, 32 bytes."""
        return self.root / "hpke.key"

    @property
    def control_token(self) -> Path:
        """The secret between this node's worker and its gateway."""
        return self.root / "control.token"

    @property
    def database_url(self) -> str:
        """The default database."""
        return f"sqlite:///{self.root / 'node.db'}"

    @property
    def evidence(self) -> Path:
        """The evidence log."""
        return self.root / "evidence"

    @property
    def vault(self) -> Path:
        """Salts."""
        return self.root / "vault"

    @property
    def bundles(self) -> Path:
        """Algorithm bundles, unpacked, each in a folder named by its digest."""
        return self.root / "bundles"

    def job(self, task: Hex32) -> Path:
        """What a run of ``task`` needs and leaves, until it is wiped."""
        return self.root / "jobs" / task[2:]

    def received(self, task: Hex32) -> Path:
        """The keys of this node's own rows that an alignment found to be common, where its step says keep."""
        return self.root / "received" / f"{task[2:]}.csv"

    @property
    def statements(self) -> Path:
        """Statements of enclaves, each named by its digest."""
        return self.root / "statements"

    def parts(self, task: Hex32) -> Path:
        """This node's parts of the shared values that ``task`` keeps."""
        return self.root / "parts" / task[2:]


def wipe(folder: Path) -> None:
    """Remove a folder and all that is in it, where there is one.

    Raises:
        DiskFull: it cannot be removed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise DiskFull(f"{folder} cannot be wiped")


@dataclass(frozen=True, slots=True)
class Card:
    """What the registrar needs to admit the node, and peers to know it. Nothing secret."""

    address: Address
    tls_fingerprint: Hex32
    encryption_key: Hex32
    certificate_pem: str


def init(root: Path, settings: Settings, key: bytes, hosts: Sequence[str] = ()) -> Card:
    """Make a node's directory: keys, certificate, settings. ``key`` is the secp256k1 key to be kept.

    Raises:
        DirectoryInUse: there is one already.
    """
    layout = Layout(root)
    if layout.settings.exists() or layout.key.exists():
        raise DirectoryInUse(f"{root} holds a node already")
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in FOLDERS:
        (root / name).mkdir(mode=0o700, exist_ok=True)
    certificate, tls_key = create_certificate(settings.address, [settings.gateway.host, *hosts])
    write_private(layout.tls_key, tls_key)
    layout.tls_certificate.write_bytes(certificate)
    write_private(layout.hpke_key, _raw_private(X25519PrivateKey.generate()))
    write_private(layout.control_token, secrets.token_urlsafe(32).encode())
    KeyFile.create(layout.key, os.environ.get(PASSWORD), private_key=key)
    layout.settings.write_text(to_toml(settings), encoding="utf-8")
    return card(layout, settings.address)


def card(layout: Layout, address: Address) -> Card:
    """The card of the node in ``layout``.

    Raises:
        BadSettings: a file of it is missing.
    """
    try:
        pem = layout.tls_certificate.read_text(encoding="ascii")
        hpke = X25519PrivateKey.from_private_bytes(layout.hpke_key.read_bytes())
    except (OSError, ValueError) as cause:
        raise BadSettings(f"{layout.root} is not complete: {cause}") from cause
    public = hpke.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return Card(address, hex32(fingerprint(pem_to_der(pem))), hex32(public), pem)


def load_key(layout: Layout, address: Address) -> bytes:
    """The node's secp256k1 key.

    Raises:
        WrongKey: the file is missing or unreadable, or is another address's.
    """
    try:
        key = KeyFile.load(layout.key, os.environ.get(PASSWORD))
    except KeyUnusable as cause:
        raise WrongKey(str(cause)) from cause
    if key.address != address:
        raise WrongKey(f"{layout.key} is the key of {key.address}, node.toml says {address}")
    return key.private_key


def fresh_key() -> bytes:
    """A new secp256k1 key."""
    return bytes(Account.create().key)


def address_of(key: bytes) -> Address:
    """The address of a secp256k1 key."""
    return address(Account.from_key(key).address)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only the node's user may read, and that is not there yet."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)


def _raw_private(key: X25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
