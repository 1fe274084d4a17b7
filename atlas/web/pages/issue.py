"""A task as the text of an issue: what, when, its attempts, the error, the end of its log and versions, as Markdown."""

from __future__ import annotations

import platform
import re
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from starlette.responses import PlainTextResponse

from atlas import __version__
from atlas.scheduler.log_lines import hide
from atlas.scheduler.store.audit import read_audit
from atlas.scheduler.store.task_logs import read_end
from atlas.scheduler.store.task_queries import find_attempts
from atlas.scheduler.store.task_rows import fetch_known
from atlas.scheduler.task import TaskStatus
from atlas.web.pages.course import MOST_ASKED, course_of
from atlas.web.pages.task import arguments_of, facts_of
from atlas.web.pages.view import View, short_json
from atlas.web.rendering import Page

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.responses import Response

    from atlas.web.site import Visit

TITLE_LETTERS: Final = 200
LOG_LINES: Final = 40
"""Newest lines of the log."""
ERROR_LINES: Final = 80
"""Last lines of the traceback."""


def issue(visit: Visit) -> Response:
    """The text of one task, to be pasted where people write about it."""
    view = View.of(visit)
    task_id, store, say = str(visit.path_params["task"]), view.desk.store, view.say
    found = store.read(lambda connection: fetch_known(connection, task_id))
    earlier = store.read(lambda connection: find_attempts(connection, task_id))
    asked = store.read(lambda connection: read_audit(connection, subject=task_id, limit=MOST_ASKED))
    lines = store.read(lambda connection: read_end(connection, task_id, LOG_LINES))
    facts = [(say("Status"), view.word_of(found.status.value)), (say("Job"), found.job_id or "")]
    facts += [*facts_of(view, found, earlier, view.said.full), (say("Version"), _versions(store.engine.dialect.name))]
    error = "" if found.status is TaskStatus.SUCCESS else found.error or ""
    headline = view.headline(error)[:TITLE_LETTERS] or view.word_of(found.status.value)
    arguments = [f"{name} = {short_json(value)}" for name, value in arguments_of(found)]
    events = [
        f"{view.said.full(one.at)}  {one.words}{say(': ') + one.more if one.more else ''}"
        for one in course_of(view, found, earlier, asked)
    ]
    logged = [f"{view.said.full(line.at)[11:23]} {line.level:<8} {line.message}" for line in lines]
    safe = partial(hide, patterns=visit.atlas.settings.logging.redact)  # before the marks of code stand around it
    parts = [f"### {code(found.name)} {code(safe(headline))}", _table((words, safe(value)) for words, value in facts)]
    for title, block_of in (
        (say("Arguments"), arguments),
        (say("Events"), events),
        (say("Error"), error.splitlines()[-ERROR_LINES:]),
        (say("Log, the last {n} lines", n=LOG_LINES), logged),
    ):
        if block_of:
            parts.append(f"**{title}**\n\n{block(map(safe, block_of))}")
    return PlainTextResponse("\n\n".join(parts) + "\n")


def code(text: str) -> str:
    """``text`` as code within a line, whatever it holds."""
    ticks = "`" * (_longest(text) + 1)
    space = " " if text[:1] == "`" or text[-1:] == "`" else ""
    return f"{ticks}{space}{' '.join(text.split())}{space}{ticks}"


def block(lines: Iterable[str]) -> str:
    """Lines as a block of code that nothing in them ends."""
    text = "\n".join(lines)
    fence = "`" * max(3, _longest(text) + 1)
    return f"{fence}text\n{text}\n{fence}"


def _longest(text: str) -> int:
    """The longest run of backticks."""
    return max(map(len, re.findall("`+", text)), default=0)


def _table(facts: Iterable[tuple[str, str]]) -> str:
    cells = ((words, code(value).replace("|", "\\|")) for words, value in facts if value)
    rows = [f"| {words} | {value} |" for words, value in cells]
    return "\n".join(["| | |", "|---|---|", *rows])


def _versions(database: str) -> str:
    parts = {"Atlas Scheduler": __version__, "Python": platform.python_version()}
    parts |= {"APScheduler": version("apscheduler"), "SQLAlchemy": version("sqlalchemy")}
    return ", ".join([*(f"{name} {number}" for name, number in parts.items()), database, platform.system()])


ISSUE: Final = Page("issue", "/issue/{task:path}", issue)
