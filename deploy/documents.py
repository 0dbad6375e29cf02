"""The documents that are drawn from the code; ``make docs`` writes them, a test compares them.

An error, an endpoint or a setting that nobody described cannot pass: this is where it is looked for.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

import sealtrace

DOCS = Path(__file__).resolve().parent.parent / "docs"
# Processes and hooks that do something when they are imported.
_NOT_IMPORTED = ("__main__",)


class Undescribed(ValueError):
    """Something public has no docstring."""


def modules() -> Iterator[ModuleType]:
    """Every module of the distribution that can be imported without side effects."""
    for found in pkgutil.walk_packages(sealtrace.__path__, "sealtrace."):
        if not found.name.endswith(_NOT_IMPORTED):
            yield importlib.import_module(found.name)


def errors() -> str:
    """``docs/errors.md``: every named error, by the package that raises it."""
    lines = [
        "# Errors",
        "",
        "Every refusal has a name. The command line prints it before the message and exits with 1; the APIs",
        "give it as `type` in `application/problem+json`. A message says what is wrong with which value, and",
        "what to do next.",
    ]
    for package, found in sorted(_errors_by_package().items()):
        lines += ["", f"## {package}", "", "| error | means |", "|---|---|"]
        lines += [f"| `{name}` | {found[name]} |" for name in sorted(found)]
    return "\n".join(lines) + "\n"


def _errors_by_package() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for module in modules():
        for name, each in inspect.getmembers(module, inspect.isclass):
            if issubclass(each, Exception) and each.__module__ == module.__name__:
                if name.startswith("_"):
                    continue
                package = module.__name__.split(".")[1]
                found.setdefault(package, {})[name] = _sentence(each)
    return found


def _sentence(described: object) -> str:
    text = inspect.getdoc(described) if "__doc__" in vars(described) else None
    if not text:
        raise Undescribed(f"{described!r} has no docstring: say what it means and what to do")
    return " ".join(text.split("\n\n")[0].split()).replace("|", "\\|")


DOCUMENTS: Mapping[str, Callable[[], str]] = {"errors.md": errors}


def main() -> None:
    """Write every document."""
    for name, draw in DOCUMENTS.items():
        (DOCS / name).write_text(draw())


if __name__ == "__main__":
    main()
