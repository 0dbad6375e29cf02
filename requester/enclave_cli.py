"""``sealtrace task metrics``, ``task statements`` and ``sealtrace attestation``: what enclaves tell."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from sealtrace.protocol.attestation.appraisal import Appraisal
from sealtrace.protocol.attestation.binding import Moment
from sealtrace.protocol.attestation.eventlog import Event
from sealtrace.protocol.attestation.policy import AttestationPolicy, read_policy
from sealtrace.protocol.attestation.statement import Statement, read_statement
from sealtrace.protocol.canonical import canonical, parse, sha256
from sealtrace.protocol.identifiers import UnixSeconds, hex32
from sealtrace.requester.client import Requester
from sealtrace.requester.enclaves import SIMULATED_WARNING, Round
from sealtrace.requester.options import AsJson, Dir, TaskId, print_json, say, warn
from sealtrace.requester.whole_files import write_whole

attestation_app = typer.Typer(no_args_is_help=True, help="Judge what enclaves state, away from the network.")

SHOWN_ROUNDS = 30
"""Rounds that a live table has room for: the last ones."""


def metrics(
    task: TaskId,
    directory: Dir,
    follow: Annotated[bool, typer.Option(help="Go on until the task is over.")] = True,
    as_json: AsJson = False,
) -> None:
    """Show how training in an enclave goes, round by round. Only the requester's key opens it."""
    requester = Requester.open(directory)
    rounds = requester.metrics(hex32(task), follow=follow)
    simulated = requester.spec(hex32(task)).steps[0].protocol == "SIMULATED"
    if as_json:
        for each in rounds:
            print_json({"round": each.number, "metrics": each.metrics, "simulated": simulated})
        return
    if simulated:
        warn(SIMULATED_WARNING)
    seen: list[Round] = []
    with Live(_rounds_table(seen), refresh_per_second=4) as live:
        for each in rounds:
            seen.append(each)
            live.update(_rounds_table(seen[-SHOWN_ROUNDS:]))


def statements(
    task: TaskId,
    directory: Dir,
    out: Annotated[
        Path | None, typer.Option(help="Write each as DIGEST.json into this folder.", file_okay=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch what a task's enclave has stated, hold it to the task, and show it.

    The owners judged it by their policies; `sealtrace attestation verify` judges again.
    """
    texts = Requester.open(directory).statements(hex32(task))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for text in texts:
            write_whole(out / f"{sha256(text)}.json", text)
    _show(map(read_statement, texts), as_json=as_json)


@attestation_app.command()
def show(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="An enclave's statement.")],
    as_json: AsJson = False,
) -> None:
    """Show what an enclave's statement says; whether it is true, `verify` judges."""
    _show([read_statement(file.read_bytes())], as_json=as_json)


@attestation_app.command()
def verify(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="An enclave's statement.")],
    policy: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The owner's policy, in JSON.")],
    at_block_time: Annotated[
        int | None, typer.Option(help="Judge at a block of this time.", show_default="that of its block")
    ] = None,
    at_number: Annotated[
        int | None, typer.Option(help="And of this number.", show_default="that of its block")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge an enclave's statement under an owner's policy, at a block and never at the clock.

    Exit code 1 where the policy does not take it. That the block it names is on the chain, and its digest in
    what the parties recorded there, is for whoever reads the chain.
    """
    found = read_statement(file.read_bytes())
    issued = found.challenge.issued
    time = issued.time if at_block_time is None else UnixSeconds(at_block_time)
    at = Moment(time, issued.number if at_number is None else at_number)
    judged = found.judged(_policy(policy), at)
    if as_json:
        print_json({**_statement_json(found), **_judged_json(judged)})
    else:
        _print_judged(found, judged)
    if not judged.accepted:
        raise typer.Exit(1)


def _policy(file: Path) -> AttestationPolicy:
    """The policy as its owner wrote it: its digest is over the canonical form."""
    return read_policy(canonical(parse(file.read_bytes())))


def _rounds_table(rounds: list[Round]) -> Table:
    names = list(dict.fromkeys(name for each in rounds for name in each.metrics))
    table = Table("round", *map(escape, names), title="what the enclave tells")
    for each in rounds:
        table.add_row(str(each.number), *(_figure(each.metrics.get(name)) for name in names))
    return table


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _show(found: Iterable[Statement], *, as_json: bool) -> None:
    for each in found:
        if as_json:
            print_json(_statement_json(each))
        else:
            _print_statement(each)


def _statement_json(found: Statement) -> dict[str, Any]:
    challenge = found.challenge
    return {
        "statement": found.digest,
        "stage": found.stage,
        "task": challenge.task,
        "party": found.party,
        "algorithm": challenge.algorithm,
        "block": {"number": challenge.issued.number, "hash": challenge.block},
        "evidence": found.evidence.kind,
        "simulated": not found.evidence.kind.is_hardware,
        "events": [event.document() for event in found.evidence.events],
    }


def _print_statement(found: Statement) -> None:
    challenge, kind = found.challenge, found.evidence.kind
    table = Table("event", "digest", title=f"event log, stage {found.stage}")
    for event in found.evidence.events:
        table.add_row(event.kind, _event_words(event))
    Console(soft_wrap=True).print(table)
    say(f"statement  {found.digest}\nof         task {challenge.task}, enclave at {found.party}")
    say(f"evidence   {kind}, bound to block {challenge.issued.number}")
    if not kind.is_hardware:
        warn(SIMULATED_WARNING)


def _event_words(event: Event) -> str:
    if event.erased:
        return "\n".join(event.erased)
    return f"{event.digest} of dataset {event.subject}" if event.subject else str(event.digest or "-")


def _judged_json(judged: Appraisal) -> dict[str, Any]:
    return {
        "accepted": judged.accepted,
        "policy": judged.policy,
        "at": {"time": int(judged.at.time), "number": judged.at.number},
        "trust": {str(claim): value for claim, value in judged.trust.items()},
        "reasons": [
            {"code": each.code, "detail": each.detail, "next": each.next_step} for each in judged.reasons
        ],
    }


def _print_judged(found: Statement, judged: Appraisal) -> None:
    _print_statement(found)
    word = "[green]accepted[/]" if judged.accepted else "[red]refused[/]"
    say(f"{word} under policy {judged.policy} at block {judged.at.number} ({int(judged.at.time)})")
    say("  " + ", ".join(f"{claim} {value}" for claim, value in judged.trust.items()))
    for each in judged.reasons:
        say(f"  {escape(str(each))}")
