"""A store without threads: whoever hands it work, or waits for it, does the writing and the telling.

::

    accept, work ──► flush ──► one commit after another ──► subscribers are told
    change ──► waits for the next flush
    Ticket.wait ──► flush; what the database does not take now is timed out at once, since nothing happens meanwhile
"""

from __future__ import annotations

import sqlite3
import threading
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from atlas.scheduler.errors import StoreUnavailableError
from atlas.scheduler.events import EventStream
from atlas.scheduler.store.commit import Batch
from atlas.scheduler.store.store import Store
from atlas.scheduler.store.writer import Writer
from atlas.scheduler.task import TaskPriority
from atlas.scheduler.testing.crashes import Killed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from atlas.scheduler.events import Event
    from atlas.scheduler.store.tickets import Ticket
    from atlas.scheduler.task import Task, TaskStatus


class HandStream(EventStream):
    """Tells subscribers in the thread that publishes, or that writes, once it has written."""

    def __init__(self) -> None:
        super().__init__()
        self.held = False
        self._telling = False

    def publish_later(self, make: Callable[[], Sequence[Event]], count: int) -> None:
        """Tell now, or behind what is told or written just now."""
        if not self._closed:
            self._queue.append((make, count))
            self.tell()

    def tell(self) -> None:
        """Tell what waits."""
        if self.held or self._telling:
            return
        self._telling = True
        try:
            while self._queue and not self.held:
                self._tell(self._queue.popleft()[0])
        finally:
            self._telling = False

    def drain(self, timeout_s: float = 5.0) -> bool:  # noqa: ARG002 - nobody else does it meanwhile
        """Tell what waits; True unless this is called by a subscriber."""
        self.tell()
        return not self._queue

    def close(self, timeout_s: float = 5.0) -> None:  # noqa: ARG002 - see drain
        """Tell what is left."""
        self.tell()
        self._closed = True


class HandWriter(Writer):
    """The one writer, without its thread.

    Attributes:
        dead: True once the process is taken for killed: nothing is written any more.
    """

    dead = False
    _writing = False

    def start(self) -> None:
        """Connect."""
        self._turn = threading.RLock()
        self._connection.get()
        self._connection.file.remember()

    def accept(self, tasks: Sequence[Task], ticket: Ticket) -> None:
        """`Writer.accept`, and write it."""
        ticket.before_wait = self._before_wait
        super().accept(tasks, ticket)
        self.flush()

    def change(self, task: Task, was: TaskStatus, at: datetime, *, ticket: Ticket | None = None, **more: Any) -> None:
        """`Writer.change`; the caller holds locks, so it is written later."""
        if ticket is not None:
            ticket.before_wait = self._before_wait
        super().change(task, was, at, ticket=ticket, **more)

    def work(self, run: Callable[[Connection], Any], ticket: Ticket, **more: Any) -> None:
        """`Writer.work`, and write it."""
        ticket.before_wait = self._before_wait
        super().work(run, ticket, **more)
        self.flush()

    def may_start(self, priority: int = TaskPriority.URGENT) -> bool:
        """`Writer.may_start`; a dead process starts nothing."""
        return not self.dead and super().may_start(priority)

    def flush(self) -> bool:
        """Write everything that waits; False if the database does not take it.

        Raises:
            Killed: The process counts as dead.
        """
        if self.dead:
            raise Killed
        with self._turn:
            if self._writing:  # a hook behind a commit: the loop below goes on with what it hands over
                return False
            self._writing = True
            stream = self._events
            assert isinstance(stream, HandStream)
            stream.held = True
            try:
                if self._look_in_s() <= 0 and self._failing_since_s is None:
                    self._looked_s = self._clock.monotonic()
                    self._look_for_foreign()
                taken = True
                while taken and self._batch:
                    with self._lock:
                        batch, self._batch = self._batch, Batch(fence=self._fence)
                        self._under_way = batch
                    taken = self._commit(batch)
            except Killed:
                self.dead = True
                raise
            finally:
                self._writing = stream.held = False
        if self.dead:
            raise Killed
        stream.tell()
        return taken

    def _before_wait(self, ticket: Ticket, timeout_s: float | None) -> float | None:
        """What happens while a thread waits: all that waits is written, and if that fails it has waited in vain."""
        self.flush()
        if ticket.done or self._writing:
            return timeout_s
        if timeout_s is None:  # it would wait until the ticket expires, or for ever
            with self._lock:
                self._batch.withdraw([ticket])
            message = f"the database did not take the change ({self.fault}); it was withdrawn"
            ticket.settle(None, StoreUnavailableError(message, waited_s=ticket.waited_s))
        return 0.0

    def close(self, timeout_s: float = 10.0) -> bool:  # noqa: ARG002 - it is done or it fails
        """Write what waits, and disconnect; False if the database did not take it."""
        taken = self.dead or self.flush()
        self._closing = True
        if not taken:
            self._fail_all()
        self._connection.drop()
        return taken


class HandStore(Store):
    """A store for one thread, whose database can be taken away."""

    writer_kind = HandWriter
    stream_kind = HandStream
    _away = False

    @property
    def answers(self) -> bool:
        """False while every statement fails as if the database had gone."""
        return not self._away

    @answers.setter
    def answers(self, value: bool) -> None:
        if not event.contains(self.engine, "before_cursor_execute", self._refuse):
            event.listen(self.engine, "before_cursor_execute", self._refuse)
        self._away = not value

    def _refuse(self, *_args: object) -> None:
        if self._away:
            raise OperationalError("", {}, sqlite3.OperationalError("unable to open database file"))

    def die(self) -> None:
        """Leave everything as a killed process does."""
        self.hand_writer.dead = True
        self.events.close()
        if self._claim is not None:
            self._claim.release()
        self._forget()
        if self.writer.notifier is not None:
            self.writer.notifier.close()
        self.writer.close()
        self.engine.dispose()

    @property
    def hand_writer(self) -> HandWriter:
        """The writer."""
        assert isinstance(self.writer, HandWriter)
        return self.writer
