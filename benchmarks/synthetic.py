"""Tables of the demo's shape and any size: three organisations' columns, 90 % of the ids common to all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sealtrace.deploy.samples import COLUMNS, ID

SEED = 20_240_601
COMMON_SHARE = 0.9
GROUP = "present_employment_since"
CATEGORIES = ("... < 1 year", "... >= 7 years", "1 <= ... < 4 years", "4 <= ... < 7 years", "unemployed")
_WORDS = {
    "creditability": ("bad", "good"),
    GROUP: CATEGORIES,
    "job": ("skilled", "unskilled"),
    "housing": ("own", "rent"),
    "telephone": ("none", "yes"),
    "status_of_existing_checking_account": ("no account", "... < 0 DM"),
    "savings_account_and_bonds": ("unknown", "... < 100 DM"),
}
_HIGHEST = {"credit_amount": 18_424, "duration_in_month": 72, "age_in_years": 75}
_LOWEST = {"credit_amount": 250, "duration_in_month": 4, "age_in_years": 19}


def make(rows: int, into: Path, seed: int = SEED) -> dict[str, Path]:
    """Write one CSV of ``rows`` rows for each organisation, shuffled; the same bytes for the same seed."""
    into.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(seed)
    common = round(COMMON_SHARE * rows)
    made = {}
    for place, name in enumerate(COLUMNS):
        first_own = common + place * (rows - common)
        numbers = np.concatenate([np.arange(common), np.arange(first_own, first_own + rows - common)])
        chance.shuffle(numbers)
        columns = {column: _column(column, rows, chance) for column in COLUMNS[name]}
        made[name] = _write(into / f"{name}.csv", numbers, columns)
    return made


def examples() -> list[dict[str, str]]:
    """A row for each category: all that the task's words need to know of the tables."""
    return [{GROUP: category} for category in CATEGORIES]


def _column(name: str, rows: int, chance: np.random.Generator) -> list[str]:
    words = _WORDS.get(name)
    if words is not None:
        return [words[at] for at in chance.integers(len(words), size=rows)]
    values = chance.integers(_LOWEST.get(name, 1), _HIGHEST.get(name, 4), size=rows, endpoint=True)
    return [str(value) for value in values.tolist()]


def _write(path: Path, numbers: Any, columns: Mapping[str, list[str]]) -> Path:
    ids = (f"A{number:08d}" for number in numbers.tolist())
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join([ID, *columns]) + "\n")
        file.writelines(",".join(row) + "\n" for row in zip(ids, *columns.values(), strict=True))
    return path
