"""What others get to know of unfinished tasks: how each ends and what it returned, how many wait, what runs."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

from atlas.scheduler.message import Message
from atlas.scheduler.store.task_rows import full_row, insert_tasks

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from atlas.scheduler.store.tickets import Ticket
    from atlas.scheduler.task import ExecutorKind
    from atlas.scheduler.tasks.live_tasks import LiveTasks
    from atlas.scheduler.tasks.stopping import Stopping

NAMED: Final = 3
"""Holders of a full executor that are named."""


class LiveView:
    """Looks at the tasks of a queue and moves none. Every method may be called from any thread."""

    def __init__(self, live_tasks: LiveTasks, stopping: Stopping, *, max_waiting: int) -> None:
        self._tasks, self._line, self._stopping = live_tasks, live_tasks.line, stopping
        self._max_waiting = max_waiting

    def watch(self, task_id: str, ticket: Ticket) -> bool:
        """Settle ``ticket`` with the task once its end is on disk; False if the task is not live."""
        with self._tasks.lock:
            live = self._tasks.by_id.get(task_id)
            if live is None:
                return False
            live.tickets.append(ticket)
            return True

    def unwatch(self, task_id: str, ticket: Ticket) -> None:
        """Forget a ticket of `watch` that nobody waits for any more."""
        with self._tasks.lock:
            live = self._tasks.by_id.get(task_id)
            if live is not None and ticket in live.tickets:
                live.tickets.remove(ticket)

    def live_result(self, task_id: str) -> tuple[bool, Any]:
        """(True, value) while this process keeps the function's own result object."""
        results = self._tasks.results
        with self._tasks.lock:
            return (True, results[task_id]) if task_id in results else (False, None)

    def unfinished_of(self, job_id: str) -> list[str]:
        """Ids of the job's unfinished tasks, oldest first."""
        with self._tasks.lock:
            return self._tasks.admission.unfinished_of(job_id)

    def keep(self, connection: Connection) -> str:
        """Write every unfinished task that has a row into a database that was lost; says how many."""
        with self._tasks.lock:
            rows = [full_row(live.task) for live in self._tasks.by_id.values() if live.on_disk]
        insert_tasks(connection, rows)
        return Message("1 unfinished task") if len(rows) == 1 else Message("{n} unfinished tasks", n=len(rows))

    def figures(self) -> dict[str, Any]:
        """Live figures for `TaskQueue.get_queue_status`."""
        tasks = self._tasks
        with tasks.lock:
            now = tasks.store.clock.now()
            return {
                "queue_size": tasks.waiting.total,
                "max_waiting": self._max_waiting,
                "running_tasks": len(tasks.running),
                "retrying_tasks": tasks.waiting.retrying(),
                "held_tasks": tasks.admission.held,
                "by_priority": tasks.waiting.by_priority(),
                "oldest_wait_s": {
                    priority.name: round(max(0.0, (now - (task.due_at or task.created_at)).total_seconds()), 3)
                    for priority, task in self._line.oldest().items()
                },
                "full_executors": {
                    kind.value: {
                        "limit": limit,
                        "waiting": waiting,
                        "oldest_wait_s": round(max(0.0, (now - (first.due_at or first.created_at)).total_seconds()), 3),
                        "held_by": self._names_on(kind),
                    }
                    for kind, (limit, waiting, first) in self._line.full().items()
                },
                "abandoned_threads": self._stopping.abandoned,
                "running": [
                    {
                        "task_id": live.task.id,
                        "name": live.task.name,
                        "job_id": live.task.job_id,
                        "attempt": live.task.attempt,
                        "done": live.context.done if live.context else 0.0,
                        "total": live.context.total if live.context else None,
                        "stopping": live.stop,
                    }
                    for live in tasks.running.values()
                ],
            }

    def _names_on(self, kind: ExecutorKind) -> list[str]:
        """What runs on an executor: a few jobs, or tasks without one."""
        mine = (live.task for live in self._tasks.running.values() if live.task.policy.executor is kind)
        return [task.job_id or task.name for task in itertools.islice(mine, NAMED)]
