"""Ends a queue's serving: what runs is waited for, asked to stop, given up; what waits stays on disk.

::

    stop       ─► wait_idle ─► stop_all ─► wait_idle ─► abandon_all ─► lose_volatile ─► (commit) ─► close
    step down  ─► dispossess: all of it at once, and nothing of it is written
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from atlas.scheduler.errors import QueueStoppedError
from atlas.scheduler.store.tickets import wake_all
from atlas.scheduler.task import WAITING, Cause, TaskStatus

if TYPE_CHECKING:
    from atlas.scheduler.store.tickets import Ticket
    from atlas.scheduler.tasks.acceptance import Acceptance
    from atlas.scheduler.tasks.lifecycle import Lifecycle
    from atlas.scheduler.tasks.live_tasks import LiveTasks


class Shutdown:
    """The steps of a queue's end; `Serving.stop` and `Serving.step_down` take them in order, from any thread."""

    def __init__(self, live_tasks: LiveTasks, acceptance: Acceptance, lifecycle: Lifecycle) -> None:
        self._tasks, self._store = live_tasks, live_tasks.store
        self._acceptance, self._lifecycle, self._stopping = acceptance, lifecycle, lifecycle.stopping

    def wait_idle(self, timeout_s: float, *, waiting_too: bool = False) -> bool:
        """Wait until nothing runs (and, if asked, nothing waits); False when ``timeout_s`` passed first."""
        tasks = self._tasks
        with tasks.lock:
            return tasks.idle.wait_for(lambda: not tasks.running and not (waiting_too and tasks.by_id), timeout_s)

    def stop_all(self) -> int:
        """Ask every running attempt to stop; returns how many there are."""
        with self._tasks.lock:
            for live in list(self._tasks.running.values()):
                self._stopping.ask(live, "shutdown")
            return len(self._tasks.running)

    def abandon_all(self) -> None:
        """Give up every attempt that still runs."""
        with self._tasks.lock:
            for live in list(self._tasks.running.values()):
                self._stopping.ask(live, "shutdown")
                self._stopping.abandon(live)

    def lose_volatile(self) -> None:
        """Fail what waits and cannot survive this process."""
        with self._tasks.lock:
            for live in list(self._tasks.by_id.values()):
                task, was = live.task, live.task.status
                if task.volatile and live.on_disk and was in WAITING:
                    self._tasks.waiting.remove(was, task.priority)
                    task.move(TaskStatus.FAILED)
                    task.cause, task.finished_at = Cause.LOST, self._store.clock.now()
                    task.error = "the queue stopped before it could run; its function lived in that process only"
                    self._store.writer.change(task, was, task.finished_at)

    def close(self) -> None:
        """Tell everybody who still waits that the queue stopped."""
        with self._tasks.lock:
            tickets = [ticket for live in self._tasks.by_id.values() for ticket in live.tickets]
            self._tasks.clear()
        for ticket in tickets:
            ticket.settle(
                None, QueueStoppedError("the queue stopped before the task ended; it waits for the next start")
            )
        wake_all(tickets)

    def dispossess(self) -> dict[str, list[Ticket]]:
        """Another process took everything over: ask what runs to stop, forget all; returns who waits for which task.

        From here on every outcome is refused, as that of an abandoned attempt.
        """
        tasks = self._tasks
        with tasks.lock:
            self._acceptance.taking = self._lifecycle.taking_starts = False
            for live in list(tasks.running.values()):
                self._stopping.ask(live, "shutdown")
            self._stopping.abandoned += len(tasks.running)
            waiting = {task_id: live.tickets for task_id, live in tasks.by_id.items() if live.tickets}
            for live in tasks.by_id.values():
                live.tickets = []
            tasks.running.clear()
        self.close()
        return waiting
