"""The one writer: groups what is waiting into one commit, and retries it with the same ids until the database takes it.

::

    accept ─┐                               ┌─► accepted tasks to the queue
    change ─┼─► waiting ─► one transaction ─┼─► tickets wake their waiters, one call per loop
    work   ─┘       ▲            │ error    └─► totals, events
                    └── put back ┘
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from loguru import logger
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError

from atlas.scheduler.errors import QueueStoppedError, StoreUnavailableError
from atlas.scheduler.events import SchedulerEvent, SchedulerEventKind, TaskEvent
from atlas.scheduler.metrics import Moves
from atlas.scheduler.store.engine import file_of
from atlas.scheduler.store.task_rows import insert_attempts, insert_tasks, moving_row, update_tasks
from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Engine

    from atlas.scheduler.clock import Clock
    from atlas.scheduler.events import EventStream
    from atlas.scheduler.metrics import Totals
    from atlas.scheduler.task import Task

POLL_S: Final = 0.5
"""How often the writer looks for other processes' commits while it has nothing to write."""
RETRY_FIRST_S: Final = 0.1
RETRY_MAX_S: Final = 1.0
MAX_BEHIND: Final = 100
"""Write-behind changes that may be unwritten before no further task starts; bounds what a crash can repeat."""
MAX_BEHIND_S: Final = 1.0
"""Age of the oldest unwritten change before no further task starts."""


class Ticket:
    """A place in a commit, waited for by a thread or a coroutine.

    Attributes:
        expires_s: Monotonic time after which it is withdrawn unless a commit holds it; None waits for ever.
        undo: Called once if it ends with an error, before anybody wakes, also when nobody waits any more.
    """

    __slots__ = ("_done", "_error", "_event", "_future", "_loop", "_value", "expires_s", "undo", "waited_s")

    def __init__(
        self, loop: asyncio.AbstractEventLoop | None = None, *, waited_s: float = 0.0, expires_s: float | None = None
    ) -> None:
        """A ticket for ``loop``, or for a thread when it is None."""
        self._loop = loop
        self._future: asyncio.Future[Any] | None = None if loop is None else loop.create_future()
        self._event: threading.Event | None = threading.Event() if loop is None else None
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self.waited_s, self.expires_s = waited_s, expires_s
        self.undo: Callable[[], None] | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that waits, None for a thread."""
        return self._loop

    @property
    def done(self) -> bool:
        """True once it has a value or an error."""
        return self._done

    def settle(self, value: Any, error: BaseException | None = None) -> None:
        """Give the outcome; a thread wakes now, a coroutine when `wake` runs on its loop."""
        if self._done:
            return
        if error is not None and self.undo is not None:
            self.undo()
        self._value, self._error, self._done = value, error, True
        if self._event is not None:
            self._event.set()

    def wake(self) -> None:
        """Wake the coroutine; runs on its loop."""
        if self._future is not None and not self._future.done():
            if self._error is not None:
                self._future.set_exception(self._error)
            else:
                self._future.set_result(self._value)

    def wait(self, timeout_s: float | None = None) -> Any:
        """Block a thread until the outcome is there; returns the value or raises the error.

        Raises:
            TimeoutError: ``timeout_s`` passed first; the ticket stays valid.
        """
        if self._event is None:
            msg = "this ticket belongs to a loop; await it"
            raise RuntimeError(msg)
        if not self._event.wait(timeout_s):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._value

    def future(self) -> asyncio.Future[Any]:
        """The future a coroutine awaits."""
        if self._future is None:
            msg = "this ticket belongs to a thread; call wait()"
            raise RuntimeError(msg)
        return self._future


def wake_all(tickets: Iterable[Ticket]) -> None:
    """Wake settled tickets with one call per loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Ticket]] = {}
    for ticket in tickets:
        if ticket.loop is not None:
            by_loop.setdefault(ticket.loop, []).append(ticket)
    for loop, mine in by_loop.items():
        try:
            loop.call_soon_threadsafe(_wake, mine)
        except RuntimeError:
            logger.debug("a loop closed before its waiters were woken")


def _wake(tickets: Sequence[Ticket]) -> None:
    for ticket in tickets:
        ticket.wake()


@dataclass(slots=True)
class _Work:
    run: Callable[[Connection], Any]
    ticket: Ticket
    after: Callable[[Any], None] | None
    failed: Callable[[BaseException], None] | None = None
    value: Any = None
    error: BaseException | None = None


@dataclass(slots=True)
class _Batch:
    accepts: list[tuple[Task, dict[str, Any], Ticket | None]] = field(default_factory=list)
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    moves: list[tuple[Task, TaskStatus, dict[str, Any], datetime, float | None]] = field(default_factory=list)
    works: list[_Work] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.accepts or self.changes or self.works or self.attempts or self.moves)

    def put_before(self, newer: _Batch) -> None:
        """Take everything that came after this batch failed; the newest state of a task wins."""
        self.accepts += newer.accepts
        self.changes.update(newer.changes)
        self.attempts += newer.attempts
        self.moves += newer.moves
        self.works += newer.works


class Writer:
    """Writes everything this process has to write, in groups, on one thread.

    Args:
        engine: The database.
        clock: Time.
        totals: Counters to move behind each commit.
        events: Where task events go behind each commit.
    """

    def __init__(self, engine: Engine, clock: Clock, totals: Totals, events: EventStream) -> None:
        """Prepare; `start` starts the thread."""
        self._engine, self._clock, self._totals, self._events = engine, clock, totals, events
        self._ready = threading.Condition(threading.Lock())
        self._batch = _Batch()
        self._in_commit = 0
        self._oldest_s: float | None = None
        self._closing = False
        self._failing_since_s: float | None = None
        self._fault: str | None = None
        self._connection: Connection | None = None
        self._data_version: int | None = None
        self._file = file_of(engine.url)
        self._file_id: tuple[int, int] | None = None
        self._looked_s = float("-inf")
        self._thread: threading.Thread | None = None
        self.on_accepted: Callable[[list[Task]], None] | None = None
        self.on_written: Callable[[list[tuple[Task, TaskStatus]]], None] | None = None
        self.on_foreign: Callable[[], None] | None = None
        self.guard: threading.RLock | None = None
        self.commits = 0

    # --- the producers' side --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread."""
        self._file_id = self._identify_file()
        self._thread = threading.Thread(target=self._loop, name="atlas-writer", daemon=True)
        self._thread.start()

    def accept(self, tasks: Sequence[Task], rows: Sequence[dict[str, Any]], ticket: Ticket) -> None:
        """Insert new tasks; behind the commit they go to ``on_accepted`` and ``ticket`` gets the value None."""
        with self._ready:
            self._refuse_if_closed()
            last = len(tasks) - 1
            for number, (task, row) in enumerate(zip(tasks, rows, strict=True)):
                self._batch.accepts.append((task, row, ticket if number == last else None))
            self._ready.notify()

    def change(
        self,
        task: Task,
        was: TaskStatus,
        at: datetime,
        *,
        attempt: dict[str, Any] | None = None,
        wait_s: float | None = None,
        ticket: Ticket | None = None,
    ) -> None:
        """Write a task's new state behind; only its newest state reaches the disk, every move becomes an event."""
        row = moving_row(task)
        with self._ready:
            batch = self._batch
            batch.changes[task.id] = row
            batch.moves.append((task, was, row, at, wait_s))
            if attempt is not None:
                batch.attempts.append(attempt)
            if ticket is not None:
                batch.works.append(_Work(_nothing, ticket, None))
            if self._oldest_s is None:
                self._oldest_s = self._clock.monotonic()
            self._ready.notify()

    def work(
        self,
        run: Callable[[Connection], Any],
        ticket: Ticket,
        *,
        after: Callable[[Any], None] | None = None,
        failed: Callable[[BaseException], None] | None = None,
    ) -> None:
        """Run ``run`` in the next commit, in a savepoint of its own.

        Behind the commit ``after`` gets its value, or ``failed`` the error it raised, before ``ticket`` is settled.
        """
        with self._ready:
            self._refuse_if_closed()
            self._batch.works.append(_Work(run, ticket, after, failed))
            self._ready.notify()

    def may_start(self) -> bool:
        """False while so much is unwritten that no further task should start."""
        if len(self._batch.changes) + self._in_commit >= MAX_BEHIND:
            return False
        oldest = self._oldest_s
        return oldest is None or self._clock.monotonic() - oldest < MAX_BEHIND_S

    @property
    def fault(self) -> str | None:
        """What the database says while it does not take commits, None while it does."""
        return self._fault

    @property
    def failing_s(self) -> float:
        """Seconds since commits began to fail, 0.0 while they do not."""
        since = self._failing_since_s
        return 0.0 if since is None else self._clock.monotonic() - since

    def look_again(self) -> None:
        """Take other processes' commits for unseen: they are looked at before the next commit."""
        self._data_version, self._looked_s = None, float("-inf")

    def close(self, timeout_s: float = 10.0) -> bool:
        """Write what is waiting and end the thread; False when the database did not take it in time."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        if self._thread is None or self._thread is threading.current_thread():
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _refuse_if_closed(self) -> None:
        if self._closing:
            msg = "the store is closed"
            raise QueueStoppedError(msg)

    # --- the thread -----------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        pause_s = 0.0
        while True:
            batch = self._take(pause_s)
            if batch is None:
                break
            if self._clock.monotonic() - self._looked_s >= POLL_S:
                self._looked_s = self._clock.monotonic()
                self._look_for_foreign()
            if not batch:
                continue
            if self._commit(batch):
                pause_s = 0.0
            else:
                pause_s = min(RETRY_MAX_S, max(RETRY_FIRST_S, pause_s * 2))
                if self._closing and self.failing_s > RETRY_MAX_S * 5:
                    self._fail_all()
                    break
        self._drop_connection()

    def _take(self, pause_s: float) -> _Batch | None:
        """The next batch, an empty one when it is time to look around, None when closing and all is written."""
        with self._ready:
            if pause_s:
                until_s = self._clock.monotonic() + pause_s
                while not self._closing and (left_s := until_s - self._clock.monotonic()) > 0:
                    self._clock.wait(self._ready, left_s)  # every new change notifies; none of them ends the pause
            elif not self._batch and not self._closing:
                self._clock.wait(self._ready, POLL_S)
            batch = self._batch
            if not batch:
                return None if self._closing else _Batch()  # not this one: what comes meanwhile goes into it
            self._batch = _Batch()
            self._in_commit = len(batch.changes)
            return batch

    def _commit(self, batch: _Batch) -> bool:
        try:
            moves = self._write(batch)
        except Exception as error:  # noqa: BLE001 - a database error must not end the writer, whatever its class
            self._put_back(batch, error)
            return False
        self.commits += 1
        self._recovered()
        self._after(batch, moves)
        return True

    def _write(self, batch: _Batch) -> Moves:
        moves = Moves()
        for task, _row, _ticket in batch.accepts:
            moves.made(task.job_id)
        for task, was, row, _at, _wait in batch.moves:
            status = TaskStatus(row["status"])
            moves.moved(task.job_id, was, status, _duration(was, row) if status.is_final else None)
        self._refuse_other_file()
        if self.guard is not None:
            self.guard.acquire()
        try:
            connection = self._connect()
            with connection.begin():
                insert_tasks(connection, [row for _task, row, _ticket in batch.accepts])
                update_tasks(connection, list(batch.changes.values()))
                insert_attempts(connection, batch.attempts)
                moves.write(connection)
                for work in batch.works:
                    self._run(connection, work)
        except Exception:
            self._drop_connection()
            raise
        finally:
            if self.guard is not None:
                self.guard.release()
        return moves

    @staticmethod
    def _run(connection: Connection, work: _Work) -> None:
        work.value = work.error = None
        if work.run is _nothing:
            return
        savepoint = connection.begin_nested()
        try:
            work.value = work.run(connection)
            savepoint.commit()
        except Exception as error:  # the work's own error belongs to its ticket, the database's to the whole commit
            if isinstance(error, DBAPIError) and not _is_about_values(error):
                raise
            savepoint.rollback()
            work.error = error

    def _after(self, batch: _Batch, moves: Moves) -> None:
        self._totals.add(moves)
        with self._ready:
            self._in_commit = 0
            self._oldest_s = self._clock.monotonic() if self._batch.changes else None
        if batch.accepts and self.on_accepted is not None:
            self._guarded(self.on_accepted, [task for task, _row, _ticket in batch.accepts])
        if self.on_written is not None:  # before anybody wakes, who may then take the queue apart
            self._guarded(
                self.on_written, [(task, TaskStatus(row["status"])) for task, _was, row, _at, _wait in batch.moves]
            )
        if batch.accepts or batch.moves:
            self._events.publish_later(lambda: _events(batch))
        tickets = [ticket for _task, _row, ticket in batch.accepts if ticket is not None]
        for ticket in tickets:
            ticket.settle(None)
        for work in batch.works:
            if work.error is not None and work.failed is not None:
                self._guarded(work.failed, work.error)
            elif work.error is None and work.after is not None:
                self._guarded(work.after, work.value)
            work.ticket.settle(work.value, work.error)
            tickets.append(work.ticket)
        wake_all(tickets)

    @staticmethod
    def _guarded(call: Callable[[Any], None], value: Any) -> None:
        try:
            call(value)
        except Exception:  # noqa: BLE001 - what is on disk is on disk; the writer must go on
            logger.exception("a hook behind a commit raised")

    def hand_over(self, tasks: Sequence[Task]) -> None:
        """Count, tell and hand on tasks that a `work` has inserted; for its ``after``."""
        moves = Moves()
        for task in tasks:
            moves.made(task.job_id)
        self._totals.add(moves)
        if self.on_accepted is not None:
            self.on_accepted(list(tasks))
        self._events.publish_later(lambda: [_accepted(task) for task in tasks])

    def announce(self, served: Sequence[Task], refused: Sequence[Task]) -> None:
        """Tell of tasks that another process put into the store, and of those among them that ended at once."""
        self._events.publish_later(lambda: [*map(_accepted, [*served, *refused]), *map(_refused, refused)])

    # --- when the database does not answer --------------------------------------------------------------------------

    def _put_back(self, batch: _Batch, error: Exception) -> None:
        now_s = self._clock.monotonic()
        text = str(getattr(error, "orig", None) or error)
        if self._failing_since_s is None:
            self._failing_since_s = now_s
            logger.error("the database does not take a commit; it is retried", error=text)
            self._events.publish(
                SchedulerEvent(kind=SchedulerEventKind.FAULT, at=self._clock.now(), detail={"store": text}),
            )
        if not isinstance(error, SQLAlchemyError) and not isinstance(error, OSError):
            logger.opt(exception=error).error("unexpected error in a commit")
        self._fault = text
        with self._ready:
            batch.put_before(self._batch)
            self._batch = batch
            self._in_commit = 0
            expired = self._withdraw_expired(batch, now_s)
        for ticket in expired:
            message = f"the database did not take the change within {ticket.waited_s:g} s ({text}); it was withdrawn"
            ticket.settle(None, StoreUnavailableError(message, waited_s=ticket.waited_s))
        wake_all(expired)

    @staticmethod
    def _withdraw_expired(batch: _Batch, now_s: float) -> list[Ticket]:
        expired = [
            ticket
            for ticket in [
                *(ticket for _task, _row, ticket in batch.accepts if ticket),
                *(work.ticket for work in batch.works),
            ]
            if ticket.expires_s is not None and ticket.expires_s <= now_s
        ]
        if expired:
            gone = set(map(id, expired))
            kept, group = [], []
            for entry in batch.accepts:  # a group of tasks ends with the entry that carries its ticket
                group.append(entry)
                if entry[2] is not None:
                    kept += [] if id(entry[2]) in gone else group
                    group = []
            batch.accepts = kept
            batch.works = [work for work in batch.works if id(work.ticket) not in gone]
        return expired

    def _fail_all(self) -> None:
        with self._ready:
            batch, self._batch = self._batch, _Batch()
        message = f"the store was closed while the database did not answer ({self._fault})"
        for work in batch.works:
            if work.failed is not None:
                self._guarded(work.failed, StoreUnavailableError(message, waited_s=self.failing_s))
        tickets = [ticket for _task, _row, ticket in batch.accepts if ticket] + [work.ticket for work in batch.works]
        for ticket in tickets:
            ticket.settle(None, StoreUnavailableError(message, waited_s=self.failing_s))
        wake_all(tickets)
        logger.error("closed with changes the database did not take", changes=len(batch.changes), error=self._fault)

    def _recovered(self) -> None:
        if self._failing_since_s is not None:
            seconds = self.failing_s
            self._failing_since_s = self._fault = None
            logger.info("the database takes commits again", after_s=round(seconds, 1))
            self._events.publish(
                SchedulerEvent(kind=SchedulerEventKind.RECOVERED, at=self._clock.now(), detail={"after_s": seconds}),
            )

    # --- the connection -------------------------------------------------------------------------------------------

    def _connect(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect().execution_options(atlas_write=True)
        return self._connection

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except SQLAlchemyError:
                connection.invalidate()

    def _identify_file(self) -> tuple[int, int] | None:
        if self._file is None:
            return None
        found = self._file.stat()
        return found.st_dev, found.st_ino

    def _refuse_other_file(self) -> None:
        """Commits to a database file that was deleted or replaced would succeed, and be lost.

        Raises:
            OSError: The file is not the one that was opened.
        """
        if self._identify_file() != self._file_id:
            msg = f"{self._file} was replaced by another file; stop this process, or move the old file back"
            raise OSError(msg)

    def _look_for_foreign(self) -> None:
        """Notice commits of other processes: SQLite counts them for free, PostgreSQL is simply asked."""
        if self.on_foreign is None or self.guard is not None:
            return
        try:
            if self._engine.dialect.name == "sqlite":
                version = self._connect().connection.cursor().execute("PRAGMA data_version").fetchone()[0]
                changed, self._data_version = version != self._data_version, version
                if not changed:
                    return
            self.on_foreign()
        except Exception as error:  # noqa: BLE001 - looked at again in half a second
            self._data_version = None
            logger.debug("could not look for other processes' changes", error=str(error))
            self._drop_connection()


def _nothing(_connection: Connection) -> None:
    """The work of a ticket that only waits for the commit."""


def _is_about_values(error: DBAPIError) -> bool:
    """True if the database refused what it was given, and would again; False if it is the database that is unwell."""
    return isinstance(error, IntegrityError | DataError | ProgrammingError) and not error.connection_invalidated


def _duration(was: TaskStatus, row: dict[str, Any]) -> float | None:
    started, finished = row["started_at"], row["finished_at"]
    if was is not TaskStatus.RUNNING or started is None or finished is None:
        return None  # what ended while it waited for a retry did not run all that time
    duration_s: float = max(0.0, finished - started)
    return duration_s


def _accepted(task: Task) -> TaskEvent:
    return TaskEvent(
        task_id=task.id,
        name=task.name,
        job_id=task.job_id,
        status=TaskStatus.PENDING,
        attempt=0,
        at=task.created_at,
    )


def _refused(task: Task) -> TaskEvent:
    return TaskEvent(
        task_id=task.id,
        name=task.name,
        job_id=task.job_id,
        status=task.status,
        attempt=task.attempt,
        at=task.finished_at or task.created_at,
        error=task.error,
        cause=task.cause,
    )


def _events(batch: _Batch) -> list[TaskEvent]:
    events = [_accepted(task) for task, _row, _ticket in batch.accepts]
    for task, was, row, at, wait_s in batch.moves:
        started = row["started_at"] if was is TaskStatus.RUNNING else None
        events.append(
            TaskEvent(
                task_id=task.id,
                name=task.name,
                job_id=task.job_id,
                status=TaskStatus(row["status"]),
                attempt=row["attempt"],
                at=at,
                duration_s=None if started is None else max(0.0, at.timestamp() - started),
                wait_s=wait_s,
                error=row["error"],
                cause=row["cause"],
            ),
        )
    return events
