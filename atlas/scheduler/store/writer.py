"""The one writer: groups what is waiting into one commit, and retries it with the same ids until the database takes it.

::

                                           ┌─► accepted tasks to the queue
    what waits (`Intake`) ─► a transaction ┼─► tickets wake their waiters, one call per loop
                    ▲            │ error   └─► totals, events
                    └── put back ┘
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from loguru import logger
from sqlalchemy.exc import SQLAlchemyError

from atlas.scheduler import crash_points
from atlas.scheduler.crash_points import CrashPoint, reached
from atlas.scheduler.errors import LeaseLostError, StoreError, StoreUnavailableError
from atlas.scheduler.events import SchedulerEvent, SchedulerEventKind
from atlas.scheduler.message import Message
from atlas.scheduler.metrics import Moves
from atlas.scheduler.store.commit import Batch, Move, SpoiltError, Work, accepted_event, events_of, refused_event
from atlas.scheduler.store.connection import WriterConnection
from atlas.scheduler.store.database_file import is_corrupt
from atlas.scheduler.store.intake import NOTHING, Intake
from atlas.scheduler.store.refusals import is_conflict
from atlas.scheduler.store.task_rows import insert_attempts, insert_new_tasks, update_tasks
from atlas.scheduler.store.tickets import wake_all
from atlas.scheduler.task import FINAL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection, Engine

    from atlas.scheduler.clock import Clock
    from atlas.scheduler.events import EventStream
    from atlas.scheduler.metrics import Totals
    from atlas.scheduler.store.database_file import DatabaseFile
    from atlas.scheduler.store.notifier import Notifier, Sent
    from atlas.scheduler.task import Task

POLL_S: Final = 0.5
"""How often the writer looks for other processes' commits where nobody tells it of them."""
EARLY: Final = 0.8
"""Share of that time after which it looks when it is awake anyway."""
RETRY_FIRST_S: Final = 0.1
RETRY_MAX_S: Final = 1.0
LONG_COMMIT_S: Final = 2.0
"""A commit that takes longer is told as a fault while it lasts."""
MAX_CONFLICTS: Final = 10
"""Deadlocks in a row that are no outage."""


class _Doubt(NamedTuple):
    """A commit whose reply was lost."""

    sent: Sent
    batch: Batch
    counts: Moves


class Writer(Intake):
    """Writes everything this process has to write, in groups, on one thread."""

    def __init__(self, engine: Engine, clock: Clock, totals: Totals, events: EventStream) -> None:
        super().__init__(clock)
        self._totals, self._events = totals, events
        self._failing_since_s: float | None = None
        self._fault: str | None = None
        self._doubt: _Doubt | None = None
        self._conflicts = 0  # in a row
        self._commit_since_s: float | None = None
        self._connection = WriterConnection(engine)
        self._looked_s = float("-inf")
        self._thread: threading.Thread | None = None
        self.on_accepted: Callable[[list[Task]], None] | None = None
        self.on_written: Callable[[list[Move]], None] | None = None
        self.on_foreign: Callable[[], None] | None = None
        self.on_lost: Callable[[str], None] | None = None
        self.on_fenced: Callable[[], None] | None = None
        self.guard: threading.RLock | None = None
        self.notifier: Notifier | None = None
        self._damage: str | None = None
        self.commits = 0

    # --- from outside ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread."""
        self._connection.get()  # the file is looked at through it
        self._connection.file.remember()
        self._thread = threading.Thread(target=self._loop, name="atlas-writer", daemon=True)
        self._thread.start()

    @property
    def fault(self) -> str | None:
        """What the database says while it does not take commits, None while it does."""
        since_s = self._commit_since_s
        if self._fault is None and since_s is not None and self._clock.monotonic() - since_s > LONG_COMMIT_S:
            return f"a commit waits for the database for {self._clock.monotonic() - since_s:.0f} s"
        return self._fault

    @property
    def failing_s(self) -> float:
        """Seconds since commits began to fail, 0.0 while they do not."""
        since = self._failing_since_s
        return 0.0 if since is None else self._clock.monotonic() - since

    def look_again(self) -> None:
        """Take other processes' commits for unseen: they are looked at now, and before the next commit."""
        self._connection.forget_seen()
        self.look_soon()

    def look_soon(self) -> None:
        """Look now whether other processes have committed."""
        with self._lock:
            self._looked_s = float("-inf")
            self._ready.notify()

    def close(self, timeout_s: float = 10.0) -> bool:
        """Write what is waiting and end the thread; False when the database did not take it in time."""
        with self._lock:
            self._closing = True
            self._ready.notify()
        if self._thread is None or self._thread is threading.current_thread():
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # --- the thread -----------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        pause_s: float | None = 0.0
        try:
            while pause_s is not None:
                pause_s = self._round(pause_s)  # nothing of its batch is kept while the writer sleeps
        except Exception as error:
            logger.exception("the writer ended; nothing is written any more until this process starts anew")
            self._failing_since_s = self._clock.monotonic()
            self._fault = f"the writer ended by {type(error).__name__}: {error}; restart this process"
            raise
        finally:
            self._connection.drop()

    def _round(self, pause_s: float) -> float | None:
        """Take what waits, behind a pause, and write it; returns the pause before the next turn, None at the end."""
        batch = self._take(pause_s, self._look_in_s, goes_on=self._doubt is not None)
        if batch is None:
            return None
        # While a commit is repeated that may have reached the disk, a look would count it, and its end once more.
        if self._look_in_s(early=True) <= 0 and not (self._failing_since_s is not None and (batch or self._doubt)):
            self._looked_s = self._clock.monotonic()
            self._look_for_foreign()
        if not batch and self._doubt is None and not self._is_lost():
            return pause_s
        if self._commit(batch):
            return 0.0
        if self._closing and self.failing_s > RETRY_MAX_S * 5:
            self._fail_all()
            return None
        return min(RETRY_MAX_S, max(RETRY_FIRST_S, pause_s * 2))

    def _commit(self, batch: Batch) -> bool:
        self._commit_since_s = self._clock.monotonic()
        try:
            if self._doubt is not None:
                batch = self._without_doubt(self._doubt, batch)
                if not batch:
                    self._recovered()
                    self._hear()
                    return True
            counts = self._write(batch)
        except LeaseLostError as error:
            self._refuse(batch, error)
            return True
        except Exception as error:  # noqa: BLE001 - a database error must not end the writer, whatever its class
            if self._is_mere_conflict(batch, error):
                self._doubt = None
                self._put_in_front(batch, NOTHING)
                return True
            self._put_back(batch, error)
            return False
        finally:
            self._commit_since_s = None
        self.commits += 1
        self._conflicts = 0
        self._recovered()
        self._after(batch, counts)
        self._hear()
        return True

    def _hear(self) -> None:
        """Behind an outage: what others have committed is looked at before a further task starts."""
        if self._deaf:
            self._looked_s = self._clock.monotonic()
            if self._look_for_foreign() and self.on_written is not None:
                self._guarded(self.on_written, [])  # who was held up may start

    def _without_doubt(self, doubt: _Doubt, newer: Batch) -> Batch:
        """What is left to write once it is known what became of a commit whose reply was lost."""
        try:
            connection = self._connection.get()
            with connection.begin():
                committed = doubt.sent.was_committed(connection)
        except Exception:
            self._connection.drop()
            raise
        self._doubt = None
        if committed:
            self.commits += 1
            self._after(doubt.batch, doubt.counts)
            return newer
        doubt.batch.put_before(newer)
        return doubt.batch

    def _write(self, batch: Batch) -> Moves:
        with suppress(SpoiltError):
            return self._transact(batch, Work.do)
        # Behind the handler: the traceback of what is raised within would show that one, and its cause, once more.
        return self._transact(batch, Work.do_apart)

    def _transact(self, batch: Batch, do: Callable[[Work, Connection], None]) -> Moves:
        counts = batch.counted()
        sent: Sent | None = None
        is_sent = False
        self._refuse_lost_file()
        if self.guard is not None:
            self.guard.acquire()
        try:
            connection = self._connection.get()
            reached(CrashPoint.COMMIT_BEFORE_BEGIN)
            with connection.begin():
                if batch.fence is not None:
                    batch.fence(connection)
                insert_new_tasks(connection, [row for accept in batch.accepts for row in accept.rows])
                ends = crash_points.armed is not None and any(event.status in FINAL for _task, event in batch.moves)
                if ends:
                    reached(CrashPoint.COMMIT_BEFORE_FINAL_ROWS)
                update_tasks(connection, list(batch.changes.values()))
                if ends:
                    reached(CrashPoint.COMMIT_AFTER_FINAL_ROWS)
                insert_attempts(connection, batch.attempts)
                counts.write(connection)
                for work in batch.works:
                    do(work, connection)
                if self.notifier is not None and batch.tells:
                    sent = self.notifier.tell(connection)
                reached(CrashPoint.COMMIT_BEFORE_COMMIT)
                is_sent = True
            reached(CrashPoint.COMMIT_AFTER_COMMIT)
        except SpoiltError:
            raise  # the connection is well
        except Exception:
            if is_sent and sent is not None:  # behind the last statement: it may be committed all the same
                self._doubt = _Doubt(sent, batch, counts)
            self._connection.drop()
            raise
        finally:
            if self.guard is not None:
                self.guard.release()
        return counts

    def _after(self, batch: Batch, counts: Moves) -> None:
        """Tell everybody what is on disk now; whatever one of them raises, the others are told."""
        self._guarded(self._totals.add, counts)
        self._note_written()
        accepted, moves = batch.accepted, batch.moves
        if accepted and self.on_accepted is not None:
            self._guarded(self.on_accepted, accepted)
        if self.on_written is not None:  # before anybody wakes, who may then take the queue apart
            self._guarded(self.on_written, moves)
        reached(CrashPoint.COMMIT_AFTER_HAND_OVER)
        self._guarded(self._publish, batch)
        for accept in batch.accepts:
            accept.ticket.settle(None)
        for work in batch.works:
            if work.error is not None and work.failed is not None:
                self._guarded(work.failed, work.error)
            elif work.error is None and work.after is not None:
                self._guarded(work.after, work.value)
            work.ticket.settle(work.value, work.error)
        self._guarded(wake_all, batch.tickets)
        if self.notifier is not None and batch.tells:
            self.notifier.told()

    def _publish(self, batch: Batch) -> None:
        accepted, moves = batch.accepted, batch.moves
        if accepted or moves:
            self._events.publish_later(lambda: events_of(accepted, moves), len(accepted) + len(moves))

    @staticmethod
    def _guarded(call: Callable[[Any], None], value: Any) -> None:
        try:
            call(value)
        except Exception:  # noqa: BLE001 - what is on disk is on disk; the writer must go on
            logger.exception("a hook behind a commit raised")

    def hand_over(self, tasks: Sequence[Task]) -> None:
        """Count, tell and hand on tasks that a `work` has inserted; for its ``after``."""
        moves = Moves()
        moves.made_all(tasks)
        self._totals.add(moves)
        if self.on_accepted is not None:
            self.on_accepted(list(tasks))
        self._events.publish_later(lambda: [accepted_event(task) for task in tasks], len(tasks))

    def announce(self, served: Sequence[Task], refused: Sequence[Task]) -> None:
        """Tell of tasks that another process put into the store, and of those among them that ended at once."""
        self._events.publish_later(
            lambda: [*map(accepted_event, [*served, *refused]), *map(refused_event, refused)],
            len(served) + 2 * len(refused),
        )

    # --- when two transactions meet ---------------------------------------------------------------------------------

    def _is_mere_conflict(self, batch: Batch, error: Exception) -> bool:
        """True if the batch gave way to another transaction, and is to be written once more at once: no outage."""
        if not is_conflict(error) or self._failing_since_s is not None or self._conflicts >= MAX_CONFLICTS:
            return False
        if self._doubt is not None and self._doubt.batch is not batch:
            return False  # another one is still asked for
        self._conflicts += 1
        logger.warning("a commit gave way to another transaction; it is repeated at once", error=_first_line(error))
        return True

    # --- when the database does not answer --------------------------------------------------------------------------

    def _put_back(self, batch: Batch, error: Exception) -> None:
        now_s = self._clock.monotonic()
        text = str(getattr(error, "orig", None) or error)
        if self._failing_since_s is None:
            self._failing_since_s = now_s
            self._deaf = True
            logger.error("the database does not take a commit; it is retried", error=text)
            self._events.publish(
                SchedulerEvent(kind=SchedulerEventKind.FAULT, at=self._clock.now(), detail={"store": text})
            )
        if is_corrupt(error):
            self._damage = Message("the database file {path} is damaged ({text})", path=self.file.path, text=text)
        if not isinstance(error, SQLAlchemyError) and not isinstance(error, OSError):
            logger.opt(exception=error).error("unexpected error in a commit")
        self._fault = text
        doubt = self._doubt
        with self._lock:
            if doubt is None or doubt.batch is not batch:
                batch.put_before(self._batch)
                self._batch = batch
            self._under_way = NOTHING if doubt is None else doubt.batch
        self.withdraw_expired()

    def withdraw_expired(self) -> None:
        """Withdraw what waits here for too long; what a commit holds may be on disk yet, and is waited for.

        For whoever waits behind a commit that hangs; one that fails sees to it itself.
        """
        now_s, fault = self._clock.monotonic(), self.fault
        with self._lock:
            expired = self._batch.withdraw_expired(now_s)
        for ticket in expired:
            message = f"the database did not take the change within {ticket.waited_s:g} s ({fault}); it was withdrawn"
            ticket.settle(None, StoreUnavailableError(message, waited_s=ticket.waited_s))
        wake_all(expired)

    def _refuse(self, batch: Batch, error: LeaseLostError) -> None:
        """Another process leads: nothing of this batch is true any more."""
        with self._lock:
            self._under_way = NOTHING
            self._oldest_s = None
        self._deaf = False  # whoever leads next reads everything anew
        logger.error("late writes are refused: {}", error, changes=len(batch.changes), accepts=len(batch.accepts))
        self._fail(batch, error)
        if self.on_fenced is not None:
            self.on_fenced()

    def _fail_all(self) -> None:
        with self._lock:
            batch, self._batch = self._batch, Batch()
        if self._doubt is not None:
            self._doubt.batch.put_before(batch)
            batch = self._doubt.batch
        message = f"the store was closed while the database did not answer ({self._fault})"
        self._fail(batch, StoreUnavailableError(message, waited_s=self.failing_s))
        logger.error("closed with changes the database did not take", changes=len(batch.changes), error=self._fault)

    def _fail(self, batch: Batch, error: StoreError) -> None:
        for work in batch.works:
            if work.failed is not None:
                self._guarded(work.failed, error)
        for ticket in batch.tickets:
            ticket.settle(None, error)
        wake_all(batch.tickets)

    def _recovered(self) -> None:
        if self._failing_since_s is not None:
            seconds = self.failing_s
            self._failing_since_s = self._fault = None
            logger.info("the database takes commits again", after_s=round(seconds, 1))
            self._events.publish(
                SchedulerEvent(kind=SchedulerEventKind.RECOVERED, at=self._clock.now(), detail={"after_s": seconds})
            )

    # --- when the database is lost ----------------------------------------------------------------------------------

    @property
    def file(self) -> DatabaseFile:
        """The database file."""
        return self._connection.file

    def _is_lost(self) -> bool:
        return self._damage is not None or self.file.lost() is not None

    def _refuse_lost_file(self) -> None:
        """Commits to a database file that was deleted or replaced would succeed, and be gone.

        With ``on_lost`` it is made anew, and the commit goes on there.

        Raises:
            OSError: The file is not the one that was opened, and nobody makes it anew.
        """
        why = self._damage or self.file.lost()
        if why is None:
            return
        self._connection.drop()
        if self.on_lost is None:
            raise OSError(f"{why}; stop this process, or move the old file back")
        self.on_lost(why)
        self._damage = None

    def _look_in_s(self, *, early: bool = False) -> float:
        """Seconds until it is time to look for other processes' commits; ``early``: where it is awake anyway."""
        notifier = self.notifier
        every_s = notifier.safety_s if notifier is not None and notifier.listens else POLL_S
        return self._looked_s + every_s * (EARLY if early else 1.0) - self._clock.monotonic()

    def _look_for_foreign(self) -> bool:
        """Notice commits of other processes; False if the database does not answer."""
        if self.on_foreign is None or self.guard is not None:
            self._deaf = False
            return True
        if self._is_lost():  # looking would make an empty file there, and it would take the lost one's log for its own
            return False
        try:
            if self._deaf:
                self._connection.forget_seen()
            if self._connection.others_committed():
                self.on_foreign()
        except Exception as error:  # noqa: BLE001 - looked at again in half a second
            self._connection.forget_seen()
            logger.debug("could not look for other processes' changes", error=str(error))
            self._connection.drop()
            return False
        self._deaf = False
        return True


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).split("\n", 1)[0]
