"""Takes every accepted task from the line to its final row, attempt by attempt.

::

    line ─► begin ─► claimed? ─► function ─► finish ─┬─► final ─► (commit) ─► written
      ▲                             ▲                ├─► crashed, released ────────┐
      │                             │                └─► RETRYING ──┐              │
      │                             └── its time is up ─── tick ─── it is due ──►──┤
      └────────────────────────────────────────────────────────────────────────────┘
"""

from __future__ import annotations

import heapq
import os
from datetime import timedelta
from math import inf
from typing import TYPE_CHECKING, Final

from loguru import logger

from atlas.scheduler.arguments import decode_arguments
from atlas.scheduler.context import TaskContext
from atlas.scheduler.crash_points import CrashPoint, reached
from atlas.scheduler.durations import LONGEST_S
from atlas.scheduler.errors import AtlasError
from atlas.scheduler.log_lines import hide
from atlas.scheduler.outcome import Crashed, Outcome, Returned, Stopped, StopReason, raised, settle
from atlas.scheduler.store.recovery import apply_verdict
from atlas.scheduler.store.task_rows import attempt_row
from atlas.scheduler.store.tickets import Ticket, wake_all
from atlas.scheduler.task import FINAL, WAITING, Cause, OnCrash, Task, TaskStatus
from atlas.scheduler.tasks.live import Attempt, Live
from atlas.scheduler.tasks.stopping import Stopping

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from atlas.scheduler.registry import Registry
    from atlas.scheduler.store.commit import Move
    from atlas.scheduler.tasks.live_tasks import LiveTasks
    from atlas.scheduler.tasks.logs import TaskLogs

MAX_LIVE_RESULTS: Final = 1000
"""Results kept as the objects they are."""


class Lifecycle:
    """Takes accepted tasks through their attempts to their final row. Every method may be called from any thread.

    Args:
        draw: Chance numbers in 0 to 1, for the jitter of retries.

    Attributes:
        taking_starts: False once a stop has begun: what waits stays on disk.
        stopping: Stops running attempts, and counts those that were given up.
    """

    def __init__(
        self,
        live_tasks: LiveTasks,
        registry: Registry,
        logs: TaskLogs,
        *,
        stop_grace_s: float,
        draw: Callable[[], float],
    ) -> None:
        self._registry, self.logs, self._draw = registry, logs, draw
        self.stopping = Stopping(live_tasks, stop_grace_s, self._settle)
        # What every task needs, without a way round.
        self._store, self._line, self._clock = live_tasks.store, live_tasks.line, live_tasks.store.clock
        self._tasks, self._lock, self._idle = live_tasks, live_tasks.lock, live_tasks.idle
        self._by_id, self._running, self._waiting = live_tasks.by_id, live_tasks.running, live_tasks.waiting
        self._admission, self._retries, self._results = live_tasks.admission, live_tasks.retries, live_tasks.results
        self.taking_starts = True

    # --- an attempt: begin, finish ----------------------------------------------------------------------------------

    def begin(self, task: Task, loop: asyncio.AbstractEventLoop | None = None) -> Attempt | None:
        """Begin an attempt of a task that was taken from the line; None if it ended while it waited."""
        with self._lock:
            live = self._by_id.get(task.id)
            if live is None or task.status not in WAITING or not self.taking_starts:
                return None
            if not self._admission.may_begin(live):
                return None  # it lines up again when its turn has come
            failure = self._resolve(live)
            now, was = self._clock.now(), task.status
            self._waiting.remove(was, task.priority)
            task.move(TaskStatus.RUNNING)
            if task.cause is not Cause.CRASHED:  # a crash raised the number already
                task.attempt += 1
            task.cause = task.error = task.due_at = None
            task.started_at = now
            kept = self.logs.limit_of(task.policy)
            live.context = context = TaskContext(
                task_id=task.id,
                job_id=task.job_id,
                attempt=task.attempt,
                fire_time=task.fire_time,
                logs=self.logs if kept else None,
                log_max_bytes=kept,
            )
            live.stop, live.stopper, live.deadline_s, live.alone_until_s = None, None, None, inf
            self._running[task.id] = live
            ticket = None
            if live.claim_first or task.crashes or task.policy.on_crash is OnCrash.FAIL:
                ticket = Ticket(loop)
            self._store.writer.change(task, was, now, ticket=ticket, awaited=ticket is not None)
            if ticket is None:
                self._start_the_clock(live, context, now)
            return Attempt(live, context, ticket, failure)

    def wait_for_claim(self, attempt: Attempt, claim: Ticket) -> Outcome | None:
        """Wait until its claim is on disk, then as `claimed`."""
        try:
            claim.wait()
        except AtlasError:  # it was not taken: the store was closed first
            return Stopped("shutdown")
        return self.claimed(attempt)

    def claimed(self, attempt: Attempt) -> Outcome | None:
        """Its claim is on disk: the attempt's time begins; an outcome if the function must not be entered any more."""
        reached(CrashPoint.CLAIM_BEFORE_ENTRY)
        with self._lock:
            live = attempt.live
            if not self._is_current(attempt):
                return Stopped("shutdown")  # given up meanwhile; `finish` refuses whatever it gets
            if live.stop is not None:
                return Stopped(live.stop)
            self._start_the_clock(live, attempt.context, self._clock.now())
            return None

    def _start_the_clock(self, live: Live, context: TaskContext, now: datetime) -> None:
        if self._admission.suspect is live:
            live.alone_until_s = self._clock.monotonic() + live.alone_s
            self._tasks.wake_at(live.alone_until_s)
        limit_s = live.task.policy.timeout_s
        if limit_s is not None:
            context.deadline = _later(now, limit_s)
            live.deadline_s = self._clock.monotonic() + limit_s
            self._tasks.wake_at(live.deadline_s)

    def _is_current(self, attempt: Attempt) -> bool:
        live = attempt.live
        return self._running.get(live.task.id) is live and live.task.attempt == attempt.context.attempt

    def _resolve(self, live: Live) -> Outcome | None:
        if live.task.volatile and live.function is not None:
            return None
        try:
            live.function = self._registry.find(live.task.function)
            # Anew for every attempt: the last one may have changed its own.
            live.args, live.kwargs = decode_arguments(live.task.arguments)
        except Exception as error:  # noqa: BLE001 - a missing function fails this task, by its retry policy
            return raised(error)
        return None

    def finish(self, attempt: Attempt, outcome: Outcome) -> bool:
        """Settle an attempt; False if it was abandoned before, then its outcome is refused and its slot gone.

        A fork that the function made and let come back ends here: it would run what waits a second time.
        """
        if self._store.was_left_behind:
            os._exit(0 if isinstance(outcome, Returned) else 1)
        with self._lock:
            if not self._is_current(attempt):
                self.stopping.end_abandoned()
                return False
            self._settle(attempt.live, outcome)
            return True

    def _settle(self, live: Live, outcome: Outcome) -> None:
        task = live.task
        del self._running[task.id]
        stop = self._why_it_had_to_end(live)
        if stop in {"cancelled", "timeout", "replaced"} and not isinstance(outcome, Stopped | Crashed):
            outcome = Stopped(stop)  # before it ended; how it ended does not matter
        was = task.status
        verdict = settle(task, outcome, draw=self._draw())
        if verdict.error is not None:  # what an address or a header brought into it is as secret here as in a log
            verdict = verdict._replace(error=hide(verdict.error, self.logs.rules.redact))
        now = self._clock.now()
        row = None
        if verdict.status not in FINAL:
            kind = "crashed" if verdict.crashed else "released" if verdict.cause is None else str(verdict.cause)
            row = attempt_row(task, outcome=kind, ended_at=now, wait_s=verdict.wait_s, error=verdict.error)
        apply_verdict(task, verdict, now)
        self._waiting.add(task)
        if verdict.wait_s is not None:
            task.due_at = _later(now, verdict.wait_s)
        if isinstance(outcome, Returned) and (task.volatile or outcome.text is None) and outcome.value is not None:
            self._results[task.id] = outcome.value
            if len(self._results) > MAX_LIVE_RESULTS:
                self._results.popitem(last=False)
        if live.context is not None and live.context.logs is not None:
            self.logs.end(live.context, is_final=task.status in FINAL)
        live.context = None
        self._store.writer.change(task, was, now, attempt=row, wait_s=verdict.wait_s, awaited=bool(live.tickets))
        self._after_attempt(live, verdict.wait_s)

    def _why_it_had_to_end(self, live: Live) -> StopReason | None:
        """Why it was asked to stop; its time counts as over also when nobody came to ask (a frozen process, a stop)."""
        over_s = live.deadline_s
        if live.stop in {None, "shutdown"} and over_s is not None and over_s < self._clock.monotonic():
            return "timeout"
        return live.stop

    def _after_attempt(self, live: Live, wait_s: float | None) -> None:
        task = live.task
        if self._admission.suspect is live:
            self._tasks.line_up(self._admission.no_suspect(live))
        if task.status in FINAL:
            held = self._admission.leave(live)
            if held:
                self._tasks.line_up(held)
        elif wait_s is not None:
            self._tasks.wait_for_retry(live, wait_s)
        elif self.taking_starts and self._admission.may_line_up(live):
            self._line.put([task])
        if not self._running:
            self._idle.notify_all()

    def written(self, moves: Sequence[Move]) -> None:
        """A commit holds these moves: final tasks leave memory and their waiters wake."""
        tickets: list[Ticket] = []
        with self._lock:
            for task, event in moves:
                status = event.status
                if status in FINAL and (live := self._by_id.get(task.id)) is not None and live.task is task:
                    del self._by_id[task.id]
                    if live.tickets:
                        for ticket in live.tickets:
                            ticket.settle(task)
                        tickets += live.tickets
            if not self._by_id:
                self._idle.notify_all()
        wake_all(tickets)
        self._line.resume()

    # --- time -----------------------------------------------------------------------------------------------------

    def tick(self) -> float | None:
        """Do what is due: retries, timeouts, abandoning; returns the monotonic time of what comes next."""
        with self._lock:
            now_s = self._clock.monotonic()
            ready: list[Task] = []
            while self._retries and self._retries[0][0] <= now_s:
                live = heapq.heappop(self._retries)[2]
                if live.task.status is TaskStatus.RETRYING and self.taking_starts and self._admission.may_line_up(live):
                    ready.append(live.task)
            suspect = self._admission.suspect
            if suspect is not None and suspect.alone_until_s <= now_s:
                ready += [live.task for live in self._admission.no_suspect(suspect)]
                suspect = None
            self._line.put(ready)
            next_s = [self._retries[0][0]] if self._retries else []
            if suspect is not None:
                next_s.append(suspect.alone_until_s)
            for live in list(self._running.values()):
                try:
                    next_s += self.stopping.keep_time(live, now_s)
                except Exception:  # noqa: BLE001 - the timeouts of all others must be kept
                    logger.bind(task_id=live.task.id).exception("keeping the time of an attempt raised")
            return min(next_s, default=None)

    def set_stopper(self, attempt: Attempt, stopper: Callable[[StopReason], None]) -> None:
        """Tell how the executor stops this attempt; called at once if it was asked to stop meanwhile."""
        with self._lock:
            if not self._is_current(attempt):
                stopper("shutdown")
                return
            attempt.live.stopper = stopper
            if attempt.live.stop is not None:
                stopper(attempt.live.stop)

    def progress(self, task_id: str, number: int, done: float, total: float | None) -> None:
        """A worker process tells how far its attempt is."""
        with self._lock:
            live = self._running.get(task_id)
            if live is not None and live.context is not None and live.task.attempt == number:
                live.context.done, live.context.total = done, total


def _later(now: datetime, seconds: float) -> datetime:
    """The instant in ``seconds``, in a hundred years at the most: ``sys.maxsize`` means none, and ends no calendar."""
    return now + timedelta(seconds=min(seconds, LONGEST_S))
