"""The JSON API below ``/api/v1``: the verbs of the command line; a list comes in pages of ``limit``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Route

from atlas.scheduler.errors import UnknownFunctionError
from atlas.scheduler.job_view import task_json
from atlas.scheduler.store.audit import read_audit
from atlas.scheduler.store.task_logs import read_logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from atlas.web.site import Site

    Verb = Callable[[Site, Request, dict[str, Any], str], Any]

MAX_LIMIT: Final = 1000


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", "100")
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and 1 <= int(text) <= MAX_LIMIT):
        raise HTTPException(400, f"limit is a whole number, 1 to {MAX_LIMIT}")
    return int(text)


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str):
        raise HTTPException(400, f"{name} is text")
    return value


def _jobs(site: Site, request: Request, _body: dict[str, Any], _by: str) -> Any:
    after, limit = request.query_params.get("after", ""), _limit(request)
    found = [job for job in site.atlas.get_jobs() if job.id > after]
    return {
        "items": [job.to_json() for job in found[:limit]],
        "next": found[limit - 1].id if len(found) > limit else None,
    }


def _job(site: Site, request: Request, _body: dict[str, Any], _by: str) -> Any:
    return site.atlas.cron.sync.get_job_status(request.path_params["job"])


def _tasks(site: Site, request: Request, _body: dict[str, Any], _by: str) -> Any:
    query = request.query_params
    found = site.atlas.status.get_tasks(
        job=query.get("job"), status=query.get("status"), text=query.get("text"), limit=_limit(request)
    )
    return {"items": [task_json(task) for task in found]}


def _task(site: Site, request: Request, _body: dict[str, Any], _by: str) -> Any:
    task_id = request.path_params["task"]
    return {**task_json(site.atlas.status.get_task(task_id)), "attempts": site.atlas.status.get_attempts(task_id)}


def _logs(site: Site, request: Request, _body: dict[str, Any], _by: str) -> Any:
    task_id, limit = request.path_params["task"], _limit(request)
    site.atlas.status.get_task(task_id)
    lines = site.store.read(lambda connection: read_logs(connection, task_id, limit=limit))
    return {"items": [line.to_json() for line in lines]}


def _queue(site: Site, _request: Request, _body: dict[str, Any], _by: str) -> Any:
    return site.atlas.get_queue_status()


def _metrics(site: Site, _request: Request, _body: dict[str, Any], _by: str) -> Any:
    return site.atlas.status.get_metrics().to_json()


def _audit(site: Site, request: Request, _body: dict[str, Any], _by: str) -> Any:
    limit = _limit(request)
    return {"items": [entry.to_json() for entry in site.store.read(lambda one: read_audit(one, limit=limit))]}


def _run(site: Site, request: Request, body: dict[str, Any], by: str) -> Any:
    args, kwargs = body.get("args"), body.get("kwargs")
    if not isinstance(args, list | None) or not isinstance(kwargs, dict | None):
        raise HTTPException(400, "args is a list, kwargs an object")
    return {"task": site.atlas.cron.sync.run_job_now(request.path_params["job"], args=args, kwargs=kwargs, by=by)}


def _pause(site: Site, request: Request, body: dict[str, Any], by: str) -> Any:
    site.atlas.cron.sync.pause_job(request.path_params["job"], reason=_text(body, "reason")[:500], by=by)
    return {"paused": True}


def _resume(site: Site, request: Request, _body: dict[str, Any], by: str) -> Any:
    return {"resumed": site.atlas.cron.sync.resume_job(request.path_params["job"], by=by)}


def _cancel(site: Site, request: Request, _body: dict[str, Any], by: str) -> Any:
    return {"cancelled": site.atlas.queue.sync.cancel_task(request.path_params["task"], by=by)}


def _retry(site: Site, request: Request, _body: dict[str, Any], by: str) -> Any:
    return {"task": site.atlas.queue.sync.retry_task(request.path_params["task"], by=by)}


def _submit(site: Site, _request: Request, body: dict[str, Any], by: str) -> Any:
    name, args, kwargs = _text(body, "function"), body.get("args", []), body.get("kwargs", {})
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise HTTPException(400, "args is a list, kwargs an object")
    if name not in site.atlas.registry.names():  # registered ones alone: no module name is taken here
        raise UnknownFunctionError(name)
    return {"task": site.atlas.queue.sync.submit(name, *args, kwargs=kwargs, by=by)}


VERBS: Final[tuple[tuple[str, str, Verb], ...]] = (
    ("GET", "/jobs", _jobs),
    ("GET", "/tasks", _tasks),
    ("POST", "/tasks", _submit),
    ("GET", "/queue", _queue),
    ("GET", "/metrics", _metrics),
    ("GET", "/audit", _audit),
    ("POST", "/jobs/{job:path}/run", _run),
    ("POST", "/jobs/{job:path}/pause", _pause),
    ("POST", "/jobs/{job:path}/resume", _resume),
    ("GET", "/jobs/{job:path}", _job),
    ("GET", "/tasks/{task:path}/logs", _logs),
    ("POST", "/tasks/{task:path}/cancel", _cancel),
    ("POST", "/tasks/{task:path}/retry", _retry),
    ("GET", "/tasks/{task:path}", _task),
)


def routes(site: Site) -> list[Route]:
    """One route per verb."""
    return [_route(site, method, path, verb) for method, path, verb in VERBS]


def _route(site: Site, method: str, path: str, verb: Verb) -> Route:
    async def answer(request: Request) -> JSONResponse:
        body: Any = {}
        if method == "POST" and (raw := await request.body()):
            try:
                body = json.loads(raw)
            except (ValueError, RecursionError) as error:
                raise HTTPException(400, "the body is not JSON") from error
            if not isinstance(body, dict):
                raise HTTPException(400, "the body is a JSON object")
        by = str(request.scope.get("atlas.by", "api"))
        found = await site.renders.run(lambda: json.dumps(verb(site, request, body, by), default=str))
        return JSONResponse(json.loads(found))

    return Route(f"/api/v1{path}", answer, methods=[method], name=f"api{verb.__name__}")
