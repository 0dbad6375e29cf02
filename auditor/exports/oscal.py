"""The report as NIST OSCAL assessment results (model 1.2.1), for tools of governance and compliance.

A check is a control, and its sentence the control's objective. Each check gives one observation of what it
looked at. A violation gives an observation and a finding that is ``not-satisfied``; a check that held for all
it looked at gives a finding that is ``satisfied``. What could not be determined gives observations alone:
OSCAL knows no third state, and it must never count as a pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final
from uuid import UUID, uuid5

from sealtrace.auditor.report import Json, to_json
from sealtrace.auditor.times import moment
from sealtrace.protocol.canonical import canonical, sha256

OSCAL_VERSION: Final = "1.2.1"

NAMESPACE: Final = "urn:sealtrace:audit"
"""The namespace of our properties."""

_SPACE: Final = UUID("6f0d6a52-6f3c-5b0a-9f0e-3d9a2c4b7e11")
"""What every uuid5 here starts from."""

_MARKUP: Final = re.compile(r"([\\`*_\[\]<>#&|~$^!])")

_PROPERTY: Final = re.compile(r"\S(.*\S)?")
"""What the model allows as a property's value: one line, no space at its ends."""


def to_oscal(report: Json) -> bytes:
    """The assessment results in canonical JSON and a newline. The same report has the same identifiers."""
    return canonical({"assessment-results": _Results(report).document()}) + b"\n"


def markup(text: str) -> str:
    """``text`` for a field that OSCAL reads as Markdown: what a party wrote must not become a link."""
    return _MARKUP.sub(r"\\\1", text)


class _Results:
    """One report's way into the model."""

    def __init__(self, report: Json) -> None:
        self._report = report
        self._digest = sha256(to_json(report))
        self._time = moment(report["scope"]["time"]).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._scope = report["scope"]

    def document(self) -> Json:
        name = f"Sealtrace audit of chain {self._scope['chain_id']}, up to block {self._scope['last_block']}"
        return {
            "uuid": self._uuid("results"),
            "metadata": {
                "title": name,
                "last-modified": self._time,
                "version": self._digest[2:],
                "oscal-version": OSCAL_VERSION,
                "remarks": "Times are block times. The version is the SHA-256 of report.json.",
            },
            "import-ap": {"href": f"#{self._uuid('plan')}"},
            "results": [self._result(name)],
            "back-matter": {"resources": [self._plan(), self._source()]},
        }

    def _result(self, name: str) -> Json:
        controls, findings = self._report["controls"], self._report["findings"]
        nodes = sorted({each["node"] for each in findings if each["node"]})
        told = {
            "uuid": self._uuid("result"),
            "title": name,
            "description": markup(self._report["verdict"]["sentence"]),
            "start": self._time,
            "end": self._time,
            "props": self._properties({"verdict": self._report["verdict"]["result"]}),
            "reviewed-controls": {
                "control-selections": [{"include-controls": [{"control-id": c["rule"]} for c in controls]}],
                "control-objective-selections": [
                    {"include-objectives": [{"objective-id": _objective(c["rule"])} for c in controls]}
                ],
            },
            "attestations": [{"parts": list(self._attested())}],
            "observations": [
                *map(self._looked, controls),
                *map(self._seen, findings),
                *self._unsure(controls),
            ],
            "findings": [*map(self._violated, findings), *map(self._held, filter(_holds, controls))],
        }
        if nodes:
            told["local-definitions"] = {"components": [self._component(each) for each in nodes]}
        return {key: value for key, value in told.items() if value}

    def _looked(self, control: Json) -> Json:
        """What one check looked at, in numbers."""
        numbers = {name: control[name] for name in ("satisfied", "violated", "undetermined")}
        words = ", ".join(f"{value} {name}" for name, value in numbers.items())
        told = self._observation(
            f"control {control['rule']}", control["rule"], f"{words}.", "control-objective"
        )
        properties = {"rule": control["rule"], "severity": control["severity"], **numbers}
        return told | {"props": self._properties(properties)}

    def _seen(self, finding: Json) -> Json:
        """What was seen where a check did not hold."""
        told = self._observation(f"seen {finding['id']}", finding["rule"], finding["explanation"], "finding")
        names = ("rule", "severity", "id", "object", "task", "block", "transaction", "log_index", "evidence")
        told["props"] = self._properties({name: finding[name] for name in names})
        told["relevant-evidence"] = [
            {"href": f"#{self._uuid('report')}", "description": "The finding in report.json, by its id."}
        ]
        told["remarks"] = markup(
            f"Object: {finding['object']}\n\nExpected: {finding['expected']}\n\n"
            f"Observed: {finding['observed']}\n\nLook again: {finding['recheck']}"
        )
        if finding["node"]:
            told["subjects"] = [{"subject-uuid": self._uuid(f"node {finding['node']}"), "type": "component"}]
        return told

    def _unsure(self, controls: Sequence[Json]) -> Iterator[Json]:
        """What could not be determined and why: observations that no finding relates to."""
        for control in controls:
            for index, missing in enumerate(control["missing"]):
                text = f"{missing['count']} undetermined: {missing['what']}"
                told = self._observation(
                    f"missing {control['rule']} {index}", control["rule"], text, "undetermined"
                )
                properties = {"rule": control["rule"], "undetermined": missing["count"]}
                yield told | {"props": self._properties(properties)}

    def _observation(self, name: str, rule: str, text: str, kind: str) -> Json:
        return {
            "uuid": self._uuid(name),
            "title": rule,
            "description": markup(text),
            "methods": ["TEST"],
            "types": [kind],
            "collected": self._time,
        }

    def _violated(self, finding: Json) -> Json:
        status = {"state": "not-satisfied", "reason": "fail"}
        seen = [f"control {finding['rule']}", f"seen {finding['id']}"]
        return self._finding(finding["id"], finding["rule"], finding["explanation"], status, seen)

    def _held(self, control: Json) -> Json:
        status, rule = {"state": "satisfied", "reason": "pass"}, control["rule"]
        return self._finding(f"held {rule}", rule, control["sentence"], status, [f"control {rule}"])

    def _finding(self, name: str, rule: str, text: str, status: Json, seen: Sequence[str]) -> Json:
        return {
            "uuid": self._uuid(f"finding {name}"),
            "title": rule,
            "description": markup(text),
            "target": {"type": "objective-id", "target-id": _objective(rule), "status": status},
            "related-observations": [{"observation-uuid": self._uuid(each)} for each in seen],
        }

    def _component(self, node: str) -> Json:
        return {
            "uuid": self._uuid(f"node {node}"),
            "type": "software",
            "title": node,
            "description": "A node, by its address on the chain.",
            "status": {"state": "operational", "remarks": "Whether it works is not asked here."},
        }

    def _attested(self) -> Iterator[Json]:
        proof, scope = self._report["proof"], self._scope
        yield _part("proof-level", f"Level {proof['level']}. {proof['meaning']} {proof['why_not_more']}")
        yield _part(
            "chain-anchor",
            f"Chain {scope['chain_id']}, directory {scope['directory']}, blocks {scope['first_block']} to "
            f"{scope['last_block']}, of which the last has the hash {scope['last_hash']}.",
        )
        for each in self._report["not_checked"]:
            yield _part("not-checked", each)

    def _source(self) -> Json:
        link = {"href": "report.json", "media-type": "application/json"}
        return {
            "uuid": self._uuid("report"),
            "title": "The report that this was made from",
            "rlinks": [link | {"hashes": [{"algorithm": "SHA-256", "value": self._digest[2:]}]}],
        }

    def _plan(self) -> Json:
        return {
            "uuid": self._uuid("plan"),
            "title": "The catalogue of checks",
            "description": markup(
                "\n\n".join(f"{each['rule']}: {each['sentence']}" for each in self._report["controls"])
            )
            or "No check was applied.",
        }

    def _properties(self, values: Json) -> list[Json]:
        """Those of ``values`` that there are and that the model allows as properties."""
        return [
            {"name": name.replace("_", "-"), "ns": NAMESPACE, "value": str(value)}
            for name, value in values.items()
            if value is not None and _PROPERTY.fullmatch(str(value))
        ]

    def _uuid(self, name: str) -> str:
        return str(uuid5(_SPACE, f"{self._digest} {name}"))


def _holds(control: Json) -> bool:
    """Whether the check held for all that it looked at, and looked at something."""
    return bool(control["satisfied"]) and not (control["violated"] or control["undetermined"])


def _objective(rule: str) -> str:
    return f"{rule}_obj"


def _part(name: str, prose: str) -> Json:
    return {"name": name, "ns": NAMESPACE, "prose": markup(prose)}
