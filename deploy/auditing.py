"""The end of the story: the regulator audits, and one flipped byte in one log is found."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from sealtrace.auditor.audit import Audit
from sealtrace.auditor.inquiry import Inquiry, Source, examine
from sealtrace.deploy.members import REGULATOR
from sealtrace.deploy.plan import Plan

if TYPE_CHECKING:
    from sealtrace.deploy.stage import Story

AUDIT_SECONDS = 120.0
ANCHOR_SECONDS = 60.0


class AuditWentWrong(RuntimeError):
    """The audit did not say what it must; the message has what it said."""


def audit(story: Story) -> None:
    """Audit the network as it is, then again with one byte of one log flipped.

    Raises:
        AuditWentWrong: the first audit has findings, or the second has not exactly the one.
    """
    _wait_for_anchors(story)
    report = _by_service(story)
    counts, states = report["counts"], report["counts"]["states"]
    line = f"{counts['tasks']} tasks: {counts['ran']} ran, {states.get('refused', 0)} refused, "
    story.tell(
        "audit",
        line + f"{counts['findings']} findings; proof level {report['proof']['level']}",
        counts=counts,
    )
    if report["findings"]:
        raise AuditWentWrong(f"an honest history has findings: {report['findings']}")
    _flip(story)


def _by_service(story: Story) -> dict[str, Any]:
    """Ask the auditor's service, as a regulator would, and keep both reports."""
    plan, out = story.network.plan, story.network.directory / "report"
    out.mkdir(exist_ok=True)
    headers = {"authorization": f"Bearer {plan.tokens[REGULATOR]}"}
    with httpx.Client(base_url=plan.auditor_url, headers=headers, timeout=60, trust_env=False) as client:
        identity = client.post("/v1/audits", json={}).raise_for_status().json()["id"]
        state: dict[str, Any] = {}

        def over() -> bool:
            state.update(client.get(f"/v1/audits/{identity}").raise_for_status().json())
            return state["state"] in ("done", "broken", "interrupted")

        _wait(over, AUDIT_SECONDS, "the audit is not done")
        if state["state"] != "done":
            raise AuditWentWrong(f"the audit could not be carried out: {state.get('detail')}")
        for name in ("report.html", "report.json"):
            content = client.get(f"/v1/audits/{identity}/{name}").raise_for_status().content
            (out / name).write_bytes(content)
            story.tell("audit", f"wrote {out / name}", path=str(out / name))
    return dict(httpx.Response(200, content=(out / "report.json").read_bytes()).json())


def _flip(story: Story) -> None:
    """Flip one byte in a copy of one node's log: the audit must find exactly that."""
    folder = story.network.directory / "flipped"
    folder.mkdir(exist_ok=True)
    logs = {name: each.evidence(folder / f"{name}.jsonl") for name, each in story.operators.items()}
    record = _flip_byte(logs["registry"])
    story.tell(
        "audit", f"one byte of record {record} is flipped in a copy of the registry's log", record=record
    )
    done = _examine(story.network.plan, logs, story)
    if len(done.findings) != 1:
        raise AuditWentWrong(f"one finding was expected, not {[f.explanation for f in done.findings]}")
    finding = done.findings[0]
    if finding.node != story.network.plan.addresses["registry"]:
        raise AuditWentWrong(f"the finding does not name the registry: {finding.explanation}")
    story.tell("audit", f"1 finding: {finding.rule} {finding.explanation}", rule=finding.rule)


def _flip_byte(log: Path) -> int:
    """Change one letter in the middle record's body, and return the record's number."""
    lines = log.read_bytes().splitlines(keepends=True)
    number = len(lines) // 2
    line = bytearray(lines[number])
    line[line.index(b'"body"') + 20] ^= 1
    lines[number] = bytes(line)
    log.write_bytes(b"".join(lines))
    return number


def _examine(plan: Plan, logs: dict[str, Path], story: Story) -> Audit:
    sources = tuple(Source(plan.addresses[name], str(path)) for name, path in logs.items())
    return examine(Inquiry(story.network.chain_settings(), sources=sources))


def _wait_for_anchors(story: Story) -> None:
    """Every node anchors its log after its last act; the audit waits for that."""
    chain = story.network.chain()

    def anchored(name: str) -> bool:
        checkpoint = chain.checkpoint(story.network.plan.addresses[name], at=chain.head())
        records = story.operators[name].task(story.asked[-1])["evidence"]
        return checkpoint is not None and checkpoint.size > max(each["index"] for each in records)

    for name in story.operators:
        _wait(partial(anchored, name), ANCHOR_SECONDS, f"the {name} has not anchored its log")


def _wait(done: Callable[[], bool], seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise AuditWentWrong(f"{otherwise} after {seconds:.0f} s")
        time.sleep(0.5)
