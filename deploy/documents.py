"""The documents that are drawn from the code; ``make docs`` writes them, a test compares them.

An error, an endpoint or a setting that nobody described cannot pass: this is where it is looked for.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from starlette.routing import BaseRoute

import sealtrace
from sealtrace.algorithms.bundles import load, shipped
from sealtrace.auditor import api as auditor_api
from sealtrace.auditor import service as auditor_service
from sealtrace.auditor import settings as auditor_settings
from sealtrace.node import settings as node_settings
from sealtrace.node.api.app import router as node_router
from sealtrace.protocol.identifiers import address
from sealtrace.protocol.records import Protection
from sealtrace.protocol.security import SECURITY, SecurityModel, among
from sealtrace.requester import directory as requester_settings
from sealtrace.scheduler import settings as scheduler_settings
from sealtrace.scheduler.api import router as scheduler_router

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
    text = vars(described)["__doc__"]  # its own: getdoc would give a base class's
    if not text:
        raise Undescribed(f"{described!r} has no docstring: say what it means and what to do")
    return _cell(text)


def _cell(text: str) -> str:
    """The first paragraph of ``text``, fit for a table."""
    return " ".join(text.split("\n\n")[0].split()).replace("``", "`").replace("|", "\\|")


FILES: Mapping[str, type[BaseModel]] = {
    node_settings.FILE: node_settings.Settings,
    scheduler_settings.FILE_NAME: scheduler_settings.Settings,
    requester_settings.SETTINGS: requester_settings.Settings,
    auditor_settings.FILE: auditor_settings.Settings,
}


def settings() -> str:
    """``docs/settings.md``: every key of every settings file."""
    lines = [
        "# Settings",
        "",
        "Each process reads one TOML file in its directory, which `init` writes. A key that is not listed",
        "here is an error, and so is a value out of range; the message names the place. Names ending in `_s`",
        "are in seconds. Private keys are in no settings file.",
    ]
    for name, model in FILES.items():
        lines += ["", f"## {name}", *_settings_of(model)]
    return "\n".join(lines) + "\n"


def _settings_of(model: type[BaseModel]) -> Iterator[str]:
    schema = model.model_json_schema()
    yield from _table(schema, "")
    for name, field in schema["properties"].items():
        if section := _section(field):
            yield from ("", f"`[[{name}]]`" if "items" in field else f"`[{name}]`")
            yield from _table(schema["$defs"][section], f"{name}.")


def _section(field: Mapping[str, Any]) -> str | None:
    """The name of the schema of a table, of one that may be absent, or of each of an array of tables."""
    places = (field, field.get("items", {}), *field.get("anyOf", ()))
    found = [each["$ref"].rsplit("/", 1)[-1] for each in places if "$ref" in each]
    return found[0] if found else None


def _table(schema: Mapping[str, Any], place: str) -> Iterator[str]:
    yield from ("", "| key | takes | default | means |", "|---|---|---|---|")
    for name, field in schema["properties"].items():
        if _section(field):
            continue
        if "description" not in field:
            raise Undescribed(f"setting {place}{name} has no docstring: say what it means")
        means = _cell(field["description"])
        yield f"| `{name}` | {_takes(field)} | {_default(name, field, schema)} | {means} |"


def _takes(field: Mapping[str, Any]) -> str:
    kind = field.get("type") or field["anyOf"][0]["type"]
    bounds = {"exclusiveMinimum": ">", "minimum": "≥", "maximum": "≤"}
    return ", ".join([kind, *(f"{sign} {field[key]}" for key, sign in bounds.items() if key in field)])


def _default(name: str, field: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if name in schema.get("required", ()):
        return "required"
    value = field.get("default")
    return "" if value in (None, "", []) else f"`{json.dumps(value)}`"


def api() -> str:
    """``docs/api.md``: every endpoint of every service."""
    lines = [
        "# HTTP interfaces",
        "",
        "Each service describes itself at `/openapi.json`. Errors are `application/problem+json` (RFC 9457)",
        "with `type`, `title`, `status`, `detail` and `next`, which says what to do; the names are in",
        "[Errors](errors.md). At a node, what can answer 401 needs a bearer token, and what can answer 403",
        "one of the role operator. The scheduler takes no tokens: callers sign what they say with their key",
        "on chain. The auditor answers all but health to the bearers of its tokens only, and logs",
        "what it gives them ([The auditor's service](auditor-service.md)).",
    ]
    for name, routes in _services():
        lines += ["", f"## {name}", "", "| request | does | answers |", "|---|---|---|"]
        lines += _endpoints(name, routes)
    return "\n".join(lines) + "\n"


def _services() -> Iterator[tuple[str, Sequence[BaseRoute]]]:
    yield "node", node_router.routes
    yield "scheduler", scheduler_router.routes
    chain = auditor_settings.ChainTable(
        rpc_url="http://127.0.0.1", chain_id=1, directory=address("0x" + "00" * 20)
    )
    with TemporaryDirectory() as folder:
        settings = auditor_settings.Settings(chain=chain)
        with auditor_service.opened(Path(folder), settings) as service:
            yield "auditor", auditor_api.create_app(service).routes


def _endpoints(service: str, routes: Sequence[BaseRoute]) -> Iterator[str]:
    described = get_openapi(title=service, version="1", routes=routes)
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            request = f"{method.upper()} {path}"
            if "description" not in operation:
                raise Undescribed(f"{service}: {request} has no docstring: say what it does")
            answers = ", ".join(sorted(operation["responses"]))
            yield f"| `{request}` | {_cell(operation['description'])} | {answers} |"


def disclosures() -> str:
    """``docs/disclosures.md``: what each role learns from every algorithm that ships with us."""
    lines = [
        "# Who learns what",
        "",
        "Every algorithm says in its manifest what each role learns from it, under its digest.",
        "`sealtrace algorithm show`, `sealtrace task plan` and an owner's `sealtrace node task show` say it.",
        "These are the algorithms that ship with us.",
    ]
    for name, folder in shipped().items():
        manifest = load(folder).manifest
        lines += [
            "",
            f"## {name} {manifest.version}",
            "",
            f"{manifest.title}.",
            "",
            "| who | learns |",
            "|---|---|",
        ]
        lines += [f"| {_cell(role)} | {_cell(what)} |" for role, what in manifest.learns.items()]
    return "\n".join([*lines, *_HOW_DISCLOSURES_ARE_TESTED]) + "\n"


_HOW_DISCLOSURES_ARE_TESTED = (
    "",
    "## How this is tested",
    "",
    "`tests/e2e/test_secrets.py` runs three organisations, a scheduler and a chain on tables whose",
    "every cell and id occurs nowhere else, through an alignment whose keys the requester gets, joint",
    "statistics and a regression. Meanwhile it looks again and again at every file that any of them",
    "keeps (at an engine's job folder up to thirty times a second), at all that lies in queues, logs,",
    "command lines and environments, and captures each TCP connection on loopback: engine to own",
    "gateway, gateway to gateway, node to scheduler, chain, queue and operator. All of it is searched",
    "for every cell, id and result, for what an engine makes of the cells before it shares them, for",
    "what the requester's shares come to, and for the tokens that stand for ids: as text,",
    "hexadecimal, base64, floating and fixed point, and inside compressed streams. A table in the",
    "test says what may be found where; it rests on sentences of the manifests above, and a manifest",
    "that says otherwise fails the test.",
    "",
    "| what | may be found |",
    "|---|---|",
    "| a cell, an id | in the file that its owner registered |",
    "| a common id, where `result: ids` was asked | there, and at the requester |",
    "| an id's token in one task | in the scratch of engines whose own table holds the id |",
    "| a result | at the requester |",
    "| the weights of a model that is opened and kept | at the requester, not in the parts that are kept |",
    "",
    "The test also plants seven leaks, in seven places and forms, and fails unless it finds each of",
    "them just there. What it cannot see: the memory of processes, files that live between two looks,",
    "values changed in a way that it does not know, what timing and sizes tell, and links other than",
    "loopback. Capturing packets needs root; without it the wires are skipped, and the skip says so.",
)


def protocols() -> str:
    """``docs/protocols.md``: what each protection promises, and what breaks it."""
    lines = [
        "# What each protocol promises",
        "",
        "A grant names the protections that its owner accepts, one by one; a task names one for each",
        "step. The first two rows below are shown where a grant is issued and listed, where a task awaits",
        "approval, and by `sealtrace task plan`; they are in the transcript that each party's receipt",
        "digests, and in the auditor's report.",
        "",
        "No step runs under another protection than its specification names: the chain refuses a start",
        "where a grant does not accept it (`PROTECTION_NOT_ALLOWED`), the parties compare what each was",
        "told before anything is shared (`ProgramMismatch`), and the auditor holds every transcript to",
        "the chain (`EV-X03`). SEMI2K trusts one party: it runs only where every grant of the task names",
        "it by its whole name,",
        f"`{Protection.MPC_SEMI2K_TRUSTED_FIRST_PARTY.name}`.",
    ]
    for model in SECURITY.values():
        lines += ["", f"## {model.name}", "", "| | |", "|---|---|", *_promises(model)]
    return "\n".join(lines) + "\n"


def _promises(model: SecurityModel) -> Iterator[str]:
    rows = {
        "holds against": model.adversary,
        "as long as": model.threshold,
        "parties": among(model.protection),
        "with more": model.more,
        "where that breaks": model.breach,
        "source": model.source,
    }
    yield from (f"| {name} | {_cell(words)} |" for name, words in rows.items() if words)


DOCUMENTS: Mapping[str, Callable[[], str]] = {
    "errors.md": errors,
    "settings.md": settings,
    "api.md": api,
    "disclosures.md": disclosures,
    "protocols.md": protocols,
}


def main() -> None:
    """Write every document."""
    for name, draw in DOCUMENTS.items():
        (DOCS / name).write_text(draw())


if __name__ == "__main__":
    main()
