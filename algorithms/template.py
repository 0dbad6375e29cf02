"""A new algorithm to start from: a bundle of one declared function, and tables to try it on."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sealtrace.algorithms.bundles import MANIFEST

NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
ROWS, SEED = 200, 1

PROGRAM = '''\
"""How many people owe more than a multiple of what they earn. Runs on shares: nobody sees a row."""

import jax.numpy as jnp

TIMES = 0.5


def compute(debt, income):
    """Return the declared outputs; arguments are arrays with one number for each row.

    Branches, loops and shapes may depend on nothing secret: use jnp.where instead of if.
    """
    over = jnp.where(debt > TIMES * income, 1.0, 0.0)
    return {"share_over": jnp.mean(over), "mean_debt": jnp.mean(debt)}
'''


class CannotCreate(ValueError):
    """The new algorithm's name is no name, or its folder is there already; choose another."""


def create(name: str, into: Path) -> Path:
    """Write the bundle ``into/name`` and, beside it, ``name-trial`` with tables; return the bundle's folder.

    Raises:
        CannotCreate: see there.
    """
    if not NAME.fullmatch(name):
        raise CannotCreate(f"{name!r}: small letters, digits and hyphens, a letter first, at most 63")
    bundle, trial = into / name, into / f"{name}-trial"
    for folder in (bundle, trial):
        if folder.exists():
            raise CannotCreate(f"{folder} is there already")
    bundle.mkdir(parents=True)
    (bundle / "program.py").write_text(PROGRAM, encoding="utf-8")
    (bundle / MANIFEST).write_text(json.dumps(_manifest(name), indent=2) + "\n", encoding="utf-8")
    trial.mkdir()
    for file, text in _trial().items():
        (trial / file).write_text(text, encoding="utf-8")
    return bundle


def _manifest(name: str) -> Mapping[str, Any]:
    number = {"kind": "number", "low": 0, "high": 1_000_000}
    return {
        "name": name,
        "version": "0.1.0",
        "title": "Share of people who owe more than half of what they earn",
        "engine": "mpc",
        "protocols": ["ABY3", "CHEETAH"],
        "entry": "program.py",
        "arithmetic": {"field": "FM128", "fraction_bits": 30},
        "function": {
            "columns": {
                "debt": {**number, "description": "what a person owes"},
                "income": {**number, "description": "what the same person earns in a year"},
            },
            "outputs": {
                "share_over": "share of people whose debt is above half of their income",
                "mean_debt": "mean debt of all people",
            },
            "min_rows": 20,
        },
        "inputs": {"rows": "equally many in all inputs, in the same order (align them first)"},
        "params": {"columns": "of each declared column: input and column"},
        "outputs": {"rows": "number of rows", "share_over": "between 0 and 1", "mean_debt": "a number"},
        "learns": {
            "party": "the number of rows; nothing of others' values or the result",
            "requester": "the number of rows, at least 20; the share and the mean, over all rows",
            "scheduler": "nothing: every party's share is sealed for the requester",
            "assumption": "all parties follow the protocol (semi-honest); ABY3: no two of its three parties "
            "put their views together; CHEETAH: two parties",
        },
    }


def _trial() -> Mapping[str, str]:
    chance = random.Random(SEED)  # noqa: S311 - made-up people, the same every time
    debts, incomes = ["id,owed"], ["id,earned"]
    for number in range(ROWS):
        debts.append(f"p{number},{chance.randint(0, 40_000)}")
        incomes.append(f"p{number},{chance.randint(15_000, 90_000)}")
    params = """columns:
  debt: {input: bank, column: owed}
  income: {input: employer, column: earned}
"""
    return {
        "params.yaml": params,
        "bank.csv": "\n".join(debts) + "\n",
        "employer.csv": "\n".join(incomes) + "\n",
    }
