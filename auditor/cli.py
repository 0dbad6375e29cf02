"""``sealtrace audit``: replay the chain, compare what nodes recorded, write the report."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sealtrace.algorithms.bundles import BundleMissing
from sealtrace.auditor import report
from sealtrace.auditor.audit import Audit, Result
from sealtrace.auditor.bundle import BundleUnwritable, gathering, pack
from sealtrace.auditor.case import Parameters
from sealtrace.auditor.catalogue import markdown
from sealtrace.auditor.checks import catalogue
from sealtrace.auditor.disclosures import known
from sealtrace.auditor.endpoints import EndpointsDisagree
from sealtrace.auditor.evidence import EvidenceTooLarge, EvidenceUnreadable
from sealtrace.auditor.exports.formats import (
    USUAL,
    Format,
    FormatUnavailable,
    NothingToSign,
    UnknownFormat,
    available,
    formats,
    write,
)
from sealtrace.auditor.exports.signing import CannotSign, Signing
from sealtrace.auditor.inquiry import EmptyRange, Inquiry, Source, examine
from sealtrace.auditor.material import MaterialTooLarge
from sealtrace.auditor.rpc import EndpointRefused, EndpointTalksNonsense, EndpointUnreachable
from sealtrace.auditor.settings import (
    FILE,
    ChainTable,
    SettingsUnusable,
    TokenUnreadable,
    create,
    read_settings,
    token_in,
)
from sealtrace.auditor.statements import StatementsUnreadable
from sealtrace.contracts.client import ChainSettings
from sealtrace.contracts.errors import ChainError
from sealtrace.contracts.options import ChainId, Contracts, Rpc
from sealtrace.protocol.bundle import BadBundle
from sealtrace.protocol.identifiers import Address, MalformedIdentifier, address

ERROR = 3

app = typer.Typer(no_args_is_help=True, help=__doc__)


class WrongArgument(ValueError):
    """An option is not of the form it needs; the message shows the form."""


class PortTaken(OSError):
    """The port in auditor.toml is in use: choose another, or 0 for a free one."""


_PROBLEMS = (
    BadBundle,
    BundleMissing,
    BundleUnwritable,
    CannotSign,
    ChainError,
    EmptyRange,
    EndpointRefused,
    EndpointTalksNonsense,
    EndpointUnreachable,
    EndpointsDisagree,
    EvidenceTooLarge,
    EvidenceUnreadable,
    FormatUnavailable,
    MalformedIdentifier,
    MaterialTooLarge,
    NothingToSign,
    PortTaken,
    SettingsUnusable,
    StatementsUnreadable,
    TokenUnreadable,
    UnknownFormat,
    WrongArgument,
)

AsJson = Annotated[bool, typer.Option("--json", help="Say it in JSON.")]
Folder = Annotated[Path, typer.Option("--dir", help="The auditor's folder, with auditor.toml.")]


First = Annotated[int | None, typer.Option("--from", help="The first block to judge.", min=0)]
Last = Annotated[int | None, typer.Option("--to", help="The last block to look at.", min=0)]
Evidence = Annotated[
    list[str] | None, typer.Option(help="NODE=FILE, NODE=FOLDER or NODE=URL: a node's evidence log.")
]
EvidenceToken = Annotated[
    list[str] | None, typer.Option(help="NODE=FILE: a file that holds the reader's token for its URL.")
]
StatementFolders = Annotated[
    list[Path] | None,
    typer.Option("--statements", help="A folder of enclaves' statements, beside those beside the logs."),
]
Confirmations = Annotated[
    int, typer.Option(help="Blocks that must follow a final one; -1 for finalized.", min=-1)
]
CheckpointBlocks = Annotated[
    int, typer.Option(help="How long after a task's end a log may stay unanchored.", min=1)
]
Algorithms = Annotated[
    list[Path] | None, typer.Option(help="The folder of an algorithm, for what its manifest discloses.")
]


@app.command()
def run(
    rpc: Rpc,
    chain_id: ChainId,
    contracts: Contracts,
    out: Annotated[Path, typer.Option(help="The folder that the reports are written to.")],
    first: First = None,
    last: Last = None,
    evidence: Evidence = None,
    evidence_token: EvidenceToken = None,
    statements: StatementFolders = None,
    confirmations: Confirmations = 0,
    checkpoint_blocks: CheckpointBlocks = 100,
    bundle: Algorithms = None,
    rule: Annotated[str | None, typer.Option(help="Apply this check alone.")] = None,
    thing: Annotated[str | None, typer.Option("--object", help="Judge this object alone.")] = None,
    wanted: Annotated[
        str, typer.Option("--format", help=f"The reports to write, of {', '.join(Format)}.")
    ] = ",".join(USUAL),
    sign: Annotated[
        Path | None,
        typer.Option(help="The auditor's folder; the certificate that its settings name signs report.pdf."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Audit a range of blocks.

    Exit code 0: no finding. 1: findings. 2: no finding, but a critical check could not be determined.
    3: the audit could not be carried out.
    """
    with _explained(as_json):
        chosen = formats(wanted)
        signing = _signing(sign)
        available(chosen, signing)
        inquiry = Inquiry(
            ChainSettings(rpc, chain_id, address(contracts), confirmations=confirmations, timeout_s=30),
            first,
            last,
            _sources(evidence or [], evidence_token or []),
            Parameters(checkpoint_blocks, _known(rule), thing),
            tuple(statements or ()),
        )
        done = examine(inquiry)
        told = report.document(done, known(bundle or ()))
        paths = write(told, done.case.events, out, chosen, signing)
    where = {each.value: str(path) for each, path in paths.items()}
    _show(done, told, where, f"Report: {', '.join(where.values())}", as_json=as_json)
    raise typer.Exit(int(done.result))


@app.command("bundle")
def bundle_(
    rpc: Rpc,
    chain_id: ChainId,
    contracts: Contracts,
    out: Annotated[Path, typer.Option(help="The file that the bundle is written to.", dir_okay=False)],
    first: First = None,
    last: Last = None,
    evidence: Evidence = None,
    evidence_token: EvidenceToken = None,
    statements: StatementFolders = None,
    confirmations: Confirmations = 0,
    checkpoint_blocks: CheckpointBlocks = 100,
    algorithm: Algorithms = None,
    as_json: AsJson = False,
) -> None:
    """Audit a range of blocks, and pack report, headers, receipts and logs to be checked without a network.

    The file is checked by verify_report.py (docs/audit-bundle.md). Exit codes are those of an audit.
    """
    with _explained(as_json), gathering() as material:
        inquiry = Inquiry(
            ChainSettings(rpc, chain_id, address(contracts), confirmations=confirmations, timeout_s=30),
            first,
            last,
            _sources(evidence or [], evidence_token or []),
            Parameters(checkpoint_blocks),
            tuple(statements or ()),
        )
        done = examine(inquiry, material)
        told = report.document(done, known(algorithm or ()))
        digest = pack(told, material, out)
    anchor = done.case.last.hash
    where = f"Bundle: {out}, sha256 {digest[2:]}. Its last block is {anchor}"
    _show(done, told, {"bundle": str(out), "sha256": digest, "anchor": anchor}, where, as_json=as_json)
    raise typer.Exit(int(done.result))


@app.command()
def checks(
    as_json: AsJson = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="As docs/checks.md.")] = False,
) -> None:
    """List every check: its rule, its severity, the sentence it verifies."""
    if as_markdown:
        typer.echo(markdown(), nl=False)
        return
    rows = [
        {
            "rule": each.rule,
            "severity": each.severity.value,
            "sentence": each.sentence,
            "needs": [need.value for need in each.needs],
        }
        for each in catalogue()
    ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table("rule", "severity", "asserts")
    for row in rows:
        table.add_row(str(row["rule"]), str(row["severity"]), str(row["sentence"]))
    Console().print(table)


@app.command()
def init(
    folder: Folder,
    rpc: Rpc,
    chain_id: ChainId,
    contracts: Contracts,
    as_json: AsJson = False,
) -> None:
    """Make an auditor's folder, and the token with which a regulator uses its service."""
    with _explained(as_json):
        token = create(folder, ChainTable(rpc_url=rpc, chain_id=chain_id, directory=address(contracts)))
    if as_json:
        typer.echo(json.dumps({"dir": str(folder), "token": token}))
        return
    typer.echo(f"{folder} is ready. The regulator's token, shown only now:\n{token}")


@app.command()
def serve(folder: Folder, as_json: AsJson = False) -> None:
    """Serve audits over HTTP until told to stop."""
    import uvicorn

    from sealtrace.auditor.api import create_app
    from sealtrace.auditor.archive import Archive

    with _explained(as_json):
        settings = read_settings(folder)
        listening = _listen(settings.service.host, settings.service.port)
    host, port = listening.getsockname()[:2]
    url = f"http://{host}:{port}"
    typer.echo(json.dumps({"url": url}) if as_json else f"auditor at {url}")
    sys.stdout.flush()
    server = create_app(settings, Archive(folder / "audits"))
    uvicorn.Server(uvicorn.Config(server, log_level="warning")).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OSError as cause:
        raise PortTaken(f"{host}:{port}: {cause.strerror}; choose another port in auditor.toml") from cause


def _signing(folder: Path | None) -> Signing | None:
    if folder is None:
        return None
    table = read_settings(folder).signing
    if table is None:
        raise CannotSign(f"{folder / FILE} names no certificate: add a table [signing]")
    return table.signing()


def _sources(given: list[str], tokens: list[str]) -> tuple[Source, ...]:
    files = dict(_pair(each, "--evidence-token NODE=FILE") for each in tokens)
    pairs = [_pair(each, "--evidence NODE=FILE") for each in given]
    if len({node for node, _ in pairs}) != len(pairs):
        raise WrongArgument("--evidence names one node twice: hand over one log of each")
    return tuple(Source(node, where, token_in(files.get(node))) for node, where in pairs)


def _pair(text: str, form: str) -> tuple[Address, str]:
    node, equals, value = text.partition("=")
    if not equals or not value:
        raise WrongArgument(f"{text!r}: the form is {form}")
    return address(node), value


def _known(rule: str | None) -> str | None:
    if rule is not None and rule not in {each.rule for each in catalogue()}:
        raise WrongArgument(f"--rule {rule}: there is none; see sealtrace audit checks")
    return rule


def _show(done: Audit, told: dict[str, Any], written: dict[str, str], where: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(_summary(told, written)))
        return
    console = Console()
    table = Table("tasks", "ran", "refused", "failed", "other", "findings", "undetermined")
    counts = told["counts"]
    shown = [counts["states"].get("refused", 0), counts["states"].get("failed", 0)]
    other = counts["tasks"] - counts["ran"] - sum(shown)
    undetermined = counts["verdicts"]["undetermined"]
    cells = [counts["tasks"], counts["ran"], *shown, other, counts["findings"], undetermined]
    table.add_row(*map(str, cells))
    console.print(table)
    for finding in done.findings:
        console.print(
            f"[bold red]{finding.rule}[/] {escape(finding.explanation)}", highlight=False, soft_wrap=True
        )
        console.print(f"  expected {escape(finding.expected)}", highlight=False, soft_wrap=True)
        console.print(f"  observed {escape(finding.observed)}", highlight=False, soft_wrap=True)
    tone = {Result.CLEAN: "green", Result.FINDINGS: "red", Result.CANNOT_TELL: "yellow"}[done.result]
    console.print(f"[{tone}]{escape(told['verdict']['sentence'])}[/]", highlight=False)
    console.print(f"Proof level {told['proof']['level']}. {escape(where)}", highlight=False, soft_wrap=True)


def _summary(told: dict[str, Any], written: dict[str, str]) -> dict[str, Any]:
    return {
        "result": told["verdict"]["result"],
        "sentence": told["verdict"]["sentence"],
        "proof_level": told["proof"]["level"],
        "last_block": told["scope"]["last_block"],
        "counts": told["counts"],
        "findings": told["findings"],
        **written,
    }


def _to_stderr(*_: object) -> structlog.PrintLogger:
    """What an endpoint did is not part of a command's answer."""
    return structlog.PrintLogger(sys.stderr)


@contextmanager
def _explained(as_json: bool) -> Iterator[None]:
    """Our own errors end the command with exit code 3; 1 and 2 are results."""
    structlog.configure(logger_factory=_to_stderr)
    try:
        yield
    except _PROBLEMS as problem:
        name, message = type(problem).__name__, str(problem)
        if as_json:
            typer.echo(json.dumps({"error": name, "message": message}))
        else:
            Console(stderr=True).print(f"[bold red]{escape(name)}[/] {escape(message)}", soft_wrap=True)
        raise typer.Exit(ERROR) from problem
