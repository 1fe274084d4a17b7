"""`Intake`: what waits to be written. Everybody puts something in; the writer takes all of it at once.

::

    accept ─┐
    change ─┼─► the batch that waits ── taken ──► the batch under way ──► written, or put back in front
    work   ─┘
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from atlas.scheduler.errors import QueueStoppedError
from atlas.scheduler.locks import BargingLock
from atlas.scheduler.store.commit import Accept, Batch, Work, move_of
from atlas.scheduler.store.task_rows import moving_row, new_row
from atlas.scheduler.task import TaskPriority

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from atlas.scheduler.clock import Clock
    from atlas.scheduler.store.tickets import Ticket
    from atlas.scheduler.task import Task, TaskStatus

MAX_BEHIND: Final = 100
"""Write-behind changes that may be unwritten before no further task starts; bounds what a crash can repeat."""
GATHER_S: Final = 0.001
"""How long changes that nobody waits for gather: a short task is RUNNING and final in one commit, and one row."""
MAX_BEHIND_S: Final = 1.0
"""Age of the oldest unwritten change before no further task starts."""
MAX_HELD_S: Final = 0.1
"""How long URGENT tasks on their way, one behind the other, hold back what is less: free slots are for everybody."""
NOTHING: Final = Batch()
_URGENT: Final = TaskPriority.URGENT


class Intake:
    """Where everything goes that this process has to write, and what says whether so much waits that work must rest."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = BargingLock()  # entered by itself: a condition's own way in can be left by Ctrl-C with it taken
        self._ready = self._lock.condition()
        self._batch = Batch()
        self._under_way = NOTHING
        self._fence: Callable[[Connection], None] | None = None
        self._oldest_s: float | None = None
        self._urgent_since_s = 0.0  # of those that are on their way
        self._asleep = self._gathering = False
        self._closing = False
        self._deaf = False  # behind an outage: what others asked for meanwhile is not heard yet

    def set_fence(self, fence: Callable[[Connection], None] | None) -> None:
        """Let ``fence`` look at each commit from now on; None ends that, but for what was put in under the last one.

        That may be written late, when another process leads: it would neither know of these tasks nor serve them.
        """
        with self._lock:
            self._fence = fence
            if fence is not None or not self._batch:
                self._batch.fence = fence

    def accept(self, tasks: Sequence[Task], ticket: Ticket) -> None:
        """Insert new tasks; behind the commit they go to ``on_accepted`` and ``ticket`` gets the value None."""
        new = Accept(tasks, [new_row(task) for task in tasks], ticket)
        with self._lock:
            self._refuse_if_closed()
            self._batch.accepts.append(new)
            if new.is_urgent:
                self._note_urgent()
            if self._asleep:
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
        also: Callable[[Connection], None] | None = None,
        awaited: bool = True,
    ) -> None:
        """Write a task's new state behind; only its newest state reaches the disk, every move becomes an event.

        ``ticket`` is settled by its commit, of which ``also`` is a part. Where nobody is known to wait for it
        (``awaited`` is False), it may gather with others for `GATHER_S`.
        """
        row, move = moving_row(task), move_of(task, was, at, wait_s)
        with self._lock:
            batch = self._batch
            batch.changes[task.id] = row
            batch.moves.append(move)
            if attempt is not None:
                batch.attempts.append(attempt)
            if ticket is not None:
                batch.works.append(Work(also, ticket))
            if self._oldest_s is None:
                self._oldest_s = self._clock.monotonic()
            if awaited:
                batch.is_awaited = True
            if self._asleep and (not self._gathering or awaited or len(batch.changes) >= MAX_BEHIND):
                self._ready.notify()

    def work(
        self,
        run: Callable[[Connection], Any],
        ticket: Ticket,
        *,
        after: Callable[[Any], None] | None = None,
        failed: Callable[[BaseException], None] | None = None,
        tells: bool = True,
        otherwise: Callable[[Connection], Any] | None = None,
        is_urgent: bool = False,
    ) -> None:
        """Run ``run`` in the next commit, ``otherwise`` in its place where it raises; its error undoes nothing else.

        Either may run more than once: a commit that failed is made again. Neither may swallow an error of the database
        but in a savepoint of its own: PostgreSQL ends such a transaction with a COMMIT that is none.

        Behind the commit ``after`` gets its value, or ``failed`` the error it raised, before ``ticket`` is settled.
        ``tells`` is False for what no other process waits for, see `Notifier`; ``is_urgent`` is True if it makes a task
        that is URGENT.
        """
        with self._lock:
            self._refuse_if_closed()
            self._batch.works.append(Work(run, ticket, after, failed, tells, otherwise, is_urgent))
            if is_urgent:
                self._note_urgent()
            self._ready.notify()

    def _note_urgent(self) -> None:
        if not (self._batch.is_urgent or self._under_way.is_urgent):
            self._urgent_since_s = self._clock.monotonic()
        self._batch.is_urgent = True

    def may_start(self, priority: int = _URGENT) -> bool:
        """False while so much is unwritten that no further task should start, or its cancel may be unheard.

        Nothing less starts while an URGENT task is on its way to the disk, for `MAX_HELD_S` at most: it would take the
        slot, and before that the interpreter, for which the writer waits at each of its statements.
        """
        if self._deaf:
            return False
        waiting, under_way = self._batch, self._under_way
        if len(waiting.changes) + len(under_way.changes) >= MAX_BEHIND:
            return False
        if (
            priority > _URGENT
            and (waiting.is_urgent or under_way.is_urgent)
            and self._clock.monotonic() - self._urgent_since_s < MAX_HELD_S
        ):
            return False
        oldest = self._oldest_s
        return oldest is None or self._clock.monotonic() - oldest < MAX_BEHIND_S

    def _refuse_if_closed(self) -> None:
        if self._closing:
            raise QueueStoppedError("the store is closed")

    def _take(self, pause_s: float, look_in_s: Callable[[], float], *, goes_on: bool) -> Batch | None:
        """The next batch, an empty one when it is time to look around, None when closing and all is written.

        Args:
            pause_s: How long to let things wait, seconds.
            look_in_s: Says when it is time to look around, seconds.
            goes_on: There is more to do than what waits here.
        """
        with self._lock:
            self._asleep = True  # an answer to every notify would cost a producer more than the rest of its call
            if pause_s:
                until_s = self._clock.monotonic() + pause_s
                while not self._closing and (left_s := until_s - self._clock.monotonic()) > 0:
                    self._clock.wait(self._ready, left_s)  # every new change notifies; none of them ends the pause
            elif not self._batch and not self._closing and (idle_s := look_in_s()) > 0:
                self._clock.wait(self._ready, idle_s)
            batch = self._batch
            if batch.changes and batch.may_gather and len(batch.changes) < MAX_BEHIND and not self._closing:
                # Not the clock's wait: this is about the disk, and a test's time may stand still.
                self._gathering = True
                self._ready.wait(GATHER_S)
                self._gathering = False
            self._asleep = False
            if not batch:
                # Not this one: what comes meanwhile goes into it.
                return None if self._closing and not goes_on else Batch(fence=self._fence)
            self._batch = Batch(fence=self._fence)
            self._under_way = batch
            return batch

    def _put_in_front(self, batch: Batch, under_way: Batch) -> None:
        """Let a batch that was not written wait again, before what has come since."""
        with self._lock:
            batch.put_before(self._batch)
            self._batch = batch
            self._under_way = under_way

    def _note_written(self) -> None:
        """Nothing is under way any more."""
        with self._lock:
            self._under_way = NOTHING
            self._oldest_s = self._clock.monotonic() if self._batch.changes else None
