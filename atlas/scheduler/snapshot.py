"""The ``.json`` face of a status manager: a readable copy of the newest tasks, replaced atomically."""

from __future__ import annotations

import atexit
import json
import os
import threading
import weakref
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain
from threading import Timer
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from loguru import logger

from atlas.scheduler.arguments import encode_arguments
from atlas.scheduler.errors import ConfigError, Problem
from atlas.scheduler.events import TaskEvent
from atlas.scheduler.job_view import task_json
from atlas.scheduler.store.task_queries import TaskFilter, find_tasks
from atlas.scheduler.task import Cause, Origin, Task, TaskPriority, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from atlas.scheduler.events import Event
    from atlas.scheduler.store.store import Store

MAX_TASKS: Final = 1000
EVERY_S: Final = 1.0
MAX_EVERY_S: Final = 10.0
PAUSE: Final = 100
"""So many times as long as a write took it is quiet, within these two: a copy for people takes 1 % of the time."""


class Snapshot:
    """Writes ``path`` while tasks move, at `close` and when the interpreter exits; one task a line.

    At most once a second, and more rarely where a write takes longer than 10 ms. It is replaced as a whole, mode 0600.
    """

    def __init__(self, store: Store, path: Path) -> None:
        self._store, self._path = store, path
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._timer: Timer | None = None
        self._every_s = EVERY_S
        self._closed = False
        self._unsubscribe = store.events.subscribe(self)
        this = weakref.ref(self)

        def at_exit() -> None:
            snapshot = this()
            if snapshot is not None:
                snapshot.close()

        self._at_exit = at_exit
        atexit.register(at_exit)

    def tell(self, events: Sequence[Event]) -> None:
        """Write soon if a task moved."""
        if any(isinstance(event, TaskEvent) for event in events):
            self.soon()

    def soon(self) -> None:
        """Write within a second, or once the time is over that a write of this size is waited for."""
        with self._lock:
            if self._timer is None and not self._closed:
                timer = Timer(max(EVERY_S, self._every_s), self._on_timer)
                timer.daemon = True
                with suppress(RuntimeError):  # no thread is to be had, as when the interpreter ends: `close` writes it
                    timer.start()
                    self._timer = timer

    def _on_timer(self) -> None:
        with self._lock:
            self._timer = None
        self.write(unless_closed=True)

    def write(self, *, unless_closed: bool = False) -> None:
        """Write the file now; a failure is logged, the database is the truth."""
        with self._writing:  # one that began earlier must not end later and leave older content
            if not (unless_closed and self._closed):
                self._write()

    def _write(self) -> None:
        begun_s = perf_counter()
        try:
            tasks = self._store.read(lambda connection: find_tasks(connection, TaskFilter(limit=MAX_TASKS)))
            content = {
                "written_at": self._store.clock.now().isoformat(),
                "database": self._store.url,
                "metrics": self._store.totals.metrics().to_json(),
            }
            head = json.dumps(content, ensure_ascii=False, indent=1).removesuffix("\n}")
            lines = (f"{',' if place else ''}\n  {_line(task_json(task))}" for place, task in enumerate(tasks))
            write_private(self._path, chain([f'{head},\n "tasks": ['], lines, ["\n ]\n}\n"]))
        except Exception as error:  # noqa: BLE001 - a copy for people must not stop the work
            logger.warning("the status file was not written", file=str(self._path), error=str(error))
        self._every_s = min(MAX_EVERY_S, PAUSE * (perf_counter() - begun_s))

    def close(self) -> None:
        """Write once more and stop. Closing twice does nothing."""
        if self._store.was_left_behind:
            return  # the file is the other process's, and locks may be held by threads that are not here
        with self._lock:
            if self._closed:
                return
            self._closed = True
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._unsubscribe()
        atexit.unregister(self._at_exit)
        self.write()


_line: Final = json.JSONEncoder(ensure_ascii=False).encode
"""Without an indent the C encoder does it, in a third of the time."""


def write_private(path: Path, parts: Iterable[str]) -> None:
    """Replace ``path`` by the text of these ``parts`` as a whole; only the user may read it.

    Raises:
        OSError: It cannot be written; the old file stays.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.new")
    try:
        with open(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
            file.writelines(parts)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def read_snapshot(path: Path) -> list[Task]:
    """The tasks of a snapshot, as hand-moved ones; what was unfinished ends FAILED (lost).

    Raises:
        ConfigError: The file is not a snapshot; it is left alone.
    """
    try:
        content: Any = json.loads(path.read_text("utf-8"))
        raw = content["tasks"]
        return [_task(one) for one in (raw.values() if isinstance(raw, dict) else raw)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        message = (
            f"is no status file of Atlas ({type(error).__name__}: {error}); move it away, or name another status_file"
        )
        raise ConfigError([Problem(file=path, path="", message=message)]) from error


def _task(raw: dict[str, Any]) -> Task:
    status = TaskStatus(raw["status"])
    task = Task(
        id=raw["id"],
        name=raw.get("name") or raw["id"],
        function=raw.get("function") or "manual",
        arguments=encode_arguments((), {}),
        job_id=raw.get("job_id"),
        origin=Origin.MANUAL,
        reason="imported from the status file",
        priority=TaskPriority.parse(raw.get("priority", "NORMAL")),
        status=status,
        attempt=int(raw.get("attempt", 0)),
        failures=int(raw.get("failures", 0)),
        crashes=int(raw.get("crashes", 0)),
        created_at=_instant(raw["created_at"]) or datetime.fromtimestamp(0, UTC),
        started_at=_instant(raw.get("started_at")),
        finished_at=_instant(raw.get("finished_at")),
        result=None if raw.get("result") is None else json.dumps(raw["result"], ensure_ascii=False),
        result_omitted=bool(raw.get("result_omitted", False)),
        error=raw.get("error"),
        cause=None if raw.get("cause") is None else Cause(raw["cause"]),
    )
    if not status.is_final:
        task.status, task.cause = TaskStatus.FAILED, Cause.LOST
        task.error = "it was unfinished in the imported status file"
    task.finished_at = task.finished_at or task.started_at or task.created_at
    return task


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
