"""How numbers are held, chosen so that nothing can overflow.

All secret numbers are whole: a value x is shared as its code, round((x - low) / scale * 2^bits), with a
power of two as scale, so that whole numbers and binary fractions are exact. Sums and products of codes are
exact too, as long as they stay below the field's size; the bits are chosen so that they do. With fewer than
2^d rows:

- a code is at most 2^bits, a sum of codes below 2^(d + bits): it must fit the 64 bits that are opened;
- a centred product, rows x sum of products - product of sums, is below 2^(2d + 2 bits), in a field of 128;
- a value that its owner standardised is at most 2^ceil(d / 2), as none of n values lies further than the
  root of n - 1 deviations from their mean; its centred product is below 2^(3d + 1 + 2 standard_bits).
"""

import math
from dataclasses import dataclass

from .declared import Column, Plan

MAX_DIGITS = 30
MAX_CODE_BITS = 40
FRACTION_BITS = {"FM64": 18, "FM128": 40}
SUM_BITS, PRODUCT_BITS = (
    61,
    123,
)  # one less than what is read, one for the sign, four for a comparison's difference
PRODUCTS = {"covariance", "correlation", "t_test", "chi_square"}


@dataclass(frozen=True)
class Ranges:
    """The field and the bits of a step over fewer than 2^digits rows."""

    digits: int
    field: str
    code_bits: int
    standard_bits: int

    @property
    def fraction_bits(self) -> int:
        """How the engine reads a result that is not whole."""
        return FRACTION_BITS[self.field]


def chosen(plan: Plan, rows: int) -> Ranges:
    """Choose field and bits for a step over ``rows`` rows.

    Raises:
        ValueError: there are fewer rows than ``min_group``, or too many for a request, which is named.
    """
    digits = rows.bit_length()
    if rows < plan.min_group:
        raise ValueError(
            f"there are {rows} rows, fewer than min_group, {plan.min_group}: nothing could be shown"
        )
    if digits > MAX_DIGITS:
        raise ValueError(f"there are {rows} rows; at most 2^{MAX_DIGITS} - 1 fit")
    for request in plan.requests.values():
        if request.measure == "chi_square" and 2 * digits > FRACTION_BITS["FM128"]:
            raise ValueError(f"requests.{request.name}: chi_square takes fewer than 2^20 rows; draw a sample")
    wide = any("centred" in plan.parts(each) or each.measure in PRODUCTS for each in plan.requests.values())
    return Ranges(
        digits,
        "FM128" if wide else "FM64",
        min(MAX_CODE_BITS, SUM_BITS - digits),
        min(MAX_CODE_BITS, (PRODUCT_BITS - 3 * digits) // 2),
    )


def scale_exponent(column: Column) -> int:
    """The public power of two that spans from ``low`` to ``high``; 0 where they are equal."""
    low, high = column.low, column.high
    return exponent_above(high - low) if low is not None and high is not None else 0


def exponent_above(size: float) -> int:
    """The least power of two that is not below ``size``; 0 for 0."""
    fraction, exponent = math.frexp(size)
    return exponent - 1 if fraction == 0.5 else exponent
