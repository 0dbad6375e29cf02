"""Compile a bundle's joint function: the same bundle, parameters and row counts give the same text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sealtrace.algorithms.bundles import Bundle, Program
from sealtrace.algorithms.shares import Computation


def arithmetic(bundle: Bundle, params: Mapping[str, Any], rows: int, protocol: str) -> Computation:
    """How the step's numbers are held.

    Raises:
        ValueError: they would not fit, in the program's own words.
    """
    fixed = bundle.manifest.arithmetic
    field, bits = (fixed.field, fixed.fraction_bits) if fixed else bundle.program.arithmetic(params, rows)
    return Computation.model_validate({"protocol": protocol, "field": field, "fraction_bits": bits})


def compiled(program: Program, params: Mapping[str, Any], held: Mapping[str, int]) -> Any:
    """Return the engine's executable; all arguments and results are secret.

    Raises:
        ValueError: the program refuses, in its own words.
    """
    import jax
    import numpy as np
    import spu
    from spu.utils import frontend

    jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]
    specs = program.arrays(params, held)
    make: Any = jax.ShapeDtypeStruct
    executable, _ = frontend.compile(
        frontend.Kind.JAX,
        program.program(params, held),
        [make(shape, np.dtype(kind)) for _, _, shape, kind in specs],
        {},
        [name for name, *_ in specs],
        [spu.Visibility.VIS_SECRET] * len(specs),
        lambda _outputs: list(program.outputs(params)),
    )
    return executable


def engine_config(how: Computation) -> Any:
    """The engine's configuration for ``how``; all parties and the requester use the same."""
    import spu

    return spu.RuntimeConfig(
        protocol=spu.parse_protocol_kind(how.protocol),
        field=spu.parse_field_type(how.field),
        fxp_fraction_bits=how.fraction_bits,
    )
