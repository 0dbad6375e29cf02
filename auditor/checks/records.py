"""Whether what nodes did on the chain and what they recorded of it agree, each way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from sealtrace.auditor.case import ACTS, Act, Case
from sealtrace.auditor.checks.registry import Need, check
from sealtrace.auditor.events import Event, Position
from sealtrace.auditor.evidence import NodeLog
from sealtrace.auditor.findings import Severity, Verdict, satisfied, undetermined, violated
from sealtrace.auditor.reasons import reasons_against
from sealtrace.auditor.world import TaskHistory
from sealtrace.protocol.canonical import digest
from sealtrace.protocol.evidence import Kind, Record
from sealtrace.protocol.identifiers import Address, Hex32
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.receipt import Receipt

_EVENTS = {kind.value: name for name, kind in ACTS.items()}
_MUST_BE_ON_CHAIN = frozenset({Kind.TASK_STARTED.value, Kind.TASK_FINISHED.value})


@check("EV-A01", Severity.CRITICAL, Need.EVENTS, Need.LOGS)
def acts_are_recorded(case: Case) -> Iterator[Verdict]:
    """Every act of a node on the chain (approval, start, finish, refusal, failure, stop) has its record in
    the node's own log.
    """
    for act in case.acts():
        log = case.logs.get(act.party)
        if log is None:
            yield undetermined(act.name, case.why_no_log(act.party))
        else:
            yield _recorded(log, act)


@check("EV-A02", Severity.CRITICAL, Need.EVENTS, Need.LOGS)
def records_are_acts(case: Case) -> Iterator[Verdict]:
    """Every record of an act on the chain names an act that is there."""
    for log, record in _records(case):
        name = _EVENTS.get(record.kind)
        claims = record.body.get("transaction") is not None or record.kind in _MUST_BE_ON_CHAIN
        if name is not None and claims and record.task is not None:
            yield _borne_out(case, log, record, name)


@check("EV-A03", Severity.CRITICAL, Need.EVENTS, Need.LOGS)
def nothing_ran_unstarted(case: Case) -> Iterator[Verdict]:
    """Whatever a node recorded as run, the node had started on the chain, and so had all other parties."""
    for log, record in _records(case):
        if record.kind != Kind.TASK_RAN or record.task is None:
            continue
        task = case.world.tasks.get(record.task)
        if (
            task is not None
            and log.node in task.starts
            and TaskState.RUNNING in {s.after for s in task.steps}
        ):
            yield satisfied(_at(log, record))
        elif _is_late(case, log, record):
            yield undetermined(_at(log, record), "the record is newer than the last checkpoint in the range")
        else:
            yield _against(
                log,
                record,
                expected="a start by every party on the chain",
                observed="a run without it",
                explanation=f"Node {log.node} ran what the chain had not set running.",
            )


@check("EV-R01", Severity.CRITICAL, Need.EVENTS, Need.LOGS)
def receipts_hash_to_the_chain(case: Case) -> Iterator[Verdict]:
    """The text of every receipt hashes to the digest on the chain, and names the same task, party, input
    and result.
    """
    for act, found in _with_receipts(case):
        if isinstance(found, str):
            yield undetermined(act.name, found)
            continue
        observed = _receipt_facts(found)
        expected = _finish_facts(act)
        yield _compared(
            act, expected, observed, "The receipt is not the one that the party put on the chain."
        )


@check("EV-R02", Severity.HIGH, Need.EVENTS, Need.LOGS)
def commitments_are_recorded(case: Case) -> Iterator[Verdict]:
    """The input commitment a node recorded at its start is the one it put on the chain."""
    for act in case.acts():
        if act.event.name != "TaskStarted":
            continue
        record, missing = _record_of(case, act)
        said = record.body.get("input_commitment") if record else None
        if said is None:
            yield undetermined(act.name, missing or "the record holds no input commitment")
            continue
        expected = {"input commitment": act.event.hex("inputCommitment")}
        yield _compared(
            act, expected, {"input commitment": said}, "The node bound one input and recorded another."
        )


@check("EV-R03", Severity.HIGH, Need.EVENTS, Need.LOGS)
def authority_allowed_it(case: Case) -> Iterator[Verdict]:
    """Every receipt cites as its authority a block, not after the start, at which the chain let the party
    run.
    """
    for act, found in _with_receipts(case):
        start = act.task.starts.get(act.party)
        if isinstance(found, str) or start is None:
            yield undetermined(act.name, found if isinstance(found, str) else "no start by the party")
            continue
        yield _authority(case, act, found, start.event)


@check("EV-R04", Severity.HIGH, Need.LOGS)
def transcripts_are_the_receipts(case: Case) -> Iterator[Verdict]:
    """The transcript that a node recorded hashes to the one its receipt names."""
    for act, found in _with_receipts(case):
        log = case.logs.get(act.party)
        ran = log.of(act.task.id, Kind.TASK_RAN) if log else []
        transcript = ran[-1].body.get("transcript") if ran else None
        if isinstance(found, str) or transcript is None:
            missing = found if isinstance(found, str) else f"node {act.party} recorded no transcript"
            yield undetermined(act.name, missing)
            continue
        expected = {"transcript": found.transcript}
        yield _compared(
            act, expected, {"transcript": digest(transcript)}, "The transcript was changed afterwards."
        )


@check("EV-J01", Severity.HIGH, Need.EVENTS, Need.LOGS)
def judgements_follow_the_rule(case: Case) -> Iterator[Verdict]:
    """Every judgement a node recorded is what the shared rule gives for the facts at the block it cites."""
    for log, record in _records(case):
        if record.kind == Kind.TASK_JUDGED and record.task is not None:
            yield _judgement(case, log, record, record.task)


@check("EV-D01", Severity.HIGH, Need.EVENTS, Need.LOGS)
def destruction_is_recorded(case: Case) -> Iterator[Verdict]:
    """Every party that started a task recorded, after the task's end for it, that the job's files were
    wiped.
    """
    for task in case.tasks():
        for party, start in sorted(task.starts.items()):
            if task.end is not None or task.state_at(case.last.timestamp) is TaskState.EXPIRED:
                yield _wiped(case, task, party, start.event)


@check("EV-K01", Severity.HIGH, Need.EVENTS, Need.LOGS)
def parts_come_from_their_tasks(case: Case) -> Iterator[Verdict]:
    """Every dataset that a node recorded as its part of a kept value is on the chain, and is of a task that
    names the node as a party and was completed before the dataset was registered.
    """
    for log, record in _records(case):
        kept = record.body.get("kept_from")
        if record.kind != Kind.DATASET_ADDED or kept is None:
            continue
        why = _why_no_part(case, log, record, kept.get("task") if isinstance(kept, dict) else None)
        if why is None:
            yield satisfied(_at(log, record))
        elif _is_late(case, log, record):
            yield undetermined(_at(log, record), "the record is newer than the last checkpoint in the range")
        else:
            yield _against(
                log,
                record,
                expected="a part of a value that a completed task of the node kept",
                observed=why,
                explanation=f"Node {log.node} registered as a kept part what no task of its own left it.",
            )


def _why_no_part(case: Case, log: NodeLog, record: Record, named: object) -> str | None:
    """What keeps a recorded part from being one of the task ``named``, or ``None``."""
    dataset = record.body.get("dataset")
    task = case.world.tasks.get(Hex32(named)) if isinstance(named, str) else None
    owned = [
        event
        for key, event in case.world.registered.items()
        if key.id == dataset and case.world.datasets[key].last.owner == log.node
    ]
    if task is None:
        return f"task {named}, which the chain does not know"
    if log.node not in task.parties:
        return f"task {task.id}, of which it was no party"
    if task.state is not TaskState.COMPLETED or task.end is None:
        return f"task {task.id}, which was not completed"
    if not owned:
        return f"dataset {dataset}, which it did not register"
    if min(each.position for each in owned) < task.end.position:
        return f"a dataset registered before task {task.id} was completed"
    return None


def _at(log: NodeLog, record: Record) -> str:
    return f"{log.node}, record {record.index}"


def _records(case: Case) -> Iterator[tuple[NodeLog, Record]]:
    for node in sorted(case.logs):
        for record in case.logs[node].records:
            yield case.logs[node], record


def _is_late(case: Case, log: NodeLog, record: Record) -> bool:
    """Whether the log may simply be newer than the last block looked at."""
    return record.index >= max((each.size for each in case.world.anchors_of(log.node)), default=0)


def _record_of(case: Case, act: Act) -> tuple[Record | None, str | None]:
    """The record of an act, or why there is none to look at."""
    log = case.logs.get(act.party)
    if log is None:
        return None, case.why_no_log(act.party)
    found = log.of(act.task.id, act.kind)
    if found:
        return found[-1], None
    return None, f"node {act.party} has no {act.kind} record" if log.whole else log.why_silent()


def _recorded(log: NodeLog, act: Act) -> Verdict:
    found = log.of(act.task.id, act.kind)
    named = [record.body.get("transaction") for record in found]
    if any(each in (None, act.event.transaction) for each in named):
        return satisfied(act.name)
    if not found and not log.whole:
        return undetermined(act.name, log.why_silent())
    return violated(
        act.name,
        expected=f"a {act.kind} record naming {act.event.transaction}",
        observed=f"one naming {named[-1]}" if named else "none",
        explanation=f"Node {act.party} did on the chain what its own log does not show.",
        event=act.event,
        task=act.task.id,
        node=act.party,
    )


def _borne_out(case: Case, log: NodeLog, record: Record, name: str) -> Verdict:
    named = record.body.get("transaction")
    acts = [e for e in _events_of(case, log.node, record.task, name) if named in (None, e.transaction)]
    if acts:
        return satisfied(_at(log, record))
    if _is_late(case, log, record):
        return undetermined(_at(log, record), "the record is newer than the last checkpoint in the range")
    return _against(
        log,
        record,
        expected=f"{name} by {log.node}" + (f" in {named}" if named else ""),
        observed="no such act on the chain",
        explanation=f"Node {log.node} recorded an act that the chain does not know.",
    )


def _events_of(case: Case, node: Address, task: Hex32 | None, name: str) -> list[Event]:
    history = case.world.tasks.get(task) if task else None
    steps = history.steps if history else []
    actor = "by" if name == "TaskCancelled" else "party"
    return [s.event for s in steps if s.event.name == name and s.event.args.get(actor) == node]


def _against(log: NodeLog, record: Record, *, expected: str, observed: str, explanation: str) -> Verdict:
    return violated(
        _at(log, record),
        expected=expected,
        observed=observed,
        explanation=explanation,
        task=record.task,
        node=log.node,
        evidence=digest(record.model_dump(mode="json")),
    )


def _with_receipts(case: Case) -> Iterator[tuple[Act, Receipt | str]]:
    """Every finish with its receipt's text, or with what is missing."""
    for act in case.acts():
        if act.event.name == "TaskFinished":
            record, missing = _record_of(case, act)
            yield act, _receipt(record) if record else str(missing)


def _receipt(record: Record) -> Receipt | str:
    text = record.body.get("receipt")
    if text is None:
        return f"record {record.index} of {record.node} holds no receipt"
    try:
        return Receipt.model_validate(text)
    except ValidationError as problem:
        return (
            f"the receipt in record {record.index} of {record.node} is none: {problem.error_count()} errors"
        )


def _receipt_facts(receipt: Receipt) -> dict[str, Any]:
    return {
        "receipt digest": receipt.digest(),
        "task": receipt.task,
        "party": receipt.party,
        "input commitment": receipt.input_commitment,
        "result": receipt.result,
    }


def _finish_facts(act: Act) -> dict[str, Any]:
    start = act.task.starts.get(act.party)
    return {
        "receipt digest": act.event.hex("receipt"),
        "task": act.task.id,
        "party": act.party,
        "input commitment": start.event.hex("inputCommitment") if start else None,
        "result": act.event.hex("result"),
    }


def _compared(act: Act, expected: dict[str, Any], observed: dict[str, Any], explanation: str) -> Verdict:
    different = [key for key in expected if expected[key] != observed[key]]
    if not different:
        return satisfied(act.name)
    return violated(
        act.name,
        expected="; ".join(f"{key} {expected[key]}" for key in different),
        observed="; ".join(f"{key} {observed[key]}" for key in different),
        explanation=explanation,
        event=act.event,
        task=act.task.id,
        node=act.party,
    )


def _authority(case: Case, act: Act, receipt: Receipt, start: Event) -> Verdict:
    block, terms = case.cited.get(receipt.authority_number), act.task.terms()
    if block is None or terms is None:
        return undetermined(act.name, f"block {receipt.authority_number}, which the receipt cites")
    expected = {"block": block.hash, "reasons against": "none", "not after": True}
    facts = case.world.facts(act.task, terms, Position.end_of(block.number))
    against = reasons_against(terms, act.party, facts, block.timestamp)
    observed = {
        "block": receipt.authority_hash,
        "reasons against": ", ".join(sorted({d.name.lower() for d, _ in against})) or "none",
        "not after": block.number <= start.block.number,
    }
    return _compared(act, expected, observed, "The block the receipt rests on did not let the party run.")


def _judgement(case: Case, log: NodeLog, record: Record, key: Hex32) -> Verdict:
    number, said = record.body.get("block_number"), record.body.get("denial")
    task, block = case.world.tasks.get(key), case.cited.get(number) if type(number) is int else None
    terms = task.terms() if task else None
    if task is None or terms is None or block is None or not (said is None or type(said) is int):
        return undetermined(_at(log, record), f"the task and block {number}, which the record cites")
    if said is not None and said >= 32:
        return satisfied(_at(log, record))  # a reason that only the node can see
    facts = case.world.facts(task, terms, Position.end_of(block.number))
    against = reasons_against(terms, log.node, facts, block.timestamp)
    codes = {int(reason) for reason, _ in against}
    if (said is None and not codes) or said in codes:
        return satisfied(_at(log, record))
    return _against(
        log,
        record,
        expected=", ".join(sorted({d.name.lower() for d, _ in against})) or "no reason to refuse",
        observed="no reason to refuse" if said is None else f"reason {said}",
        explanation=f"Node {log.node} judged otherwise than the rule does at block {block.number}.",
    )


def _wiped(case: Case, task: TaskHistory, party: Address, start: Event) -> Verdict:
    thing, log = f"{task.id}/{party}", case.logs.get(party)
    if log is None:
        return undetermined(thing, case.why_no_log(party))
    last = max((r.index for kind in _BEFORE_WIPE for r in log.of(task.id, kind)), default=-1)
    if any(record.index > last for record in log.of(task.id, Kind.TASK_WIPED)):
        return satisfied(thing)
    if not log.whole:
        return undetermined(thing, log.why_silent())
    due = (task.end or start).block.number + case.parameters.checkpoint_blocks
    if case.last.number <= due:
        return undetermined(thing, f"no record of it yet, and it is not due before block {due}")
    return violated(
        thing,
        expected=f"a {Kind.TASK_WIPED} record after the run",
        observed="none",
        explanation=f"Node {party} did not record that it destroyed the job's files.",
        event=task.end or start,
        task=task.id,
        node=party,
    )


_BEFORE_WIPE = (Kind.TASK_STARTED, Kind.TASK_RAN)
