"""Whether the parties of a task tell the same story of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sealtrace.auditor.case import Case
from sealtrace.auditor.checks.registry import Need, check
from sealtrace.auditor.findings import Severity, Verdict, satisfied, undetermined, violated
from sealtrace.auditor.world import TaskHistory
from sealtrace.protocol.evidence import Kind
from sealtrace.protocol.identifiers import Address
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.security import in_words, of_step
from sealtrace.protocol.spec import PROTECTIONS

_ALIKE = ("algorithm", "protocol", "engine", "security", "program", "common", "field", "fraction_bits")
_COUNTED = ("messages", "bytes", "digest")


@check("EV-X01", Severity.HIGH, Need.LOGS)
def same_program_everywhere(case: Case) -> Iterator[Verdict]:
    """All parties of a completed task ran the same steps: the same algorithm, protocol and compiled program,
    over the same number of common rows, as far as each was told it.
    """
    for task in _completed(case):
        told = _told({party: _steps(body) for party, body in _ran(case, task).items()})
        missing = sorted(set(task.parties) - {p for p, steps in told.items() if steps})
        different = _first_difference({p: steps for p, steps in told.items() if steps})
        if different is not None:
            yield _disagree(task, *different, "The parties did not run the same program.")
        elif missing:
            yield undetermined(task.id, f"no transcript of {', '.join(missing)}")
        else:
            yield satisfied(task.id)


@check("EV-X02", Severity.HIGH, Need.LOGS)
def traffic_agrees(case: Case) -> Iterator[Verdict]:
    """In a completed task, what a party counted as sent to a peer is what the peer counted as received from
    it: messages, bytes and digest. Nobody counted traffic that the other has no record of, or with a
    stranger to the task.
    """
    for task in _completed(case):
        flows = {party: _flows(body) for party, body in _ran(case, task).items()}
        for sender in task.parties:
            yield from _strangers(task, sender, flows.get(sender, {}))
            for receiver in task.parties:
                if sender != receiver:
                    yield _flow(task, sender, receiver, flows)


@check("EV-X03", Severity.HIGH, Need.LOGS)
def protected_as_the_task_names(case: Case) -> Iterator[Verdict]:
    """Every step that a party of a completed task recorded ran under a protocol whose protection the task
    names on the chain, and where the record says in words what that protects against, in its words.
    """
    for task in _completed(case):
        told = _ran(case, task)
        for party in task.parties:
            thing = f"{task.id}/{party}"
            if not (steps := _steps(told.get(party, {}))):
                yield undetermined(thing, f"no transcript of {party}")
                continue
            wrong = [why for step, said in sorted(steps.items()) if (why := _unprotected(task, step, said))]
            if wrong:
                named = ", ".join(in_words(task.protections))
                yield _disagree(
                    task, f"protections {named}", wrong[0], "It ran under other protection.", thing
                )
            else:
                yield satisfied(thing)


def _unprotected(task: TaskHistory, step: str, said: Mapping[str, Any]) -> str | None:
    """What is wrong with the protection that a step's record names, or ``None``."""
    key = (str(said.get("engine")), str(said.get("protocol")))
    if key not in PROTECTIONS or PROTECTIONS[key] not in task.protections:
        return f"step {step} ran under {' '.join(key)}"
    words = of_step(*key).words
    if said.get("security", words) != words:
        return f"step {step} says of {key[1]}: {said['security']}"
    return None


def _completed(case: Case) -> Iterator[TaskHistory]:
    yield from (task for task in case.tasks() if task.state is TaskState.COMPLETED)


def _ran(case: Case, task: TaskHistory) -> dict[Address, dict[str, Any]]:
    """The body of each party's last record of the run, where its log has one."""
    logs = {party: case.logs[party] for party in task.parties if party in case.logs}
    found = {party: log.of(task.id, Kind.TASK_RAN) for party, log in logs.items()}
    return {party: records[-1].body for party, records in found.items() if records}


def _steps(body: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What each step must have in common at all parties, by the step's name."""
    transcript = body.get("transcript")
    steps = transcript.get("steps") if isinstance(transcript, dict) else None
    told = [each for each in steps if isinstance(each, dict)] if isinstance(steps, list) else []
    return {str(each.get("step")): {key: each[key] for key in _ALIKE if key in each} for each in told}


Story = dict[str, dict[str, Any]]


def _told(stories: dict[Address, Story]) -> dict[Address, Story]:
    """The stories, where a party that an alignment did not tell the number of common rows (``null``) is taken
    to say nothing against those it told."""
    known = {
        name: step["common"]
        for story in stories.values()
        for name, step in story.items()
        if step.get("common") is not None
    }
    return {
        party: {
            name: step | {"common": known.get(name)} if "common" in step and step["common"] is None else step
            for name, step in story.items()
        }
        for party, story in stories.items()
    }


def _first_difference(told: Mapping[Address, Story]) -> tuple[str, str] | None:
    """The first two parties that differ, as (what one says, what the other says)."""
    parties = sorted(told)
    for other in parties[1:]:
        if told[other] != told[parties[0]]:
            mine, theirs = _apart(told[parties[0]], told[other])
            return f"{parties[0]}: {mine}", f"{other}: {theirs}"
    return None


def _apart(one: Story, other: Story) -> tuple[str, str]:
    for step in sorted({*one, *other}):
        here, there = one.get(step, {}), other.get(step, {})
        for key in sorted({*here, *there}):
            if here.get(key) != there.get(key):
                return f"{step}.{key} {here.get(key)}", f"{step}.{key} {there.get(key)}"
    return "different steps", "different steps"


def _flows(body: Mapping[str, Any]) -> dict[Address, Mapping[str, Any]]:
    """The counters of a party's gateway by peer, wherever in the record the node put them."""
    transcript = body.get("transcript")
    inside = transcript if isinstance(transcript, dict) else {}
    for place in (body.get("traffic"), inside.get("traffic"), body, inside):
        peers = place.get("peers") if isinstance(place, dict) else place
        if isinstance(peers, list) and all(isinstance(each, dict) for each in peers):
            return {each["address"]: each for each in peers if isinstance(each.get("address"), str)}
    return {}


def _strangers(
    task: TaskHistory, party: Address, peers: Mapping[Address, Mapping[str, Any]]
) -> Iterator[Verdict]:
    """Traffic that ``party`` counted with somebody whom the task does not name."""
    for stranger in sorted(set(peers) - set(task.parties)):
        thing = f"{task.id}/{party} and {stranger}"
        said = f"{party} counted traffic with {stranger}"
        yield _disagree(task, "traffic among the task's parties", said, "A stranger took part.", thing)


def _flow(
    task: TaskHistory,
    sender: Address,
    receiver: Address,
    flows: Mapping[Address, Mapping[Address, Mapping[str, Any]]],
) -> Verdict:
    thing = f"{task.id}/{sender} to {receiver}"
    silent = [party for party in (sender, receiver) if party not in flows]
    if silent:
        return undetermined(thing, f"no record of the run by {silent[0]}")
    sent, received = flows[sender].get(receiver, {}), flows[receiver].get(sender, {})
    pairs = [(key, sent.get(f"sent_{key}"), received.get(f"received_{key}")) for key in _COUNTED]
    different = [pair for pair in pairs if pair[1] != pair[2]]
    if different:
        return _disagree(
            task,
            f"{sender} sent {_in_words((key, value) for key, value, _ in different)}",
            f"{receiver} received {_in_words((key, value) for key, _, value in different)}",
            "Traffic between two parties is not what both recorded.",
            thing,
        )
    counted = any(value is not None for _, value, _ in pairs)
    return satisfied(thing) if counted else undetermined(thing, "neither counters nor digests")


def _in_words(counters: Iterable[tuple[str, Any]]) -> str:
    return "; ".join(f"{key} {'not recorded' if value is None else value}" for key, value in counters)


def _disagree(
    task: TaskHistory, expected: str, observed: str, explanation: str, thing: str | None = None
) -> Verdict:
    return violated(
        thing or task.id,
        expected=expected,
        observed=observed,
        explanation=explanation,
        event=task.end,
        task=task.id,
    )
