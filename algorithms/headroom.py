"""How large the numbers inside a function become: the engine's own arithmetic would overflow silently."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sealtrace.algorithms.functions import largest_number
from sealtrace.algorithms.shares import Computation


class NumbersTooLarge(ValueError):
    """A number inside the function leaves the ring: scale columns down, use a larger field or fewer bits."""

    def __init__(self, what: str, largest: float, limit: float) -> None:
        super().__init__(
            f"{what} comes to {largest:.3g}, at most {limit:.3g} fits: divide columns by a constant in "
            "compute, or change field or fraction_bits in the manifest's arithmetic"
        )


@dataclass(frozen=True, slots=True)
class Headroom:
    """The largest number inside, by which operation, and the largest that fits."""

    largest: float
    operation: str
    limit: float

    @property
    def bits_left(self) -> float:
        """How often the largest number could be doubled."""
        return math.log2(self.limit / self.largest) if self.largest > 0 else math.inf


def headroom(function: Callable[..., Any], arrays: Sequence[Any], how: Computation) -> Headroom:
    """Run ``function`` in the clear, one operation at a time, and look at every number.

    Raises:
        NumbersTooLarge: one leaves the ring, or is infinite or not a number.
    """
    import jax

    jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]
    limit = largest_number(how.field, how.fraction_bits)
    closed = jax.make_jaxpr(function)(*arrays)
    largest, operation = 0.0, "nothing"
    for name, size in _sizes(closed.jaxpr, closed.consts, arrays):
        if not size <= limit:
            raise NumbersTooLarge(name, size, limit)
        if size > largest:
            largest, operation = size, name
    return Headroom(largest, operation, limit)


def _sizes(jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Any]) -> Iterator[tuple[str, float]]:
    """Each operation with the largest absolute number that it makes; calls are entered, loops are not."""
    known: dict[Any, Any] = dict(zip(jaxpr.constvars, constants, strict=True))
    known |= dict(zip(jaxpr.invars, arguments, strict=True))
    for operation in jaxpr.eqns:
        given = [each.val if hasattr(each, "val") else known[each] for each in operation.invars]
        inner = operation.params.get("jaxpr") if operation.primitive.name == "pjit" else None
        if inner is not None:
            yield from _sizes(inner.jaxpr, inner.consts, given)
        made = (
            operation.primitive.bind(*given, **operation.params) if inner is None else _called(inner, given)
        )
        results = made if operation.primitive.multiple_results else [made]
        known |= dict(zip(operation.outvars, results, strict=True))
        for result in results:
            yield _where(operation), _size(result)


def _called(inner: Any, given: Sequence[Any]) -> Any:
    import jax

    return jax.core.jaxpr_as_fun(inner)(*given)


def _size(result: Any) -> float:
    import numpy as np

    values = np.asarray(result)
    if values.dtype.kind != "f" or not values.size:
        return 0.0
    size = float(np.abs(values).max())
    return math.inf if math.isnan(size) else size


def _where(operation: Any) -> str:
    from jax._src import source_info_util

    frame = source_info_util.user_frame(operation.source_info)
    return f"{operation.primitive.name} in line {frame.start_line}" if frame else operation.primitive.name
