"""The report: one document, in canonical JSON and as one HTML page made from it.

Nothing in it comes from a clock, a path or an address of the machine it was made on: the same range, logs
and parameters give the same bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from sealtrace import __version__
from sealtrace.auditor.audit import Audit, Result, Row
from sealtrace.auditor.case import Case, Execution, Level, Seals, StorageProof
from sealtrace.auditor.charts import charts
from sealtrace.auditor.disclosures import Manifests, disclosures, known
from sealtrace.auditor.events import Event
from sealtrace.auditor.evidence import NodeLog
from sealtrace.auditor.findings import Finding, Outcome, Severity
from sealtrace.auditor.frameworks import frameworks
from sealtrace.auditor.governance import ProposalHistory
from sealtrace.auditor.language import Language, words
from sealtrace.auditor.openings import Opened
from sealtrace.auditor.processing import COLUMNS, REPORT_VERSION, lines, organisations, rows
from sealtrace.auditor.timelines import swimlanes
from sealtrace.auditor.times import utc
from sealtrace.auditor.world import Generation, Step, TaskHistory, World
from sealtrace.contracts.governance import Office
from sealtrace.protocol.attestation.policy import ENCLAVES
from sealtrace.protocol.canonical import canonical
from sealtrace.protocol.identifiers import Hex32
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.outcome import Blame, Denial, Failure
from sealtrace.protocol.records import Algorithm, Dataset, Grant, Node, Protection, Role
from sealtrace.protocol.security import in_words

LEVELS: Final = {
    Level.RPC_TRUSTED: "What the endpoint said was taken on trust.",
    Level.RECEIPTS_COMPLETE: "Every header was hashed again and linked to the one before; every block either "
    "excludes the contracts by its bloom filter, or its receipts were read whole and rebuild its receipts "
    "root. No event was left out, altered or added.",
    Level.SEALS_CHECKED: "Every header was hashed again and linked to the one before; every block either "
    "excludes the contracts by its bloom filter, or its receipts were read whole and rebuild its receipts "
    "root. No event was left out, altered or added. Every block was sealed by two thirds of the validators: "
    "of those that the auditor knew for the first block, and of those that they voted in since.",
}

_ALWAYS_UNCHECKED: Final = (
    "Data, results and what ran inside the engines: only digests, counters and records are seen here.",
    "Nodes that acted neither on the chain nor in a log handed over.",
)

_HEX: Final = re.compile(r"0x[0-9a-f]{40,64}\b")

_FILTERS: Final = (
    "violated",
    "undetermined",
    *(each.value for each in Severity),
    *(each.name.lower() for each in TaskState),
)
"""By what a page's lists can be narrowed."""

_MOST_ROWS: Final = 50
"""Rows of each record of processing that the page shows; the record itself has all."""

Json = dict[str, Any]


def document(audit: Audit, manifests: Manifests | None = None) -> Json:
    """The whole report as JSON values. ``manifests`` are of algorithms known here, by default shipped."""
    case = audit.case
    tasks = case.tasks()
    used = (use.algorithm for task in tasks for use in task.uses)
    return {
        "version": REPORT_VERSION,
        "tool": {"name": "sealtrace", "version": __version__},
        "verdict": {"result": audit.result.name.lower(), "sentence": sentence(audit)},
        "scope": _scope(case),
        "proof": _proof(case),
        "counts": counts(audit),
        "controls": [_control(row) for row in audit.rows],
        "findings": [_finding(each, _sentences(audit)) for each in audit.findings],
        "tasks": [_task(task, case) for task in tasks],
        "disclosures": disclosures(used, known() if manifests is None else manifests),
        "not_checked": list(_not_checked(audit)),
        "annex": _annex(case),
    }


def to_json(report: Json) -> bytes:
    """The report's canonical JSON (RFC 8785) and a newline."""
    return canonical(report) + b"\n"


def to_html(report: Json, language: Language = Language.ENGLISH) -> str:
    """The report as one page that needs nothing else: no script, no network, no font."""
    return page("report.html", language, filters=_FILTERS).render(
        r=report,
        records=[(each, rows(report, each)) for each in organisations(report)],
        columns=[each for each in COLUMNS if each.known and each.name != "discloses"],  # a section has it
        most=_MOST_ROWS,
        highest=int(max(Level)),
    )


def page(template: str, language: Language, **values: Any) -> Template:
    """A template of ours, with what every page may ask for: ``_`` for its own texts, ``said`` and ``prose``
    for sentences of the report."""
    told = words(language)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "_": told.message,
        "said": told.sentence,
        "prose": lambda text: _prose(told.sentence(text)),
        "time": utc,
        "short": short,
        "lines": lambda value: [told.message(each) for each in lines(value)],
        "swimlanes": lambda task: Markup(swimlanes(task, told)),  # noqa: S704 - escaped where it is made
        "charts": lambda report: Markup(charts(report, told)),  # noqa: S704 - as above
    }
    environment.globals |= {"_": told.message, "language": language.tag, **values}
    return environment.get_template(template)


def counts(audit: Audit) -> Json:
    """How many tasks came to which end, and how many findings there are of which severity."""
    states = Counter(task.state_at(audit.case.last.timestamp) for task in audit.case.tasks())
    severities = Counter(each.severity for each in audit.findings)
    return {
        "tasks": sum(states.values()),
        "ran": sum(states[state] for state in (TaskState.COMPLETED, TaskState.DISPUTED)),
        "states": {state.name.lower(): states[state] for state in TaskState if states[state]},
        "findings": len(audit.findings),
        "severities": {each.value: severities[each] for each in Severity if severities[each]},
        "verdicts": {outcome.value: audit.total(outcome) for outcome in Outcome},
    }


def sentence(audit: Audit) -> str:
    """The verdict in one sentence; what could not be determined is counted apart."""
    case, verdicts = audit.case, counts(audit)["verdicts"]
    where = f"in {_many(len(case.tasks()), 'task')} up to block {case.last.number}"
    unsure = _unsure(verdicts["undetermined"])
    if audit.result is Result.FINDINGS:
        found = _many(len(audit.findings), "finding")
        return f"{found} {where}; {verdicts['satisfied']} verdicts are satisfied, and {unsure}."
    if audit.result is Result.CANNOT_TELL:
        critical = sum(r.undetermined for r in audit.rows if r.check.severity is Severity.CRITICAL)
        return (
            f"It cannot be told whether all was allowed {where}: nothing speaks against it, but {critical} "
            f"of the {verdicts['undetermined']} undetermined verdicts belong to critical checks."
        )
    return f"No finding {where}: all {verdicts['satisfied']} verdicts reached are satisfied, and {unsure}."


def short(value: object) -> str:
    """An identifier cut to its first and last digits, for the eye."""
    text = str(value)
    return f"{text[:8]}…{text[-4:]}" if text.startswith("0x") and len(text) > 20 else text


def _unsure(number: int) -> str:
    return "none is undetermined" if not number else f"{number} could not be determined"


def _many(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _scope(case: Case) -> Json:
    return {
        "chain_id": case.chain_id,
        "directory": case.directory,
        "first_block": case.first,
        "last_block": case.last.number,
        "last_hash": case.last.hash,
        "time": case.last.timestamp,
        "events": case.world.events,
        "parameters": {
            "checkpoint_blocks": case.parameters.checkpoint_blocks,
            "rule": case.parameters.rule,
            "object": case.parameters.object,
        },
    }


def _proof(case: Case) -> Json:
    proof = case.proof
    return {
        "level": int(proof.level),
        "meaning": LEVELS[proof.level],
        "why_not_more": proof.reason or "there is no higher level",
        "first_block": proof.first,
        "last_block": proof.last,
        "headers": proof.headers,
        "receipts_rebuilt": proof.receipts_rebuilt,
        "excluded_by_bloom": proof.excluded_by_bloom,
        "seals": _seals(proof.seals),
        "storage": _storage(proof.storage),
        "execution": _execution(proof.execution),
    }


def _seals(seals: Seals) -> Json:
    changes = [{"block": c.block, "added": c.added, "removed": c.removed} for c in seals.changes]
    said = (
        f"{_many(seals.blocks, 'block')} sealed by two thirds of the validators, who changed "
        f"{_many(len(changes), 'time')}."
        if seals.pinned
        else f"Not checked: {seals.missing}."
    )
    return {
        "says": said,
        "schemes": seals.schemes,
        "blocks": seals.blocks,
        "pinned": seals.pinned,
        "last": seals.last,
        "changes": changes,
    }


def _storage(storage: StorageProof) -> Json:
    if storage.why:
        said = f"Not proven: {storage.why}. The endpoint's word was taken."
    elif storage.problems:
        said = "The endpoint's proofs do not hold: see the findings."
    else:
        said = f"{_many(storage.slots, 'slot')} proven against the state root of the last block's header."
    return {"says": said, "slots": storage.slots, "state_root": storage.state_root}


def _execution(execution: Execution) -> Json:
    if execution.problem:
        said = "Executed again, the blocks do not give this chain: see the findings."
    elif execution.done:
        said = (
            f"{_many(execution.blocks, 'block')} with {_many(execution.transactions, 'transaction')} "
            f"executed again from the genesis {execution.genesis_hash}: the same last block."
        )
    else:
        said = f"Not done: {execution.why}."
    return {"says": said, "genesis_hash": execution.genesis_hash}


def _control(row: Row) -> Json:
    check = row.check
    return {
        "rule": check.rule,
        "severity": check.severity.value,
        "sentence": check.sentence,
        "needs": [need.value for need in check.needs],
        "frameworks": frameworks(check.rule),
        "satisfied": row.satisfied,
        "violated": row.violated,
        "undetermined": row.undetermined,
        "missing": [{"what": what, "count": count} for what, count in row.missing],
    }


def _sentences(audit: Audit) -> Mapping[str, str]:
    return {row.check.rule: row.check.sentence for row in audit.rows}


def _finding(finding: Finding, sentences: Mapping[str, str]) -> Json:
    names = ("id", "rule", "object", "task", "node", "block", "transaction", "log_index", "expected")
    more = ("observed", "explanation", "evidence", "recheck")
    told = {name: getattr(finding, name) for name in (*names, *more)}
    return told | {"severity": finding.severity.value, "sentence": sentences[finding.rule]}


def _task(task: TaskHistory, case: Case) -> Json:
    return {
        "id": task.id,
        "requester": task.requester,
        "purpose": task.purpose,
        "spec": task.spec,
        "state": task.state_at(case.last.timestamp).name.lower(),
        "deadline": task.deadline,
        "parties": task.parties,
        "protections": _protections(task.protections),
        "enclave": _enclave(task),
        "uses": [
            {
                "party": use.party,
                "dataset": use.dataset,
                "algorithm": use.algorithm,
                "grant": use.grant,
                "epsilon_millionths": use.epsilon_millionths,
            }
            for use in task.uses
        ],
        "acknowledged": task.acknowledged is not None,
        "progress": [_progress(event) for _, event in sorted(task.progress.items())],
        "events": [_step(step) for step in task.steps],
    }


def _enclave(task: TaskHistory) -> str | None:
    """What stands behind the enclave that a task runs in, if it runs in one."""
    if not task.protections & ENCLAVES:
        return None
    where = task.host or "a party that is not known"
    if Protection.TEE_SIMULATED in task.protections:
        return (
            f"Runs in a simulated enclave at {where}: no hardware stands behind it, and whoever runs that "
            "machine can read every input."
        )
    return f"Runs in an enclave at {where} that hardware is to stand behind."


def _protections(protections: Protection) -> list[Json]:
    """What each protection that a task names promises, in the words of the one table."""
    return [{"name": name.lower(), "promises": words} for name, words in in_words(protections).items()]


def _progress(event: Event) -> Json:
    """The last that a party said of how far it was."""
    return {
        "party": event.args["party"],
        "step": event.args["step"],
        "permille": event.args["permille"],
        "block": event.block.number,
    }


def _step(step: Step) -> Json:
    event = step.event
    who = event.args.get("party", event.args.get("by", event.args.get("requester")))
    return {
        "event": event.name.removeprefix("Task").lower(),
        "who": who if isinstance(who, str) else None,
        "state": step.after.name.lower(),
        "block": event.block.number,
        "time": event.block.timestamp,
        "transaction": event.transaction,
        "log_index": event.log_index,
        "says": _says(event.name, event.args),
    }


def _says(name: str, args: Mapping[str, Any]) -> str:
    if name == "TaskRefused":
        return f"reason: {_named(Denial, args['reason'])}"
    if name == "TaskFailed":
        blamed = f", {args['blamed']}" if args["blame"] == Blame.PARTY else ""
        return f"{_named(Failure, args['reason'])}; blame: {_named(Blame, args['blame'])}{blamed}"
    if name == "TaskFinished":
        return f"receipt {args['receipt']}, result {args['result']}"
    if name == "TaskStarted":
        return f"input {args['inputCommitment']}"
    return f"result {args['result']}" if name in ("TaskCompleted", "TaskAcknowledged") else ""


def _named(codes: type[Denial] | type[Failure] | type[Blame], code: int) -> str:
    try:
        return f"{codes(code).name.lower()} ({code})"
    except ValueError:
        return f"code {code}"


def _not_checked(audit: Audit) -> Iterator[str]:
    case = audit.case
    if case.proof.level < Level.RECEIPTS_COMPLETE:
        yield f"That nothing was left out of the events: {case.proof.reason}."
    if case.proof.level < Level.SEALS_CHECKED:
        yield (
            "Commit seals: that the validators signed these headers; compare the last block's hash with one "
            "obtained another way."
        )
    if case.proof.storage.why or case.proof.storage.problems:
        yield "Contract storage was read from the endpoint, without storage proofs that hold."
    if case.parameters.rule or case.parameters.object:
        yield "Everything but the rule and object this audit was narrowed to."
    for each in case.other_code:
        yield f"That events of a contract with other code say what this version reads in them. {each}."
    for row in audit.rows:
        for what, count in row.missing:
            yield f"{row.check.rule} for {_many(count, 'object')}: {what}."
    for node, log in sorted(case.logs.items()):
        if log.unanchored:
            yield f"{_many(log.unanchored, 'record')} of {node} that no checkpoint on the chain holds yet."
    simulated = sum(Protection.TEE_SIMULATED in task.protections for task in case.tasks())
    if simulated:
        of = _many(simulated, "task")
        yield f"That nobody read the inputs of {of} in simulated enclaves: no hardware stands behind them."
    yield from _ALWAYS_UNCHECKED


def _annex(case: Case) -> Json:
    world, now = case.world, case.last.timestamp
    return {
        "consortium": _consortium(world),
        "proposals": [
            _proposal(each, world.governance.status(each, now).name.lower())
            for _, each in sorted(world.governance.proposals.items())
        ],
        "generations": [_generation(each, world) for each in world.generations],
        "nodes": [_node(line.last) for _, line in sorted(world.nodes.items())],
        "datasets": [_dataset(line.last) for _, line in sorted(world.datasets.items())],
        "algorithms": [_algorithm(line.last) for _, line in sorted(world.algorithms.items())],
        "grants": [
            _grant(line.last, line.last.status(now).name.lower(), world.replaced.get(key))
            for key, line in sorted(world.grants.items())
        ],
        "checkpoints": [
            {
                "node": a.node,
                "size": _exact(a.size),
                "root": a.root,
                "block": a.event.block.number,
                "transaction": a.event.transaction,
            }
            for _, anchors in sorted(world.anchors.items())
            for a in anchors
        ],
        "logs": [_log(log) for _, log in sorted(case.logs.items())],
        "openings": [_opened(each) for each in case.openings],
    }


def _consortium(world: World) -> Json:
    governance = world.governance
    names = {office.id: office.value.lower() for office in Office}
    return {
        "members": sorted(governance.members),
        "quorum_percent": governance.rules.quorum_percent,
        "voting_s": governance.rules.voting_s,
        "execution_s": governance.rules.execution_s,
        "reviews": governance.rules.reviews,
        "offices": [
            {"office": names.get(office, office), "holder": who} for office, who in sorted(governance.offices)
        ],
    }


def _proposal(proposal: ProposalHistory, status: str) -> Json:
    return {
        "id": proposal.id,
        "proposer": proposal.proposer,
        "status": status,
        "yes": proposal.yes,
        "no": proposal.no,
        "proposed_in": proposal.proposed.transaction,
        "executed_in": proposal.executed.transaction if proposal.executed else None,
    }


def _generation(generation: Generation, world: World) -> Json:
    closed = world.closed.get(generation.ledger)
    return {
        "number": generation.number,
        "nodes": generation.nodes,
        "datasets": generation.datasets,
        "algorithms": generation.algorithms,
        "grants": generation.grants,
        "ledger": generation.ledger,
        "evidence": generation.evidence,
        "block": generation.announced.block.number,
        "closed_at": closed.block.number if closed else None,
    }


def _node(node: Node) -> Json:
    roles = [role.name.lower() for role in Role if role in node.roles and role.name]
    return {
        "address": node.address,
        "status": node.status.name.lower(),
        "roles": roles,
        "tls_fingerprint": node.tls_fingerprint,
        "encryption_key": node.encryption_key,
        "key_version": node.version,
    }


def _dataset(dataset: Dataset) -> Json:
    return {
        "id": dataset.id,
        "owner": dataset.owner,
        "status": dataset.status.name.lower(),
        "class": dataset.data_class.name.lower(),
        "commitment": dataset.commitment,
        "schema_hash": dataset.schema_hash,
        "version": dataset.version,
    }


def _algorithm(algorithm: Algorithm) -> Json:
    return {
        "digest": algorithm.digest,
        "provider": algorithm.provider,
        "status": algorithm.status.name.lower(),
        "superseded": algorithm.superseded,
        "reviews_asked": algorithm.asked,
        "reviews_agreed": algorithm.agreed,
    }


def _grant(grant: Grant, status: str, replaced_by: Hex32 | None) -> Json:
    return {
        "id": grant.id,
        "owner": grant.owner,
        "requester": grant.requester,
        "dataset": grant.dataset,
        "algorithm": grant.algorithm,
        "purpose": grant.purpose,
        "status": status,
        "uses": grant.uses,
        "uses_left": grant.uses_left,
        "epsilon_millionths": grant.epsilon_millionths,
        "epsilon_left": grant.epsilon_left,
        "participants": list(grant.participants),
        "replaced_by": replaced_by,
        "not_before": grant.not_before,
        "expires_at": grant.expires_at,
        "protections": [p.name.lower() for p in grant.protections if p.name],
        "approval_required": grant.approval_required,
    }


def _opened(opened: Opened) -> Json:
    """Who opened what to whom. Neither salt nor root: a report is read by others than the one it was told."""
    return {
        "dataset": opened.dataset,
        "opened_by": opened.speaker,
        "opened_to": opened.to,
        "time": opened.at,
        "statement": opened.statement,
    }


def _log(log: NodeLog) -> Json:
    return {
        "node": log.node,
        "records": log.size,
        "relied_on": len(log.records),
        "sizes_that_fit": list(log.fitting),
        "unanchored": log.unanchored,
    }


def _exact(value: int) -> int | str:
    """A number as JSON carries it exactly: a node may anchor any 64 bits as its log's size."""
    return value if value < 2**53 else str(value)


def _prose(text: str) -> Markup:
    """A sentence with its identifiers cut for the eye; the whole of each shows on pointing at it."""
    found = _HEX.sub(
        lambda match: f'<span class="hex" title="{match[0]}">{short(match[0])}</span>', escape(text)
    )
    return Markup(found)  # noqa: S704 - escaped before the spans were put in
