"""Charts of a report as SVG: bars without script, font or network. Everything in them is escaped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import accumulate
from typing import Any, Final

from sealtrace.auditor.language import Words

LABEL, ROOM, NUMBER, ROW, THICK = 110, 240, 50, 22, 12

_STATES: Final = {
    "completed": "good",
    "failed": "bad",
    "disputed": "bad",
    "refused": "unsure",
    "cancelled": "unsure",
    "expired": "unsure",
    "created": "act",
    "authorized": "act",
    "running": "act",
}
_SEVERITIES: Final = {"critical": "bad", "high": "bad", "medium": "unsure", "low": "quiet"}
_OUTCOMES: Final = {"satisfied": "good", "violated": "bad", "undetermined": "unsure"}
_PERIODS: Final = 12


@dataclass(frozen=True, slots=True)
class Bar:
    """A line of a chart: its label, and how much of which tone."""

    label: str
    parts: Sequence[tuple[str, int]]

    @property
    def total(self) -> int:
        """All of its parts together."""
        return sum(number for _, number in self.parts)


def charts(report: Mapping[str, Any], words: Words) -> str:
    """How tasks ended, how verdicts came out, how grave findings are, and when tasks were created."""
    said, counts = words.message, report["counts"]
    drawn = {
        said("Verdicts by outcome"): _bars(counts["verdicts"], _OUTCOMES, words),
        said("Tasks by state"): _bars(counts["states"], _STATES, words),
        said("Findings by severity"): _bars(counts["severities"], _SEVERITIES, words),
        said("Tasks by the block of their first event"): list(_over_blocks(report)),
    }
    return (
        '<div class="charts">' + "".join(chart(name, bars) for name, bars in drawn.items() if bars) + "</div>"
    )


def chart(name: str, bars: Sequence[Bar]) -> str:
    """A bar chart of ``bars``, the longest of which takes the whole width."""
    width, height = LABEL + ROOM + NUMBER, ROW * len(bars)
    most = max(1, *(bar.total for bar in bars))
    drawn = "".join(_row(at, bar, most) for at, bar in enumerate(bars))
    return (
        f'<figure><figcaption>{escape(name)}</figcaption><svg class="chart" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="{escape(name)}">{drawn}</svg></figure>'
    )


def _row(at: int, bar: Bar, most: int) -> str:
    y = at * ROW + (ROW - THICK) // 2
    ends = list(accumulate((number for _, number in bar.parts), initial=0))
    rects = "".join(
        f'<rect class="{tone}" x="{LABEL + ROOM * start // most}" y="{y}" height="{THICK}" '
        f'width="{max(1, ROOM * (start + number) // most - ROOM * start // most)}"/>'
        for start, (tone, number) in zip(ends, bar.parts, strict=False)
        if number
    )
    end = LABEL + ROOM * bar.total // most + 6
    text = at * ROW + ROW // 2 + 4
    label = f'<text x="0" y="{text}">{escape(bar.label)}</text>'
    return f'{label}{rects}<text x="{end}" y="{text}">{bar.total}</text>'


def _bars(counts: Mapping[str, int], tones: Mapping[str, str], words: Words) -> list[Bar]:
    return [Bar(words.message(name), [(tones.get(name, "quiet"), number)]) for name, number in counts.items()]


def _over_blocks(report: Mapping[str, Any]) -> Iterator[Bar]:
    """How many tasks began in each stretch of the range, and how they ended."""
    begun = [(task["events"][0]["block"], task["state"]) for task in report["tasks"] if task["events"]]
    if not begun:
        return
    first, last = min(block for block, _ in begun), max(block for block, _ in begun)
    size = (last - first) // _PERIODS + 1
    for start in range(first, last + 1, size):
        tones = [_STATES.get(state, "quiet") for block, state in begun if start <= block < start + size]
        parts = [(tone, tones.count(tone)) for tone in ("good", "bad", "unsure", "act", "quiet")]
        yield Bar(f"{start} – {start + size - 1}" if size > 1 else str(start), parts)
