"""Which live tasks wait because of others: a job's overlap rule, the order of its tasks, suspects one at a time.

::

    decide ─► open ─► may_line_up ─┬─► the line ─► may_begin ─► runs      leave, no_suspect, suspect_gone ─►
                                   └─► held behind others     └─► held     who enters the line now
"""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING, Final, assert_never

from atlas.scheduler.errors import JobBusyError
from atlas.scheduler.task import WAITING, Overlap, Task

if TYPE_CHECKING:
    from datetime import datetime

    from atlas.scheduler.store.tickets import Ticket
    from atlas.scheduler.tasks.live import Live

MAX_HELD: Final = 100
"""Tasks of one job that may wait behind each other (``overlap: queue``)."""
ALONE_LEAST_S: Final = 1.0
ALONE_MOST_S: Final = 60.0
"""A suspect runs without other suspects for as long as it had run when its process died, within these limits.

So one that kills its process at the same point again is told from the others for certain, and long innocent ones do not
hold up everybody for their whole length."""


def alone_s(task: Task, died_at: datetime | None) -> float:
    """Seconds a suspect runs without other suspects; ``died_at`` is when its process did, at the latest."""
    if died_at is None or task.started_at is None:
        return ALONE_MOST_S
    return min(ALONE_MOST_S, max(ALONE_LEAST_S, (died_at - task.started_at).total_seconds()))


class _JobTasks:
    """The unfinished tasks of one job: those in line or running, and those held behind them."""

    __slots__ = ("active", "held", "open")

    def __init__(self) -> None:
        self.open: dict[str, Live] = {}
        self.held: list[Live] = []
        self.active: set[str] = set()


class Admission:
    """What waits because of other tasks. Not thread-safe: see `LiveTasks`.

    Attributes:
        suspect: The one that runs, while others of its kind may not.
        coming: Tasks that a commit under way takes over from other processes, id → job, by that commit's ticket: they
            are unfinished from the moment on at which they were decided on.
    """

    def __init__(self) -> None:
        self._jobs: dict[str, _JobTasks] = {}
        self._suspects: list[tuple[int, int, Live]] = []  # a heap; the number keeps equal priorities in order
        self._numbers = itertools.count()
        self.suspect: Live | None = None
        self.coming: dict[Ticket, dict[str, str | None]] = {}

    # --- in -----------------------------------------------------------------------------------------------------------

    def decide(self, task: Task) -> None:
        """Apply the job's overlap rule to a further task.

        Raises:
            JobBusyError: The rule allows no further task now.
        """
        if task.job_id is None:
            return
        mine = self._jobs.get(task.job_id)
        unfinished = list(mine.open) if mine is not None else []
        for some in self.coming.values():
            unfinished += [task_id for task_id, job_id in some.items() if job_id == task.job_id]
        if not unfinished:
            return
        match task.policy.overlap:
            case Overlap.SKIP:
                most = 0
            case Overlap.ALLOW:
                most = task.policy.max_instances - 1
            case Overlap.QUEUE | Overlap.REPLACE:
                most = MAX_HELD
            case _:
                assert_never(task.policy.overlap)
        if len(unfinished) > most:
            raise JobBusyError(task.job_id, unfinished[0])

    def open(self, live: Live) -> None:
        """A task of a job is unfinished from now on."""
        if live.task.job_id is not None:
            self._jobs.setdefault(live.task.job_id, _JobTasks()).open[live.task.id] = live

    def may_line_up(self, live: Live) -> bool:
        """True if the rule of its job lets the task go on now; otherwise it is held, and comes back when it may."""
        if live.task.job_id is None:
            return True
        mine = self._jobs[live.task.job_id]
        if live.task.id in mine.active:
            return True
        if mine.held or len(mine.active) >= live.task.policy.abreast:
            mine.held.append(live)
            return False
        mine.active.add(live.task.id)
        return True

    def may_begin(self, live: Live) -> bool:
        """True unless another suspect runs; then this one is held.

        Suspects were running when their process died. Each runs without the others, so that a task which kills its
        process is not mistaken for its neighbours. It is asked for when its turn in the line has come, so an urgent
        suspect never waits behind one that waits for a slot itself.
        """
        if not live.is_suspect or self.suspect is live:
            return True
        if self.suspect is not None:
            heapq.heappush(self._suspects, (live.task.priority, next(self._numbers), live))
            return False
        self.suspect = live
        return True

    # --- out ----------------------------------------------------------------------------------------------------------

    def no_suspect(self, live: Live) -> list[Live]:
        """Its attempt ended, or has had its time alone: returns the suspect that may line up now, if it was one."""
        if self.suspect is not live:
            return []
        self.suspect = None
        return self._next_suspect()

    def suspect_gone(self, live: Live) -> list[Live]:
        """It ended while it waited: returns the suspect that may line up now, if it was its turn."""
        return self._next_suspect() if live.is_suspect and self.suspect is None else []

    def _next_suspect(self) -> list[Live]:
        while self._suspects:
            following = heapq.heappop(self._suspects)[2]
            if following.task.status in WAITING:
                return [following]
        return []

    def leave(self, live: Live) -> list[Live]:
        """The task is finished; returns those that were held behind it and may enter the line now."""
        job_id = live.task.job_id
        mine = self._jobs.get(job_id) if job_id is not None else None
        if mine is None or job_id is None or mine.open.pop(live.task.id, None) is None:
            return []
        if live in mine.held:
            mine.held.remove(live)
        mine.active.discard(live.task.id)
        ready: list[Live] = []
        while mine.held and len(mine.active) < mine.held[0].task.policy.abreast:
            held = mine.held.pop(0)
            mine.active.add(held.task.id)
            ready.append(held)
        if not mine.open:
            del self._jobs[job_id]
        return ready

    def clear(self) -> None:
        """Forget everything: the queue stopped."""
        self._jobs.clear()
        self.coming.clear()
        self._suspects.clear()
        self.suspect = None

    # --- looking ------------------------------------------------------------------------------------------------------

    def replaced_by(self, task: Task) -> list[str]:
        """Ids of the unfinished tasks of the same job that ``task`` takes the place of (``overlap: replace``)."""
        mine = self._jobs.get(task.job_id or "")
        if mine is None or task.policy.overlap is not Overlap.REPLACE or task.id not in mine.open:
            return []
        return list(itertools.takewhile(lambda one: one != task.id, mine.open))  # not those that came after it

    def unfinished_of(self, job_id: str) -> list[str]:
        """Ids of the job's unfinished tasks, oldest first."""
        mine = self._jobs.get(job_id)
        return [] if mine is None else list(mine.open)

    @property
    def held(self) -> int:
        """Tasks that wait because of others."""
        return sum(len(mine.held) for mine in self._jobs.values()) + len(self._suspects)
