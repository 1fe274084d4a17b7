"""Takes tasks in: room is made before their rows are committed, and they line up behind the commit.

::

    submit, fire, retry ─► reserve ─► (commit) ─┬─► accepted ──┐
                              │                 └─► forget     ├─► held behind others? ─► the line, or a retry's wait
                              └─► refused                      │
    rows of a dead owner, or of another process ───► adopt ────┘
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from atlas.scheduler.errors import (
    AtlasError,
    DuplicateTaskError,
    FunctionError,
    JobBusyError,
    QueueFullError,
    QueueStoppedError,
    UnknownTaskError,
)
from atlas.scheduler.outcome import Verdict
from atlas.scheduler.store.tickets import wake_all
from atlas.scheduler.task import Cause, ExecutorKind, Task, TaskStatus
from atlas.scheduler.tasks.admission import alone_s
from atlas.scheduler.tasks.live import Live

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from atlas.scheduler.registry import Registry
    from atlas.scheduler.store.tickets import Ticket
    from atlas.scheduler.tasks.live_tasks import LiveTasks


class Acceptance:
    """Decides which tasks a queue takes, and hands those to its line. Every method may be called from any thread.

    Attributes:
        taking: True while tasks may be reserved.
        live_of: Makes the live task of a row; the cron manager knows the functions of volatile jobs.
    """

    def __init__(self, live_tasks: LiveTasks, registry: Registry, *, max_waiting: int) -> None:
        self._store, self._line, self._registry = live_tasks.store, live_tasks.line, registry
        self._max_waiting = max_waiting
        self._tasks, self._lock, self._idle = live_tasks, live_tasks.lock, live_tasks.idle
        self._by_id, self._waiting, self._admission = live_tasks.by_id, live_tasks.waiting, live_tasks.admission
        self.taking = False
        self.live_of: Callable[[Task], Live] = Live

    # --- before the commit ------------------------------------------------------------------------------------------

    def reserve(self, live: Live, *, bounded: bool = True, behind_another: bool = False) -> None:
        """Make room for a task that is about to be committed; decides overlap, for fires and run-now alike.

        Fires are not ``bounded``: a queue that is merely full drops none. One that is ``behind_another`` follows
        another task of the same catch-up, so the overlap rule does not ask.

        Raises:
            QueueStoppedError: The queue takes nothing.
            DuplicateTaskError: An unfinished task has this id.
            QueueFullError: As many tasks wait as may (only when ``bounded``).
            JobBusyError: The job's overlap rule allows no further task now.
        """
        with self._lock:
            self._reserve(live, bounded=bounded, behind_another=behind_another)

    def reserve_all(self, lives: Sequence[Live]) -> None:
        """`reserve` for tasks of one commit: all of them, or none."""
        done = 0
        with self._lock:
            try:
                for live in lives:
                    self._reserve(live, bounded=True, behind_another=False)
                    done += 1
            except AtlasError:
                for live in lives[:done]:
                    self.forget(live.task.id)
                raise

    def _reserve(self, live: Live, *, bounded: bool, behind_another: bool) -> None:
        task = live.task
        if not self.taking:
            raise QueueStoppedError("the queue takes nothing: it is not started, stopping or stopped")
        if task.id in self._by_id:
            raise DuplicateTaskError(task.id)
        if bounded and self._waiting.total >= self._max_waiting:
            raise QueueFullError(self._max_waiting)
        if task.job_id is not None:
            if not behind_another:
                self._admission.decide(task)
            self._admission.open(live)
        task.owner = self._store.owner
        self._by_id[task.id] = live
        self._waiting.add(task)

    def refusal(self, task: Task, ticket: Ticket) -> Verdict | None:
        """Why a task that another process put into the store is not served; None if it is, by the commit of ``ticket``.

        From then on it counts as unfinished, until `adopt` or `expect_none`.
        """
        with self._lock:
            try:
                self._admission.decide(task)
            except JobBusyError as error:
                return Verdict(status=TaskStatus.CANCELLED, cause=Cause.BUSY, error=str(error))
            self._admission.coming.setdefault(ticket, {})[task.id] = task.job_id
            return None

    def expect_none(self, ticket: Ticket) -> None:
        """A commit that takes tasks over begins, begins anew, or has failed: it has decided on none."""
        with self._lock:
            self._admission.coming.pop(ticket, None)

    def replaced_by(self, task: Task) -> list[str]:
        """Ids of the unfinished tasks of the same job that ``task`` takes the place of (``overlap: replace``)."""
        with self._lock:
            return self._admission.replaced_by(task)

    def forget(self, task_id: str) -> None:
        """Undo a `reserve` whose commit did not happen."""
        with self._lock:
            live = self._by_id.pop(task_id, None)
            if live is None:
                return
            self._waiting.remove(live.task.status, live.task.priority)
            self._tasks.line_up(self._admission.leave(live))
            self._idle.notify_all()
            for ticket in live.tickets:
                ticket.settle(None, UnknownTaskError(task_id))
        wake_all(live.tickets)

    # --- behind the commit --------------------------------------------------------------------------------------------

    def accepted(self, tasks: Iterable[Task]) -> None:
        """Their rows are on disk: line them up, in order."""
        with self._lock:
            mine = [live for task in tasks if (live := self._by_id.get(task.id)) is not None and live.task is task]
            for live in mine:
                live.on_disk = True
            self._line.put([live.task for live in mine if self._admission.may_line_up(live)])

    def adopt(
        self,
        tasks: Iterable[Task],
        *,
        claim_first: bool,
        died_at: datetime | None = None,
        ticket: Ticket | None = None,
    ) -> None:
        """Take over tasks read from rows (recovery, other processes' submits) that are this process's already.

        ``claim_first``: they come from an owner that did not stop cleanly, and may have lived until ``died_at``.
        ``ticket``: of the commit that decided on them, see `refusal`.
        """
        with self._lock:
            if ticket is not None:
                self._admission.coming.pop(ticket, None)
            ready: list[Task] = []
            for task in tasks:
                live = self.live_of(task)
                self._fit_executor(live)
                live.claim_first, live.on_disk = claim_first, True
                live.is_suspect, live.alone_s = task.crashes > 0, alone_s(task, died_at)
                self._by_id[task.id] = live
                self._waiting.add(task)
                self._admission.open(live)
                if task.status is TaskStatus.RETRYING and task.due_at is not None:
                    if self._admission.may_line_up(live):
                        self._tasks.wait_for_retry(live, self._left_s(task, task.due_at))
                elif self._admission.may_line_up(live):
                    ready.append(task)
            self._line.put(ready)  # together, so that the first is not served before a more urgent one is there

    def _left_s(self, task: Task, due_at: datetime) -> float:
        """Seconds until a retry is due; never longer than any of its waits, however far the wall clock was ahead."""
        left_s = (due_at - self._store.clock.now()).total_seconds()
        return min(max(0.0, left_s), task.policy.retry.max_delay_s)

    def _fit_executor(self, live: Live) -> None:
        """Run it where its function fits: a client does not know that, and a new version may have changed it."""
        task = live.task
        if task.policy.executor is not ExecutorKind.PROCESS:
            try:
                kind = (live.function or self._registry.find(task.function)).executor
            except FunctionError:
                return  # the attempt will tell
            if kind is not task.policy.executor:
                task.policy = replace(task.policy, executor=kind)
