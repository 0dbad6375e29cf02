"""What a plan expects of a small step, against what the parties' gateways count when it runs."""

from __future__ import annotations

import pytest

pytest.importorskip("spu")

from engine_network import ID, NAMES, Party3, network, opened, steps, write_csv

from sealtrace.algorithms.estimating import meeting, mpc_cost
from sealtrace.algorithms.sampling import SampledStep, sampled

ROWS = 300
PARAMS = {
    "columns": {name: {"input": name, "column": "amount", "kind": "number"} for name in NAMES},
    "requests": {
        "linked": {"measure": "correlation", "of": list(NAMES)},
        "each": {"measure": "summary", "of": list(NAMES), "statistics": ["mean", "variance"]},
    },
    "min_group": 5,
}

pytestmark = pytest.mark.timeout(240)


def test_the_bytes_planned_for_a_step_are_within_a_fifth_of_what_gateways_count(tmp_path):
    step = steps()[1].model_copy(update={"after": (), "params": PARAMS})
    planned = SampledStep(
        id=step.id,
        bundle=step.bundle,
        algorithm=step.algorithm,
        protocol=step.protocol,
        computing=3,
        inputs=dict.fromkeys(NAMES, ROWS),
        params=PARAMS,
    )
    samples = sampled([planned], 200).samples[step.id]
    cost = mpc_cost(ROWS, samples, {name: at for at, name in enumerate(NAMES)}, 3)
    expected = [a + b for a, b in zip(meeting(3).sent, cost.sent, strict=True)]

    paths = {name: tmp_path / f"{name}.csv" for name in NAMES}
    for at, path in enumerate(paths.values()):
        cells = [[f"{row}", f"{(7 * row + at) % 101}"] for row in range(ROWS)]
        write_csv(path, [ID, "amount"], cells)
    common = {"steps": (step,), "columns": {name: ["amount"] for name in NAMES}}
    with network(tmp_path) as net:
        run = Party3(net, net.new_task(), paths, common=common, deadline_s=200)
        results = run.run()
        assert opened(net, results, step)["rows"] == ROWS
    counted = [
        sum(peer["sent_bytes"] for peer in each.transcript["traffic"])  # type: ignore[union-attr]
        for each in results
    ]
    assert expected == [pytest.approx(each, rel=0.2) for each in counted]
