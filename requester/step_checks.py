"""Steps held to what their algorithms take, before anything is asked of anybody."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sealtrace.algorithms.checking import ParamsRefused, check_enclave_step, check_params
from sealtrace.protocol.bundle import BadBundle
from sealtrace.protocol.spec import TaskSpec, source_of
from sealtrace.requester.errors import AlgorithmUnknownHere, SpecInvalid
from sealtrace.requester.known_algorithms import KnownAlgorithms
from sealtrace.requester.task_files import Located, Place

_LED_BY_PLACE = re.compile(r"([a-z_][\w-]*(?:\.[\w-]+)*): (.*)", re.DOTALL)


def check_steps(spec: TaskSpec, located: Located, algorithms: KnownAlgorithms) -> list[str]:
    """Return a warning for each step whose parameters could not be checked here.

    Raises:
        SpecInvalid: an algorithm does not take a step's parameters; with the line.
    """
    return list(_checked(spec, located, algorithms))


def _checked(spec: TaskSpec, located: Located, algorithms: KnownAlgorithms) -> Iterator[str]:
    columns = {each.name: each.columns for each in spec.inputs if each.is_table}
    for step in spec.steps:
        if step.engine == "psi":
            continue
        try:
            bundle = algorithms.bundle(step.algorithm)
            named = {name: columns[name] for name in step.inputs if name in columns}
            if step.engine == "tee":
                kept = [source_of(name, source)[1] for name, source in spec.keep.items()]
                config = any(spec.input(name).kind == "config" for name in step.inputs)
                check_enclave_step(bundle.manifest, step.protocol, step.params, kept, config=config)
            else:
                check_params(bundle, step.params, named, step.uses)
        except ParamsRefused as refused:
            raise _pointing(located, step.id, str(refused)) from refused
        except (AlgorithmUnknownHere, BadBundle) as error:
            yield f"step {step.id}: its parameters were not checked here: {error}"


def _pointing(located: Located, step: str, why: str) -> SpecInvalid:
    """Where an algorithm's words begin with a place in its parameters, the error points there."""
    place: Place = ("steps", step, "params")
    if led := _LED_BY_PLACE.fullmatch(why):
        parts = (int(part) if part.isdecimal() else part for part in led[1].split("."))
        return located.wrong((*place, *parts), led[2])
    return located.wrong(place, why)
