"""auditor.toml: which chain an auditor's service looks at, whose logs it fetches, what it takes on."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sealtrace.auditor.case import Parameters
from sealtrace.auditor.exports.formats import USUAL, Format, Pages
from sealtrace.auditor.exports.signing import Signing
from sealtrace.auditor.inquiry import Inquiry, Source
from sealtrace.auditor.jobs import Wanted
from sealtrace.auditor.language import Language
from sealtrace.auditor.tokens import Tokens
from sealtrace.contracts.client import ChainSettings
from sealtrace.protocol.faults import first_fault
from sealtrace.protocol.identifiers import AddressField

FILE: Final = "auditor.toml"
READS: Final = "reads"
"""The folder, in the auditor's, of the log of reads."""


class SettingsUnusable(ValueError):
    """auditor.toml is missing, malformed, or there already; the message names the place and what to do."""


class TokenUnreadable(ValueError):
    """A file that should hold a node's reader token cannot be read: create it with the token alone."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, strict=True)


class ChainTable(_Table):
    """Where the chain answers. ``confirmations`` as for a node."""

    rpc_url: str
    """The JSON-RPC endpoint that is replayed; of several, separated by commas, the next is asked what one
    cannot answer, and all that answer must show the same last block."""
    chain_id: int = Field(gt=0)
    """The chain's id; another one at the endpoint is refused."""
    directory: AddressField
    """Address of the Directory contract."""
    confirmations: int = Field(default=0, ge=-1)
    """Blocks that must lie on one before it is audited; -1 takes the endpoint's own word."""


class ServiceTable(_Table):
    """Where the API listens, and how much it takes on. Tokens: ``sealtrace audit token``."""

    host: str = "127.0.0.1"
    """Interface that the API listens on."""
    port: int = Field(default=0, ge=0, le=65535)
    """Its port; 0 takes a free one and says which."""
    concurrent: int = Field(default=1, ge=1, le=16)
    """How many audits run at once."""
    waiting: int = Field(default=16, ge=1, le=1000)
    """How many audits may wait or run; more are refused."""
    max_blocks: int = Field(default=10_000_000, ge=1)
    """How many blocks one audit may judge."""
    audit_timeout_s: float = Field(default=86_400, gt=0, strict=False)
    """How long one audit may run before it is ended."""


class ScheduleTable(_Table):
    """The daily audit, of all blocks up to the last final one."""

    at: str = Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")
    """When each day, as `HH:MM` in UTC. One that was missed is made up for at the next start."""
    formats: tuple[Annotated[Format, Field(strict=False)], ...] = Field(
        default=USUAL, min_length=1, strict=False
    )
    """The reports to make."""
    language: Annotated[Language, Field(strict=False)] = Language.ENGLISH
    """Of pages and tables: `en` or `zh`."""
    bundle: bool = False
    """Whether to pack audit.tar as well."""


class EvidenceTable(_Table):
    """A node's log: ``where`` is a path or a URL, ``token_file`` holds the reader's token for the URL."""

    node: AddressField
    """Address of the node whose log it is."""
    where: str
    """Path of the exported log, or URL of the node's `/v1/evidence/records`."""
    token_file: str | None = None
    """File that holds the reader's token for the URL, and nothing else."""


class ProofTable(_Table):
    """How far an audit proves what it read, beyond headers and receipts."""

    validators: tuple[AddressField, ...] = Field(default=(), strict=False)
    """Who seals the first block that is read of a QBFT or IBFT 2.0 chain, as learnt from the consortium; with
    them the commit seals of every block are checked."""
    reexecute: bool = False
    """Whether an embedded chain is executed again from its genesis."""
    genesis: str | None = None
    """With `reexecute`: the genesis file you hold; by default the endpoint's own."""


class SigningTable(_Table):
    """The certificate that signs report.pdf."""

    pkcs12: str
    """PKCS#12 file (.p12, .pfx) with the key, its certificate and the certificates above it."""
    passphrase_file: str
    """File that holds the passphrase of the PKCS#12 file, and nothing else."""

    def signing(self) -> Signing:
        """The two files."""
        return Signing(Path(self.pkcs12), Path(self.passphrase_file))


class Settings(_Table):
    """The whole file."""

    chain: ChainTable
    """See `[chain]`."""
    service: ServiceTable = ServiceTable()
    """See `[service]`."""
    evidence: tuple[EvidenceTable, ...] = Field(default=(), strict=False)
    """One `[[evidence]]` for each node whose log is compared."""
    proof: ProofTable = ProofTable()
    """See `[proof]`."""
    signing: SigningTable | None = None
    """See `[signing]`; without it report.pdf is not signed."""
    schedule: ScheduleTable | None = None
    """See `[schedule]`; without it nothing is audited unasked."""
    checkpoint_blocks: int = Field(default=100, gt=0)
    """How many blocks after a task's end a node's log may stay unanchored."""
    fonts: str | None = None
    """A folder with a font that has Chinese, for report.pdf, where none is installed."""

    def pages(self, language: Language) -> Pages:
        """How pages are made in ``language``."""
        return Pages(language, Path(self.fonts) if self.fonts else None)

    def inquiry(self, wanted: Wanted) -> Inquiry:
        """One audit under these settings.

        Raises:
            TokenUnreadable: a token's file cannot be read.
        """
        chain = ChainSettings(
            self.chain.rpc_url,
            self.chain.chain_id,
            self.chain.directory,
            confirmations=self.chain.confirmations,
        )
        sources = tuple(Source(e.node, e.where, token_in(e.token_file)) for e in self.evidence)
        blocks = wanted.checkpoint_blocks or self.checkpoint_blocks
        return Inquiry(
            chain,
            wanted.first,
            wanted.last,
            sources,
            Parameters(blocks, wanted.rule, wanted.object),
            self.service.max_blocks,
            self.proof.validators,
            self.proof.reexecute,
            Path(self.proof.genesis) if self.proof.genesis else None,
        )


def signing_of(settings: Settings, wanted: Wanted) -> Signing | None:
    """The certificate that signs the pages of an audit, where it has pages."""
    return settings.signing.signing() if settings.signing and Format.PDF in wanted.formats else None


def read_settings(folder: Path) -> Settings:
    """Read ``auditor.toml``.

    Raises:
        SettingsUnusable: it is missing, malformed, or has a key that is none.
    """
    path = folder / FILE
    try:
        return Settings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as cause:
        raise SettingsUnusable(f"{path} does not exist: run sealtrace audit init --dir {folder}") from cause
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as cause:
        raise SettingsUnusable(f"{path}: {cause}") from cause
    except ValidationError as cause:
        raise SettingsUnusable(f"{path}: {first_fault(cause.errors(), 'file')}") from cause


def create(folder: Path, chain: ChainTable, name: str = "regulator") -> str:
    """Make the folder with its settings, and return the one token, called ``name``, that may use the API.

    Raises:
        SettingsUnusable: there are settings already.
        TokenNameUnusable: ``name`` is no name for a token.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with (folder / FILE).open("x", encoding="utf-8") as file:
            file.write(_text(chain))
    except FileExistsError as cause:
        raise SettingsUnusable(f"{folder / FILE} is there already; edit it, or choose a folder") from cause
    return Tokens(folder).add(name)


def token_in(path: str | None) -> str | None:
    """The token in a file.

    Raises:
        TokenUnreadable: there is none.
    """
    if path is None:
        return None
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as cause:
        raise TokenUnreadable(f"{path}: {cause}") from cause


def _text(chain: ChainTable) -> str:
    return f"""\
checkpoint_blocks = 100  # how long after a task's end a node's log may stay unanchored

[chain]
rpc_url = {_quoted(chain.rpc_url)}
chain_id = {chain.chain_id}
directory = "{chain.directory}"
confirmations = {chain.confirmations}

[service]
host = "127.0.0.1"
port = 0  # 0 takes a free one and says which

# A daily audit of all blocks, at this time UTC:
# [schedule]
# at = "03:30"
# formats = ["html", "json", "pdf"]
# language = "en"  # or zh
# bundle = true

# One table for each node whose log is fetched or handed over:
# [[evidence]]
# node = "0x..."
# where = "https://node.example/v1/evidence/records"
# token_file = "/path/to/the/reader's/token"

# Who seals the first block, as the consortium says; then every block's commit seals are checked:
# [proof]
# validators = ["0x..."]

# The certificate that signs report.pdf:
# [signing]
# pkcs12 = "/path/to/auditor.p12"
# passphrase_file = "/path/to/its/passphrase"
"""


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
