"""All unfinished tasks of one queue, and the one lock under which its parts look at them and change them.

::

    Acceptance   ─┐                           ┌─► by_id      every one, from its reservation to its final row
    Lifecycle    ─┤                           ├─► waiting    how many wait
    Cancellation ─┼─► one lock ─► LiveTasks ──┼─► admission  who is held behind others
    Shutdown     ─┤                           ├─► retries    who waits for a time
    LiveView     ─┘                           └─► running    who has an attempt
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from atlas.scheduler.locks import BargingLock
from atlas.scheduler.task import WAITING, TaskPriority, TaskStatus
from atlas.scheduler.tasks.admission import Admission

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from atlas.scheduler.store.store import Store
    from atlas.scheduler.task import Task
    from atlas.scheduler.tasks.line import Line
    from atlas.scheduler.tasks.live import Live


class LiveTasks:
    """The state that the parts of a queue share. Not thread-safe: each of them holds ``lock`` while it uses it.

    The containers stay the same objects for good, so that each part keeps those it needs.

    Attributes:
        wake_at: Told a monotonic time at which something of them is due.
        idle: Its condition: nothing runs any more, or no task is left.
        by_id: The unfinished tasks, and those whose final row is not on disk yet.
        running: Those that have an attempt, by id.
        waiting: How many wait.
        admission: Which of them wait because of others.
        retries: Those that wait for a time: (monotonic time, number, task), a heap.
        results: What the latest functions returned, where no row can hold it, by id.
    """

    def __init__(self, store: Store, line: Line, wake_at: Callable[[float], None]) -> None:
        self.store, self.line, self.wake_at = store, line, wake_at
        self.lock = BargingLock()
        self.idle = self.lock.condition()
        self.by_id: dict[str, Live] = {}
        self.running: dict[str, Live] = {}
        self.waiting = Waiting()
        self.admission = Admission()
        self.retries: list[tuple[float, int, Live]] = []
        self._numbers = itertools.count()  # keep equal times apart
        self.results: OrderedDict[str, Any] = OrderedDict()

    def line_up(self, lives: Sequence[Live]) -> None:
        """Those that were held may enter the line now."""
        if lives:
            self.line.put([live.task for live in lives])

    def wait_for_retry(self, live: Live, wait_s: float) -> None:
        """It may enter the line in ``wait_s`` seconds."""
        due_s = self.store.clock.monotonic() + wait_s
        heapq.heappush(self.retries, (due_s, next(self._numbers), live))
        self.wake_at(due_s)

    def clear(self) -> None:
        """Forget every task; attempts that still run are known until they are settled."""
        self.by_id.clear()
        self.admission.clear()
        self.waiting.clear()
        self.retries.clear()


class Waiting:
    """How many tasks wait, by status and priority. Not thread-safe: see `LiveTasks`."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Nobody waits any more."""
        self.total = 0
        self._numbers = {status: [0] * len(TaskPriority) for status in WAITING}

    def add(self, task: Task) -> None:
        """A task waits from now on; nothing for one that does not."""
        numbers = self._numbers.get(task.status)
        if numbers is not None:
            numbers[task.priority] += 1
            self.total += 1

    def remove(self, status: TaskStatus, priority: TaskPriority) -> None:
        """A task that was in ``status`` waits no more; nothing if that was not to wait."""
        numbers = self._numbers.get(status)
        if numbers is not None:
            numbers[priority] -= 1
            self.total -= 1

    def retrying(self) -> int:
        """Tasks that wait for a retry."""
        return sum(self._numbers[TaskStatus.RETRYING])

    def by_priority(self) -> dict[str, int]:
        """Tasks of each priority."""
        return {one.name: sum(numbers[one] for numbers in self._numbers.values()) for one in TaskPriority}
