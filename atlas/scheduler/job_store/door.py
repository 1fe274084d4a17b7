"""`Door`: lets one pass, or one change to jobs, in at a time, and writes what a pass decided.

::

    a pass ──► enters ──► decides ──► one commit ──► next starts move, the door opens, tasks are released
    a change to jobs ──► waits ── … ──────────────────────────────────► enters ──► one commit ──► leaves
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from loguru import logger

from atlas.scheduler.crash_points import CrashPoint, reached
from atlas.scheduler.errors import AtlasError, StoreUnavailableError
from atlas.scheduler.events import JobEvent, JobEventKind
from atlas.scheduler.job_store.blame import Shared, write_without_refused
from atlas.scheduler.job_store.passes import Pass, write_pass
from atlas.scheduler.store.store import CALL_S
from atlas.scheduler.store.tickets import Ticket
from atlas.scheduler.task import TaskPriority

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from atlas.scheduler.job_store.apart import ApartJobs
    from atlas.scheduler.job_store.table import JobTable
    from atlas.scheduler.store.store import Store
    from atlas.scheduler.task import Task


class Door:
    """Held by a pass from its opening until its commit, and by a change to jobs; every method from any thread.

    ``on_released`` takes the tasks of a pass once they are on disk, ``on_dropped`` those that were not written;
    ``wake`` lets the loop look at the jobs.
    """

    def __init__(
        self,
        store: Store,
        table: JobTable,
        apart: ApartJobs,
        *,
        on_released: Callable[[Sequence[Task]], None],
        on_dropped: Callable[[Sequence[Task]], None],
        wake: Callable[[], None],
    ) -> None:
        self._store, self._table, self._apart = store, table, apart
        self._on_released, self._on_dropped, self._wake = on_released, on_dropped, wake
        self.lock = threading.Lock()
        self._local = threading.local()
        self._looping: Pass | None = None  # the pass the loop has open, until its thread closes it
        self._giving_up = threading.Lock()

    # --- in and out ---------------------------------------------------------------------------------------------------

    def enter(self) -> None:
        """Wait until it is free, and take it.

        Raises:
            StoreUnavailableError: A pass kept it for 5 s.
        """
        if not self.lock.acquire(timeout=CALL_S):
            raise StoreUnavailableError(
                "a pass of the scheduler waits for the database; nothing was changed", waited_s=CALL_S
            )

    def leave(self) -> None:
        """Let the next one in."""
        self.lock.release()

    @property
    def current(self) -> Pass | None:
        """The pass this thread has open; one that another thread has open is none of its business."""
        return getattr(self._local, "decided", None)

    @current.setter
    def current(self, decided: Pass | None) -> None:
        self._local.decided = decided

    def enter_loop(self, now: datetime) -> Pass | None:
        """Begin a pass of the loop; None while another one, or a change, is inside."""
        if not self.lock.acquire(blocking=False):
            return None
        decided = self._looping = Pass(now)
        return decided

    def is_loops(self, decided: Pass) -> bool:
        """Close a pass of the loop; False if it was given up meanwhile."""
        with self._giving_up:
            if self._looping is not decided:
                return False
            self._looping = None
            return True

    def give_up_pass(self, error: BaseException | None = None) -> None:
        """Forget the pass that the loop has open, if it has one: it is decided again.

        ``error`` is what the loop raised; None for one that is dead or stands still.
        """
        with self._giving_up:
            decided, self._looping = self._looping, None
        if decided is not None:
            self.not_written(decided, error or TimeoutError("the loop that decided on it is dead or stands still"))

    # --- the commit of a pass -----------------------------------------------------------------------------------------

    def write(self, decided: Pass, wait_s: float) -> bool:
        """Write a pass and leave behind its commit; False if it is not on disk when this returns."""
        ticket, suspects = Ticket(), self._apart.waiting()

        def whole(connection: Connection) -> Shared:
            return Shared(write_pass(connection, decided), {})

        def in_parts(connection: Connection) -> Shared:
            return write_without_refused(connection, decided, suspects, write_pass)

        try:
            self._store.writer.work(
                in_parts if suspects else whole,
                ticket,
                otherwise=None if suspects else in_parts,
                after=lambda shared: self._written(decided, shared),
                failed=lambda error: self.not_written(decided, error),
                is_urgent=any(task.priority is TaskPriority.URGENT for task in decided.tasks),
            )
        except AtlasError as error:  # the store is closed
            self.not_written(decided, error)
            return False
        try:
            ticket.wait(wait_s)
        except TimeoutError:
            return False  # the writer goes on trying with the same rows; until then no other pass opens
        except Exception as error:  # noqa: BLE001 - told by not_written; the loop must go on
            logger.debug("a pass was not written", error=str(error))
            return False
        return True

    def drop(self, decided: Pass) -> None:
        """Let go of the tasks of a pass that another loop decides again, and of the jobs it took out since."""
        self._on_dropped(decided.tasks)
        self._table.rebuild()

    def _written(self, decided: Pass, shared: Shared) -> None:
        reached(CrashPoint.PASS_COMMITTED)
        (kept, skips), refused = shared
        served = decided.only([job_id for job_id in decided.job_ids if job_id not in refused]) if refused else decided
        apart, (faults, well) = self._apart.mark(refused, decided.now), self._apart.note(served)
        self._table.move(served.next_run, served.ended)
        self.leave()
        self._on_released(kept)
        if len(kept) < len(decided.tasks):
            kept_ids = {task.id for task in kept}
            self._on_dropped([task for task in decided.tasks if task.id not in kept_ids])
        self._apart.tell(apart + faults)
        self._apart.tell_return(well)
        ended = [JobEvent(job_id=job_id, kind=JobEventKind.ENDED, at=decided.now) for job_id in served.ended]
        if skips or ended:
            self._store.events.publish(*skips, *ended)
        self._wake()

    def not_written(self, decided: Pass, error: BaseException) -> None:
        """Leave; what was decided is decided again."""
        logger.opt(exception=error).error("a pass could not be written; it is decided again")
        self._on_dropped(decided.tasks)
        self._table.rebuild()
        self.leave()
