"""What the requester makes of the opened numbers: divide, scale and name them. Values are JSON."""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .declared import Plan, Request
from .ranges import FRACTION_BITS, Ranges, scale_exponent

Opened = Mapping[str, Any]


class Scales:
    """What a code stands for: value = low + code x unit."""

    def __init__(self, plan: Plan, ranges: Ranges, exponents: Mapping[str, int]) -> None:
        self.low = {name: each.low or 0.0 for name, each in plan.columns.items()}
        self.unit = dict.fromkeys(plan.columns, 1.0)
        for name, each in plan.columns.items():
            if each.kind == "number":
                exponent = exponents.get(name, scale_exponent(each))
                self.unit[name] = math.ldexp(1.0, exponent - ranges.code_bits)


def finished(plan: Plan, ranges: Ranges, rows: int, opened: Opened) -> dict[str, Any]:
    """The result of each request by its name, and the number of rows."""
    exponents = {each: int(np.ravel(opened[f"scale/{each}"])[0]) for each in plan.unbounded()}
    scales = Scales(plan, ranges, exponents)
    result: dict[str, Any] = {"rows": rows}
    for name, request in plan.requests.items():
        parts = {part: np.asarray(opened[f"{name}/{part}"]) for part in plan.parts(request)}
        for part in ("centred", "spread"):
            if part in parts:
                parts[part] = np.ldexp(parts[part], FRACTION_BITS["FM128"])
        result[name] = FINISH[request.measure](plan, request, parts, scales, rows)
    return result


Parts = Mapping[str, Any]


def _summary(plan: Plan, request: Request, parts: Parts, scales: Scales, _rows: int) -> list[dict[str, Any]]:
    found = []
    for group, keys in enumerate(_groups(plan, request)):
        count = int(parts["rows"][group])
        row: dict[str, Any] = {"by": dict(zip(request.by, keys, strict=True))} if request.by else {}
        row |= {"count": count or None, "suppressed": count == 0}
        for at, name in enumerate(request.of):
            row[name] = _of_column(plan, request, parts, scales, (group, at)) if count else None
        found.append(row)
    return found


def _groups(plan: Plan, request: Request) -> list[tuple[str, ...]]:
    return list(itertools.product(*(plan.columns[each].keys for each in request.by)))


def _of_column(
    plan: Plan, request: Request, parts: Parts, scales: Scales, place: tuple[int, int]
) -> dict[str, Any] | None:
    """One column's statistics in one group; ``None`` where too few of its rows are known."""
    count = int(parts["known"][place] if "known" in parts else parts["rows"][place[0]])
    name = request.of[place[1]]
    low, unit = scales.low[name], scales.unit[name]
    if not count:
        return None
    found: dict[str, Any] = {"count": count} if "known" in parts else {}
    if "sum" in parts:
        raised = float(parts["sum"][place]) * unit
        found |= {"sum": raised + count * low, "mean": low + raised / count}
    if "centred" in parts:
        variance = max(0.0, float(parts["centred"][place]) / (count * (count - 1)) * unit**2)
        found |= {"variance": variance, "deviation": math.sqrt(variance)}
    found |= {each: low + float(parts[each][place]) * unit for each in ("min", "max") if each in parts}
    found = {each: found[each] for each in ("count", *request.statistics) if each in found}
    for at, share in enumerate(request.quantiles):
        found[f"q{share:g}"] = low + float(parts["quantiles"][(at, *place)]) * unit
    return found


def _histogram(
    plan: Plan, request: Request, parts: Parts, _scales: Scales, _rows: int
) -> list[dict[str, Any]]:
    *by, bins = request.by
    found = []
    for keys, count in zip(_groups(plan, request), parts["rows"].tolist(), strict=True):
        row: dict[str, Any] = {"by": dict(zip(by, keys[:-1], strict=True))} if by else {}
        found.append({**row, bins: keys[-1], "count": count or None, "suppressed": not count})
    return found


def _covariance(_plan: Plan, request: Request, parts: Parts, scales: Scales, rows: int) -> dict[str, Any]:
    units = np.array([scales.unit[each] for each in request.of])
    counts = parts.get("rows", np.full(parts["centred"].shape, rows)).astype(np.float64)
    known = counts > 1
    covariance = parts["centred"] / np.where(known, counts * (counts - 1), 1.0) * np.outer(units, units)
    return {"columns": list(request.of), "matrix": _matrix(covariance, known)}


def _correlation(_plan: Plan, request: Request, parts: Parts, _scales: Scales, _rows: int) -> dict[str, Any]:
    centred = parts["centred"]
    spread = parts["spread"] if "spread" in parts else np.diag(centred)[:, None] * np.ones(centred.shape)
    known = (spread > 0) & (spread.T > 0)
    size = np.sqrt(np.where(known, spread, 1.0)) * np.sqrt(np.where(known, spread.T, 1.0))
    return {"columns": list(request.of), "matrix": _matrix(np.clip(centred / size, -1.0, 1.0), known)}


def _matrix(values: Any, known: Any) -> list[list[float | None]]:
    pairs = zip(values.tolist(), known.tolist(), strict=True)
    return [[value if shown else None for value, shown in zip(*pair, strict=True)] for pair in pairs]


def _chi_square(_plan: Plan, _request: Request, parts: Parts, _scales: Scales, rows: int) -> dict[str, Any]:
    from scipy import special

    count, degrees = int(parts["rows"]), int(parts["degrees"])
    if not count:
        return {"rows": None, "suppressed": True}
    statistic = max(0.0, float(parts["statistic"])) * 4.0 ** rows.bit_length() / count
    p_value = float(special.chdtrc(degrees, statistic)) if degrees else 1.0
    found = {"statistic": statistic, "degrees_of_freedom": degrees, "p_value": p_value}
    return {"rows": count, "suppressed": False, **found}


def _t_test(_plan: Plan, request: Request, parts: Parts, scales: Scales, _rows: int) -> dict[str, Any]:
    from scipy import special

    name = request.of[0]
    counts = parts["rows"][:, 0].astype(np.float64)
    if not counts.all():
        return {"groups": list(request.pair), "suppressed": True}
    means = scales.low[name] + parts["sum"][:, 0] * scales.unit[name] / counts
    variances = np.maximum(parts["centred"][:, 0], 0.0) / (counts * (counts - 1)) * scales.unit[name] ** 2
    degrees, error = (_pooled if request.equal_variances else _welch)(counts, variances)
    found: dict[str, Any] = {
        "groups": list(request.pair),
        "suppressed": False,
        "rows": counts.astype(int).tolist(),
    }
    found |= {"means": means.tolist(), "variances": variances.tolist(), "degrees_of_freedom": degrees}
    if not error > 0:
        return {**found, "statistic": None, "p_value": None}
    statistic = float(means[0] - means[1]) / error
    return {**found, "statistic": statistic, "p_value": 2.0 * float(special.stdtr(degrees, -abs(statistic)))}


def _welch(counts: Any, variances: Any) -> tuple[float, float]:
    """Degrees of freedom (Welch and Satterthwaite), and the standard error of the difference."""
    errors = variances / counts
    total = float(errors.sum())
    below = float((errors**2 / (counts - 1)).sum())
    return (total**2 / below if below > 0 else 0.0), math.sqrt(total)


def _pooled(counts: Any, variances: Any) -> tuple[float, float]:
    degrees = float(counts.sum() - 2)
    pooled = float(((counts - 1) * variances).sum()) / degrees
    return degrees, math.sqrt(pooled * float((1 / counts).sum()))


def _stability(plan: Plan, request: Request, parts: Parts, _scales: Scales, _rows: int) -> dict[str, Any]:
    """Over the bins that both samples fill enough; the others' rows are left out of the shares as well."""
    counts = parts["rows"].astype(np.float64)
    kept = counts[:, 0] > 0
    shares = counts / np.maximum(counts.sum(axis=0), 1.0)
    ratio = np.log(np.where(kept[:, None], shares, 1.0))
    index = (shares[:, 1] - shares[:, 0]) * (ratio[:, 1] - ratio[:, 0])
    bins = []
    for at, key in enumerate(plan.columns[request.of[0]].keys):
        shown = [int(each) if kept[at] else None for each in counts[at]]
        part = float(index[at]) if kept[at] else None
        bins.append(
            {"bin": key, "expected": shown[0], "actual": shown[1], "index": part, "suppressed": not kept[at]}
        )
    bins = [{**each, "suppressed": bool(each["suppressed"])} for each in bins]
    return {
        "index": float(index.sum()) if kept.any() else None,
        "suppressed_bins": int((~kept).sum()),
        "bins": bins,
    }


def _woe(plan: Plan, request: Request, parts: Parts, _scales: Scales, _rows: int) -> dict[str, Any]:
    """Over the bins with enough rows; the others' rows are left out of the totals as well."""
    rows, events = parts["rows"].astype(np.float64), parts["events"].astype(np.float64)
    kept = rows > 0
    counts = np.stack([events, rows - events])[:, kept] + request.smoothing
    totals = counts.sum(axis=1, keepdims=True)
    known = (counts > 0).all(axis=0)
    shares = np.where(counts > 0, counts / np.where(totals > 0, totals, 1.0), 1.0)
    weights = np.log(shares[0]) - np.log(shares[1])
    values = (shares[0] - shares[1]) * weights
    found = iter(zip(weights.tolist(), values.tolist(), known.tolist(), strict=True))
    bins = [_bin(key, rows[at], events[at], next(found) if kept[at] else None)
            for at, key in enumerate(plan.columns[request.of[0]].keys)]  # fmt: skip
    value = float(values.sum()) if kept.any() and known.all() else None
    return {"information_value": value, "suppressed_bins": int((~kept).sum()), "bins": bins}


def _bin(key: str, rows: float, events: float, found: tuple[float, float, bool] | None) -> dict[str, Any]:
    if found is None:
        return {"bin": key, "count": None, "suppressed": True}
    weight, value, known = found
    shown = {"woe": weight if known else None, "information_value": value if known else None}
    return {"bin": key, "count": int(rows), "suppressed": False, "events": int(events), **shown}


def _distinct(
    _plan: Plan, request: Request, parts: Parts, _scales: Scales, _rows: int
) -> list[dict[str, Any]]:
    pairs = zip(request.of, parts["rows"].tolist(), parts["distinct"].tolist(), strict=True)
    return [
        {
            "column": name,
            "count": rows or None,
            "distinct": distinct if rows else None,
            "suppressed": not rows,
        }
        for name, rows, distinct in pairs
    ]


def _nulls(_plan: Plan, request: Request, parts: Parts, _scales: Scales, rows: int) -> list[dict[str, Any]]:
    pairs = zip(request.of, parts["rows"].tolist(), strict=True)
    return [{"column": name, "count": known, "nulls": rows - known} for name, known in pairs]


FINISH: dict[str, Callable[[Plan, Request, Parts, Scales, int], Any]] = {
    "summary": _summary,
    "histogram": _histogram,
    "covariance": _covariance,
    "correlation": _correlation,
    "chi_square": _chi_square,
    "t_test": _t_test,
    "stability": _stability,
    "woe": _woe,
    "distinct": _distinct,
    "nulls": _nulls,
}
