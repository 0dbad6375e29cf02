"""Compile a bundle's joint function: the same bundle, parameters and row counts give the same text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sealtrace.algorithms.bundles import Bundle, Program
from sealtrace.algorithms.shares import Computation
from sealtrace.algorithms.values import arguments, results


class DoesNotCompile(ValueError):
    """The algorithm's function cannot be compiled: no secret may decide a branch, shape or index."""

    def __init__(self, cause: Exception) -> None:
        first = str(cause).strip().partition("\n")[0]
        super().__init__(f"the function does not compile ({type(cause).__name__}): {first}")


def arithmetic(bundle: Bundle, params: Mapping[str, Any], rows: int, protocol: str) -> Computation:
    """How the step's numbers are held.

    Raises:
        ValueError: they would not fit, in the program's own words.
    """
    field, bits = bundle.program.arithmetic(params, rows)
    return Computation.model_validate({"protocol": protocol, "field": field, "fraction_bits": bits})


def compiled(program: Program, params: Mapping[str, Any], held: Mapping[str, int]) -> Any:
    """Return the engine's executable; all arguments and results are secret.

    ``params`` are those of :func:`~sealtrace.algorithms.values.with_taken`.

    Raises:
        DoesNotCompile: the program does not, or it refuses.
    """
    import jax
    import numpy as np
    import spu
    from spu.utils import frontend

    jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]
    specs = arguments(program, params, held)
    make: Any = jax.ShapeDtypeStruct
    try:
        executable, _ = frontend.compile(
            frontend.Kind.JAX,
            program.program(params, held),
            [make(shape, np.dtype(kind)) for _, shape, kind in specs],
            {},
            [name for name, *_ in specs],
            [spu.Visibility.VIS_SECRET] * len(specs),
            lambda _outputs: results(program, params, held),
        )
    except Exception as error:  # whatever code that is not ours makes of it
        raise DoesNotCompile(error) from error
    return executable


def engine_config(how: Computation) -> Any:
    """The engine's configuration for ``how``; all parties and the requester use the same."""
    import spu

    return spu.RuntimeConfig(
        protocol=spu.parse_protocol_kind(how.protocol),
        field=spu.parse_field_type(how.field),
        fxp_fraction_bits=how.fraction_bits,
    )
