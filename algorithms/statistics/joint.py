"""The joint function: what runs on shares. All numbers are whole, see ``ranges``.

Groups smaller than ``min_group`` are set to zero here, before anybody could open them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from .declared import QUANTILE_STEPS, Plan, Request
from .ranges import FRACTION_BITS, Ranges

REFINEMENTS = 2  # Newton steps on the engine's reciprocal: from about 1e-4 to below 1e-9, relative
Parts = dict[str, Any]


class Shared:
    """The step's secret columns; pieces of a horizontal partition are put below each other."""

    def __init__(self, plan: Plan, ranges: Ranges, pieces: Mapping[tuple[str, str], Sequence[Any]]) -> None:
        self.plan, self.ranges = plan, ranges
        self._columns = {
            key: jnp.concatenate(each) if len(each) > 1 else each[0] for key, each in pieces.items()
        }

    def part(self, column: str, part: str) -> Any:
        """One part of one column."""
        return self._columns[column, part]

    def numbers(self, request: Request) -> tuple[Any, Any]:
        """The columns of ``request`` side by side, and where they are known; ones if they all are."""
        part = "standard" if self.plan.standardised(request) else "code"
        values = jnp.stack([self.part(each, part) for each in request.of], axis=1)
        return values, jnp.stack([self._known(each, values.shape[0]) for each in request.of], axis=1)

    def _known(self, column: str, rows: int) -> Any:
        if self.plan.columns[column].nulls:
            return self.part(column, "valid")
        return jnp.ones(rows, dtype=jnp.int64)

    def enough(self, counts: Any) -> Any:
        """One where a count reaches ``min_group``, else zero."""
        return (counts >= self.plan.min_group).astype(jnp.int64)


class Groups:
    """Rows sorted by any number of keys; without keys all rows are one group."""

    def __init__(self, shared: Shared, by: Sequence[str], rows: int) -> None:
        hots = [shared.part(each, "hot") for each in by] or [jnp.ones((rows, 1), dtype=jnp.int64)]
        self.first, self.others = hots[0], _crossed(hots[1:]) if hots[1:] else None

    @property
    def rows(self) -> Any:
        """How many rows each group has."""
        return jnp.sum(self.first, axis=0) if self.others is None else jnp.ravel(self.first.T @ self.others)

    def sums(self, values: Any) -> Any:
        """(groups, columns): the sum of each column in each group."""
        if self.others is None:
            return self.first.T @ values
        spread = self.others[:, :, None] * values[:, None, :]
        sums = self.first.T @ jnp.reshape(spread, (values.shape[0], -1))
        return jnp.reshape(sums, (-1, values.shape[1]))

    @property
    def members(self) -> Any:
        """(rows, groups): one where the row belongs to the group."""
        return self.first if self.others is None else _crossed([self.first, self.others])


def _crossed(hots: Sequence[Any]) -> Any:
    crossed = hots[0]
    for each in hots[1:]:
        crossed = jnp.reshape(crossed[:, :, None] * each[:, None, :], (crossed.shape[0], -1))
    return crossed


def joint(plan: Plan, ranges: Ranges, keys: Sequence[tuple[str, str]]) -> Callable[..., tuple[Any, ...]]:
    """The function of all secret arrays, given in the order of ``keys``: column and part of each."""

    def statistics(*arrays: Any) -> tuple[Any, ...]:
        pieces: dict[tuple[str, str], list[Any]] = {}
        for key, array in zip(keys, arrays, strict=True):
            pieces.setdefault(key, []).append(array)
        shared = Shared(plan, ranges, pieces)
        found: list[Any] = []
        for request in plan.requests.values():
            parts = JOINT[request.measure](shared, request)
            found += [parts[part] for part in plan.parts(request)]
        return (*found, *(shared.part(each, "exponent") for each in plan.unbounded()))

    return statistics


def _summary(shared: Shared, request: Request) -> Parts:
    if not request.of:
        return _counts(shared, request)
    values, known = shared.numbers(request)
    groups = Groups(shared, request.by, values.shape[0])
    nulls = any(shared.plan.columns[each].nulls for each in request.of)
    rows = groups.rows
    counts = groups.sums(known) if nulls else rows[:, None]
    kept = shared.enough(counts)
    asked = shared.plan.parts(request)
    parts = {"rows": rows * shared.enough(rows), "known": counts * kept}
    if {"sum", "centred"} & set(asked):
        sums = groups.sums(values)
        parts["sum"] = sums * kept
    if "centred" in asked:
        centred = counts * groups.sums(values * values) - sums * sums
        parts["centred"] = _opened_as_real(centred * kept)
    if {"min", "max", "quantiles"} & set(asked):
        parts |= _ordered(shared, request, values, known, groups, counts, kept)
    return parts


def _counts(shared: Shared, request: Request) -> Parts:
    any_key = shared.part(request.by[0], "hot")
    rows = Groups(shared, request.by, any_key.shape[0]).rows
    return {"rows": rows * shared.enough(rows)}


def _ordered(
    shared: Shared, request: Request, values: Any, known: Any, groups: Groups, counts: Any, kept: Any
) -> Parts:
    """Minimum, maximum and quantiles, each only where it is asked for: comparisons are what costs."""
    beyond = np.int64(1 << (shared.ranges.code_bits + 3))
    within = (groups.members[:, :, None] * known[:, None, :]) > 0
    spread = values[:, None, :]
    asked, parts = shared.plan.parts(request), {}
    if "min" in asked:
        parts["min"] = lax.reduce(jnp.where(within, spread, beyond), beyond, lax.min, (0,)) * kept
    if "max" in asked:
        parts["max"] = lax.reduce(jnp.where(within, spread, -beyond), -beyond, lax.max, (0,)) * kept
    if "quantiles" in asked:
        shares = np.rint(np.array(request.quantiles) * QUANTILE_STEPS).astype(np.int64)
        ranks = counts[None] * shares[:, None, None]
        found = _quantiles(jnp.where(within, spread, beyond), ranks, shared.ranges.code_bits)
        parts["quantiles"] = found * kept[None]
    return parts


def _quantiles(values: Any, ranks: Any, bits: int) -> Any:
    """The least value that at least ``ranks`` / QUANTILE_STEPS of its group's values do not exceed.

    Found bit by bit from above: the largest number that too few values lie below is that value.
    """

    def halve(_turn: Any, state: tuple[Any, Any]) -> tuple[Any, Any]:
        found, step = state
        raised = found + step
        below = jnp.sum((values[None] < raised[:, None]).astype(jnp.int64), axis=1)
        return jnp.where(below * QUANTILE_STEPS < ranks, raised, found), step // 2

    shape = (ranks.shape[0], *values.shape[1:])
    start = jnp.full(shape, -(1 << bits), dtype=jnp.int64)
    found, _ = lax.fori_loop(0, bits + 2, halve, (start, jnp.int64(1 << (bits + 1))))
    return found


def _histogram(shared: Shared, request: Request) -> Parts:
    return _counts(shared, request)


def _matrix(shared: Shared, request: Request) -> Parts:
    """Centred products of all pairs; with nulls over the rows that know both, with their own spreads."""
    values, known = shared.numbers(request)
    if "spread" not in shared.plan.parts(request):
        sums = jnp.sum(values, axis=0)
        products = values.shape[0] * (values.T @ values) - sums[:, None] * sums[None, :]
        return {"centred": _opened_as_real(products)}
    rows, sums = known.T @ known, values.T @ known
    kept = shared.enough(rows)
    centred = rows * (values.T @ values) - sums * sums.T
    spread = rows * ((values * values).T @ known) - sums * sums
    return {
        "rows": rows * kept,
        "centred": _opened_as_real(centred * kept),
        "spread": _opened_as_real(spread * kept),
    }


def _chi_square(shared: Shared, request: Request) -> Parts:
    """The statistic alone, no counts: (rows x observed - row total x column total)^2 / (both totals x rows).

    Zero where a row or column has members, but fewer than ``min_group``.
    """
    one, other = (shared.part(each, "hot") for each in request.of)
    counts = one.T @ other
    totals = [jnp.sum(counts, axis=axis) for axis in (1, 0)]
    rows = jnp.sum(counts)
    small = [jnp.sum((total > 0).astype(jnp.int64) * (1 - shared.enough(total))) for total in totals]
    kept = (small[0] + small[1] < 1).astype(jnp.int64) * shared.enough(rows)
    used = [jnp.sum((total > 0).astype(jnp.int64)) for total in totals]
    digits, bits = shared.ranges.digits, FRACTION_BITS["FM128"]
    apart = _as_real((rows * counts - totals[0][:, None] * totals[1][None, :]) << (bits - 2 * digits))
    by_row, by_column = (
        _reciprocal(_as_real((total + (total < 1).astype(jnp.int64)) << (bits - digits))) for total in totals
    )
    statistic = jnp.sum((apart * by_row[:, None]) * (apart * by_column[None, :]))
    return {
        "rows": rows * kept,
        "degrees": (used[0] - 1) * (used[1] - 1) * kept,
        "statistic": statistic * kept.astype(jnp.float64),
    }


def _reciprocal(values: Any) -> Any:
    found = 1.0 / values
    for _ in range(REFINEMENTS):
        found = found * (2.0 - values * found)
    return found


def _t_test(shared: Shared, request: Request) -> Parts:
    values, known = shared.numbers(request)
    keys = shared.plan.columns[request.between].keys
    both = shared.part(request.between, "hot")[:, np.array([keys.index(each) for each in request.pair])]
    rows, sums = both.T @ known, both.T @ values
    kept = jnp.prod(shared.enough(rows))
    centred = rows * (both.T @ (values * values)) - sums * sums
    return {"rows": rows * kept, "sum": sums * kept, "centred": _opened_as_real(centred * kept)}


def _stability(shared: Shared, request: Request) -> Parts:
    keys = shared.plan.columns[request.between].keys
    both = shared.part(request.between, "hot")[:, np.array([keys.index(each) for each in request.pair])]
    counts = shared.part(request.of[0], "hot").T @ both
    kept = shared.enough(counts)
    return {"rows": counts * (kept[:, :1] * kept[:, 1:])}


def _woe(shared: Shared, request: Request) -> Parts:
    """Counts of rows and of events in each bin that has enough rows."""
    hot = shared.part(request.of[0], "hot")
    events = shared.part(request.event, "code")
    nulls = shared.plan.columns[request.event].nulls
    rows = hot.T @ shared.part(request.event, "valid") if nulls else jnp.sum(hot, axis=0)
    kept = shared.enough(rows)
    return {"rows": rows * kept, "events": (hot.T @ events) * kept}


def _distinct(shared: Shared, request: Request) -> Parts:
    found = [_different(shared, each) for each in request.of]
    rows = jnp.stack([each[0] for each in found])
    kept = shared.enough(rows)
    return {"rows": rows * kept, "distinct": jnp.stack([each[1] for each in found]) * kept}


def _different(shared: Shared, column: str) -> tuple[Any, Any]:
    """How many rows know a column, and how many different values they know."""
    if shared.plan.columns[column].is_key:
        counts = jnp.sum(shared.part(column, "hot"), axis=0)
        return jnp.sum(counts), jnp.sum((counts > 0).astype(jnp.int64))
    codes = shared.part(column, "code")
    rows = jnp.array(codes.shape[0], dtype=jnp.int64)
    if not shared.plan.columns[column].nulls:
        return rows, _steps(jnp.sort(codes)) + 1
    known = shared.part(column, "valid")
    rows, beyond = jnp.sum(known), np.int64(1 << (shared.ranges.code_bits + 3))
    ordered = jnp.sort(jnp.where(known > 0, codes, beyond))  # all nulls come last, as one value
    return rows, _steps(ordered) + (rows >= codes.shape[0]).astype(jnp.int64)


def _steps(ordered: Any) -> Any:
    return jnp.sum((ordered[1:] != ordered[:-1]).astype(jnp.int64))


def _nulls(shared: Shared, request: Request) -> Parts:
    known = []
    for each in request.of:
        is_key = shared.plan.columns[each].is_key
        known.append(jnp.sum(shared.part(each, "hot" if is_key else "valid")))
    return {"rows": jnp.stack(known)}


def _as_real(whole: Any) -> Any:
    """The same number in the ring, read with fraction bits: whole / 2^fraction_bits, exactly."""
    return lax.bitcast_convert_type(whole, jnp.float64)


_opened_as_real = _as_real  # a result of more than 64 bits can only be opened as a real number

JOINT: dict[str, Callable[[Shared, Request], Parts]] = {
    "summary": _summary,
    "histogram": _histogram,
    "covariance": _matrix,
    "correlation": _matrix,
    "chi_square": _chi_square,
    "t_test": _t_test,
    "stability": _stability,
    "woe": _woe,
    "distinct": _distinct,
    "nulls": _nulls,
}
