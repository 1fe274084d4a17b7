"""What tasks logged: handed to the writer in groups, and read back in the order it was written."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from loguru import logger
from sqlalchemy import bindparam, select

from atlas.scheduler.as_json import fields_as_json
from atlas.scheduler.errors import AtlasError
from atlas.scheduler.store.statements import Statement
from atlas.scheduler.store.tables import task_logs
from atlas.scheduler.store.tickets import Ticket

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from atlas.scheduler.store.store import Store

GROUP: Final = 500
"""Lines of one commit: some 5 ms, so that a task which logs a lot holds up nobody's commit for longer."""

_LINE: Final = ("task_id", "attempt", "logged_at", "level", "message")
_INSERT: Final = Statement(
    lambda database: database.insert(task_logs).values({name: bindparam(name) for name in _LINE})
)
"""Not ``executemany``: beside a function that does nothing but log, each row would wait for its turn of 5 ms, and with
them every commit."""
_READ: Final = (
    select(task_logs)
    .where(task_logs.c.task_id == bindparam("task"), task_logs.c.id > bindparam("after"))
    .order_by(task_logs.c.id)
    .limit(bindparam("most"))
)
_READ_END: Final = (
    select(task_logs)
    .where(task_logs.c.task_id == bindparam("task"))
    .order_by(task_logs.c.id.desc())
    .limit(bindparam("most"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    r"""One stored line of a task.

    Attributes:
        id: Its place: ids of later lines are greater.
        at: When, aware UTC.
        level: ``INFO`` …; ``PRINT`` for what was printed, ``NOTE`` for what Atlas says about the log itself.
        message: Text without control characters; the lines of a traceback follow behind ``"\n    "``.
    """

    id: int
    attempt: int
    at: datetime
    level: str
    message: str

    def to_json(self) -> dict[str, Any]:
        """The line as JSON holds it, its time as ISO 8601 in UTC."""
        return fields_as_json(self)


def read_logs(connection: Connection, task_id: str, after_id: int = 0, limit: int = 1000) -> list[LogLine]:
    """The lines of a task behind the one with ``after_id``, oldest first, at most ``limit``.

    Give the ``id`` of the last line as ``after_id`` to read on; a task that runs goes on logging, and the last lines of
    one that logged beyond its limit come when its attempt ends.
    """
    return [_line(row) for row in connection.execute(_READ, {"task": task_id, "after": after_id, "most": limit})]


def read_end(connection: Connection, task_id: str, limit: int) -> list[LogLine]:
    """The last ``limit`` lines of a task, oldest first."""
    return [_line(row) for row in connection.execute(_READ_END, {"task": task_id, "most": limit})][::-1]


def _line(row: Any) -> LogLine:
    return LogLine(
        id=row.id,
        attempt=row.attempt,
        at=datetime.fromtimestamp(row.logged_at, UTC),
        level=row.level,
        message=row.message,
    )


class LogBuffer:
    """Lines on their way to the writer: at most `GROUP` in a commit, and one group under way at a time.

    Holds what it is given until it is on disk; whoever adds keeps to a limit. May be used from any thread.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._waiting: list[dict[str, Any]] = []
        self._under_way = False

    def add(self, task_id: str, attempt: int, at_s: float, level: str, message: str) -> None:
        """Have a line written soon; returns at once."""
        row = {"task_id": task_id, "attempt": attempt, "logged_at": at_s, "level": level, "message": message}
        with self._lock:
            self._waiting.append(row)
            if self._under_way:
                return
            self._under_way = True
        self._send()

    def push(self) -> None:
        """Have everything that waits written no later than what the writer is given next."""
        with self._lock:
            rows, self._waiting = self._waiting, []
        for start in range(0, len(rows), GROUP):
            self._give(rows[start : start + GROUP], after=None, failed=_lost)

    def flush(self) -> None:
        """Wait until everything added before is on disk.

        Raises:
            StoreUnavailableError: The database does not answer.
        """
        while True:
            self._store.write(_nothing)  # a group that is under way comes before it
            with self._lock:
                if not self._under_way:
                    return

    def _send(self) -> None:
        with self._lock:
            rows, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
            if not rows:
                self._under_way = False
                return

        self._give(rows, after=self._written, failed=self._refused)

    def _give(
        self,
        rows: list[dict[str, Any]],
        *,
        after: Callable[[None], None] | None,
        failed: Callable[[BaseException], None],
    ) -> None:
        def write(connection: Connection) -> None:
            _INSERT.run(connection, rows)

        try:
            self._store.writer.work(write, Ticket(), after=after, failed=failed)
        except AtlasError:  # the store is closed: nothing will be written any more
            with self._lock:
                self._waiting.clear()
                self._under_way = False

    def _written(self, _nothing: None) -> None:
        self._send()

    def _refused(self, error: BaseException) -> None:
        _lost(error)
        self._send()


def _lost(error: BaseException) -> None:
    logger.error("the database refuses log lines of tasks; they are lost", error=str(error))


def _nothing(_connection: Connection) -> None:
    """A commit to wait for."""
