"""What the benchmarks compute, without measuring anything: no test here depends on time."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

pytest.importorskip("spu")

import anvil  # noqa: E402
import bench_catchup  # noqa: E402
import bench_chain  # noqa: E402
import bench_enclave  # noqa: E402
import bench_evidence  # noqa: E402
import bench_fingerprint  # noqa: E402
import bench_gateway  # noqa: E402
import bench_governance  # noqa: E402
import bench_links  # noqa: E402
import bench_models  # noqa: E402
import bench_plan  # noqa: E402
import bench_psi  # noqa: E402
import bench_sandbox  # noqa: E402
import bench_sealing  # noqa: E402
import links  # noqa: E402
import milestones  # noqa: E402
import places  # noqa: E402
import plain_ecdh  # noqa: E402
import synthetic  # noqa: E402
from bare_run import BareRun  # noqa: E402

from sealtrace.node.engines.party import checked_bundles  # noqa: E402

PROGRAMS = sorted(BENCHMARKS.glob("bench_*.py"))


def ids(path: Path) -> set[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row[synthetic.ID] for row in csv.DictReader(file)}


def size(rows: int, bare: list[float], governed: list[float]) -> bench_governance.Size:
    split = dict.fromkeys((name for name, _, _ in milestones.PARTS), 0.5)
    return bench_governance.Size(
        rows,
        [BareRun(seconds, 0.1, 1.0, ()) for seconds in bare],
        [bench_governance.Governed(seconds, split, (), 3.0, {"engine": 2.0}) for seconds in governed],
    )


def test_nine_ids_of_ten_are_common_to_all_three_tables(tmp_path):
    tables = synthetic.make(200, tmp_path)
    held = [ids(path) for path in tables.values()]
    assert [len(each) for each in held] == [200, 200, 200]
    assert len(set.intersection(*held)) == 180
    assert len(held[0] & held[1]) == 180


def test_the_same_seed_makes_the_same_bytes(tmp_path):
    one, other = synthetic.make(50, tmp_path / "one"), synthetic.make(50, tmp_path / "other")
    assert [path.read_bytes() for path in one.values()] == [path.read_bytes() for path in other.values()]


def test_the_tables_hold_no_category_that_the_task_does_not_name(tmp_path):
    with synthetic.make(300, tmp_path)["registry"].open(newline="", encoding="utf-8") as file:
        held = {row[synthetic.GROUP] for row in csv.DictReader(file)}
    assert held <= {row[synthetic.GROUP] for row in synthetic.examples()}


def test_the_parts_of_a_run_make_up_the_whole():
    last = {"asked": 1.0, "checking": 2.0, "task.judged": 2.5, "task.started": 3.5, "engine": 4.0}
    found = milestones.parts(0.5, 9.0, last | {"task.ran": 7.0, "uploaded": 7.5})
    assert sum(found.values()) == pytest.approx(8.5)
    assert found["engine"] == pytest.approx(3.0)


def test_a_milestone_that_nobody_saw_takes_no_time():
    found = milestones.parts(0.0, 3.0, {"asked": 1.0, "task.judged": 2.0})
    assert found["noticing"] == 0.0
    assert found["finish"] == pytest.approx(1.0)


def test_the_fixed_cost_is_what_governance_adds_at_the_smallest_size():
    sizes = [size(1_000, [3.0, 2.0], [6.0, 5.0]), size(100_000, [10.0], [14.0])]
    assert bench_governance.fixed_cost_s(sizes) == pytest.approx(3.0)
    small, large = bench_governance.as_json(sizes)["sizes"]
    assert small["share_of_run_beyond_fixed"] == 0.0
    assert large["cost_s"] == pytest.approx(4.0)
    assert large["share_of_run_beyond_fixed"] == pytest.approx(1 / 14, abs=1e-4)


def test_gateways_are_compared_with_the_direct_link_of_the_same_run():
    def turn(side, round_trips_s, mb_s, gateway_cpu_ms=0.0):
        rates = {"side": side, "round_trips_s": round_trips_s, "mb_s": mb_s}
        return rates | {"engine_cpu_ms": 0.5, "gateway_cpu_ms": gateway_cpu_ms}

    found = bench_gateway.summary(
        [
            turn("direct", 1000.0, 100.0),
            turn("gateways", 200.0, 50.0, 0.5),
            turn("direct", 500.0, 80.0),
            turn("gateways", 250.0, 40.0, 0.4),
        ]
    )
    assert (found["ratio_round_trips"], found["ratio_mb"]) == (0.25, 0.5)
    assert (found["median_round_trips"], found["median_mb"]) == (0.35, 0.5)
    assert (found["direct"]["gateway_cpu_ms"], found["gateways"]["gateway_cpu_ms"]) == (0.0, 0.45)


def test_a_fingerprint_is_compared_with_sha256sum_of_the_same_file(tmp_path):
    found = bench_fingerprint.measure(bench_fingerprint.make(tmp_path / "table", 3 << 20), rounds=1)
    assert found["bytes"] == 3 << 20
    assert found["ratio"] > 0


def test_a_chain_is_compared_with_transfers_and_with_anvil_where_there_is_one():
    sides = {"embedded": {"tx_s": 100.0}, "transfers": {"tx_s": 200.0}}
    assert "ratio_anvil" not in bench_chain.summary(sides, 4)
    found = bench_chain.summary(sides | {"anvil": {"tx_s": 400.0}}, 4)
    assert (found["ratio_transfers"], found["ratio_anvil"]) == (0.5, 0.25)


def test_an_anvil_that_is_absent_is_named_with_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setattr(anvil, "INSTALLED", tmp_path / "anvil")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(anvil.AnvilNotFound, match="npm ci"):
        anvil.find()


def test_evidence_is_compared_with_hashing_the_same_lines():
    found = bench_evidence.summary(1_000, 400_000, (0.02, 0.01, 0.5, 0.001), 200.0)
    assert (found["logged_records_s"], found["logged_records_cpu_s"]) == (50_000, 100_000)
    assert (found["ratio"], found["bytes_a_record"]) == (0.05, 400)


def test_catching_up_is_compared_with_web3_on_the_same_events():
    found = bench_catchup.summary(1_000, 10, 5, {"web3": 2.0, "party": 4.0})
    assert found["ratio"] == {"web3": 1.0, "party": 0.5}
    assert found["events_s"]["web3"] == 500


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_every_benchmark_names_its_baseline(program):
    assert '"baseline": ' in program.read_text(encoding="utf-8")


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_every_benchmark_starts_by_one_command(program):
    done = subprocess.run(
        [sys.executable, str(program), "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    assert "--json" in done.stdout


def turn(side, rows, seconds, peak_mib, protocol="RR22"):
    sent = 33.0 if side == "node" else None
    return bench_psi.Turn(side, protocol, rows, seconds, 2 * seconds, peak_mib, sent)


def test_alignments_are_compared_by_the_best_turn_of_each_side():
    turns = [
        turn("bare", 1_000, 1.0, 200.0),
        turn("node", 1_000, 2.0, 210.0),
        turn("bare", 1_049_576, 9.0, 500.0),
        turn("bare", 1_049_576, 8.0, 500.0),
        turn("node", 1_049_576, 10.0, 610.0),
    ]
    result = bench_psi.summary(
        turns, [bench_psi.Other("slow", 1_000, 0.5), bench_psi.Other("fast", 1_000, 0.25)]
    )
    small, large = result["sizes"]
    assert (small["ratio"], large["ratio"], large["sent_mb"]) == (2.0, 1.25, 33.0)
    assert large["times"]["slow"] == pytest.approx(52.5, abs=0.1)
    assert large["times_best"] == large["times"]["fast"] == pytest.approx(26.2, abs=0.1)
    assert result["bytes_a_row"] == {"RR22": 400}


def test_memory_a_row_needs_two_sizes():
    sizes = bench_psi.summary(
        [turn("bare", 10, 1.0, 9.0), turn("node", 10, 1.0, 9.0)], [bench_psi.Other("x", 1, 1.0)]
    )["sizes"]
    assert bench_psi.growth(sizes, "RR22") is None


def test_plain_ecdh_finds_what_is_common_and_nothing_else():
    assert plain_ecdh.intersect(["a", "b", "c"], ["c", "x", "a"]) == ["a", "c"]


def test_the_tables_of_an_alignment_share_half_of_their_ids(tmp_path):
    held = []
    for path in bench_psi.make(100, tmp_path):
        with path.open(newline="", encoding="utf-8") as file:
            held.append([row["id"] for row in csv.DictReader(file)])
    assert [len(set(each)) for each in held] == [100, 100]
    assert len(set(held[0]) & set(held[1])) == 50


def test_a_packet_on_an_idle_line_takes_its_own_time_and_the_delay():
    sender = links.Sender(links.Line(delay_s=0.005, mbit_s=100.0))
    assert sender.send(1.0, 1250) == pytest.approx(1.0 + 0.0001 + 0.005)


def test_a_line_sends_one_packet_after_the_other_at_its_rate():
    sender = links.Sender(links.Line(delay_s=0.005, mbit_s=100.0))
    arrivals = [sender.send(1.0, 1250) for _ in range(80)]
    assert arrivals[-1] == pytest.approx(1.0 + 80 * 0.0001 + 0.005)
    assert sender.octets == 100_000


def test_a_full_queue_drops_and_takes_again_once_a_packet_has_left():
    sender = links.Sender(links.Line(queue_packets=2))
    assert None not in (sender.send(0.0, 1250), sender.send(0.0, 1250))
    assert sender.send(0.0, 1250) is None
    assert (sender.packets, sender.octets, sender.dropped) == (2, 2500, 1)
    assert sender.send(0.0001, 1250) is not None


def packet(*target):
    return bytes([0x45, *[0] * 15, *target])


def test_a_packet_goes_to_the_party_whose_address_it_bears_and_to_nobody_else():
    assert [links.target_of(packet(10, 211, 77, last), 2) for last in (1, 2)] == [0, 1]
    for stray in (packet(10, 211, 77, 0), packet(10, 211, 77, 3), packet(10, 211, 78, 1), b"", b"\x60" * 40):
        assert links.target_of(stray, 2) is None


def test_lines_are_refused_to_all_but_root_with_what_is_needed(monkeypatch):
    monkeypatch.setattr(links.os, "geteuid", lambda: 1000)
    with pytest.raises(links.LinksUnavailable, match="as root"):
        links.require_able()


def test_lines_are_refused_without_what_they_are_made_of(monkeypatch, tmp_path):
    monkeypatch.setattr(links.os, "geteuid", lambda: 0)
    monkeypatch.setattr(links.shutil, "which", lambda _name: None)
    with pytest.raises(links.LinksUnavailable, match="iproute2"):
        links.require_able()
    monkeypatch.setattr(links.shutil, "which", lambda name: f"/sbin/{name}")
    monkeypatch.setattr(links, "_TUN", tmp_path / "tun")
    with pytest.raises(links.LinksUnavailable, match="module `tun`"):
        links.require_able()


def test_only_namespaces_of_runs_that_are_gone_are_left_behind():
    mine, gone = f"sealtrace-bench-{os.getpid()}-0", "sealtrace-bench-99999999-1"
    names = [mine, gone, "sealtrace-bench-own", "other-99999999-0"]
    assert places.names_of_living("sealtrace-bench-", names) == ([mine], [gone])


def test_what_runs_at_no_place_of_its_own_runs_as_it_is():
    assert places.HERE.command(["true"]) == ["true"]
    assert places.Place("10.0.0.1", "a").command(["true"]) == ["ip", "netns", "exec", "a", "true"]


def far(side, seconds, sent, ran="same"):
    return bench_links.Turn("psi", side, 1_000, seconds, sent, ran)


def test_what_gateways_cost_over_a_line_is_held_against_the_goal():
    turns = [far("bare", 100.0, 40_000), far("node", 107.0, 41_000), far("node", 120.0, 41_000)]
    (found,) = bench_links.summary(turns, links.Line())["programs"]
    assert (found["cost_s"], found["goal_met"]) == (7.0, True)
    assert (found["bare_bytes_a_row"], found["node_bytes_a_row"]) == (40.0, 41.0)
    (found,) = bench_links.summary([turns[0], turns[2]], links.Line())["programs"]
    assert not found["goal_met"]


def test_two_sides_that_ran_different_things_are_not_compared():
    with pytest.raises(bench_links.NotTheSame):
        bench_links.summary([far("bare", 1.0, 1), far("node", 1.0, 1, "other")], links.Line())


def trained(side, seconds, ran="same"):
    return bench_models.Turn("glm", side, 1_000, seconds, 2.0, ran)


def test_what_the_way_through_nodes_costs_a_model_is_held_against_the_goal():
    turns = [trained("bare", 100.0), trained("bare", 130.0), trained("node", 106.9), trained("node", 150.0)]
    (found,) = bench_models.summary(turns)["models"]
    assert (found["ratio"], found["cost_s"], found["goal_met"]) == (1.07, 6.9, True)
    (found,) = bench_models.summary([turns[0], turns[3]])["models"]
    assert not found["goal_met"]


def test_two_sides_that_trained_different_programs_are_not_compared():
    with pytest.raises(bench_links.NotTheSame):
        bench_models.summary([trained("bare", 1.0), trained("node", 1.0, "other")])


def test_nine_applicants_of_ten_are_common_to_the_owners_of_a_model(tmp_path):
    held = []
    for path in bench_models.make(50, tmp_path):
        with path.open(newline="", encoding="utf-8") as file:
            held.append({row["id"] for row in csv.DictReader(file)})
    assert [len(each) for each in held] == [50, 50, 50]
    assert len(set.intersection(*held)) == 45


@pytest.mark.parametrize("name", bench_models.MODELS)
def test_a_benchmark_s_steps_are_such_as_their_algorithms_take(name, tmp_path):
    job = bench_models.job_of(bench_models.MODELS[name], 0, tmp_path / "bank.csv")
    assert set(checked_bundles(job)) == {"align", "prepared", "train"}


def test_the_owners_of_statistics_hold_the_same_ids_in_the_same_order(tmp_path):
    held = []
    for path in bench_links.amounts(50, tmp_path):
        with path.open(newline="", encoding="utf-8") as file:
            held.append([row["id"] for row in csv.DictReader(file)])
    assert len(held[0]) == 50
    assert held[0] == held[1] == held[2]


def test_without_root_the_benchmark_of_lines_says_what_it_needs(monkeypatch):
    monkeypatch.setattr(links.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["bench_links.py"])
    with pytest.raises(SystemExit, match=r"LinksUnavailable: .* as root"):
        bench_links.main()


def test_the_sandboxs_figures_are_medians_against_the_plain_command():
    def turns(*milliseconds):
        return [bench_sandbox.Turn(each / 1000, 0.001) for each in milliseconds]

    found = bench_sandbox.summary({"true": (turns(1, 2, 9), turns(10, 30, 20))}, 40.0)
    (row,) = found["commands"]
    assert (row["plain_ms"], row["sandbox_ms"], row["ratio"], row["added_ms"]) == (2.0, 20.0, 10.0, 18.0)
    assert (row["plain_cpu_ms"], row["sandbox_cpu_ms"]) == (1.0, 1.0)
    assert found["met"]
    assert not bench_sandbox.summary({"true": (turns(1), turns(102))}, 40.0)["met"]


def test_sealing_is_compared_with_the_fastest_peer_and_with_none_where_none_is_there():
    def turn(side, what, seconds):
        return bench_sealing.Turn(side, what, seconds, seconds / 2, 30.0)

    own = [turn("ours", "seal", 3.0), turn("ours", "seal", 2.0), turn("ours", "open", 4.0)]
    others = [turn("age", "seal", 4.0), turn("pyrage", "seal", 5.0), turn("age", "open", 2.0)]
    found = bench_sealing.summary(own + others, 1024)
    assert found["ratio"] == {"seal": 0.5, "open": 2.0}
    assert not found["met"]
    alone = bench_sealing.summary(own, 1024)
    assert (alone["ratio"], alone["met"]) == ({"seal": None, "open": None}, None)


def test_age_is_given_the_same_files_as_we_are():
    paths = [Path(each) for each in ("key", "from", "to")]
    assert bench_sealing.command("age", "open", *paths) == ["age", "-d", "-i", "key", "-o", "to", "from"]
    assert bench_sealing.command("ours", "seal", *paths)[-5:] == ["ours", "seal", "key", "from", "to"]


def test_a_plan_is_compared_by_all_bytes_and_by_the_party_that_it_misses_most():
    compared = bench_plan.Compared("stats", 10, (110, 60), (100, 100), 1.0, 2.0, 0.5, ("simulated",))
    assert compared.ratio == pytest.approx(0.85)
    assert compared.furthest == pytest.approx(0.6)
    (case,) = bench_plan.summary([compared], with_seconds=True)["cases"]
    assert (case["planned_bytes"], case["observed_bytes"], case["observed_s"]) == (170, 200, 2.0)
    (case,) = bench_plan.summary([compared], with_seconds=False)["cases"]
    assert "observed_s" not in case


def test_keyed_tables_share_just_the_rows_they_are_said_to(tmp_path):
    paths = bench_plan.keyed((30, 20, 25), 10, tmp_path / "tables")
    one, two, three = (set(path.read_text().split()[1:]) for path in paths)
    assert list(map(len, (one, two, three))) == [30, 20, 25]
    assert one & two == one & three == two & three
    assert len(one & two) == 10


def test_constants_are_found_again_in_what_runs_sent():
    sizes = bench_plan.PAIR_SIZES
    seen = [
        bench_plan.alone.Observed(
            (round(900 + 20 * max(rows) + 4 * common), 100 + 10 * rows[1]), (1, 1), (1.0, 1.0), 1.0, common
        )
        for rows, common in sizes
    ]
    found = bench_plan.fitted(sizes, seen, pair=True)
    receiver = {"fixed": 900, "own": 0, "other": 0, "largest": 20, "common": 4}
    sender = {"fixed": 100, "own": 10, "other": 0, "largest": 0, "common": 0}
    assert found == {"0": pytest.approx(receiver, abs=0.1), "1": pytest.approx(sender, abs=0.1)}


def test_owners_of_the_enclave_s_table_hold_the_columns_of_the_whole_one_in_its_rows(tmp_path):
    whole, tables = bench_enclave.make(30, 2, tmp_path)
    with whole.open(newline="") as file:
        expected = list(csv.DictReader(file))
    joined: list[dict[str, str]] = [{} for _ in expected]
    for _, path, columns in tables.values():
        with path.open(newline="") as file:
            for row, own in zip(joined, csv.DictReader(file), strict=True):
                assert set(own) == {"id", *columns}
                row.update(own)
    assert joined == expected
    assert len(expected) == 30


def test_the_enclave_s_goal_is_a_share_and_seconds_and_both_sides_come_to_the_same_loss():
    def summary(seconds: float, loss: float = 0.5) -> dict[str, object]:
        sides = bench_enclave.Side(100, 90, 1, 0.5), bench_enclave.Side(seconds, 99, 2, loss)
        return bench_enclave.summary(10, 2, 1000, *sides)

    assert summary(112.9)["goal_met"]
    assert not summary(113.1)["goal_met"]
    with pytest.raises(bench_enclave.NotTheSame):
        summary(100, loss=0.51)
