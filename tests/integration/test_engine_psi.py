"""Alignments by real engines at two and three parties: what is found, who learns it, what stays behind."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("spu")

import engine_in_parts
from engine_network import Network, Party3, network, opened, output, write_csv

from sealtrace.algorithms.bundles import load, shipped
from sealtrace.algorithms.shares import decode_share
from sealtrace.node.engines import process
from sealtrace.node.engines.errors import BadInput, BadJob, PeerFailed
from sealtrace.node.engines.job import JobInput, JobStep
from sealtrace.node.engines.process import begin_process

pytestmark = pytest.mark.timeout(120)

NAMES = ("bank", "registry", "carrier")
PHONES = [{"columns": dict.fromkeys(NAMES, "phone"), "rules": ["phone:86"]}]
BANK = [
    ["b1", "139 0000 0001", "10"],
    ["b2", "+86 139-0000-0002", "20"],
    ["b3", "13900000003", "30"],
]
REGISTRY = [
    ["r9", "+8613900000002", "teacher"],
    ["r8", "0086 139 0000 0001", "baker"],
    ["r7", "13900000009", "miller"],
]
CARRIER = [
    ["c1", "(139) 0000-0002", "2019"],
    ["c2", "13900000003", "2020"],
    ["c3", "13900000001", "2021"],
]
TABLES = {
    "bank": (["id", "phone", "amount"], BANK),
    "registry": (["id", "phone", "job"], REGISTRY),
    "carrier": (["id", "phone", "since"], CARRIER),
}


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    with network(tmp_path_factory.mktemp("psi")) as made:
        yield made


def run(*asked: Any, **also: Any) -> tuple[Party3, list[Any], JobStep]:
    """Run what :func:`prepared` prepares."""
    party, step = prepared(*asked, **also)
    return party, party.run(), step


def prepared(
    net: Network,
    folder: Path,
    count: int,
    protocol: str,
    params: dict[str, Any],
    *,
    bundle: str = "psi",
    tables: dict[str, Any] | None = None,
) -> tuple[Party3, JobStep]:
    """One alignment among the first ``count`` parties, not yet run."""
    tables = {**TABLES, **(tables or {})}
    names = NAMES[:count]
    inputs = []
    for name, node in zip(names, net.nodes, strict=False):
        path = folder / f"{name}.csv"
        write_csv(path, *tables[name])
        columns = tuple(tables[name][0][1:])
        inputs.append(
            JobInput(name=name, party=node.address, id_column="id", columns=columns, path=str(path))
        )
    if "key" in params:
        params = {
            **params,
            "key": [{**p, "columns": {n: p["columns"][n] for n in names}} for p in params["key"]],
        }
    step = JobStep(
        id="align",
        algorithm=load(shipped()[bundle]).digest,
        bundle=str(shipped()[bundle]),
        engine="psi",
        protocol=protocol,
        inputs=names,
        params=params,
    )
    own = {
        me: {
            "inputs": tuple(
                each if i == me else each.model_copy(update={"path": None}) for i, each in enumerate(inputs)
            )
        }
        for me in range(count)
    }
    paths = {each.name: Path(each.path or "") for each in inputs}
    party = Party3(net, net.new_task(count=count), paths, count=count, changes=own, common={"steps": (step,)})
    return party, step


COMMON = {2: {"+8613900000001", "+8613900000002"}, 3: {"+8613900000001", "+8613900000002"}}


@pytest.mark.parametrize(
    ("count", "protocol"), [(2, "RR22"), (2, "KKRT"), (2, "ECDH"), (3, "RR22"), (3, "KKRT"), (3, "ECDH")]
)
def test_parties_find_what_they_write_differently_and_one_alone_learns_it(net, tmp_path, count, protocol):
    params = {"key": PHONES, "result": "ids", "receivers": ["registry"], "keep": True}
    party, results, step = run(net, tmp_path, count, protocol, params)
    assert set(opened(net, results, step)["ids"]) == COMMON[count]
    for me, result in enumerate(results):
        account = result.transcript["steps"][0]
        share = output(net, result)[step.id]
        if me == 1:
            assert (account["common"], account["received"]["rows"]) == (2, 2)
            with (party.folder(me) / "received.csv").open(encoding="utf-8", newline="") as file:
                assert list(csv.reader(file)) == [["phone"], [REGISTRY[0][1]], [REGISTRY[1][1]]]
        else:
            assert account["common"] is None
            assert "received" not in account
            assert not (party.folder(me) / "received.csv").exists()
            assert all(value.chunks == () for value in decode_share(share).values)
        assert not (party.folder(me) / "scratch").exists()


@pytest.mark.parametrize(
    ("count", "protocol", "receivers"),
    [
        (2, "RR22", None),
        (2, "RR22", ["bank"]),
        (2, "KKRT", None),
        (3, "RR22", None),
        (3, "KKRT", ["carrier"]),
    ],
)
def test_keys_that_are_compared_in_parts_at_the_same_time_are_the_same_ones(
    net, tmp_path, monkeypatch, count, protocol, receivers
):
    monkeypatch.setenv("PYTHONPATH", str(Path(engine_in_parts.__file__).parent))
    monkeypatch.setattr(process, "_begin_party", partial(begin_process, engine_in_parts.__name__))
    rows = {
        name: (["id", "phone"], [[f"k{at:02}", ""] for at in range(2 * place, 30 + 9 * place)])
        for place, name in enumerate(NAMES)
    }
    params = {"result": "ids", **({"receivers": receivers} if receivers else {})}
    party, results, step = run(net, tmp_path, count, protocol, params, tables=rows)
    assert sorted(opened(net, results, step)["ids"]) == [f"k{at:02}" for at in range(2 * count - 2, 30)]
    assert (party.folder(0) / process.LOG).read_text().count("Trace has been written") > count


def test_a_left_join_is_the_requesters_alone(net, tmp_path):
    more = (TABLES["registry"][0], [*REGISTRY, ["r6", "139-0000-0001", "smith"]])
    params = {"key": PHONES, "result": "rows", "left": "bank", "duplicates": "all"}
    party, results, step = run(net, tmp_path, 2, "RR22", params, bundle="psi-join", tables={"registry": more})
    result = opened(net, results, step)
    assert result["columns"] == ["key", "bank.phone", "bank.amount", "registry.phone", "registry.job"]
    assert sorted([row[0], row[2], row[4]] for row in result["table"]) == [
        ["+8613900000001", "10", "baker"],
        ["+8613900000001", "10", "smith"],
        ["+8613900000002", "20", "teacher"],
        ["+8613900000003", "30", None],
    ]
    for me in range(2):
        left = [path for path in party.folder(me).rglob("*") if path.is_file()]
        assert all(b"teacher" not in path.read_bytes() for path in left)


@pytest.mark.parametrize("protocol", ["RR22", "ECDH"])
def test_a_node_may_live_in_a_folder_whose_name_means_something_to_a_shell(
    net, tmp_path, protocol, monkeypatch
):
    strange = tmp_path / "two words; $(touch gone) it's"
    monkeypatch.setattr(Party3, "folder", lambda self, me: strange / self.task / str(me))
    _, results, step = run(net, tmp_path, 2, protocol, {"key": PHONES, "result": "ids"})
    assert set(opened(net, results, step)["ids"]) == COMMON[2]
    assert strange.is_dir()
    assert not list(tmp_path.rglob("gone"))


@pytest.mark.parametrize(
    ("count", "protocol"), [(2, "RR22"), (2, "KKRT"), (2, "ECDH"), (3, "RR22"), (3, "ECDH")]
)
def test_that_nothing_is_common_is_a_count_of_its_own(net, tmp_path, count, protocol):
    strangers = (TABLES["registry"][0], [["r1", "13900000099", "x"]])
    _, results, step = run(net, tmp_path, count, protocol, {"key": PHONES}, tables={"registry": strangers})
    assert opened(net, results, step) == {"rows": 0}


def test_sums_over_common_rows_are_the_requesters_alone(net, tmp_path):
    rated = (["id", "phone", "rate"], [["r9", "+8613900000002", "0.5"], ["r8", "13900000001", "0.25"]])
    product = {"input": "bank", "column": "amount", "times": {"input": "registry", "column": "rate"}}
    params = {"sums": [{"input": "registry", "column": "rate"}, product], "min_group": 2}
    party, align = prepared(net, tmp_path, 2, "ECDH", {"key": PHONES}, tables={"registry": rated})
    bundle = shipped()["psi-sum"]
    sums = JobStep(
        id="sums",
        algorithm=load(bundle).digest,
        bundle=str(bundle),
        engine="mpc",
        protocol="CHEETAH",
        inputs=NAMES[:2],
        after=("align",),
        params=params,
    )
    party.common["steps"] = (align, sums)
    found = opened(net, party.run(), sums)
    assert found["rows"] == 2
    assert [each["sum"] for each in found["sums"]] == pytest.approx([0.75, 10 * 0.25 + 20 * 0.5], rel=1e-9)


def test_an_alignment_of_aligned_rows_compares_these_rows_alone(net, tmp_path):
    """By phone two rows are common; of these one has the same code at both, though codes repeat elsewhere."""
    header = ["id", "phone", "code"]
    tables = {
        "bank": (
            header,
            [["b1", "13900000001", "x"], ["b2", "13900000002", "y"], ["b3", "13900000003", "z"]],
        ),
        "registry": (
            header,
            [["r1", "13900000009", "z"], ["r2", "13900000002", "y"], ["r3", "13900000001", "w"]],
        ),
    }
    party, align = prepared(net, tmp_path, 2, "RR22", {"key": PHONES}, tables=tables)
    codes = [{"columns": dict.fromkeys(NAMES[:2], "code")}]
    again = align.model_copy(
        update={
            "id": "again",
            "protocol": "ECDH",
            "after": ("align",),
            "params": {"key": codes, "result": "ids"},
        }
    )
    party.common["steps"] = (align, again)
    assert opened(net, party.run(), again) == {"rows": 1, "ids": ["y"]}


def test_a_grant_for_an_algorithm_that_counts_gives_no_rows(net, tmp_path):
    _, results, _ = run(net, tmp_path, 2, "RR22", {"key": PHONES, "result": "rows"})
    refused = [each for each in results if isinstance(each, BadJob)]
    assert refused, results
    assert all("gives count, ids, not rows" in str(each) for each in refused)
    others = [each for each in results if each not in refused]  # told of its end before they looked
    assert all(isinstance(each, PeerFailed) for each in others), results


BAD = [
    ("unfit_id", [["r1", "none", "x"]]),
    ("empty_id", [["r1", "", "x"]]),
    ("duplicate_ids", [["r1", "13900000001", "x"], ["r2", "+86 13900000001", "y"]]),
    ("duplicate_ids", [["r1", "13900000001", "x"]] * 3),
    ("empty_file", []),
]


@pytest.mark.parametrize(("reason", "rows"), BAD)
def test_keys_that_do_not_fit_are_named_at_their_owner_before_anything_leaves_it(net, tmp_path, reason, rows):
    bad = (TABLES["registry"][0], rows)
    party, results, _ = run(net, tmp_path, 2, "RR22", {"key": PHONES}, tables={"registry": bad})
    assert isinstance(results[1], BadInput)
    assert results[1].reason == reason
    assert isinstance(results[0], PeerFailed), results
    assert (1, "connecting", None) not in party.progress
