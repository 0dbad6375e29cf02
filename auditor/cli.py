"""``sealtrace audit``: replay the chain, compare what nodes recorded, write the report."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from sealtrace.algorithms.bundles import Bundle, BundleMissing, load
from sealtrace.auditor import report
from sealtrace.auditor.audit import Audit, Result
from sealtrace.auditor.bundle import BundleUnwritable, gathering, pack
from sealtrace.auditor.case import Parameters
from sealtrace.auditor.catalogue import markdown
from sealtrace.auditor.checks import UnknownRule, catalogue, known_rule
from sealtrace.auditor.disclosures import known
from sealtrace.auditor.endpoints import EndpointsDisagree
from sealtrace.auditor.evidence import EvidenceTooLarge, EvidenceUnreadable
from sealtrace.auditor.execution import CannotExecute
from sealtrace.auditor.exports.fonts import FontMissing
from sealtrace.auditor.exports.formats import (
    USUAL,
    Format,
    FormatUnavailable,
    NothingToSign,
    Pages,
    UnknownFormat,
    available,
    formats,
    write,
)
from sealtrace.auditor.exports.records import Table
from sealtrace.auditor.exports.records import write as write_record
from sealtrace.auditor.exports.signing import CannotSign, Signing
from sealtrace.auditor.following import BehindReading
from sealtrace.auditor.frameworks import frameworks
from sealtrace.auditor.inquiry import EmptyRange, HeadTooOld, Inquiry, RangeTooLong, Source, examine
from sealtrace.auditor.kept import ReadingDamaged, ReadingInUse, ReadingOfAnother
from sealtrace.auditor.language import Language, UnknownLanguage, language
from sealtrace.auditor.material import MaterialTooLarge
from sealtrace.auditor.openings import OpeningUnreadable, fits, read_file, read_openings
from sealtrace.auditor.processing import OrganisationUnknown, ReportUnreadable, processing, read_report
from sealtrace.auditor.reads import (
    CheckpointMalformed,
    Head,
    Read,
    ReadsTampered,
    head,
    lines_of,
    stored,
    verified,
)
from sealtrace.auditor.rpc import EndpointRefused, EndpointTalksNonsense, EndpointUnreachable
from sealtrace.auditor.seals import ValidatorsInContract
from sealtrace.auditor.secret_values import why_not_opened
from sealtrace.auditor.service import ServiceRunning, opened
from sealtrace.auditor.settings import (
    FILE,
    READS,
    ChainTable,
    SettingsUnusable,
    TokenUnreadable,
    create,
    read_settings,
    token_in,
)
from sealtrace.auditor.statements import StatementsUnreadable
from sealtrace.auditor.times import utc
from sealtrace.auditor.tokens import TokenNameUnusable, TokenNotFound, Tokens, TokensUnreadable
from sealtrace.auditor.watching import Shown, followed
from sealtrace.contracts.client import ChainSettings
from sealtrace.contracts.errors import ChainError
from sealtrace.contracts.options import ChainId, Contracts, Rpc
from sealtrace.protocol.attestation.refusals import EvidenceRefused
from sealtrace.protocol.attestation.statement import Statement, read_statement
from sealtrace.protocol.bundle import BadBundle
from sealtrace.protocol.identifiers import Address, MalformedIdentifier, address
from sealtrace.protocol.secret_config import BadSecretConfig, ValueOpening, read_value_opening

ERROR = 3
GRACE_S = 10
"""How long answers under way may take once the service is told to stop."""

app = typer.Typer(no_args_is_help=True, help=__doc__)
token_app = typer.Typer(no_args_is_help=True, help="Regulators' tokens for the service.")
app.add_typer(token_app, name="token")


class WrongArgument(ValueError):
    """An option is not of the form it needs; the message shows the form."""


class PortTaken(OSError):
    """The port in auditor.toml is in use: choose another, or 0 for a free one."""


_PROBLEMS = (
    BadBundle,
    BadSecretConfig,
    BehindReading,
    BundleMissing,
    BundleUnwritable,
    CannotExecute,
    CannotSign,
    ChainError,
    CheckpointMalformed,
    EmptyRange,
    EndpointRefused,
    EndpointTalksNonsense,
    EndpointUnreachable,
    EndpointsDisagree,
    EvidenceRefused,
    EvidenceTooLarge,
    EvidenceUnreadable,
    FontMissing,
    FormatUnavailable,
    HeadTooOld,
    MalformedIdentifier,
    MaterialTooLarge,
    NothingToSign,
    OpeningUnreadable,
    OrganisationUnknown,
    PortTaken,
    ReportUnreadable,
    RangeTooLong,
    ReadingDamaged,
    ReadingInUse,
    ReadingOfAnother,
    ReadsTampered,
    ServiceRunning,
    SettingsUnusable,
    StatementsUnreadable,
    TokenNameUnusable,
    TokenNotFound,
    TokenUnreadable,
    TokensUnreadable,
    UnknownFormat,
    UnknownLanguage,
    UnknownRule,
    ValidatorsInContract,
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
Unverified = Annotated[
    bool, typer.Option("--unverified", help="Take the endpoint's word for the events: proof level 1.")
]
HeadAge = Annotated[
    int | None, typer.Option("--head-age", help="How many seconds old the last block may be.", min=1)
]
Resume = Annotated[
    Path | None,
    typer.Option(help="A folder that keeps what is read; a later audit with it reads only what is new."),
]
Follow = Annotated[
    bool, typer.Option("--follow", help="Audit again whenever there is a new block, until interrupted.")
]
Algorithms = Annotated[
    list[Path] | None, typer.Option(help="The folder of an algorithm, for what its manifest discloses.")
]
Validators = Annotated[
    str | None,
    typer.Option(
        help="Who seals the first block that is read, by addresses with commas between them, as learnt from "
        "the consortium: the commit seals of every block are then checked (proof level 3)."
    ),
]
Reexecute = Annotated[
    bool, typer.Option("--reexecute", help="Execute an embedded chain again from its genesis.")
]
Genesis = Annotated[
    Path | None, typer.Option(help="With --reexecute: the genesis file you hold, not the endpoint's.")
]

In = Annotated[str, typer.Option("--language", help=f"Of pages and tables: {', '.join(Language)}.")]
Fonts = Annotated[
    Path | None, typer.Option(help="A folder with a font that has Chinese, where none is installed.")
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
    algorithm: Algorithms = None,
    validators: Validators = None,
    reexecute: Reexecute = False,
    genesis: Genesis = None,
    unverified: Unverified = False,
    head_age: HeadAge = None,
    resume: Resume = None,
    follow: Follow = False,
    rule: Annotated[str | None, typer.Option(help="Apply this check alone.")] = None,
    thing: Annotated[str | None, typer.Option("--object", help="Judge this object alone.")] = None,
    wanted: Annotated[
        str, typer.Option("--format", help=f"The reports to write, of {', '.join(Format)}.")
    ] = ",".join(USUAL),
    sign: Annotated[
        Path | None,
        typer.Option(help="The auditor's folder; the certificate that its settings name signs report.pdf."),
    ] = None,
    in_language: In = Language.ENGLISH.value,
    fonts: Fonts = None,
    openings: Annotated[
        Path | None, typer.Option(help="A folder with what owners opened (sealtrace node dataset open).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Audit a range of blocks.

    Exit code 0: no finding. 1: findings. 2: no finding, but a critical check could not be determined.
    3: the audit could not be carried out. With --follow, the code is that of the last audit.
    """
    with _explained(as_json):
        chosen = formats(wanted)
        signing = _signing(sign)
        pages = Pages(language(in_language), fonts)
        available(chosen, signing, pages)
        _hold_following(follow, resume, last)
        inquiry = Inquiry(
            ChainSettings(rpc, chain_id, address(contracts), confirmations=confirmations, timeout_s=30),
            first,
            last,
            _sources(evidence or [], evidence_token or []),
            Parameters(checkpoint_blocks, known_rule(rule), thing),
            validators=_addresses(validators),
            reexecute=reexecute,
            genesis=genesis,
            openings=() if openings is None else read_openings(openings),
            statements=tuple(statements or ()),
            trusting=unverified,
            kept=resume,
            head_age_s=head_age,
        )
        disclosed = known(algorithm or ())

        def once() -> Audit:
            done = examine(inquiry, notice=Shown(sys.stderr))
            told = report.document(done, disclosed)
            paths = write(told, done.case.events, out, chosen, signing, pages)
            where = {each.value: str(path) for each, path in paths.items()}
            _show(done, told, where, f"Report: {', '.join(where.values())}", as_json=as_json)
            return done

        done = followed(once, inquiry) if follow else once()
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
    validators: Validators = None,
    reexecute: Reexecute = False,
    genesis: Genesis = None,
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
            validators=_addresses(validators),
            reexecute=reexecute,
            genesis=genesis,
            statements=tuple(statements or ()),
        )
        done = examine(inquiry, material)
        told = report.document(done, known(algorithm or ()))
        digest = pack(told, material, out)
    anchor = done.case.last.hash
    where = f"Bundle: {out}, sha256 {digest[2:]}. Its last block is {anchor}"
    _show(done, told, {"bundle": str(out), "sha256": digest, "anchor": anchor}, where, as_json=as_json)
    raise typer.Exit(int(done.result))


@app.command()
def opening(
    file: Annotated[Path, typer.Argument(help="What sealtrace node dataset open wrote.")],
    data: Annotated[Path | None, typer.Option(help="A copy of the table, to hold to it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what an opened commitment opens and who signed it, without a network. An audit tells whether the
    chain holds it.

    Exit code 0: signed, and the data is what was committed to. 1: not so. 3: it cannot be read.
    """
    with _explained(as_json):
        found = read_file(file)
        same = None if data is None else fits(file, data)
    told: dict[str, Any] = {
        "dataset": found.dataset,
        "commitment": found.commitment,
        "opened_by": found.speaker,
        "signed": found.signed,
        "opened_to": found.to,
        "data_fits": same,
    }
    if as_json:
        typer.echo(json.dumps(told))
    else:
        words = {True: "yes", False: "no", None: "not looked at"}
        shown = told | {name: words[told[name]] for name in ("signed", "data_fits")}
        typer.echo("\n".join(f"{name:<12}{value}" for name, value in shown.items()))
    raise typer.Exit(0 if found.signed and same is not False else 1)


@app.command("processing")
def processing_(
    organisation: Annotated[str, typer.Option(help="The address of its node.")],
    out: Annotated[Path, typer.Option(help="The folder that the record is written to.")],
    source: Annotated[Path, typer.Option("--report", help="A report.json, of an audit or of a bundle.")],
    wanted: Annotated[Table, typer.Option("--format", help="The form of the record.")] = Table.CSV,
    purpose: Annotated[
        list[str] | None, typer.Option(help="A purpose in words, shown where the chain has its hash.")
    ] = None,
    in_language: In = Language.ENGLISH.value,
    as_json: AsJson = False,
) -> None:
    """Write an organisation's record of processing (GDPR Art. 30, PIPL), as far as the chain knows it."""
    with _explained(as_json):
        chosen = language(in_language)
        if wanted is Table.XLSX:
            available([Format.XLSX])
        record = processing(read_report(source), address(organisation), purpose or ())
        path = write_record(record, out, wanted, chosen)
    rows, empty = len(record["rows"]), len(record["to_be_filled"])
    if as_json:
        typer.echo(json.dumps({"file": str(path), "rows": rows, "to_be_filled": record["to_be_filled"]}))
        return
    typer.echo(f"{path}: {rows} rows; {empty} columns are to be filled by the organisation")


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
            "frameworks": frameworks(each.rule),
        }
        for each in catalogue()
    ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Grid("rule", "severity", "asserts")
    for row in rows:
        table.add_row(str(row["rule"]), str(row["severity"]), str(row["sentence"]))
    Console().print(table)


@app.command("config")
def config_(
    opening: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="What `sealtrace algorithm open-config` wrote."),
    ],
    bundle: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="The folder of the algorithm that it is of.")
    ],
    statement: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="An enclave's last statement: it must have run it."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that a secret value which was opened is the one that an algorithm's manifest commits to.

    Exit code 1: it is not. Whether a statement is genuine, `sealtrace attestation verify` judges. 3: a file
    could not be read.
    """
    with _explained(as_json):
        opened = read_value_opening(opening.read_bytes())
        held = load(bundle)
        shown = None if statement is None else read_statement(statement.read_bytes())
        why = why_not_opened(opened, held, shown)
    if as_json:
        ran = None if shown is None else shown.digest
        told = {"algorithm": held.digest, "name": opened.name, "value": opened.value, "statement": ran}
        typer.echo(json.dumps({**told, "holds": why is None, "why": why}))
    else:
        _say_opened(opened, held, shown, why)
    raise typer.Exit(int(why is not None))


def _say_opened(opened: ValueOpening, held: Bundle, shown: Statement | None, why: str | None) -> None:
    if why is not None:
        typer.echo(f"{opened.name} does not hold: {why}")
        return
    typer.echo(f"{opened.name} is {json.dumps(opened.value)}: the manifest of {held.digest} commits to it")
    if shown is not None:
        at = f"the enclave of {shown.party}, task {shown.challenge.task}"
        typer.echo(f"statement {shown.digest} says that {at}, ran that algorithm")


@app.command()
def init(
    folder: Folder,
    rpc: Rpc,
    chain_id: ChainId,
    contracts: Contracts,
    name: Annotated[str, typer.Option("--token", help="What the first token is called.")] = "regulator",
    as_json: AsJson = False,
) -> None:
    """Make an auditor's folder, and the first token with which a regulator uses its service."""
    with _explained(as_json):
        chain = ChainTable(rpc_url=rpc, chain_id=chain_id, directory=address(contracts))
        token = create(folder, chain, name)
    if as_json:
        typer.echo(json.dumps({"dir": str(folder), "name": name, "token": token}))
        return
    typer.echo(f"{folder} is ready. The token of {name}, shown only now:\n{token}")


@token_app.command("add")
def token_add(name: str, folder: Folder, as_json: AsJson = False) -> None:
    """Make a token for one regulator. It is shown once, and its name stands in the log of reads."""
    with _explained(as_json):
        read_settings(folder)
        token = Tokens(folder).add(name)
    typer.echo(json.dumps({"name": name, "token": token}) if as_json else token)


@token_app.command("list")
def token_list(folder: Folder, as_json: AsJson = False) -> None:
    """List tokens by name, revoked ones included; never the tokens themselves."""
    with _explained(as_json):
        known = Tokens(folder).all()
    if as_json:
        typer.echo(
            json.dumps([each.model_dump(include={"name", "created_at", "revoked_at"}) for each in known])
        )
        return
    table = Grid("name", "made", "revoked")
    for each in known:
        table.add_row(each.name, utc(each.created_at), utc(each.revoked_at) if each.revoked_at else "")
    Console().print(table)


@token_app.command("revoke")
def token_revoke(name: str, folder: Folder, as_json: AsJson = False) -> None:
    """End a token at once. Its name stays taken, so that the log of reads tells who it was."""
    with _explained(as_json):
        ended = Tokens(folder).revoke(name)
    shown = {"name": ended.name, "revoked_at": ended.revoked_at}
    typer.echo(json.dumps(shown) if as_json else f"{name} may not use the service any more")


@app.command()
def reads(
    folder: Annotated[
        Path | None, typer.Option("--dir", help="The auditor's folder, with auditor.toml.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="An exported log instead of a folder's.")] = None,
    held: Annotated[
        list[str] | None,
        typer.Option(help="SIZE:ROOT, from X-Sealtrace-Reads of an answer: the log must begin with it."),
    ] = None,
    who: Annotated[str | None, typer.Option(help="Show the reads of this token alone.")] = None,
    export: Annotated[Path | None, typer.Option(help="Copy the log, once verified, to this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what regulators read, once the log of it is verified. Exit code 3: it is not as it was written."""
    with _explained(as_json):
        now, found = _reads(folder, file, [head(each) for each in held or ()])
        if export is not None:
            _export((folder / READS / "reads.jsonl") if folder else Path(str(file)), export, now)
    shown = [each for each in found if who in (None, each.who)]
    if as_json:
        listed = [each.model_dump(mode="json") for each in shown]
        typer.echo(json.dumps({"size": now.size, "root": now.root, "reads": listed}))
        return
    table = Grid("when", "who", "what", "status", "sha256")
    for each in shown:
        table.add_row(
            utc(each.at), each.who, escape(ascii(each.what)[1:-1]), str(each.status), each.sha256[:18]
        )
    Console().print(table)
    typer.echo(f"{now.size} reads, verified. Hold the log to this later: {now}")


def _reads(folder: Path | None, file: Path | None, held: list[Head]) -> tuple[Head, list[Read]]:
    if (folder is None) == (file is None):
        raise WrongArgument("give --dir or --file, one of them")
    if folder is not None:
        read_settings(folder)
        return stored(folder / READS, held)
    if not Path(str(file)).exists():
        raise WrongArgument(f"{file}: there is no such file")
    return verified(lines_of(Path(str(file))), held)


def _export(log: Path, out: Path, now: Head) -> None:
    """Copy a log and look at the copy: the service may write meanwhile."""
    try:
        shutil.copyfile(log, out)
    except OSError as cause:
        raise WrongArgument(f"--export {out}: {cause.strerror}") from cause
    verified(lines_of(out), [now])


@app.command()
def serve(folder: Folder, as_json: AsJson = False) -> None:
    """Serve audits over HTTP, and make the daily one, until told to stop."""
    import uvicorn

    from sealtrace.auditor.api import create_app

    with _explained(as_json), ExitStack() as stack:
        settings = read_settings(folder)
        listening = stack.enter_context(_listen(settings.service.host, settings.service.port))
        service = stack.enter_context(opened(folder, settings))
        host, port = listening.getsockname()[:2]
        url = f"http://{host}:{port}"
        typer.echo(json.dumps({"url": url}) if as_json else f"auditor at {url}")
        sys.stdout.flush()
        config = uvicorn.Config(create_app(service), log_level="warning", timeout_graceful_shutdown=GRACE_S)
        uvicorn.Server(config).run(sockets=[listening])


@app.command("carry-out", hidden=True)
def carry_out_(folder: Folder, identity: Annotated[str, typer.Option("--id")]) -> None:
    """Carry out one audit of the service, which alone calls this."""
    from sealtrace.auditor.carrying import carry_out, end_with_the_service

    end_with_the_service()
    carry_out(folder, identity)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OSError as cause:
        raise PortTaken(f"{host}:{port}: {cause.strerror}; choose another port in auditor.toml") from cause


def _hold_following(follow: bool, resume: Path | None, last: int | None) -> None:
    if follow and resume is None:
        raise WrongArgument("--follow needs --resume FOLDER, so that nothing is read twice")
    if follow and last is not None:
        raise WrongArgument("--follow goes on without end: leave out --to")


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


def _addresses(text: str | None) -> tuple[Address, ...]:
    if text is None:
        return ()
    found = tuple(address(each.strip()) for each in text.split(","))
    if len(set(found)) < len(found):
        raise WrongArgument("--validators names one address twice: name each validator once")
    return found


def _show(done: Audit, told: dict[str, Any], written: dict[str, str], where: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(_summary(told, written)))
        return
    console = Console()
    table = Grid("tasks", "ran", "refused", "failed", "other", "findings", "undetermined")
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
