"""Block times as the formats carry them. A chain may claim any time; a calendar ends with the year 9999."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

LAST: Final = 253_402_300_799
"""9999-12-31T23:59:59Z, in seconds after 1970."""


def moment(seconds: int) -> datetime:
    """A block's time in UTC, or the last that a calendar has."""
    return datetime.fromtimestamp(min(seconds, LAST), UTC)


def utc(seconds: int) -> str:
    """A block's time for people to read."""
    if seconds > LAST:
        return f"{seconds} s after 1970"
    return moment(seconds).strftime("%Y-%m-%d %H:%M:%S UTC")
