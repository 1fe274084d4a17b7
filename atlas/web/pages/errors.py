"""Errors grouped by type and place, and an error's traceback cut into what matters."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, literal, select

from atlas.scheduler.error_text import named_error
from atlas.scheduler.events import TaskEvent
from atlas.scheduler.store.tables import attempts, tasks
from atlas.scheduler.store.task_rows import instant

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import BindParameter, Connection

    from atlas.scheduler.events import Event
    from atlas.scheduler.store.store import Store

MOST_ERRORS: Final = 1_000
"""Newest errors of each kind that are looked at."""
KEEPS_S: Final = 60.0
_AT_ONCE: Final = 500
_TOLD: Final = frozenset({"FAILED", "TIMEOUT", "RETRYING"})
_FRAME: Final = re.compile(r'^\s+File "([^"]*)", line (\d+), in (.*)$')
_LIBRARY: Final = re.compile(r"site-packages|dist-packages|/lib/python3|<frozen ")
_VARYING: Final = re.compile(r"0x[0-9a-f]+|\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a traceback: ``kind`` is ``app``, ``hit``, ``lib``, ``exc`` or ``plain``."""

    kind: str
    text: str


def headline(error: str | None) -> str:
    """The line that names the error, without the path of its class; of a text without a traceback the first one."""
    named = named_error(error or "")
    if named is None:
        return next((line for line in (error or "").splitlines() if line and not line[0].isspace()), "")
    name, colon, rest = named.partition(":")
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
    """Errors of one type at one place.

    Attributes:
        title: The newest one's.
        place: Of errors without a traceback, such as timeouts, the function.
    """

    title: str
    place: str
    jobs: dict[str, int] = field(default_factory=dict)
    count: int = 0
    last_at: datetime | None = None
    last_task: str = ""
    failed: int = 0
    timed_out: int = 0
    recovered: int = 0

    def add(self, job: str, status: str, at_s: float, task_id: str) -> None:
        """One more: of a final task with ``status``, of one that recovered (SUCCESS) or is tried again ("")."""
        self.count += 1
        self.jobs[job] = self.jobs.get(job, 0) + 1
        if self.last_at is None or at_s > self.last_at.timestamp():
            self.last_at, self.last_task = instant(at_s), task_id
        self.failed += status == "FAILED"
        self.timed_out += status == "TIMEOUT"
        self.recovered += status == "SUCCESS"

    @property
    def status(self) -> str:
        """What to mark it with."""
        return "FAILED" if self.failed else "TIMEOUT" if self.timed_out else "RETRYING"


@dataclass(frozen=True, slots=True)
class _Said:
    """What an error's text comes to; its kind is the title without numbers."""

    title: str
    place: str
    kind: str


class Errors:
    """Keeps the errors of the last 24 hours: of final tasks, and of attempts that were tried again.

    A text is read and taken apart once; which errors there are is looked up anew after one more has happened.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._said: dict[tuple[str, int], _Said] = {}
        self._tried_again: set[str] = set()
        self._groups: list[ErrorGroup] = []
        self._until_s = 0.0

    def hear(self, event: Event) -> None:
        """A task failed, or one that did is tried again or has recovered: look again."""
        if isinstance(event, TaskEvent) and (event.status in _TOLD or event.task_id in self._tried_again):
            self._until_s = 0.0

    def forget(self) -> None:
        """Look again next time."""
        self._until_s = 0.0

    def groups(self, now: datetime, *, most: int = 8) -> list[ErrorGroup]:
        """Grouped by type and place, most frequent first."""
        if now.timestamp() >= self._until_s:
            self._until_s = now.timestamp() + KEEPS_S
            self._groups = self._store.read(lambda connection: self._look(connection, now.timestamp() - 86_400))
        return self._groups[:most]

    def _look(self, connection: Connection, since_s: float) -> list[ErrorGroup]:
        final, again = (connection.execute(one, _since(since_s)).all() for one in (_FINAL, _AGAIN))
        self._tried_again = {row.id for row in again if row.status == "RETRYING"}
        said = self._taken_apart(connection, [(row.id, 0) for row in final], [(row.id, row.attempt) for row in again])
        groups: dict[tuple[str, str], ErrorGroup] = {}
        for row in sorted((*final, *again), key=lambda row: row.at or since_s, reverse=True):
            words = said[row.id, row.attempt]
            status = "SUCCESS" if row.attempt and row.status == "SUCCESS" else "" if row.attempt else row.status
            title, where = words.title or row.status.title(), words.place or row.function or ""
            group = groups.setdefault((words.kind or title, where), ErrorGroup(title, where))
            group.add(row.job_id or row.name, status, row.at or since_s, row.id)
        return sorted(groups.values(), key=lambda group: -group.count)

    def _taken_apart(
        self, connection: Connection, final: list[tuple[str, int]], again: list[tuple[str, int]]
    ) -> dict[tuple[str, int], _Said]:
        """What each error's text comes to; texts that were not seen before are read."""
        known = self._said
        found = {key: known[key] for key in (*final, *again) if key in known}
        new = [task_id for task_id, _none in final if (task_id, 0) not in known]
        for place_ in range(0, len(new), _AT_ONCE):
            for task_id, error in connection.execute(_TEXTS, {"ids": new[place_ : place_ + _AT_ONCE]}):
                found[task_id, 0] = _said(error or "")
        new = sorted({task_id for task_id, attempt in again if (task_id, attempt) not in known})
        for place_ in range(0, len(new), _AT_ONCE):
            for task_id, attempt, error in connection.execute(_MORE_TEXTS, {"ids": new[place_ : place_ + _AT_ONCE]}):
                found[task_id, attempt] = _said(error or "")
        nothing = _said("")
        self._said = {key: found.get(key, nothing) for key in (*final, *again)}
        return self._said


@lru_cache(maxsize=512)
def _said(error: str) -> _Said:
    title = headline(error)[:200]
    return _Said(title, place(error), _VARYING.sub("#", title))


def _since(since_s: float) -> dict[str, Any]:
    # Generated ids begin with their time: the key alone finds the newest attempts that were tried again.
    return {"since": since_s, "first_id": f"{int(since_s * 1000):012x}"}


_FINAL: Final = (
    select(
        *(tasks.c[name] for name in ("id", "job_id", "name", "function", "status")),
        tasks.c.finished_at.label("at"),
        literal(0).label("attempt"),
    )
    .where(tasks.c.status.in_(("FAILED", "TIMEOUT")), tasks.c.created_at >= bindparam("since"))
    .order_by(tasks.c.created_at.desc())
    .limit(MOST_ERRORS)
)
_AGAIN: Final = (
    select(
        *(tasks.c[name] for name in ("id", "job_id", "name", "function", "status")),
        attempts.c.ended_at.label("at"),
        attempts.c.attempt,
    )
    .join(tasks, tasks.c.id == attempts.c.task_id)
    .where(attempts.c.task_id >= bindparam("first_id"), attempts.c.error.is_not(None))
    .order_by(attempts.c.task_id.desc())
    .limit(MOST_ERRORS)
)
_IDS: Final[BindParameter[str]] = bindparam("ids", expanding=True)
_TEXTS: Final = select(tasks.c.id, tasks.c.error).where(tasks.c.id.in_(_IDS))
_MORE_TEXTS: Final = select(attempts.c.task_id, attempts.c.attempt, attempts.c.error).where(
    attempts.c.task_id.in_(_IDS)
)
