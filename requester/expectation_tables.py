"""What to expect of a task, as JSON and as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from sealtrace.algorithms.estimating import Cost, Line
from sealtrace.protocol.identifiers import Address
from sealtrace.requester.expectations import ROWS, Expected, StepExpected

Names = Mapping[Address, str]


def expected_json(found: Expected, names: Names) -> dict[str, Any]:
    """All of it. Bytes are those between gateways, seconds those of the line under ``assumed``."""
    line = found.assumed.line
    return {
        "assumed": {
            "rows": dict(found.rows),
            "rows_given": sorted(found.assumed.rows),
            "common": found.common,
            "rtt_ms": line.rtt_ms,
            "mbit": line.mbit,
        },
        "steps": [_step_json(each, names, line) for each in found.steps],
        "meeting": _cost_json(found.meeting, line),
        "total_bytes": found.total,
        "seconds": round(found.seconds, 2),
        "unknown": list(found.unknown),
    }


def expected_table(found: Expected, names: Names) -> Table:
    """The steps, and a last row for the task as far as it is known."""
    table = Table("step", "parties and what each sends", title="what to expect", show_lines=True)
    for name in ("in total", "turns", "time"):
        table.add_column(name, justify="right")
    for each in found.steps:
        table.add_row(*_cells(each, names, found.assumed.line))
    whole = "known steps" if found.unknown else "task"
    table.add_row(
        whole, "and the engines' meeting", amount(found.total), f"{found.turns:,}", duration(found.seconds)
    )
    return table


def expected_lines(found: Expected) -> list[str]:
    """What the table rests on, line by line."""
    line, given = found.assumed.line, found.assumed.rows
    rows = [f"{name} {count:,}" for name, count in found.rows.items() if name in given]
    if set(found.rows) - set(given):
        rows.append(f"{ROWS:,} assumed for each {'other ' if rows else ''}input (say --rows INPUT=N)")
    said = "" if found.assumed.common is not None else ", those of the smallest input (say --common N)"
    aligned = f"; {found.common:,} remain after an alignment{said}"
    within = any(each.step.engine == "tee" for each in found.steps)
    lines = [f"rows: {', '.join(rows)}{'' if within else aligned}"]
    lines += [f"{each.step.id}: {each.cost.basis}" for each in found.steps if each.cost]
    lines += [
        f"{each.step.id}: {'' if each.sent else 'unknown: '}{each.why}" for each in found.steps if each.why
    ]
    lines.append(
        f"an estimate, no promise: {line.mbit:g} Mbit/s a party, a round trip of {line.rtt_ms:g} ms, "
        "parties as fast as this machine"
    )
    return lines


def amount(octets: float) -> str:
    """Bytes in the unit that leaves one to three digits before the point."""
    for unit in ("B", "kB", "MB"):
        if octets < 1000:
            return f"{octets:.0f} B" if unit == "B" else f"{octets:.3g} {unit}"
        octets /= 1000
    return f"{octets:,.1f} GB"


def duration(seconds: float) -> str:
    """Seconds with one figure after the point where that says something, else minutes, else hours."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _step_json(found: StepExpected, names: Names, line: Line) -> dict[str, Any]:
    cost = found.cost
    sent = found.sent or (None,) * len(found.parties)
    parties = [
        {"address": party, "name": names.get(party), "sends_bytes": each}
        for party, each in zip(found.parties, sent, strict=True)
    ]
    step = found.step
    words = {"step": step.id, "engine": step.engine, "protocol": step.protocol, "parties": parties}
    return {**words, "cost": cost and _cost_json(cost, line), "unknown": found.why}


def _cost_json(cost: Cost, line: Line) -> dict[str, Any]:
    return {
        "total_bytes": cost.total,
        "turns": cost.turns,
        "compute_s": round(cost.compute_s, 3),
        "seconds": round(cost.seconds(line), 2),
        "basis": cost.basis,
    }


def _cells(found: StepExpected, names: Names, line: Line) -> tuple[str, ...]:
    who = [escape(names.get(party, party)) for party in found.parties]
    first = f"{found.step.id}\n{found.step.protocol}"
    if (sent := found.sent) is None:
        return first, "\n".join(who), "unknown", "unknown", "unknown"
    parties = "\n".join(f"{name} {amount(each)}" for name, each in zip(who, sent, strict=True))
    if (cost := found.cost) is None:
        return first, parties, amount(sum(sent)), "unknown", "not estimated"
    return first, parties, amount(cost.total), f"{cost.turns:,}", duration(cost.seconds(line))
