"""``docs/contracts.md`` and ``docs/gas.md``: what the documents say of the contracts, taken from them.

Between ``<!-- drawn: name -->`` and ``<!-- end -->`` in ``docs/contracts.md`` everything is drawn here; what
surrounds it is written by hand. ``python -m sealtrace.contracts.documentation`` writes both pages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sealtrace.contracts import abi
from sealtrace.contracts.errors import ERROR_HELP
from sealtrace.protocol.lifecycle import OPEN_STATES, TRANSITIONS, TaskEvent, TaskState
from sealtrace.protocol.outcome import Denial, Failure

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs"
GAS = HERE / "gas.json"
_INTERFACES = HERE / "src" / "interfaces"
_INHERITED = ("AccessControl", "Role")
_BY: Mapping[TaskEvent, str] = {
    TaskEvent.CREATED: "an active requester, by `create`",
    TaskEvent.APPROVED: "a party, by `approve`",
    TaskEvent.AUTHORIZED: "the last approval, or `create` where all grants stand",
    TaskEvent.STARTED: "a party, by `start`; spends its grants' uses",
    TaskEvent.RUNNING: "the last `start`",
    TaskEvent.FINISHED: "a party, by `finish`",
    TaskEvent.COMPLETED: "the last `finish`, all result digests equal",
    TaskEvent.DISPUTED: "the last `finish`, two result digests differ",
    TaskEvent.REFUSED: "a party, by `refuse`",
    TaskEvent.FAILED: "a party that has not finished, by `fail`",
    TaskEvent.CANCELLED: "the requester, by `cancel`",
    TaskEvent.PROGRESS: "a party, by `progress`; a word, nothing depends on it",
    TaskEvent.ACKNOWLEDGED: "the requester, once, by `acknowledge`",
}


def transitions() -> str:
    """The lifecycle table."""
    rows = [
        f"| {state.name.title()} | `{event.value}` | {_by(state, event)} | {after.name.title()} |"
        for state, steps in TRANSITIONS.items()
        for event, after in steps.items()
    ]
    return "\n".join(["| from | event | by | to |", "|---|---|---|---|", *rows])


def _by(state: TaskState, event: TaskEvent) -> str:
    stopped = event is TaskEvent.CANCELLED and state is TaskState.RUNNING
    return f"{_BY[event]}; a party, by `stop`" if stopped else _BY[event]


def diagram() -> str:
    """The lifecycle as a Mermaid state diagram."""
    lines = ["```mermaid", "stateDiagram-v2"]
    for state, steps in TRANSITIONS.items():
        for event, after in steps.items():
            if after is not state:
                before = "[*]" if state is TaskState.NONE else state.name.title()
                lines.append(f"    {before} --> {after.name.title()}: {event.value}")
    lines += [f"    {state.name.title()} --> Expired: deadline" for state in sorted(OPEN_STATES)]
    over = (s for s in TRANSITIONS if s is not TaskState.NONE and s not in OPEN_STATES)
    return "\n".join([*lines, *(f"    {state.name.title()} --> [*]" for state in over), "```"])


def reasons() -> str:
    """The codes of refusals and failures."""
    rows = [
        f"| {each.value} | `{each.name.lower()}` | {'chain and node' if each.seen_on_chain else 'node'} |"
        for each in Denial
    ]
    failures = ", ".join(f"{failure.value} `{failure.name.lower()}`" for failure in Failure)
    table = ["| code | reason | judged by |", "|---|---|---|", *rows]
    return "\n".join([*table, "", f"Reasons of `fail`: {failures}."])


def reference() -> str:
    """Functions, events and errors of each contract."""
    return "\n".join(line for name in abi.CONTRACTS for line in _contract(name)).rstrip()


def rights() -> str:
    """Who may call what: every function that changes anything, once."""
    rows = [f"| {who} | {', '.join(f'`{each}`' for each in what)} |" for who, what in RIGHTS.items()]
    return "\n".join(["| who | may call |", "|---|---|", *rows])


RIGHTS: Mapping[str, tuple[str, ...]] = {
    "the consortium, by vote of its members": (
        "Consortium.addMember",
        "Consortium.removeMember",
        "Consortium.setRules",
        "Consortium.appoint",
        "Consortium.dismiss",
        "TaskLedger.close",
        "NodeRegistry.serve",
        "Directory.announce",
    ),
    "the consortium by vote; the registrar while there is one member": (
        "NodeRegistry.admit",
        "NodeRegistry.retire",
    ),
    "the registrar, the regulator, the consortium by vote": (
        "NodeRegistry.suspend",
        "NodeRegistry.reinstate",
        "AlgorithmRegistry.suspend",
        "AlgorithmRegistry.reinstate",
    ),
    "a member": ("Consortium.propose", "Consortium.vote"),
    "the holder of an office": ("Consortium.offerOffice", "Consortium.renounceRole"),
    "whom an office was offered": ("Consortium.acceptOffice",),
    "an active node": ("NodeRegistry.rotateKeys",),
    "any node, suspended and retired ones too": ("EvidenceAnchor.anchor",),
    "an active data owner": ("DatasetRegistry.register", "DatasetRegistry.supersede", "GrantRegistry.issue"),
    "the owner of the dataset or grant": (
        "DatasetRegistry.withdraw",
        "GrantRegistry.replace",
        "GrantRegistry.revoke",
        "GrantRegistry.passSerial",
    ),
    "an active algorithm provider": ("AlgorithmRegistry.register", "AlgorithmRegistry.propose"),
    "the provider of the algorithm": ("AlgorithmRegistry.supersede", "AlgorithmRegistry.revoke"),
    "a reviewer its provider named": ("AlgorithmRegistry.review",),
    "the requester of the task": ("TaskLedger.create", "TaskLedger.cancel", "TaskLedger.acknowledge"),
    "an active party of the task": (
        "TaskLedger.approve",
        "TaskLedger.start",
        "TaskLedger.refuse",
        "TaskLedger.progress",
        "TaskLedger.finish",
        "TaskLedger.fail",
    ),
    "any party of the task, suspended and retired ones too": ("TaskLedger.stop",),
    "the task ledger": ("GrantRegistry.consume",),
    "the registries of datasets and of algorithms": ("NodeRegistry.lapse",),
    "the node registry": ("TaskLedger.lapse",),
    "anybody, with what another signed": (
        "GrantRegistry.issueSigned",
        "GrantRegistry.revokeSigned",
        "TaskLedger.approveSigned",
        "TaskLedger.startSigned",
        "TaskLedger.refuseSigned",
        "TaskLedger.finishSigned",
    ),
    "anybody": ("Consortium.execute", "GrantRegistry.multicall", "TaskLedger.multicall"),
    "nobody: no role has an admin": ("Consortium.grantRole", "Consortium.revokeRole"),
}
"""Held complete by a test: a function that is in no row, or in two, fails it."""


def contracts_page() -> str:
    """``docs/contracts.md`` with its drawn parts drawn anew."""
    page = (DOCS / "contracts.md").read_text()
    for name, drawn in _DRAWN.items():
        part = re.compile(rf"(<!-- drawn: {name} -->\n).*?(<!-- end -->)", re.S)
        text = drawn()
        page = part.sub(lambda found, text=text: f"{found[1]}{text}\n{found[2]}", page)  # type: ignore[misc]
    return page


def gas_figures() -> dict[str, dict[str, int]]:
    """The committed snapshot: gas by heading and transaction."""
    found: dict[str, dict[str, int]] = json.loads(GAS.read_text()) if GAS.is_file() else {}
    return found


def write_gas(figures: Mapping[str, Mapping[str, int]]) -> None:
    """Replace the snapshot, and the page drawn from it."""
    GAS.write_text(json.dumps(figures, indent=1) + "\n")
    (DOCS / "gas.md").write_text(gas_page())


def gas_page() -> str:
    """``docs/gas.md`` from the snapshot."""
    return "\n".join(_gas_lines(gas_figures())) + "\n"


def main() -> None:
    """Write both pages."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())


_DRAWN: Mapping[str, Callable[[], str]] = {
    "transitions": transitions,
    "diagram": diagram,
    "reasons": reasons,
    "rights": rights,
    "reference": reference,
}
PAGES: Mapping[str, Callable[[], str]] = {"contracts.md": contracts_page, "gas.md": gas_page}


def _gas_lines(figures: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    yield "# Gas"
    yield ""
    yield "Measured on py-evm (Prague rules; compiler settings in `contracts/solc.json`) by"
    yield "`tests/contract/test_gas.py`, which fails when a figure grows. Each transaction is alone in its"
    yield "block. On a network without fees gas is a measure of work only: a block of 30 million gas takes"
    yield f"about {30_000_000 // max(_life(figures, 'life of 3'), 1)} whole tasks of three parties."
    yield from _lives(figures)
    yield from _life_table(figures)
    for heading, title in (
        ("ways out", "Other acts on a task of three parties"),
        ("once", "Members, datasets, algorithms, grants"),
        ("officers", "Supervision"),
        ("votes", "Decisions of three members"),
        ("evidence", "Evidence"),
        ("deployment", "Deployment"),
    ):
        yield from _gas_table(title, figures.get(heading, {}))


def _life(figures: Mapping[str, Mapping[str, int]], heading: str) -> int:
    return sum(figures.get(heading, {}).values())


def _lives(figures: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    yield from ("", "## Whole lives of tasks", "")
    yield "Create, every party's start, every party's receipt. Every start checks and spends one use of a"
    yield "grant; approvals are not in it, the grants stand. *Relayed*: the parties sign their starts and"
    yield "receipts, and one relayer submits them; *by the requester*: it collects the starts first, and"
    yield "creates and starts the task in one transaction (`multicall`). Nothing lapsed since the grants were"
    yield "issued; what a start costs after a suspension, a withdrawal or a revocation is in the table of"
    yield "other acts."
    yield from (
        "",
        "| parties | transactions | gas | relayed | gas | by the requester | gas |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    )
    for parties in (2, 3, 8):
        lives = [figures.get(f"{kind}life of {parties}", {}) for kind in ("", "relayed ", "requester's ")]
        counts = " | ".join(f"{len(life)} | **{sum(life.values()):,}**" for life in lives)
        yield f"| {parties} | {counts} |"


def _life_table(figures: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    first, second = figures.get("life of 3", {}), figures.get("life of 3, 2 uses each", {})
    yield from ("", "## The life of a task of three parties", "")
    yield from ("| transaction | 1 use for each party | 2 uses for each party |", "|---|---:|---:|")
    for name, cost in first.items():
        yield f"| {name} | {cost:,} | {second.get(name, 0):,} |"
    yield f"| **all {len(first)}** | **{sum(first.values()):,}** | **{sum(second.values()):,}** |"
    for who in ("relayed", "requester's"):
        for name, cost in figures.get(f"{who} life of 3", {}).items():
            yield f"| {who}: {name} | {cost:,} | |"


def _gas_table(title: str, lines: Mapping[str, int]) -> Iterator[str]:
    yield from ("", f"## {title}", "", "| transaction | gas |", "|---|---:|")
    yield from (f"| {name} | {cost:,} |" for name, cost in lines.items())


def _contract(name: str) -> Iterator[str]:
    entries = sorted(abi.artifact(name).abi, key=lambda entry: str(entry.get("name", "")))
    notices = _notices(name)
    yield from (f"### {name}", "", "| function | |", "|---|---|")
    for entry in entries:
        if entry["type"] == "function":
            yield f"| `{_signature(entry)}` | {notices.get(entry['name'], _plain(entry))} |"
    told = [entry for entry in entries if entry["type"] == "event"]
    if told:
        yield from ("", "| event | in topics |", "|---|---|")
        for entry in told:
            topics = ", ".join(f"`{each['name']}`" for each in entry["inputs"] if each["indexed"])
            yield f"| `{_signature(entry)}` | {topics} |"
    yield from ("", "| error | what to do |", "|---|---|")
    for entry in entries:
        if entry["type"] == "error":
            yield f"| `{_signature(entry)}` | {ERROR_HELP[entry['name']]} |"
    yield ""


def _plain(entry: Mapping[str, Any]) -> str:
    """What to say of a function that our interfaces do not describe."""
    if entry["stateMutability"] == "view" and not entry["inputs"]:
        return "Read only."
    return "OpenZeppelin."


def _notices(name: str) -> dict[str, str]:
    """The first sentence or two of each function's ``@notice``, from the interface that is its manual."""
    source = _INTERFACES / f"I{name}.sol" if name != "Directory" else HERE / "src" / "Directory.sol"
    found: dict[str, str] = {}
    pattern = re.compile(r"((?:^ *///.*\n)+) *function (\w+)", re.M)
    for comment, function in pattern.findall(source.read_text()):
        words = " ".join(line.strip().removeprefix("///").strip() for line in comment.splitlines())
        notice = re.split(r"@(?:dev|param|return)\b", words.removeprefix("@notice"))[0]
        warning = re.search(r"(Warning: .*?)(?:@|$)", words)
        found[function] = " ".join([notice.strip(), warning[1].strip() if warning else ""]).strip()
    return found


def _signature(entry: Mapping[str, Any]) -> str:
    given = ", ".join(f"{_kind(each)} {each['name']}".strip() for each in entry["inputs"])
    return f"{entry['name']}({given})"


def _kind(parameter: Mapping[str, Any]) -> str:
    return (
        str(parameter["internalType"]).removeprefix("enum ").removeprefix("struct ").removeprefix("contract ")
    )


if __name__ == "__main__":
    main()
