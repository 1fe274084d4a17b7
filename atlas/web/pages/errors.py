"""Errors grouped by type and place, and an error's traceback cut into what matters."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from atlas.scheduler.store.tables import attempts, tasks
from atlas.scheduler.store.task_rows import instant

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from atlas.web.pages.desk import Desk

MOST_ERRORS: Final = 1_000
_FRAME: Final = re.compile(r'^\s+File "([^"]*)", line (\d+), in (.*)$')
_LIBRARY: Final = re.compile(r"site-packages|dist-packages|/lib/python3|<frozen ")
_VARYING: Final = re.compile(r"0x[0-9a-f]+|\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a traceback: ``kind`` is ``app``, ``hit``, ``lib``, ``exc`` or ``plain``."""

    kind: str
    text: str


def headline(error: str | None) -> str:
    """The line that names the error: the last one that is not indented, without the path of its class."""
    lines = [line for line in (error or "").splitlines() if line and not line[0].isspace()]
    if not lines:
        return ""
    if not lines[0].startswith("Traceback"):
        return lines[0]
    named = [
        line for line in lines if re.match(r"^[\w.]+(Error|Exception|Timeout|Warning|Exit|Interrupt|Stopped)?\b", line)
    ]
    last = next((line for line in reversed(named) if not line.startswith("Traceback")), lines[-1])
    name, colon, rest = last.partition(":")
    return (name.rsplit(".", 1)[-1] if re.fullmatch(r"[\w.]+", name) else name) + colon + rest


def place(error: str | None) -> str:
    """``atlas/llm/client.py:141``: the innermost frame that is no library's; "" without a traceback."""
    found = ""
    for line in (error or "").splitlines():
        frame = _FRAME.match(line)
        if frame and not _LIBRARY.search(frame[1]):
            found = f"{'/'.join(frame[1].split('/')[-3:])}:{frame[2]}"
    return found


def folded(error: str) -> list[tuple[bool, list[Line]]]:
    """A traceback in stretches: (is it a library's, its lines). Libraries' stretches may be folded away."""
    stretches: list[tuple[bool, list[Line]]] = []
    library = False
    in_frame = False
    for text in error.splitlines():
        frame = _FRAME.match(text)
        if frame:
            library, in_frame = bool(_LIBRARY.search(frame[1])), True
            kind = "lib" if library else "app"
        elif in_frame and text.startswith("    "):
            kind = "lib" if library else "app" if set(text.strip()) <= set("^~ ") else "hit"
        elif text[:1].isspace():
            kind = "plain"
        else:
            library = in_frame = False
            kind = "plain" if text.startswith(("Traceback", "During", "The above")) or not text else "exc"
        if not stretches or stretches[-1][0] != library:
            stretches.append((library, []))
        stretches[-1][1].append(Line(kind, text))
    return stretches


@dataclass(slots=True)
class ErrorGroup:
    """Errors of one type at one place."""

    title: str
    place: str
    jobs: dict[str, int] = field(default_factory=dict)
    count: int = 0
    last_at: datetime | None = None
    last_task: str = ""
    failed: int = 0
    timed_out: int = 0
    recovered: int = 0

    @property
    def status(self) -> str:
        """What to mark it with."""
        return "FAILED" if self.failed else "TIMEOUT" if self.timed_out else "RETRYING"


def error_groups(desk: Desk, now: datetime, *, most: int = 8) -> list[ErrorGroup]:
    """Errors of the last 24 hours, of final tasks and of attempts that were tried again; most frequent first."""
    since_s = now.timestamp() - 86_400
    found = desk.store.read(lambda connection: _read(connection, since_s))
    groups: dict[tuple[str, str], ErrorGroup] = {}
    for job, status, at_s, error, task_id in found:
        title = headline(error) or status.title()
        where = place(error)
        group = groups.setdefault((_VARYING.sub("#", title)[:200], where), ErrorGroup(title[:200], where))
        group.count += 1
        group.jobs[job] = group.jobs.get(job, 0) + 1
        if group.last_at is None or at_s > group.last_at.timestamp():
            group.last_at, group.last_task = instant(at_s), task_id
        if status == "FAILED":
            group.failed += 1
        elif status == "TIMEOUT":
            group.timed_out += 1
        elif status == "SUCCESS":
            group.recovered += 1
    return sorted(groups.values(), key=lambda group: -group.count)[:most]


def _read(connection: Connection, since_s: float) -> list[tuple[str, str, float, str, str]]:
    final = (
        select(tasks.c.job_id, tasks.c.name, tasks.c.status, tasks.c.finished_at, tasks.c.error, tasks.c.id)
        .where(tasks.c.status.in_(("FAILED", "TIMEOUT")), tasks.c.created_at >= since_s)
        .order_by(tasks.c.created_at.desc())
        .limit(MOST_ERRORS)
    )
    found = [
        (row.job_id or row.name, row.status, row.finished_at or since_s, row.error or "", row.id)
        for row in connection.execute(final)
    ]
    # Generated ids begin with their time: the key alone finds the newest attempts that were tried again.
    again = (
        select(tasks.c.job_id, tasks.c.name, tasks.c.status, attempts.c.ended_at, attempts.c.error, tasks.c.id)
        .join(tasks, tasks.c.id == attempts.c.task_id)
        .where(attempts.c.task_id >= f"{int(since_s * 1000):012x}", attempts.c.error.is_not(None))
        .order_by(attempts.c.task_id.desc())
        .limit(MOST_ERRORS)
    )
    found += [
        (row.job_id or row.name, "SUCCESS" if row.status == "SUCCESS" else "", row.ended_at, row.error, row.id)
        for row in connection.execute(again)
    ]
    return found
