"""The priority line: who is served next, on which executor, and whether there is room.

::

    put ─► lane thread   ─► slot threads pull
           lane process  ─► its dispatcher pulls        one lock, one number of free slots,
           lane async    ─► a pump on the loop pulls     four deques a lane

A lower priority number is served first, strictly; within one priority first come is first served, across all lanes.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING, Final

from loguru import logger

from atlas.scheduler.locks import BargingLock
from atlas.scheduler.task import ExecutorKind, Task, TaskPriority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from atlas.scheduler.clock import Clock

STALL_S: Final = 0.1
"""How long a lane that is asked to serve may take before others stop waiting for it: its loop may be blocked."""
LOOK_AGAIN_S: Final = 0.5
"""Held up by back-pressure: `Line.resume` wakes earlier, this is for the limit that is an age."""

_Entry = tuple[int, Task]


class Lane:
    """The waiting tasks of one executor, and how to wake it."""

    __slots__ = ("asked_at_s", "deques", "idle", "kind", "limit", "ready", "running", "size", "wake")

    def __init__(self, kind: ExecutorKind, lock: BargingLock, limit: int) -> None:
        """An empty lane; ``limit`` bounds its running tasks."""
        self.kind = kind
        self.deques: tuple[deque[_Entry], ...] = tuple(deque() for _ in TaskPriority)
        self.ready = lock.condition()
        self.idle = 0
        self.running = 0
        self.limit = limit
        self.size = 0
        self.asked_at_s: float | None = None
        self.wake: Callable[[int], None] | None = None

    def head(self) -> tuple[int, int] | None:
        """(priority, number) of the next task, None when empty."""
        if self.size:
            for priority, waiting in enumerate(self.deques):
                if waiting:
                    return priority, waiting[0][0]
        return None


class Line:
    """Waiting tasks in order, and the free slots.

    Args:
        max_running: Tasks that may run at once, over all lanes.
        limits: Tighter bounds per lane.
        may_start: Back-pressure: False while no task of this priority should start, and none after it.
    """

    def __init__(
        self,
        max_running: int,
        *,
        limits: Mapping[ExecutorKind, int] | None = None,
        may_start: Callable[[int], bool],
        clock: Clock,
    ) -> None:
        self._lock = BargingLock()
        self._clock = clock
        self._may_start = may_start
        self.max_running = max_running
        self.free = max_running
        self._lanes = {kind: Lane(kind, self._lock, (limits or {}).get(kind, max_running)) for kind in ExecutorKind}
        self._numbers = itertools.count()
        self._size = 0
        self._blocked = False
        self._closed = False

    def attach(self, kind: ExecutorKind, wake: Callable[[int], None]) -> None:
        """Call ``wake(n)`` (quick, any thread, lock held) when ``n`` tasks of this lane wait and nobody pulls.

        Where it raises since the machine has no thread or file left, `resume` calls it again.
        """
        self._lanes[kind].wake = wake

    # --- the queue's side -------------------------------------------------------------------------------------------

    def put(self, tasks: Iterable[Task]) -> None:
        """Append tasks in order and wake whoever can serve them."""
        with self._lock:
            touched: dict[Lane, int] = {}
            for task in tasks:
                lane = self._lanes[task.policy.executor]
                lane.deques[task.priority].append((next(self._numbers), task))
                touched[lane] = touched.get(lane, 0) + 1
            for lane, count in touched.items():
                lane.size += count
                self._size += count
            for lane, count in touched.items():
                self._rouse(lane, count)

    def resume(self) -> None:
        """Back-pressure may have ended, or a machine have room again: wake those who were held up by it."""
        with self._lock:  # asked for first: whoever was told to wait may be about to note it
            if self._blocked:
                self._blocked = False
                for lane in self._lanes.values():
                    self._rouse(lane, lane.size)

    def close(self) -> None:
        """Hand out nothing more; what waits is forgotten."""
        with self._lock:
            self._closed = True
            for lane in self._lanes.values():
                for waiting in lane.deques:
                    waiting.clear()
                self._size = lane.size = 0
                lane.ready.notify_all()

    def oldest(self) -> dict[TaskPriority, Task]:
        """The task at the head of each priority that has one."""
        with self._lock:
            oldest: dict[TaskPriority, Task] = {}
            for priority in TaskPriority:
                heads = [lane.deques[priority][0] for lane in self._lanes.values() if lane.deques[priority]]
                if heads:
                    oldest[priority] = min(heads, key=lambda entry: entry[0])[1]
            return oldest

    def full(self) -> dict[ExecutorKind, tuple[int, int, Task]]:
        """Executors whose own limit keeps tasks waiting: the limit, how many wait, and the one that came first."""
        with self._lock:
            return {
                lane.kind: (lane.limit, lane.size, min(waiting[0] for waiting in lane.deques if waiting)[1])
                for lane in self._lanes.values()
                if lane.size and lane.running >= lane.limit < self.max_running
            }

    # --- the executors' side ------------------------------------------------------------------------------------------

    def take(self, kind: ExecutorKind, *, give_back: bool = False, wait: bool = True) -> Task | None:
        """The next task of a lane, with a slot; None when there is none now (``wait=False``) or the line closed.

        Without ``wait`` it does not block; ``give_back`` gives the slot of the task before back first, in one step.
        """
        lane = self._lanes[kind]
        with self._lock:
            if give_back:
                self._release(lane, takes_next=True)
            while not self._closed:
                lane.asked_at_s = None  # it came, also if it was idle in here when it was asked
                verdict = self._may_serve(lane)
                if verdict is True:
                    return self._pop(lane)
                if not wait:
                    return None
                lane.idle += 1
                self._clock.wait(lane.ready, verdict or None)
                lane.idle -= 1
            return None

    def give_back(self, kind: ExecutorKind) -> None:
        """Give a slot back and wake whoever can use it."""
        with self._lock:
            self._release(self._lanes[kind], takes_next=False)

    def _release(self, mine: Lane, *, takes_next: bool) -> None:
        self.free += 1
        mine.running -= 1
        if takes_next and self._size == mine.size:
            return  # nobody else waits
        best, best_head = None, None
        for lane in self._lanes.values():
            head = lane.head()
            if head is not None and lane.running < lane.limit and (best_head is None or head < best_head):
                best, best_head = lane, head
        if best is not None and not (best is mine and takes_next):
            self._rouse(best, 1)

    def _pop(self, lane: Lane) -> Task:
        for waiting in lane.deques:
            if waiting:
                _number, task = waiting.popleft()
                break
        else:
            raise AssertionError("an empty lane was asked for a task")
        lane.size -= 1
        self._size -= 1
        lane.running += 1
        self.free -= 1
        if self.free and self._size:
            # Another lane may have stood back for this task, and of two calls in a row an idle thread hears one.
            for one in self._lanes.values():
                if one.size:
                    self._rouse(one, 1)
        return task

    def _may_serve(self, lane: Lane) -> bool | float:
        """True, False (wait to be woken) or seconds after which to look again."""
        head = lane.head() if self.free and lane.running < lane.limit else None
        if head is None:
            return False
        if not self._may_start(head[0]):
            self._blocked = True
            return LOOK_AGAIN_S
        if self._size > lane.size:
            return self._comes_first(lane, head)
        return True

    def _comes_first(self, lane: Lane, head: tuple[int, int]) -> bool | float:
        """True if no other lane has what comes first, or does not come for it; else seconds to wait for it."""
        for other in self._lanes.values():
            if other is lane or not other.size or other.running >= other.limit:
                continue
            rival = other.head()
            if rival is None or rival > head:
                continue
            now_s = self._clock.monotonic()
            if other.asked_at_s is None:
                other.asked_at_s = now_s
                self._rouse(other, 1)
            if now_s - other.asked_at_s < STALL_S:
                return STALL_S
        return True

    def _rouse(self, lane: Lane, count: int) -> None:
        if lane.idle:
            lane.ready.notify(count)
        if count > lane.idle and lane.wake is not None:
            try:
                lane.wake(count - lane.idle)
            except (OSError, RuntimeError):  # no thread or no file is left on this machine
                self._blocked = True
                logger.exception("nothing can serve executor {} just now; it is tried again", lane.kind)
