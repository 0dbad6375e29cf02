"""Whether the audit finds every violation and nothing else, in made-up histories with seeded violations.

Histories of hundreds of tasks of all endings, with violations of every kind at places of the seed, alone and
several in one task: on the chain, in nodes' logs, in storage, in what the endpoint told. The baseline is what
was injected. *Recall* is the share of injected violations for which there is a finding of their rule at their
place, *precision* the share of findings that an injected violation explains. Honest histories of as many
tasks must have no finding at all.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from measuring import machine, options, progress, report, table
from violations import FAULTS, LAST, History, Injected, history

from sealtrace.auditor.audit import audit
from sealtrace.auditor.findings import Finding

GOAL_INJECTED = 2_000


@dataclass(frozen=True, slots=True)
class Judged:
    """One history and what the audit said of it."""

    history: History
    findings: tuple[Finding, ...]
    undetermined: int
    seconds: float

    @property
    def missed(self) -> list[Injected]:
        """Injected violations that were not found."""
        return self.history.missed(self.findings)

    @property
    def unexplained(self) -> list[Finding]:
        """Findings that no injected violation explains."""
        return self.history.unexplained(self.findings)


def main() -> None:
    """Make histories, audit them, count; exit code 1 where anything was missed or invented."""
    parser = options(__doc__)
    parser.add_argument("--histories", type=int, default=40, help="with violations (default: 40)")
    parser.add_argument("--honest", type=int, default=10, help="without any (default: 10)")
    parser.add_argument("--episodes", type=int, default=300, help="of each history (default: 300)")
    parser.add_argument("--faults", type=int, default=55, help="episodes with violations (default: 55)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    about = machine()
    judged = [
        _judged(seed, arguments.episodes, arguments.faults)
        for seed in range(arguments.seed, arguments.seed + arguments.histories)
    ]
    honest = [_judged(-seed, arguments.episodes, 0) for seed in range(1, arguments.honest + 1)]
    result = summary(judged, honest) | {"machine": about}
    report(result, _tables(result), as_json=arguments.json)
    sys.exit(0 if result["recall"] == result["precision"] == 1.0 and not result["honest_findings"] else 1)


def _judged(seed: int, episodes: int, faults: int) -> Judged:
    made = history(seed, episodes, faults)
    began = time.perf_counter()
    done = audit(made.case)
    seconds = time.perf_counter() - began
    progress(
        f"history {seed}: {made.tasks} tasks, {len(made.injected)} violations, {len(done.findings)} findings"
    )
    return Judged(made, done.findings, sum(row.undetermined for row in done.rows), seconds)


def summary(judged: Sequence[Judged], honest: Sequence[Judged]) -> dict[str, Any]:
    """The result for machines."""
    injected = [each for one in judged for each in one.history.injected]
    missed = [each for one in judged for each in one.missed]
    findings = [each for one in judged for each in one.findings]
    unexplained = [each for one in judged for each in one.unexplained]
    return {
        "benchmark": "violations",
        "baseline": "what was injected",
        "goal": {"injected": GOAL_INJECTED, "recall": 1.0, "precision": 1.0, "honest_findings": 0},
        "histories": len(judged),
        "tasks": sum(one.history.tasks for one in judged),
        "injected": len(injected),
        "kinds": len({each.name for each in injected}),
        "kinds_known": len(FAULTS) + len(LAST),
        "rules": len({each.rule for each in injected}),
        "found": len(injected) - len(missed),
        "recall": _share(len(injected) - len(missed), len(injected)),
        "findings": len(findings),
        "explained": len(findings) - len(unexplained),
        "precision": _share(len(findings) - len(unexplained), len(findings)),
        "missed": _counted(each.name for each in missed),
        "unexplained": _counted(each.rule for each in unexplained),
        "honest_histories": len(honest),
        "honest_tasks": sum(one.history.tasks for one in honest),
        "honest_findings": sum(len(one.findings) for one in honest),
        "honest_undetermined": sum(one.undetermined for one in honest),
        "by_rule": _counted(each.rule for each in injected),
        "audit_s": round(sum(one.seconds for one in [*judged, *honest]), 1),
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _tables(result: dict[str, Any]) -> list[Any]:
    rows = [
        ["violations injected", f"{result['injected']:,}"],
        ["of them found", f"{result['found']:,}"],
        ["recall", f"{result['recall']:.2%}"],
        ["findings", f"{result['findings']:,}"],
        ["of them explained", f"{result['explained']:,}"],
        ["precision", f"{result['precision']:.2%}"],
        ["honest histories", f"{result['honest_histories']:,}"],
        ["findings in them", f"{result['honest_findings']:,}"],
    ]
    title = (
        f"{result['histories']} histories, {result['tasks']:,} tasks, {result['kinds']} kinds of violation"
    )
    rules = [[rule, f"{count:,}"] for rule, count in result["by_rule"].items()]
    lines = [f"missed: {result['missed']}", f"unexplained: {result['unexplained']}"]
    goal = f"goal: {GOAL_INJECTED:,} injected, all found, nothing else; audits took {result['audit_s']} s"
    wrong = lines if result["missed"] or result["unexplained"] else []
    return [table(title, ["", ""], rows), table("Injected, by rule", ["rule", ""], rules), *wrong, goal]


if __name__ == "__main__":
    main()
