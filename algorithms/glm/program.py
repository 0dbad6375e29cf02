"""Logistic, linear and Poisson regression on shared features, and scorecards; the model stays shared."""

from collections.abc import Callable, Mapping
from typing import Any

from . import asked as reading

Params = Mapping[str, Any]
SUMMARY = ["loss", "fits"]
STEPS = ["iterations", "converged"]
LINKS = {"logistic": "logit", "linear": "identity", "poisson": "log"}


def check(params: Params, _inputs: list[str]) -> None:
    """Refuse parameters that make no sense, by ``ValueError``."""
    reading.read(params)


def takes(_params: Params) -> dict[str, str]:
    """Return the values of earlier steps that are worked on."""
    return {"features": "features"}


def columns(_params: Params, _name: str) -> list[tuple[str, str]]:
    """Return what is read of an input: nothing, all comes from features."""
    return []


def rows(params: Params, _held: Mapping[str, int]) -> int:
    """Return the number of rows of the features; refuse such as the family cannot learn from."""
    about = _about(params)
    reading.check_features(reading.read(_own(params)), about)
    return int(about["rows"])


def arithmetic(_params: Params, _rows: int) -> tuple[str, int]:
    """Return the field and the fraction bits, alike in all steps of a joint model."""
    return "FM128", 40


def arrays(_params: Params, _held: Mapping[str, int]) -> list[tuple[str, str, tuple[int, ...], str]]:
    """Return the owners' arrays: none."""
    return []


def prepare(
    _params: Params, _name: str, _table: Mapping[str, Any], _held: Mapping[str, int]
) -> dict[str, Any]:
    """Owners prepare nothing."""
    return {}


def program(params: Params, _held: Mapping[str, int]) -> Callable[..., tuple[Any, ...]]:
    """Return the joint function of the features' arrays. All of its arguments and results are secret."""
    from ..learning import glm

    about, how = _about(params), reading.read(_own(params)).how
    names = [each[0] for each in params["taken"]["features"]["arrays"]]
    opened, kept = outputs(params), _kept(params)

    def fitted(*given: Any) -> tuple[Any, ...]:
        known = dict(zip(names, given, strict=True))
        found = glm.fit(known["matrix"], known["target"], known.get("weight"), about["train"], how)
        made = known | found._asdict()
        return tuple(made[name] for name in [*opened, *kept])

    return fitted


def outputs(params: Params) -> list[str]:
    """Return the names of what is opened."""
    about, asked = _about(params), reading.read(_own(params))
    found = SUMMARY + ([] if asked.how.best else STEPS)
    found += ["held_out"] if about["train"] < about["rows"] else []
    return found + (_kept(params) if asked.coefficients else [])


def gives(params: Params, _held: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Return what is handed on, still shared: the model."""
    about = _about(params)
    shapes = {each[0]: each[1] for each in params["taken"]["features"]["arrays"]}
    shapes |= {"weights": [len(about["names"])], "intercept": [1]}
    facts = {
        "family": "glm",
        "link": LINKS[params["family"]],
        "features": {key: each for key, each in about.items() if key not in ("rows", "train")},
    }
    arrays = [[name, shapes[name], "float64"] for name in _kept(params)]
    return {"model": {"kind": "model", "about": facts, "arrays": arrays}}


def finish(params: Params, _rows: int, opened: Mapping[str, Any]) -> dict[str, Any]:
    """Name the opened numbers, and bring coefficients to the columns' own scales."""
    from .finish import finished

    return finished(reading.read(_own(params)), _about(params), opened)


def _own(params: Params) -> dict[str, Any]:
    return {key: each for key, each in params.items() if key != "taken"}


def _about(params: Params) -> Mapping[str, Any]:
    about: Mapping[str, Any] = params["taken"]["features"]["about"]
    return about


def _kept(params: Params) -> list[str]:
    """The model's arrays, in order."""
    there = {each[0] for each in params["taken"]["features"]["arrays"]}
    return ["weights", "intercept", *(each for each in ("shift", "scale", "woe") if each in there)]
