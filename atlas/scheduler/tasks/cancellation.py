"""Ends one task that is not wanted any more: a waiting one at once, a running one by asking its attempt to stop.

::

    cancel ─┬─► waited: CANCELLED ─► (commit)
            ├─► runs: flagged ─► (the request is committed) ─► stop_running ─► it is asked ─► settled as every attempt
            │                            └─► it could not be ─► take_back
            └─► None: not live, or final already
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from atlas.scheduler.task import Cause, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from atlas.scheduler.outcome import StopReason
    from atlas.scheduler.store.tickets import Ticket
    from atlas.scheduler.tasks.live_tasks import LiveTasks
    from atlas.scheduler.tasks.logs import TaskLogs
    from atlas.scheduler.tasks.stopping import Stopping


class Cancellation:
    """Cancels tasks, and ends those that another one replaces. Every method may be called from any thread."""

    def __init__(self, live_tasks: LiveTasks, stopping: Stopping, logs: TaskLogs) -> None:
        self._tasks, self._store, self._stopping, self._logs = live_tasks, live_tasks.store, stopping, logs

    def cancel(
        self,
        task_id: str,
        cause: StopReason = "cancelled",
        ticket: Ticket | None = None,
        also: Callable[[Connection], None] | None = None,
    ) -> TaskStatus | None:
        """Cancel a live task; returns the status it had, None if it is not live or already final.

        A waiting one is CANCELLED at once (``ticket`` is settled by the commit, of which ``also`` is a part); a running
        one only gets its flag, and `stop_running` must follow once the request is committed.
        """
        with self._tasks.lock:
            live = self._tasks.by_id.get(task_id)
            if live is None or not live.on_disk or live.task.status.is_final:
                return None
            task, was = live.task, live.task.status
            task.cancel_requested = True
            if was is TaskStatus.RUNNING:
                return was
            now = self._store.clock.now()
            self._tasks.waiting.remove(was, task.priority)
            task.move(TaskStatus.CANCELLED)
            task.cause, task.finished_at, task.due_at = Cause(cause), now, None
            self._logs.forget(task_id)
            self._store.writer.change(task, was, now, ticket=ticket, also=also)
            admission = self._tasks.admission
            self._tasks.line_up([*admission.leave(live), *admission.suspect_gone(live)])
            return was

    def take_back(self, task_id: str) -> None:
        """The request to cancel a running task could not be committed: it goes on as if nobody had asked."""
        with self._tasks.lock:
            live = self._tasks.by_id.get(task_id)
            if live is not None and live.stop is None:
                live.task.cancel_requested = False

    def stop_running(self, task_id: str, reason: StopReason) -> None:
        """Ask a running attempt to stop; nothing if none runs."""
        with self._tasks.lock:
            live = self._tasks.running.get(task_id)
            if live is not None:
                self._stopping.ask(live, reason)
