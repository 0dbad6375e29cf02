"""Our errors as ``application/problem+json`` (RFC 9457): one handler, and their place in OpenAPI."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from sealtrace.node.errors import InvalidRequest, Misuse, NodeError
from sealtrace.protocol.faults import first_fault

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """What went wrong. ``type`` is stable; ``next`` says what to do."""

    type: str
    title: str
    status: int
    detail: str
    next: str


class NoSuchRoute(NodeError):
    """The API has no such address or method."""

    next_step = "Compare with /openapi.json."
    status = 404


class BodyTooLarge(Misuse):
    """The request's body is larger than any route needs, or does not say how large it is."""

    next_step = "Send less, with a Content-Length."
    status = 413


class BodyTooSlow(Misuse):
    """The request's body did not arrive in time."""

    next_step = "Send it again over a better connection."
    status = 408


def problem(
    error: NodeError, status: int | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """``error`` as an answer, with its own status unless the framework has a nearer one."""
    name, status = type(error).__name__, status or error.status
    body = Problem(
        type=f"urn:sealtrace:problem:{name}",
        title=_title(type(error)),
        status=status,
        detail=str(error),
        next=error.next_step,
    )
    headers = {"www-authenticate": "Bearer"} if status == 401 else headers
    return JSONResponse(body.model_dump(), status, headers=headers, media_type=MEDIA_TYPE)


def problems(*kinds: type[NodeError]) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route that may raise ``kinds``: every documented error, by its status."""
    found: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        entry = found.setdefault(kind.status, {"model": Problem, "description": "", "content": {}})
        entry["description"] = "; ".join(
            filter(None, [entry["description"], f"{kind.__name__}: {_title(kind)}"])
        )
        example = {
            "type": f"urn:sealtrace:problem:{kind.__name__}",
            "title": _title(kind),
            "status": kind.status,
            "detail": "what is wrong with which value",
            "next": kind.next_step,
        }
        examples = entry["content"].setdefault(MEDIA_TYPE, {"examples": {}})["examples"]
        examples[kind.__name__] = {"value": example}
    return found


def install(app: FastAPI) -> None:
    """Answer every error of ours, and the framework's, as a problem."""
    app.add_exception_handler(NodeError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _framework)


async def _ours(_: Request, error: Exception) -> JSONResponse:
    return problem(error if isinstance(error, NodeError) else NodeError(str(error)))


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - the handler is registered for these only
    return problem(InvalidRequest(first_fault(error.errors(), "request")))


async def _framework(_: Request, error: Exception) -> JSONResponse:
    status, detail = getattr(error, "status_code", 404), str(getattr(error, "detail", error))
    if status == 400:  # a body that is no JSON, or nested without end
        return problem(InvalidRequest(detail))
    return problem(NoSuchRoute(detail), status, getattr(error, "headers", None))


def _title(kind: type[NodeError]) -> str:
    return (inspect.getdoc(kind) or kind.__name__).splitlines()[0].rstrip(".")
