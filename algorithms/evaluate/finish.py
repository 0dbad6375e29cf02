"""What the requester makes of the opened sums: divide and name them. Values are JSON."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .declared import Plan, Scores

Opened = Mapping[str, Any]
NO_SPREAD = 1e-10  # a row's share of the squared spread below which a target counts as constant


def finished(plan: Plan, scores: Scores, opened: Opened) -> dict[str, Any]:
    """Each metric by its name, the number of rows, and ``suppressed``: why metrics are ``null``."""
    made = {name: np.asarray(each) for name, each in opened.items()}
    return {"rows": scores.rows, **(_of_classes if scores.of_classes else _of_numbers)(plan, scores, made)}


def _of_numbers(plan: Plan, scores: Scores, made: Opened) -> dict[str, Any]:
    total = float(made["weight"]) if scores.weighted else float(scores.rows)
    if not total > 0:
        return {
            **dict.fromkeys(plan.metrics),
            "suppressed": dict.fromkeys(plan.metrics, "no row has weight"),
        }
    found: dict[str, Any] = {}
    why: dict[str, str] = {}
    for each in plan.metrics:
        if each == "rmse":
            found[each] = math.sqrt(max(0.0, float(made["squared"]) / total)) * scores.half
        elif each == "mae":
            found[each] = float(made["absolute"]) / total * scores.half
        elif each == "poisson_deviance":
            found[each] = 2 * float(made["deviance"]) / total
        elif float(made["spread"]) / total > NO_SPREAD:
            found[each] = 1.0 - float(made["squared"]) / float(made["spread"])
        else:
            found[each], why[each] = None, "the target is the same in all rows"
    return {**found, "suppressed": why}


def _of_classes(plan: Plan, scores: Scores, made: Opened) -> dict[str, Any]:
    events, others = float(made["events"]), float(made["others"])
    if not (events > 0 and others > 0):
        why = f"there are fewer than {plan.min_group} rows of one class"
        why += ", or its rows have no weight" if scores.weighted else ""
        return {"events": None, **dict.fromkeys(plan.metrics), "suppressed": dict.fromkeys(plan.metrics, why)}
    found = {"events": events, "others": others, **_shares(plan, made, events, others)}
    suppressed: dict[str, str] = {}
    if "confusion" in plan.metrics:
        found["confusion"] = _confusion(plan, made["cells"].astype(np.float64))
        if found["confusion"] is None:
            suppressed["confusion"] = f"a cell has rows, but fewer than {plan.min_group}"
    edges = plan.edges(scores.rows)
    if "gains" in plan.metrics:
        found["gains"] = _gains(made, edges, events, others)
    if "calibration" in plan.metrics:
        found["calibration"] = _calibration(made, edges)
    return {**found, "suppressed": suppressed}


def _shares(plan: Plan, made: Opened, events: float, others: float) -> dict[str, Any]:
    """The metrics that are one number."""
    found: dict[str, Any] = {}
    if "auc" in plan.metrics:
        found["auc"] = float(made["area"]) / 2 / (events * others)
    if "ks" in plan.metrics:
        found["ks"] = float(made["gap"]) / (events * others)
    if "log_loss" in plan.metrics:
        found["log_loss"] = float(made["log_loss"]) / (events + others)
    return found


def _confusion(plan: Plan, cells: Any) -> dict[str, Any] | None:
    (tn, fn), (fp, tp) = cells.tolist()
    total = tn + fn + fp + tp
    if not total > 0:
        return None
    shown = {
        "threshold": plan.threshold,
        "true_positive": tp,
        "false_positive": fp,
        "true_negative": tn,
        "false_negative": fn,
    }
    ratios = {
        "accuracy": (tp + tn) / total,
        "precision": _ratio(tp, tp + fp),
        "recall": _ratio(tp, tp + fn),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
    }
    return shown | ratios


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def _gains(made: Opened, edges: list[int], events: float, others: float) -> list[dict[str, Any]]:
    """Bins from the highest scores on; what is cumulative ends at the first suppressed bin."""
    overall = events / (events + others)
    found, captured = [], 0.0
    for row, of_events, of_others in _bins(made, edges):
        if row["suppressed"]:
            captured = math.nan
            found.append({**row, "events": None, "rate": None, "lift": None, "captured": None})
            continue
        captured += of_events
        rate = _ratio(of_events, of_events + of_others)
        lift = None if rate is None else rate / overall
        known = None if math.isnan(captured) else captured / events
        found.append({**row, "events": of_events, "rate": rate, "lift": lift, "captured": known})
    return found


def _calibration(made: Opened, edges: list[int]) -> list[dict[str, Any]]:
    """Bins from the highest scores on: mean score and share of events, both weighted."""
    found = []
    for (row, of_events, of_others), total in zip(
        _bins(made, edges), made["bin_scores"].tolist(), strict=True
    ):
        count = of_events + of_others
        found.append({**row, "mean_score": _ratio(total, count), "rate": _ratio(of_events, count)})
    return found


def _bins(made: Opened, edges: list[int]) -> list[tuple[dict[str, Any], float, float]]:
    parts = (made[f"bin_{each}"].tolist() for each in ("kept", "events", "others"))
    return [
        ({"bin": at + 1, "rows": edges[at + 1] - edges[at], "suppressed": not kept}, float(e), float(o))
        for at, (kept, e, o) in enumerate(zip(*parts, strict=True))
    ]
