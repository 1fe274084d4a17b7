"""How an error is said: one stable JSON body for programs, one page for people, and which status each error has."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse

from atlas.scheduler.errors import (
    AtlasError,
    ConfigError,
    DuplicateTaskError,
    FunctionError,
    JobBusyError,
    JobOwnershipError,
    JobRefusedError,
    JobUnboundError,
    QueueFullError,
    QueueStoppedError,
    ResultNotReadyError,
    RevisionRefusedError,
    StoreError,
    TaskUnfinishedError,
    TransitionError,
    UnknownFunctionError,
    UnknownJobError,
    UnknownRevisionError,
    UnknownTaskError,
)
from atlas.scheduler.message import Message, message_of
from atlas.web.rendering import BusyError
from atlas.web.site import visit_of
from atlas.web.words.speech import Speech

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from atlas.web.site import Site

STATUSES: Final[tuple[tuple[type[Exception], int, str], ...]] = (
    (UnknownJobError, 404, "unknown_job"),
    (UnknownTaskError, 404, "unknown_task"),
    (UnknownRevisionError, 404, "unknown_revision"),
    (UnknownFunctionError, 422, "unknown_function"),
    (JobBusyError, 409, "job_busy"),
    (JobUnboundError, 409, "job_unbound"),
    (JobRefusedError, 409, "job_refused"),
    (JobOwnershipError, 409, "job_ownership"),
    (DuplicateTaskError, 409, "duplicate_task"),
    (TransitionError, 409, "not_in_this_status"),
    (TaskUnfinishedError, 409, "task_unfinished"),
    (RevisionRefusedError, 409, "revision_refused"),
    (FunctionError, 422, "function_refused"),
    (ConfigError, 422, "config_refused"),
    (QueueFullError, 503, "queue_full"),
    (QueueStoppedError, 503, "stopped"),
    (ResultNotReadyError, 409, "not_ready"),
    (StoreError, 503, "store_unavailable"),
    (BusyError, 503, "busy"),
    (AtlasError, 422, "refused"),
)
"""The first that fits counts."""

CODES: Final = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "wrong_type"}


def status_of(error: Exception) -> tuple[int, str]:
    """The status and code of ``error``."""
    return next(((status, code) for kind, status, code in STATUSES if isinstance(error, kind)), (500, "internal"))


def phrase(text: str) -> str:
    """What HTTP says by itself, ready for another language: ``Not Found``; anything else as it stands."""
    return Message(text) if text.replace(" ", "").isalpha() else text


def wants_json(request: Request) -> bool:
    """True where a program asks: below ``/api/``, one that came with a token, or for figures and takes no HTML."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    if path == "/metrics" and "text/html" not in request.headers.get("accept", ""):
        return True
    return path.startswith(("/api/", "/live")) or request.scope.get("atlas.by") == "api"


def refusal(
    request: Request, status: int, code: str, message: str, *, detail: Any = None, wait_s: float | None = None
) -> Response:
    """The answer for an error: ``{"error": {"code", "message", "detail"}}``, or a page."""
    site: Site = request.app.state.site
    headers = {} if wait_s is None else {"retry-after": str(math.ceil(wait_s))}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if wants_json(request):
        return JSONResponse({"error": {"code": code, "message": message, "detail": detail}}, status, headers)
    visit = visit_of(site, request)
    html = site.templates.render(
        "error.html",
        visit,
        {"status": status, "code": code, "message": Speech(visit.language).told(message), "detail": detail},
    )
    return HTMLResponse(html, status, headers)


def comes_from_elsewhere(request: Request) -> bool:
    """True if a browser comes by a link of another site: it leaves its session at home, as no other site may use it."""
    return request.headers.get("sec-fetch-site") == "cross-site"


def once_more(request: Request, address: str) -> Response:
    """A page that asks for ``address`` of this site by itself: then the browser brings its session."""
    site: Site = request.app.state.site
    return HTMLResponse(site.templates.render("once_more.html", visit_of(site, request), {"address": address}))


async def on_error(request: Request, error: Exception) -> Response:
    """The answer for an error that a route raised on purpose."""
    if isinstance(error, HTTPException):
        answer = refusal(request, error.status_code, CODES.get(error.status_code, "refused"), phrase(str(error.detail)))
        answer.headers.update(error.headers or {})
        return answer
    status, code = status_of(error)
    detail = None
    if isinstance(error, ConfigError):
        detail = [problem.to_json() for problem in error.problems]
    wait_s = 1.0 if status == 503 else None
    message = Message("too many requests wait") if isinstance(error, BusyError) else message_of(error)
    return refusal(request, status, code, message, detail=detail, wait_s=wait_s)
