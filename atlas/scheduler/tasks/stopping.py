"""How a running attempt is brought to an end before its own: asked, given a grace, abandoned.

::

    ask ─► context, stopper ─► it ends within the grace ─► settled like every other
                            └► it does not ─► abandon: settled without it, its slot given back ─► end, if it ever does
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from atlas.scheduler.outcome import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from atlas.scheduler.outcome import Outcome, StopReason
    from atlas.scheduler.task import ExecutorKind
    from atlas.scheduler.tasks.live import Live
    from atlas.scheduler.tasks.live_tasks import LiveTasks


class Stopping:
    """Stops running attempts. Not thread-safe: who calls it holds the lock of `LiveTasks`.

    Args:
        grace_s: Seconds between asking an attempt to stop and abandoning it.
        settle: Settles an attempt that is abandoned.

    Attributes:
        abandoned: Attempts whose code still runs although they were given up.
        left_running: Those of them that a stop gave up.
    """

    def __init__(self, live_tasks: LiveTasks, grace_s: float, settle: Callable[[Live, Outcome], None]) -> None:
        self._tasks, self._line, self._clock = live_tasks, live_tasks.line, live_tasks.store.clock
        self._grace_s, self._settle = grace_s, settle
        self.abandoned = self.left_running = 0
        self._unreplaced: list[ExecutorKind] = []  # slots of abandoned attempts that were not given back

    def keep_time(self, live: Live, now_s: float) -> list[float]:
        """Stop an attempt whose time is up, and abandon it if it does not stop; returns when to look again, if ever."""
        if live.stop is None:
            if live.deadline_s is None:
                return []
            if live.deadline_s > now_s:
                return [live.deadline_s]
            self.ask(live, "timeout")
        gives_up_s = live.stopped_at_s + self._grace_s
        if gives_up_s > now_s:
            return [gives_up_s]
        self.abandon(live)
        return []

    def ask(self, live: Live, reason: StopReason) -> None:
        """Ask a running attempt to stop; nothing if it was asked before."""
        if live.stop is None:
            live.stop, live.stopped_at_s = reason, self._clock.monotonic()
            if live.context is not None:
                live.context.ask_to_stop(reason)
            if live.stopper is not None:
                live.stopper(reason)
            self._tasks.wake_at(live.stopped_at_s + self._grace_s)

    def abandon(self, live: Live) -> None:
        """Settle an attempt whose code does not end; its slot is replaced, up to ``max_running`` times at once."""
        kind = live.task.policy.executor
        self._settle(live, Stopped(live.stop or "timeout", abandoned=True))
        self.abandoned += 1
        self.left_running += live.stop == "shutdown"
        if self.abandoned <= self._line.max_running:
            self._line.give_back(kind)
        else:
            self._unreplaced.append(kind)

    def end_abandoned(self) -> None:
        """The code of an abandoned attempt has ended after all."""
        self.abandoned -= 1
        if self._unreplaced:
            self._line.give_back(self._unreplaced.pop())
