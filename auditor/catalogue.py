"""docs/checks.md, made from the checks' docstrings."""

from __future__ import annotations

from itertools import groupby

from sealtrace.auditor.checks import Check, catalogue
from sealtrace.auditor.frameworks import NAMES, frameworks

_FAMILIES = {
    "EV": "Node logs against the chain",
    "PR": "What the endpoint told against the blocks",
    "ST": "State and rules on the chain",
}

_FRAMEWORKS = """
## Which clauses a check speaks to

A check helps to show that a clause is met; no check alone shows it. GDPR: Regulation (EU) 2016/679. PIPL:
Personal Information Protection Law of the PRC. ISO 27001: Annex A of ISO/IEC 27001:2022. NIST 800-53: SP
800-53 revision 5. The same clauses stand beside each control in every report.

"""

_HEAD = """\
# What the auditor checks

Made from the docstrings by `sealtrace audit checks --markdown`; a test holds this page to them.

Each check asserts one sentence of every object it looks at and says *satisfied*, *violated* or *undetermined*
with what is missing. Undetermined never counts as satisfied: an audit without findings in which a critical
check is undetermined ends with exit code 2, "cannot tell". All facts are replayed from the chain's events;
the rules (`why_denied`, the lifecycle table) are the ones that the contracts and the nodes follow.
"""


def markdown() -> str:
    """The whole page."""
    families = groupby(catalogue(), key=lambda check: check.rule[:2])
    return _HEAD + "".join(_family(name, list(checks)) for name, checks in families) + _clauses()


def _family(name: str, checks: list[Check]) -> str:
    rows = "".join(map(_row, checks))
    head = "| rule | asserts | severity | looks at |\n| --- | --- | --- | --- |\n"
    return f"\n## {_FAMILIES[name]}\n\n{head}{rows}"


def _clauses() -> str:
    head = f"| rule | {' | '.join(NAMES)} |\n|{' --- |' * (1 + len(NAMES))}\n"
    told = ((each.rule, *map(", ".join, frameworks(each.rule).values())) for each in catalogue())
    return _FRAMEWORKS + head + "".join(f"| {' | '.join(cells)} |\n" for cells in told)


def _row(check: Check) -> str:
    words = f"{check.sentence} {check.remarks}".strip()
    return f"| {check.rule} | {words} | {check.severity.value} | {', '.join(check.needs)} |\n"
