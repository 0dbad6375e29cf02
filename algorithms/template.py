"""A new algorithm to start from, for shares or for an enclave, and tables to try it on."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

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

PROGRAM_TEE = '''\
"""What people earn who owe more than a multiple of it, and what the others earn. Runs in an enclave."""

from statistics import fmean


def run(inputs, params):
    """Return what output_policy in the manifest declares; everything else stays inside.

    inputs[NAME] is a table with .texts(column), .numbers(column) and .ids, params are the step's;
    inputs.config has the secret values that `sealtrace algorithm seal-config` committed to, if any.
    """
    owed = dict(zip(inputs["bank"].ids, inputs["bank"].numbers("owed"), strict=True))
    earned = dict(zip(inputs["employer"].ids, inputs["employer"].numbers("earned"), strict=True))
    people = sorted(owed.keys() & earned.keys())
    over = [each for each in people if owed[each] > params["times"] * earned[each]]
    under = [each for each in people if owed[each] <= params["times"] * earned[each]]
    groups = {"over": over, "under": under}
    shown = all(len(each) >= inputs.min_group for each in groups.values())
    inputs.report(0, {"share_shown": float(shown)})
    return {
        "groups": [
            {
                "group": name,
                "count": len(found) if shown else None,
                "mean_income": fmean(earned[each] for each in found) if shown else None,
            }
            for name, found in groups.items()
        ]
    }
'''
LOCK = "# What it imports beyond the standard library, exactly: name==version.\n"


class CannotCreate(ValueError):
    """The new algorithm's name is no name, or its folder is there already; choose another."""


def create(name: str, into: Path, engine: Literal["mpc", "tee"] = "mpc") -> Path:
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
    manifest, program = (_manifest(name), PROGRAM) if engine == "mpc" else (_manifest_tee(name), PROGRAM_TEE)
    (bundle / "program.py").write_text(program, encoding="utf-8")
    (bundle / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    if engine == "tee":
        (bundle / "requirements.txt").write_text(LOCK, encoding="utf-8")
    trial.mkdir()
    for file, text in _trial(PARAMS if engine == "mpc" else PARAMS_TEE).items():
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


def _manifest_tee(name: str) -> Mapping[str, Any]:
    mean = {"kind": "number", "decimals": 2, "low": 0, "nullable": True}
    group = {
        "group": {"kind": "word", "of": ["over", "under"]},
        "count": {"kind": "count"},
        "mean_income": mean,
    }
    groups = {"kind": "list", "of": {"kind": "record", "fields": group}, "max_items": 2}
    return {
        "name": name,
        "version": "0.1.0",
        "title": "What people earn who owe much of it, and what the others earn",
        "engine": "tee",
        "protocols": ["HARDWARE", "SIMULATED"],
        "entry": "program.py",
        "runtime": {"python": "3.11", "lock": "requirements.txt"},
        "seeds": {"global": 1},
        "inputs": {"bank": "ids and the column owed", "employer": "ids and the column earned"},
        "params": {"times": "the multiple of the income, a number"},
        "outputs": {"groups": "count and mean income of both groups; null where one is small"},
        "output_policy": {
            "min_group": 10,
            "min_rows": 20,
            "metrics": {
                "max_rounds": 1,
                "names": {"share_shown": {"kind": "number", "decimals": 0, "low": 0, "high": 1}},
            },
            "outputs": {"groups": {"shape": groups, "max_bytes": 1024}},
        },
        "learns": {
            "party": "nothing: its table is opened in the enclave only",
            "requester": "count and mean income of two groups, each of at least 10 people",
            "scheduler": "nothing",
            "assumption": "the enclave's hardware and this code do what they say; where no hardware attests "
            "the enclave, whoever runs its host can read every table",
        },
    }


PARAMS = """columns:
  debt: {input: bank, column: owed}
  income: {input: employer, column: earned}
"""
PARAMS_TEE = "times: 0.5\n"


def _trial(params: str) -> Mapping[str, str]:
    chance = random.Random(SEED)  # noqa: S311 - made-up people, the same every time
    debts, incomes = ["id,owed"], ["id,earned"]
    for number in range(ROWS):
        debts.append(f"p{number},{chance.randint(0, 40_000)}")
        incomes.append(f"p{number},{chance.randint(15_000, 90_000)}")
    return {
        "params.yaml": params,
        "bank.csv": "\n".join(debts) + "\n",
        "employer.csv": "\n".join(incomes) + "\n",
    }
