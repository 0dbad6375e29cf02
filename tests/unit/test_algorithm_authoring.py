"""A new algorithm, from the template to a result: what an author meets."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("spu")

from typer.testing import CliRunner

from sealtrace.algorithms.bundles import load, shipped
from sealtrace.algorithms.functions import FunctionProgram
from sealtrace.algorithms.headroom import NumbersTooLarge
from sealtrace.algorithms.simulation import CannotSimulate
from sealtrace.algorithms.template import CannotCreate, create
from sealtrace.algorithms.trial import TableUnfit, attempt, read_tables
from sealtrace.protocol.bundle import BadBundle
from sealtrace.requester.cli import algorithm_app
from sealtrace.requester.errors import SettingsInvalid

ROOT = Path(__file__).parents[2]
PARAMS = {
    "columns": {
        "debt": {"input": "bank", "column": "owed"},
        "income": {"input": "employer", "column": "earned"},
    }
}
TABLES = {"bank": {"owed": [30.0, 10.0] * 10}, "employer": {"earned": [40.0, 40.0] * 10}}


@pytest.fixture
def bundle(tmp_path):
    return create("overdue", tmp_path)


def change(bundle, **changes):
    """Rewrite keys of the manifest, and load the bundle again."""
    file = bundle / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return load(bundle)


def compute(bundle, body):
    """Rewrite the function, and load the bundle again."""
    (bundle / "program.py").write_text(
        f"import jax.numpy as jnp\n\n\ndef compute(debt, income):\n    {body}\n"
    )
    return load(bundle)


def test_the_commands_of_the_document_run_the_template(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "algorithms.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines():
        called, group, *words = shlex.split(line)
        assert (called, group) == ("sealtrace", "algorithm")
        done = CliRunner().invoke(algorithm_app, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert "mean_debt" in done.output
    assert "in the clear" in done.output
    assert "largest number inside" in done.output


def test_the_trial_of_a_function_agrees_with_the_clear(bundle):
    tried = attempt(load(bundle), PARAMS, TABLES, "ABY3")
    assert tried.plain == {"rows": 20, "share_over": 0.5, "mean_debt": 20.0}
    assert tried.simulated.result == pytest.approx(tried.plain, rel=1e-5)
    assert tried.simulated.computation.field == "FM128"


def test_the_trial_of_statistics_shows_tables(tmp_path):
    (tmp_path / "a.csv").write_text("id,x\n1,2.5\n2,3.5\n3,\n")
    (tmp_path / "b.csv").write_text("id,k\n3,p\n2,p\n1,p\n4,q\n")
    params = {
        "min_group": 2,
        "columns": {
            "x": {"input": "a", "kind": "number", "nulls": True},
            "k": {"input": "b", "kind": "category", "categories": ["p", "q"]},
        },
        "requests": {"means": {"measure": "summary", "of": "x", "by": "k", "statistics": ["mean"]}},
    }
    (tmp_path / "params.json").write_text(json.dumps(params))
    words = [
        "test",
        "statistics",
        "--params",
        str(tmp_path / "params.json"),
        "--id",
        "id",
        "--protocol",
        "SEMI2K",
    ]
    words += [part for name in "ab" for part in ("--table", f"{name}={tmp_path / name}.csv")]
    done = CliRunner().invoke(algorithm_app, words, catch_exceptions=False)
    heading = next(line for line in done.output.splitlines() if "by k" in line)
    assert re.findall(r"\w[\w ]*\w", heading) == ["by k", "count", "suppressed", "x count", "x mean"]
    done = CliRunner().invoke(algorithm_app, [*words, "--json"], catch_exceptions=False)
    p, q = json.loads(done.output.splitlines()[-1])["result"]["means"]
    assert (p["count"], p["x"]) == (3, {"count": 2, "mean": 3.0})
    assert q["suppressed"]


def test_a_function_that_overflows_on_its_bounds_is_refused_with_its_line(bundle):
    loaded = compute(
        bundle, 'return {"share_over": jnp.sum(debt * debt * debt * income), "mean_debt": debt[0]}'
    )
    with pytest.raises(NumbersTooLarge, match=r"mul in line 5 comes to 1e\+24"):
        attempt(loaded, PARAMS, TABLES, "ABY3")


def test_a_function_that_makes_no_number_is_refused(bundle):
    loaded = compute(bundle, 'return {"share_over": jnp.sum(debt / (income - 40.0)), "mean_debt": debt[0]}')
    with pytest.raises(NumbersTooLarge, match="div in line 5 comes to inf"):
        attempt(loaded, PARAMS, TABLES, "ABY3")


def test_a_function_that_returns_other_outputs_is_refused(bundle):
    loaded = compute(bundle, 'return {"share": jnp.sum(debt)}')
    with pytest.raises(CannotSimulate, match="compute returns a dictionary of mean_debt, share_over"):
        attempt(loaded, PARAMS, TABLES, "ABY3")


def test_a_function_that_branches_on_a_secret_is_refused(bundle):
    loaded = compute(bundle, 'return {"share_over": debt[0] if debt[0] > 1 else 0.0, "mean_debt": debt[0]}')
    with pytest.raises(CannotSimulate, match=r"does not compile \(TracerBoolConversionError\)"):
        attempt(loaded, PARAMS, TABLES, "ABY3")


def test_a_value_beyond_the_declared_bounds_is_refused_at_its_owner(bundle):
    program = load(bundle).program
    with pytest.raises(ValueError, match=r"column 'owed', row 2: outside of 0 to 1e\+06") as no:
        program.prepare(PARAMS, "bank", {"owed": [1.0, -5.0]}, {"bank": 2, "employer": 2})
    assert no.value.reason == "out_of_range"


def test_indicators_and_categories_come_as_zeros_and_ones(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    columns = {"debt": {"kind": "indicator"}, "income": {"kind": "category"}}
    program = change(bundle, function={**manifest["function"], "columns": columns}).program
    places = {
        "debt": {"input": "a", "column": "late", "positive": "yes"},
        "income": {"input": "a", "column": "class", "categories": ["low", "high"]},
    }
    program.check({"columns": places}, ["a"])
    table = {"late": ["yes", "no"], "class": ["high", "low"]}
    made = program.prepare({"columns": places}, "a", table, {"a": 2})
    assert made["debt"].tolist() == [1, 0]
    assert made["income"].tolist() == [[0, 1], [1, 0]]
    with pytest.raises(ValueError, match=r"column 'class', row 1: its value is none") as no:
        program.prepare({"columns": places}, "a", {**table, "class": ["middle", "low"]}, {"a": 2})
    assert no.value.reason == "unknown_category"


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({}, "params: an object with columns"),
        ({"columns": {"debt": PARAMS["columns"]["debt"]}}, "columns: an object with debt, income"),
        (
            {"columns": {**PARAMS["columns"], "debt": {"input": "bank"}}},
            "columns.debt: an object with column, input",
        ),
        (
            {"columns": {**PARAMS["columns"], "debt": {"input": "zoo", "column": "x"}}},
            "columns.debt.input: one of",
        ),
        (
            {"columns": {**PARAMS["columns"], "debt": {"input": "bank", "column": 1}}},
            "columns.debt.column: a text",
        ),
    ],
)
def test_parameters_that_do_not_place_every_column_are_refused(bundle, params, said):
    with pytest.raises(ValueError, match=said):
        load(bundle).program.check(params, ["bank", "employer"])


def test_too_few_rows_and_unequal_ones_are_refused(bundle):
    program = load(bundle).program
    assert isinstance(program, FunctionProgram)
    with pytest.raises(ValueError, match="19 rows, fewer than the algorithm's 20"):
        program.arithmetic(PARAMS, 19)
    with pytest.raises(ValueError, match="align them first"):
        program.rows(PARAMS, {"bank": 20, "employer": 21})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learns": {"party": "nothing"}}, "learns says nothing of requester, scheduler, assumption"),
        ({"arithmetic": None}, "a function needs an entry module and arithmetic"),
        ({"entry": None}, "an mpc algorithm names its entry module"),
        ({"arithmetic": {"field": "FM64", "fraction_bits": 24}}, "column debt: its bounds are beyond 16384"),
        (
            {"function": {"columns": {"debt": {"kind": "number"}}, "outputs": {"o": ""}, "min_rows": 2}},
            "have low",
        ),
    ],
)
def test_a_manifest_that_leaves_something_open_is_no_bundle(bundle, changes, said):
    with pytest.raises(BadBundle, match=said):
        change(bundle, **changes)


@pytest.mark.parametrize("name", ["Overdue", "", "../x", "a" * 64])
def test_a_name_that_is_none_is_refused(tmp_path, name):
    with pytest.raises(CannotCreate, match="small letters"):
        create(name, tmp_path)


def test_nothing_is_written_over(tmp_path, bundle):
    with pytest.raises(CannotCreate, match="is there already"):
        create("overdue", tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,owe\n1,2\n", "there is no column 'owed'"),
        ("id,owed\n1,many\n", "column 'owed', row 1 is no number"),
        ("id,owed\n1,inf\n", "column 'owed', row 1 is not finite"),
        ("id,owed\n1,\n", "column 'owed', row 1 is empty"),
        ("id,owed\n1,2\n1,3\n", "'id' is no column of distinct ids"),
        ("key,owed\n1,2\n", "'id' is no column of distinct ids"),
    ],
)
def test_a_table_that_does_not_fit_a_trial_is_named(tmp_path, bundle, text, said):
    (tmp_path / "bank.csv").write_text(text)
    (tmp_path / "employer.csv").write_text("id,earned\n1,2\n")
    paths = {name: tmp_path / f"{name}.csv" for name in ("bank", "employer")}
    with pytest.raises(TableUnfit, match=said):
        read_tables(load(bundle).program, PARAMS, paths, "id")
    with pytest.raises(TableUnfit, match=r"missing\.csv"):
        read_tables(load(bundle).program, PARAMS, {**paths, "bank": tmp_path / "missing.csv"}, "id")


def test_a_table_without_an_input_is_named(tmp_path, bundle):
    words = [
        "test",
        str(bundle),
        "--params",
        str(tmp_path / "overdue-trial" / "params.yaml"),
        "--table",
        "bank",
    ]
    with pytest.raises(SettingsInvalid, match=r"--table bank: give INPUT=FILE\.csv"):
        CliRunner().invoke(algorithm_app, words, catch_exceptions=False)


def test_every_algorithm_that_ships_is_shown_with_what_each_role_learns(tmp_path):
    for name, folder in shipped().items():
        done = CliRunner().invoke(algorithm_app, ["show", str(folder), "--dir", str(tmp_path)])
        shown = " ".join(done.output.split())
        for role, what in load(folder).manifest.learns.items():
            assert f"{role}: {what}" in shown, name
