"""What is taken away as a file: the tasks of a selection, the log of a task, a version of the jobs file."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response
from starlette.routing import Route

from atlas.scheduler.log_lines import hide
from atlas.scheduler.store.task_logs import read_logs
from atlas.scheduler.store.task_rows import fetch_known
from atlas.web.pages.errors import headline
from atlas.web.pages.tasks import MOST_TAKEN, find_tasks, wanted_of
from atlas.web.pages.view import View, priority_name
from atlas.web.site import visit_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.requests import Request

    from atlas.web.site import Site, Visit

MOST_LINES: Final = 50_000
"""Lines of a log in one file; `log_max_bytes` cuts most logs before."""
_FIELDS: Final = (
    *("id", "name", "job_id", "status", "priority", "reason", "fire_time", "created_at", "started_at", "finished_at"),
    *("duration_s", "attempt", "failures", "cause", "error"),
)
_INSTANTS: Final = ("fire_time", "created_at", "started_at", "finished_at")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def tasks_csv(visit: Visit) -> Response:
    """The tasks of the page's selection as a table, times in UTC."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(_FIELDS)
    table.writerows([_cell(row[name]) for name in _FIELDS] for row in _tasks(visit))
    # With a mark of its encoding: without one, spreadsheets take it for the code page of their country.
    return _file(text.getvalue().encode("utf-8-sig"), "text/csv; charset=utf-8", _named(visit, "tasks", "csv"))


def tasks_json(visit: Visit) -> Response:
    """The tasks of the page's selection, a line each."""
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in _tasks(visit))
    return _file(f"[\n{lines}\n]\n".encode(), "application/json", _named(visit, "tasks", "json"))


def task_log(visit: Visit) -> Response:
    """Everything a task has logged, a line each."""
    task_id = str(visit.path_params["task"])
    visit.store.read(lambda connection: fetch_known(connection, task_id))
    lines = visit.store.read(lambda connection: read_logs(connection, task_id, limit=MOST_LINES))
    text = "".join(f"{line.at.isoformat()} {line.attempt} {line.level:<8} {line.message}\n" for line in lines)
    return _file(text.encode(), "text/plain; charset=utf-8", _named(visit, "log", "txt"))


def config_file(visit: Visit) -> Response:
    """A version of the jobs file to the letter: ``revision``, or the one in force."""
    reconciler, asked = visit.atlas.reconciler, visit.query.get("revision", "")[:9]
    latest = None if asked else reconciler.latest_revision()
    number = latest.number if latest else int(asked) if asked.isascii() and asked.isdecimal() else 0
    found = reconciler.revision(number)
    return _file(found.text.encode(), "application/json", f"atlas-config-r{found.number}.json")


def _tasks(visit: Visit) -> Iterable[dict[str, Any]]:
    view = View.of(visit)
    wanted, secret = wanted_of(view), visit.atlas.settings.logging.redact
    for row in visit.store.read(lambda connection: find_tasks(connection, view, wanted, "", MOST_TAKEN)):
        told = row._asdict()
        started_s, finished_s = told["started_at"], told["finished_at"]
        told["duration_s"] = None if started_s is None or finished_s is None else round(finished_s - started_s, 6)
        for name in _INSTANTS:
            if told[name] is not None:
                told[name] = datetime.fromtimestamp(told[name], UTC).isoformat()
        told["priority"] = priority_name(told["priority"])
        if told["error"] is not None:
            told["error"] = hide(headline(told["error"]), secret)
        yield {name: told[name] for name in _FIELDS}


def _cell(value: Any) -> Any:
    """A value as a spreadsheet may have it: text that it would reckon as a formula is text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _named(visit: Visit, what: str, ending: str) -> str:
    return f"atlas-{what}-{visit.store.clock.now():%Y%m%dT%H%M%SZ}.{ending}"


def _file(content: bytes, kind: str, name: str) -> Response:
    return Response(content, media_type=kind, headers={"content-disposition": f'attachment; filename="{name}"'})


def routes(site: Site) -> list[Route]:
    """The files; what takes long is made where no page waits for it."""

    def route(path: str, make: Callable[[Visit], Response]) -> Route:
        async def answer(request: Request) -> Response:
            visit = visit_of(site, request)
            return await site.chores.run(lambda: make(visit))

        return Route(path, answer, name=make.__name__)

    return [
        route("/tasks.csv", tasks_csv),
        route("/tasks.json", tasks_json),
        route("/logs/{task:path}", task_log),
        route("/config/file", config_file),
    ]
