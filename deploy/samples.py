"""Three organisations' tables from one real table: German Credit by columns, each side a shuffled sample.

Source: H. Hofmann, Statlog (German Credit Data), UCI Machine Learning Repository,
DOI 10.24432/C5NC77, CC BY 4.0.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping
from pathlib import Path

ID = "applicant_id"
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "bank": (
        "creditability",
        "credit_amount",
        "duration_in_month",
        "status_of_existing_checking_account",
        "savings_account_and_bonds",
    ),
    "registry": (
        "present_employment_since",
        "age_in_years",
        "present_residence_since",
        "job",
        "housing",
    ),
    "carrier": (
        "number_of_existing_credits_at_this_bank",
        "installment_rate_in_percentage_of_disposable_income",
        "telephone",
    ),
}
SAMPLE_SHARE = 0.9
SEED = 20_240_601


class SampleMissing(FileNotFoundError):
    """The German Credit table is not where it should be."""


def read(source: Path) -> list[dict[str, str]]:
    """The applicants, each with an ``applicant_id``.

    Raises:
        SampleMissing: there is no such file.
    """
    if not source.is_file():
        raise SampleMissing(f"{source} is missing: name the table with --data")
    with source.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows, start=1):
        row[ID] = f"A{number:04d}"
    return rows


def split(rows: list[dict[str, str]], into: Path) -> dict[str, Path]:
    """Write one CSV per organisation: its own columns, its own sample, in its own order."""
    into.mkdir(parents=True, exist_ok=True)
    chance = random.Random(SEED)  # noqa: S311 - the same samples every time, nothing secret
    return {name: _write(name, _sample(rows, chance), into / f"{name}.csv") for name in COLUMNS}


def categories(rows: list[dict[str, str]], column: str) -> list[str]:
    """The values of a text column, sorted: a public code list, agreed before the computation."""
    return sorted({row[column] for row in rows})


def common(rows: list[dict[str, str]], tables: Mapping[str, Path]) -> list[dict[str, str]]:
    """The applicants whom every organisation holds: what only a pooled table could know."""
    held = [_ids(path) for path in tables.values()]
    return [row for row in rows if all(row[ID] in ids for ids in held)]


def _sample(rows: list[dict[str, str]], chance: random.Random) -> list[dict[str, str]]:
    return chance.sample(rows, round(SAMPLE_SHARE * len(rows)))


def _write(name: str, rows: list[dict[str, str]], path: Path) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [ID, *COLUMNS[name]], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def _ids(path: Path) -> set[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row[ID] for row in csv.DictReader(file)}
