"""A task's life as a small drawing: one lane for each who acted, one mark for each event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from sealtrace.auditor.language import Words, words

LABEL, STEP, LANE, MARGIN = 128, 58, 30, 14

_TONES: Final = {
    "created": "quiet",
    "approved": "quiet",
    "authorized": "quiet",
    "started": "act",
    "running": "act",
    "finished": "good",
    "completed": "good",
    "acknowledged": "good",
    "refused": "bad",
    "failed": "bad",
    "disputed": "bad",
    "cancelled": "bad",
}


def swimlanes(task: Mapping[str, Any], told: Words | None = None) -> str:
    """SVG for one task of a report document, in English or as ``told`` says it. Everything is escaped."""
    told = told or words()
    label = told.message("Events of task %(task)s in order", task=task["id"])
    lanes = _lanes(task)
    events = task["events"]
    width = LABEL + STEP * max(1, len(events)) + MARGIN
    height = MARGIN + LANE * len(lanes) + 18
    parts = [
        f'<svg class="lanes" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(label)}">',
        *(_lane(row, who, width, told) for row, who in enumerate(lanes)),
        *(_mark(place, event, lanes, told) for place, event in enumerate(events)),
        *(_block(place, event, events, height) for place, event in enumerate(events)),
        "</svg>",
    ]
    return "".join(parts)


def _lanes(task: Mapping[str, Any]) -> list[str | None]:
    """The ledger's own lane first, then the requester, then the parties."""
    return list(dict.fromkeys([None, task["requester"], *task["parties"]]))


def _lane(row: int, who: str | None, width: int, told: Words) -> str:
    y = _y(row)
    shown = told.message("ledger") if who is None else f"{who[:8]}…{who[-4:]}"
    return (
        f'<text x="0" y="{y + 4}" class="who">{escape(shown)}</text>'
        f'<line x1="{LABEL}" y1="{y}" x2="{width - MARGIN}" y2="{y}" class="lane"/>'
    )


def _mark(place: int, event: Mapping[str, Any], lanes: Sequence[str | None], told: Words) -> str:
    who = event["who"] if event["who"] in lanes else None
    x, y = _x(place), _y(lanes.index(who))
    name, state = told.message(event["event"]), told.message(event["state"])
    title = told.message(
        "%(event)s, block %(block)s: the task is %(state)s", event=name, block=event["block"], state=state
    )
    tone = _TONES.get(event["event"], "quiet")
    return (
        f'<g class="{tone}"><title>{escape(title)}</title><circle cx="{x}" cy="{y}" r="5"/>'
        f'<text x="{x}" y="{y - 9}" class="what">{escape(name)}</text></g>'
    )


def _block(place: int, event: Mapping[str, Any], events: Sequence[Mapping[str, Any]], height: int) -> str:
    """The block's number below its first event."""
    if place and events[place - 1]["block"] == event["block"]:
        return ""
    return f'<text x="{_x(place)}" y="{height - 4}" class="block">{event["block"]}</text>'


def _x(place: int) -> int:
    return LABEL + STEP // 2 + STEP * place


def _y(row: int) -> int:
    return MARGIN + LANE * row + LANE // 2
