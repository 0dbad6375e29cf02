"""An organisation's record of processing, filled from its grants and tasks on the chain.

It has the columns of Art. 30(1) and (2) GDPR and the topics that a compliance audit under China's Personal
Information Protection Law asks for, and is made from a report alone. What the chain cannot know (whose data
it is, on what legal basis, for how long the original is kept) is an empty column, marked for the organisation
to fill: nothing is guessed.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sealtrace.auditor.times import utc
from sealtrace.protocol.canonical import NotCanonical, canonical, parse_canonical
from sealtrace.protocol.identifiers import Address
from sealtrace.protocol.spec import purpose_hash

VERSION: Final = "sealtrace.processing/1"
REPORT_VERSION: Final = "sealtrace.report/1"

OWNER: Final = "data owner"
REQUESTER: Final = "requester"
COMPUTES: Final = "computes for others"

TO_FILL: Final = "to be filled by the organisation"

WIPED: Final = "EV-D01"
"""The check that says whether a job's files were wiped."""

Json = dict[str, Any]


class OrganisationUnknown(LookupError):
    """The report knows no node of that address: take one from its annex, or audit a range that has it."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: what it is called, which clauses ask for it, and whether the chain can fill it."""

    name: str
    heading: str
    clauses: str
    known: bool = True


COLUMNS: Final = (
    Column("role", "Role in this processing", "GDPR 30(1), 30(2); PIPL 20, 21"),
    Column("purpose", "Purpose", "GDPR 30(1)(b); PIPL 6"),
    Column("basis", "Grant that allows it", "GDPR 5(2), 28(3)(a); PIPL 21, 23"),
    Column("grant_status", "Status of the grant", "GDPR 5(2); PIPL 15"),
    Column("on_behalf_of", "Whose data, or on whose behalf", "GDPR 30(2)(a); PIPL 21"),
    Column("dataset", "Dataset", "GDPR 30(1)(c)"),
    Column("data_class", "Class of the data (GB/T 43697)", "GDPR 30(1)(c); PIPL 51(2)"),
    Column("processing", "Algorithm that processes it", "GDPR 30(2)(b); PIPL 51"),
    Column("discloses", "Who learns what", "GDPR 30(1)(d); PIPL 23"),
    Column("recipients", "Recipients and other parties", "GDPR 30(1)(d); PIPL 23"),
    Column("time_limits", "Time limits and uses", "GDPR 30(1)(f); PIPL 19"),
    Column("security", "Security measures", "GDPR 30(1)(g), 32; PIPL 51"),
    Column("activities", "Processing activities", "GDPR 30(1), 30(2)(b); PIPL 54"),
    Column("destruction", "Destruction of working copies", "GDPR 30(1)(f); PIPL 21, 47"),
    Column(
        "contact",
        "Name and contact details, representative, data protection officer",
        "GDPR 30(1)(a); PIPL 52, 53",
        known=False,
    ),
    Column("legal_basis", "Legal basis or consent", "GDPR 6; PIPL 13, 14, 23", known=False),
    Column("data_subjects", "Categories of data subjects", "GDPR 30(1)(c)", known=False),
    Column(
        "personal_data",
        "Categories of personal data, sensitive ones named",
        "GDPR 30(1)(c), 9; PIPL 28",
        known=False,
    ),
    Column(
        "transfers",
        "Transfers abroad and their safeguards",
        "GDPR 30(1)(e), 30(2)(c); PIPL 38, 39",
        known=False,
    ),
    Column(
        "retention",
        "Retention of the original data and of results",
        "GDPR 30(1)(f); PIPL 19, 47",
        known=False,
    ),
    Column(
        "contracts", "Contract with processors or joint controllers", "GDPR 26, 28; PIPL 20, 21", known=False
    ),
    Column("assessment", "Impact assessment", "GDPR 35; PIPL 55, 56", known=False),
)


MAX_REPORT_BYTES: Final = 64 << 20
"""As a bundle's verifier allows."""


class ReportUnreadable(ValueError):
    """The file is no report.json of this version: write it with ``sealtrace audit run --format json``."""


def read_report(path: Path) -> Json:
    """The document that ``sealtrace audit run`` or a bundle has as report.json.

    Raises:
        ReportUnreadable: it cannot be read, is too large, or is another document.
    """
    try:
        if path.stat().st_size > MAX_REPORT_BYTES:
            raise ReportUnreadable(f"{path} has more than {MAX_REPORT_BYTES} bytes")
        read = parse_canonical(path.read_bytes().removesuffix(b"\n"), limit_bytes=MAX_REPORT_BYTES)
    except (OSError, NotCanonical) as cause:
        raise ReportUnreadable(f"{path}: {cause}") from cause
    if not isinstance(read, dict) or read.get("version") != REPORT_VERSION:
        raise ReportUnreadable(
            f"{path} is no {REPORT_VERSION}: write one with sealtrace audit run --format json"
        )
    return read


def processing(report: Json, organisation: Address, purposes: Iterable[str] = ()) -> Json:
    """The record of ``organisation`` from a report's document.

    A purpose is on the chain as its SHA-256; where one of ``purposes`` hashes to it, the record has its
    words.

    Raises:
        OrganisationUnknown: no node of the report has this address.
    """
    scope = report["scope"]
    found = rows(report, organisation, purposes)
    return {
        "version": VERSION,
        "organisation": organisation,
        "report_sha256": "0x" + hashlib.sha256(canonical(report) + b"\n").hexdigest(),
        "scope": {
            name: scope[name] for name in ("chain_id", "directory", "first_block", "last_block", "time")
        },
        "to_be_filled": [each.name for each in COLUMNS if not each.known],
        "rows": [row | {each.name: None for each in COLUMNS if not each.known} for row in found],
    }


def rows(report: Json, organisation: Address, purposes: Iterable[str] = ()) -> list[Json]:
    """What the chain knows for the record of ``organisation``: the columns that are known.

    Raises:
        OrganisationUnknown: as :func:`processing`.
    """
    if organisation not in {each["address"] for each in report["annex"]["nodes"]}:
        raise OrganisationUnknown(f"{organisation} is no node in this report: its annex lists them")
    source = _Source(
        report,
        organisation,
        {purpose_hash(text): text for text in purposes},
        _by_grant(report),
        {each["task"] for each in report["findings"] if each["rule"] == WIPED},
        any(each["rule"] == WIPED and not each["undetermined"] for each in report["controls"]),
    )
    return [*source.granted(), *source.computed()]


def organisations(report: Json) -> list[Address]:
    """The nodes of a report that own data, request or compute."""
    acting = {"owner", "requester", "compute"}
    return [each["address"] for each in report["annex"]["nodes"] if acting & set(each["roles"])]


@dataclass(frozen=True, slots=True)
class _Source:
    """A report as one organisation looks at it."""

    report: Json
    me: str
    purposes: Mapping[str, str]
    tasks: Mapping[str, Sequence[Json]]
    """The tasks under each grant."""
    kept: Set[str]
    """The tasks of which a party did not record that it wiped the job's files."""
    wiping_is_known: bool
    """Whether that could be told of every party of every task."""

    def granted(self) -> Iterator[Json]:
        """A row for every grant that it gave or was given."""
        for grant in self.report["annex"]["grants"]:
            for role, side in ((OWNER, "owner"), (REQUESTER, "requester")):
                if grant[side] == self.me:
                    yield self._of_grant(role, grant)

    def computed(self) -> Iterator[Json]:
        """A row for every task in which it computed on data of others."""
        for task in self.report["tasks"]:
            if self.me in task["parties"] and any(use["party"] != self.me for use in task["uses"]):
                yield self._of_task(task)

    def _of_grant(self, role: str, grant: Json) -> Json:
        tasks = self.tasks.get(grant["id"], [])
        parties = {party for task in tasks for party in task["parties"]}
        others = {grant["requester"], *grant["participants"], *parties} - {self.me, grant["owner"]}
        return {
            "role": role,
            "purpose": self._purpose(grant["purpose"]),
            "basis": [grant["id"], *(["approval of each task"] if grant["approval_required"] else [])],
            "grant_status": grant["status"],
            "on_behalf_of": [grant["owner"]],
            "dataset": [grant["dataset"]],
            "data_class": self._classes([grant["dataset"]]),
            "processing": [grant["algorithm"]],
            "discloses": self._discloses([grant["algorithm"]]),
            "recipients": sorted(others),
            "time_limits": [
                _window(grant),
                f"{grant['uses'] - grant['uses_left']} of {grant['uses']} uses spent",
            ],
            "security": [*grant["protections"], *_budget(grant)],
            "activities": [_activity(task) for task in tasks],
            "destruction": [self._destruction(task) for task in tasks],
        }

    def _of_task(self, task: Json) -> Json:
        theirs = [use for use in task["uses"] if use["party"] != self.me]
        algorithms = sorted({use["algorithm"] for use in theirs})
        datasets = sorted({use["dataset"] for use in theirs})
        return {
            "role": COMPUTES,
            "purpose": self._purpose(task["purpose"]),
            "basis": sorted({use["grant"] for use in theirs}),
            "grant_status": None,
            "on_behalf_of": sorted({use["party"] for use in theirs if use["party"]}),
            "dataset": datasets,
            "data_class": self._classes(datasets),
            "processing": algorithms,
            "discloses": self._discloses(algorithms),
            "recipients": sorted({task["requester"], *task["parties"]} - {self.me}),
            "time_limits": [f"until {utc(task['deadline'])}"],
            "security": [each["name"] for each in task["protections"]],
            "activities": [_activity(task)],
            "destruction": [self._destruction(task)],
        }

    def _purpose(self, digest: str) -> str:
        return self.purposes.get(digest, f"SHA-256 {digest}")

    def _classes(self, datasets: Iterable[str]) -> list[str]:
        known = {each["id"]: each["class"] for each in self.report["annex"]["datasets"]}
        return sorted({known[each] for each in datasets if each in known})

    def _discloses(self, algorithms: Iterable[str]) -> list[str]:
        known = {each["algorithm"]: each["learns"] or [] for each in self.report["disclosures"]}
        return [f"{line['role']}: {line['what']}" for each in algorithms for line in known.get(each, [])]

    def _destruction(self, task: Json) -> str:
        """What the audit found of the wiping of this task's working copies, by all of its parties."""
        if not any(event["event"] == "started" for event in task["events"]):
            return f"{task['id']}: nothing ran"
        if task["id"] in self.kept:
            return f"{task['id']}: not recorded by every party"
        if not self.wiping_is_known:
            return f"{task['id']}: cannot be told from the logs that were read"
        return f"{task['id']}: recorded by every party"


def lines(value: str | Sequence[str] | None) -> list[str]:
    """What stands in a cell, line by line."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def _by_grant(report: Json) -> Mapping[str, Sequence[Json]]:
    found: dict[str, list[Json]] = defaultdict(list)
    for task in report["tasks"]:
        for grant in {use["grant"] for use in task["uses"]}:
            found[grant].append(task)
    return found


def _window(grant: Json) -> str:
    end = utc(grant["expires_at"])
    return f"from {utc(grant['not_before'])} to {end}" if grant["not_before"] else f"until {end}"


def _budget(grant: Json) -> list[str]:
    epsilon = grant["epsilon_millionths"]
    return [f"privacy budget of {epsilon} millionths, {grant['epsilon_left']} left"] if epsilon else []


def _activity(task: Json) -> str:
    """A task with its dates and how it ended."""
    times = [event["time"] for event in task["events"]]
    when = f"from {utc(times[0])} to {utc(times[-1])}" if times else "no event"
    return f"{task['id']}: {task['state']}, {when}"
